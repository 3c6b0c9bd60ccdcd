//! The program's dependencies: allowed licenses, one registry, and no duplicate native library.
//!
//! `deny.toml` states the same rules for cargo-deny. This test needs only cargo, and no network.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use crate::support::skip::program_or_skip;
use serde_json::Value;

/// Permissive licenses that require no more of a binary than including their text. Code vendored inside a
/// package is not checked.
const LICENCES: [&str; 6] =
    ["MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "Unlicense", "Unicode-3.0", "BSD-3-Clause"];

/// Two versions of one of these would duplicate C symbols, or provide two incompatible types for one
/// descriptor.
const ONCE: [&str; 3] = ["libdeflate-sys", "rustix", "nix"];

/// A package that is part of the program or of its build.
struct Package {
    name: String,
    version: String,
    licence: String,
    source: Option<String>,
}

/// Returns all packages that the program needs on this platform, without those that only tests need.
fn packages() -> Option<Vec<Package>> {
    let version = cargo(&["-vV"])?;
    let packages = packages_for(version.lines().find_map(|line| line.strip_prefix("host: ")).unwrap())?;
    for name in ["bluegreen", "libdeflater", "serde_derive"] {
        assert!(packages.iter().any(|package| package.name == name), "`{name}` is missing from the packages");
    }
    assert!(
        packages.iter().all(|package| package.name != "proptest"),
        "packages that only tests need are included"
    );
    Some(packages)
}

/// Returns all packages that the program needs on a platform.
fn packages_for(target: &str) -> Option<Vec<Package>> {
    // Packages for other platforms may be missing from this machine.
    let metadata =
        cargo(&["metadata", "--locked", "--offline", "--format-version", "1", "--filter-platform", target])?;
    let metadata: Value = serde_json::from_str(&metadata).unwrap();
    let needed = needed(&metadata["resolve"]);
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let package = |package: &Value| Package {
        name: text(&package["name"]).unwrap(),
        version: text(&package["version"]).unwrap(),
        licence: text(&package["license"]).unwrap_or_default(),
        source: text(&package["source"]),
    };
    let all = metadata["packages"].as_array().unwrap();
    Some(all.iter().filter(|package| needed.contains(package["id"].as_str().unwrap())).map(package).collect())
}

/// Returns the output of cargo.
fn cargo(arguments: &[&str]) -> Option<String> {
    if !program_or_skip("cargo") {
        return None;
    }
    let output =
        Command::new("cargo").current_dir(env!("CARGO_MANIFEST_DIR")).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).unwrap())
}

