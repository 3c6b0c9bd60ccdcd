//! The README and the files that users copy say what is so.

use std::fs;
use std::path::{Path, PathBuf};

use bluegreen::config::Config;

fn file(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// The blocks of a document in one language.
fn blocks(document: &str, language: &str) -> Vec<String> {
    let text = file(document);
    let fence = format!("```{language}\n");
    text.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

#[test]
fn the_config_reference_is_the_default() {
    let blocks = blocks("README.md", "toml");
    assert!(blocks.len() > 1);
    for block in &blocks {
        Config::parse(block).unwrap_or_else(|(line, error)| panic!("line {line}: {error}\n{block}"));
    }
    let reference = Config::parse(&blocks[0]).unwrap();
    assert_eq!(format!("{reference:?}"), format!("{:?}", Config::default()));
}

#[test]
fn every_key_of_the_installed_config_shows_its_default() {
    let annotated = file("hooks/bluegreen.toml");
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
    let hooks = Path::new(env!("CARGO_MANIFEST_DIR")).join("hooks");
    let configs: Vec<PathBuf> = fs::read_dir(hooks)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    assert!(configs.len() >= 6);
    for path in configs {
        let text = fs::read_to_string(&path).unwrap();
        Config::parse(&text).unwrap_or_else(|(line, error)| panic!("{}:{line}: {error}", path.display()));
    }
}

#[test]
fn every_subcommand_stands_in_the_readme() {
    use clap::CommandFactory;
    let readme = file("README.md");
    for command in bluegreen::cli::Cli::command().get_subcommands().filter(|command| !command.is_hide_set()) {
        assert!(
            readme.contains(&format!("`{}", command.get_name()))
                || readme.contains(&format!("] {}", command.get_name())),
            "{}",
            command.get_name()
        );
    }
}
