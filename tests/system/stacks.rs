//! Complete applications on a server with systemd: set up with one command, pushed over ssh, deployed and
//! rolled back under load, and rebooted.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::booted::Booted;
use crate::lab::Lab;
use crate::machine::{Background, Machine};

/// The number of deployments under load behind each web server, which `BLUEGREEN_TEST_DEPLOYMENTS` overrides.
/// Every fifth and the last are followed by a rollback.
const DEPLOYMENTS: usize = 2;

/// An application from `fixtures/` on a server, and its developer.
struct Stack {
    blue: Booted,
    dev: Machine,
    /// The version in the last commit, and the live version.
    version: usize,
    live: usize,
    /// The part of a page that visitors request in addition to the page.
    load: &'static str,
}

impl Stack {
    fn boot(lab: &Lab, fixture: &str, load: &'static str) -> Self {
        let blue = lab.booted_with("blue", include_str!("stack-packages"));
        blue.sh("systemctl disable --quiet --now apache2").ok();
        let dev = lab.client("dev");
        let clone = Path::new(env!("CARGO_MANIFEST_DIR"));
        dev.bring_folder(&clone.join("fixtures").join(fixture), "/home/dev/sample_app", "dev");
        dev.bring(&clone.join("tests/system/stacks/load.py"), "/usr/local/bin/load");
        dev.bring(&clone.join("tests/integration/support/pack_gems.rb"), "/usr/local/bin/pack_gems");
        let stack = Self { blue, dev, version: 1, live: 1, load };
        stack.as_dev(&format!("git init -q; {}", if fixture == "rails" { PACK_GEMS } else { "" }));
        stack.as_dev("git add -Af; git commit -qm 'Version 1'; git remote add blue deploy@blue:sample_app");
        stack
    }

    fn as_dev(&self, script: &str) {
        self.dev.sh_as("dev", &format!("cd sample_app; {script}")).ok();
    }