/// Returns the ids of the packages needed to build and run the root package.
fn needed(resolve: &Value) -> BTreeSet<&str> {
    let nodes: BTreeMap<&str, &Value> = resolve["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|node| (node["id"].as_str().unwrap(), node))
        .collect();
    let is_needed = |dependency: &&Value| {
        dependency["dep_kinds"].as_array().unwrap().iter().any(|kind| kind["kind"] != "dev")
    };
    let mut found = BTreeSet::new();
    let mut open = vec![resolve["root"].as_str().unwrap()];
    while let Some(id) = open.pop() {
        if found.insert(id) {
            let dependencies = nodes[id]["deps"].as_array().unwrap().iter().filter(is_needed);
            open.extend(dependencies.map(|dependency| dependency["pkg"].as_str().unwrap()));
        }
    }
    found
}

/// Returns whether a package can be used under allowed licenses alone.
fn is_allowed(licence: &str) -> bool {
    // `MIT/Apache-2.0` is the syntax that predates SPDX expressions.
    let spaced = licence.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    either(&mut rest).unwrap_or(false) && rest.is_empty()
}

fn either(rest: &mut &[&str]) -> Option<bool> {
    let mut allowed = both(rest)?;
    while let [first, others @ ..] = *rest
        && *first == "OR"
    {
        *rest = others;
        allowed |= both(rest)?;
    }
    Some(allowed)
}

fn both(rest: &mut &[&str]) -> Option<bool> {
    let mut allowed = one(rest)?;
    while let [first, others @ ..] = *rest
        && *first == "AND"
    {
        *rest = others;
        allowed &= one(rest)?;
    }
    Some(allowed)
}

fn one(rest: &mut &[&str]) -> Option<bool> {
    let (first, others) = rest.split_first()?;
    *rest = others;
    if *first == "(" {
        let allowed = either(rest)?;
        let (last, others) = rest.split_first()?;
        *rest = others;
        return (*last == ")").then_some(allowed);
    }
    let mut name = (*first).to_owned();
    if let ["WITH", exception, others @ ..] = *rest {
        name = format!("{name} WITH {exception}");
        *rest = others;
    }
    Some(LICENCES.contains(&name.as_str()))
}

#[test]
fn license_expressions_are_evaluated() {
    for allowed in
        ["MIT", "GPL-3.0 OR MIT", "MIT/GPL-3.0", "(GPL-2.0 OR MIT) AND Unicode-3.0", "MPL-2.0 AND MIT OR MIT"]
    {
        assert!(is_allowed(allowed), "{allowed}");
    }
    for refused in
        ["", "GPL-3.0", "MIT AND GPL-3.0", "MIT OR", "(MIT", "MIT)", "MIT MIT", "MIT WITH LLVM-exception"]
    {
        assert!(!is_allowed(refused), "{refused}");
    }
}

#[test]
fn every_license_is_allowed() {
    let Some(packages) = packages() else { return };
    let offenders: Vec<String> = packages
        .iter()
        .filter(|package| !is_allowed(&package.licence))
        .map(|package| format!("{} {}: `{}`", package.name, package.version, package.licence))
        .collect();
    assert!(offenders.is_empty(), "{offenders:#?}");
}

#[test]
fn every_package_comes_from_the_registry() {
    let Some(packages) = packages() else { return };
    let is_known = |package: &&Package| match &package.source {
        Some(source) => source.starts_with("registry+"),
        None => package.name.starts_with("bluegreen"),
    };
    let offenders: Vec<String> = packages
        .iter()
        .filter(|package| !is_known(package))
        .map(|package| format!("{} {}: {:?}", package.name, package.version, package.source))
        .collect();
    assert!(offenders.is_empty(), "{offenders:#?}");
    let registries: BTreeSet<_> = packages.iter().filter_map(|package| package.source.as_ref()).collect();
    assert_eq!(registries.len(), 1, "{registries:#?}");
}

/// Neither the crates of the server, nor C code, nor code that only Linux has.
#[test]
fn the_client_for_macos_contains_no_server() {
    for target in ["aarch64-apple-darwin", "x86_64-apple-darwin"] {
        let Some(packages) = packages_for(target) else { return };
        let names: BTreeSet<&str> = packages.iter().map(|package| package.name.as_str()).collect();
        assert!(names.is_superset(&["bluegreen", "bluegreen-client", "bluegreen-panel"].into()), "{names:?}");
        for server in [
            "bluegreen-checkout",
            "bluegreen-git",
            "bluegreen-object-store",
            "bluegreen-server",
            "cc",
            "keyutils-raw",
            "libdeflate-sys",
        ] {
            assert!(!names.contains(server), "{server} is part of the client for {target}");
        }
    }
}

#[test]
fn no_library_is_linked_twice() {
    let Some(packages) = packages() else { return };
    for name in ONCE {
        let versions: Vec<&String> =
            packages.iter().filter(|package| package.name == name).map(|package| &package.version).collect();
        assert_eq!(versions.len(), 1, "{name}: {versions:?}");
    }
}

#[test]
fn the_minimum_git_version_is_consistent() {
    let (major, minor) = bluegreen_git::settings::OLDEST_GIT;
    let text =
        |path: &str| std::fs::read_to_string(format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    assert!(text("Cargo.toml").contains(&format!("git (>= 1:{major}.{minor})")));
    assert!(text("docs/howto/gate.md").contains(&format!("git {major}.{minor}")));
}
