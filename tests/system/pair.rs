//! A pair on one machine: two sides behind a front end, promoted over ssh under load, and rebooted.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::booted::Booted;
use crate::lab::Lab;
use crate::machine::{Background, Machine, Ran};

pub const DOMAIN: &str = "shop.local";
const HOSTS: &str = "192.0.2.11 shop.local blue.shop.local green.shop.local";
pub const OPTIONS: &str = "--pair --stack node --worker 'node worker.js' --domain shop.local";

/// A server with a pair, and its developer.
pub struct Pair {
    pub server: Booted,
    pub dev: Machine,
    /// The scheme of the public address.
    pub scheme: &'static str,
}

impl Pair {
    pub fn boot(lab: &Lab) -> Self {
        let server = lab.booted_with("blue", include_str!("stack-packages"));
        server.sh("systemctl disable --quiet --now apache2").ok();
        let dev = lab.client("dev");
        let clone = Path::new(env!("CARGO_MANIFEST_DIR"));
        dev.bring_folder(&clone.join("fixtures/node"), "/home/dev/sample_app", "dev");
        dev.bring(&clone.join("tests/system/stacks/load.py"), "/usr/local/bin/load");
        for machine in [&*server, &dev] {
            machine.sh(&format!("echo '{HOSTS}' >>/etc/hosts")).ok();
        }
        dev.sh_as(
            "dev",
            "cd sample_app; git init -q; git add -Af; git commit -qm 'Version 1'
            git remote add blue deploy@blue:blue; git remote add green deploy@blue:green",
        )
        .ok();
        Self { server, dev, scheme: "http" }
    }

    /// Installs the pair behind a web server, and deploys version 1 to blue and version 2 to green.
    fn install(&self, web_server: &str) {
        let options = format!("--web-server {web_server} {OPTIONS}");
        self.server
            .install(&format!("{options} --dry-run"))
            .ok()
            .says("would write /etc/bluegreen/promote.toml");
        self.server.sh("ls /etc/bluegreen /home/deploy").fails();
        self.server.install_for(&self.dev, &options).ok().says("ssh deploy@shop.local promote blue");
        self.server.install("--pair").ok().says("Nothing had to be changed.").lacks("warning:");
        self.server.install("--pair --dry-run").ok().says("Nothing would have to be changed.");
        // The default of thirty seconds for each promotion would take too long.
        self.server.sh("sed -i 's/^for = .*/for = \"0.5s\"/' /etc/bluegreen/promote.toml").ok();
    }

    pub fn deploy(&self) {
        self.dev.push("blue master").ok().says("is live: ");
        self.dev
            .sh_as(
                "dev",
                "cd sample_app; git grep -lE 'Version 1' | xargs sed -i 's/Version 1/Version 2/'; git commit -qam 'Version 2'",
            )
            .ok();
        self.dev.push("green master").ok().says("is live: ");
    }

    fn url(&self, name: &str) -> String {
        format!("{}://{name}/", self.scheme)
    }

    pub fn page(&self, name: &str) -> String {
        let url = self.url(name);
        self.dev
            .sh(&format!("curl -sS --cacert /tmp/ca.pem --max-time 10 {url} || curl -sS --max-time 10 {url}"))
            .either_way()
            .text()
            .to_owned()
    }