    /// Commits the next version: every file that contains the version changes, and every hashed file gets a
    /// new name.
    fn commit(&mut self) {
        let old = self.version;
        self.version += 1;
        let new = self.version;
        self.as_dev(&format!(
            "git grep -lE 'Version [0-9]+' | xargs sed -i -E 's/Version [0-9]+/Version {new}/'
            for file in assets/*-{old}.*; do
                [ ! -e $file ] || git mv $file $(echo $file | sed s/-{old}/-{new}/)
            done
            sed -i 's/site-{old}.css/site-{new}.css/' index.html 2>/dev/null || :
            git commit -qam 'Version {new}'"
        ));
    }

    /// Deploys the next version, which visitors must get as soon as the push has finished.
    fn deploy(&mut self) {
        self.commit();
        self.dev.push("blue master").ok().says("is live: ").lacks("warning:");
        self.live = self.version;
        self.serves();
    }

    fn roll_back(&mut self) {
        self.blue.sh("bluegreen -C /home/deploy/sample_app rollback").ok();
        self.live -= 1;
        self.serves();
    }

    fn serves(&self) {
        let page = self.dev.get("blue");
        let expected = format!("Version {}<", self.live);
        assert!(page.contains(&expected), "not version {}: {page}\n{}", self.live, self.logs());
    }

    /// Returns the latest log entries from the web server, the application, and systemd.
    fn logs(&self) -> String {
        let logs = "tail -n 20 /var/log/nginx/error.log /var/log/apache2/error.log
            bluegreen -C /home/deploy/sample_app log --app; journalctl -n 40 --no-pager";
        self.blue.sh(&format!("({logs}) 2>&1 | cut -c1-300")).either_way().text().to_owned()
    }

    fn soon_serves(&self) {
        let until = Instant::now() + Duration::from_secs(30);
        while !self.dev.get("blue").contains(&format!("Version {}<", self.live)) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(100));
        }
        self.serves();
    }

    fn begin_load(&self) -> Background {
        self.dev
            .start("root", &format!("rm -f /tmp/load.stop; exec load {} http://blue/ /tmp/load", self.load))
    }

    fn end_load(&self, load: Background) -> Value {
        self.dev.sh("touch /tmp/load.stop").ok();
        let printed = load.finish();
        let text = self.dev.sh("cat /tmp/load").ok();
        serde_json::from_str(text.text()).unwrap_or_else(|error| panic!("{error}: {printed} {}", text.text()))
    }

    /// Installs the application behind a web server, then deploys and rolls back under load. No request
    /// fails, no page is mixed, and no asset is missing.
    fn works_behind(&mut self, web_server: &str, options: &str) {
        self.blue.install_for(&self.dev, &format!("--web-server {web_server} {options}")).ok();
        if self.version == 1 {
            self.dev.push("blue master").ok().says("is live: ");
        }
        self.soon_serves();
        self.blue.install("").ok().says("Nothing had to be changed.");
        let deployments = std::env::var("BLUEGREEN_TEST_DEPLOYMENTS").ok().and_then(|text| text.parse().ok());
        let deployments = deployments.unwrap_or(DEPLOYMENTS);
        let (began, load) = (Instant::now(), self.begin_load());
        for number in 1..=deployments {
            self.deploy();
            if number % 5 == 0 || number == deployments {
                self.roll_back();
            }
        }
        let seconds = began.elapsed().as_secs();
        let result = self.end_load(load);
        let figures = format!("{web_server} {options}: {deployments} deployments: {result}\n");
        std::io::stderr().write_all(figures.as_bytes()).unwrap();
        for count in ["failed", "reused", "mixed", "stale"] {
            assert_eq!(result[count], 0, "{web_server}: {result}");
        }
        assert!(result["requests"].as_u64() > Some(seconds * 10), "load too low in {seconds} s: {result}");
        assert!(result["versions"].as_u64() > Some(deployments as u64 / 2), "{result}");
        self.hides_files(options.contains("php"));
    }

    /// Uninstalls everything, so that another web server can be set up.
    fn uninstall(&self, unit: &str) {
        self.blue.install("--uninstall").ok();
        self.blue
            .sh(&format!("systemctl disable --quiet --now {unit}; ls /etc/systemd/system /etc/sudoers.d"))
            .ok()
            .lacks("bluegreen");
    }

    /// Asserts that a reboot restores the live release.
    fn survives_a_reboot(&mut self) {
        self.blue.reboot();
        self.soon_serves();
        self.deploy();
    }

    /// The worker runs before the first promotion, and then only while the side is public, through a deployment and a boot.
    fn has_a_worker_only_where_it_is_public(&mut self) {
        let workers =
            "systemctl list-units --plain --no-legend --state=active 'bluegreen-worker-sample_app@*'";
        let hold = |blue: &Machine, request: &str| {
            blue.sh_as("deploy", &format!("echo {request} | bluegreen -C ~/sample_app hold --protocol 2"))
                .ok()
                .says("{\"role\":");
        };
        self.blue.sh(workers).ok().says("bluegreen-worker-sample_app@");
        hold(&self.blue, "leave");
        self.blue.sh(workers).ok().lacks("worker");
        self.deploy();
        self.blue.sh(workers).ok().lacks("worker");
        self.blue.reboot();
        self.soon_serves();
        self.blue
            .sh(&format!("systemctl is-active --wait bluegreen@home-deploy-sample_app; {workers}"))
            .either_way()
            .lacks("worker");
        hold(&self.blue, "enter");
        let worker = self.blue.sh(workers).ok();
        worker.says(self.blue.sh("basename $(readlink /var/www/html/current)").ok().text().trim());
    }

    /// Control: visitors notice a service that is restarted in place.
    fn detects_restarts_in_place(&mut self) {
        let load = self.begin_load();
        let unit = "bluegreen-app-sample_app@$(basename $(readlink /var/www/html/current))";
        self.blue.sh(&format!("for n in 1 2 3 4; do sleep 1; systemctl restart {unit}; done; sleep 1")).ok();
        let result = self.end_load(load);
        assert!(result["failed"].as_u64() > Some(0), "{result}");
    }

    /// Control: changes something with a script, and deploys under load. Returns the number of failed
    /// requests, plus those that got the old version after a push.
    fn noticed_after(&mut self, change: &str) -> u64 {
        self.blue.sh(change).ok();
        let load = self.begin_load();
        let mut noticed = 0;
        for _ in 0..3 {
            self.commit();
            self.dev.push("blue master").ok().says("is live: ");
            self.live = self.version;
            let visit = format!(
                "curl -sS --max-time 5 http://blue/ | grep -q 'Version {}<' || echo noticed",
                self.live
            );
            noticed +=
                self.dev.sh(&format!("for n in $(seq 40); do {visit}; done")).ok().text().lines().count()
                    as u64;
        }
        // Wait until the draining instance has stopped.
        self.dev.sh("sleep 2").ok();
        let result = self.end_load(load);
        let count = |name: &str| result[name].as_u64().unwrap_or_default();
        noticed + count("failed") + count("reused")
    }

    /// Asserts that an instance that listens on no socket never becomes live, for this reason.
    fn rejects_a_silent_instance(&mut self, reason: &str) {
        self.blue.install("--run 'sleep 600'").ok();
        let within = "sed -i 's|^health = .*|&\\nwithin = \"2s\"|' /home/deploy/sample_app/bluegreen.toml";
        self.blue.sh(within).ok();
        self.commit();
        self.dev
            .push("blue master")
            .ok()
            .says(&format!("error: the application is unhealthy: `GET /health` got no response: {reason}"))
            .says(" after 2s")
            // A proxy would write a line for each health check.
            .lacks("Failed to connect")
            .says("hint: the application must listen on the path in `$SOCKET`, or on `127.0.0.1:$PORT`")
            .says("Not deployed: blue still serves");
        self.serves();
    }

    /// Checks forms, uploads, and what the application learns about its visitors.
    fn works(&self) {
        let asks = |arguments: &str| self.dev.sh(&format!("curl -sS --max-time 20 {arguments}")).ok();
        let noted = asks("-o /tmp/noted -w '%{http_code}' -d text=hello http://blue/notes");
        assert!(noted.text().starts_with("30"), "POST /notes: status {}\n{}", noted.text(), self.logs());
        self.dev.sh("head -c 3000000 /dev/urandom >/tmp/upload").ok();
        let sent = "curl -sS -L --max-time 20 -o /tmp/back -F file=@/tmp/upload http://blue/uploads";
        self.dev.sh(&format!("{sent} && cmp /tmp/upload /tmp/back || curl -sS http://blue/uploads/upload | cmp - /tmp/upload"))
            .ok();
        asks("-H 'X-Forwarded-For: 198.51.100.7' http://blue/headers | tr -d ' '")
            .says("\"x-forwarded-for\":")
            .says("192.0.2.13")
            .says("\"x-forwarded-proto\":\"http\"")
            .says("\"x-forwarded-host\":\"blue\"");
        // Responses are streamed: the beginning arrives immediately.
        self.dev
            .sh("timeout 1.5 curl -sSN http://blue/slow || :")
            .ok()
            .says("begin Version")
            .lacks("end Version");
        for secret in
            ["server.js", "package.json", ".env", ".git/config", "app/Page.php", "server.py", "config.ru"]
        {
            assert_eq!(self.dev.status_of(&format!("http://blue/{secret}")), "404", "{secret}");
        }
    }

    /// Asserts that visitors get neither hidden files nor the sources of PHP, and that no upload is executed.
    fn hides_files(&self, has_php: bool) {
        let names = "up/evil.php up/EVIL.PHP up/evil.phtml up/evil.phar up/index.php .well-known/evil.php .hidden assets/evil.php assets/.hidden";
        let at = "cd /var/www/html/current; [ ! -d public ] || cd public; mkdir -p up assets .well-known; for name in assets/shown.txt";
        let write = r#"echo '<?php echo "exe" . "cuted"; // canary' >$name; done"#;
        self.blue.sh_as("deploy", &format!("{at} {names}; do {write}")).ok();
        self.dev.sh("curl -sS http://blue/assets/shown.txt").ok().says("canary");
        for name in names
            .split(' ')
            .chain(["up/", "up/evil.php/x"])
            .filter(|name| has_php || *name == "assets/.hidden")
        {
            self.dev.sh(&format!("curl -sS http://blue/{name}")).ok().lacks("canary").lacks("executed");
        }
        self.blue.sh_as("deploy", &format!("{at} {names}; do rm $name; done; rmdir up .well-known")).ok();
    }
}

/// The system's gems, packed into the directory that `bundle install` uses without a network.
const PACK_GEMS: &str =
    "ruby /usr/local/bin/pack_gems activerecord puma railties sprockets-rails sqlite3 && bundle lock --local";

#[test]
fn node() {
    let Some(lab) = Lab::new() else { return };
    let mut stack = Stack::boot(&lab, "node", "--slow /slow --socket /socket");
    let options = "--stack node --worker 'node worker.js'";
    // The web server package's page becomes the first release, and no instance of it is started.
    stack.blue.install_for(&stack.dev, &format!("--web-server nginx {options}")).ok();
    stack
        .blue
        .sh("sleep 1; test -L /var/www/html/current; systemctl list-units --all --no-legend 'bluegreen-app-*@*'")
        .ok()
        .lacks("bluegreen");
    stack.works_behind("nginx", options);
    stack.works();
    stack
        .blue
        .sh("timeout 10 sh -c 'until grep -q Version /var/www/html/shared/storage/done; do sleep 0.1; done'")
        .ok();
    stack.survives_a_reboot();
    stack.has_a_worker_only_where_it_is_public();
    is_confined(&stack.blue);
    stack.detects_restarts_in_place();
    stack.uninstall("nginx");
    stack.works_behind("caddy", options);
    stack.works();
    stack.rejects_a_silent_instance("nothing listens on its socket");
    // The application's user outlives the application, and the installer prints how to remove it.
    let removal = "deluser --system app-sample_app";
    stack.blue.install("--uninstall").ok().says(&format!("run `{removal}`"));
    stack.blue.sh(&format!("{removal}; ! getent passwd app-sample_app; ! getent group app-sample_app")).ok();
}

#[test]
fn node_behind_apache() {
    let Some(lab) = Lab::new() else { return };
    let mut stack = Stack::boot(&lab, "node", "--slow /slow --socket /socket");
    stack.works_behind("apache", "--stack node --worker 'node worker.js'");
    stack.works();
    // Control: reused connections keep reaching an instance that is about to stop.
    let noticed = stack.noticed_after(
        "sed -i 's/disablereuse=on //' /etc/apache2/sites-available/000-bluegreen-deploy_sample_app.conf
        sed -i 's|^health = .*|&\\ndrain = \"1s\"|' /home/deploy/sample_app/bluegreen.toml; systemctl reload apache2",
    );
    assert!(noticed > 0, "visitors must notice Apache with connection reuse");
}

#[test]
fn node_on_a_port() {
    let Some(lab) = Lab::new() else { return };
    let mut stack = Stack::boot(&lab, "node", "--slow /slow --socket /socket");
    // Another program has the second port.
    stack.blue.sh("systemd-run --quiet --unit=other python3 -m http.server --bind 127.0.0.1 3001").ok();
    stack.works_behind("nginx", "--stack node --port 3000");
    stack.works();
    let ports = "cat /run/bluegreen-ports/sample_app/*; ss -Hltn 'sport >= 3000 and sport <= 3019' | awk '{ print $4 }'";
    stack.blue.sh(ports).ok().says("PORT=300").says("127.0.0.1:300").lacks("PORT=3001").lacks("0.0.0.0");
    stack.survives_a_reboot();
    stack.rejects_a_silent_instance("");
    stack.uninstall("nginx");
    stack
        .blue
        .sh("systemctl stop other 2>/dev/null || :; ss -Hltn 'sport >= 3000 and sport <= 3019'")
        .ok()
        .lacks("300");
}

/// Asserts that the application's user can neither write releases nor read the repository, and that deploy
/// controls no other service.
fn is_confined(blue: &Machine) {
    let as_app = |test: &str| blue.sh(&format!("runuser -u app-sample_app -- sh -c '{test}'"));
    as_app("test -r /var/www/html/current/server.js && test -w /var/www/html/shared/storage").ok();
    as_app("test -w /var/www/html/current || test -w /var/www/html/current/server.js").fails();
    as_app("ls /home/deploy/sample_app").fails();
    blue.sh("stat -c '%a %U:%G' /var/www/html/shared/.env").ok().says("640 deploy:app-sample_app\n");
    let control = "sudo -n /usr/local/lib/bluegreen/apps/sample_app";
    blue.sh_as("deploy", &format!("{control} status")).ok().says(" active\n");
    for bad in [
        "stop ssh",
        "start '../x'",
        "stop 20261122T201500Z-1a2b3c4d5e6f.service",
        "log '--follow' 5",
        "boot x",
        "live",
    ] {
        blue.sh_as("deploy", &format!("{control} {bad}")).ends_with_status(2);
    }
    blue.sh_as("deploy", "sudo -n systemctl status").fails();
    blue.sh_as("deploy", "cd; bluegreen -C sample_app log --app").ok().says("Started");
}

#[test]
fn python() {
    let Some(lab) = Lab::new() else { return };
    let mut stack = Stack::boot(&lab, "python", "--slow /slow --socket /socket");
    stack.works_behind("nginx", "--stack python --worker '.venv/bin/python worker.py'");
    stack.works();
    stack
        .blue
        .sh("timeout 10 sh -c 'until grep -q Version /var/www/html/shared/media/done; do sleep 0.1; done'")
        .ok();
    stack.survives_a_reboot();
}

#[test]
fn rails() {
    let Some(lab) = Lab::new() else { return };
    let mut stack = Stack::boot(&lab, "rails", "--slow /slow --socket /socket");
    stack.works_behind("nginx", "--stack rails --branch master --worker 'bundle exec ruby worker.rb'");
    stack.works();
    stack.survives_a_reboot();
}

#[test]
fn php() {
    let Some(lab) = Lab::new() else { return };
    let mut stack = Stack::boot(&lab, "php", "--slow /slow");
    for (web_server, unit) in [("apache", "apache2"), ("nginx", "nginx"), ("caddy", "caddy")] {
        stack.works_behind(web_server, "--stack php");
        if web_server == "apache" {
            // Control: with its default settings, PHP caches the resolved path of the site.
            let pool = "cd /etc/php/*/fpm/pool.d; restart() { systemctl restart 'php*-fpm.service'; };";
            let change = "cp -p bluegreen-sample_app.conf /tmp/pool; sed -i '/^php_admin_value.*\\(realpath\\|opcache\\)/d' bluegreen-sample_app.conf";
            let noticed = stack.noticed_after(&format!("{pool} {change}; restart"));
            assert!(noticed > 0, "visitors must notice PHP-FPM with its defaults");
            stack.blue.sh(&format!("{pool} cp -p /tmp/pool bluegreen-sample_app.conf; restart")).ok();
        }
        if web_server != "caddy" {
            stack.uninstall(unit);
        }
    }
    stack.survives_a_reboot();
}

#[test]
fn static_files() {
    let Some(lab) = Lab::new() else { return };
    let mut stack = Stack::boot(&lab, "static", "");
    stack.works_behind("nginx", "--stack static");
    stack.uninstall("nginx");
    stack.works_behind("caddy", "--stack static");
    stack.uninstall("caddy");
    stack.works_behind("apache", "--stack static");
    stack.survives_a_reboot();
}

#[test]
fn bad_input_changes_nothing() {
    let Some(lab) = Lab::new() else { return };
    let blue = lab.server("blue");
    let refused = |options: &str, error: &str, hint: &str| {
        let before = blue.written();
        blue.install(options).fails().says(error).says(hint);
        let changed = blue.changed_since(&before);
        assert_eq!(changed, "", "{options}");
    };
    blue.sh("apache2ctl start").ok();
    refused("--stack node --web-server nginx", "port 80 is in use, and not by nginx", "ss -ltnp");
    blue.sh("apache2ctl stop; while pidof apache2; do sleep 0.1; done; mv /usr/bin/npm /usr/bin/no-npm").ok();
    refused(
        "--stack node --web-server nginx",
        "the stack node needs `npm`",
        "hint: apt-get install nodejs npm",
    );
    blue.sh("mv /usr/bin/no-npm /usr/bin/npm").ok();
    blue.write(
        "/etc/nginx/sites-enabled/other",
        "server { listen 80; server_name www.example.org example.org; }\n",
    );
    let nginx = "--stack node --web-server nginx";
    refused(
        &format!("{nginx} --domain example.org"),
        "has the domain example.org already",
        "another --domain",
    );
    let long = format!("/srv/{}", "x".repeat(90));
    refused(&format!("{nginx} --site {long}"), "is too long: 113 of at most 107 bytes", "a shorter --site");
    refused(&format!("{nginx} --repo Shop"), "is not a user's name", "lowercase");
    refused("--stack perl", "invalid stack `perl`: static, php, node, python, or rails", "--help");
    refused("--run 'node server.js'", "--run and --worker need --stack", "--help");
    refused(&format!("{nginx} --run 'node \"x\"'"), "--run may contain", "--help");
    refused("--stack static --worker 'node worker.js'", "do not go with --stack static", "--help");
    refused("--stack static --port 3000", "--port does not go with --stack static", "--help");
    refused("--port 3000", "--port needs --stack", "--help");
    refused(&format!("{nginx} --port http"), "invalid port: `http`", "--help");
    refused(&format!("{nginx} --port 80"), "`80` is not between 1024 and 65516", "--help");
    refused(&format!("{nginx} --port 65530"), "`65530` is not between", "--help");
    let busy = blue.start(
        "root",
        "echo $$ >/tmp/busy; exec timeout 60 python3 -m http.server --bind 127.0.0.1 3000 || :",
    );
    blue.sh("until ss -ltn | grep -q :3000; do sleep 0.1; done").ok();
    refused(&format!("{nginx} --port 3000"), "port 3000 is in use", "ss -ltnp sport = :3000");
    blue.sh("kill $(cat /tmp/busy); while ss -ltn | grep -q :3000; do sleep 0.1; done").ok();
    drop(busy);

    blue.install(&format!("{nginx} --dry-run"))
        .ok()
        .says("would write /usr/local/lib/bluegreen/apps/sample_app");
    blue.install(&format!("{nginx} --port 3000")).ok();
    let other =
        "--stack node --web-server nginx --repo other --site /srv/other --domain other.example --port 3019";
    refused(other, "the application sample_app has the ports from 3000 to 3019", "another --port");
    refused("--stack python", "was set up with the stack node", "--uninstall first");
    refused(
        &format!("{nginx} --repo /home/deploy/other/sample_app --site /srv/other --domain other.example"),
        "sample_app is the application of /home/deploy/sample_app already",
        "another name",
    );
}
