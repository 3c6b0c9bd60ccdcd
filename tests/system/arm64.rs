//! A server for arm64: its package, and with a program for aarch64, everything up to a served page under qemu.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::booted::image;
use crate::lab::Lab;
use crate::machine::{Machine, children_of, wait_until_up};
use crate::new_server::{PUBLISHED, commands};
use crate::release::Signer;

/// Run by `packaging/emulated.sh` and `unshare` as PID 1: a machine over the image `$1`. Writes stay in memory. systemd does not
/// run under qemu, so its first process waits, as on the other machines without a boot.
const MAKE: &str = r#"
mount -t tmpfs -o mode=755 lab /mnt
mkdir /mnt/written /mnt/work /mnt/root
mount -t overlay -o userxattr,lowerdir="$1",upperdir=/mnt/written,workdir=/mnt/work lab /mnt/root
cd /mnt/root
mount -t proc proc proc
mount -t sysfs sysfs sys
mount --rbind /dev dev
mount -t devpts -o newinstance,ptmxmode=0666,mode=0620 devpts dev/pts
mount -t tmpfs tmpfs run
mkdir -p run/sshd run/lock
mount -t tmpfs -o mode=1777 tmpfs tmp
hostname blue
printf '127.0.0.1 localhost blue\n' >etc/hosts
ip link set lo up
trap '' CHLD
exec chroot /mnt/root sh -c 'echo up; exec cat >/dev/null'
"#;

/// Starts a new server for arm64, with a network of its own.
fn server() -> Machine {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/emulated.sh");
    let mut holder = Command::new(script)
        .args(["unshare", "--mount", "--uts", "--ipc", "--net", "--pid", "--fork", "--kill-child"])
        .args(["sh", "-ec", MAKE, "sh", &image("trixie", Some("arm64"))])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    wait_until_up(&mut holder);
    let unshare = children_of(&holder.id().to_string()).remove(0);
    let init = children_of(&unshare).remove(0);
    Machine::held_by(holder, init, "blue", "127.0.0.1")
}

// The test prints the durations.
#[allow(clippy::print_stdout)]
#[test]
fn a_server_for_arm64_gets_its_package_and_serves_a_page() {
    let Some(lab) = Lab::new() else { return };
    let Some(signer) = Signer::new() else { return };
    // Cross-compiling takes minutes, so a real program is opt-in. Without it, a script is packaged.
    let program = std::env::var("BLUEGREEN_AARCH64");
    signer.write("other", "#!/bin/sh\n");
    signer.write("urls", "REPOSITORY=\nHOMEPAGE=\nDOWNLOADS=\nAPT=file:/srv/apt\nFINGERPRINT=\n");
    let options = format!("--urls urls --binary aarch64 {}", program.as_deref().unwrap_or("other"));
    let release = signer.release_with("one", &options);

    // apt of another machine downloads the package of a server for arm64.
    let other = lab.machine("lb");
    other.bring_folder(&release.join("apt"), "/srv/apt", "root");
    other
        .sh("rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/*; cp /srv/apt/bluegreen.sources /etc/apt/sources.list.d
            dpkg --add-architecture arm64; apt-get update; cd /tmp; apt-get download bluegreen:arm64
            dpkg-deb --field bluegreen_*_arm64.deb Package Architecture Depends")
        .ok()
        // The program is static, so it needs no library.
        .says("Package: bluegreen\nArchitecture: arm64\nDepends: adduser, git (>= 1:2.29), passwd\n");
    if program.is_err() {
        return;
    }

    let server = server();
    server.bring_folder(&release.join("apt"), "/srv/apt", "root");
    server.sh("uname -m; ! command -v git cc cargo make apache2 nginx bluegreen").ok().says("aarch64\n");
    server
        .sh("ssh-keygen -q -t ed25519 -N '' -C dev -f .ssh/id_ed25519; cp .ssh/id_ed25519.pub developer.pub")
        .ok();
    server.write("/etc/apt/apt.conf.d/yes", "APT::Get::Assume-Yes \"true\";\n");
    let began = Instant::now();
    for command in commands("bluegreen.sources https") {
        let began = Instant::now();
        server.sh(&command.replace(PUBLISHED, "file:/srv/apt")).ok();
        println!("{:.1} s: {command}", began.elapsed().as_secs_f64());
    }
    server
        .sh("/usr/sbin/sshd
            git init -q -b master app; cd app; echo App v1 >index.html; git add .
            git -c user.name=Dev -c user.email=dev@example.org commit -qm v1
            export GIT_SSH_COMMAND='ssh -o StrictHostKeyChecking=accept-new'
            git push deploy@blue:sample_app master; curl -sS http://localhost/; ssh deploy@blue status")
        .ok()
        .says("is live")
        .says("App v1\n");
    println!("from a new trixie for arm64 to a served page: {:.1} s", began.elapsed().as_secs_f64());
}
