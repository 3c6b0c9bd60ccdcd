//! The plan before a promotion and the watch after it: how commits, servers, and responses are reported.

use std::fs;
use std::process::Stdio;

use crate::promote::{Pair, said};
use crate::support::Sandbox;

/// Returns the lines of the plan, run in green's clone.
fn plan(pair: &Pair) -> Vec<String> {
    let mut command = pair.command(&["promote", "--dry-run"]);
    let (status, text) = said(&command.current_dir(pair.green.clone_path()).output().unwrap());
    assert_eq!(status, 0, "{text}");
    // A slow server is named after a second.
    text.lines().filter(|line| !line.starts_with("Waiting for ")).map(str::to_owned).collect()
}

#[test]
fn the_plan_lists_added_and_removed_commits() {
    let pair = Pair::new();
    let short = |revision: &str, digits| pair.green.id(revision)[..digits].to_owned();
    let v1 = short("master", 12);
    for (file, subject) in [("b", "Add b"), ("c", "Add <c>")] {
        pair.green.commit_to("master", subject, &[(file.as_bytes(), crate::support::Node::file(file))]);
    }
    pair.green.push().ok();
    let v3 = short("master", 12);
    let [b, c] = ["master^", "master"].map(|revision| short(revision, 7));
    assert_eq!(
        plan(&pair),
        [
            format!("blue {v1} -> green {v3}: 2 commits forward"),
            format!("  + {c} Add <c> (Ada Developer)"),
            format!("  + {b} Add b (Ada Developer)"),
        ]
    );
    pair.write("public", "green\n");
    assert_eq!(
        plan(&pair),
        [
            format!("green {v3} -> blue {v1}: 2 commits back"),
            format!("  - {c} Add <c> (Ada Developer)"),
            format!("  - {b} Add b (Ada Developer)"),
        ]
    );
    // A clone that lacks one of the commits.
    pair.blue.commit("index.html", "hot fix").push().ok();
    assert_eq!(plan(&pair), [format!("green {v3} -> blue {}", &pair.blue.id("master")[..12])]);
    pair.green.git(&["fetch", "--quiet", pair.blue.repository().to_str().unwrap(), "master"]);
    assert!(plan(&pair)[0].ends_with(": 1 commit forward, 2 commits back"), "{:?}", plan(&pair));
    for number in 0..30 {
        pair.green.commit("d", &number.to_string());
    }
    pair.green.push().ok();
    let lines = plan(&pair);
    assert_eq!((lines.len(), lines.last().unwrap().as_str()), (22, "  and 13 more"), "{lines:?}");
}

#[test]
fn servers_are_queried_in_parallel_and_every_failure_is_reported() {
    let pair = Pair::new();
    let others: Vec<Sandbox> = (0..4).map(|_| Sandbox::new()).collect();
    let config = fs::read_to_string(pair.file("promote.toml")).unwrap();
    let green = config.lines().find_map(|line| line.strip_prefix("green = ")).unwrap();
    let address = green.rsplit('"').nth(1).unwrap();
    let mut list = vec![green.to_owned()];
    for (at, other) in others.iter().enumerate() {
        other.commit("index.html", "v1").push().ok();
        let url = format!("deploy@g{at}:{}", other.repository().display());
        list.push(format!("{{ ssh = \"{url}\", address = \"{address}\" }}"));
    }
    pair.configure(green, &format!("[{}]", list.join(", ")));
    // Each connection waits until all servers have been contacted, and so does each request of a lock. The first server is
    // locked alone.
    pair.by_ssh(
        "meet() { touch \"$here/$1.$host\"; until [ \"$(ls \"$here\" | grep -c \"^$1.deploy@\")\" = 6 ]; do sleep 0.02; done; }
        case $(cat \"$here/ill\" 2>/dev/null):$host in
            1:*@g[12]) echo \"no route to $host\" >&2; exit 255 ;;
            1:*) ;;
            *)
                meet look
                while read -r line; do
                    case $line:$host in
                        lock:*@blue) touch \"$here/lock.$host\" ;;
                        lock:*) [ -e \"$here/lock.deploy@blue\" ] || exit; meet lock ;;
                    esac
                    echo \"$line\"
                done | sh -c \"$last\"
                exit ;;
        esac",
    );
    let (status, text) = pair.promote(&[]);
    assert_eq!((status, pair.public().as_str()), (0, "green"), "{text}");
    assert!(text.contains("Checked green: 5 servers."), "{text}");
    let (status, text) = said(&pair.write("ill", "1").command(&["promote", "--yes"]).output().unwrap());
    assert_eq!((status, pair.public().as_str()), (1, "green"), "{text}");
    for host in ["deploy@g1", "deploy@g2"] {
        assert!(text.contains(&format!("error: cannot reach `{host}:/")), "{text}");
        assert!(text.contains(&format!(" by ssh: no route to {host}\n")), "{text}");
    }
}

