//! Missing, damaged, or unreadable records: a release without a record is not treated as bad.

use std::fs;
use std::os::unix::fs::symlink;

use crate::support::skip::program_or_skip;
use crate::support::{Run, Sandbox};

/// Five releases, all kept so far.
fn five_releases() -> Sandbox {
    let sandbox = Sandbox::new();
    for version in ["v1", "v2", "v3", "v4", "v5"] {
        sandbox.commit("index.html", version).push().ok();
    }
    sandbox.site_config("keep = 1");
    sandbox
}

#[test]
fn a_lost_state_directory_loses_no_release() {
    let sandbox = five_releases();
    fs::remove_dir_all(sandbox.site().join(".bluegreen")).unwrap();
    let before = sandbox.releases();
    let run = sandbox.bluegreen(&["check"]);
    assert!(run.output.contains("`bluegreen deploy` makes a fresh release live"), "{}", run.output);
    for version in ["v6", "v7", "v8", "v9"] {
        sandbox.commit("index.html", version).push().ok().serves_checkout("master");
        let after = sandbox.releases();
        assert!(before.iter().all(|name| after.contains(name)), "{after:?}");
        for (name, content) in before.iter().zip(["v1", "v2", "v3", "v4", "v5"]) {
            let path = sandbox.site().join("releases").join(name).join("index.html");
            assert_eq!(fs::read_to_string(path).unwrap(), content);
        }
    }
    // Releases with records are pruned as usual.
    assert_eq!(sandbox.releases().len(), 5 + 3, "with the spare");
    let told = sandbox.bluegreen(&["check"]);
    assert_eq!(told.output.matches("has no readable record").count(), 5, "{}", told.output);
    assert_eq!(told.output.matches(" rm -r ").count(), 5, "{}", told.output);
}

#[test]
fn an_unreadable_record_does_not_mark_a_release_bad() {
    for damage in ["", "state = \"ready\"", "\u{0}\u{0}", "link", "pipe", "directory"] {
        let sandbox = five_releases();
        let name = sandbox.releases()[0].clone();
        let record = sandbox.site().join(format!(".bluegreen/releases/{name}.toml"));
        fs::remove_file(&record).unwrap();
        match damage {
            "link" => symlink("/etc/passwd", &record).unwrap(),
            "directory" => fs::create_dir(&record).unwrap(),
            "pipe" => {
                let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::from_raw_mode(0o600));
                rustix::fs::mknodat(rustix::fs::CWD, &record, kind, mode, 0).unwrap();
            }
            text => fs::write(&record, text).unwrap(),
        }
        sandbox.commit("index.html", "v6").push().ok();
        sandbox.commit("index.html", "v7").push().ok();
        assert!(sandbox.releases().contains(&name), "{damage}: {:?}", sandbox.releases());
        assert_eq!(sandbox.releases().len(), 4, "with the spare");
        sandbox
            .bluegreen(&["rollback", &name])
            .fails(1)
            .says("error: cannot roll back to release <release>: it is without a record");
    }
}

#[test]
fn a_disk_error_is_never_mistaken_for_a_missing_file() {
    if !program_or_skip("strace") {
        return;
    }
    let sandbox = Sandbox::new();
    for version in ["v1", "v2", "v3"] {
        sandbox.commit("index.html", version).push().ok();
    }
    let (releases, records, live) = (sandbox.releases(), sandbox.records(), sandbox.live());
    for call in ["statx", "newfstatat", "openat", "getdents64", "readlinkat", "read"] {
        let mut failed = 0;
        for number in 1..=60 {
            let mut strace = sandbox.command("strace");
            let inject = format!("inject={call}:error=EIO:when={number}");
            strace.args(["-qqq", "-o", "/dev/null", "-e", &format!("trace={call}"), "-e", &inject]);
            // The release is already live, so the rollback only sweeps the site.
            let run = Run::new(&sandbox, strace.arg(sandbox.hook_path()).args(["rollback", &live]));
            let when = format!("EIO at {call} number {number}:\n{}", run.output);
            assert_eq!(sandbox.releases(), releases, "{when}");
            assert_eq!(sandbox.records(), records, "{when}");
            assert_eq!(sandbox.live(), live, "{when}");
            failed += usize::from(!run.status.success());
        }
        assert!(failed > 0, "{call} is never called");
    }
}