    #[track_caller]
    pub fn shows(&self, name: &str, version: usize) {
        let until = Instant::now() + Duration::from_secs(30);
        while !self.page(name).contains(&format!("Version {version}<")) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(100));
        }
        let page = self.page(name);
        let logs =
            "tail -n 20 /var/log/nginx/error.log /var/log/apache2/error.log; journalctl -n 40 --no-pager";
        let logs = || self.server.sh(&format!("({logs}) 2>&1 | cut -c1-300")).either_way().text().to_owned();
        assert!(page.contains(&format!("Version {version}<")), "{name}: {page}\n{}", logs());
    }

    fn ssh(&self, command: &str) -> Ran {
        self.dev.sh_as("dev", &format!("ssh deploy@blue {command}"))
    }

    pub fn promote(&self, side: &str) {
        self.ssh(&format!("promote {side}")).ok().says(&format!("{side} is public instead of"));
        let page = self.page(DOMAIN);
        let version = if side == "blue" { 1 } else { 2 };
        assert!(page.contains(&format!("Version {version}<")), "{side}: {page}");
    }

    pub fn begin_load(&self) -> Background {
        let url = self.url(DOMAIN);
        let ca = if self.scheme == "https" { "--cafile /tmp/ca.pem" } else { "" };
        self.dev.start(
            "root",
            &format!("rm -f /tmp/load.stop; exec load --slow /slow --socket /socket {ca} {url} /tmp/load"),
        )
    }

    pub fn end_load(&self, load: Background) -> Value {
        self.dev.sh("touch /tmp/load.stop").ok();
        let printed = load.finish();
        let text = self.dev.sh("cat /tmp/load").ok();
        serde_json::from_str(text.text()).unwrap_or_else(|error| panic!("{error}: {printed} {}", text.text()))
    }

    /// Promotes back and forth under load. No request fails, no page is mixed, and no asset is missing.
    fn is_seamless(&self, web_server: &str, promotions: usize) {
        let promotions = std::env::var("BLUEGREEN_TEST_PROMOTIONS")
            .ok()
            .and_then(|text| text.parse().ok())
            .unwrap_or(promotions);
        let load = self.begin_load();
        for number in 0..promotions {
            self.promote(["green", "blue"][number % 2]);
        }
        let result = self.end_load(load);
        let figures = format!("a pair behind {web_server}: {promotions} promotions: {result}\n");
        std::io::stderr().write_all(figures.as_bytes()).unwrap();
        for count in ["failed", "reused", "mixed", "stale"] {
            assert_eq!(result[count], 0, "{web_server}: {result}");
        }
        assert!(result["requests"].as_u64() > Some(promotions as u64 * 20), "load too low: {result}");
        assert_eq!(result["versions"], 2, "{result}");
    }

    /// Checks previews, the overview, and the account's restrictions.
    pub fn works(&self) {
        self.shows("blue.shop.local", 1);
        self.shows("green.shop.local", 2);
        self.ssh("public").ok().says("blue").says("green").lacks("error:").lacks("warning:");
        self.ssh("public -C blue").ok().says("blue is ");
        self.ssh("promote green --config /tmp/x").ends_with_status(2).says("uses the front end's own config");
        self.ssh("promote").ends_with_status(2).says("`--yes`");
        let headers = self.dev.sh(&format!("curl -sSk --max-time 5 {}headers", self.url(DOMAIN))).ok();
        headers
            .says("\"x-forwarded-for\":\"192.0.2.13\"")
            .says(&format!("\"x-forwarded-proto\":\"{}\"", self.scheme))
            .says("\"x-forwarded-host\":\"shop.local\"")
            .says("\"host\":\"shop.local\"");
        self.server
            .sh_as(
                "deploy",
                "test -w /etc/bluegreen || test -w /etc/bluegreen/promote.toml || test -w /var/lib/bluegreen",
            )
            .fails();
        self.server.sh("runuser -u app-blue -- test -w /var/lib/bluegreen/public").fails();
    }

    /// Checks that a reboot does not change the public side.
    fn survives_a_reboot(&mut self) {
        self.promote("green");
        self.server.reboot();
        self.shows(DOMAIN, 2);
        self.shows("blue.shop.local", 1);
        self.promote("blue");
    }

    fn uninstall(&self, unit: &str) {
        self.server.install("--uninstall").ok().says("Nothing was installed");
        self.server.install("--repo blue --uninstall").fails().says("is a side of a pair").says("--pair");
        self.server.install("--pair --uninstall").ok();
        self.server
            .sh(&format!("systemctl disable --quiet --now {unit}; ls -A /etc/systemd/system /etc/sudoers.d /var/lib/bluegreen /etc/{unit}/sites-* 2>&1; test ! -e /etc/bluegreen"))
            .either_way()
            .lacks("bluegreen-")
            .lacks("front");
    }
}

