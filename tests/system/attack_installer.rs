//! Attempts by the deploy user to gain root through `install.sh`. Everyone who may push runs programs as that
//! user, so everything that it can write is hostile to root. After each attempt root runs the installer to
//! upgrade with a new key and a new sudo rule, lists and removes keys, and uninstalls. No file of root's may
//! change its owner, mode, or content, no sudo rule may appear that root did not type, and no secret may
//! leak.

use crate::attack_session::{self, SPY as SESSION_SPY, script, type_at_terminal};
use crate::lab::Lab;
use crate::machine::{Machine, difference};

/// A secret that only root can read: on disk, in the environment, and on a descriptor.
const CANARY: &str = "canary-52ac09";

const INSTALLER: &str = "/root/bluegreen/install.sh --binary /root/bluegreen/program";

/// Records the environment and open files of its user's processes, as long as they live.
const SPY: &str = r#"
    open(my $out, ">", "/tmp/spied"); $out->autoflush(1);
    while (-e "/tmp/spied") {
        for my $process (grep { -O && $_ ne "/proc/$$" } glob "/proc/[0-9]*") {
            my @words = map { readlink } glob "$process/fd/*";
            if (open(my $in, "<", "$process/environ")) { local $/ = "\0"; push @words, <$in>; }
            for my $word (@words) { print $out "$word\n" unless $seen{$word}++; }
        }
    }"#;

struct Siege {
    blue: Machine,
    options: &'static str,
    site: &'static str,
    roots: String,
    _lab: Lab,
}

impl Siege {
    fn set_up(options: &'static str, site: &'static str) -> Option<Self> {
        let lab = Lab::new()?;
        let (blue, dev) = (lab.server("blue"), lab.client("dev"));
        blue.sh(&format!(
            "umask 077; mkdir -p /root/.ssh /opt/boss/sub
            echo {CANARY} | tee /root/secret >/root/.ssh/authorized_keys; cp /root/secret /opt/boss/sub/file
            git init -q --bare /root/clone; chmod 755 /opt/boss; echo boss >/opt/boss/index.html"
        ))
        .ok();
        blue.write("/root/new.pub", &dev.public_key("stranger"));
        blue.install_for(&dev, options).ok();
        dev.commit("App v1", "one");
        dev.push("deploy@blue:sample_app master").ok();
        blue.sh(&format!(
            "cp -a /home/deploy /srv/home; cp -a {site} /srv/site; cp -a /var/lib/bluegreen /srv/ledgers"
        ))
        .ok();
        let siege = Self { blue, options, site, roots: String::new(), _lab: lab };
        let roots = siege.roots_own();
        Some(Self { roots, ..siege })
    }

