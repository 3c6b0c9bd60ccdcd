//! Two sides, the developer who pushes to them and promotes them, and the front end.

use std::path::Path;

use crate::lab::Lab;
use crate::machine::{Background, Machine};
use crate::support::BLUEGREEN;
use crate::{BEFORE, OURS};

/// The time for which the public address is watched after the switch, in seconds.
const WATCH: f64 = 1.0;

/// The front end: responds in the name of the side that the file contains.
const FRONT: &str = r#"#!/usr/bin/python3
import http.server
class Front(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("X-Served-By", open("/home/dev/public").read().strip())
        self.send_header("Content-Length", "0")
        self.end_headers()
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", 8000), Front).serve_forever()
"#;

const SWITCH: &str = r#"#!/bin/sh
cd /home/dev || exit
case $1 in
    show) cat public ;;
    set) echo "$2" >public.new && mv public.new public ;;
esac
"#;

/// Runs a promotion, and prints the seconds until it prints its plan, "Checked", and "The front end shows", and in all.
const TIMES: &str = r#"#!/usr/bin/python3
import subprocess, sys, time
started = time.monotonic()
child = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
seen, text = {}, ""
for line in child.stdout:
    text += line
    for words in (" -> ", "Checked ", "The front end shows "):
        if words in line:
            seen.setdefault(words, time.monotonic() - started)
if child.wait() or len(seen) != 3:
    sys.exit(f"status {child.returncode}\n{text}")
print(*seen.values(), time.monotonic() - started)
"#;

/// The seconds from the start of a promotion until each of its steps, and its connections to each server.
pub struct Promotion {
    pub looked: f64,
    pub checked: f64,
    pub switched: f64,
    /// Does not include the configured time of the watch.
    pub total: f64,
    pub connections: f64,
}

pub struct Fleet {
    sides: [Machine; 2],
    dev: Machine,
    /// True if another client is compared.
    pub has_before: bool,
    count: usize,
    version: usize,
    _front: Background,
    _lab: Lab,
}

impl Fleet {
    /// Starts two sides of that many servers.
    pub fn boot(most: usize) -> Option<Self> {
        let lab = Lab::new()?;
        eprintln!("Setting up {} servers...", 2 * most);
        let dev = lab.client("dev");
        dev.bring(Path::new(BLUEGREEN), OURS);
        let before = std::env::var_os("BENCH_BEFORE");
        if let Some(before) = &before {
            dev.bring(Path::new(before), BEFORE);
        }
        for (path, text) in [
            ("/usr/local/bin/front", FRONT),
            ("/home/dev/switch", SWITCH),
            ("/usr/local/bin/time-promotion", TIMES),
        ] {
            dev.write(path, text);
            dev.sh(&format!("chmod 755 {path}")).ok();
        }
        let front = dev.start("dev", "echo blue >public; exec /usr/local/bin/front");
        dev.commit("Version 0", "Version 0");
        let sides = ["blue", "green"].map(|name| side(&lab, &dev, name, most));
        let has_before = before.is_some();
        let mut fleet = Self { sides, dev, has_before, count: 0, version: 0, _front: front, _lab: lab };
        fleet.configure(most);
        fleet.dev.sh_as("dev", "cd sample_app; bluegreen push --trust blue && bluegreen push green").ok();
        Some(fleet)
    }

    /// Uses the first servers of both sides.
    pub fn configure(&mut self, count: usize) {
        self.count = count;
        let side = |name: &str| {
            let servers = (1..=count).map(|number| format!("\"s{number}@{name}:app\""));
            format!("{name} = [{}]\n", servers.collect::<Vec<_>>().join(", "))
        };
        let (blue, green) = (side("blue"), side("green"));
        let config = format!(
            "[sides]\n{blue}{green}[public]\nurl = \"http://127.0.0.1:8000/\"\nswitch = \"/home/dev/switch\"\n\
             [watch]\nfor = \"{WATCH}s\"\n"
        );
        self.dev.write("/home/dev/sample_app/.promote.toml", &config);
        self.dev.sh_as("dev", "cd sample_app; bluegreen public --trust >/dev/null || :").ok();
    }