#[test]
fn behind_nginx() {
    let Some(lab) = Lab::new() else { return };
    let mut pair = Pair::boot(&lab);
    pair.install("nginx");
    pair.deploy();
    pair.shows(DOMAIN, 1);
    pair.is_seamless("nginx", 6);
    pair.works();
    pair.survives_a_reboot();
    pair.uninstall("nginx");
}

#[test]
fn behind_apache_and_caddy() {
    let Some(lab) = Lab::new() else { return };
    let mut pair = Pair::boot(&lab);
    pair.install("apache");
    pair.deploy();
    pair.shows(DOMAIN, 1);
    pair.is_seamless("apache", 4);
    pair.works();
    pair.uninstall("apache2");

    // Caddy issues certificates from its internal authority for names without public ones.
    pair.scheme = "https";
    pair.server.install_for(&pair.dev, &format!("--web-server caddy {OPTIONS}")).ok();
    let ca = "/var/lib/caddy/.local/share/caddy/pki/authorities/local/root.crt";
    pair.server
        .sh(&format!("timeout 20 sh -c 'until [ -e {ca} ]; do sleep 0.1; done'; cp {ca} /usr/local/share/ca-certificates/; update-ca-certificates"))
        .ok();
    pair.dev.write("/tmp/ca.pem", pair.server.sh(&format!("cat {ca}")).ok().text());
    pair.server.sh("sed -i 's/^for = .*/for = \"0.5s\"/' /etc/bluegreen/promote.toml").ok();
    pair.shows(DOMAIN, 1);
    pair.is_seamless("caddy", 4);
    pair.works();
    pair.survives_a_reboot();
}

#[test]
fn bad_input_changes_nothing() {
    let Some(lab) = Lab::new() else { return };
    let server = lab.server("blue");
    let refused = |options: &str, error: &str, hint: &str| {
        let before = server.written();
        server.install(options).fails().says(error).says(hint);
        assert_eq!(server.changed_since(&before), "", "{options}");
    };
    let pair = format!("--web-server nginx {OPTIONS}");
    refused("--pair --domain shop.local", "--pair needs --stack", "--help");
    refused("--pair --stack node", "--pair needs --domain", "--help");
    refused(&format!("{pair} --domain '*.local'"), "invalid host name: `*.local`", "--help");
    refused(
        &format!("{pair} --repo shop"),
        "--repo, --site, --name, and --config do not go with --pair",
        "--help",
    );
    refused(&format!("{pair} --web-server none"), "--pair needs a web server", "--help");
    server.write("/etc/nginx/sites-enabled/other", "server { listen 80; server_name green.shop.local; }\n");
    refused(&pair, "has the domain green.shop.local already", "another --domain");
    server.sh("rm /etc/nginx/sites-enabled/other").ok();
    for port in ["8041", "8042", "8049"] {
        let listen =
            format!("import socket, time; s = socket.create_server(('127.0.0.1', {port})); time.sleep(600)");
        let busy = server
            .start("root", &format!("echo $$ >/tmp/busy; exec timeout 60 python3 -c \"{listen}\" || :"));
        server.sh(&format!("until ss -ltn | grep -q :{port}; do sleep 0.1; done")).ok();
        refused(&pair, &format!("port {port} is in use, and not by nginx"), "ss -ltnp");
        server.sh("kill $(cat /tmp/busy)").ok();
        drop(busy);
    }
    server.install("--repo blue --site /srv/blue --web-server none").ok();
    refused(&pair, "/home/deploy/blue was set up on its own", "--repo /home/deploy/blue --uninstall first");
}
