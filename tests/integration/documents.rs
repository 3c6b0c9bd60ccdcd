//! The README, the pages of `docs/`, and the files that users copy: examples parse, and links resolve.

use std::fs;
use std::path::{Path, PathBuf};

use bluegreen_client::check_config::Check;
use bluegreen_client::config::PromoteConfig;
use bluegreen_server::config::Config;

use crate::support::Sandbox;
use crate::support::markdown::{Document, file, files, project};

#[test]
fn the_config_reference_shows_the_defaults() {
    let reference =
        Config::parse(Document::read("docs/reference/config.md").blocks("toml").next().unwrap()).unwrap();
    assert_eq!(format!("{reference:?}"), format!("{:?}", Config::default()));
}

#[test]
fn the_promotion_config_reference_shows_the_defaults() {
    let page = Document::read("docs/reference/promote-config.md");
    let example: PromoteConfig = toml::from_str(page.blocks("toml").next().unwrap()).unwrap();
    assert_eq!(format!("{:?}", example.check), format!("{:?}", Check::default()));
    let minimal = "[public]\nurl = 'http://a/'\nswitch = 'caddy'";
    let minimal: PromoteConfig = toml::from_str(minimal).unwrap();
    assert_eq!(example.public.within, minimal.public.within);
    let watch = |config: &PromoteConfig| {
        let (check, watch) = (&config.check, &config.watch);
        (watch.duration(check), watch.tolerate(check), watch.run.clone(), watch.p99)
    };
    assert_eq!(watch(&example), watch(&minimal));
    // An error about an unknown key lists the keys of its section.
    for (section, required) in
        [("public", "url = ''\nswitch = ''\n"), ("check", ""), ("canary", ""), ("watch", "")]
    {
        let text = "[public]\nurl = ''\nswitch = ''\n[check]\n[canary]\n[watch]\n"
            .replace(&format!("[{section}]\n{required}"), &format!("[{section}]\n{required}'?' = 1\n"));
        let error = toml::from_str::<PromoteConfig>(&text).unwrap_err().to_string();
        let keys = error.split_once("expected ").expect("the error lists the keys").1;
        for key in keys.split('`').skip(1).step_by(2).filter(|key| *key != "settings") {
            let name = format!("`[{section}] {key}`");
            assert!(page.rows.iter().any(|row| row[0] == name), "{} lacks {name}", page.path);
        }
    }
}

/// Returns the keys of a config section, parsed from the error about an unknown key.
fn keys(section: &str) -> Vec<String> {
    let text = if section.is_empty() { "'?' = 1".into() } else { format!("[{section}]\n'?' = 1") };
    let (_, error) = Config::parse(&text).unwrap_err();
    let known = error.split_once("expected ").expect("the error lists the keys").1;
    known.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn every_key_of_the_config_is_documented() {
    let mut count = 0;
    for section in ["", "site", "app", "shared", "steps", "notify"] {
        for key in keys(section) {
            for document in ["docs/reference/config.md", "share/bluegreen.toml"] {
                let text = file(document);
                assert!(
                    text.contains(&format!("[{key}]")) || text.contains(&format!("{key} = ")),
                    "{document} lacks the key `{key}` of `[{section}]`"
                );
            }
            count += 1;
        }
    }
    assert!(count > 25, "{count} keys");
}

#[test]
fn every_config_example_parses() {
    let mut count = 0;
    for document in Document::all() {
        for block in document.blocks("toml") {
            // Examples with these sections are `.promote.toml` files.
            if block.contains("[sides]") || block.contains("[public]") {
                continue;
            }
            if block.contains("[watch]") || block.contains("[canary]") {
                let block = format!("[public]\nurl = ''\nswitch = ''\n{block}");
                toml::from_str::<PromoteConfig>(&block)
                    .unwrap_or_else(|error| panic!("{}: {error}", document.path));
                continue;
            }
            Config::parse(block)
                .unwrap_or_else(|(line, error)| panic!("{}, line {line}: {error}\n{block}", document.path));
            count += 1;
        }
    }
    assert!(count >= 3, "{count} examples");
}

#[test]
fn the_program_prints_the_installed_config() {
    let sandbox = Sandbox::new();
    assert_eq!(sandbox.bluegreen(&["generate", "config"]).ok().output(), file("share/bluegreen.toml"));
}

#[test]
fn the_program_contains_every_file_of_the_installer() {
    let sandbox = Sandbox::new();
    let laid = sandbox.path("laid");
    let arguments = ["generate", "files", laid.to_str().unwrap()];
    let said = sandbox.bluegreen(&arguments).ok();
    assert!(said.output().contains("/laid/install.sh --binary "), "{}", said.output());
    let list =
        "files() { find install.sh packaging/building.sh packaging/setup hooks share -type f ! -name '.*' \"$@\" | sort; }
        files | xargs cksum; files -perm -100";
    let listed =
        |folder: &Path| sandbox.command("sh").args(["-ec", list]).current_dir(folder).output().unwrap();
    let expected = listed(&project(""));
    assert!(expected.status.success() && expected.stdout.len() > 1500, "{expected:?}");
    assert_eq!(String::from_utf8(listed(&laid).stdout), String::from_utf8(expected.stdout));
    // Existing files are not overwritten, and other commands reject a directory argument.
    let empty = sandbox.path("empty");
    fs::create_dir(&empty).unwrap();
    sandbox.bluegreen(&["generate", "files", empty.to_str().unwrap()]).ok();
    for (path, problem) in [
        ("laid", "directory not empty"),
        ("laid/install.sh", "not a directory"),
        ("laid/install.sh/below", "not a directory"),
        ("none/below", "no such file or directory"),
    ] {
        let path = sandbox.path(path);
        let said = sandbox.bluegreen(&["generate", "files", path.to_str().unwrap()]).fails(1);
        let expected =
            format!("error: cannot write files to `{}`: {problem}\nhint: name a new or", path.display());
        assert!(said.output().starts_with(&expected), "{}", said.output());
    }
    // The other kinds are printed and take no directory.
    sandbox.bluegreen(&["generate", "man", empty.to_str().unwrap()]).fails(2);
}

#[test]
fn every_key_in_the_installed_config_shows_its_default() {
    let annotated = file("share/bluegreen.toml");
    let uncommented: String = annotated
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(key) if !key.starts_with(' ') && !key.starts_with("server") => key,
            _ => line,
        })
        .collect::<Vec<_>>()
        .join("\n");
    let config = Config::parse(&uncommented).unwrap_or_else(|(line, error)| panic!("line {line}: {error}"));
    assert_eq!(format!("{config:?}"), format!("{:?}", Config::default()));
    assert_eq!(format!("{:?}", Config::parse(&annotated).unwrap()), format!("{:?}", Config::default()));
}

