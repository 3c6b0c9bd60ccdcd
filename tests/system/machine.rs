//! A temporary machine: the host's file system under an overlay that keeps writes in memory, with its own
//! processes, mounts, host name, and network.
//!
//! Its first process reads from a pipe. When the pipe closes, by `Drop` or because the tests were killed,
//! that process exits, and the kernel kills all others and releases the mounts.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

/// Run by `unshare` as PID 1. The overlay shows the host's root file system without the mounts in it, so
/// `/proc` and similar ones are mounted again. Ignoring SIGCHLD makes the kernel reap orphans.
const BOOT: &str = r#"
mount -t tmpfs -o mode=755 lab /mnt
mkdir /mnt/written /mnt/work /mnt/root
mount -t overlay -o lowerdir=/,upperdir=/mnt/written,workdir=/mnt/work lab /mnt/root
cd /mnt/root
mount -t proc proc proc
mount -t sysfs sysfs sys
mount --rbind /dev dev
mount -t devpts -o newinstance,ptmxmode=0666,mode=0620 devpts dev/pts
mount -t tmpfs tmpfs run
mount -t tmpfs -o mode=1777 tmpfs tmp
mkdir -p run/sshd run/lock
hostname "$1"
echo "$1" >etc/hostname
# What the host's own administrator did is not to count here.
rm -rf var/lib/bluegreen usr/local/bin/bluegreen usr/sbin/policy-rc.d
# Indexing the manual pages takes seconds after each package, and no test searches them.
rm -f var/lib/man-db/auto-update
cat >etc/hosts <<'EOT'
127.0.0.1 localhost
192.0.2.11 blue
192.0.2.12 green
192.0.2.14 lb
192.0.2.21 blue-1
192.0.2.22 blue-2
192.0.2.31 green-1
192.0.2.32 green-2
EOT
ip link set lo up
trap '' CHLD
# Whoever comes in takes the root directory of this process, so it is up only once that is the machine's.
exec chroot /mnt/root sh -c 'echo up; exec cat >/dev/null'
"#;

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

pub struct Machine {
    name: String,
    address: String,
    /// The process that keeps the machine's namespaces alive. It exits when its standard input closes.
    pub holder: Child,
    /// The process whose namespaces commands on the machine enter.
    pub init: String,
}

/// The result of a command on a machine. Dropping it without `ok`, `fails`, or a similar check fails the
/// test.
pub struct Ran {
    judged: bool,
    what: String,
    status: i32,
    text: String,
}

/// A command that runs in the background of the test.
pub struct Background {
    child: Child,
}

impl Machine {
    /// Starts a machine and connects it to the bridge in the namespace of `bridge`.
    pub fn boot(name: &str, address: &str, bridge: u32) -> Self {
        let mut holder = Command::new("unshare")
            .args(["--mount", "--uts", "--ipc", "--net", "--pid", "--fork", "--kill-child"])
            .args(["sh", "-ec", BOOT, "sh", name])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        wait_until_up(&mut holder);
        let init = children_of(&holder.id().to_string()).remove(0);
        let machine = Self::held_by(holder, init, name, address);
        machine.connect(bridge);
        machine
    }

    /// Wraps a machine whose namespaces `init` is in and `holder` keeps alive.
    pub fn held_by(holder: Child, init: String, name: &str, address: &str) -> Self {
        Self { name: name.into(), address: address.into(), holder, init }
    }

