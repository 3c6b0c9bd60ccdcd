//! The deploy user's attempts on root by way of `install.sh`. Whoever may push runs programs as that user,
//! so everything that it can write is hostile to root. After each attempt root runs the installer for an
//! upgrade with a new key and a new rule for sudo, lists and removes keys, and uninstalls. Nothing of
//! root's changes owner, mode or content, no rule appears that root did not type, and no secret comes out.

use crate::lab::Lab;
use crate::machine::{Machine, difference};

/// Only root can read it: on the disk, in the environment and on a descriptor.
const CANARY: &str = "canary-52ac09";

const INSTALLER: &str = "/root/bluegreen/install.sh --binary /root/bluegreen/program";

/// Writes down what the processes of its user have open, and their environment, as long as they live.
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
    fn lay(options: &'static str, site: &'static str) -> Option<Self> {
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

    /// Lists files of root's that have nothing to do with deployments: owner, mode, times, size and content.
    fn roots_own(&self) -> String {
        let listing = self.blue.sh(
            "find /root/secret /root/.ssh /root/.bashrc /root/clone /opt /etc -xdev \\( -path /etc/apache2 -o -path /etc/ssl \\
                -o -path /etc/sudoers.d -o -path /etc/ssh -o -path '/etc/*.lock' -o -path '/etc/*-' -o -path /etc/passwd \\
                -o -path /etc/shadow -o -path /etc \\) -prune -o -printf '%p %y %m %U %G %s %T@ %C@ %l\\n'
            cat /root/.bashrc /root/secret /root/.ssh/authorized_keys /opt/boss/index.html",
        );
        listing.ok().text().to_owned()
    }

    /// deploy does that in its home; then root works with the installer.
    fn attempt(&self, what: &str, attack: &str) {
        self.blue.sh("rm -rf /tmp/*").ok();
        self.blue.sh_as("deploy", attack).ok();
        // As an admin does: with a terminal, a secret in the environment, and a file open.
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
            // What the installer lets deploy write to is a file of its own.
            assert!(spied.text().contains("/tmp/tmp."), "{what}: {}", spied.text());
        }
    }

    /// Puts home, site and ledgers back to what they were.
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
    let Some(siege) = Siege::lay(options, "/home/deploy/public") else { return };
    siege.attempt("the site leads to root's", "mv public real; ln -s /opt/boss public");
    siege.attempt("the site is a file", "rm -rf public; echo >public");
    siege.attempt("the site is gone", "rm -rf public");
    siege.attempt("the keys are root's", "ln -sf /root/.ssh/authorized_keys .ssh/authorized_keys");
}

#[test]
fn on_a_server_with_apache() {
    let site = "/var/www/html";
    let Some(siege) = Siege::lay("--web-server apache", site) else { return };
    siege.attempt("a look at all that runs as deploy", &format!("perl -e '{SPY}' >/dev/null 2>&1 &"));
    siege.attempt(
        "commands of the account lead to root's",
        "mkdir git-shell-commands; cd git-shell-commands; ln -s /root/secret .repositories
        for name in ..repositories .command .status; do ln -s /root/.ssh/authorized_keys $name.bluegreen-new; done",
    );
    siege.attempt("the keys are root's", "ln -sf /root/.ssh/authorized_keys .ssh/authorized_keys");
    siege.attempt("all keys are root's", "rm -rf .ssh; ln -s /root/.ssh .ssh");
    siege.attempt(
        "the next keys are root's",
        "for name in authorized_keys id; do ln -s /root/.bashrc .ssh/.$name.bluegreen-new; done; ln -s /root/.bashrc .bluegreen-new",
    );
    siege.attempt("the keys are a fifo", "rm .ssh/authorized_keys; mkfifo .ssh/authorized_keys");
    siege.attempt(
        "the config names root's directory and asks for sudo",
        "printf '[site]\\nroot = \"/opt/boss\"\\n[steps]\\nrestart = [\"sudo /bin/sh /home/deploy/x\"]\\n' >sample_app/bluegreen.toml",
    );
    siege.attempt(
        "the config asks for sudo",
        "sed -i 's|^#restart = .*|restart = [\"sudo /usr/bin/id\"]|' sample_app/bluegreen.toml",
    );
    siege.attempt(
        "the config speaks to the shell",
        "sed -i 's|^branch = .*|branch = \"x`id`\"|; s|^server = .*|server = \"$(cat /root/secret)\\\\u001b[2J\"|' sample_app/bluegreen.toml",
    );
    siege.attempt("the config is root's", "ln -sf /root/secret sample_app/bluegreen.toml");
    siege.attempt("the repository is root's", "mv sample_app real; ln -s /root/clone sample_app");
    siege.attempt(
        "the hooks are root's",
        "rm -rf sample_app/hooks; ln -s /root sample_app/hooks; ln -sf /root/secret sample_app/config",
    );
    siege.attempt(
        "the state of the site is root's",
        &format!(
            "cd {site}; rm -rf .bluegreen releases shared current; ln -s /root .bluegreen; ln -s /opt/boss releases
            ln -s /opt/boss shared; ln -s /etc current"
        ),
    );
    siege.attempt(
        "the site is to be adopted",
        &format!("cd {site}; rm -rf current; ln -s /root/secret index.html; ln -s /opt/boss boss"),
    );
}

/// The keys are deploy's and root's in turns all the time.
#[test]
fn while_the_keys_are_exchanged() {
    let Some(siege) = Siege::lay("--web-server none", "/var/www/html") else { return };
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
