//! The sample applications on a booted server, each behind nginx, once for each tool.

use std::path::Path;

use crate::Times;
use crate::booted::Booted;
use crate::lab::Lab;
use crate::machine::Machine;
use crate::support::Pairs;
use crate::tools::{Recipe, SITES, Tool, install_capistrano, install_peers, install_timer, seconds_until};

/// A sample application of `fixtures/`.
pub struct App {
    pub name: &'static str,
    pub title: &'static str,
    /// The file whose first line with a version changes. A running program reads it only once.
    page: &'static str,
    /// How the bash hook and Capistrano install packages.
    packages: &'static str,
    /// What to remove, in the hook's site and in Capistrano's `shared/`, before packages are installed from nothing.
    installed: &'static str,
    linked: &'static [&'static str],
    kind: Kind,
}

/// How visitors get the pages.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Files,
    Fpm,
    /// A program that listens on the socket in `$SOCKET`.
    Service(&'static str),
}

pub const APPS: [App; 5] = [
    App {
        name: "static",
        title: "static",
        page: "index.html",
        packages: "",
        installed: "",
        linked: &[],
        kind: Kind::Files,
    },
    App {
        name: "php",
        title: "PHP",
        page: "app/Page.php",
        packages: "composer install --no-dev --no-interaction --no-progress --no-autoloader --no-scripts",
        installed: "vendor",
        linked: &["storage"],
        kind: Kind::Fpm,
    },
    App {
        name: "node",
        title: "Node",
        page: "page.js",
        packages: "npm ci --no-audit --no-fund",
        installed: "node_modules",
        linked: &["storage"],
        kind: Kind::Service("/usr/bin/node server.js"),
    },
    App {
        name: "python",
        title: "Python",
        page: "app.py",
        packages: "[ -x .venv/bin/pip ] || python3 -m venv \"$(readlink -f .venv)\"; .venv/bin/pip install --quiet --disable-pip-version-check -r requirements.txt",
        installed: ".venv",
        linked: &["media", ".venv"],
        kind: Kind::Service("@SITE@/.venv/bin/python server.py"),
    },
    App {
        name: "rails",
        title: "Rails",
        page: "app/models/page.rb",
        packages: "bundle check >/dev/null || bundle install",
        installed: "vendor/bundle",
        linked: &["storage", "vendor/bundle"],
        kind: Kind::Service("/usr/bin/bundle exec puma -C config/puma.rb"),
    },
];

/// An application on a server, with all three tools, and its developer.
struct Deployed<'a> {
    app: &'a App,
    blue: Booted,
    dev: Machine,
    version: usize,
}

/// Measures an application. Returns the durations, with unchanged packages and with packages installed from nothing.
pub fn measure(app: &App, runs: usize) -> Vec<(&'static str, Times)> {
    let Some(lab) = Lab::new() else { return Vec::new() };
    eprintln!("Setting up {}...", app.name);
    let mut deployed = Deployed::boot(&lab, app);
    eprintln!("Measuring {}...", app.name);
    let has_packages = !app.packages.is_empty();
    let unchanged = Times::measure(runs, |tool| deployed.deploy(tool, false));
    let mut measured = vec![(if has_packages { "unchanged" } else { "none" }, unchanged)];
    if has_packages {
        measured.push(("installed", Times::measure(runs.min(3), |tool| deployed.deploy(tool, true))));
    }
    measured
}

/// Measures pushes of the static site with and without a connection that ssh keeps open.
pub fn measure_master(runs: usize) {
    let Some(lab) = Lab::new() else { return };
    let mut deployed = Deployed::boot(&lab, &APPS[0]);
    let keep = "Host master\n  HostName blue\n  ControlMaster auto\n  ControlPath ~/.ssh/%%C\n  ControlPersist 10m\n";
    deployed.dev.sh(&format!("printf '{keep}' >>/home/dev/.ssh/config")).ok();
    deployed.dev.sh_as("dev", "ssh deploy@master status >/dev/null").ok();
    deployed.as_dev("git remote add master deploy@master:sample_app");
    let mut push = |remote: &str| {
        deployed.commit();
        let text = format!("<h1>Version {}<", deployed.version);
        seconds_until(&deployed.dev, &text, &format!("git push -q {remote} master"), &["http://blue/".into()])
    };
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for _ in 0..=runs {
        with.push(push("master"));
        without.push(push("blue"));
    }
    deployed.dev.sh_as("dev", "ssh -O exit deploy@master").ok();
    let pairs = Pairs::of(&with, &without);
    println!("| a push of one line | a new connection | a kept connection | ratio |\n|---|---|---|---|");
    println!("| static | {:.2} s | {:.2} s | **{:.2}** |\n", pairs.theirs(), pairs.ours(), pairs.ratio().1);
}

