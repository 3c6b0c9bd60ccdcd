//! The ready-made configs in `share/stacks/`: all of them are valid. Small applications in `fixtures/` run
//! with them and are served, updated, broken, and rolled back.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use bluegreen::command::sudo;
use bluegreen_server::config::{Config, Phase};
use rustix::process::{Pid, Signal, kill_process};

use crate::support::skip::{program_or_skip, skip};
use crate::support::{Node, Run, Sandbox};

const STACKS: [&str; 5] = ["node", "php", "python", "rails", "static"];

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn stack(name: &str) -> String {
    fs::read_to_string(project(&format!("share/stacks/{name}/bluegreen.toml"))).unwrap()
}

#[test]
fn all_configs_are_valid_and_need_no_sudo() {
    for name in STACKS {
        let config = Config::parse(&stack(name)).unwrap_or_else(|error| panic!("{name}: {error:?}"));
        assert!(!config.steps.of(Phase::Check).is_empty(), "{name}");
        assert!(!config.site.assets.is_empty(), "{name}");
        assert_eq!(config.app.is_some(), !["php", "static"].contains(&name), "{name}");
        let commands = config.steps.iter().map(|step| sudo::commands(step).unwrap().len()).sum::<usize>();
        assert_eq!(commands, 0, "{name}");
    }
}

/// A sandbox with a stack's config and an application for it.
struct Application {
    sandbox: Sandbox,
    port: u16,
}

impl Application {
    /// `serve` is the command that starts the application.
    fn new(name: &str, serve: &str) -> Self {
        let sandbox = Sandbox::new();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let site = sandbox.site();
        let control = sandbox.control(serve);
        let env = format!(
            "PATH = \"/usr/local/bin:/usr/bin:/bin\"\nHOME = \"{}\"\n",
            sandbox.path("home").display()
        );
        let mut text = stack(name).replace("/var/www/html", site.to_str().unwrap());
        text = text.replace("branch = \"main\"", "branch = \"master\"").replace("#server", "server");
        text = text.replace("[app]\n", &format!("[app]\ncontrol = \"{}\"\n", control.display()));
        let section = if text.contains("[env]\n") { "" } else { "[env]\n" };
        text = format!("{text}{section}{env}");
        sandbox.raw_config(&text);
        fs::create_dir(site.join("shared")).unwrap();
        fs::write(site.join("shared/.env"), "# One per line.\nSECRET=1\n").unwrap();
        Self { sandbox, port }
    }

    fn with_fixture(self, name: &str) -> Self {
        self.sandbox.commit_folder(&project(&format!("fixtures/{name}")));
        self
    }

    /// Sends a request to the application, through its socket or through the test's web server.
    fn get(&self, path: &str) -> String {
        let socket = self.sandbox.site().join("current/.app.sock");
        if socket.is_symlink() {
            return ask(UnixStream::connect(socket).unwrap(), path);
        }
        let start = Instant::now();
        let stream = loop {
            match TcpStream::connect(("127.0.0.1", self.port)) {
                Ok(stream) => break stream,
                Err(error) => assert!(start.elapsed() < Duration::from_secs(10), "{error}"),
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        ask(stream, path)
    }

    #[track_caller]
    fn serves(&self, version: &str) {
        let page = self.get("/");
        assert!(page.contains(&format!("<h1>{version}</h1>")), "{page}");
    }

    fn change(&self, path: &str, from: &str, to: &str) -> &Sandbox {
        let text = self.sandbox.git(&["show", &format!("master:{path}")]);
        assert!(text.contains(from), "{text}");
        self.sandbox.commit(path, &(text.replace(from, to) + "\n"))
    }

    /// Deploys two versions, then one that fails its check, and rolls back.
    fn updates_and_rolls_back(&self, source: &str) {
        let sandbox = &self.sandbox;
        sandbox.push().ok();
        self.serves("Version 1");
        let told = self.change(source, "Version 1", "Version 2").push().ok();
        let config = fs::read_to_string(sandbox.config_path()).unwrap();
        let is_skipped = told.output().contains(": unchanged since ");
        assert_eq!(
            is_skipped,
            config.contains("inputs = ["),
            "packages are installed once: {}",
            told.output()
        );
        self.serves("Version 2");
        let second = sandbox.live();
        self.change(source, "Version 2", "Broken 3").push().not_deployed();
        self.serves("Version 2");
        assert_eq!(sandbox.live(), second, "the third version became live");
        sandbox.bluegreen(&["rollback"]).ok();
        self.serves("Version 1");
        self.change(source, "Broken 3", "Version 4").push().ok();
        self.serves("Version 4");
        sandbox.is_tidy();
    }

    /// Asserts that a version that does not start never becomes live.
    fn rejects_broken_versions(&self, file: &str, needed: &str) {
        let live = self.sandbox.live();
        self.change(file, needed, "not_there").push().not_deployed();
        assert_eq!(self.sandbox.live(), live);
        self.serves("Version 4");
        self.change(file, "not_there", needed).push().ok();
        self.serves("Version 4");
    }
}

fn ask(mut stream: impl Read + Write, path: &str) -> String {
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    response.split_once("\r\n\r\n").unwrap().1.to_owned()
}

impl Drop for Application {
    fn drop(&mut self) {
        for entry in self.sandbox.path("run").read_dir().into_iter().flatten().flatten() {
            let stop = [std::ffi::OsStr::new("stop"), &entry.file_name()];
            let _ = self.sandbox.command(self.sandbox.path("control")).args(stop).status();
        }
    }
}

#[test]
fn a_node_application_is_updated_and_rolled_back() {
    if !["node", "npm"].into_iter().all(program_or_skip) {
        return;
    }
    let application = Application::new("node", "node server.js").with_fixture("node");
    application.updates_and_rolls_back("page.js");
    application.rejects_broken_versions("server.js", "\"./websocket\"");
}

#[test]
fn a_python_application_is_updated_and_rolled_back() {
    if !program_or_skip("python3") {
        return;
    }
    let application = Application::new("python", ".venv/bin/python server.py").with_fixture("python");
    application.updates_and_rolls_back("app.py");
    application.rejects_broken_versions("server.py", "import storage");
}

/// php-fpm and nginx, which are running before the first push, as on a server.
struct Fpm(Vec<Child>);

impl Fpm {
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
        // nginx resolves the document root for each request, as share/stacks/php.toml says.
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
            // Each one stops its own workers.
            let _ = kill_process(Pid::from_child(child), Signal::TERM);
            let _ = child.wait();
        }
    }
}

