//! Submodules over ssh, from a real sshd on loopback: nothing is fetched from an unknown host.

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::skip::{program_or_skip, root_or_skip, skip};
use crate::support::{Node, Run, Sandbox};

/// Puts root's home into the sandbox, because ssh reads it from the passwd entry instead of `HOME`.
const ELSEWHERE: &str = "mount --bind passwd /etc/passwd && mount --bind shadow /etc/shadow && \
     mount -t tmpfs none /run && mkdir -m 755 /run/sshd && exec \"$@\"";

/// A git server over ssh, with its own host key, that accepts the sandbox's user.
struct Sshd<'a> {
    sandbox: &'a Sandbox,
    daemon: Child,
    port: u16,
}

impl Drop for Sshd<'_> {
    fn drop(&mut self) {
        self.daemon.kill().unwrap();
        self.daemon.wait().unwrap();
    }
}

/// Returns the absolute path of sshd, which refuses to start without one.
fn sshd_or_skip() -> Option<&'static str> {
    let paths = ["/usr/sbin/sshd", "/usr/bin/sshd", "/usr/local/sbin/sshd"];
    let found = paths.into_iter().find(|path| Path::new(path).is_file());
    if found.is_none() {
        skip("`sshd` is not installed");
    }
    found
}

fn can_mount_or_skip() -> bool {
    let unshare = Command::new("unshare").args(["--mount", "true"]).status();
    let can = unshare.is_ok_and(|status| status.success());
    if !can {
        skip("this user cannot create namespaces");
    }
    can
}

/// Returns a command that runs with the sandbox's home as root's.
fn elsewhere(sandbox: &Sandbox) -> Command {
    let mut command = sandbox.command("unshare");
    command.args(["--mount", "sh", "-c", ELSEWHERE, "sh"]);
    command
}

