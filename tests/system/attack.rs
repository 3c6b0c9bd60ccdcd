//! Privilege escalation attempts by the deploy user. Everyone who may push runs programs as that user, so
//! everything that it can write is hostile to root. After each attempt root runs every command of the
//! program. No file outside the user's own may change, no program of the user's may run as root, and no
//! secret of root's may leak.

use crate::lab::Lab;
use crate::machine::{Machine, difference};

/// A secret that only root can read: on disk, in the environment, and on a descriptor.
const CANARY: &str = "canary-7d1f5c";

const REPO: &str = "/home/deploy/sample_app";
const SITE: &str = "/var/www/html";

/// Every command, as root runs it. Commands that wait or prompt have a timeout.
const COMMANDS: [&str; 13] = [
    "status",
    "status --json",
    "releases",
    "history",
    "check",
    "log",
    "cancel",
    "deploy --dry-run",
    "deploy",
    "rollback",
    "adopt",
    "lock siege",
    "unlock",
];

/// A server that `install.sh` set up, with a release and root's own files.
pub struct Siege {
    /// The server.
    pub blue: Machine,
    before: String,
    /// Dropped last.
    _lab: Lab,
}

impl Siege {
    /// Sets up the server with these installer options, and pushes two versions.
    pub fn set_up(options: &str) -> Option<Self> {
        let lab = Lab::new()?;
        let (blue, dev) = (lab.server("blue"), lab.client("dev"));
        blue.install_for(&dev, options).ok();
        dev.sh_as("dev", "git init -q sample_app; cd sample_app; git remote add blue deploy@blue:sample_app")
            .ok();
        dev.commit("App v1", "one");
        dev.push("blue master").ok();
        dev.commit("App v2", "two");
        dev.push("blue master").ok();
        // A repository owned by root, a secret, and files that root executes.
        blue.sh(&format!(
            "umask 077; echo {CANARY} >/root/secret; echo true >/root/.bashrc
            git init -q --bare /root/clone; cp -r {REPO}/objects {REPO}/refs /root/clone
            chown -R root:root /root/clone; mkdir /root/site
            printf '[site]\\nroot = \"/root/site\"\\n' >/root/clone/bluegreen.toml
            git --git-dir=/root/clone config core.fsmonitor false
            cp -a /home/deploy /root/home-before; cp -a {SITE} /root/site-before"
        ))
        .ok();
        let before = written(&blue);
        Some(Self { blue, before, _lab: lab })
    }

    /// Runs the attack as deploy, then every command as root with what a caller of `sudo` has: a secret in
    /// the environment, and one on an open descriptor. Whether or not the commands succeed, root's files must
    /// not change.
    pub fn attempt(&self, name: &str, as_deploy: &str) {
        self.attempt_with(name, as_deploy, &COMMANDS.map(|command| format!("bluegreen -C {REPO} {command}")));
    }

    /// Like [`Self::attempt`], with these commands.
    pub fn attempt_with(&self, name: &str, as_deploy: &str, commands: &[String]) {
        let said = self.try_it(as_deploy, commands);
        assert!(!said.contains("panicked"), "{name}: {said}");
        self.holds(&format!("{name}\n{said}"));
    }

    /// Runs the attack, then root's commands. Returns their output.
    fn try_it(&self, as_deploy: &str, commands: &[String]) -> String {
        self.recover();
        self.as_deploy(as_deploy).ok();
        let commands = commands.iter().map(|command| {
            format!(
                "echo 'as root: {command}'
                SECRET={CANARY} SUDO_USER=root GIT_CONFIG_GLOBAL=/root/.gitconfig timeout 20 {command} </dev/null 2>&1 || :"
            )
        });
        let script = format!("cd /root; exec 7</root/secret\n{}", commands.collect::<Vec<_>>().join("\n"));
        self.blue.sh(&script).either_way().text().to_owned()
    }

    /// Runs a script as the deploy user.
    pub fn as_deploy(&self, script: &str) -> crate::machine::Ran {
        self.blue.sh(&format!(
            "cat >/tmp/attempt <<'attempt'\nset -eu\ncd /home/deploy\n{script}\nattempt
            chmod 755 /tmp/attempt; runuser -u deploy -- sh /tmp/attempt"
        ))
    }