    /// Connects the machine to the bridge in that process's namespace.
    pub fn connect(&self, bridge: u32) {
        let (name, address, init) = (&self.name, &self.address, &self.init);
        // The MAC address survives reboots. Otherwise the other machines could not reach this one for a
        // while.
        let number: u8 = address.rsplit('.').next().unwrap().parse().unwrap();
        let card = format!("02:00:00:00:00:{number:02x}");
        // A machine whose power was cut may have left its interface behind.
        let cable = format!(
            "ip link del port-{name} 2>/dev/null || :
            ip link add port-{name} type veth peer name eth0 address {card} netns {init}
            ip link set port-{name} master lab up"
        );
        let status =
            Command::new("nsenter").args(["-t", &bridge.to_string(), "-n", "sh", "-ec", &cable]).status();
        assert!(status.unwrap().success(), "cannot connect {name}");
        self.sh(&format!("ip addr add {address}/24 dev eth0; ip link set eth0 up")).ok();
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    /// Runs a shell script as root.
    pub fn sh(&self, script: &str) -> Ran {
        self.sh_as("root", script)
    }

    /// Runs a shell script as a user, in the user's home directory.
    pub fn sh_as(&self, user: &str, script: &str) -> Ran {
        let output = self.command(user, script).stdin(Stdio::null()).output().unwrap();
        Ran::new(format!("{user}@{}: {script}", self.name), &output)
    }

    /// Starts a shell script as a user, in the background.
    pub fn start(&self, user: &str, script: &str) -> Background {
        let mut command = self.command(user, script);
        Background { child: command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap() }
    }

    /// Requests `host` as a visitor on this machine. Returns the page, or curl's error.
    pub fn get(&self, host: &str) -> String {
        self.sh(&format!("curl -sS --max-time 5 http://{host}/")).either_way().text().trim_end().to_owned()
    }

    /// Waits until a visitor gets that page. nginx may need a moment to apply a new config.
    pub fn soon_gets(&self, host: &str, page: &str) {
        for _ in 0..50 {
            if self.get(host) == page {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        assert_eq!(self.get(host), page);
    }

    /// Returns the HTTP status of a page.
    pub fn status_of(&self, url: &str) -> String {
        self.sh(&format!("curl -sS -o /dev/null -w '%{{http_code}}' --max-time 5 {url}"))
            .either_way()
            .text()
            .trim_end()
            .to_owned()
    }

    /// Writes a file as root.
    pub fn write(&self, path: &str, content: &str) {
        let mut child = self
            .command("root", &format!("mkdir -p \"$(dirname {path})\" && cat >{path}"))
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(content.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success(), "cannot write {path}");
    }

    /// Copies the installer's files from the clone, and the program, to `/root/bluegreen`.
    pub fn bring_installer(&self) {
        let clone = env!("CARGO_MANIFEST_DIR");
        let program = env!("CARGO_BIN_EXE_bluegreen");
        self.bring(Path::new(program), "/root/bluegreen/program");
        for file in [
            "install.sh",
            "demo.sh",
            "packaging/demo.pl",
            "packaging/building.sh",
            "share/bluegreen.toml",
            "share/systemd/bluegreen@.service",
        ] {
            self.bring(&Path::new(clone).join(file), &format!("/root/bluegreen/{file}"));
        }
        for folder in ["front-end", "pair", "stacks", "switches", "web"] {
            let folder = format!("share/{folder}");
            self.bring_folder(&Path::new(clone).join(&folder), &format!("/root/bluegreen/{folder}"), "root");
        }
        for part in Path::new(clone).join("packaging/setup").read_dir().unwrap() {
            let part = part.unwrap();
            let name = part.file_name().into_string().unwrap();
            self.bring(&part.path(), &format!("/root/bluegreen/packaging/setup/{name}"));
        }
    }

    /// Copies a file from the host and makes it executable. The overlay does not show files on other mounts
    /// of the host.
    pub fn bring(&self, file: &Path, path: &str) {
        let mut child = self
            .command("root", &format!("mkdir -p \"$(dirname {path})\" && cat >{path} && chmod 755 {path}"))
            .stdin(std::fs::File::open(file).unwrap())
            .spawn()
            .unwrap();
        assert!(child.wait().unwrap().success(), "cannot copy {}", file.display());
    }

    /// Copies a folder from the host, and makes a user its owner.
    pub fn bring_folder(&self, folder: &Path, path: &str, user: &str) {
        let mut tar = Command::new("tar");
        tar.arg("-C").arg(folder).args(["--exclude=__pycache__", "-cf", "-", "."]);
        let mut packed = tar.stdout(Stdio::piped()).spawn().unwrap();
        let unpack =
            format!("mkdir -p {path} && tar -C {path} --no-same-owner -xf - && chown -R {user}: {path}");
        let unpacked = self.command("root", &unpack).stdin(packed.stdout.take().unwrap()).status().unwrap();
        assert!(packed.wait().unwrap().success() && unpacked.success(), "cannot copy {}", folder.display());
    }

    /// Runs the installer with these options and the program under test.
    pub fn install(&self, options: &str) -> Ran {
        self.sh(&format!("/root/bluegreen/install.sh --binary /root/bluegreen/program {options}"))
    }

    /// Runs the installer with the client's key as one that may push.
    pub fn install_for(&self, client: &Self, options: &str) -> Ran {
        self.write("/tmp/dev.pub", &client.public_key("id_ed25519"));
        self.install(&format!("--key /tmp/dev.pub {options}"))
    }

    /// Returns the public half of one of dev's keys.
    pub fn public_key(&self, name: &str) -> String {
        self.sh(&format!("cat /home/dev/.ssh/{name}.pub")).ok().text().to_owned()
    }

    /// Lists every path written on this machine, except logs and memory file systems, with mode, owner, size,
    /// and times.
    pub fn written(&self) -> String {
        let output = Command::new("nsenter")
            .args(["-t", &self.init, "-m", "sh", "-ec"])
            .arg("cd /mnt/written && find . -path ./var/log -prune -o -printf '%p %y %m %U %G %s %T@ %C@ %l\\n' | sort")
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Lists the paths written since an earlier call of [`Machine::written`].
    pub fn changed_since(&self, before: &str) -> String {
        difference(before, &self.written())
    }

    /// Commits a new version of the application as dev, with this content in `index.html`.
    pub fn commit(&self, content: &str, message: &str) {
        self.sh_as(
            "dev",
            &format!(
                "[ -d sample_app ] || git init -q sample_app; cd sample_app
                echo '{content}' >index.html; git add -A; git commit -qm '{message}'"
            ),
        )
        .ok();
    }

    /// Runs `git push` with these arguments as dev.
    pub fn push(&self, arguments: &str) -> Ran {
        self.sh_as("dev", &format!("cd sample_app && git push {arguments}"))
    }

    fn command(&self, user: &str, script: &str) -> Command {
        let home = if user == "root" { "/root".into() } else { format!("/home/{user}") };
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.init, "-m", "-u", "-i", "-n", "-p", "--root", "--wdns=/"]);
        // A machine of another architecture has users of its own.
        let users = |process: &str| std::fs::read_link(format!("/proc/{process}/ns/user")).ok();
        if users(&self.init) != users("self") {
            command.arg("-U");
        }
        command.args(["env", "-i", PATH, "LC_ALL=C.UTF-8", &format!("HOME={home}")]);
        if user != "root" {
            command.args(["runuser", "-u", user, "--"]);
        }
        command.args(["sh", "-ec", &format!("cd; exec 2>&1\n{script}")]);
        command
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        drop(self.holder.kill());
        drop(self.holder.wait());
    }
}

impl Ran {
    /// Wraps the result of a command that ran elsewhere.
    pub fn new(what: String, output: &Output) -> Self {
        let text =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        // git pads the lines that it relays from the server.
        let text = text.lines().map(|line| line.trim_end().to_owned() + "\n").collect();
        Self { judged: false, what, status: output.status.code().unwrap_or(-1), text }
    }

    /// Asserts that it exited with status 0.
    pub fn ok(self) -> Self {
        self.ends_with_status(0)
    }

    /// Asserts that it exited with this status.
    pub fn ends_with_status(mut self, status: i32) -> Self {
        self.judged = true;
        assert_eq!(self.status, status, "{}\n{}", self.what, self.text);
        self
    }

    /// Asserts that it failed with any status.
    pub fn fails(mut self) -> Self {
        self.judged = true;
        assert_ne!(self.status, 0, "{}\n{}", self.what, self.text);
        self
    }

    /// Accepts any exit status.
    pub fn either_way(mut self) -> Self {
        self.judged = true;
        self
    }

    /// Asserts that the output contains this text.
    pub fn says(self, words: &str) -> Self {
        assert!(self.text.contains(words), "{}\nlacks: {words}\n{}", self.what, self.text);
        self
    }

    /// Asserts that the output does not contain this text.
    pub fn lacks(self, words: &str) -> Self {
        assert!(!self.text.contains(words), "{}\nhas: {words}\n{}", self.what, self.text);
        self
    }

    /// Returns the output.
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl Drop for Ran {
    fn drop(&mut self) {
        assert!(
            self.judged || std::thread::panicking(),
            "the exit status of this command was not checked: {}",
            self.what
        );
    }
}

impl Background {
    /// Waits for it to exit, and returns its output.
    pub fn finish(self) -> String {
        let output = self.child.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }
}

/// Returns the lines that only one of two listings contains.
pub fn difference(before: &str, after: &str) -> String {
    let (before, after): (BTreeSet<&str>, BTreeSet<&str>) =
        (before.lines().collect(), after.lines().collect());
    before.symmetric_difference(&after).copied().collect::<Vec<_>>().join("\n")
}

/// Returns the child processes of a process.
pub fn children_of(process: &str) -> Vec<String> {
    let children = std::fs::read_to_string(format!("/proc/{process}/task/{process}/children"));
    children.unwrap_or_default().split_whitespace().map(str::to_owned).collect()
}

/// Waits until a process prints that it is up.
pub fn wait_until_up(child: &mut Child) {
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "up\n", "the machine did not start: {:?}", child.wait());
}