impl<'a> Deployed<'a> {
    fn boot(lab: &Lab, app: &'a App) -> Self {
        let blue = lab.booted_with("blue", include_str!("../../tests/system/stack-packages"));
        blue.sh("systemctl disable --quiet --now apache2").ok();
        let dev = lab.client("dev");
        install_timer(&dev);
        let clone = Path::new(env!("CARGO_MANIFEST_DIR"));
        dev.bring_folder(&clone.join("fixtures").join(app.name), "/home/dev/sample_app", "dev");
        dev.bring(&clone.join("tests/integration/support/pack_gems.rb"), "/usr/local/bin/pack_gems");
        let deployed = Self { app, blue, dev, version: 1 };
        let gems = "ruby /usr/local/bin/pack_gems activerecord puma railties sprockets-rails sqlite3 && bundle lock --local";
        deployed.as_dev(&format!("git init -q; {}", if app.name == "rails" { gems } else { "" }));
        deployed.as_dev(
            "git add -Af; git commit -qm 'Version 1'; git remote add blue deploy@blue:sample_app
            git remote add hook web@blue:hook.git; git remote add cap web@blue:cap.git",
        );
        deployed.install();
        deployed
    }

    fn as_dev(&self, script: &str) {
        self.dev.sh_as("dev", &format!("cd sample_app; {script}")).ok();
    }

    /// Sets up the three tools, and deploys the first version by each.
    fn install(&self) {
        let (blue, recipe) = (&self.blue, self.recipe());
        blue.install_for(&self.dev, &format!("--web-server nginx --stack {}", self.app.name)).ok();
        install_peers(blue, &self.dev, &recipe);
        self.install_environment();
        blue.write("/etc/nginx/conf.d/peers.conf", &self.web_server());
        if let Kind::Service(command) = self.app.kind {
            for (site, root) in [("hook", "/srv/hook"), ("cap", "/srv/cap/current")] {
                blue.write(&format!("/etc/systemd/system/{site}.service"), &self.unit(site, root, command));
            }
        }
        blue.write(
            "/etc/sudoers.d/web",
            "web ALL=(root) NOPASSWD: /usr/bin/systemctl restart hook, /usr/bin/systemctl restart cap, /usr/bin/systemctl reload php*-fpm.service\n",
        );
        blue.sh("systemctl daemon-reload; nginx -t && systemctl reload nginx").ok();
        install_capistrano(&self.dev, "/home/web/cap.git", &["blue".into()], &recipe);
        for tool in [Tool::Bluegreen, Tool::Hook, Tool::Capistrano] {
            self.as_dev(Self::command(tool, false));
        }
    }

    /// Gives the sites of the hook and of Capistrano their settings and shared directories.
    fn install_environment(&self) {
        let linked = self.app.linked.join(" ");
        self.blue
            .sh(&format!(
                "cp -a /var/www/html/shared/.env /srv/hook/.env 2>/dev/null || : >/srv/hook/.env
                mkdir -p /srv/cap/shared; cp -a /srv/hook/.env /srv/cap/shared/.env
                for name in {linked}; do mkdir -p /srv/cap/shared/$name; [ -e /srv/hook/$name ] || mkdir -p /srv/hook/$name; done
                rm -rf /srv/hook/.venv /srv/cap/shared/.venv/*
                chown -R web: /srv/hook /srv/cap; chmod -R a+rX /srv; chmod -R a+rwX /srv/*/storage /srv/cap/shared/storage 2>/dev/null || :"
            ))
            .ok();
    }

    /// Returns the steps of the stack's config, for the bash hook and for Capistrano.
    fn recipe(&self) -> Recipe {
        let path = format!("{}/share/stacks/{}/bluegreen.toml", env!("CARGO_MANIFEST_DIR"), self.app.name);
        let config: toml::Table = std::fs::read_to_string(path).unwrap().parse().unwrap();
        let steps = config["steps"].as_table().unwrap();
        let lines = ["build", "check"].into_iter().filter_map(|phase| steps.get(phase)).flat_map(lines_of);
        let environment = config.get("env").and_then(toml::Value::as_table);
        let environment: String = environment
            .into_iter()
            .flatten()
            .map(|(name, value)| format!("{name}='{}' ", value.as_str().unwrap()))
            .collect();
        Recipe {
            environment: environment.trim_end().to_owned(),
            packages: self.app.packages.to_owned(),
            steps: lines.collect(),
            restart: match self.app.kind {
                Kind::Files => None,
                // In place, the opcode cache would serve the old page for up to two seconds.
                Kind::Fpm => Some("[ @NAME@ = cap ] || sudo systemctl reload 'php*-fpm.service'"),
                Kind::Service(_) => Some("sudo systemctl restart @NAME@"),
            },
            linked: self.app.linked.to_vec(),
        }
    }

