//! The quick installer, `packaging/get.sh`, and the files that it refuses.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use crate::release::Signer;
use crate::skip::root_or_skip;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/get.sh");

/// The architecture of releases that is not this machine's.
const OTHER: &str = if cfg!(target_arch = "x86_64") { "aarch64" } else { "x86_64" };

/// A web server for a directory, on a port of loopback.
pub struct WebServer {
    process: Child,
    pub url: String,
}

impl WebServer {
    pub fn start(directory: &Path) -> Self {
        Self::run(&["-m", "http.server", "--bind", "127.0.0.1", "0"], directory)
    }

    fn run(arguments: &[&str], directory: &Path) -> Self {
        let mut command = Command::new("python3");
        command.arg("-u").args(arguments).current_dir(directory);
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let port = line.split(" port ").nth(1).unwrap().split(' ').next().unwrap();
        Self { url: format!("http://127.0.0.1:{port}"), process }
    }
}

impl Drop for WebServer {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

/// A Python program: a web server that responds as its path requests, on a port of loopback.
const HOSTILE: &str = r"
import http.server
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        kind = self.path.split('/')[1]
        self.send_response(302 if kind in ('loop', 'file') else 200)
        if kind in ('loop', 'file'):
            self.send_header('Location', self.path if kind == 'loop' else 'file:///etc/passwd')
        if kind == 'short':
            self.send_header('Content-Length', '1000')
        self.end_headers()
        if kind == 'html':
            self.wfile.write(b'<html>Log in to the network</html>')
        if kind in ('short', 'stalled'):
            self.wfile.write(b'x')
        if kind == 'stalled':
            self.rfile.read(1)
        while kind == 'endless':
            self.wfile.write(bytes(65536))
server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
print(f' port {server.server_port} ')
server.serve_forever()
";

/// A release on a web server, and where the installer installs it.
struct Quick {
    signer: Signer,
    web: WebServer,
    fingerprint: String,
    prefix: PathBuf,
}

impl Quick {
    fn new() -> Option<Self> {
        let signer = Signer::new()?;
        // For the other architecture, a script stands in for the program.
        signer.write("other", "#!/bin/sh\necho bluegreen of the other architecture\n");
        let release = signer.release_with("one", &format!("--binary {OTHER} other"));
        let (fingerprint, prefix) = (signer.fingerprint(), release.with_file_name("the prefix"));
        signer.sh("mkdir 'temporary files'");
        Some(Self { web: WebServer::start(&release), signer, fingerprint, prefix })
    }

    /// Returns a command that runs a script with these arguments, and with other programs if `path` is set.
    fn command(&self, script: &str, path: Option<&str>, arguments: &[&str]) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args([script, "--prefix", self.prefix.to_str().unwrap()]).args(arguments);
        command.env("TMPDIR", self.temporary());
        if let Some(path) = path {
            command.env("PATH", path);
        }
        command
    }

    /// Runs a script, and checks that it removed its temporary files.
    fn run(&self, script: &str, path: Option<&str>, arguments: &[&str]) -> Output {
        let output = self.command(script, path, arguments).output().unwrap();
        assert_eq!(std::fs::read_dir(self.temporary()).unwrap().count(), 0, "{arguments:?}");
        output
    }

    fn temporary(&self) -> PathBuf {
        self.prefix.with_file_name("temporary files")
    }

    fn get_from(&self, url: &str, path: Option<&str>) -> Output {
        self.run(SCRIPT, path, &["--url", url, "--fingerprint", &self.fingerprint])
    }

    fn get(&self) -> Output {
        self.get_from(&self.web.url, None)
    }

    fn refuses(&self, output: &Output, reason: &str) {
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{reason}: {text}");
        assert!(text.contains(reason) && text.contains("\nhint: "), "{reason}: {text}");
        assert!(!self.prefix.exists(), "{reason}: {text}");
    }

    /// Changes a file of the release, runs the installer, and restores the file.
    fn refuses_changed(&self, file: &str, change: &str, reason: &str) {
        self.signer.sh(&format!("cd one; cp -a {file} ../saved; {change}"));
        self.refuses(&self.get(), reason);
        self.signer.sh(&format!("mv saved one/{file}"));
    }

    /// Creates a `PATH` with a script in the place of a program, or without the program if the script is empty.
    fn path_with(&self, program: &str, script: &str) -> String {
        let path = self.prefix.with_file_name(format!("with-{program}"));
        self.signer.sh(&format!("cp -rs /usr/bin with-{program}; rm with-{program}/{program}"));
        if !script.is_empty() {
            self.signer.write(&format!("with-{program}/{program}"), &format!("#!/bin/sh\n{script}\n"));
            self.signer.sh(&format!("chmod 755 with-{program}/{program}"));
        }
        path.to_str().unwrap().to_owned()
    }