#[test]
fn a_php_application_is_updated_and_rolled_back() {
    if !["php", "composer", "nginx"].into_iter().all(program_or_skip) {
        return;
    }
    let mut programs = fs::read_dir("/usr/sbin").unwrap().map(|entry| entry.unwrap().path());
    let is_fpm = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with("php-fpm");
    let Some(fpm) = programs.find(is_fpm) else { return skip("`php-fpm` is not installed") };
    let application = Application::new("php", "false").with_fixture("php");
    let _servers = Fpm::start(&application, &fpm);
    application.updates_and_rolls_back("app/Page.php");
    assert!(application.sandbox.site().join("shared/storage/migrated").exists());
}

#[test]
fn applications_need_neither_composer_nor_laravel_nor_python_tests() {
    let php = Application::new("php", "false");
    php.sandbox.commit("public/index.php", "<?php echo 'plain';\n").push().ok();
    if !program_or_skip("python3") {
        return;
    }
    let python = Application::new("python", ".venv/bin/python server.py").with_fixture("python");
    python.sandbox.commit_nodes(&[(b"tests", Node::Nothing)]).push().ok();
    python.serves("Version 1");
}

#[test]
fn a_rails_application_is_updated_and_rolled_back() {
    if !["ruby", "bundle", "puma"].into_iter().all(program_or_skip) {
        return;
    }
    // The same environment as in the systemd unit.
    let serve = "env -i PATH=/usr/bin:/bin RAILS_ENV=production SECRET_KEY_BASE=1 SOCKET=$SOCKET BUNDLE_PATH=vendor/bundle \
        BUNDLE_WITHOUT=development:test bundle exec puma -C config/puma.rb";
    let application = Application::new("rails", serve);
    let sandbox = &application.sandbox;
    let shared = sandbox.site().join("shared");
    // The system's gems, packed into the directory that `bundle install` uses without a network.
    let clone = sandbox.path("rails");
    let copy = fs_extra::dir::CopyOptions::new().copy_inside(true);
    fs_extra::dir::copy(project("fixtures/rails"), &clone, &copy).unwrap();
    let gems = "ruby \"$0\" activerecord puma railties sprockets-rails sqlite3 && bundle lock --local";
    let mut pack = sandbox.command("sh");
    pack.current_dir(&clone).args(["-c", gems]).arg(project("tests/integration/support/pack_gems.rb"));
    Run::new(sandbox, &mut pack).ok();
    sandbox.commit_folder(&clone);
    application.updates_and_rolls_back("app/models/page.rb");
    application.rejects_broken_versions("config/puma.rb", "threads 1, 5");
    assert!(shared.join("storage/production.sqlite3").exists());
}

#[test]
fn a_static_site_is_updated_and_rolled_back() {
    if !program_or_skip("python3") {
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
    assert!(application.get("/assets/site-1.css").contains("h1 { color: teal; }"));
    sandbox.bluegreen(&["rollback"]).ok();
    assert!(application.get("/").contains("Version 1"));
    server.kill().unwrap();
    server.wait().unwrap();
}
