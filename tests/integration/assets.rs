//! `[site] assets`: hashed files of earlier releases stay available.

use std::fs;
use std::time::{Duration, SystemTime};

use crate::support::Sandbox;
use crate::support::tree::Node;

fn site(config: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.site_config(&format!("assets = ['public/assets', 'other']\n{config}"));
    sandbox
}

fn version(sandbox: &Sandbox, number: u32) {
    let name = format!("public/assets/js/app-{number}.js");
    let content = format!("version {number}");
    sandbox.commit_tree(&[(name.as_bytes(), Node::file(&content)), (b"index.html", Node::file(&content))]);
    sandbox.push().ok();
}

fn pool(sandbox: &Sandbox) -> Vec<String> {
    let pool = sandbox.site().join("shared/.assets/public/assets/js");
    let Ok(entries) = pool.read_dir() else { return Vec::new() };
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn assets_of_earlier_releases_are_kept_as_copies() {
    let sandbox = site("keep = 0");
    (1..=3).for_each(|number| version(&sandbox, number));
    assert_eq!(pool(&sandbox), ["app-1.js", "app-2.js", "app-3.js"]);
    let copy = sandbox.site().join("shared/.assets/public/assets/js/app-3.js");
    assert_eq!(fs::read_to_string(&copy).unwrap(), "version 3");
    fs::write(&copy, "changed").unwrap();
    sandbox.serves("public/assets/js/app-3.js", "version 3").is_tidy();
}

#[test]
fn old_assets_are_removed_by_age_and_count_except_for_live_ones() {
    let sandbox = site("assets-age = '1h'\nassets-max = 2");
    (1..=4).for_each(|number| version(&sandbox, number));
    assert_eq!(
        pool(&sandbox),
        ["app-2.js", "app-3.js", "app-4.js"],
        "two assets besides those of the live release"
    );
    for name in pool(&sandbox) {
        let path = sandbox.site().join("shared/.assets/public/assets/js").join(name);
        let old = SystemTime::now() - Duration::from_secs(2 * 3600);
        fs::File::open(path).unwrap().set_modified(old).unwrap();
    }
    sandbox.bluegreen(&["rollback"]).ok();
    assert_eq!(pool(&sandbox), ["app-3.js"], "a rollback restores its assets");
}

#[test]
fn symlinks_are_not_followed() {
    let sandbox = site("symlinks = 'any'");
    let outside = sandbox.path("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret"), "secret").unwrap();
    let target = outside.to_str().unwrap().to_owned();
    sandbox.commit_tree(&[
        (b"other", Node::link(&target)),
        (b"public/assets/js/link", Node::link(format!("{target}/secret"))),
        (b"public/assets/js/app.js", Node::file("app")),
    ]);
    sandbox.push().ok();
    assert_eq!(pool(&sandbox), ["app.js"]);
    assert!(!sandbox.site().join("shared/.assets/other").exists());
}
