//! The three tools: how each is set up on a server, and the command that a developer types.

use crate::machine::Machine;

/// A tool that deploys.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Tool {
    /// The tutorial's `post-receive` hook.
    Hook,
    Bluegreen,
    Capistrano,
}

/// The commands around a checkout that an application needs.
#[derive(Default)]
pub struct Recipe {
    /// Exported before the steps.
    pub environment: String,
    /// Installs the packages, or finds that they are installed.
    pub packages: String,
    /// Run after the packages, in order.
    pub steps: Vec<String>,
    /// Makes the new version run.
    pub restart: Option<&'static str>,
    /// Directories that Capistrano links from `shared/`.
    pub linked: Vec<&'static str>,
}

/// The directories and repositories of the bash hook and of Capistrano, and nginx's ports for them.
pub const SITES: [(Tool, &str, &str, u16); 2] = [
    (Tool::Hook, "/srv/hook", "/home/web/hook.git", 8081),
    (Tool::Capistrano, "/srv/cap", "/home/web/cap.git", 8082),
];

/// Prints the seconds from the start of a command until the pages at all URLs contain a text, and asserts that none
/// contains it before.
const UNTIL: &str = r#"#!/usr/bin/python3
import http.client, subprocess, sys, time, urllib.parse
text, command, urls = sys.argv[1].encode(), sys.argv[2], sys.argv[3:]

def shows(url):
    parts = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port or 80, timeout=20)
    try:
        connection.request("GET", "/")
        response = connection.getresponse()
        return response.status == 200 and text in response.read()
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()

if any(shows(url) for url in urls):
    sys.exit("the page is there before the command")
log = open("/tmp/until.log", "wb")
started = time.monotonic()
child = subprocess.Popen(command, shell=True, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
while urls:
    if shows(urls[0]):
        urls.pop(0)
        continue
    if child.poll() is not None and (child.returncode or time.monotonic() - started > 300):
        break
    time.sleep(0.005)
took = time.monotonic() - started
status = child.wait()
if status or urls:
    sys.exit(f"status {status}, without the new page: {urls}\n" + open("/tmp/until.log").read()[-3000:])
print(took)
"#;

/// Installs the program that times a command, on the developer's machine.
pub fn install_timer(dev: &Machine) {
    dev.write("/usr/local/bin/until-page", UNTIL);
    dev.sh("chmod 755 /usr/local/bin/until-page; /usr/bin/python3 -c 'import http.client'").ok();
    dev.sh("cap --version").ok().says("Capistrano");
}

/// Runs a command in the developer's clone, and returns the seconds until the pages at `urls` contain `text`.
pub fn seconds_until(dev: &Machine, text: &str, command: &str, urls: &[String]) -> f64 {
    let script = format!("cd sample_app; until-page '{text}' '{command}' {}", urls.join(" "));
    let ran = dev.sh_as("dev", &script).ok();
    ran.text().trim().parse().unwrap_or_else(|_| panic!("{}", ran.text()))
}

impl Recipe {
    /// Returns the commands to run in the new version's directory.
    fn script(&self) -> String {
        let mut lines = vec!["set -e".to_owned()];
        if !self.environment.is_empty() {
            lines.push(format!("export {}", self.environment));
        }
        let steps = [&self.packages].into_iter().chain(&self.steps).filter(|line| !line.is_empty());
        lines.extend(steps.map(|line| format!("({line})")));
        lines.join("\n") + "\n"
    }
}

/// Sets up the bash hook and Capistrano's origin on a server, for the user `web`, whose shell is unrestricted.
pub fn install_peers(server: &Machine, dev: &Machine, recipe: &Recipe) {
    server.write("/tmp/web.pub", &dev.public_key("id_ed25519"));
    server
        .sh("useradd --create-home --shell /bin/bash web
            install -d -m 700 -o web /home/web/.ssh
            install -m 600 -o web /tmp/web.pub /home/web/.ssh/authorized_keys
            install -d -o web -g web /srv/hook /srv/cap
            chmod 755 /home/web
            for name in hook cap; do runuser -u web -- git init -q --bare -b master /home/web/$name.git; done")
        .ok();
    server.write("/usr/local/bin/steps", &format!("#!/bin/sh\n{}", recipe.script()));
    let restart = recipe.restart.map(|line| line.replace("@NAME@", "hook")).unwrap_or_default();
    let has_steps = !recipe.packages.is_empty() || !recipe.steps.is_empty();
    let steps = if has_steps { "cd /srv/hook && /usr/local/bin/steps" } else { "" };
    server.write(
        "/home/web/hook.git/hooks/post-receive",
        &format!(
            "#!/bin/bash
while read oldrev newrev ref
do
    if [[ $ref =~ .*/master$ ]];
    then
        echo \"Master ref received.  Deploying master branch to $(hostname)...\"
        git --work-tree=/srv/hook --git-dir=/home/web/hook.git checkout -f
        unset GIT_DIR
        {steps}
        {restart}
        echo \"Git hooks deploy complete.\"
    else
        echo \"Ref $ref successfully received.  Doing nothing: only the master branch may be deployed on this server.\"
    fi
done
"
        ),
    );
    server.sh("chmod 755 /home/web/hook.git/hooks/post-receive /usr/local/bin/steps").ok();
}

/// Writes Capistrano's files on the developer's machine. Its servers fetch from `origin`.
pub fn install_capistrano(dev: &Machine, origin: &str, servers: &[String], recipe: &Recipe) {
    let linked = recipe.linked.iter().map(|name| format!(", \"{name}\"")).collect::<String>();
    let linked_files = if recipe.linked.is_empty() { "" } else { "append :linked_files, \".env\"\n" };
    let linked = if linked.is_empty() { linked } else { format!("append :linked_dirs{linked}\n") };
    let has_steps = !recipe.packages.is_empty() || !recipe.steps.is_empty();
    let steps = if has_steps {
        "after \"deploy:updated\", :steps do\n  on roles(:app) do\n    within release_path do\n      execute \"/usr/local/bin/steps\"\n    end\n  end\nend\n"
    } else {
        ""
    };
    let restart = recipe.restart.map(|line| line.replace("@NAME@", "cap")).map_or_else(String::new, |line| {
        format!("after \"deploy:publishing\", :restart_app do\n  on roles(:app) do\n    execute \"{line}\"\n  end\nend\n")
    });
    dev.write(
        "/home/dev/cap/Capfile",
        "require \"capistrano/setup\"\nrequire \"capistrano/deploy\"\nrequire \"capistrano/scm/git\"\ninstall_plugin Capistrano::SCM::Git\n",
    );
    dev.write(
        "/home/dev/cap/config/deploy.rb",
        &format!(
            "lock \"~> 3.17\"\nset :application, \"sample_app\"\nset :repo_url, \"{origin}\"\nset :branch, \"master\"\n\
             set :deploy_to, \"/srv/cap\"\nset :keep_releases, 5\n{linked}{linked_files}\n{steps}{restart}"
        ),
    );
    let servers: String =
        servers.iter().map(|host| format!("server \"{host}\", user: \"web\", roles: %w[app]\n")).collect();
    dev.write("/home/dev/cap/config/deploy/production.rb", &servers);
    dev.sh("chown -R dev: /home/dev/cap").ok();
}
