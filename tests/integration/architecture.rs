//! The map of the code: modules import only modules below them, no files import each other in a circle, and every file
//! begins with its description. The table in `ARCHITECTURE.md` lists the modules.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// One `use` of another file of the program.
struct Import {
    line: usize,
    /// The path after `crate::`, as far as it is written: `["git", "id", "CommitId"]`.
    path: Vec<String>,
}

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All Rust files of a folder, from the project's root.
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

/// The `src` folders of all packages of the workspace.
fn crates() -> Vec<String> {
    let crates = fs::read_dir(project().join("crates")).unwrap();
    let folders = crates.map(|entry| format!("crates/{}/src", entry.unwrap().file_name().display()));
    folders.chain(["src".into()]).collect()
}

fn text(path: &Path) -> String {
    fs::read_to_string(project().join(path)).unwrap()
}

/// The top-level module of a file: the folder or file directly in `src/`.
fn top_module(path: &Path) -> String {
    let inner = path.strip_prefix(SERVER).unwrap();
    Path::new(inner.components().next().unwrap().as_os_str())
        .file_stem()
        .unwrap()
        .to_str()
        .unwrap()
        .to_owned()
}

/// The crate whose modules have an order.
const SERVER: &str = "crates/server/src";

/// The modules as the table of `ARCHITECTURE.md` lists them, from the top down.
fn modules() -> Vec<String> {
    let document = fs::read_to_string(project().join("ARCHITECTURE.md")).unwrap();
    let section = document.split("\n## Modules\n").nth(1).expect("ARCHITECTURE.md has a section `Modules`");
    let section = section.split("\n## ").next().unwrap();
    let names = section.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    names.map(|(name, _)| name.to_owned()).collect()
}

/// A file without its unit tests and comments, which may look at anything.
fn code(path: &Path) -> String {
    let text = text(path);
    let code = text.split("\n#[cfg(test)]\nmod tests").next().unwrap();
    let is_comment = |line: &&str| line.trim_start().starts_with("//");
    code.lines().map(|line| if is_comment(&line) { "" } else { line }).collect::<Vec<_>>().join("\n")
}

/// Everything that a file takes from the program, by `use` or by a full path.
fn imports(path: &Path) -> Vec<Import> {
    let code = code(path);
    let module = module(path);
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::").chain(code.match_indices("super::")) {
        let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_' || *byte == b':';
        // `super::super::` is found at its first word.
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

/// The paths of a `use` from its first word on: `a::{b, c::d}` is `a::b` and `a::c::d`.
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

/// The module path of a file in its crate: `crates/server/src/site/mod.rs` is `["site"]`.
fn module(path: &Path) -> Vec<String> {
    let path = path.with_extension("");
    let names = path.iter().map(|name| name.to_str().unwrap().to_owned());
    let mut names: Vec<String> = names.skip_while(|name| name != "src").skip(1).collect();
    if matches!(names.last().map(String::as_str), Some("mod" | "lib" | "main")) {
        names.pop();
    }
    names
}

/// The file that a path leads to, by its longest part that is a module.
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
fn no_files_import_each_other_in_a_circle() {
    for folder in crates() {
        assert_no_circle(&folder);
    }
}

fn assert_no_circle(folder: &str) {
    let all: Vec<PathBuf> = sources(folder).into_iter().filter(|file| !file.ends_with("lib.rs")).collect();
    let files: BTreeMap<_, _> = all.iter().map(|file| (module(file), file.clone())).collect();
    let mut graph: BTreeMap<PathBuf, BTreeSet<PathBuf>> = BTreeMap::new();
    for file in &all {
        let targets = imports(file).into_iter().filter_map(|import| file_of(&import.path, &files));
        // A `mod.rs` is its folder's entry: its own files may import what it declares.
        let is_door = |target: &PathBuf| target.ends_with("mod.rs") && file.parent() == target.parent();
        graph.insert(file.clone(), targets.filter(|target| target != file && !is_door(target)).collect());
    }
    let mut done = BTreeSet::new();
    for file in &all {
        let mut way = Vec::new();
        if let Some(circle) = circle(file, &graph, &mut way, &mut done) {
            let names: Vec<String> = circle.iter().map(|file| file.display().to_string()).collect();
            panic!("files import each other in a circle: {}", names.join(" -> "));
        }
    }
}

/// Walks the imports from a file; gives the first way that comes back to itself.
fn circle(
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
    let found = graph[file].iter().find_map(|next| circle(next, graph, way, done));
    way.pop();
    found
}

#[test]
fn the_reader_of_imports_sees_what_there_is() {
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
fn every_file_says_first_what_it_is() {
    for file in ["src", "crates", "tests", "benches", "fuzz"].into_iter().flat_map(sources) {
        let text = text(&file);
        let line = text.lines().find(|line| !line.starts_with("#!")).unwrap_or_default();
        assert!(line.starts_with("//! "), "{}: the first line says what the file is", file.display());
    }
}

#[test]
fn no_file_is_longer_than_a_reader_can_hold() {
    for file in ["src", "crates", "tests", "benches", "fuzz"].into_iter().flat_map(sources) {
        let lines = text(&file).lines().count();
        let longest = if file.starts_with("src") || file.starts_with("crates") { 400 } else { 500 };
        assert!(lines <= longest, "{} has {lines} lines, at most {longest}: split it", file.display());
    }
}

/// All other files are given what they need, so that a test can give it, too.
#[test]
fn only_the_commands_read_the_environment() {
    let mut readers: Vec<PathBuf> = crates()
        .iter()
        .flat_map(|folder| sources(folder))
        .filter(|path| code(path).contains("env::var"))
        .filter(|path| !path.starts_with("src/command"))
        .collect();
    readers.sort();
    // The search path of git's children, and that of the log.
    assert_eq!(readers, [PathBuf::from("crates/git/src/lib.rs"), PathBuf::from("src/main.rs")]);
}
