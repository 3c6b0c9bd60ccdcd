//! One throw-away machine: everything that the host has, under an overlay that takes what is written
//! into memory, with processes, mounts, a host name and a network of its own.
//!
//! Its first process reads from a pipe of ours. When the pipe closes, be it by `Drop` or because the
//! tests were killed, that process ends, and the kernel ends all the others and drops the mounts.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

/// Run by `unshare`, as process 1. The overlay shows the host's root file system without what is
/// mounted in it, so `/proc` and its like are new. Ignoring SIGCHLD has the kernel reap orphans.
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

/// A running machine.
pub struct Machine {
    name: String,
    address: String,
    /// Holds the machine's namespaces; it ends, and they with it, when its standard input closes.
    pub holder: Child,
    /// The process whose namespaces a command on the machine enters.
    pub init: String,
}

/// The result of a command on a machine. One that is dropped without `ok`, `fails` or the like fails
/// the test: nobody would know what became of it.
pub struct Ran {
    judged: bool,
    what: String,
    status: i32,
    text: String,
}

/// A command that goes on while the test does.
pub struct Background {
    child: Child,
}

impl Machine {
    /// Starts a machine and joins it to the bridge that lies in the namespace of `bridge`.
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

    /// A machine of which `init` is a process, and `holder` the one that keeps it.
    pub fn held_by(holder: Child, init: String, name: &str, address: &str) -> Self {
        Self { name: name.into(), address: address.into(), holder, init }
    }

    /// Lays a cable from the machine to the bridge in the namespace of that process.
    pub fn connect(&self, bridge: u32) {
        let (name, address, init) = (&self.name, &self.address, &self.init);
        // A card keeps its number when the machine boots again, or the others would not find it for a while.
        let card = format!("02:00:00:00:00:{:0>2}", address.rsplit('.').next().unwrap());
        // The cable of a machine whose power was cut may still lie there.
        let cable = format!(
            "ip link del port-{name} 2>/dev/null || :
            ip link add port-{name} type veth peer name eth0 address {card} netns {init}
            ip link set port-{name} master lab up"
        );
        let status =
            Command::new("nsenter").args(["-t", &bridge.to_string(), "-n", "sh", "-ec", &cable]).status();
        assert!(status.unwrap().success(), "could not connect {name}");
        self.sh(&format!("ip addr add {address}/24 dev eth0; ip link set eth0 up")).ok();
    }

    /// The machine's own address.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Runs a shell script as root.
    pub fn sh(&self, script: &str) -> Ran {
        self.sh_as("root", script)
    }

    /// Runs a shell script as that user, in their home directory.
    pub fn sh_as(&self, user: &str, script: &str) -> Ran {
        let output = self.command(user, script).stdin(Stdio::null()).output().unwrap();
        Ran::new(format!("{user}@{}: {script}", self.name), &output)
    }

    /// Starts a shell script as that user, and lets it run.
    pub fn start(&self, user: &str, script: &str) -> Background {
        let mut command = self.command(user, script);
        Background { child: command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap() }
    }

    /// Asks `host` as a visitor at this machine: gives the page, or curl's complaint.
    pub fn get(&self, host: &str) -> String {
        self.sh(&format!("curl -sS --max-time 5 http://{host}/")).either_way().text().trim_end().to_owned()
    }

