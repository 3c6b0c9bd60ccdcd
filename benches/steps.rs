//! A push with an unchanged lockfile, compared with the same push that installs its packages.
//!
//! `cargo bench --bench steps` runs npm, Composer, Bundler, and pip, if installed, with real packages, and
//! prints Markdown. The packages come from the registries. Where the registry cannot be reached, Composer
//! installs the PHP libraries of this machine from archives, and Bundler installs its gems from `vendor/cache`.
//! The second push of each pair uses the option `no-cache`. Arguments select package managers: `npm`.
//!
//! Environment variables: `BENCH_RUNS` is the number of pairs, `BENCH_DIR` the working directory, and
//! `BENCH_PHP` the directory of the PHP libraries, by default `/usr/share/php`.

#![allow(clippy::all, clippy::pedantic, clippy::restriction, missing_docs, dead_code)]

#[path = "support/mod.rs"]
mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use support::repository::{Import, init, set_master};
use support::server::Server;
use support::{Pairs, Scratch, machine, number};

/// A package manager and a project that uses it.
struct Manager {
    name: &'static str,
    /// The project's manifest and its content.
    manifest: (&'static str, &'static str),
    /// The command that writes the lockfile.
    lock: &'static str,
    /// The same install without the registry, if that is possible. `$0` is the directory of this file.
    local: Option<&'static str>,
    step: &'static str,
}

const MANAGERS: [Manager; 4] = [
    Manager {
        name: "npm",
        manifest: (
            "package.json",
            r#"{"name": "sample", "version": "1.0.0", "dependencies": {"express": "4", "lodash": "4", "webpack": "5"}}"#,
        ),
        lock: "npm install --package-lock-only --no-audit --no-fund",
        local: None,
        step: "run = 'npm ci --no-audit --no-fund', inputs = ['package.json', 'package-lock.json'], outputs = ['node_modules']",
    },
    Manager {
        name: "composer",
        manifest: (
            "composer.json",
            r#"{"require": {"symfony/framework-bundle": "^6", "monolog/monolog": "^3", "guzzlehttp/guzzle": "^7"}}"#,
        ),
        lock: "COMPOSER_ALLOW_SUPERUSER=1 composer update --no-install --no-interaction --quiet --ignore-platform-reqs",
        local: Some(
            "php \"$0/support/pack_libraries.php\" \"${BENCH_PHP:-/usr/share/php}\" \\
            && COMPOSER_ALLOW_SUPERUSER=1 composer update --no-install --no-interaction --quiet",
        ),
        step: "run = 'composer install --no-dev --no-interaction --no-progress --quiet --no-scripts --ignore-platform-reqs', inputs = ['composer.json', 'composer.lock'], outputs = ['vendor']",
    },
    Manager {
        name: "bundle",
        manifest: (
            "Gemfile",
            "source Gem.sources.to_a.first\ngem 'activerecord'\ngem 'puma'\ngem 'railties'\ngem 'sprockets-rails'\ngem 'sqlite3'\n",
        ),
        lock: "bundle lock",
        local: Some(
            "ruby \"$0/../tests/integration/support/pack_gems.rb\" activerecord puma railties sprockets-rails sqlite3 \\
            && bundle lock --local",
        ),
        step: "run = 'bundle install --quiet', inputs = ['Gemfile', 'Gemfile.lock'], outputs = ['vendor/bundle']",
    },
    Manager {
        name: "pip3",
        manifest: ("requirements.txt", "django>=4,<5\nrequests\ngunicorn\n"),
        lock: "true",
        local: None,
        step: "run = 'python3 -m venv .venv && .venv/bin/pip install --quiet --disable-pip-version-check -r requirements.txt', inputs = ['requirements.txt'], outputs = ['.venv']",
    },
];

fn main() {
    let chosen: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let scratch = Scratch::new();
    let runs = number("BENCH_RUNS", 5);
    println!("Measured on {}, by the median of {runs} pairs.\n", machine());
    println!("| step | ratio | spread | unchanged lockfile | with its step |");
    println!("|---|---|---|---|---|");
    for manager in MANAGERS {
        let Manager { name, step, .. } = manager;
        let is_installed = || Command::new(name).arg("--version").stdout(Stdio::null()).status().is_ok();
        if !chosen.is_empty() && !chosen.iter().any(|word| word == name) {
            continue;
        }
        if !is_installed() {
            eprintln!("{name} is not installed");
            continue;
        }
        let Some(origin) = repository(scratch.path(), &manager, runs) else {
            eprintln!("{name} cannot get its packages");
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
fn repository(scratch: &Path, manager: &Manager, runs: usize) -> Option<PathBuf> {
    let Manager { name, manifest: (manifest, content), lock, local, .. } = manager;
    let project = scratch.join(format!("{name}-project"));
    fs::create_dir(&project).unwrap();
    fs::write(project.join(manifest), content).unwrap();
    let benches = concat!(env!("CARGO_MANIFEST_DIR"), "/benches");
    let locks = |script: &str| {
        let output = Command::new("sh").args(["-c", script, benches]).current_dir(&project).output().unwrap();
        if !output.status.success() {
            eprintln!("{name}: {}", String::from_utf8_lossy(&[output.stdout, output.stderr].concat()));
        }
        output.status.success()
    };
    if !locks(lock) {
        let local = (*local)?;
        eprintln!("{name} cannot reach its registry: using the libraries of this machine");
        if !locks(local) {
            return None;
        }
    }
    let origin = scratch.join(format!("{name}-origin.git"));
    init(&origin);
    let mut import = Import::packed(&origin);
    for version in 0..2 * runs + 4 {
        let from = version.checked_sub(1).map(|before| format!("v{before}"));
        import.commit(&format!("v{version}"), version, from.as_deref());
        if version == 0 {
            import_folder(&mut import, &project, "");
        }
        import.file("page", format!("Version {version}").as_bytes());
    }
    import.end();
    set_master(&origin, 0);
    Some(origin)
}

fn import_folder(import: &mut Import, folder: &Path, prefix: &str) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = format!("{prefix}{}", entry.file_name().to_str().unwrap());
        if entry.path().is_dir() {
            import_folder(import, &entry.path(), &format!("{path}/"));
        } else {
            import.file(&path, &fs::read(entry.path()).unwrap());
        }
    }
}
