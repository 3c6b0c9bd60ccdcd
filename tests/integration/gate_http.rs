//! The gate over smart HTTP: `git http-backend` behind Apache.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::support::run::copy_program;
use crate::support::sandbox::NOBODY;
use crate::support::skip::{program_or_skip, skip};
use crate::support::{Run, Sandbox};

/// An Apache that serves the sandbox's repository as the repository's owner.
struct Apache {
    process: Child,
    url: String,
}

impl Apache {
    fn start(sandbox: &Sandbox, user: &str) -> Option<Self> {
        let modules = ["/usr/lib/apache2/modules", "/usr/lib64/httpd/modules"];
        let Some(modules) = modules.iter().find(|path| fs::exists(path).unwrap()) else {
            skip("the Apache modules are not installed");
            return None;
        };
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let backend = sandbox.git(&["--exec-path"]) + "/git-http-backend";
        let root = sandbox.path("apache");
        fs::create_dir(&root).unwrap();
        let mut config = format!(
            "ServerName localhost\nServerRoot \"{0}\"\nPidFile \"{0}/pid\"\nErrorLog \"{0}/error.log\"\n\
             Listen 127.0.0.1:{port}\n{user}SetEnv GIT_PROJECT_ROOT \"{1}\"\nSetEnv GIT_HTTP_EXPORT_ALL\n\
             ScriptAlias /git/ {backend}/\n",
            root.display(),
            sandbox.path(".").display(),
        );
        for module in ["mpm_prefork", "authz_core", "alias", "env", "cgi"] {
            config.insert_str(0, &format!("LoadModule {module}_module {modules}/mod_{module}.so\n"));
        }
        fs::write(root.join("httpd.conf"), config).unwrap();
        let mut apache = std::process::Command::new("apache2");
        apache.args(["-D", "FOREGROUND", "-f"]).arg(root.join("httpd.conf"));
        // Apache signals its whole process group when it exits.
        let process = apache.stdin(Stdio::null()).process_group(0).spawn().unwrap();
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let log = fs::read_to_string(root.join("error.log")).unwrap_or_default();
            assert!(start.elapsed() < Duration::from_secs(20), "{log}");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(Self { process, url: format!("http://127.0.0.1:{port}/git/repository") })
    }

    fn push<'a>(&self, sandbox: &'a Sandbox, refs: &[&str]) -> Run<'a> {
        let mut git = sandbox.git_command(&sandbox.clone_path());
        Run::new(sandbox, git.arg("push").arg(&self.url).args(refs).stdin(Stdio::null()))
    }
}

impl Drop for Apache {
    fn drop(&mut self) {
        // Apache's parent process stops the workers.
        let pid = rustix::process::Pid::from_child(&self.process);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.process.wait();
    }
}

#[test]
fn a_push_over_http_fails_with_its_deployment() {
    if !program_or_skip("apache2") {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.config_section("[steps]\nbuild = 'test ! -e broken'");
    for (key, value) in [
        ("http.receivepack", "true"),
        ("receive.procReceiveRefs", "refs/heads/master"),
        ("receive.advertisePushOptions", "true"),
    ] {
        sandbox.git_in(&sandbox.repository(), &["config", key, value]);
    }
    sandbox.commit("a", "1");
    let hooks = sandbox.repository().join("hooks");
    copy_program(&hooks.join("proc-receive"));
    let user = if rustix::process::geteuid().is_root() {
        sandbox.owned_by(NOBODY);
        "User #65534\nGroup #65534\n"
    } else {
        ""
    };
    let Some(apache) = Apache::start(&sandbox, user) else { return };
    apache
        .push(&sandbox, &["master", "master:refs/heads/topic"])
        .ok()
        .says("Git hooks deploy complete.")
        .serves("a", "1");
    sandbox.commit("broken", "");
    let push = apache.push(&sandbox, &["master"]);
    let line = " ! [remote rejected] master -> master (step test ! -e broken exited with status 1)";
    assert!(push.output.lines().any(|said| said == line), "{}", push.output);
    assert_eq!(push.status.code(), Some(1));
    apache.push(&sandbox, &["-o", "skip", "master"]).ok().serves("a", "1");
}
