//! A database that both sides share, migrated in compatible steps while writers never stop.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;

use crate::lab::Lab;
use crate::machine::{Background, Machine, Ran};
use crate::skip::skip;

/// The database's address. One machine is the developer's, the front end, and the database server.
const DATABASE: &str = "PGHOST=192.0.2.13 PGUSER=app PGDATABASE=app";

/// The config in docs/howto/databases.md. Where the page says to wait for `settle`, the test has none.
const CONFIG: &str = r#"
[site]
keep = 1

[public]
settle = "0s"

[steps]
check = ["./migrate fits"]
restart = ["kill $(cat /tmp/app.pid) || :"]
verify = ["for n in $(seq 100); do curl -fsS localhost:8080/health | grep -q $(sed -n 's/^VERSION = //p' app.py) && exit; sleep 0.1; done; exit 1"]

[env]
PYTHONDONTWRITEBYTECODE = "1"
PGHOST = "192.0.2.13"
PGUSER = "app"
PGDATABASE = "app"
"#;

/// The promotion config in the clone. Its watch is short, to shorten the test.
const PROMOTE: &str = r#"
[sides]
blue = { ssh = "deploy@blue:sample_app", address = "192.0.2.11:8080" }
green = { ssh = "ssh://deploy@green:22/~/sample_app", address = "192.0.2.12:8080" }

[public]
url = "http://127.0.0.1/"
switch = "haproxy"

[check]
paths = ["/health"]
watch = "0.3s"
"#;

struct Story {
    dev: Machine,
    blue: Machine,
    green: Machine,
    ran: RefCell<BTreeSet<String>>,
}

impl Story {
    fn begin(lab: &Lab) -> Option<Self> {
        let dev = lab.client("dev");
        for program in ["/usr/lib/postgresql/*/bin/postgres", "haproxy", "socat", "jq"] {
            if dev
                .sh(&format!("command -v {program} >/dev/null || ls {program} >/dev/null 2>&1 || echo none"))
                .ok()
                .text()
                == "none\n"
            {
                skip(&format!("`{program}` is not installed"));
                return None;
            }
        }
        if dev.sh("/usr/bin/python3 -c 'import psycopg2'").either_way().text().contains("Error") {
            skip("`python3-psycopg2` is not installed");
            return None;
        }
        let story =
            Self { blue: lab.server("blue"), green: lab.server("green"), dev, ran: RefCell::default() };
        story.starts_database();
        for server in [&story.blue, &story.green] {
            server.install_for(&story.dev, "--web-server none").ok();
            server.write("/home/deploy/sample_app/bluegreen.toml", CONFIG);
            server.sh("chown deploy: /home/deploy/sample_app/bluegreen.toml").ok();
            // On a real server, systemd does this.
            server
                .sh(&format!(
                    "cd /; setsid runuser -u deploy -- sh -c 'while :; do
                        {DATABASE} PYTHONDONTWRITEBYTECODE=1 python3 /var/www/html/current/server.py; sleep 0.1
                    done' </dev/null >/tmp/app.log 2>&1 &"
                ))
                .ok();
        }
        story.starts_front_end();
        Some(story)
    }