    /// Lists root's files that have nothing to do with deployments: owner, mode, times, size, and content.
    fn roots_own(&self) -> String {
        let listing = self.blue.sh(
            "find /root/secret /root/.ssh /root/.bashrc /root/clone /opt /etc -xdev \\( -path /etc/apache2 -o -path /etc/ssl \\
                -o -path /etc/sudoers.d -o -path /etc/ssh -o -path '/etc/*.lock' -o -path '/etc/*-' -o -path /etc/passwd \\
                -o -path /etc/shadow -o -path /etc \\) -prune -o -printf '%p %y %m %U %G %s %T@ %C@ %l\\n'
            cat /root/.bashrc /root/secret /root/.ssh/authorized_keys /opt/boss/index.html",
        );
        listing.ok().text().to_owned()
    }

    /// Runs the attack as deploy in its home, then runs the installer as root.
    fn attempt(&self, what: &str, attack: &str) {
        self.blue.sh("rm -rf /tmp/*").ok();
        self.blue.sh_as("deploy", attack).ok();
        // As an administrator would: with a terminal, a secret in the environment, and an open file.
        let root = |options: &str| {
            let line = format!("{INSTALLER} {options}");
            self.blue
                .sh(&format!("SECRET={CANARY} script -qec \"{line}\" /dev/null 7</root/secret"))
                .either_way();
            self.holds(&format!("{what}, then {options}"));
        };
        root(&format!("{} --key carol=/root/new.pub --sudo '/usr/bin/true x'", self.options));
        root("--keys");
        root("--remove-key carol");
        root("--uninstall");
        self.recover();
    }

    fn holds(&self, what: &str) {
        assert_eq!(difference(&self.roots, &self.roots_own()), "", "{what}");
        let site = self.site;
        let places = "/home/deploy /var/www /tmp /var/lib/bluegreen";
        let leaks =
            self.blue.sh(&format!("find {places} -type f -exec grep -ls {CANARY} {{}} + 2>/dev/null || :"));
        assert_eq!(leaks.ok().text(), "", "{what}");
        let deploy = self.blue.sh("id -u deploy").ok().text().trim().to_owned();
        let written = self.blue.written();
        let own = ["./home/deploy", "./srv/", "./var/mail/deploy", &format!(".{site}")];
        let foreign = written.lines().filter(|line| {
            !own.iter().any(|own| line.starts_with(own)) && line.split(' ').nth(3) == Some(&deploy)
        });
        assert_eq!(foreign.collect::<Vec<_>>(), Vec::<&str>::new(), "{what}: deploy owns");
        let rules = self.blue.sh("cat /etc/sudoers.d/bluegreen-* 2>/dev/null | grep -v '^#' || :").ok();
        assert!(
            rules.text().lines().all(|rule| rule == "deploy ALL=(root) CWD=/ NOPASSWD: /usr/bin/true x"),
            "{what}: {}",
            rules.text()
        );
        let spied = self.blue.sh("cat /tmp/spied 2>/dev/null || :").ok();
        for secret in ["/dev/pts", "/root/", CANARY] {
            assert!(!spied.text().contains(secret), "{what}: {}", spied.text());
        }
        if what.starts_with("a look") {
            // The only file through which the installer lets deploy write is a temporary one.
            assert!(spied.text().contains("/tmp/tmp."), "{what}: {}", spied.text());
        }
    }

    /// Restores the home, the site, and the ledgers.
    fn recover(&self) {
        let site = self.site;
        self.blue
            .sh(&format!(
                "rm -rf /home/deploy {site} /var/lib/bluegreen
                cp -a /srv/home /home/deploy; [ -e {site} ] || cp -a /srv/site {site}; cp -a /srv/ledgers /var/lib/bluegreen"
            ))
            .ok();
    }
}

#[test]
fn on_a_server_with_a_site_in_the_users_home() {
    let options = "--web-server none --site /home/deploy/public";
    let Some(siege) = Siege::set_up(options, "/home/deploy/public") else { return };
    siege.attempt("the site is a symlink to root's directory", "mv public real; ln -s /opt/boss public");
    siege.attempt("the site is a file", "rm -rf public; echo >public");
    siege.attempt("the site is removed", "rm -rf public");
    siege.attempt(
        "the key file is a symlink to root's",
        "ln -sf /root/.ssh/authorized_keys .ssh/authorized_keys",
    );
}

