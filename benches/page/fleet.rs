//! A static site on many servers, each with its own sshd and nginx.

use std::path::Path;

use crate::Times;
use crate::lab::Lab;
use crate::machine::Machine;
use crate::support::BLUEGREEN;
use crate::tools::{Recipe, SITES, Tool, install_capistrano, install_peers, install_timer, seconds_until};

/// The site of bluegreen on each server, with the standard names.
const BLUE: (&str, u16) = ("/var/www/html/current", 80);

/// Measures the tools with 1, 10, and 50 servers.
pub fn measure(runs: usize, mut print: impl FnMut(usize, Times)) {
    let counts = std::env::var("BENCH_SERVERS").unwrap_or_else(|_| "1 10 50".into());
    let counts: Vec<usize> = counts.split_whitespace().map(|count| count.parse().unwrap()).collect();
    let Some(lab) = Lab::new() else { return };
    let dev = lab.client("dev");
    install_timer(&dev);
    dev.bring(Path::new(BLUEGREEN), "/usr/local/bin/bluegreen");
    dev.bring_folder(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/static"),
        "/home/dev/sample_app",
        "dev",
    );
    dev.sh_as("dev", "cd sample_app; git init -q; git add -A; git commit -qm 'Version 1'").ok();
    let most = counts.iter().copied().max().unwrap_or_default();
    eprintln!("Setting up {most} servers...");
    let servers: Vec<Machine> = (1..=most).map(|number| server(&lab, &dev, number)).collect();
    // Capistrano's servers fetch from the first one, by a protocol without handshakes.
    servers[0]
        .sh("git daemon --detach --reuseaddr --export-all --base-path=/home/web --user=web >/dev/null 2>&1")
        .ok();
    let mut version = 1;
    for count in counts {
        eprintln!("Measuring with {count} servers...");
        let hosts: Vec<String> = servers[..count].iter().map(|server| server.address().to_owned()).collect();
        connect(&dev, &hosts);
        let times = Times::measure(runs, |tool| {
            version += 1;
            let change = format!(
                "cd sample_app; sed -i -E '0,/Version [0-9]+/s//Version {version}/' index.html; git commit -qam {version}"
            );
            dev.sh_as("dev", &change).ok();
            deploy(&dev, &hosts, tool, version)
        });
        print(count, times);
    }
}

/// Starts a server with all three tools.
fn server(lab: &Lab, dev: &Machine, number: usize) -> Machine {
    let server = lab.machine(&format!("server-{number}"));
    server.sh("rm -f /etc/ssh/ssh_host_*; ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key; /usr/sbin/sshd").ok();
    server.bring(Path::new(BLUEGREEN), "/usr/local/bin/bluegreen");
    install_peers(&server, dev, &Recipe::default());
    server
        .sh("useradd --create-home --shell /bin/bash deploy
            install -d -m 700 -o deploy /home/deploy/.ssh
            install -m 600 -o deploy /tmp/web.pub /home/deploy/.ssh/authorized_keys
            runuser -u deploy -- git init -q --bare -b master /home/deploy/sample_app
            runuser -u deploy -- ln -s /usr/local/bin/bluegreen /home/deploy/sample_app/hooks/post-receive
            rm -rf /var/www/html; install -d -o deploy -g deploy /var/www/html")
        .ok();
    let mut config = "user www-data;\nworker_processes 1;\nevents {}\nhttp {\naccess_log off;\n".to_owned();
    let roots = [BLUE, ("/srv/hook", SITES[0].3), ("/srv/cap/current", SITES[1].3)];
    for (root, port) in roots {
        config += &format!("server {{ listen {port}; root {root}; }}\n");
    }
    server.write("/etc/nginx/nginx.conf", &(config + "}\n"));
    // Its standard error would keep this command open.
    server.sh("nginx >/dev/null 2>&1").ok();
    server
}

/// Points the developer's remotes and Capistrano to these servers.
fn connect(dev: &Machine, hosts: &[String]) {
    let first = &hosts[0];
    let mut script = format!(
        "cd sample_app; for name in hook cap blue; do git remote remove $name 2>/dev/null || :; done
        git remote add blue deploy@{first}:sample_app; git remote add cap web@{first}:cap.git
        git remote add hook web@{first}:hook.git\n"
    );
    for host in hosts {
        script += &format!(
            "git remote set-url --add --push hook web@{host}:hook.git
            git remote set-url --add --push blue deploy@{host}:sample_app\n"
        );
    }
    dev.sh_as("dev", &script).ok();
    install_capistrano(dev, &format!("git://{first}/cap.git"), hosts, &Recipe::default());
}

/// Deploys to all servers, and returns the seconds until all of them serve the new page.
fn deploy(dev: &Machine, hosts: &[String], tool: Tool, version: usize) -> f64 {
    let (command, port) = match tool {
        Tool::Hook => ("git push -q hook master", SITES[0].3),
        Tool::Capistrano => ("git push -q cap master && cd ~/cap && cap production deploy", SITES[1].3),
        Tool::Bluegreen if hosts.len() == 1 => ("git push -q blue master", BLUE.1),
        Tool::Bluegreen => ("bluegreen push blue", BLUE.1),
    };
    let urls: Vec<String> = hosts.iter().map(|host| format!("http://{host}:{port}/")).collect();
    seconds_until(dev, &format!("<h1>Version {version}<"), command, &urls)
}
