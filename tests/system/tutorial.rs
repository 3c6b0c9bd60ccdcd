//! The whole tutorial: two servers, one floating address, versions one and two.

use crate::lab::Lab;
use crate::machine::Machine;
use crate::markdown::Document;
use crate::normalize::normalize;
use crate::package;

const FLOATING: &str = "192.0.2.100";

#[test]
fn with_apache() {
    let Some(lab) = Lab::new() else { return };
    tutorial("apache", &lab.server("blue"), &lab.server("green"), &lab.client("dev"));
}

#[test]
fn with_nginx() {
    let Some(lab) = Lab::new() else { return };
    tutorial("nginx", &lab.server("blue"), &lab.server("green"), &lab.client("dev"));
}

#[test]
fn on_servers_with_systemd() {
    let Some(lab) = Lab::new() else { return };
    let (mut blue, green) = (lab.booted("blue"), lab.booted("green"));
    let dev = lab.client("dev");
    tutorial("apache", &blue, &green, &dev);
    // After a reboot, the release that was live is served again.
    blue.reboot();
    dev.soon_gets("blue", "App v2");
    dev.commit("App v4", "Application version 4");
    dev.push("blue HEAD:master").ok().says("is live: ");
    assert_eq!(dev.get("blue"), "App v4");
}

#[test]
fn the_tutorials_commands_print_what_the_page_shows() {
    let Some(lab) = Lab::new() else { return };
    let Some(package) = package::build() else { return };
    let (blue, green, dev) = (lab.booted("blue"), lab.booted("green"), lab.client("dev"));
    for server in [&blue, &green] {
        server.write("/root/.ssh/authorized_keys", &dev.public_key("id_ed25519"));
        server.sh("chmod -R go= /root/.ssh; rm -rf /root/bluegreen").ok();
    }
    dev.bring(package.path(), "/home/dev/bluegreen.deb");
    dev.write("/etc/sudoers.d/dev", "dev ALL=(ALL) NOPASSWD: ALL\n");
    let count = types("docs/tutorial/ten-minutes.md", &dev, "");
    assert!(count > 30, "{count} commands");
}

#[test]
fn the_production_commands_print_what_the_page_shows() {
    let Some(lab) = Lab::new() else { return };
    let Some(package) = package::build() else { return };
    let (blue, dev) = (lab.booted_with("blue", include_str!("stack-packages")), lab.client("dev"));
    blue.sh("systemctl disable --quiet --now apache2; rm -rf /root/bluegreen").ok();
    blue.write("/root/.ssh/authorized_keys", &dev.public_key("id_ed25519"));
    blue.sh("chmod -R go= /root/.ssh").ok();
    dev.bring(package.path(), "/home/dev/bluegreen.deb");
    let application = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/node");
    dev.bring_folder(&application, "/home/dev/sample_app", "dev");
    dev.sh_as("dev", "cd sample_app; git init -q; git add -Af; git commit -qm 'Version 1'").ok();
    let count = types("docs/tutorial/production.md", &dev, "sample_app");
    assert!(count > 12, "{count} commands");
    blue.sh("grep -Fx API_TOKEN=secret /var/www/html/shared/.env").ok();
}

#[test]
fn several_branches_are_deployed_to_several_sites_as_the_page_shows() {
    let Some(lab) = Lab::new() else { return };
    let (server, dev) = (lab.server("blue"), lab.client("dev"));
    server.write("/root/.ssh/authorized_keys", &dev.public_key("id_ed25519"));
    // Stands for the package, which contains the same installer.
    server.write(
        "/usr/sbin/bluegreen-setup",
        "#!/bin/sh\nexec /root/bluegreen/install.sh --binary /root/bluegreen/program \"$@\"\n",
    );
    server.sh("chmod -R go= /root/.ssh; chmod +x /usr/sbin/bluegreen-setup").ok();
    dev.sh(&format!("echo {} shop.example staging.shop.example >>/etc/hosts", server.address())).ok();
    let clone = "mkdir shop; cd shop; git init -q -b main
        echo 'Version 1' >index.html; git add .; git commit -qm 'Version 1'
        git checkout -q -b staging; echo 'Version 2' >index.html; git commit -qam 'Version 2'";
    dev.sh_as("dev", clone).ok();
    let count = types("docs/howto/branches.md", &dev, "shop");
    assert!(count > 14, "{count} commands");
    // Without one of them, the other one still deploys.
    server.sh("bluegreen-setup --uninstall --repo staging").ok();
    dev.sh_as("dev", "cd shop; git push -f deploy@shop.example:production staging~1:main")
        .ok()
        .says("is live: ");
    assert_eq!(dev.get("shop.example"), "Version 2");
}

/// Runs the commands of a page as dev in a directory, and compares their output. Returns their number.
fn types(page: &str, dev: &Machine, directory: &str) -> usize {
    let mut directory = directory.to_owned();
    let mut count = 0;
    for block in Document::read(page).blocks("console") {
        for (command, shown) in commands(block) {
            let ran = dev.sh_as("dev", &format!("cd ~/{directory}\n{command}")).ok();
            let text = normalize(ran.text());
            let mut printed = text.lines();
            for line in shown {
                assert!(printed.any(|found| found == line), "{command}\nlacks: {line}\n{text}");
            }
            if let Some(to) = command.strip_prefix("cd ") {
                to.trim_start_matches('~').clone_into(&mut directory);
            }
            count += 1;
        }
    }
    count
}

