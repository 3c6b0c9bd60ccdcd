//! What a registry requires of the crates, and the addresses of the project, which one file contains.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::markdown::project;
use crate::support::sandbox::BLUEGREEN;

const CARGO: &str = env!("CARGO");

/// Returns the metadata of the workspace's crates.
fn crates() -> Vec<Value> {
    let mut cargo = Command::new(CARGO);
    cargo.args(["metadata", "--no-deps", "--offline", "--format-version=1"]).current_dir(project(""));
    let output = cargo.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    metadata["packages"].as_array().unwrap().clone()
}

/// Returns a value of `packaging/urls`; an empty text if it is not set.
fn address(key: &str) -> String {
    let text = fs::read_to_string(project("packaging/urls")).unwrap();
    let mut values = text.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    values.next().unwrap_or_else(|| panic!("packaging/urls lacks {key}")).to_owned()
}

#[test]
fn addresses_come_from_one_file() {
    for package in crates() {
        for (field, key) in [("repository", "REPOSITORY"), ("homepage", "HOMEPAGE")] {
            let found = package[field].as_str().unwrap_or_default();
            assert_eq!(found, address(key), "{field} of {} and {key} of packaging/urls", package["name"]);
        }
    }
    let page = Command::new(BLUEGREEN).args(["generate", "man"]).output().unwrap();
    let page = String::from_utf8(page.stdout).unwrap().replace("\\-", "-");
    let script = fs::read_to_string(project("packaging/get.sh")).unwrap();
    for key in ["REPOSITORY", "HOMEPAGE", "DOWNLOADS", "FINGERPRINT"] {
        let value = address(key);
        let is_printed = ["REPOSITORY", "HOMEPAGE"].contains(&key) && !value.is_empty();
        assert!(!is_printed || page.contains(&value), "the man page lacks {value}");
    }
    // packaging/release fills these, so that no other file repeats the values.
    assert!(script.contains("\ndefault_url=''\ndefault_fingerprint=''\n"), "{script}");
}

#[test]
fn every_crate_can_be_published() {
    let packages = crates();
    let names: BTreeSet<&str> = packages.iter().filter_map(|package| package["name"].as_str()).collect();
    let version = env!("CARGO_PKG_VERSION");
    for package in &packages {
        let name = &package["name"];
        for field in ["description", "license"] {
            assert!(package[field].as_str().is_some_and(|text| !text.is_empty()), "{name} lacks {field}");
        }
        assert!(package["publish"].is_null(), "{name} is not published, so that its dependents cannot be");
        assert_eq!(package["version"], version, "{name}");
        // A registry has no paths.
        for dependency in package["dependencies"].as_array().unwrap() {
            let is_own = names.contains(dependency["name"].as_str().unwrap());
            let requirement = dependency["req"].as_str().unwrap();
            let is_fixed = requirement == format!("^{version}") || !is_own;
            let is_for_tests = dependency["kind"] == "dev";
            assert!(is_for_tests || (is_fixed && requirement != "*"), "{name}: {dependency}");
        }
    }
}

#[test]
fn every_crate_contains_what_it_is_built_from() {
    let scratch = tempfile::tempdir().unwrap();
    let mut cargo = Command::new(CARGO);
    // `--no-verify`: the test would otherwise build the workspace again.
    cargo.args([
        "package",
        "--workspace",
        "--no-verify",
        "--offline",
        "--locked",
        "--allow-dirty",
        "--quiet",
    ]);
    cargo.arg("--target-dir").arg(scratch.path()).current_dir(project(""));
    let output = cargo.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let version = env!("CARGO_PKG_VERSION");
    for package in crates() {
        let name = package["name"].as_str().unwrap();
        let root = Path::new(package["manifest_path"].as_str().unwrap()).parent().unwrap();
        let archive = scratch.path().join(format!("package/{name}-{version}.crate"));
        let list = Command::new("tar").arg("-tzf").arg(&archive).output().unwrap();
        let list = String::from_utf8(list.stdout).unwrap();
        let files: BTreeSet<&str> =
            list.lines().filter_map(|line| line.strip_prefix(&format!("{name}-{version}/"))).collect();
        assert!(files.contains("Cargo.toml"), "{}: {list}", archive.display());
        for (source, included) in included(root, &files) {
            assert!(files.contains(included.as_str()), "{name}: {source} includes {included}");
        }
    }
}

/// Returns the files that the sources of a crate include at compile time, each with the source.
fn included(root: &Path, files: &BTreeSet<&str>) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for source in files.iter().filter(|file| file.starts_with("src/")) {
        let text = fs::read_to_string(root.join(source)).unwrap();
        for part in text.split("include_str!(\"").skip(1) {
            let path = part.split('"').next().unwrap();
            let mut parts: Vec<&str> = source.split('/').collect();
            parts.pop();
            for word in path.split('/') {
                if word == ".." {
                    assert!(parts.pop().is_some(), "{source} includes {path}");
                } else {
                    parts.push(word);
                }
            }
            found.push(((*source).to_owned(), parts.join("/")));
        }
    }
    found
}
