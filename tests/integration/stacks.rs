//! The ready-made configs of `share/stacks/`: all of them are valid, and small applications of `fixtures/` run
//! with them for real: served, pushed in two versions, broken, and rolled back.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use bluegreen::command::sudo;
use bluegreen::config::{Config, Phase};
use rustix::process::{Pid, Signal, kill_process};

use crate::support::skip::{program_or_skip, skip};
use crate::support::{Run, Sandbox};

const STACKS: [&str; 5] = ["node", "php", "python", "rails", "static"];

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn stack(name: &str) -> String {
    fs::read_to_string(project(&format!("share/stacks/{name}.toml"))).unwrap()
}

#[test]
fn all_configs_are_valid_and_say_sudo_exactly() {
    for name in STACKS {
        let config = Config::parse(&stack(name)).unwrap_or_else(|error| panic!("{name}: {error:?}"));
        assert!(!config.steps.of(Phase::Check).is_empty(), "{name}");
        assert!(!config.steps.of(Phase::Verify).is_empty(), "{name}");
        let commands = config.steps.iter().map(|step| sudo::commands(step).unwrap().len()).sum::<usize>();
        assert_eq!(commands, usize::from(name != "static"), "{name}");
    }
    Config::parse(&fs::read_to_string(project("share/bluegreen.toml")).unwrap()).unwrap();
}

/// A sandbox with a stack's config and an application that a `sudo` of ours starts as systemd would.
struct Application {
    sandbox: Sandbox,
    port: u16,
}

impl Application {
    /// `serve` is the service's command line.
    fn new(name: &str, serve: &str) -> Self {
        Self::with_service(name, &SERVICE.replace("SERVE", serve))
    }