#[test]
fn the_configs_for_common_stacks_parse() {
    let configs = files("share/stacks", ".toml");
    assert!(configs.len() >= 5);
    for path in configs {
        Config::parse(&file(&path)).unwrap_or_else(|(line, error)| panic!("{path}:{line}: {error}"));
    }
}

#[test]
fn a_page_explains_every_subcommand() {
    use clap::CommandFactory;
    let pages: String = files("docs", ".md").iter().map(|page| file(page)).collect();
    for command in bluegreen::cli::Cli::command().get_subcommands().filter(|command| !command.is_hide_set()) {
        let name = command.get_name();
        let is_explained =
            [format!("] {name}"), format!("bluegreen {name}")].iter().any(|call| pages.contains(call));
        assert!(is_explained, "no page in docs/ explains `{name}`");
    }
}

#[test]
fn the_readme_has_at_most_150_lines() {
    let lines = file("README.md").lines().count();
    assert!(lines <= 150, "README.md has {lines} lines: move some to docs/");
}

#[test]
fn the_summary_lists_every_page_of_the_book() {
    let summary = Document::read("docs/SUMMARY.md");
    for page in files("docs", ".md").iter().filter(|page| *page != "docs/SUMMARY.md") {
        let name = page.strip_prefix("docs/").unwrap();
        assert!(summary.links.iter().any(|link| link == name), "docs/SUMMARY.md does not list {page}");
    }
}

#[test]
fn every_link_points_to_a_file_and_a_heading() {
    let mut checked = 0;
    for document in Document::all() {
        let folder = Path::new(&document.path).parent().unwrap().to_owned();
        for target in &document.links {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let (path, heading) = target.split_once('#').unwrap_or((target, ""));
            let path = if path.is_empty() { document.path.clone() } else { normalized(&folder.join(path)) };
            assert!(project(&path).exists(), "{} links to {target}, which does not exist", document.path);
            let is_in_book = |path: &str| path.starts_with("docs/");
            assert!(
                !is_in_book(&document.path) || is_in_book(&path),
                "{} links to {target}, which is not part of the book: name the path instead",
                document.path
            );
            assert!(
                heading.is_empty() || Document::read(&path).anchors().contains(heading),
                "{} links to {target}, a heading that does not exist",
                document.path
            );
            checked += 1;
        }
    }
    assert!(checked > 30, "{checked} links");
}

/// Resolves `..` in a relative path.
fn normalized(path: &Path) -> String {
    let mut normalized = PathBuf::new();
    for component in path.components() {
        match component {
            std::path::Component::ParentDir => drop(normalized.pop()),
            component => normalized.push(component),
        }
    }
    normalized.to_str().unwrap().to_owned()
}

