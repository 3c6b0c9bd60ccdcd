//! Promotions whose switch runs on another machine, with a stand-in for ssh.

use std::fs;

use crate::promote::{Pair, said};

/// A pair whose switch runs on `ops@lb`. `script` runs there first.
fn pair(script: &str) -> Pair {
    let pair = Pair::new();
    let switch = pair.file("switch").display().to_string();
    pair.configure("switch = \"./switch\"", &format!("switch = \"{switch}\"\nhost = \"ops@lb\""));
    pair.by_ssh(&format!("[ \"$host\" != ops@lb ] || {{ {script}; }}"));
    pair
}

#[test]
fn a_switch_runs_on_its_host_with_its_settings() {
    let pair = pair("AT_HOST=1; export AT_HOST");
    let set = "[ -n \"$AT_HOST\" ]; printf '%s' \"$SWITCH_WORDS\" >\"$here/words\"; printf '%s\\n' \"$2\" >\"$here/public\"";
    pair.switch(set);
    pair.configure("[check]", "[public.settings]\nwords = \"it's $(id); `x` \\\"y\\\"\"\n[check]");
    let (status, text) = pair.promote(&[]);
    assert_eq!((status, pair.public().as_str()), (0, "green"), "{text}");
    assert_eq!(fs::read_to_string(pair.file("words")).unwrap(), "it's $(id); `x` \"y\"");
    assert_eq!(pair.marks(), [Some(false), Some(true)]);
    let log = fs::read_to_string(pair.file("fake-ssh.log")).unwrap();
    assert!(log.contains("ops@lb timeout -k 5 90.000 sh -c "), "{log}");
    // Every user on that machine can read its processes' arguments.
    assert!(!log.contains("it's"), "{log}");
}

#[test]
fn a_bundled_switch_runs_on_a_host_and_its_errors_are_printed() {
    let pair = pair(":");
    let switch = pair.file("switch").display().to_string();
    let config = fs::read_to_string(pair.file("promote.toml")).unwrap();
    let green = config.split('"').filter(|word| word.starts_with("127.0.0.1:")).nth(1).unwrap().to_owned();
    pair.configure(&switch, "nginx");
    pair.configure("[check]", &format!("[public.settings]\nurl = \"http://{green}\"\n[check]"));
    pair.write("green.body", "green\n");
    let (status, text) = said(&pair.command(&["public"]).output().unwrap());
    assert!(status == 0 && text.lines().any(|line| line.starts_with("green  green   yes")), "{text}");
    pair.configure(&green, "127.0.0.1:9");
    let (status, text) = said(&pair.command(&["public"]).output().unwrap());
    assert!(status == 1 && text.contains("cannot ask nginx at `http://127.0.0.1:9`"), "{text}");
    assert!(text.contains("hint: check that it runs, with the second server of nginx.conf"), "{text}");
}

#[test]
fn a_hanging_switch_is_killed_on_its_host() {
    let pair = pair(":");
    pair.configure("switch = ", "within = \"1s\"\nswitch = ");
    pair.switch("sleep 2; printf '%s\\n' \"$2\" >\"$here/public\"");
    pair.fails(&[], "the switch's `set green` timed out after 1s");
    std::thread::sleep(std::time::Duration::from_millis(1500));
    assert_eq!(pair.public(), "blue", "the switch kept running after its timeout");
}

#[test]
fn an_unreachable_or_hostile_host_is_an_error() {
    let pair = pair("echo 'ssh: connect to host lb port 22: Connection refused' >&2; exit 255");
    let (status, text) = pair.promote(&[]);
    assert_eq!(status, 1, "{text}");
    assert!(
        text.contains("cannot reach `ops@lb` by ssh: connect to host lb port 22: Connection refused"),
        "{text}"
    );
    assert!(text.contains("hint: run `ssh ops@lb true`"), "{text}");
    let hostile = self::pair("printf '\\033[2J%s' x; yes | head -c 100000000; exit 0");
    let (status, text) = hostile.promote(&[]);
    assert!(status == 1 && !text.contains('\x1b') && text.len() < 10_000, "{} bytes", text.len());
    assert_eq!(hostile.public(), "blue");
}

