//! The network of the temporary machines: a bridge in its own namespace, so that no interface appears on the
//! host. It disappears with the [`Lab`], or when the tests exit.

use std::process::{Child, Command, Stdio};

use crate::booted::{Booted, base, image};
use crate::machine::{Machine, wait_until_up};
use crate::skip::skip;

/// Programs that the tests need in the host's `PATH`.
const NEEDED: [&str; 16] = [
    "unshare",
    "nsenter",
    "ip",
    "arping",
    "git",
    "sshd",
    "apache2ctl",
    "nginx",
    "curl",
    "wrk",
    "adduser",
    "sudo",
    "ssh-keygen",
    "man",
    "mmdebstrap",
    "systemd-nspawn",
];

/// A network with an address for each machine. The addresses are from a range reserved for documentation.
pub struct Lab {
    bridge: Child,
}

impl Lab {
    /// Creates the network. Skips the test if that is impossible: see `main`.
    pub fn new() -> Option<Self> {
        if let Some(reason) = unable() {
            skip(&reason);
            return None;
        }
        let mut bridge = Command::new("unshare")
            .args(["--net", "sh", "-ec"])
            .arg("ip link add lab type bridge; ip link set lab up; ip link set lo up; echo up; exec cat >/dev/null")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        wait_until_up(&mut bridge);
        Some(Self { bridge })
    }

    /// Starts a server on which only packages are installed.
    pub fn server(&self, name: &str) -> Machine {
        let server = self.machine(name);
        server
            .sh("rm -f /etc/ssh/ssh_host_*; ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key; /usr/sbin/sshd")
            .ok();
        server.bring_installer();
        server
    }

    /// Starts a developer's machine, with the user `dev`, who has an ssh key.
    pub fn client(&self, name: &str) -> Machine {
        let client = self.machine(name);
        client
            .sh("useradd --create-home dev
                cd /home/dev
                install -d -m 700 -o dev .ssh
                printf 'StrictHostKeyChecking accept-new\\nBatchMode yes\\nConnectTimeout 10\\n' >.ssh/config
                runuser -u dev -- ssh-keygen -q -t ed25519 -N '' -C dev@example.org -f .ssh/id_ed25519
                runuser -u dev -- ssh-keygen -q -t ed25519 -N '' -C stranger -f .ssh/stranger
                printf '[user]\\nname = Dev\\nemail = dev@example.org\\n[init]\\ndefaultBranch = master\\n' >.gitconfig
                # An answer to who has an address counts at once, however fresh the one before.
                echo 0 >/proc/sys/net/ipv4/neigh/eth0/locktime")
            .ok();
        client
    }

    /// Starts a machine without any service.
    pub fn machine(&self, name: &str) -> Machine {
        let machine = Machine::boot(name, &address_of(name), self.bridge.id());
        // The default key exchange takes most of a connection's processor time. Benchmarks, which share this code, keep it.
        if cfg!(test) {
            machine.write("/etc/ssh/ssh_config.d/tests.conf", "KexAlgorithms curve25519-sha256\n");
        }
        machine
    }

    /// Boots a server with systemd, on which only packages are installed.
    pub fn booted(&self, name: &str) -> Booted {
        self.booted_with(name, include_str!("booted-packages"))
    }

    /// Like [`Self::booted`], with other packages.
    pub fn booted_with(&self, name: &str, packages: &str) -> Booted {
        let server = self.boot(name, &base(packages));
        server.bring_installer();
        server
    }

    /// Boots a server with systemd as a provider delivers it: see `image.sh`.
    pub fn new_server(&self, name: &str, suite: &str) -> Booted {
        self.boot(name, &image(suite, None))
    }

    fn boot(&self, name: &str, base: &str) -> Booted {
        Booted::boot(name, &address_of(name), self.bridge.id(), base)
    }
}

/// Returns a machine's address, as in every machine's /etc/hosts.
fn address_of(name: &str) -> String {
    let number = match name {
        _ if name.starts_with("server-") => 100 + name["server-".len()..].parse::<u8>().unwrap(),
        "blue" => 11,
        "green" => 12,
        "lb" => 14,
        "blue-1" => 21,
        "blue-2" => 22,
        "green-1" => 31,
        "green-2" => 32,
        _ => 13,
    };
    format!("192.0.2.{number}")
}

impl Drop for Lab {
    fn drop(&mut self) {
        // The namespace ends with its last process.
        drop(self.bridge.kill());
        drop(self.bridge.wait());
    }
}

fn unable() -> Option<String> {
    let id = Command::new("id").arg("-u").output().ok()?;
    if id.stdout != b"0\n" {
        return Some("not root".into());
    }
    let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let missing = NEEDED.iter().find(|program| {
        !path.split(':').any(|directory| std::path::Path::new(directory).join(program).exists())
    });
    if let Some(missing) = missing {
        return Some(format!("`{missing}` is not installed"));
    }
    let namespaces =
        Command::new("unshare").args(["--mount", "--net", "--pid", "--fork", "true"]).status().ok()?;
    (!namespaces.success()).then(|| "this root cannot create namespaces".into())
}
