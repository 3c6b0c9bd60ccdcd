//! The documentation builds as an mdBook, and links resolve in the rendered pages.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::markdown::{files, project};
use crate::support::skip::skip;

/// Returns the path of mdbook, which `tests/setup` installs, or finds it in `PATH`.
fn mdbook() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories = std::iter::once(project("target/python/bin")).chain(std::env::split_paths(&path));
    directories.map(|directory| directory.join("mdbook")).find(|program| program.is_file())
}

#[test]
fn the_book_builds_and_its_links_resolve() {
    let Some(mdbook) = mdbook() else { return skip("`mdbook` is not installed") };
    let directory = tempfile::tempdir().unwrap();
    let book = directory.path().join("book");
    let mut build = Command::new(mdbook);
    let output = build.arg("build").arg(project("")).arg("--dest-dir").arg(&book).output().unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !log.contains("WARN") && !log.contains("ERROR"), "{log}");
    let mut checked = 0;
    for page in files("docs", ".md").iter().filter(|page| *page != "docs/SUMMARY.md") {
        let page = html(Path::new(page.strip_prefix("docs/").unwrap()));
        let text = std::fs::read_to_string(book.join(&page))
            .unwrap_or_else(|error| panic!("cannot read the rendered page {}: {error}", page.display()));
        let content = text.split_once("<main>").unwrap().1.split_once("</main>").unwrap().0;
        for link in attributes(content, "href").chain(attributes(content, "src")) {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if path.is_empty() { page.clone() } else { page.parent().unwrap().join(path) };
            assert!(book.join(&target).exists(), "{} links to {link}", page.display());
            if !anchor.is_empty() {
                let text = std::fs::read_to_string(book.join(&target)).unwrap();
                let anchors: BTreeSet<&str> = attributes(&text, "id").collect();
                assert!(anchors.contains(anchor), "{} links to {link}: no such id", page.display());
            }
            checked += 1;
        }
    }
    assert!(checked > 100, "{checked} links");
}

/// Returns the path of a rendered page.
fn html(page: &Path) -> PathBuf {
    if page.ends_with("README.md") { page.with_file_name("index.html") } else { page.with_extension("html") }
}

/// Returns all values of an HTML attribute.
fn attributes<'t>(html: &'t str, name: &str) -> impl Iterator<Item = &'t str> {
    let start = format!(" {name}=\"");
    let values: Vec<&str> = html.split(&start).skip(1).filter_map(|rest| rest.split('"').next()).collect();
    values.into_iter()
}