    /// Asserts that only deploy's own files have changed, no program ran as root, and the secret did not
    /// leak.
    pub fn holds(&self, what: &str) {
        assert_eq!(self.breaches(), "", "{what}");
    }

    /// Returns root's files that changed, programs that ran as root, and places to which the secret leaked.
    pub fn breaches(&self) -> String {
        let changed = difference(&self.before, &written(&self.blue));
        let is_roots = |path: &str| {
            !["./home/deploy/", "./var/www/html/"].iter().any(|own| path.starts_with(own))
                && !["./home/deploy", "./var/www/html", "./home", "./var/www"].contains(&path)
                && !path.starts_with("./var/lib/sudo")
                && !path.starts_with("./var/mail")
        };
        let changed: Vec<&str> =
            changed.lines().filter(|line| is_roots(line.split(' ').next().unwrap_or_default())).collect();
        let leaks = format!(
            "! cat /tmp/ran-as 2>/dev/null | grep -x 0
            find /tmp /run/lock {SITE} /home -xdev -mindepth 1 -user root -newer /tmp/began ! -path /tmp/attempt ! -path /tmp/began
            ! grep -rlsF {CANARY} /tmp /home {SITE}"
        );
        changed.join("\n") + self.blue.sh(&leaks).either_way().text()
    }

    /// Restores deploy's files, so that attempts are independent.
    pub fn recover(&self) {
        self.blue
            .sh(&format!(
                "find /tmp -mindepth 1 -delete
                find /home/deploy {SITE} -mindepth 1 -delete 2>/dev/null || :
                rm -rf /home/deploy {SITE}
                cp -a /root/home-before /home/deploy; cp -a /root/site-before {SITE}; touch /tmp/began; sleep 0.01"
            ))
            .ok();
    }
}

/// Lists all writes on a machine. Removed files are hard links to one whiteout, whose times mean nothing.
fn written(machine: &Machine) -> String {
    let line = |line: &str| line.split_once(" c 0 ").map_or(line, |(path, _)| path).to_owned();
    machine.written().lines().map(line).collect::<Vec<_>>().join("\n")
}

/// Records the user, environment, and descriptors that a program started by deploy has.
const SPY: &str = "id -u >>/tmp/ran-as; env >>/tmp/env; ls -l /proc/self/fd >>/tmp/fds; \
    cat <&7 >>/tmp/seven 2>/dev/null; cat /proc/$PPID/environ >>/tmp/parent 2>/dev/null; \
    cat /proc/$PPID/fd/7 >>/tmp/parent 2>/dev/null; true";

#[test]
fn on_a_server_with_apache() {
    besiege("--web-server apache");
}

#[test]
fn on_a_server_without_a_web_server() {
    besiege("--web-server none --gate");
}