    /// `service` is a script that stands for `sudo` and systemd.
    fn with_service(name: &str, service: &str) -> Self {
        let sandbox = Sandbox::new();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (site, bin) = (sandbox.site(), sandbox.path("bin"));
        let text = stack(name);
        let old_port = text.lines().find(|line| line.starts_with("PORT = ")).unwrap();
        let text = text.replace(old_port, &format!("PORT = \"{port}\""));
        let path = format!("{}:/usr/local/bin:/usr/bin:/bin", bin.display());
        let home = sandbox.path("home");
        let env = format!("[env]\nPATH = \"{path}\"\nHOME = \"{}\"\n", home.display());
        let text = text.replace("/var/www/html", site.to_str().unwrap()).replace("[env]\n", &env);
        let text = text.replace("branch = \"main\"", "branch = \"master\"");
        sandbox.raw_config(&format!("server = \"blue\"\n{text}"));
        fs::create_dir(&bin).unwrap();
        let service = service
            .replace("STATE", sandbox.path(".").to_str().unwrap())
            .replace("CURRENT", site.join("current").to_str().unwrap());
        fs::write(bin.join("sudo"), service).unwrap();
        fs::set_permissions(bin.join("sudo"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(site.join("shared")).unwrap();
        fs::write(site.join("shared/.env"), "SECRET=1\n").unwrap();
        Self { sandbox, port }
    }

    fn with_fixture(self, name: &str) -> Self {
        self.sandbox.commit_folder(&project(&format!("fixtures/{name}")));
        self
    }

    /// Asks the application as a visitor does.
    fn get(&self, path: &str) -> String {
        let start = Instant::now();
        let mut stream = loop {
            match TcpStream::connect(("127.0.0.1", self.port)) {
                Ok(stream) => break stream,
                Err(error) => assert!(start.elapsed() < Duration::from_secs(10), "{error}"),
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).unwrap();
        response.split_once("\r\n\r\n").unwrap().1.to_owned()
    }

    fn change(&self, path: &str, from: &str, to: &str) -> &Sandbox {
        let text = self.sandbox.git(&["show", &format!("master:{path}")]);
        assert!(text.contains(from), "{text}");
        self.sandbox.commit(path, &(text.replace(from, to) + "\n"))
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        let pid = fs::read_to_string(self.sandbox.path("pid")).ok().and_then(|pid| pid.trim().parse().ok());
        if let Some(pid) = pid.and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

/// Stands for `sudo` and systemd: restarts the one service that there is.
const SERVICE: &str = r#"#!/bin/sh
set -eu
test "$*" = '/usr/bin/systemctl restart sample_app.service'
cd STATE
if test -e pid; then
    kill "$(cat pid)" || :
    rm pid
fi
cd -P CURRENT
setsid sh -c 'echo $$ >STATE/pid.new; mv STATE/pid.new STATE/pid; exec SERVE' >STATE/service.log 2>&1 </dev/null &
while ! test -e STATE/pid; do sleep 0.01; done
"#;

/// Two versions, a third that its check refuses, a fourth that does not come up, and back.
fn lives_through_versions(application: &Application, source: &str, broken: (&str, &str)) {
    let sandbox = &application.sandbox;
    sandbox.push().ok();
    assert_eq!(application.get("/"), "Version 1\n");
    application.change(source, "Version 1", "Version 2").push().ok();
    assert_eq!(application.get("/"), "Version 2\n");
    let second = sandbox.live();

    application.change(source, "Version 2", "Broken 3").push().not_deployed();
    assert_eq!(application.get("/"), "Version 2\n");
    assert_eq!(sandbox.live(), second, "the third version was never live");
    application.change(source, "Broken 3", "Version 4");
    application
        .change(broken.0, broken.1, "not_there")
        .push()
        .not_deployed()
        .says("Going back to release <release>...");
    assert_eq!(application.get("/"), "Version 2\n", "the service was restarted with the release before");
    assert_eq!(sandbox.live(), second);

    sandbox.bluegreen(&["rollback"]).ok();
    assert_eq!(application.get("/"), "Version 1\n");
    application.change(broken.0, "not_there", broken.1).push().ok();
    assert_eq!(application.get("/"), "Version 4\n");
    sandbox.is_tidy();
}

#[test]
fn a_node_application_lives_through_versions() {
    if !["node", "npm", "curl"].into_iter().all(program_or_skip) {
        return;
    }
    let application = Application::new("node", "node server.js").with_fixture("node");
    lives_through_versions(&application, "app.js", ("server.js", "dist/page.txt"));
}

#[test]
fn a_python_application_lives_through_versions() {
    if !["python3", "curl"].into_iter().all(program_or_skip) {
        return;
    }
    let application = Application::new("python", ".venv/bin/python server.py").with_fixture("python");
    lives_through_versions(&application, "app.py", ("server.py", "import app"));
}

/// php-fpm and nginx, which serve before the first push already, as on a server.
struct Fpm(Vec<Child>);

impl Fpm {
    /// The unit's own way to reload it.
    const RELOAD: &str = r#"#!/bin/sh
set -eu
test "$*" = '/usr/bin/systemctl reload php8.2-fpm.service'
kill -USR2 "$(cat STATE/fpm.pid)"
"#;

    fn start(application: &Application, fpm: &Path) -> Self {
        let sandbox = &application.sandbox;
        let (state, root) = (sandbox.path("."), sandbox.site().join("current/public"));
        let (state, root, port) = (state.display(), root.display(), application.port);
        let pool = format!(
            "[global]\npid = {state}/fpm.pid\nerror_log = {state}/fpm.log\n[www]\nuser = root\nlisten = {state}/fpm.sock\n\
             pm = static\npm.max_children = 2\n"
        );
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {state}/nginx-{kind};"))
            .join("\n");
        // Where the document root leads is asked for each request, as share/stacks/php.toml says.
        let web = format!(
            "user root; daemon off; pid {state}/nginx.pid; error_log {state}/nginx.log; events {{}}
             http {{ access_log off; {temporary}
                server {{ listen 127.0.0.1:{port}; root {root};
                    location / {{ include /etc/nginx/fastcgi_params; fastcgi_pass unix:{state}/fpm.sock;
                        fastcgi_param SCRIPT_FILENAME $realpath_root/index.php; }} }} }}"
        );
        fs::write(sandbox.path("fpm.conf"), pool).unwrap();
        fs::write(sandbox.path("nginx.conf"), web).unwrap();
        let start = |program: &Path, arguments: &[&str]| {
            let mut command = sandbox.command(program);
            command.args(arguments).current_dir(sandbox.path(".")).stderr(Stdio::null()).spawn().unwrap()
        };
        let config = |name: &str| sandbox.path(name).to_str().unwrap().to_owned();
        let fpm =
            start(fpm, &["--nodaemonize", "--allow-to-run-as-root", "--fpm-config", &config("fpm.conf")]);
        Self(vec![fpm, start(Path::new("nginx"), &["-c", &config("nginx.conf")])])
    }
}

impl Drop for Fpm {
    fn drop(&mut self) {
        for child in &mut self.0 {
            // Each ends its own workers.
            let _ = kill_process(Pid::from_child(child), Signal::TERM);
            let _ = child.wait();
        }
    }
}

#[test]
fn a_php_application_lives_through_versions() {
    if !["php", "composer", "nginx", "curl"].into_iter().all(program_or_skip) {
        return;
    }
    let mut programs = fs::read_dir("/usr/sbin").unwrap().map(|entry| entry.unwrap().path());
    let is_fpm = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with("php-fpm");
    let Some(fpm) = programs.find(is_fpm) else { return skip("`php-fpm` is not installed") };
    let application = Application::with_service("php", Fpm::RELOAD).with_fixture("php");
    let _servers = Fpm::start(&application, &fpm);
    lives_through_versions(&application, "app/Page.php", ("public/index.php", "/up"));
    assert!(application.sandbox.site().join("shared/storage/migrated").exists());
}

#[test]
fn a_rails_application_lives_through_versions() {
    if !["ruby", "bundle", "puma", "curl"].into_iter().all(program_or_skip) {
        return;
    }
    // As the unit has it, of which nothing but PORT comes from the steps here.
    let serve = "env -i PATH=/usr/bin:/bin RAILS_ENV=production PORT=$PORT BUNDLE_PATH=vendor/bundle \
        BUNDLE_WITHOUT=development:test bundle exec puma -C config/puma.rb";
    let application = Application::new("rails", serve);
    let sandbox = &application.sandbox;
    let shared = sandbox.site().join("shared/config");
    fs::create_dir(&shared).unwrap();
    fs::write(shared.join("master.key"), "0123456789abcdef0123456789abcdef").unwrap();
    // The gems are the system's, packed where `bundle install` takes them from, without a network.
    let clone = sandbox.path("rails");
    let copy = fs_extra::dir::CopyOptions::new().copy_inside(true);
    fs_extra::dir::copy(project("fixtures/rails"), &clone, &copy).unwrap();
    let gems = "ruby \"$0\" activerecord puma railties sprockets-rails sqlite3 && bundle lock --local";
    let mut pack = sandbox.command("sh");
    pack.current_dir(&clone).args(["-c", gems]).arg(project("tests/integration/support/pack_gems.rb"));
    Run::new(sandbox, &mut pack).ok();
    sandbox.commit_folder(&clone);
    lives_through_versions(&application, "app/models/page.rb", ("config/routes.rb", "/up"));
    assert!(shared.join("../storage/production.sqlite3").exists());
}

#[test]
fn a_static_site_lives_through_versions() {
    if !["python3", "curl"].into_iter().all(program_or_skip) {
        return;
    }
    let application = Application::new("static", "true").with_fixture("static");
    let sandbox = &application.sandbox;
    let mut server = sandbox.command("python3");
    server
        .args(["-m", "http.server", "--bind", "127.0.0.1", "--directory"])
        .arg(sandbox.site().join("current"));
    let mut server = server.arg(application.port.to_string()).stderr(Stdio::null()).spawn().unwrap();
    fs::create_dir(sandbox.site().join("current")).unwrap();
    application.get("/");
    fs::remove_dir(sandbox.site().join("current")).unwrap();

    sandbox.push().ok();
    assert!(application.get("/").contains("Version 1"));
    application.change("index.html", "Version 1", "Version 2").push().ok();
    assert!(application.get("/").contains("Version 2"));
    sandbox.commit("index.html", "").push().not_deployed();
    assert!(application.get("/").contains("Version 2"));
    assert_eq!(application.get("/css/site.css"), "h1 { color: teal; }\n");
    sandbox.bluegreen(&["rollback"]).ok();
    assert!(application.get("/").contains("Version 1"));
    server.kill().unwrap();
    server.wait().unwrap();
}
