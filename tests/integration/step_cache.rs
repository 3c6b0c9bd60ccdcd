//! Build steps with declared inputs and outputs: skipped if nothing changed, with the same result as running
//! them.

use std::fs;
use std::process::Command;

use proptest::prelude::*;

use crate::support::{Run, Sandbox};

/// Installs "packages" from a lockfile, and counts its runs outside the release.
const PACKAGES: &str = "[steps]\nbuild = [{ name = 'packages', inputs = ['lock', 'absent'], outputs = ['modules'], \
    run = 'echo run >>../../runs; mkdir -p modules/a/b; cp lock modules/a/b/; chmod 555 modules/a; ln -s ../x modules/link' }]\n";

/// The report of a skipped step.
const UNCHANGED: &str = "Step packages: unchanged since <release>, copied in <time>";

fn with(config: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    configure(&sandbox, config);
    sandbox
}

fn configure(sandbox: &Sandbox, config: &str) {
    let root = sandbox.site();
    sandbox
        .raw_config(&format!("server = \"blue\"\n[site]\nroot = \"{}\"\nkeep = 3\n{config}", root.display()));
}

fn runs(sandbox: &Sandbox) -> usize {
    fs::read_to_string(sandbox.site().join("runs")).map_or(0, |text| text.lines().count())
}

fn push_with<'s>(sandbox: &'s Sandbox, option: &str) -> Run<'s> {
    Run::new(sandbox, &mut sandbox.push_command(&["-o", option, "master"]))
}

#[test]
fn a_step_is_skipped_while_its_inputs_are_unchanged() {
    let sandbox = with(PACKAGES);
    sandbox.commit("lock", "1").push().ok().says("Step build: packages");
    let first = sandbox.live();
    let told = sandbox.commit("page", "2").push().ok().never_says("Step build").says(UNCHANGED);
    assert!(told.output().contains(&format!("unchanged since {first}, copied in ")), "{}", told.output());
    assert_eq!(runs(&sandbox), 1);
    sandbox.serves("modules/a/b/lock", "1");
    assert_eq!(fs::read_link(sandbox.current("modules/link")).unwrap().to_str(), Some("../x"));
    sandbox.commit("lock", "2").push().ok().says("Step build: packages");
    sandbox.serves("modules/a/b/lock", "2");
    // Back to the first lockfile, whose release is still kept.
    sandbox.commit("lock", "1").push().ok().says(UNCHANGED);
    sandbox.serves("modules/a/b/lock", "1");
    assert_eq!(runs(&sandbox), 2);
    sandbox.is_tidy();
}

#[test]
fn a_copied_output_shares_no_file_with_its_source() {
    use std::os::unix::fs::MetadataExt;
    let sandbox = with(PACKAGES);
    sandbox.commit("lock", "1").push().ok();
    sandbox.commit("page", "2").push().ok();
    let inodes: Vec<(u64, u64)> = sandbox
        .releases()
        .iter()
        .map(|release| {
            let path = sandbox.site().join("releases").join(release).join("modules/a/b/lock");
            fs::metadata(path).map(|metadata| (metadata.ino(), metadata.nlink())).unwrap()
        })
        .collect();
    assert_eq!(inodes.len(), 2);
    assert!(inodes[0].0 != inodes[1].0 && inodes.iter().all(|(_, links)| *links == 1), "{inodes:?}");
}

#[test]
fn changed_inputs_make_a_step_run() {
    let sandbox = with(PACKAGES);
    sandbox.commit("lock", "1").push().ok();
    let expect = |change: &str, count: usize| {
        sandbox.commit("page", change).push().ok();
        assert_eq!(runs(&sandbox), count, "{change}");
    };
    expect("nothing", 1);
    configure(&sandbox, &format!("{PACKAGES}[env]\nNODE_ENV = 'production'\n"));
    expect("the environment", 2);
    configure(&sandbox, &PACKAGES.replace("ln -s ../x", "ln -s ../y"));
    expect("the command", 3);
    expect("nothing again", 3);
    sandbox.commit("absent", "is there").push().ok();
    assert_eq!(runs(&sandbox), 4, "a new input must run the step");
    sandbox.git_in(&sandbox.repository(), &["config", "receive.advertisePushOptions", "true"]);
    push_with(sandbox.commit("page", "no cache"), "no-cache").ok().says("Step build: packages");
    assert_eq!(runs(&sandbox), 5);
    sandbox.bluegreen(&["deploy", "--no-cache"]).ok().says("Step build: packages");
    sandbox.bluegreen(&["deploy"]).ok().says(UNCHANGED);
    assert_eq!(runs(&sandbox), 6);
}

#[test]
fn changed_or_missing_outputs_make_a_step_run() {
    let sandbox = with(PACKAGES);
    sandbox.commit("lock", "1").push().ok();
    fs::write(sandbox.current("modules/a/b/lock"), "tampered").unwrap();
    sandbox.commit("page", "2").push().ok().says("Step build: packages");
    sandbox.serves("modules/a/b/lock", "1");
    for release in sandbox.releases() {
        let modules = sandbox.site().join("releases").join(release).join("modules");
        Command::new("rm").arg("-r").arg(modules).status().unwrap();
    }
    sandbox.commit("page", "3").push().ok().says("Step build: packages");
    sandbox.serves("modules/a/b/lock", "1").is_tidy();
}

