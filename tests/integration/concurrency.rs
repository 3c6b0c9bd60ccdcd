//! Twenty clients push concurrently while visitors read. Reads never fail and never mix two releases, and the
//! tip of the branch is live at the end.

use std::io::Read;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::support::{Node, Sandbox};
use rustix::fs::{CWD, Mode, OFlags, openat};

const CLIENTS: usize = 20;
const FILES: [&str; 5] = ["index.html", "a/b/c/page.html", "a/style.css", "z/last.html", "link"];

fn read(directory: &impl std::os::fd::AsFd, path: &str) -> std::io::Result<String> {
    let mut text = String::new();
    let file: OwnedFd = openat(directory, path, OFlags::RDONLY, Mode::empty())?;
    std::fs::File::from(file).read_to_string(&mut text)?;
    Ok(text)
}

#[test]
fn twenty_clients_push_while_visitors_read() {
    let pushes = std::env::var("BLUEGREEN_TEST_PUSHES").ok().and_then(|pushes| pushes.parse().ok());
    let pushes: usize = pushes.unwrap_or(4);
    let sandbox = Sandbox::new();
    // A reader may keep a release open while newer ones are deployed, so none may be recycled under it.
    sandbox.site_config("keep = 30");
    let mut ids = Vec::new();
    for version in 0..=CLIENTS * pushes {
        let content = format!("version {version}\n").repeat(100);
        sandbox.commit_nodes(&[
            (b"index.html", Node::file(&content)),
            (b"a/b/c/page.html", Node::file(&content)),
            (b"a/style.css", Node::file(&content)),
            (b"z/last.html", Node::file(&content)),
            (b"link", Node::link("z/last.html")),
        ]);
        ids.push(sandbox.id("master"));
    }
    sandbox.push_refs(&[&format!("{}:refs/heads/master", ids[0])]).ok();
    let site = sandbox.site();
    let (stop, reads) = (AtomicBool::new(false), AtomicU64::new(0));
    let clients: Vec<Vec<_>> = (0..CLIENTS)
        .map(|client| {
            let of_client = ids[1..].iter().skip(client).step_by(CLIENTS);
            of_client.map(|id| sandbox.push_command(&[&format!("+{id}:refs/heads/master")])).collect()
        })
        .collect();
    let outputs: Vec<String> = std::thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        // A web server that resolves its document root once per request.
                        let release = openat(
                            CWD,
                            site.join("current"),
                            OFlags::PATH | OFlags::DIRECTORY,
                            Mode::empty(),
                        )
                        .unwrap();
                        let contents = FILES.map(|path| read(&release, path).unwrap());
                        assert!(contents.iter().all(|content| *content == contents[0]), "a mixed release");
                        // A web server that resolves `current` for each file.
                        assert!(!read(&CWD, site.join("current/link").to_str().unwrap()).unwrap().is_empty());
                        reads.fetch_add(1, Ordering::Relaxed);
                        // Without a pause, the readers would starve the pushes on two cores.
                        std::thread::sleep(Duration::from_micros(200));
                    }
                })
            })
            .collect();
        let pushing: Vec<_> = clients
            .into_iter()
            .map(|commands| {
                scope
                    .spawn(move || -> Vec<String> { commands.into_iter().map(push_until_accepted).collect() })
            })
            .collect();
        let outputs = pushing.into_iter().flat_map(|client| client.join().unwrap()).collect();
        stop.store(true, Ordering::Relaxed);
        for reader in readers {
            reader.join().unwrap();
        }
        outputs
    });
    assert_eq!(outputs.len(), CLIENTS * pushes);
    for output in &outputs {
        assert!(output.contains("remote: Git hooks deploy complete."), "{output}");
        assert!(!output.contains("error:") && !output.contains("warning:"), "{output}");
    }
    assert!(reads.load(Ordering::Relaxed) > 1000, "{reads:?} reads are too few");
    let tip = sandbox.tip();
    sandbox.serves_checkout(&tip).is_tidy();
    assert!(sandbox.live().contains(&tip[..12]));
    assert!(sandbox.releases().len() <= 32);
    let history = sandbox.history();
    assert!(history.iter().all(|entry| entry["outcome"] == "live"));
    // Under the site's lock, each deployment starts from the release that the previous one activated.
    assert!(history.windows(2).all(|pair| pair[0]["new"] == pair[1]["old"]), "{history:#?}");
}

/// Pushes until git accepts the ref. Concurrent pushes race for it, and git rejects all but one.
fn push_until_accepted(mut command: std::process::Command) -> String {
    for _ in 0..1000 {
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() {
            return text;
        }
        assert!(!text.contains("remote: error: ") || text.contains("cannot lock ref"), "{text}");
    }
    panic!("git rejected a thousand pushes");
}

#[test]
fn concurrent_deployments_and_rollbacks_leave_a_complete_release() {
    let sandbox = Sandbox::new();
    for version in ["v1", "v2", "v3"] {
        sandbox.commit("index.html", version).push().ok();
    }
    let commands: Vec<_> = (0..30)
        .map(|number| match number % 3 {
            0 => sandbox.bluegreen_command(&["deploy", "master~1"]),
            1 => sandbox.bluegreen_command(&["rollback"]),
            _ => sandbox.bluegreen_command(&["deploy"]),
        })
        .collect();
    std::thread::scope(|scope| {
        for mut command in commands {
            scope.spawn(move || {
                let output = command.output().unwrap();
                let text = String::from_utf8_lossy(&output.stderr).into_owned();
                // A rollback without an older release is the only expected failure.
                assert!(output.status.success() || text.contains("no good release is older"), "{text}");
            });
        }
    });
    let served = std::fs::read_to_string(sandbox.current("index.html")).unwrap();
    assert!(["v1", "v2", "v3"].contains(&served.as_str()));
    sandbox.is_tidy();
    sandbox.bluegreen(&["deploy"]).ok().serves_checkout("master");
}
