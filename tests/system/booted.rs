//! A temporary server with a real systemd, which can boot, reboot, and lose power.
//!
//! Its root is an overlay over a base that `tests/system/base.sh` builds once per machine. Written files
//! persist across boots. A power cut loses no written data, even unflushed data: `disk_cuts` tests what a
//! disk loses, and this module what a boot does.

use std::io::{BufRead, BufReader, Write};
use std::iter;
use std::ops::Deref;
use std::path::Path;
use std::process::{ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use crate::machine::{Machine, children_of};

/// Run by `unshare` as PID 1. Each line on its standard input switches the server on. It prints `up` once,
/// and `down` with `systemd-nspawn`'s exit status after each shutdown. Every boot has its own control groups,
/// because two systemds in one group would stop each other's services.
const HOLD: &str = r#"
mount -t tmpfs -o mode=755 lab /mnt
mkdir /mnt/written /mnt/work /mnt/root
mount -t overlay -o lowerdir="$2",upperdir=/mnt/written,workdir=/mnt/work lab /mnt/root
echo "$1" >/mnt/root/etc/hostname
for unit in $4; do rm -f "/mnt/root/etc/systemd/system/multi-user.target.wants/$unit.service"; done
printf '127.0.0.1 localhost\n192.0.2.11 blue\n192.0.2.12 green\n' >/mnt/root/etc/hosts
echo up
while read -r _; do
    {
        for tree in /sys/fs/cgroup /sys/fs/cgroup/systemd /sys/fs/cgroup/unified; do
            [ -e "$tree/cgroup.procs" ] || continue
            mkdir -p "$tree/$3"
            sh -c 'echo $PPID >"$1"' sh "$tree/$3/cgroup.procs"
        done
        systemd-nspawn --quiet -D /mnt/root --register=no --keep-unit --private-network --resolv-conf=off \
            --link-journal=no --console=pipe -b </dev/null >>/mnt/console 2>&1 || status=$?
        echo "down ${status:-0}"
    } &
done
"#;

/// Services whose ports conflict with another service of the base. They are not started at boot.
const DISABLED: &str = "caddy nginx pebble";

/// `systemd-nspawn`'s exit status after a reboot request.
const WANTS_REBOOT: &str = "down 133\n";

/// A running server with systemd.
pub struct Booted {
    machine: Machine,
    said: BufReader<ChildStdout>,
    groups: String,
    bridge: u32,
}

impl Booted {
    /// Boots a new server over a root file system, and connects it to the bridge in the namespace of `bridge`.
    pub fn boot(name: &str, address: &str, bridge: u32, base: &str) -> Self {
        let groups = format!("bluegreen-tests-{bridge}-{name}");
        let mut holder = Command::new("unshare")
            .args(["--mount", "--mount-proc", "--pid", "--fork", "--kill-child"])
            .args(["sh", "-ec", HOLD, "sh", name, base, &groups, DISABLED])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(holder.stdout.take().unwrap());
        let machine = Machine::held_by(holder, String::new(), name, address);
        let mut server = Self { machine, said, groups, bridge };
        server.hears("up\n");
        server.switch_on();
        server
    }

    /// Kills the server's init, so that the kernel kills everything else on it. No process is notified and no
    /// service is stopped.
    pub fn lose_power(&mut self) {
        let killed = Command::new("kill").args(["-9", &self.machine.init]).status().unwrap();
        assert!(killed.success());
        let mut line = String::new();
        self.said.read_line(&mut line).unwrap();
        assert!(line.starts_with("down "), "{line}");
    }

    /// Boots the server, and waits until systemd has started everything.
    pub fn switch_on(&mut self) {
        self.machine.holder.stdin.as_mut().unwrap().write_all(b"on\n").unwrap();
        let until = Instant::now() + Duration::from_secs(60);
        let holder = children_of(&self.machine.holder.id().to_string()).remove(0);
        self.machine.init = loop {
            match init_below(&holder) {
                Some(init) => break init,
                None => assert!(Instant::now() < until, "the server does not boot"),
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        let state = loop {
            let state = self.sh("systemctl --wait is-system-running 2>&1").either_way();
            // Until systemd is far enough along, there is no response.
            if ["running\n", "degraded\n"].contains(&state.text()) {
                break state;
            }
            assert!(Instant::now() < until, "{}", state.text());
            std::thread::sleep(Duration::from_millis(50));
        };
        assert_eq!(state.text(), "running\n", "{}", self.sh("systemctl --failed").either_way().text());
        self.machine.connect(self.bridge);
    }

    /// Reboots the server as an administrator does.
    pub fn reboot(&mut self) {
        self.sh("systemctl reboot").ok();
        self.hears(WANTS_REBOOT);
        self.switch_on();
    }

    fn hears(&mut self, line: &str) {
        let mut heard = String::new();
        self.said.read_line(&mut heard).unwrap();
        assert_eq!(heard, line, "{:?}", self.machine.holder.try_wait());
    }
}

impl Deref for Booted {
    type Target = Machine;

    fn deref(&self) -> &Machine {
        &self.machine
    }
}

impl Drop for Booted {
    fn drop(&mut self) {
        drop(self.machine.holder.kill());
        drop(self.machine.holder.wait());
        // The kernel releases the namespaces asynchronously. Control groups are removed manually.
        let script = "sleep 0.2; for tree in /sys/fs/cgroup /sys/fs/cgroup/systemd /sys/fs/cgroup/unified; do
            find \"$tree/$1\" -depth -type d -exec rmdir {} +
        done";
        drop(Command::new("sh").args(["-c", script, "sh", &self.groups]).stderr(Stdio::null()).status());
    }
}

/// Returns the first process of the PID namespace below `process`.
fn init_below(process: &str) -> Option<String> {
    for child in children_of(process) {
        let status = std::fs::read_to_string(format!("/proc/{child}/status")).unwrap_or_default();
        let ids = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
        if ids.split_whitespace().last() == Some("1") {
            return Some(child);
        }
        if let Some(init) = init_below(&child) {
            return Some(init);
        }
    }
    None
}

/// Returns the base of a booted server: this machine's own Debian release, on which the program under test
/// runs.
pub fn base(packages: &str) -> String {
    build_base(&own_suite(), packages.split_whitespace())
}

/// Returns the code name of this machine's Debian release.
pub fn own_suite() -> String {
    let release = std::fs::read_to_string("/etc/os-release").unwrap();
    let suite = release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    suite.expect("a Debian").to_owned()
}

/// Builds a base unless this machine has it, and returns its path.
pub fn build_base<'a>(suite: &'a str, packages: impl Iterator<Item = &'a str>) -> String {
    built("base.sh", iter::once(suite).chain(packages))
}

/// Builds the image of a new server unless this machine has it, and returns its path. `architecture` is Debian's name,
/// by default that of this machine.
pub fn image(suite: &str, architecture: Option<&str>) -> String {
    built("image.sh", iter::once(suite).chain(architecture))
}

fn built<'a>(script: &str, arguments: impl Iterator<Item = &'a str>) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/system").join(script);
    let output = Command::new(&script).args(arguments).stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "{} failed", script.display());
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}
