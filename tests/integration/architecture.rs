//! The structure of the code: modules import only modules below them, files do not import each other in a
//! cycle, and every file begins with a description. The table in `ARCHITECTURE.md` lists the modules.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// A `use` of another file in the program.
struct Import {
    line: usize,
    /// The path after `crate::`: `["git", "id", "CommitId"]`.
    path: Vec<String>,
}

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns the Rust files in a folder, relative to the project's root.
fn sources(folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::from(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(project().join(&folder)).unwrap() {
            let path = folder.join(entry.unwrap().file_name());
            if project().join(&path).is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Returns the `src` folders of all workspace packages.
fn crates() -> Vec<String> {
    let crates = fs::read_dir(project().join("crates")).unwrap();
    let folders = crates.map(|entry| format!("crates/{}/src", entry.unwrap().file_name().display()));
    folders.chain(["src".into()]).collect()
}

fn text(path: &Path) -> String {
    fs::read_to_string(project().join(path)).unwrap()
}

/// Returns the top-level module of a file: the folder or file directly in `src/`.
fn top_module(path: &Path) -> String {
    let inner = path.strip_prefix(SERVER).unwrap();
    Path::new(inner.components().next().unwrap().as_os_str())
        .file_stem()
        .unwrap()
        .to_str()
        .unwrap()
        .to_owned()
}

/// The crate whose modules are ordered.
const SERVER: &str = "crates/server/src";

/// Returns the modules listed in `ARCHITECTURE.md`, from the top down.
fn modules() -> Vec<String> {
    let document = fs::read_to_string(project().join("ARCHITECTURE.md")).unwrap();
    let section =
        document.split("\n## Modules\n").nth(1).expect("ARCHITECTURE.md lacks the section `Modules`");
    let section = section.split("\n## ").next().unwrap();
    let names = section.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    names.map(|(name, _)| name.to_owned()).collect()
}

/// Returns the text of a file without its unit tests and comments, which are exempt.
fn code(path: &Path) -> String {
    let text = text(path);
    let code = text.split("\n#[cfg(test)]\nmod tests").next().unwrap();
    let is_comment = |line: &&str| line.trim_start().starts_with("//");
    code.lines().map(|line| if is_comment(&line) { "" } else { line }).collect::<Vec<_>>().join("\n")
}

/// Returns every path that a file imports from its crate, in a `use` or written in full.
fn imports(path: &Path) -> Vec<Import> {
    let code = code(path);
    let module = module(path);
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::").chain(code.match_indices("super::")) {
        let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_' || *byte == b':';
        // `super::super::` is matched at its first `super`.
        if at > 0 && is_word(&code.as_bytes()[at - 1]) {
            continue;
        }
        let line = code[..at].matches('\n').count() + 1;
        let rest = &code[at..];
        let mut base: Vec<String> = Vec::new();
        let mut tail = rest;
        if let Some(after) = tail.strip_prefix("crate::") {
            tail = after;
        } else {
            base.clone_from(&module);
            while let Some(after) = tail.strip_prefix("super::") {
                base.pop();
                tail = after;
            }
        }
        for names in expand(tail) {
            found.push(Import { line, path: base.iter().cloned().chain(names).collect() });
        }
    }
    found
}

/// Expands a `use` path: `a::{b, c::d}` becomes `a::b` and `a::c::d`.
fn expand(text: &str) -> Vec<Vec<String>> {
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':')).unwrap_or(text.len());
    let head: Vec<String> =
        text[..end].split("::").filter(|word| !word.is_empty()).map(str::to_owned).collect();
    if !text[end..].starts_with('{') || !text[..end].is_empty() && !text[..end].ends_with("::") {
        return vec![head];
    }
    let (mut depth, mut start, mut paths) = (0, end + 1, Vec::new());
    for (at, character) in text.char_indices().skip(end) {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => {}
            _ => continue,
        }
        if depth == 0 || depth == 1 && character == ',' {
            let part = text[start..at].trim();
            if !part.is_empty() {
                paths.extend(expand(part).into_iter().map(|tail| [head.clone(), tail].concat()));
            }
            start = at + 1;
        }
        if depth == 0 {
            break;
        }
    }
    paths
}

/// Returns a file's module path in its crate: `["site"]` for `crates/server/src/site/mod.rs`.
fn module(path: &Path) -> Vec<String> {
    let path = path.with_extension("");
    let names = path.iter().map(|name| name.to_str().unwrap().to_owned());
    let mut names: Vec<String> = names.skip_while(|name| name != "src").skip(1).collect();
    if matches!(names.last().map(String::as_str), Some("mod" | "lib" | "main")) {
        names.pop();
    }
    names
}

/// Returns the file that a path resolves to, by its longest prefix that is a module.
fn file_of(path: &[String], files: &BTreeMap<Vec<String>, PathBuf>) -> Option<PathBuf> {
    (1..=path.len()).rev().find_map(|length| files.get(&path[..length]).cloned())
}