    /// A visitor gets that page, if not at once, then within seconds: nginx takes up a new config
    /// in its own time.
    pub fn soon_gets(&self, host: &str, page: &str) {
        for _ in 0..50 {
            if self.get(host) == page {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        assert_eq!(self.get(host), page);
    }

    /// The HTTP status of a page.
    pub fn status_of(&self, url: &str) -> String {
        self.sh(&format!("curl -sS -o /dev/null -w '%{{http_code}}' --max-time 5 {url}"))
            .either_way()
            .text()
            .trim_end()
            .to_owned()
    }

    /// Writes a file of root's.
    pub fn write(&self, path: &str, content: &str) {
        let mut child = self
            .command("root", &format!("mkdir -p \"$(dirname {path})\" && cat >{path}"))
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(content.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success(), "could not write {path}");
    }

    /// Brings what a clone of this project holds for the installer, and the program, to `/root/bluegreen`.
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

    /// Copies a file of the host's here, executable; the host's disk may not show through where
    /// it is another mount.
    pub fn bring(&self, file: &Path, path: &str) {
        let mut child = self
            .command("root", &format!("mkdir -p \"$(dirname {path})\" && cat >{path} && chmod 755 {path}"))
            .stdin(std::fs::File::open(file).unwrap())
            .spawn()
            .unwrap();
        assert!(child.wait().unwrap().success(), "could not bring {}", file.display());
    }

    /// Copies a folder of the host's here, owned by that user.
    pub fn bring_folder(&self, folder: &Path, path: &str, user: &str) {
        let mut tar = Command::new("tar");
        tar.arg("-C").arg(folder).args(["--exclude=__pycache__", "-cf", "-", "."]);
        let mut packed = tar.stdout(Stdio::piped()).spawn().unwrap();
        let unpack =
            format!("mkdir -p {path} && tar -C {path} --no-same-owner -xf - && chown -R {user}: {path}");
        let unpacked = self.command("root", &unpack).stdin(packed.stdout.take().unwrap()).status().unwrap();
        assert!(
            packed.wait().unwrap().success() && unpacked.success(),
            "could not bring {}",
            folder.display()
        );
    }

    /// Runs the installer with these options and the program under test.
    pub fn install(&self, options: &str) -> Ran {
        self.sh(&format!("/root/bluegreen/install.sh --binary /root/bluegreen/program {options}"))
    }

    /// Runs the installer with a key that may push, which is the client's.
    pub fn install_for(&self, client: &Self, options: &str) -> Ran {
        self.write("/tmp/dev.pub", &client.public_key("id_ed25519"));
        self.install(&format!("--key /tmp/dev.pub {options}"))
    }

    /// The public half of one of dev's keys.
    pub fn public_key(&self, name: &str) -> String {
        self.sh(&format!("cat /home/dev/.ssh/{name}.pub")).ok().text().to_owned()
    }

    /// Everything that was ever written on this machine, but for logs and what lies in memory only:
    /// a line for each path, with mode, owner, size and the times of its last changes.
    pub fn written(&self) -> String {
        let output = Command::new("nsenter")
            .args(["-t", &self.init, "-m", "sh", "-ec"])
            .arg("cd /mnt/written && find . -path ./var/log -prune -o -printf '%p %y %m %U %G %s %T@ %C@ %l\\n' | sort")
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Lists the paths that were written since [`Machine::written`] was asked, a line for each.
    pub fn changed_since(&self, before: &str) -> String {
        difference(before, &self.written())
    }

    /// As dev: a new version of the application, with `index.html` of that content.
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

    /// As dev: `git push` of these arguments.
    pub fn push(&self, arguments: &str) -> Ran {
        self.sh_as("dev", &format!("cd sample_app && git push {arguments}"))
    }

    fn command(&self, user: &str, script: &str) -> Command {
        let home = if user == "root" { "/root".into() } else { format!("/home/{user}") };
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.init, "-m", "-u", "-i", "-n", "-p", "--root", "--wdns=/"]);
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
    /// The result of a command that ran elsewhere.
    pub fn new(what: String, output: &Output) -> Self {
        let text =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        // git pads what it passes on from the server.
        let text = text.lines().map(|line| line.trim_end().to_owned() + "\n").collect();
        Self { judged: false, what, status: output.status.code().unwrap_or(-1), text }
    }

    /// It ended with status 0.
    pub fn ok(self) -> Self {
        self.ends_with_status(0)
    }

    /// It ended with that status.
    pub fn ends_with_status(mut self, status: i32) -> Self {
        self.judged = true;
        assert_eq!(self.status, status, "{}\n{}", self.what, self.text);
        self
    }

    /// It failed, whatever the status.
    pub fn fails(mut self) -> Self {
        self.judged = true;
        assert_ne!(self.status, 0, "{}\n{}", self.what, self.text);
        self
    }

    /// It may end as it likes.
    pub fn either_way(mut self) -> Self {
        self.judged = true;
        self
    }

    /// It printed that somewhere.
    pub fn says(self, words: &str) -> Self {
        assert!(self.text.contains(words), "{}\nlacks: {words}\n{}", self.what, self.text);
        self
    }

    /// It did not print that.
    pub fn lacks(self, words: &str) -> Self {
        assert!(!self.text.contains(words), "{}\nhas: {words}\n{}", self.what, self.text);
        self
    }

    /// All that it printed.
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl Drop for Ran {
    fn drop(&mut self) {
        assert!(self.judged || std::thread::panicking(), "nobody looked at how this ended: {}", self.what);
    }
}

impl Background {
    /// Waits for its end, and tells what it printed.
    pub fn finish(self) -> String {
        let output = self.child.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }
}

/// The lines that only one of two listings has.
pub fn difference(before: &str, after: &str) -> String {
    let (before, after): (BTreeSet<&str>, BTreeSet<&str>) =
        (before.lines().collect(), after.lines().collect());
    before.symmetric_difference(&after).copied().collect::<Vec<_>>().join("\n")
}

/// The processes that a process has started.
pub fn children_of(process: &str) -> Vec<String> {
    let children = std::fs::read_to_string(format!("/proc/{process}/task/{process}/children"));
    children.unwrap_or_default().split_whitespace().map(str::to_owned).collect()
}

/// Waits for the line by which a process says that it has set itself up.
pub fn wait_until_up(child: &mut Child) {
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "up\n", "it did not come up: {:?}", child.wait());
}