fn besiege(options: &str) {
    let Some(siege) = Siege::set_up(options) else { return };
    let spy = SPY.replace('\'', "");
    siege.attempt("nothing", "true");
    // Redirected paths.
    siege
        .attempt("the repository is a symlink to root's", "mv sample_app real; ln -s /root/clone sample_app");
    siege.attempt(
        "the repository's path leads through `..` to root's",
        "mkdir x; mv sample_app real; ln -s ../deploy/x/.. x/y; ln -s x/y/../../../root/clone sample_app",
    );
    siege.attempt(
        "`.git` is a symlink to root's repository",
        "mv sample_app real; mkdir sample_app; ln -s /root/clone sample_app/.git",
    );
    siege.attempt(
        "parts of the repository are symlinks to root's files",
        "cd sample_app; rm -rf HEAD objects config; ln -s /root/clone/objects objects; ln -s /root/secret HEAD; ln -s /root/secret config",
    );
    siege.attempt(
        "alternates and `commondir` point to root's repository",
        "cd sample_app; mkdir -p objects/info; echo /root/clone/objects >objects/info/alternates; echo /root/clone >commondir",
    );
    siege
        .attempt("the config is a symlink to root's secret", "ln -sf /root/secret sample_app/bluegreen.toml");
    siege.attempt(
        "git's config includes root's secret",
        "printf '[core]\nattributesFile = /root/secret\n[include]\npath = /root/secret\n' >>sample_app/config",
    );
    // Redirected writes.
    siege.attempt(
        "state files are symlinks to root's",
        "cd /var/www/html/.bluegreen; for file in history.jsonl lock publishing looked-at; do ln -sfn /root/.bashrc $file; done",
    );
    siege.attempt(
        "records contain shell commands",
        "cd /var/www/html/.bluegreen; sed -i 's|^commit = .*|commit = \"\\\\ntouch /root/pwned\\\\n\"|' releases/*.toml
        ln -sf /root/.bashrc history.jsonl",
    );
    siege.attempt(
        "the state directory is a symlink to root's",
        "cd /var/www/html; mv .bluegreen old; ln -s /root .bluegreen",
    );
    siege.attempt(
        "the logs directory is a symlink to root's",
        "cd /var/www/html/.bluegreen; rm -rf logs releases; ln -s /root logs; ln -s /root releases",
    );
    siege.attempt(
        "`releases` is a symlink to `/etc`",
        "cd /var/www/html; mv releases old; ln -s /etc releases",
    );
    siege.attempt(
        "`current` is a symlink to `/etc`",
        "ln -sfn /etc /var/www/html/current; mkfifo /var/www/html/.bluegreen/fifo",
    );
    siege.attempt(
        "the configured site is root's",
        "printf '[site]\\nroot = \"/root/site\"\\n' >sample_app/bluegreen.toml",
    );
    siege.attempt(
        "the configured site is a symlink to root's",
        "ln -s /root/site here; printf '[site]\\nroot = \"/home/deploy/here\"\\n' >sample_app/bluegreen.toml",
    );
    siege.attempt(
        "`shared` is a symlink to root's home",
        "ln -s /root /var/www/html/shared; printf '[shared]\\ndirs = [\"new\"]\\nfiles = [\"secret\"]\\n' >>sample_app/bluegreen.toml",
    );
    siege.attempt(
        "a state file is a fifo",
        "cd /var/www/html/.bluegreen; rm -f history.jsonl; mkfifo history.jsonl",
    );
    // Executed programs.
    siege.attempt(
        "steps inspect their environment",
        &format!("cat >>sample_app/bluegreen.toml <<'end'\n[steps]\nbuild = '{spy}'\ncheck = '{spy}'\nrestart = '{spy}'\nverify = '{spy}'\nend
            sed -i '/^\\[steps\\]/{{n;/^#/d}}' sample_app/bluegreen.toml; awk '!/^\\[steps\\]/ || !n++' sample_app/bluegreen.toml >new; mv new sample_app/bluegreen.toml; chmod 644 sample_app/bluegreen.toml"),
    );
    siege.attempt(
        "git's config and hooks run programs",
        &format!(
            "cat >spy <<'end'\n#!/bin/sh\n{SPY}\ncat\nend
            chmod 755 spy; cd sample_app
            for hook in update reference-transaction pre-receive post-update; do cp ../spy hooks/$hook; done
            git config core.fsmonitor /home/deploy/spy; git config core.pager /home/deploy/spy
            git config core.sshCommand /home/deploy/spy; git config core.gitProxy /home/deploy/spy
            git config credential.helper /home/deploy/spy; git config filter.lfs.smudge /home/deploy/spy
            git config filter.lfs.process /home/deploy/spy; git config filter.spy.smudge /home/deploy/spy
            mkdir -p info; echo '* filter=spy' >info/attributes
            mkdir -p ~/.config/git; cp config ~/.gitconfig; cp config ~/.config/git/config"
        ),
    );
    siege.attempt_with(
        "root runs the hook by its path",
        "true",
        &["rollback", "deploy", "status"].map(|command| format!("{REPO}/hooks/post-receive {command}")),
    );
    siege.attempt_with(
        "`GIT_DIR` points to a symlink",
        "mv sample_app real; ln -s /root/clone sample_app",
        &["status", "rollback", "deploy"].map(|command| format!("env GIT_DIR={REPO} bluegreen {command}")),
    );
}

/// Control: a root program that trusts deploy is detected, in each way in which an attempt can succeed.
#[test]
fn a_program_that_trusts_deploy_is_detected() {
    let Some(mut siege) = Siege::set_up("--web-server none") else { return };
    let spy = SPY.replace('\'', "");
    let trusting: [(&str, &str, &str, &str); 6] = [
        (
            "writes through a symlink",
            "ln -sf /root/.bashrc /var/www/html/.bluegreen/history.jsonl",
            "cp /etc/hostname /var/www/html/.bluegreen/history.jsonl",
            "./root/.bashrc",
        ),
        ("gives a directory away", "ln -s /root/site here", "chown deploy: /home/deploy/here", "./root/site"),
        (
            "runs git as root with deploy's git config",
            "printf '#!/bin/sh\\nid -u >>/tmp/ran-as\\n' >spy; chmod 755 spy; git -C sample_app config alias.look '!/home/deploy/spy'",
            "git -c safe.directory=* -C /home/deploy/sample_app look",
            "0\n",
        ),
        (
            "copies a secret",
            "ln -sf /root/secret sample_app/bluegreen.toml",
            "cp /home/deploy/sample_app/bluegreen.toml /var/www/html/.bluegreen/log",
            "/var/www/html/.bluegreen/log\n",
        ),
        (
            "leaves a file owned by root",
            "true",
            "touch /var/www/html/.bluegreen/of-root",
            "/var/www/html/.bluegreen/of-root\n",
        ),
        (
            "passes on its environment and descriptors",
            &format!("echo '{spy}' >spy"),
            "runuser -u deploy -- sh /home/deploy/spy",
            "/tmp/env\n",
        ),
    ];
    for (what, as_deploy, command, breach) in trusting {
        let said = siege.try_it(as_deploy, &[command.to_owned()]);
        let breaches = siege.breaches();
        assert!(breaches.contains(breach), "{what}: {breaches}\n{said}");
        // Do not count its changes to root's files again.
        siege.recover();
        siege.before = written(&siege.blue);
    }
}

/// Continuously exchanges two directories, one of which is a symlink to root's repository. Whichever root
/// finds, it either works as deploy or fails.
#[test]
fn commands_are_safe_while_directories_are_exchanged() {
    let Some(siege) = Siege::set_up("--web-server none") else { return };
    siege.recover();
    siege
        .as_deploy(&format!(
            "mkdir -p race/a race/b; mv sample_app race/a/app; ln -s /root/clone race/b/app; ln -s race/a/app sample_app
            git -C race/a/app config filter.spy.smudge 'id -u >>/tmp/ran-as; cat'
            mkdir -p race/a/app/info; echo '* filter=spy' >race/a/app/info/attributes
            ln -sf /root/.bashrc {SITE}/.bluegreen/history.jsonl"
        ))
        .ok();
    let runs: u32 = std::env::var("BLUEGREEN_RACES").map_or(300, |runs| runs.parse().unwrap());
    let race = siege.blue.start(
        "root",
        &format!(
            "runuser -u deploy -- perl -e '
                my ($a, $b) = (\"/home/deploy/race/a\", \"/home/deploy/race/b\");
                syscall({RENAMEAT2}, -100, $a, -100, $b, 2) while !-e \"/tmp/stop\"' &
            foreign=0; n=0
            while [ $n -lt {runs} ]; do
                n=$((n + 1))
                case $((n % 3)) in 0) command=rollback ;; 1) command=status ;; 2) command=deploy ;; esac
                bluegreen -C {REPO} $command >/tmp/said 2>&1 || :
                ! grep -q 'root cannot work in' /tmp/said || foreign=$((foreign + 1))
            done
            touch /tmp/stop; wait; rm -f /tmp/said /tmp/stop; echo $foreign"
        ),
    );
    let said = race.finish();
    // Both places were visited, so there was a race.
    let foreign: u32 = said.trim().parse().unwrap();
    assert!(foreign > 10 && foreign + 10 < runs, "{said}");
    siege.holds("the race");
    siege.blue.sh("cat /root/.bashrc; ls -A /root/site").ok().lacks("commit").lacks("releases");
}

/// The system call's number, because perl has no wrapper for it.
const RENAMEAT2: u32 = if cfg!(target_arch = "aarch64") { 276 } else { 316 };