#[test]
fn an_invalid_host_or_relative_switch_is_rejected() {
    let pair = pair(":");
    let config = fs::read_to_string(pair.file("promote.toml")).unwrap();
    let switch = pair.file("switch").display().to_string();
    for (from, to, problem) in [
        ("ops@lb", "-oProxyCommand=id", "invalid `host`: `-oProxyCommand=id`"),
        ("ops@lb", "lb:2222", "invalid `host`: `lb:2222`"),
        (switch.as_str(), "./switch", "with `host`, the path of a switch must begin with a slash"),
    ] {
        pair.write("promote.toml", &config).configure(from, to);
        let (status, text) = pair.promote(&[]);
        assert!(status == 2 && text.contains(problem) && text.contains("hint: write "), "{text}");
    }
}

#[test]
fn a_clone_whose_switch_runs_elsewhere_must_be_trusted() {
    let pair = pair(":");
    let clone = pair.green.clone_path();
    fs::copy(pair.file("promote.toml"), clone.join(".promote.toml")).unwrap();
    let mut command = pair.green.command(crate::support::sandbox::BLUEGREEN);
    let (status, text) = said(&command.arg("public").current_dir(clone).output().unwrap());
    assert!(status == 2 && text.contains("`host = ops@lb`") && text.contains("`switch = /"), "{text}");
}

/// A pair whose front end has a restricted account, simulated by `account`. `$last` is the requested command.
fn with_account(account: &str) -> Pair {
    let pair = Pair::new();
    pair.configure("switch = \"./switch\"", "host = \"bluegreen-front@lb\"");
    pair.by_ssh(&format!("[ \"$host\" != bluegreen-front@lb ] || {{ set -- $last; {account}; }}"));
    pair
}

#[test]
fn a_front_end_account_receives_the_short_command() {
    let pair = with_account("cat >>\"$here/input\"; exec \"$here/switch\" \"$@\"");
    let (status, text) = pair.promote(&[]);
    assert_eq!((status, pair.public().as_str()), (0, "green"), "{text}");
    let log = fs::read_to_string(pair.file("fake-ssh.log")).unwrap();
    let called: Vec<&str> = log.lines().filter_map(|line| line.strip_prefix("bluegreen-front@lb ")).collect();
    assert!(called.contains(&"show --within 30") && called.contains(&"set green --within 90"), "{called:?}");
    assert!(called.iter().all(|call| call.starts_with("show ") || call.starts_with("set ")), "{called:?}");
    assert_eq!(fs::read_to_string(pair.file("input")).unwrap(), "");
}

#[test]
fn a_host_without_the_account_is_explained() {
    let pair = with_account("echo 'sh: 1: show: not found' >&2; exit 127");
    let (status, text) = pair.promote(&[]);
    assert!(status == 1 && text.contains("exited with status 127: sh: 1: show: not found"), "{text}");
    assert!(
        text.contains("hint: set `switch` in [public], or run `install.sh --front-end` on lb\n"),
        "{text}"
    );
    pair.configure("[check]", "[public.settings]\nsocket = \"/x\"\n[check]");
    let (status, text) = pair.promote(&[]);
    assert!(status == 2 && text.contains("`[public.settings]` needs `switch`"), "{text}");
    let local = Pair::new();
    local.configure("switch = \"./switch\"\n", "");
    let (status, text) = local.promote(&[]);
    assert!(status == 2 && text.contains("`switch` is missing in `[public]`"), "{text}");
}

#[test]
fn output_of_a_hostile_front_end_is_escaped_and_runs_nothing() {
    for answer in [
        "printf '\\033[2Jblue\\n'",
        "printf 'blue; touch %s/hit\\n' \"$here\"",
        "printf -- '-oProxyCommand=touch %s/hit\\n' \"$here\"",
        "yes blue | head -n 100000",
        "printf 'error: \\033]0;x\\007\\nhint: \\033[2J$(touch %s/hit)\\n' \"$here\" >&2; exit 3",
        "yes x | head -c 100000000",
        "head -c 1000 /dev/urandom",
    ] {
        let pair = with_account(&format!("{answer}; exit 0"));
        for words in [&["promote", "--yes", "green"][..], &["public"]] {
            let (_, text) = said(&pair.command(words).output().unwrap());
            assert!(!text.contains('\x1b') && !text.contains('\x07'), "{answer}: {text}");
            assert!(text.len() < 10_000, "{answer}: {} bytes", text.len());
        }
        assert!(!pair.file("hit").exists(), "{answer}");
    }
}