#[test]
fn a_response_without_a_server_name_does_not_confirm_the_switch() {
    let pair = Pair::new();
    // A cache that names itself in the header, and a response without the header.
    for (name, side) in [("nobody", "green"), ("cache-1", "blue")] {
        let output = pair.write("serves", name).command(&["promote", "--yes", "--json"]).output().unwrap();
        let (status, text) = said(&output);
        assert_eq!((status, pair.public().as_str()), (0, side), "{text}");
        let warning = format!("warning: cannot confirm that visitors reach {side}: no response from http://");
        assert!(text.contains(&warning) && text.contains("hint: have each site send"), "{text}");
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let named = if name == "nobody" { serde_json::json!([]) } else { serde_json::json!([name]) };
        assert_eq!(json["answered_by"], named);
        assert!(json["summary"].as_str().unwrap().starts_with(&format!("{side} is public instead of ")));
        // A log shows a progress line from time to time, in addition to the JSON.
        let progress = String::from_utf8(output.stderr).unwrap();
        let lines = progress.lines().filter(|line| line.contains(", 0 failed, p50 ")).count();
        assert!((1..=4).contains(&lines) && !progress.contains('\r'), "{progress}");
    }
    // Failures are tolerated, but no visitor reaches green.
    pair.configure("healthy = 1", "healthy = 1\ntolerate = 99").write("serves", "blue");
    let answers = "blue is public again, and healthy.";
    pair.fails_with(&[], "no server of green responds at http://", answers);
}

#[test]
fn a_terminal_shows_one_updating_progress_line() {
    let pair = Pair::new();
    let line = format!(
        "{} promote --yes --config {}",
        crate::support::sandbox::BLUEGREEN,
        pair.configure("watch = \"0.4s\"", "watch = \"1200ms\"").file("promote.toml").display()
    );
    let mut command = pair.blue.command("script");
    command.args(["-qec", &line, "/dev/null"]).stdin(Stdio::null());
    let (status, text) = said(&command.output().unwrap());
    assert_eq!(status, 0, "{text}");
    assert!(text.contains("served by green, ") && text.contains(" responses a second\r"), "{text}");
}

#[test]
fn an_address_that_reaches_another_side_is_detected_before_the_switch() {
    let pair = Pair::new();
    let config = fs::read_to_string(pair.file("promote.toml")).unwrap();
    let addresses: Vec<&str> = config.split('"').filter(|word| word.starts_with("127.0.0.1:")).collect();
    pair.configure(addresses[1], addresses[0]);
    pair.fails(&[], &format!("at {} was served by blue, which is on the other side", addresses[0]));
}