#[test]
fn every_module_imports_only_modules_below_it() {
    let modules = modules();
    let floor = |name: &str| modules.iter().position(|module| module == name);
    let mut wrong = Vec::new();
    for file in sources(SERVER).iter().filter(|file| !file.ends_with("lib.rs")) {
        let own = top_module(file);
        let Some(own_floor) = floor(&own) else {
            wrong.push(format!("{}: add the module `{own}` to the table in ARCHITECTURE.md", file.display()));
            continue;
        };
        for import in imports(file).iter().filter(|import| !import.path.is_empty()) {
            let other = &import.path[0];
            if *other != own && floor(other).is_some_and(|other| other < own_floor) {
                let (file, line) = (file.display(), import.line);
                wrong.push(format!(
                    "{file}:{line} imports `{}`, which goes up: `{own}` is below `{other}`",
                    import.path.join("::")
                ));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "the modules of ARCHITECTURE.md import only what is below them:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn files_have_no_import_cycles() {
    for folder in crates() {
        assert_no_cycle(&folder);
    }
}

fn assert_no_cycle(folder: &str) {
    let all: Vec<PathBuf> = sources(folder).into_iter().filter(|file| !file.ends_with("lib.rs")).collect();
    let files: BTreeMap<_, _> = all.iter().map(|file| (module(file), file.clone())).collect();
    let mut graph: BTreeMap<PathBuf, BTreeSet<PathBuf>> = BTreeMap::new();
    for file in &all {
        let targets = imports(file).into_iter().filter_map(|import| file_of(&import.path, &files));
        // A `mod.rs` declares its folder's shared items, which the folder's other files may import.
        let is_door = |target: &PathBuf| target.ends_with("mod.rs") && file.parent() == target.parent();
        graph.insert(file.clone(), targets.filter(|target| target != file && !is_door(target)).collect());
    }
    let mut done = BTreeSet::new();
    for file in &all {
        let mut way = Vec::new();
        if let Some(cycle) = cycle(file, &graph, &mut way, &mut done) {
            let names: Vec<String> = cycle.iter().map(|file| file.display().to_string()).collect();
            panic!("import cycle: {}", names.join(" -> "));
        }
    }
}

/// Walks the imports of a file and returns the first cycle that contains it.
fn cycle(
    file: &Path,
    graph: &BTreeMap<PathBuf, BTreeSet<PathBuf>>,
    way: &mut Vec<PathBuf>,
    done: &mut BTreeSet<PathBuf>,
) -> Option<Vec<PathBuf>> {
    if let Some(start) = way.iter().position(|seen| seen == file) {
        return Some([&way[start..], &[file.to_owned()]].concat());
    }
    if !done.insert(file.to_owned()) {
        return None;
    }
    way.push(file.to_owned());
    let found = graph[file].iter().find_map(|next| cycle(next, graph, way, done));
    way.pop();
    found
}

#[test]
fn imports_are_parsed_in_every_form() {
    let names = |text: &str| expand(text).iter().map(|path| path.join("::")).collect::<Vec<_>>();
    assert_eq!(names("git::id::CommitId;"), ["git::id::CommitId"]);
    assert_eq!(names("git::{self, id::{A, B}};"), ["git::self", "git::id::A", "git::id::B"]);
    assert_eq!(names("text::bytes(1)"), ["text::bytes"]);
    let paths: Vec<String> = imports(Path::new("crates/server/src/gate/branch.rs"))
        .iter()
        .map(|import| import.path.join("::"))
        .collect();
    assert!(paths.contains(&"deploy::context::DeployContext".into()), "{paths:?}");
}

#[test]
fn every_file_begins_with_a_description() {
    for file in ["src", "crates", "tests", "benches", "fuzz"].into_iter().flat_map(sources) {
        let text = text(&file);
        let line = text.lines().find(|line| !line.starts_with("#!")).unwrap_or_default();
        assert!(line.starts_with("//! "), "{}: the first line must describe the file", file.display());
    }
}

#[test]
fn no_file_exceeds_the_line_limit() {
    for file in ["src", "crates", "tests", "benches", "fuzz"].into_iter().flat_map(sources) {
        let lines = text(&file).lines().count();
        let longest = if file.starts_with("src") || file.starts_with("crates") { 400 } else { 500 };
        assert!(lines <= longest, "{} has {lines} lines; the limit is {longest}", file.display());
    }
}

/// Other files receive these values as parameters, so tests can pass them.
#[test]
fn only_the_commands_read_the_environment() {
    let mut readers: Vec<PathBuf> = crates()
        .iter()
        .flat_map(|folder| sources(folder))
        .filter(|path| code(path).contains("env::var"))
        .filter(|path| !path.starts_with("src/command"))
        .collect();
    readers.sort();
    // These two read the `PATH` for git's child processes and the log filter.
    assert_eq!(readers, [PathBuf::from("crates/git/src/lib.rs"), PathBuf::from("src/main.rs")]);
}