#[test]
fn on_a_server_with_apache() {
    let site = "/var/www/html";
    let Some(siege) = Siege::set_up("--web-server apache", site) else { return };
    siege.attempt("deploy inspects its user's processes", &format!("perl -e '{SPY}' >/dev/null 2>&1 &"));
    siege.attempt(
        "the account's commands are symlinks to root's files",
        "mkdir git-shell-commands; cd git-shell-commands; ln -s /root/secret .repositories
        for name in ..repositories .command .status; do ln -s /root/.ssh/authorized_keys $name.bluegreen-new; done",
    );
    siege.attempt(
        "the key file is a symlink to root's",
        "ln -sf /root/.ssh/authorized_keys .ssh/authorized_keys",
    );
    siege.attempt("`.ssh` is a symlink to root's", "rm -rf .ssh; ln -s /root/.ssh .ssh");
    siege.attempt(
        "temporary names are symlinks to root's files",
        "for name in authorized_keys id; do ln -s /root/.bashrc .ssh/.$name.bluegreen-new; done; ln -s /root/.bashrc .bluegreen-new",
    );
    siege.attempt("the key file is a fifo", "rm .ssh/authorized_keys; mkfifo .ssh/authorized_keys");
    siege.attempt(
        "the config contains root's directory and a sudo step",
        "printf '[site]\\nroot = \"/opt/boss\"\\n[steps]\\nrestart = [\"sudo /bin/sh /home/deploy/x\"]\\n' >sample_app/bluegreen.toml",
    );
    siege.attempt(
        "the config contains a sudo step",
        "sed -i 's|^#restart = .*|restart = [\"sudo /usr/bin/id\"]|' sample_app/bluegreen.toml",
    );
    siege.attempt(
        "the config contains shell expansions",
        "sed -i 's|^branch = .*|branch = \"x`id`\"|; s|^server = .*|server = \"$(cat /root/secret)\\\\u001b[2J\"|' sample_app/bluegreen.toml",
    );
    siege
        .attempt("the config is a symlink to root's secret", "ln -sf /root/secret sample_app/bluegreen.toml");
    siege
        .attempt("the repository is a symlink to root's", "mv sample_app real; ln -s /root/clone sample_app");
    siege.attempt(
        "the hooks are symlinks to root's home",
        "rm -rf sample_app/hooks; ln -s /root sample_app/hooks; ln -sf /root/secret sample_app/config",
    );
    siege.attempt(
        "the site's directories are symlinks to root's",
        &format!(
            "cd {site}; rm -rf .bluegreen releases shared current; ln -s /root .bluegreen; ln -s /opt/boss releases
            ln -s /opt/boss shared; ln -s /etc current"
        ),
    );
    siege.attempt(
        "the site to adopt contains symlinks to root's files",
        &format!("cd {site}; rm -rf current; ln -s /root/secret index.html; ln -s /opt/boss boss"),
    );
}

/// Continuously exchanges deploy's keys with root's.
#[test]
fn the_installer_is_safe_while_keys_are_exchanged() {
    let Some(siege) = Siege::set_up("--web-server none", "/var/www/html") else { return };
    siege.blue.sh_as("deploy", "ln -s /root/.ssh other").ok();
    let exchange = if cfg!(target_arch = "aarch64") { 276 } else { 316 };
    let race = siege.blue.start(
        "root",
        &format!(
            "runuser -u deploy -- perl -e '
                my ($a, $b) = (\"/home/deploy/.ssh\", \"/home/deploy/other\");
                syscall({exchange}, -100, $a, -100, $b, 2) while !-e \"/tmp/stop\"' &
            for i in 1 2 3 4 5; do
                {INSTALLER} --key /root/new.pub >/dev/null 2>&1 || :
                {INSTALLER} --remove-key stranger >/dev/null 2>&1 || :
            done
            touch /tmp/stop; wait"
        ),
    );
    race.finish();
    siege.holds("the race");
}

/// The installer runs programs as the deploy user. This runs one as it does, from root's terminal, in a session with a key.
#[test]
fn a_program_of_the_users_finds_neither_roots_terminal_nor_its_keyring() {
    let Some(siege) = Siege::set_up("--web-server none", "/var/www/html") else { return };
    let blue = &siege.blue;
    blue.write("/tmp/spy", &script(SESSION_SPY));
    blue.write(
        "/root/as-deploy",
        "set -eu; SCRATCH=$(mktemp -d); grep '^    exec </dev/null$' /root/bluegreen/install.sh; exec </dev/null; cd /root/bluegreen/packaging/setup; . ./ledger.sh; . ./system.sh
        as deploy perl /tmp/spy || :
        as root perl /tmp/spy || :",
    );
    let deploy = blue.sh("id -u deploy").ok().text().trim().to_owned();
    type_at_terminal(blue, &[(0.5, "bash /root/as-deploy\\n"), (3.0, "")]);
    // What it runs as root is root's own, and proves that there is something to find.
    let found = blue.sh("cat /tmp/found").ok();
    let (by_deploy, by_root) = found.text().split_once("ran as 0\n").unwrap();
    assert_eq!(by_deploy, format!("ran as {deploy}\n"), "it ran, and found nothing");
    assert!(by_root.contains("a terminal\n") && by_root.contains(attack_session::CANARY), "{by_root}");
}