    /// Promotes the side that is not public.
    pub fn promote(&mut self, program: &str) -> Promotion {
        let connections = || -> f64 {
            let count = |side: &Machine| {
                let ran = side.sh("grep -c 'Accepted publickey' /var/log/sshd.log || :").ok();
                ran.text().trim().parse::<f64>().unwrap()
            };
            self.sides.iter().map(count).sum()
        };
        let before = connections();
        let ran =
            self.dev.sh_as("dev", &format!("cd sample_app; time-promotion {program} promote --yes")).ok();
        let times: Result<Vec<f64>, _> = ran.text().split_whitespace().map(str::parse).collect();
        let Ok(&[looked, checked, switched, total]) = times.as_deref() else { panic!("{}", ran.text()) };
        let connections = (connections() - before) / (2 * self.count) as f64;
        Promotion { looked, checked, switched, total: total - WATCH, connections }
    }

    /// Commits a changed line and pushes it to blue. Returns the seconds.
    pub fn push(&mut self, program: &str) -> f64 {
        self.version += 1;
        self.dev.commit(&format!("Version {}", self.version), "Change the page");
        let script = format!(
            "cd sample_app; begun=$(date +%s.%N); {program} push blue >/tmp/pushed 2>&1 || {{ cat /tmp/pushed; exit 1; }}
            echo \"$(date +%s.%N) - $begun\" | bc"
        );
        self.dev.sh_as("dev", &script).ok().text().trim().parse().unwrap()
    }

    /// Makes the first server of blue take two seconds longer for each connection.
    pub fn slow_down(&self, is_slow: bool) {
        let shell = if is_slow { "/usr/local/bin/slow" } else { "/bin/bash" };
        self.sides[0].sh(&format!("usermod --shell {shell} s1")).ok();
    }
}

/// Starts the machine of a side, with an account for each server.
fn side(lab: &Lab, dev: &Machine, name: &str, most: usize) -> Machine {
    let machine = lab.machine(name);
    machine.bring(Path::new(BLUEGREEN), OURS);
    machine.write("/tmp/dev.pub", &dev.public_key("id_ed25519"));
    machine.write("/usr/local/bin/slow", "#!/bin/sh\nsleep 2\nexec /bin/bash \"$@\"\n");
    machine.write(
        "/etc/nginx/nginx.conf",
        &format!(
            "user www-data;\nworker_processes 1;\nevents {{}}\nhttp {{ access_log off; server {{ listen 80; root /srv/s1/current;\n\
             add_header X-Served-By {name} always; }} }}\n"
        ),
    );
    machine
        .sh(&format!(
            "chmod 755 /usr/local/bin/slow
            rm -f /etc/ssh/ssh_host_*; ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key
            /usr/sbin/sshd -E /var/log/sshd.log -o MaxStartups=1000 -o UseDNS=no >/dev/null 2>&1
            for number in $(seq {most}); do
                user=s$number
                useradd --create-home --shell /bin/bash $user
                install -d -m 700 -o $user /home/$user/.ssh
                install -m 600 -o $user /tmp/dev.pub /home/$user/.ssh/authorized_keys
                install -d -m 755 -o $user /srv/$user
                runuser -u $user -- git init -q --bare -b master /home/$user/app
                runuser -u $user -- ln -s {OURS} /home/$user/app/hooks/post-receive
                printf 'server = \"{name}\"\\n[site]\\nroot = \"/srv/%s\"\\n' $user >/home/$user/app/bluegreen.toml
                chown $user: /home/$user/app/bluegreen.toml
            done
            nginx >/dev/null 2>&1"
        ))
        .ok();
    machine
}
