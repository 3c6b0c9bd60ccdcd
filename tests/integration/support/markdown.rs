//! The project's Markdown documents, parsed.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};

/// Returns the path of a file in the project.
pub fn project(path: impl AsRef<Path>) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Reads a file in the project.
pub fn file(path: &str) -> String {
    fs::read_to_string(project(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Returns the files below a directory of the project whose names end in `extension`, relative to the
/// project.
pub fn files(directory: &str, extension: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(project(directory)).unwrap().map(Result::unwrap) {
        let path = Path::new(directory).join(entry.file_name()).to_str().unwrap().to_owned();
        let is_hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        if entry.file_type().unwrap().is_dir() {
            if !is_hidden && !["target", "fixtures"].contains(&path.as_str()) {
                found.extend(files(&path, extension));
            }
        } else if path.ends_with(extension) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// A parsed document.
#[derive(Default)]
pub struct Document {
    /// The path, relative to the project.
    pub path: String,
    /// The language and the text of each code block.
    pub blocks: Vec<(String, String)>,
    /// The targets of links and images.
    pub links: Vec<String>,
    /// The text of each heading.
    pub headings: Vec<String>,
    /// The cells of each row of the tables, as Markdown renders them. Code spans keep their backticks.
    pub rows: Vec<Vec<String>>,
    /// The code spans.
    pub code: Vec<String>,
}

impl Document {
    /// Reads and parses a document in the project.
    pub fn read(path: &str) -> Self {
        let text = file(path);
        let mut document = Self { path: path.into(), ..Self::default() };
        // The block, heading, or cell that is being parsed.
        let mut open = String::new();
        for event in Parser::new_ext(&text, Options::ENABLE_TABLES) {
            match event {
                Event::Start(Tag::CodeBlock(kind)) => {
                    let language = match kind {
                        CodeBlockKind::Fenced(language) => language.into_string(),
                        CodeBlockKind::Indented => String::new(),
                    };
                    document.blocks.push((language, String::new()));
                    open.clear();
                }
                Event::Start(Tag::Heading { .. } | Tag::TableCell) => open.clear(),
                Event::Start(Tag::TableHead | Tag::TableRow) => document.rows.push(Vec::new()),
                Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                    document.links.push(dest_url.into_string());
                }
                Event::Html(html) | Event::InlineHtml(html) => {
                    let sources = html.split("src=\"").skip(1).filter_map(|rest| rest.split_once('"'));
                    document.links.extend(sources.map(|(source, _)| source.to_owned()));
                }
                Event::Text(text) => open.push_str(&text),
                Event::Code(code) => {
                    write!(open, "`{code}`").unwrap();
                    document.code.push(code.into_string());
                }
                Event::End(TagEnd::CodeBlock) => {
                    document.blocks.last_mut().unwrap().1 = std::mem::take(&mut open);
                }
                Event::End(TagEnd::Heading(_)) => document.headings.push(std::mem::take(&mut open)),
                Event::End(TagEnd::TableCell) => {
                    document.rows.last_mut().unwrap().push(std::mem::take(&mut open));
                }
                _ => {}
            }
        }
        document
    }

    /// Reads every document in the project.
    pub fn all() -> Vec<Self> {
        files("", ".md").iter().map(|path| Self::read(path)).collect()
    }

    /// Returns the blocks in one language.
    pub fn blocks(&self, language: &str) -> impl Iterator<Item = &str> {
        self.blocks.iter().filter(move |(name, _)| name == language).map(|(_, text)| text.as_str())
    }

    /// Returns the headings as links refer to them.
    pub fn anchors(&self) -> BTreeSet<String> {
        let is_kept = |&character: &char| character.is_alphanumeric() || matches!(character, ' ' | '-' | '_');
        let anchor = |heading: &String| heading.to_lowercase().chars().filter(is_kept).collect::<String>();
        self.headings.iter().map(|heading| anchor(heading).replace(' ', "-")).collect()
    }
}