#[test]
fn an_inconsistent_promotion_config_is_rejected() {
    let pair = Pair::new();
    let config = fs::read_to_string(pair.file("promote.toml")).unwrap();
    let blue = pair.blue.repository().display().to_string();
    let green = pair.green.repository().display().to_string();
    for (from, to, problem) in [
        (green.as_str(), blue.as_str(), "is listed twice"),
        ("address = ", "adress = ", "expected \"deploy@blue:sample_app\", { ssh = ..., address = ... }"),
        ("blue = ", "Blue = ", "invalid name of a side: `Blue`"),
        ("healthy = 1", "paths = [\"health\"]", "each of `paths` must begin with a slash"),
        ("healthy = 1", "healthy = 0", "`healthy` must be at least 1"),
        ("watch = \"0.4s\"", "watch = 30", "`watch` needs a unit: `watch = \"30s\"`"),
        (
            "./switch\"",
            "haproxy\"\n[public.settings]\nsockett = \"/run/x\"",
            "unknown setting `sockett` of the switch `haproxy`",
        ),
        ("watch = \"0.4s\"", "watch = \"soon\"", "invalid duration `soon`: expected number"),
        ("./switch", "varnish", "unknown switch `varnish`"),
        ("http://", "gopher://", "`url` must begin with http:// or https://"),
        ("[check]", "[checks]", "unknown field `checks`"),
    ] {
        pair.write("promote.toml", &config).configure(from, to);
        let (status, text) = pair.promote(&[]);
        assert_eq!((status, pair.public().as_str()), (2, "blue"), "{text}");
        assert!(text.contains(problem) && text.contains("hint: "), "{problem}: {text}");
    }
    // No config.
    let (outside, clone) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    pair.green.git_in(clone.path(), &["init", "--quiet"]);
    for (directory, hint) in [
        (outside.path(), "hint: run it in your clone of the project, or name the file with `--config`\n"),
        (clone.path(), "hint: docs/howto/promote.md shows one to start from\n"),
    ] {
        let mut command = pair.blue.command(crate::support::sandbox::BLUEGREEN);
        let (status, text) = said(&command.arg("public").current_dir(directory).output().unwrap());
        assert!(
            status == 2 && text.contains(".promote.toml`: no such file") && text.ends_with(hint),
            "{text}"
        );
    }
    // A switch that does not exist.
    pair.write("promote.toml", &config).configure("./switch", "./gone");
    let (status, text) = pair.promote(&[]);
    assert_eq!(status, 1, "{text}");
    assert!(text.contains("it must exist and be executable: `ls -l "), "{text}");
}

#[test]
fn a_servers_response_cannot_inject_git_options_or_terminal_codes() {
    let pair = Pair::new();
    let json = |commit: &str| {
        format!(
            r#"{{"server":"g\u001b[2Jreen","good":true,"commit":"{commit}","subject":"\u001b]0;x\u0007"}}"#
        )
    };
    let says = "case $host:$last in
        *@green:*--standby*) echo \"{\\\"status\\\":$(cat \"$here/says\")}\"; exit ;;
        *@green:*status*) cat \"$here/says\"; exit ;;
    esac";
    let option = format!("--output={}", pair.file("made").display());
    pair.by_ssh(says).write("says", &json(&option));
    pair.fails(&[], "invalid response from `deploy@green:");
    assert!(!pair.file("made").exists());
    let (status, text) =
        said(&pair.write("says", &json(&"1a2b3c4d".repeat(5))).command(&["public"]).output().unwrap());
    assert!(status == 0 && text.contains("1a2b3c4d") && !text.contains(['\x1b', '\x07']), "{text}");
    // A hint contains only commands that this program has.
    let pending = |command: &str| {
        let text = json(&"1a2b3c4d".repeat(5));
        let pending =
            format!(r#","pending":[{{"kind":"tip","message":"unfinished","command":"{command}"}}]}}"#);
        pair.write("says", &(text.trim_end_matches('}').to_owned() + &pending));
        said(&pair.command(&["public"]).output().unwrap()).1
    };
    let text = pending("resume; id #");
    assert!(text.contains(": unfinished\n") && !text.contains("id #"), "{text}");
    let text = pending("resume");
    assert!(text.contains("hint: `ssh deploy@green resume -C /"), "{text}");
}
