//! A push with an unchanged lockfile, compared with the same push that installs its packages.
//!
//! `cargo bench --bench steps` runs npm, Composer, Bundler, and pip, if installed, with real packages from
//! their registries, and prints Markdown. The second push of each pair uses the option `no-cache`. Arguments
//! select package managers: `npm`.
//!
//! Environment variables: `BENCH_RUNS` is the number of pairs, and `BENCH_DIR` the working directory.

#![allow(clippy::all, clippy::pedantic, clippy::restriction, missing_docs, dead_code)]

#[path = "support/mod.rs"]
mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use support::repository::{Import, init, set_master};
use support::server::Server;
use support::{Pairs, Scratch, machine, number};

/// A package manager: its name, a project's manifest and its content, the command that writes the lockfile,
/// and the step.
const MANAGERS: [(&str, &str, &str, &str, &str); 4] = [
    (
        "npm",
        "package.json",
        r#"{"name": "sample", "version": "1.0.0", "dependencies": {"express": "4", "lodash": "4", "webpack": "5"}}"#,
        "npm install --package-lock-only --no-audit --no-fund",
        "run = 'npm ci --no-audit --no-fund', inputs = ['package.json', 'package-lock.json'], outputs = ['node_modules']",
    ),
    (
        "composer",
        "composer.json",
        r#"{"require": {"symfony/framework-bundle": "^6", "monolog/monolog": "^3", "guzzlehttp/guzzle": "^7"}}"#,
        "COMPOSER_ALLOW_SUPERUSER=1 composer update --no-install --no-interaction --quiet --ignore-platform-reqs",
        "run = 'composer install --no-dev --no-interaction --no-progress --quiet --no-autoloader --no-scripts --ignore-platform-reqs', inputs = ['composer.json', 'composer.lock'], outputs = ['vendor']",
    ),
    (
        "bundle",
        "Gemfile",
        "source Gem.sources.first\ngem 'sinatra', '~> 3'\ngem 'activesupport', '~> 6'\ngem 'rake'\n",
        "bundle lock",
        "run = 'bundle install --quiet', inputs = ['Gemfile', 'Gemfile.lock'], outputs = ['vendor/bundle']",
    ),
    (
        "pip3",
        "requirements.txt",
        "django>=4,<5\nrequests\ngunicorn\n",
        "true",
        "run = 'python3 -m venv .venv && .venv/bin/pip install --quiet --disable-pip-version-check -r requirements.txt', inputs = ['requirements.txt'], outputs = ['.venv']",
    ),
];

fn main() {
    let chosen: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let scratch = Scratch::new();
    let runs = number("BENCH_RUNS", 5);
    println!("Measured on {}, by the median of {runs} pairs.\n", machine());
    println!("| step | ratio | spread | unchanged lockfile | with its step |");
    println!("|---|---|---|---|---|");
    for (name, manifest, content, lock, step) in MANAGERS {
        let is_installed = || Command::new(name).arg("--version").stdout(Stdio::null()).status().is_ok();
        if !chosen.is_empty() && !chosen.iter().any(|word| word == name) {
            continue;
        }
        if !is_installed() {
            eprintln!("{name} is not installed");
            continue;
        }
        let Some(origin) = repository(scratch.path(), name, manifest, content, lock, runs) else {
            eprintln!("{name} cannot download packages");
            continue;
        };
        let server = Server::bluegreen(scratch.path(), &origin, name, 2);
        let config = server.repository.join("bluegreen.toml");
        let text = fs::read_to_string(&config).unwrap();
        let env =
            "COMPOSER_ALLOW_SUPERUSER = '1'\nBUNDLE_PATH = 'vendor/bundle'\nBUNDLE_DEPLOYMENT = 'true'\n";
        fs::write(&config, format!("{text}[steps]\nbuild = {{ name = 'packages', {step} }}\n[env]\n{env}"))
            .unwrap();
        server.push(0);
        let mut version = 0;
        let mut next = || {
            version += 1;
            version
        };
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..=runs {
            ours.push(server.push(next()).as_secs_f64());
            theirs.push(server.push_with(&["no-cache"], next()).as_secs_f64());
        }
        let pairs = Pairs::of(&ours, &theirs);
        let (least, median, greatest) = pairs.ratio();
        let (ours, theirs) = (pairs.ours(), pairs.theirs());
        println!(
            "| `{name}` | **{median:.3}** | {least:.3} to {greatest:.3} | {ours:.2} s | {theirs:.2} s |"
        );
        server.remove();
    }
}

/// Creates a repository with a lockfile, in which each version changes one page. Returns `None` if locking
/// fails.
fn repository(
    scratch: &Path,
    name: &str,
    manifest: &str,
    content: &str,
    lock: &str,
    runs: usize,
) -> Option<PathBuf> {
    let project = scratch.join(format!("{name}-project"));
    fs::create_dir(&project).unwrap();
    fs::write(project.join(manifest), content).unwrap();
    let locked = Command::new("sh").args(["-c", lock]).current_dir(&project).output().unwrap();
    if !locked.status.success() {
        return None;
    }
    let origin = scratch.join(format!("{name}-origin.git"));
    init(&origin);
    let mut import = Import::packed(&origin);
    for version in 0..2 * runs + 4 {
        let from = version.checked_sub(1).map(|before| format!("v{before}"));
        import.commit(&format!("v{version}"), version, from.as_deref());
        if version == 0 {
            for entry in fs::read_dir(&project).unwrap().flatten().filter(|entry| entry.path().is_file()) {
                import.file(entry.file_name().to_str().unwrap(), &fs::read(entry.path()).unwrap());
            }
        }
        import.file("page", format!("Version {version}").as_bytes());
    }
    import.end();
    set_master(&origin, 0);
    Some(origin)
}