    fn installed(&self) -> String {
        let output = Command::new(self.prefix.join("bin/bluegreen")).arg("--version").output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }
}

fn ok(output: &Output) {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn it_refuses_what_is_not_signed() {
    let Some(quick) = Quick::new() else { return };
    let (url, fingerprint) = (quick.web.url.as_str(), quick.fingerprint.as_str());
    for (url, fingerprint, reason) in [
        (url, "", "the fingerprint of the key is missing"),
        (url, &fingerprint[1..], "the fingerprint of the key is missing or invalid"),
        ("", fingerprint, "the URL of the release is missing"),
        ("file:///srv", fingerprint, "invalid URL"),
        ("http://127.0.0.1:1", fingerprint, "cannot download"),
        (url, &"A".repeat(40), "is not from the key with that fingerprint"),
    ] {
        let arguments = ["--url", url, "--fingerprint", fingerprint];
        quick.refuses(&quick.run(SCRIPT, None, &arguments), reason);
    }
    let program = format!("bluegreen-{}-{}-linux", env!("CARGO_PKG_VERSION"), std::env::consts::ARCH);
    for (file, change, reason) in [
        (program.as_str(), "truncate -s -1", "the checksum of `bluegreen-"),
        ("bluegreen.1", "truncate -s -1", "the checksum of `bluegreen.1` is wrong"),
        ("SHA256SUMS", "sed -i s/0/1/", "the signature of the checksums is not from the key"),
        ("SHA256SUMS", "truncate -s -1", "the signature of the checksums is not from the key"),
        ("SHA256SUMS.asc", "truncate -s 100", "the signature of the checksums is not from the key"),
        ("SHA256SUMS.asc", "rm", "cannot download"),
        ("bluegreen.gpg", "truncate -s 0", "the key of the release cannot be read"),
    ] {
        quick.refuses_changed(file, &format!("{change} {file}"), reason);
    }
    let reason = "is not from the key with that fingerprint";
    // A signature by another key, offered together with the publisher's.
    let change = "gpg --batch --quiet --passphrase '' --quick-generate-key stranger ed25519 sign never
        gpg --batch --yes --quiet --local-user stranger --armor --detach-sign SHA256SUMS; gpg --export >bluegreen.gpg";
    quick.refuses_changed("SHA256SUMS.asc", change, reason);
    // The publisher's key, revoked.
    let change = format!(
        "sed 's/^:-----/-----/' \"$GNUPGHOME/openpgp-revocs.d/{fingerprint}.rev\" | gpg --batch --quiet --import
        gpg --export {fingerprint} >bluegreen.gpg"
    );
    quick.refuses_changed("bluegreen.gpg", &change, reason);

    // A key that has expired since it signed.
    let time = "gpg --batch --quiet --passphrase '' --faked-system-time 2020010";
    let change = format!(
        "{time}1T000000 --quick-generate-key expired ed25519 sign 2020-01-03
        {time}2T000000 --yes --local-user expired --armor --detach-sign SHA256SUMS; gpg --export >bluegreen.gpg"
    );
    quick.signer.sh(&format!("cd one; cp -a SHA256SUMS.asc bluegreen.gpg ..; {change}"));
    let expired = quick.signer.sh("gpg --with-colons --list-keys expired | sed -n 's/^fpr:*//p' | tr -d :");
    quick.refuses(&quick.run(SCRIPT, None, &["--url", url, "--fingerprint", expired.trim()]), reason);
    quick.signer.sh("mv SHA256SUMS.asc bluegreen.gpg one");

    it_limits_hostile_servers(&quick);
    it_names_what_is_missing(&quick);
    // A truncated script does nothing.
    let text = std::fs::read_to_string(SCRIPT).unwrap();
    quick.signer.write("half.sh", &text[..text.rfind("main \"$@\"").unwrap()]);
    let half = quick.prefix.with_file_name("half.sh");
    let arguments = ["--url", url, "--fingerprint", fingerprint];
    assert!(quick.run(half.to_str().unwrap(), None, &arguments).stdout.is_empty());
    assert!(!quick.prefix.exists());
}

/// Checks the limits on servers that send too much, too little, or another file.
fn it_limits_hostile_servers(quick: &Quick) {
    let hostile = WebServer::run(&["-c", HOSTILE], quick.prefix.parent().unwrap());
    let only_wget = quick.path_with("curl", "");
    // On macOS, perl limits the time.
    let on_macos = quick.path_with("uname", "[ $1 = -m ] && echo arm64 || echo Darwin");
    let with_limit = |seconds: u32| {
        let text = std::fs::read_to_string(SCRIPT).unwrap();
        assert!(text.contains("\nmax_time=900\n"));
        let name = format!("at-most-{seconds}.sh");
        quick.signer.write(&name, &text.replace("max_time=900", &format!("max_time={seconds}")));
        quick.prefix.with_file_name(name).to_str().unwrap().to_owned()
    };
    let script = with_limit(1);
    let stalled = format!("{}/stalled", hostile.url);
    let arguments = ["--url", &stalled, "--fingerprint", &quick.fingerprint];
    for path in [None, Some(only_wget.as_str()), Some(on_macos.as_str())] {
        for (kind, reason) in [
            ("endless", "SHA256SUMS`: it is too large"),
            ("short", "cannot download"),
            ("loop", "cannot download"),
            ("file", "cannot download"),
            // The login page of a proxy.
            ("html", "the key of the release cannot be read"),
        ] {
            quick.refuses(&quick.get_from(&format!("{}/{kind}", hostile.url), path), reason);
        }
        quick.refuses(&quick.run(&script, path, &arguments), "SHA256SUMS` within 1 seconds");
    }

    // An interruption stops the download. The limit ends the test if it does not.
    for path in [None, Some(only_wget.as_str()), Some(on_macos.as_str())] {
        let mut command = quick.command(&with_limit(60), path, &arguments);
        let installer = command.stderr(Stdio::piped()).spawn().unwrap();
        let began = || {
            std::fs::read_dir(quick.temporary())
                .unwrap()
                .flatten()
                .any(|each| each.path().join("SHA256SUMS").exists())
        };
        while !began() {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        rustix::process::kill_process(
            rustix::process::Pid::from_child(&installer),
            rustix::process::Signal::TERM,
        )
        .unwrap();
        // Waits for the download, too, because it inherits the pipe.
        quick.refuses(&installer.wait_with_output().unwrap(), "error: interrupted");
        assert_eq!(std::fs::read_dir(quick.temporary()).unwrap().count(), 0);
    }
}

fn it_names_what_is_missing(quick: &Quick) {
    let url = quick.web.url.as_str();
    quick.refuses(&quick.get_from(url, Some(&quick.path_with("gpg", ""))), "`gpg` is not installed");
    let busybox = quick.path_with("wget", "echo \"wget: unrecognized option '$1'\" >&2; exit 1");
    quick.signer.sh("rm with-wget/curl");
    let reason = "neither `curl` nor GNU `wget` is installed";
    quick.refuses(&quick.get_from(url, Some(&busybox)), reason);
    quick.signer.sh("rm -r with-uname");
    let unknown = quick.path_with("uname", "[ $1 = -m ] && echo riscv64 || echo Linux");
    quick.refuses(&quick.get_from(url, Some(&unknown)), "there is no program for riscv64");
    // A user who may not write to the prefix learns so before the download.
    let text = std::fs::read_to_string(SCRIPT).unwrap();
    for (prefix, named) in [("/usr", "`/usr/bin`"), ("/etc/passwd/none", "`/etc/passwd`")] {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", &text, "get.sh", "--prefix", prefix, "--url", "http://127.0.0.1:1"]);
        if rustix::process::geteuid().is_root() {
            command.uid(65534);
        }
        let output = command.args(["--fingerprint", &quick.fingerprint]).output().unwrap();
        quick.refuses(&output, &format!("cannot write to {named}\nhint: run it with `sudo`"));
    }
}

#[test]
fn it_installs_upgrades_and_uninstalls() {
    let Some(quick) = Quick::new() else { return };
    let url = quick.web.url.as_str();
    // The fingerprint as gpg prints it, with spaces.
    let spaced = quick.fingerprint.as_bytes().chunks(4).map(|four| std::str::from_utf8(four).unwrap());
    let spaced = spaced.collect::<Vec<_>>().join(" ");
    let said = quick.signer.sh(&format!(
        "umask 077; sh {SCRIPT} --prefix \"$PWD/the prefix\" --url {url} --fingerprint '{spaced}'"
    ));
    assert!(said.contains("note: "), "bluegreen is not in PATH: {said}");
    // Other users can run the program, although the caller's umask would forbid it.
    assert_eq!(quick.signer.sh("find 'the prefix' -type d ! -perm 755 -o -type f ! -perm -444"), "");
    let current = quick.installed();
    assert!(current.starts_with("bluegreen "), "{current}");
    // The same version is installed again, by two installers in parallel.
    let arguments = ["--url", url, "--fingerprint", &quick.fingerprint];
    let both = [None, Some(quick.path_with("curl", ""))].map(|path| {
        quick.command(SCRIPT, path.as_deref(), &arguments).stdout(Stdio::null()).spawn().unwrap()
    });
    for installer in both {
        ok(&installer.wait_with_output().unwrap());
    }
    assert_eq!(quick.installed(), current);
    assert_eq!(quick.signer.sh("find 'the prefix' -type f | wc -l").trim(), "5");

    // A newer version stays, unless a downgrade is requested.
    let newer = "#!/bin/sh\necho bluegreen 99.0.0\n";
    std::fs::write(quick.prefix.join("bin/bluegreen"), newer).unwrap();
    let kept = quick.get();
    let text = String::from_utf8_lossy(&kept.stderr);
    assert!(text.contains("bluegreen 99.0.0 is installed, and"), "{text}");
    assert_eq!(quick.installed(), "bluegreen 99.0.0\n");
    ok(&quick.run(SCRIPT, None, &["--url", url, "--fingerprint", &spaced, "--allow-downgrade"]));
    assert_eq!(quick.installed(), current);

    // On the other architecture, its program is installed.
    let other = quick.path_with("uname", &format!("[ $1 = -m ] && echo {OTHER} || echo Linux"));
    ok(&quick.get_from(url, Some(&other)));
    assert_eq!(quick.installed(), "bluegreen of the other architecture\n");

    a_full_disk_changes_nothing(&quick);
    it_uninstalls_changed_files(&quick);
}

/// Runs the installer on small file systems, in a mount namespace.
fn a_full_disk_changes_nothing(quick: &Quick) {
    if !root_or_skip() {
        return;
    }
    let script = r#"
        url=$1 fingerprint=$2 script=$3
        get() { TMPDIR="$PWD/temporary files" sh "$script" --prefix "$PWD/the prefix" --url "$url" --fingerprint "$fingerprint" 2>said; }
        refused() { # REASON
            if get; then exit 1; fi
            grep "$1" said || { cat said >&2; exit 1; }
            test -z "$(ls "temporary files")"
        }
        mount -t tmpfs -o size=1m small "the prefix"
        mkdir "the prefix/bin"
        echo 'echo bluegreen 0.0.1' >"the prefix/bin/bluegreen"
        chmod 755 "the prefix/bin/bluegreen"
        refused 'cannot write `/.*/bin/bluegreen`'
        test "$(find "the prefix" -type f)" = 'the prefix/bin/bluegreen'
        grep -x 'echo bluegreen 0.0.1' "the prefix/bin/bluegreen"
        umount "the prefix"
        rm "the prefix/bin/bluegreen"

        mount -t tmpfs -o size=64k small "temporary files"
        refused 'hint: free space in that directory, or set `TMPDIR`'
        PATH=$PWD/with-curl refused 'hint: free space in that directory, or set `TMPDIR`'
        umount "temporary files"

        # A program that may not run there is tested where it is installed.
        mount --bind "temporary files" "temporary files"
        mount -o remount,bind,noexec "temporary files"
        get
        "the prefix/bin/bluegreen" --version
    "#;
    quick.signer.write("small.sh", script);
    quick
        .signer
        .sh(&format!("unshare --mount sh -e small.sh {} {} {SCRIPT}", quick.web.url, quick.fingerprint));
}

/// Uninstalls after the files were changed.
fn it_uninstalls_changed_files(quick: &Quick) {
    let uninstall = || quick.run(SCRIPT, None, &["--uninstall"]);
    let refused = |reason: &str| {
        let output = uninstall();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            output.status.code() == Some(1) && text.contains(reason) && text.contains("\nhint: "),
            "{text}"
        );
        quick.signer.sh("test -x 'the prefix/bin/bluegreen'");
    };
    // Without the program, a push to a repository on this machine would deploy nothing.
    quick.signer.sh("ln -s \"$PWD/the prefix/bin/bluegreen\" 'the prefix/bin/bluegreen-shell'");
    refused("a repository on this machine deploys with `/");
    quick.signer.sh("rm 'the prefix/bin/bluegreen-shell'; cd 'the prefix/share/man/man1'; rm bluegreen.1; mkdir bluegreen.1");
    refused("bluegreen.1`");
    quick.signer.sh(
        "cd 'the prefix'; rmdir share/man/man1/bluegreen.1; ln -sf nowhere share/zsh/site-functions/_bluegreen
        touch bin/bluegreen.new.12345",
    );
    ok(&uninstall());
    assert_eq!(quick.signer.sh("find 'the prefix' ! -type d"), "");
    assert!(String::from_utf8_lossy(&uninstall().stdout).contains("bluegreen is not installed in /"));
}