impl<'a> Sshd<'a> {
    fn of(sandbox: &'a Sandbox) -> Option<Self> {
        let programs = ["ssh", "ssh-keygen", "unshare"];
        if !root_or_skip() || !programs.into_iter().all(program_or_skip) || !can_mount_or_skip() {
            return None;
        }
        let sshd = sshd_or_skip()?;
        let write = |path: &str, text: &str| std::fs::write(sandbox.path(path), text).unwrap();
        let home = sandbox.path("home");
        write(
            "passwd",
            &format!("root:x:0:0::{}:/bin/sh\nsshd:x:99:99::/run/sshd:/bin/false\n", home.display()),
        );
        write("shadow", "root:*:1::::::\n");
        std::fs::create_dir(home.join(".ssh")).unwrap();
        for key in ["host_key", "other_key", "home/.ssh/id_ed25519"] {
            let mut keygen = sandbox.command("ssh-keygen");
            keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"]).arg(sandbox.path(key));
            assert!(keygen.status().unwrap().success());
        }
        let at = |path: &str| sandbox.path(path).to_str().unwrap().to_owned();
        let (host_key, authorized) = (at("host_key"), at("home/.ssh/id_ed25519.pub"));
        // A port that is free now, because sshd cannot report a port that it chose itself.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        write(
            "sshd_config",
            &format!(
                "ListenAddress 127.0.0.1\nPort {port}\nHostKey {host_key}\nAuthorizedKeysFile {authorized}\n\
                 StrictModes no\nPermitRootLogin yes\nPasswordAuthentication no\nPidFile none\n"
            ),
        );
        let mut daemon = elsewhere(sandbox);
        daemon.args([sshd, "-D", "-e", "-f"]).arg(sandbox.path("sshd_config"));
        let log = std::fs::File::create(sandbox.path("sshd.log")).unwrap();
        let daemon = daemon.stdin(Stdio::null()).stderr(log).spawn().unwrap();
        let sshd = Self { sandbox, daemon, port };
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(10), "sshd does not respond: {}", sshd.log());
            std::thread::sleep(Duration::from_millis(10));
        }
        Some(sshd)
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.sandbox.path("sshd.log")).unwrap()
    }

    /// Returns whether any client authenticated with a key.
    fn accepted_a_key(&self) -> bool {
        self.log().contains("Accepted publickey for root")
    }

    /// Writes the owner's `known_hosts`, with this key for the server.
    fn set_known_host(&self, key: &str) {
        let key = std::fs::read_to_string(self.sandbox.path(key)).unwrap();
        let line = format!("[127.0.0.1]:{} {key}", self.port);
        std::fs::write(self.sandbox.path("home/.ssh/known_hosts"), line).unwrap();
    }

    /// Serves a repository, and adds its commit to the site as the submodule `lib`.
    fn add_submodule(&self) {
        let sandbox = self.sandbox;
        sandbox.commit_to("lib", "A library", &[(b"a.txt", Node::file("from afar"))]);
        let origin = sandbox.path("lib.git");
        sandbox.git(&["init", "--quiet", "--bare", "--initial-branch=lib", origin.to_str().unwrap()]);
        sandbox.git(&["push", "--quiet", origin.to_str().unwrap(), "lib"]);
        let url = format!("ssh://root@127.0.0.1:{}{}", self.port, origin.display());
        let gitmodules = format!("[submodule \"lib\"]\n\tpath = lib\n\turl = {url}\n");
        let commit = sandbox.id("lib");
        let old = sandbox.commit("index.html", "v1").commit(".gitmodules", &gitmodules).id("master");
        let tree = sandbox.git(&["ls-tree", "master"]) + &format!("\n160000 commit {commit}\tlib\n");
        let mut mktree = sandbox.git_command(&sandbox.clone_path());
        let made = sandbox.run_with_input(mktree.args(["mktree", "--missing"]), tree.as_bytes());
        assert!(made.status.success(), "{}", made.output);
        let new = sandbox.git(&["commit-tree", "-p", &old, "-m", "Add a submodule", made.output.trim()]);
        sandbox.git(&["update-ref", "refs/heads/master", &new]);
    }

    fn push(&self) -> Run<'a> {
        let sandbox = self.sandbox;
        let mut push = elsewhere(sandbox);
        push.arg("git").arg("-C").arg(sandbox.clone_path()).arg("push").arg(sandbox.repository());
        Run::new(sandbox, push.arg("master").stdin(Stdio::null()))
    }

    fn deploy(&self) -> Run<'a> {
        let mut deploy = elsewhere(self.sandbox);
        deploy.arg(crate::support::sandbox::BLUEGREEN).arg("-C").arg(self.sandbox.repository());
        Run::new(self.sandbox, deploy.arg("deploy").stdin(Stdio::null()))
    }
}

#[test]
fn unknown_hosts_are_rejected() {
    let sandbox = Sandbox::new();
    sandbox.site_config("submodules = \"fetch\"");
    let Some(sshd) = Sshd::of(&sandbox) else { return };
    sshd.add_submodule();
    let host = format!("[127.0.0.1]:{}", sshd.port);
    let refused = |problem: &str| {
        format!(
            "error: submodule `lib`: `git fetch` failed: {problem} and you have requested strict checking. \
             Host key verification failed."
        )
    };
    sshd.push()
        .not_deployed()
        .says(&refused(&format!("No ED25519 host key is known for {host}")))
        .serves_nothing();
    sshd.set_known_host("other_key.pub");
    sshd.deploy().fails(1).says(&refused(&format!("Host key for {host} has changed"))).serves_nothing();
    assert!(!sshd.accepted_a_key(), "{}", sshd.log());

    sshd.set_known_host("host_key.pub");
    sshd.deploy().ok().serves("lib/a.txt", "from afar").serves("index.html", "v1");
    assert!(sshd.accepted_a_key());
    let known = std::fs::read_to_string(sandbox.path("home/.ssh/known_hosts")).unwrap();
    assert_eq!(known.lines().count(), 1, "a host key was added: {known}");
    sandbox.is_tidy();
}