#[test]
fn a_failed_build_is_not_cached() {
    let fails = PACKAGES.replace(" }]", " }, 'test ! -s broken']");
    let sandbox = with(&fails);
    sandbox.commit("broken", "x").commit("lock", "1").push().not_deployed();
    sandbox.commit("broken", "").push().ok().says("Step build: packages");
    assert_eq!(runs(&sandbox), 2);
}

#[test]
fn a_missing_output_is_reported() {
    let sandbox =
        with("[steps]\nbuild = { name = 'x', run = 'true', inputs = ['lock'], outputs = ['a/b'] }\n");
    let warning = "warning: step x runs again in every deployment: cannot keep its output `a/b`: no such file or directory";
    sandbox.commit("lock", "1").push().warned().says(warning);
    sandbox.commit("page", "2").push().warned().says("Step build: x").says(warning);
}

#[test]
fn outputs_outside_the_release_are_neither_read_nor_written() {
    let sandbox = with(
        "[steps]\nbuild = { name = 'x', inputs = ['lock'], outputs = ['a/b'], \
         run = 'ln -sfn $BLUEGREEN_SITE/outside a; mkdir -p a/b; echo 1 >a/b/file' }\n",
    );
    let outside = sandbox.site().join("outside");
    fs::create_dir(&outside).unwrap();
    sandbox.commit("lock", "1").push().warned();
    sandbox.commit("page", "2").push().warned().says("Step build: x");
    assert_eq!(fs::read_to_string(outside.join("b/file")).unwrap(), "1\n");
    // An output that is itself a symlink is copied as a symlink.
    let link = with(
        "[steps]\nbuild = { name = 'x', inputs = ['lock'], outputs = ['a'], run = 'ln -s /etc/passwd a' }\n",
    );
    link.commit("lock", "1").push().ok();
    link.commit("page", "2").push().ok().says(&UNCHANGED.replace("packages", "x"));
    assert_eq!(fs::read_link(link.current("a")).unwrap().to_str(), Some("/etc/passwd"));
}

#[test]
fn an_output_in_the_commit_is_not_replaced() {
    let sandbox = with(PACKAGES);
    sandbox.commit("lock", "1").push().ok();
    sandbox.commit("modules/kept", "from the commit").push().ok().says("Step build: packages");
    sandbox.serves("modules/kept", "from the commit").serves("modules/a/b/lock", "1");
}

#[test]
fn a_fifo_in_an_output_makes_the_step_run() {
    let sandbox = with(&PACKAGES.replace("modules/link", "modules/link; mkfifo modules/fifo"));
    sandbox.commit("lock", "1").push().ok();
    sandbox.commit("page", "2").push().ok().says("Step build: packages").serves("modules/a/b/lock", "1");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4, ..ProptestConfig::default() })]

    /// For any history, cached outputs equal the outputs of running every step, byte for byte.
    #[test]
    fn a_cached_release_equals_an_uncached_one(changes in prop::collection::vec((0..4u8, 0..3u8), 3..9)) {
        let sandbox = with(
            "[steps]\nbuild = [\
             { name = 'packages', inputs = ['lock'], outputs = ['modules', 'bin/tool'], \
               run = 'mkdir -p modules bin; sha256sum <lock >modules/sum; cp lock bin/tool; chmod 755 bin/tool' }, \
             { name = 'assets', inputs = ['src', 'lock'], outputs = ['public/assets'], \
               run = 'mkdir -p public/assets; cat src/* modules/sum >public/assets/all' }, 'cat public/assets/all page >index' ]\n",
        );
        sandbox.commit("lock", "0").commit("src/a", "0").commit("page", "0").push().ok();
        for (step, (what, value)) in changes.into_iter().enumerate() {
            match what {
                0 => { sandbox.commit("lock", &value.to_string()).push().ok(); }
                1 => { sandbox.commit("src/a", &value.to_string()).push().ok(); }
                2 => { sandbox.commit("page", &step.to_string()).push().ok(); }
                _ => { let _ = sandbox.bluegreen(&["rollback"]); }
            }
            let cached = sandbox.live();
            let copy = sandbox.path("cached");
            let copied = Command::new("cp").args(["-a"]).arg(sandbox.site().join("releases").join(cached)).arg(&copy).status();
            assert!(copied.unwrap().success());
            let live = sandbox.bluegreen(&["status", "--json"]).ok().output().to_owned();
            let commit = serde_json::from_str::<serde_json::Value>(&live).unwrap()["commit"].as_str().unwrap().to_owned();
            sandbox.bluegreen(&["deploy", "--no-cache", &commit]).ok();
            let difference = Command::new("diff").args(["-r", "--no-dereference"]).arg(&copy).arg(sandbox.live_path()).output().unwrap();
            assert!(difference.status.success(), "{}", String::from_utf8_lossy(&difference.stdout));
            fs::remove_dir_all(copy).unwrap();
        }
    }
}