    fn starts_database(&self) {
        self.dev
            .sh("install -d -o postgres /tmp/pg
                export PATH=$PATH:$(ls -d /usr/lib/postgresql/*/bin | tail -n 1)
                cd /tmp
                runuser -u postgres -- initdb -D /tmp/pg -A trust --no-sync >/dev/null
                echo 'host all all 192.0.2.0/24 trust' >>/tmp/pg/pg_hba.conf
                runuser -u postgres -- pg_ctl -D /tmp/pg -l /tmp/pg/log -w -o \"-h '*' -k /tmp\" start >/dev/null
                runuser -u postgres -- psql -qh /tmp -c 'CREATE ROLE app LOGIN' -c 'CREATE DATABASE app OWNER app'")
            .ok();
        self.sql("CREATE TABLE users (id bigserial PRIMARY KEY, name text NOT NULL)");
        self.sql("INSERT INTO users (name) SELECT 'early ' || n FROM generate_series(1, 5000) n");
    }

    fn starts_front_end(&self) {
        let clone = Path::new(env!("CARGO_MANIFEST_DIR"));
        for file in [
            "share/switches/haproxy.cfg",
            "tests/system/databases/writers.py",
            "tests/system/databases/verify.py",
        ] {
            self.dev.bring(&clone.join(file), &format!("/test/{}", file.rsplit('/').next().unwrap()));
        }
        self.dev
            .sh("mkdir -p /run/haproxy /etc/haproxy
                sed 's/10.0.0.2:80/192.0.2.11:8080/; s/10.0.0.3:80/192.0.2.12:8080/; s/httpchk GET ./&health/; s/inter 1s fall 3/inter 200ms fall 2/; s/timeout server .*/&\\n    timeout check 5s/; s/mode 660/mode 660 user dev/' /test/haproxy.cfg >/etc/haproxy/haproxy.cfg
                echo 'public blue' >/etc/haproxy/public.map; chown -R dev /etc/haproxy
                haproxy -D -W -S /run/haproxy-master.sock -p /run/haproxy.pid -f /etc/haproxy/haproxy.cfg")
            .ok();
        self.dev.bring(Path::new(env!("CARGO_BIN_EXE_bluegreen")), "/usr/local/bin/bluegreen");
        let fixture = clone.join("fixtures/turquoise");
        for file in ["server.py", "schema.py", "migrate"] {
            self.dev.bring(&fixture.join(file), &format!("/test/common/{file}"));
        }
        for name in ["expand", "check", "relax", "contract"] {
            self.dev.bring(
                &fixture.join(format!("migrations/{name}.sql")),
                &format!("/test/common/migrations/{name}.sql"),
            );
        }
        for version in 1..=4 {
            for file in ["app.py", "needs"] {
                let path = format!("v{version}/{file}");
                self.dev.bring(&fixture.join(&path), &format!("/test/{path}"));
            }
        }
        self.dev
            .sh_as(
                "dev",
                "git init -q sample_app; cd sample_app; cp -r /test/common/. .
                git remote add blue deploy@blue:sample_app; git remote add green ssh://deploy@green:22/~/sample_app",
            )
            .ok();
        self.dev.write("/home/dev/sample_app/.promote.toml", PROMOTE);
    }

    fn sql(&self, statement: &str) -> String {
        self.dev.sh(&format!("{DATABASE} psql -qAtc \"{statement}\"")).ok().text().trim().to_owned()
    }

    fn commits(&self, version: &str) {
        self.dev
            .sh_as(
                "dev",
                &format!("cd sample_app; cp /test/{version}/* .; git add -A; git commit -qm {version}"),
            )
            .ok();
    }

    fn push(&self, side: &str, version: &str) {
        self.runs(&format!("git push {side} master"));
        self.dev.push(&format!("{side} master")).ok().says("is live");
        self.server(side).sh("curl -fsS localhost:8080/health").ok().says(version);
    }

    fn server(&self, side: &str) -> &Machine {
        if side == "blue" { &self.blue } else { &self.green }
    }

    /// Promotes the side, after the front end has found it healthy.
    fn promote(&self, side: &str, version: &str) {
        self.runs(&format!("bluegreen promote {side}"));
        // The time that the front end needs to detect a server that has just started.
        self.dev.sh("sleep 0.5").ok();
        self.dev
            .sh_as("dev", &format!("cd sample_app; bluegreen promote {side} --yes"))
            .ok()
            .says(&format!("{side} is public"));
        self.dev.sh("curl -sS 127.0.0.1/health").ok().says(version);
    }

    fn migrate(&self, name: &str) -> Ran {
        self.runs(&format!("./migrate {name}"));
        self.dev.sh_as("dev", &format!("cd sample_app; {DATABASE} ./migrate {name}"))
    }

    /// Starts a migration on both servers and in the clone simultaneously. It runs once.
    fn migrates_once(&self, name: &str) {
        let script = format!("cd /var/www/html/current; {DATABASE} ./migrate {name}");
        let servers = [self.blue.start("deploy", &script), self.green.start("deploy", &script)];
        let mut said = self.migrate(name).ok().text().to_owned();
        for server in servers {
            said += &server.finish();
        }
        assert_eq!(said.matches(&format!("{name}: done")).count(), 1, "{said}");
        assert_eq!(said.matches(&format!("{name}: already done")).count(), 2, "{said}");
    }

    fn over_ssh(&self, side: &str, command: &str) {
        self.runs(&format!("ssh deploy@{side} {command}"));
        self.dev.sh_as("dev", &format!("ssh deploy@{side} {command}")).ok().says("is live");
    }

    /// Records a command that the test ran.
    fn runs(&self, command: &str) {
        self.ran.borrow_mut().insert(command.to_owned());
    }

    /// A server that just stopped being public finishes its in-flight requests.
    fn drains(&self) {
        self.dev.sh("sleep 0.3").ok();
    }

    fn writers(&self, name: &str) -> Background {
        self.dev.sh("rm -f /tmp/stop").ok();
        self.dev.start("root", &format!("timeout 300 python3 /test/writers.py {name}"))
    }

    fn stop(&self, writers: Background) -> String {
        self.dev.sh("touch /tmp/stop").ok();
        let report = writers.finish();
        // The page's figures, shown with `--nocapture`.
        std::io::stderr().write_all(report.as_bytes()).unwrap();
        report
    }

    fn nothing_is_lost(&self, writers: &str, structures: &str) {
        let ran =
            self.dev.sh(&format!("{DATABASE} /usr/bin/python3 /test/verify.py {writers} {structures}")).ok();
        let lines = ran.text().lines().count();
        assert_eq!(ran.text().matches(": 0 lost, 0 back from the dead").count(), lines, "{}", ran.text());
        assert!(lines > 0 && !ran.text().contains(" 0 there"), "{}", ran.text());
    }
}

#[test]
fn a_column_is_moved_to_a_table_without_downtime() {
    let Some(lab) = Lab::new() else { return };
    let Some(story) = Story::begin(&lab) else { return };
    story.commits("v1");
    story.push("blue", "v1");
    story.push("green", "v1");
    story.promote("blue", "v1");
    naive(&story);

    let writers = story.writers("turquoise");
    turquoise(&story);
    reads_the_new(&story);
    let report = story.stop(writers);
    assert!(report.contains("\"failed\": 0,"), "{report}");
    story.nothing_is_lost("turquoise", "both");

    let writers = story.writers("contract");
    leaves_the_old(&story);
    contracts(&story);
    let second = story.stop(writers);
    assert!(second.contains("\"failed\": 0,"), "{second}");
    story.nothing_is_lost("turquoise", "new");
    story.nothing_is_lost("contract", "new");
    assert_eq!(
        story.sql("SELECT count(*) FROM users LEFT JOIN user_names ON user_id = id WHERE full_name IS NULL"),
        "0"
    );
    assert_eq!(story.sql("SELECT count(*) FROM information_schema.columns WHERE table_name = 'users'"), "1");
    page_lists_only_tested_commands(&story);
}

/// Control: the naive migration fails in the same setup, and the writers detect it.
fn naive(story: &Story) {
    let writers = story.writers("naive");
    story.drains();
    story.sql("ALTER TABLE users RENAME COLUMN name TO full_name");
    story.drains();
    story.sql("ALTER TABLE users RENAME COLUMN full_name TO name");
    let report = story.stop(writers);
    assert!(!report.contains("\"failed\": 0,") && report.contains("column"), "{report}");
}

fn turquoise(story: &Story) {
    // An incompatible version is not deployed.
    story.commits("v2");
    story
        .dev
        .push("green master")
        .either_way()
        .says("which takes the migration `expand` first")
        .says("Not deployed");
    story.migrates_once("expand");
    story.over_ssh("green", "deploy");
    story.promote("green", "v2");
    story.promote("blue", "v1");
    // A rollback and its reversal work, too.
    story.drains();
    story.over_ssh("green", "rollback");
    story.promote("green", "v1");
    story.promote("blue", "v1");
    story.drains();
    story.over_ssh("green", "deploy");
    story.promote("green", "v2");
    story.drains();
    story.push("blue", "v2");
}

fn reads_the_new(story: &Story) {
    story.commits("v3");
    story.dev.push("blue master").either_way().says("which takes the migration `check` first");
    story.migrate("check").fails().says("`check` comes after expand, backfill");
    story.migrates_once("backfill");
    story.migrates_once("check");
    story.over_ssh("blue", "deploy");
    deploys_and_promotes(story, "blue", "v3", "green", "v2");
    story.promote("green", "v3");
    // On blue, the previous release is version 2, which reads the old column.
    rolls_back_blue(story, "v2", "v3");
}

/// Deploys a version to one side, promotes it and back, and then updates the other side.
fn deploys_and_promotes(story: &Story, side: &str, to: &str, other: &str, from: &str) {
    story.promote(side, to);
    story.promote(other, from);
    story.promote(side, to);
    story.drains();
    story.push(other, to);
}

/// Rolls blue back while it is public, and deploys again.
fn rolls_back_blue(story: &Story, to: &str, from: &str) {
    story.drains();
    story.over_ssh("blue", "rollback");
    story.promote("blue", to);
    story.promote("green", from);
    story.drains();
    story.over_ssh("blue", "deploy");
}

fn leaves_the_old(story: &Story) {
    story.migrate("contract").fails().says("`contract` comes after expand, backfill, check, relax");
    story.migrate("relax").fails().says("(v2) reads old, and is live or may be rolled back to");
    // The failed attempt left nothing behind, so version 2 could still be deployed.
    assert_eq!(story.sql("SELECT count(*) FROM schema_migrations WHERE state = 'begun'"), "0");
    story.promote("green", "v3");
    story.drains();
    // The second deployment recycles the release that the first one kept.
    story.over_ssh("blue", "deploy");
    story.over_ssh("blue", "deploy");
    story.promote("blue", "v3");
    story.drains();
    story.over_ssh("green", "deploy");
    story.over_ssh("green", "deploy");
    story.migrate("relax").ok().says("relax: done");
    story.migrate("relax").ok().says("relax: already done");
    story.commits("v4");
    story.push("green", "v4");
    deploys_and_promotes(story, "green", "v4", "blue", "v3");
    rolls_back_blue(story, "v3", "v4");
}

fn contracts(story: &Story) {
    story.migrate("contract").fails().says("(v3) writes old, and is live or may be rolled back to");
    story.over_ssh("blue", "deploy");
    story.over_ssh("blue", "deploy");
    story.migrate("contract").fails().says(" on deploy@green (v3)").lacks("on deploy@blue");
    story.promote("blue", "v4");
    story.drains();
    story.over_ssh("green", "deploy");
    during_a_deployment(story);
    let script = format!("cd sample_app; {DATABASE} ./migrate contract");
    let both = [story.dev.start("dev", &script), story.dev.start("dev", &script)];
    let said: String = both.into_iter().map(Background::finish).collect();
    assert_eq!(said.matches("contract: done").count(), 1, "{said}");
    assert_eq!(said.matches("contract: already done").count(), 1, "{said}");
    // From here on, old versions are rejected from any source.
    story.dev.push("green HEAD~1:refs/heads/old").ok();
    story
        .dev
        .sh_as("dev", "cd sample_app; ssh deploy@green deploy $(git rev-parse HEAD~1)")
        .fails()
        .says("which is over since the migration `contract`");
}

/// A running deployment may have passed its check before the migration excludes old versions. Nothing is
/// dropped during it.
fn during_a_deployment(story: &Story) {
    let config = "/home/deploy/sample_app/bluegreen.toml";
    let waits = "touch /tmp/checks; until [ -e /tmp/ends ]; do sleep 0.1; done";
    story.green.sh(&format!("sed -i 's|^check = .*|check = [\"{waits}\"]|' {config}")).ok();
    let deployment = story.dev.start("dev", "ssh deploy@green deploy");
    story.green.sh("until [ -e /tmp/checks ]; do sleep 0.1; done").ok();
    story.migrate("contract").fails().says("a deployment is running on deploy@green: wait for its end");
    story.green.sh("touch /tmp/ends").ok();
    assert!(deployment.finish().contains("is live"));
    story.green.write(config, CONFIG);
}

/// Asserts that the test ran every command on the page.
fn page_lists_only_tested_commands(story: &Story) {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/howto/databases.md");
    let page = std::fs::read_to_string(page).unwrap();
    let story = story.ran.borrow();
    let commands: Vec<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("$ "))
        .map(|line| line.split('#').next().unwrap().trim())
        .collect();
    assert!(commands.len() > 15, "{commands:?}");
    let never: Vec<_> = commands.iter().filter(|command| !story.contains(**command)).collect();
    assert!(never.is_empty(), "the test does not run these commands of the page: {never:?}");
    let config = CONFIG.lines().filter(|line| line.starts_with("check") || line.starts_with("keep"));
    for line in config {
        assert!(page.contains(line), "the page lacks `{line}`");
    }
}
