//! A new machine: a minimal Debian, and both commands of the README.
//!
//! It uses the host's network, because it downloads missing packages from the host's sources.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::booted::{build_base, own_suite};
use crate::lab::Lab;
use crate::machine::{Machine, children_of, wait_until_up};

const CLONE: &str = env!("CARGO_MANIFEST_DIR");

/// Run by `unshare` as PID 1: a machine over the base `$1`. The other arguments are host directories that are
/// visible on it. Writes stay in memory.
const MAKE: &str = r#"
mount -t tmpfs -o mode=755 lab /mnt
mkdir /mnt/written /mnt/work /mnt/root
mount -t overlay -o lowerdir="$1",upperdir=/mnt/written,workdir=/mnt/work lab /mnt/root
mount -t tmpfs -o mode=1777 tmpfs /mnt/root/tmp
shift
n=0
for directory; do
    n=$((n + 1))
    mkdir -p "/mnt/written$n" "/mnt/work$n" "/mnt/root$directory"
    mount -t overlay -o lowerdir="$directory",upperdir="/mnt/written$n",workdir="/mnt/work$n" lab "/mnt/root$directory"
done
cd /mnt/root
mount -t proc proc proc
mount -t sysfs sysfs sys
mount --rbind /dev dev
mount -t devpts -o newinstance,ptmxmode=0666,mode=0620 devpts dev/pts
# The way to the network is the host's own.
cp /etc/resolv.conf /etc/hosts etc
cp /etc/ssl/certs/ca-certificates.crt root/ca.crt
cp /etc/apt/apt.conf.d/*proxy* etc/apt/apt.conf.d 2>/dev/null || :
trap '' CHLD
# Whoever comes in takes the root directory of this process, so it is up only once that is the machine's.
exec chroot /mnt/root sh -c 'echo up; exec cat >/dev/null'
"#;

#[test]
fn the_demonstration_runs_on_a_debian_without_rust() {
    if Lab::new().is_none() {
        return;
    }
    // Debian 13's cargo is too old, but its cargo-web is not.
    let machine = machine("trixie", &[]);
    machine.sh("! command -v cargo git cc curl").ok();
    copy_clone(&machine);
    // Without root, it prints one command to run.
    machine.sh("useradd --create-home ann").ok();
    machine
        .sh_as("ann", "/clone/install.sh --demo")
        .ends_with_status(1)
        .says("hint: sudo apt-get install -y git gcc libc6-dev ca-certificates curl");
    machine
        .sh(&format!("{} /clone/install.sh --demo", network()))
        .ok()
        .says("Installing by apt-get what is missing: git gcc libc6-dev ca-certificates curl cargo-web\n")
        .says("; blue serves App v2; green serves App v1\n")
        .says("remote: Not deployed: blue still serves ")
        .says(" is live again, instead of ")
        .says("Visitors during the promotions: ")
        .says(" requests, 0 failed: ")
        .says("The demonstration has removed ");
}

#[test]
fn the_tests_run_on_a_machine_with_nothing_but_rust() {
    if Lab::new().is_none() {
        return;
    }
    let (cargo, rustup) = (home_of("CARGO_HOME", ".cargo"), home_of("RUSTUP_HOME", ".rustup"));
    // Existing builds of the program and the servers are reused. The demonstration test shows that a build
    // works.
    let shown = [CLONE, &cargo, &rustup, "/var/cache/bluegreen-tests"];
    let shown: Vec<&str> = shown.into_iter().filter(|directory| Path::new(directory).is_dir()).collect();
    let machine = machine(&own_suite(), &shown);
    machine.sh("! command -v git cc nginx sshd shellcheck").ok();
    let tests = "push::the_branch_tip_is_deployed_rather_than_the_pushed_commit keys::history_names_the_key_that_pushed";
    machine
        .sh(&format!(
            "cd {CLONE}; {} CARGO_HOME={cargo} RUSTUP_HOME={rustup} PATH={cargo}/bin:$PATH CI=true tests/run {tests}",
            network()
        ))
        .ok()
        .says("Installing by apt-get what is missing: ")
        .says("test keys::history_names_the_key_that_pushed ... ok\n")
        .says("\n2 passed, 0 failed, 0 skipped\n");
}

/// Starts a machine with that Debian release, on which these host directories are visible.
pub fn machine(suite: &str, shown: &[&str]) -> Machine {
    let mut holder = Command::new("unshare")
        .args(["--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child"])
        .args(["sh", "-ec", MAKE, "sh", &build_base(suite, std::iter::empty())])
        .args(shown)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    wait_until_up(&mut holder);
    let init = children_of(&holder.id().to_string()).remove(0);
    Machine::held_by(holder, init, "fresh", "none")
}

/// Copies the files of a clone: tracked ones, and untracked ones that are not ignored.
fn copy_clone(machine: &Machine) {
    let list = "cd \"$1\" && git ls-files -z --cached --others --exclude-standard | tar --null -T - -c --ignore-failed-read >\"$2\"";
    let archive = tempfile::NamedTempFile::new().unwrap();
    let status = Command::new("sh").args(["-ec", list, "sh", CLONE]).arg(archive.path()).status();
    assert!(status.unwrap().success());
    machine.bring(archive.path(), "/clone.tar");
    machine.sh("mkdir /clone; tar -xf /clone.tar -C /clone --no-same-owner; rm /clone.tar").ok();
}

/// Returns the host's proxy and network variables.
fn network() -> String {
    let proxies = ["http_proxy", "https_proxy", "no_proxy"].iter().filter_map(|name| {
        let value = std::env::var(name).ok()?;
        Some(format!("{name}='{value}' "))
    });
    proxies.collect::<String>() + "CARGO_HTTP_CAINFO=/root/ca.crt"
}

fn home_of(variable: &str, name: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| format!("{}/{name}", std::env::var("HOME").unwrap()))
}
