//! Attempts by the deploy user on the session of an administrator at a terminal: on the terminal itself, the
//! session keyring, and the moment in which a process drops its privileges.

use crate::attack::Siege;
use crate::machine::Machine;

const REPO: &str = "/home/deploy/sample_app";

/// The payload of a key in root's session keyring.
pub const CANARY: &str = "canary-e81b40";

/// System call numbers for perl, which has no wrappers for them: `add_key`, `keyctl`, and `ptrace`.
const CALLS: [u32; 3] = if cfg!(target_arch = "aarch64") { [217, 219, 117] } else { [248, 250, 101] };

/// A program run by deploy. Records whether it has a terminal, can inject input into it, or can read root's
/// key.
pub const SPY: &str = r#"#!/usr/bin/perl
    open(my $out, ">>", "/tmp/found"); print $out "ran as $<\n";
    if (open(my $tty, "+<", "/dev/tty")) {
        print $out "a terminal\n";
        print $out "typed\n" if ioctl($tty, 0x5412, my $key = "x");
    }
    for my $fd (0 .. 9) {
        next unless open(my $copy, "<&", $fd);
        print $out "a terminal as $fd\n" if -t $copy;
    }
    my ($type, $name) = qw(user canary);
    my $key = syscall(KEYCTL, 10, -3, $type, $name, 0);
    my $payload = "\0" x 64;
    print $out "$payload\n" if $key > 0 && syscall(KEYCTL, 11, $key, $payload, 64) > 0;
    exit 1;"#;

/// A program run by deploy. Traces each process of its user as soon as it finds it. Records processes that
/// still have root's terminal, or root's environment in their memory.
const TRACER: &str = r#"
    open(my $out, ">", "/tmp/traced"); $out->autoflush(1);
    my %seen; my $count = 0;
    while (!-e "/tmp/stop") {
        opendir(my $proc, "/proc"); my @now = grep { /^[0-9]/ && $_ != $$ && !$seen{$_} } readdir $proc;
        for my $pid (@now) {
            next unless (stat "/proc/$pid/status")[4];
            next if syscall(PTRACE, 0x4206, $pid + 0, 0, 0) != 0;
            $seen{$pid} = 1; $count++;
            open(my $in, "<", "/proc/$pid/stat"); my $stat = <$in> // "";
            my ($name, $terminal) = $stat =~ /\((.*)\) \S+ \S+ \S+ \S+ (\S+)/;
            print $out "breach: $name on terminal $terminal\n" if $terminal || $name eq "bluegreen";
            kill "STOP", $pid; waitpid($pid, 0x40000000); syscall(PTRACE, 17, $pid + 0, 0, 0); kill "CONT", $pid;
        }
    }
    print $out "traced $count\n";"#;

pub fn script(text: &str) -> String {
    text.replace("ADD_KEY", &CALLS[0].to_string())
        .replace("KEYCTL", &CALLS[1].to_string())
        .replace("PTRACE", &CALLS[2].to_string())
}

/// Types lines as root at an interactive shell, in a session whose keyring contains a key. For each entry,
/// waits the given seconds and types the text. Returns the terminal's output.
pub fn type_at_terminal(blue: &Machine, entries: &[(f32, &str)]) -> String {
    let keyring = script(&format!(
        r#"my ($type, $name, $key) = qw(user canary {CANARY});
        syscall(KEYCTL, 1, 0) >= 0 or die "keyctl: $!"; syscall(ADD_KEY, $type, $name, $key, {}, -3) >= 0 or die "add_key: $!";
        exec "bash", "--norc", "-i""#,
        CANARY.len()
    ));
    blue.write("/root/shell", &keyring);
    let typed: Vec<String> =
        entries.iter().map(|(wait, text)| format!("sleep {wait}; printf '{text}'")).collect();
    let line = format!(
        "cd /root; ( {}; sleep 0.2; printf 'exit\\n' ) | TERM=dumb script -qec 'perl /root/shell' /dev/null",
        typed.join("; ")
    );
    blue.sh(&line).either_way().text().replace('\r', "")
}