/// Returns the commands of a console block, each with its normalized output lines.
fn commands(block: &str) -> Vec<(String, Vec<String>)> {
    let mut commands: Vec<(String, Vec<String>)> = Vec::new();
    for line in block.lines() {
        if let Some(command) = line.strip_prefix("$ ") {
            commands.push((command.to_owned(), Vec::new()));
            continue;
        }
        let (command, shown) = commands.last_mut().expect("a block begins with a command");
        if command.contains("<<'END'") && !command.ends_with("\nEND") {
            command.push('\n');
            command.push_str(line);
        } else {
            shown.push(normalize(line));
        }
    }
    commands
}

fn tutorial(web_server: &str, blue: &Machine, green: &Machine, dev: &Machine) {
    dev.commit("App v1", "initializing repository with version 1");
    for server in [blue, green] {
        // Runs the commands that the installer prints.
        let installed = server.install_for(dev, &format!("--web-server {web_server}")).ok();
        let remote =
            installed.text().lines().find(|line| line.contains("git remote add")).expect("a command to run");
        dev.sh_as("dev", &format!("cd sample_app; {remote}")).ok();
    }

    for server in ["blue", "green"] {
        dev.push(&format!("{server} master"))
            .ok()
            .says(&format!("remote: Master ref received.  Deploying master branch to {server}...\n"))
            .says("is live: ")
            .says("remote: Git hooks deploy complete.\n");
        assert_eq!(dev.get(server), "App v1");
    }
    assert_eq!(dev.status_of("http://blue/releases/"), "404");
    dev.sh("curl -sS -f http://blue/.bluegreen/lock").fails();

    assign(green);
    assert_eq!(dev.get(FLOATING), "App v1");

    dev.commit("App v2", "Application version 2");
    dev.push("blue master").ok().says("Deploying master branch to blue...");
    assert_eq!((dev.get(FLOATING), dev.get("blue")), ("App v1".into(), "App v2".into()));

    assert_eq!(seen_while(dev, || move_address(green, blue)), ["App v1", "App v2"]);
    assert_eq!(seen_while(dev, || move_address(blue, green)), ["App v2", "App v1"]);

    other_refs(dev, blue);
}

/// Asserts that pushing another branch and deleting branches does not change the site.
fn other_refs(dev: &Machine, blue: &Machine) {
    dev.sh_as("dev", "cd sample_app; git checkout -q -b topic").ok();
    dev.commit("App v3", "A feature");
    dev.push("blue topic").ok().says(
        "remote: Ref refs/heads/topic successfully received.  Doing nothing: only the master branch may be \
         deployed on this server.\n",
    );
    dev.push("blue :topic").ok();
    assert_eq!(dev.get("blue"), "App v2");

    // Git's own protection first, then the program's with git's disabled.
    dev.push("blue :master").fails().says("deletion of the current branch prohibited");
    blue.sh("git -C /home/deploy/sample_app -c safe.directory='*' config receive.denyDeleteCurrent ignore")
        .ok();
    dev.push("blue :master").ok();
    assert_eq!(dev.get("blue"), "App v2");
}

/// Assigns the floating address to a server, and announces it as a provider does.
fn assign(server: &Machine) {
    server.sh(&format!("ip addr add {FLOATING}/24 dev eth0; arping -q -U -c 1 -I eth0 {FLOATING}")).ok();
}

/// Reassigns the address, as the provider's control panel does.
fn move_address(from: &Machine, to: &Machine) {
    from.sh(&format!("ip addr del {FLOATING}/24 dev eth0")).ok();
    assign(to);
}

/// Returns the pages that a visitor gets from repeated requests, in order and without repetition. An open
/// connection is reset when its address moves to another server. Like a browser, the visitor then retries
/// once.
fn seen_while(visitor: &Machine, change: impl FnOnce()) -> Vec<String> {
    visitor.sh("rm -f /tmp/stop; : >/tmp/visits").ok();
    let visits = visitor.start(
        "root",
        &format!(
            "n=0; while [ ! -e /tmp/stop ] && [ $n -lt 5000 ]; do
                n=$((n + 1)); curl -s --max-time 8 --retry 1 --retry-all-errors http://{FLOATING}/ || echo failed
                echo >>/tmp/visits; sleep 0.02
            done"
        ),
    );
    // However slow the machine is, several visits come before the change, and several after it.
    let further =
        "n=$(wc -l </tmp/visits); until [ $(wc -l </tmp/visits) -ge $((n + 6)) ]; do sleep 0.05; done";
    visitor.sh(further).ok();
    change();
    visitor.sh(&format!("{further}; touch /tmp/stop")).ok();
    let mut seen: Vec<String> = visits.finish().lines().map(str::to_owned).collect();
    assert!(seen.len() > 10, "{seen:?}");
    seen.dedup();
    seen
}