    /// Returns nginx's sites for the hook and for Capistrano.
    fn web_server(&self) -> String {
        let public = if self.app.kind == Kind::Files { "" } else { "/public" };
        let mut config = String::new();
        for (tool, site, _, port) in SITES {
            let root = if tool == Tool::Capistrano { format!("{site}/current") } else { site.to_owned() };
            let name = site.rsplit('/').next().unwrap();
            let location = match self.app.kind {
                Kind::Files => String::new(),
                Kind::Fpm => "location / { include fastcgi_params; fastcgi_param SCRIPT_FILENAME $realpath_root/index.php; fastcgi_pass unix:/run/php/php-fpm.sock; }".into(),
                Kind::Service(_) => format!("location / {{ proxy_pass http://unix:/run/{name}/s; proxy_set_header Host $host; }}"),
            };
            config += &format!("server {{ listen {port}; root {root}{public}; {location} }}\n");
        }
        config
    }

    fn unit(&self, name: &str, root: &str, command: &str) -> String {
        let settings = format!("{}/share/stacks/{}/settings", env!("CARGO_MANIFEST_DIR"), self.app.name);
        let settings = std::fs::read_to_string(settings).unwrap();
        let environment = settings.lines().find_map(|line| line.strip_prefix("STACK_ENVIRONMENT="));
        let environment = environment.unwrap_or_default().trim_matches('\'');
        format!(
            "[Service]\nUser=web\nGroup=www-data\nUMask=0007\nRuntimeDirectory={name}\nRuntimeDirectoryMode=0750\nWorkingDirectory={root}\n\
             Environment=SOCKET=/run/{name}/s {environment}\nEnvironmentFile={root}/.env\nExecStart={}\n",
            command.replace("@SITE@", root)
        )
    }

    /// Changes one line.
    fn commit(&mut self) {
        self.version += 1;
        let (version, page) = (self.version, self.app.page);
        let change = format!("sed -i -E '0,/Version [0-9]+/s//Version {version}/' {page}");
        self.as_dev(&format!("{change}; git commit -qam 'Version {version}'"));
    }

    fn command(tool: Tool, is_cold: bool) -> &'static str {
        match (tool, is_cold) {
            (Tool::Hook, _) => "git push -q hook master",
            (Tool::Capistrano, _) => "git push -q cap master && cd ~/cap && cap production deploy",
            (Tool::Bluegreen, true) => "git push -q -o no-cache blue master",
            (Tool::Bluegreen, false) => "git push -q blue master",
        }
    }

    /// Deploys a changed line, and returns the seconds until visitors get it. Without packages if `is_cold`.
    fn deploy(&mut self, tool: Tool, is_cold: bool) -> f64 {
        self.commit();
        let installed = self.app.installed;
        match tool {
            Tool::Hook if is_cold => self.blue.sh(&format!("rm -rf /srv/hook/{installed}")).ok(),
            Tool::Capistrano if is_cold => self
                .blue
                .sh(&format!("rm -rf /srv/cap/shared/{installed}/* /srv/cap/shared/{installed}/.[!.]*"))
                .ok(),
            _ => self.blue.sh(":").ok(),
        };
        let port = match tool {
            Tool::Bluegreen => 80,
            Tool::Hook => SITES[0].3,
            Tool::Capistrano => SITES[1].3,
        };
        let text = format!("<h1>Version {}<", self.version);
        let url = format!("http://blue:{port}/");
        seconds_until(&self.dev, &text, Self::command(tool, is_cold), &[url])
    }
}

/// Returns the commands of a phase, except for the one that installs packages.
fn lines_of(phase: &toml::Value) -> Vec<String> {
    let steps = phase.as_array().cloned().unwrap_or_else(|| vec![phase.clone()]);
    let line = |step: &toml::Value| match step {
        toml::Value::String(line) => Some(line.clone()),
        toml::Value::Table(step) if !step.contains_key("outputs") => Some(step["run"].as_str()?.to_owned()),
        _ => None,
    };
    steps.iter().filter_map(line).collect()
}