#[test]
fn files_and_tests_named_for_contributors_exist() {
    let (mut tests, mut paths) = (0, 0);
    for document in ["CONTRIBUTING.md", "ARCHITECTURE.md"] {
        let text = file(document);
        let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '/' | '.' | ':' | '-');
        for name in text.split(|c: char| !is_part(c)).map(|name| name.trim_end_matches(['.', ':'])) {
            let is_in = |folder: &str| name.starts_with(folder) && name.len() > folder.len();
            if Path::new(name).extension().is_some_and(|end| end == "rs") && name.contains('/')
                || ["src/", "crates/", "tests/", "hooks/", "share/", "docs/"].into_iter().any(is_in)
            {
                // The diagram of a push shortens the paths inside a crate.
                let of_crate = name.split_once('/').map(|(name, file)| format!("crates/{name}/src/{file}"));
                let exists = project(name).exists()
                    || project("src").join(name).exists()
                    || project("crates/server/src").join(name).exists()
                    || of_crate.is_some_and(|path| project(path).exists());
                assert!(exists, "{document} names `{name}`, which does not exist");
                paths += 1;
            } else if let Some((module, function)) = name.split_once("::")
                && project(format!("tests/integration/{module}.rs")).exists()
                && !function.is_empty()
            {
                let text = file(&format!("tests/integration/{module}.rs"));
                assert!(text.contains(&format!("\nfn {function}()")), "{document} names the test `{name}`");
                tests += 1;
            }
        }
    }
    assert!(tests >= 3 && paths >= 40, "{tests} tests, {paths} paths");
}

#[test]
fn commands_for_contributors_name_existing_tests() {
    let page = file("CONTRIBUTING.md");
    let mut count = 0;
    for line in page.lines().filter(|line| line.starts_with("cargo test --test ")) {
        let mut words = line.split_whitespace().skip(3);
        let (program, test) = (words.next().unwrap(), words.next().unwrap());
        let (module, function) = test.split_once("::").unwrap();
        let text = file(&format!("tests/{program}/{module}.rs"));
        assert!(text.contains(&format!("fn {function}")), "{line}");
        count += 1;
    }
    assert!(count >= 2);
}

#[test]
fn every_guarantee_names_an_existing_test() {
    let mut count = 0;
    for row in Document::read("docs/explanation/guarantees.md").rows.iter().skip(1) {
        assert_eq!(row.len(), 3, "{row:?}");
        let mut names = row[2].split('`').skip(1).step_by(2).peekable();
        assert!(names.peek().is_some(), "this row names no test: {row:?}");
        for name in names {
            let is_module = |folder: &str| project(format!("tests/{folder}/{name}.rs")).exists();
            assert!(
                is_module("integration") || is_module("system"),
                "`{name}` is not a module of tests/integration or tests/system"
            );
            count += 1;
        }
    }
    assert!(count >= 10);
}

#[test]
fn every_page_begins_with_its_audience() {
    for page in files("docs", ".md").iter().filter(|page| *page != "docs/SUMMARY.md") {
        let text = file(page);
        let first = text.lines().find(|line| !line.is_empty() && !line.starts_with(['#', '<']));
        let first = first.unwrap_or_default();
        let starts = ["This page is for ", "This tutorial is for ", "This documentation is for "];
        assert!(starts.iter().any(|start| first.starts_with(start)), "{page} begins with: {first}");
    }
}

#[test]
fn troubleshooting_quotes_messages_of_the_program() {
    let sources = files("src", ".rs").into_iter().chain(files("crates", ".rs"));
    let program: String = sources.map(|path| file(&path)).collect();
    let page = Document::read("docs/howto/troubleshoot.md");
    let mut count = 0;
    for message in page.rows.iter().filter_map(|row| {
        let message = row[0].trim_matches('`');
        message.strip_prefix("error: ").or_else(|| message.strip_prefix("warning: "))
    }) {
        // Paths, numbers, and names vary.
        for part in message.split(['`', ':', ',']).flat_map(|part| part.split("...")).map(str::trim) {
            let is_example = |word: &str| {
                word.contains(['/', '.']) || ["10m", "deploy", "alice", "cannot"].contains(&word)
            };
            for words in part.split(' ').collect::<Vec<_>>().split(|word| is_example(word)) {
                let words = words.join(" ");
                assert!(program.contains(&words), "no source contains `{words}` of: {message}");
                count += 1;
            }
        }
    }
    assert!(count > 12, "{count} fragments");
}

#[test]
fn both_lists_of_the_files_of_a_site_name_the_same_files() {
    let names = |page: &str| {
        let rows = Document::read(page).rows;
        let table = rows.iter().skip_while(|row| !row[0].ends_with(" `.bluegreen/`")).skip(1);
        let names = table.map_while(|row| row[0].starts_with('`').then(|| row[0].clone()));
        names.collect::<std::collections::BTreeSet<_>>()
    };
    let listed = names("docs/reference/files.md");
    assert!(listed.len() > 12, "{listed:?}");
    assert_eq!(listed, names("ARCHITECTURE.md"));
}