/// Sets up a server on which the spy runs wherever deploy can make it run.
fn besieged() -> Option<Siege> {
    let siege = Siege::set_up("--web-server none --gate")?;
    siege.recover();
    siege.blue.write("/tmp/spy", &script(SPY));
    siege
        .as_deploy(
            "cp /tmp/spy spy; chmod 755 spy; cd sample_app
            for hook in update reference-transaction; do cp ../spy hooks/$hook; done
            git config core.repositoryFormatVersion 1
            git config extensions.partialClone origin; git config remote.origin.promisor true
            git config remote.origin.url deploy@192.0.2.1:x; git config core.sshCommand /home/deploy/spy
            git config filter.spy.smudge '/home/deploy/spy; cat'; mkdir -p info; echo '* filter=spy' >info/attributes
            cp bluegreen.toml ../good.toml; cp refs/heads/master ../tip || git rev-parse master >../tip
            { grep -v '^\\[steps\\]' bluegreen.toml; echo '[steps]'; echo \"build = '/home/deploy/spy || true'\"; } >new
            mv new bluegreen.toml; chmod 644 bluegreen.toml",
        )
        .ok();
    Some(siege)
}

#[test]
fn roots_terminal_and_keyring_are_inaccessible() {
    let Some(siege) = besieged() else { return };
    let all = "for command in status check deploy rollback history; do bluegreen -C REPO $command; done\\n";
    let all = all.replace("REPO", REPO);
    type_at_terminal(&siege.blue, &[(0.5, &all), (20.0, "")]);
    // A ref to a missing object would make git fetch it.
    siege
        .as_deploy("rm -f sample_app/packed-refs; printf '1%.0s' $(seq 40) >sample_app/refs/heads/master")
        .ok();
    type_at_terminal(&siege.blue, &[(0.5, &all), (10.0, "")]);
    let found = siege.blue.sh("sort -u /tmp/found").ok().text().to_owned();
    let deploy = siege.blue.sh("id -u deploy").ok().text().to_owned();
    assert_eq!(found, format!("ran as {deploy}"), "the spy must run and find nothing");

    // Control: without a new session, the spy finds everything.
    siege.blue.sh("rm /tmp/found").ok();
    let trusting = "setpriv --reuid=deploy --regid=deploy --clear-groups /home/deploy/spy\\n";
    type_at_terminal(&siege.blue, &[(0.5, trusting), (1.0, "")]);
    let found = siege.blue.sh("cat /tmp/found").ok();
    let found = found.says("a terminal\n").says("a terminal as 0").says(CANARY);
    if siege.blue.sh("cat /proc/sys/dev/tty/legacy_tiocsti 2>/dev/null || :").ok().text() == "1\n" {
        found.says("typed");
    }
}

/// Runs a command as root at a terminal while deploy traces its processes. Returns what it traced.
fn trace(siege: &Siege, command: &str, runs: u32) -> String {
    siege.blue.write("/tmp/tracer", &script(TRACER));
    let line = format!(
        "rm -f /tmp/stop /tmp/traced
        runuser -u deploy -- perl -MIO::Handle /tmp/tracer &
        while [ ! -e /tmp/traced ]; do sleep 0.01; done
        cat >/root/loop <<'end'
        set -m; n=0; while [ $n -lt {runs} ]; do n=$((n + 1)); {command} >/dev/null 2>&1; done
end
        script -qec 'bash /root/loop' /dev/null </dev/null >/dev/null; touch /tmp/stop; wait; cat /tmp/traced"
    );
    siege.blue.sh(&line).ok().text().to_owned()
}

#[test]
fn deploy_cannot_trace_a_process_with_roots_data() {
    let Some(siege) = Siege::set_up("--web-server none") else { return };
    siege.recover();
    // A config with a section that is not plain makes the program run git for the branch.
    siege.as_deploy("git -C sample_app config alias.x y").ok();
    let runs: u32 = std::env::var("BLUEGREEN_TRACES").map_or(1000, |runs| runs.parse().unwrap());
    let traced = trace(&siege, &format!("bluegreen -C {REPO} status"), runs);
    assert!(!traced.contains("breach") && traced.contains("traced "), "{traced}");

    // Control: a program that becomes deploy before it starts a session.
    let yama = siege.blue.sh("cat /proc/sys/kernel/yama/ptrace_scope 2>/dev/null || echo 0").ok();
    let traced = trace(&siege, "setpriv --reuid=deploy --regid=deploy --clear-groups setsid sleep 0.01", 200);
    assert_eq!(traced.contains("breach: setsid on terminal"), yama.text() == "0\n", "{traced}");
}

#[test]
fn ctrl_c_and_ctrl_z_reach_the_command() {
    let Some(siege) = Siege::set_up("--web-server none") else { return };
    siege.recover();
    siege
        .as_deploy("cd sample_app; printf '[steps]\\nbuild = \"echo begun; sleep 3; echo ended\"\\n' >bluegreen.toml")
        .ok();
    for sudo in ["", "sudo "] {
        let deploy = format!("{sudo}bluegreen -C {REPO} deploy; echo status=$?\\n");
        let shown = type_at_terminal(&siege.blue, &[(0.5, &deploy), (2.0, "\\003"), (2.0, "")]);
        assert!(shown.contains("begun") && !shown.contains("  ended"), "{shown}");
        assert!(shown.contains("error: cancelled") && shown.contains("Not deployed: "), "{shown}");
        assert!(shown.contains("status=1\n"), "{shown}");
    }
    let deploy = format!("bluegreen -C {REPO} deploy\\n");
    let entries =
        [(0.5, &deploy[..]), (2.0, "\\032"), (1.0, "jobs -l\\n"), (0.5, "fg; echo status=$?\\n"), (7.0, "")];
    let shown = type_at_terminal(&siege.blue, &entries);
    assert!(shown.contains("Stopped"), "{shown}");
    let (before, after) = shown.split_once("Stopped").unwrap();
    assert!(before.contains("begun") && after.contains(" is live: "), "{shown}");
    assert!(after.contains("status=0\n"), "{shown}");
    // Lines keep their order. A signal that kills the command also kills the parent that waits for it.
    let positions: Vec<_> =
        ["Deploying", "begun", "ended", "is live", "complete"].map(|word| shown.rfind(word)).into();
    assert!(positions.is_sorted() && positions[0].is_some(), "{shown}");

    // TERM ends `log --follow` although the deployment still runs. The shell's job is the parent, which passes it on.
    siege
        .as_deploy("cd sample_app; printf '[steps]\\nbuild = \"echo waiting; until [ -e /tmp/go ]; do sleep 0.1; done\"\\n' >bluegreen.toml")
        .ok();
    siege.blue.write(
        "/root/follow",
        &format!(
            "bluegreen -C {REPO} deploy >/dev/null 2>&1 & deployment=$!
            until bluegreen -C {REPO} log 2>/dev/null | grep -q waiting; do sleep 0.1; done
            bluegreen -C {REPO} log --follow >/root/followed 2>&1 & follower=$!
            until grep -q waiting /root/followed; do sleep 0.1; done
            kill -TERM $follower; wait $follower; echo follower=$?
            kill -0 $deployment; echo runs=$?; cat /proc/[0-9]*/cmdline 2>/dev/null | grep -aqe '--follo[w]'; echo left=$?
            touch /tmp/go; wait $deployment; echo deployed=$?\n"
        ),
    );
    let shown = type_at_terminal(&siege.blue, &[(0.5, ". /root/follow\\n"), (8.0, "")]);
    for line in ["follower=143\n", "runs=0\n", "left=1\n", "deployed=0\n"] {
        assert!(shown.contains(line), "lacks {line}: {shown}");
    }
}

/// A problem that deploy causes, the command by which root finds it, and what deploy does before root runs
/// the hint.
const PROBLEMS: [(&str, &str, &str); 8] = [
    ("rm -rf shared; ln -s /etc shared", "check", "true"),
    ("chmod 755 .bluegreen", "check", "rm -r .bluegreen; ln -s /root .bluegreen"),
    (
        "rm ~/sample_app/hooks/post-receive",
        "check",
        "rm -r ~/sample_app/hooks; ln -s /root ~/sample_app/hooks",
    ),
    ("rm current; mkdir current", "deploy", "ln -s /root current.old"),
    ("chmod 666 ~/sample_app/bluegreen.toml", "status", "ln -sf /root/secret ~/sample_app/bluegreen.toml"),
    (
        "printf '[site]\\nroot = \"/home/deploy/x/new\"\\n' >~/sample_app/bluegreen.toml",
        "deploy",
        "ln -s /root ~/x",
    ),
    (
        "printf '[shared]\\nfiles = [\"sub/.env\"]\\n' >~/sample_app/bluegreen.toml",
        "deploy",
        "rm -rf shared; ln -s /root shared",
    ),
    (
        "git -C ~/sample_app config --unset receive.fsckObjects",
        "check",
        "ln -sf /root/clone/config ~/sample_app/config",
    ),
];

#[test]
fn printed_root_commands_are_safe() {
    let Some(siege) = Siege::set_up("--web-server none") else { return };
    for (problem, command, plant) in PROBLEMS {
        siege.recover();
        siege.as_deploy(&format!("cd /var/www/html; {problem}")).ok();
        let said = siege.blue.sh(&format!("bluegreen -C {REPO} {command} </dev/null")).either_way();
        let hints = said.text().lines().filter_map(|line| line.split_once("hint: "));
        let printed: Vec<&str> = hints.flat_map(|(_, hint)| hint.split('`').skip(1).step_by(2)).collect();
        let is_run = |line: &&str| line.contains(' ') && !line.starts_with("bluegreen ");
        let printed: Vec<&str> = printed.into_iter().filter(is_run).collect();
        assert!(!printed.is_empty(), "{problem}: {}", said.text());
        siege.as_deploy(&format!("cd /var/www/html; {plant}")).ok();
        for line in &printed {
            siege
                .blue
                .sh(&format!("cd /var/www/html; EDITOR=touch timeout 10 {line} </dev/null"))
                .either_way();
        }
        siege.holds(&format!("{problem}; {command}; {printed:?}"));
    }
    // Control: a command run as root.
    siege.recover();
    siege.as_deploy("rm -rf /var/www/html/shared; ln -s /root /var/www/html/shared").ok();
    siege.blue.sh("mkdir -p /var/www/html/shared/sub").ok();
    assert!(siege.breaches().contains("./root/sub"), "{}", siege.breaches());
}
