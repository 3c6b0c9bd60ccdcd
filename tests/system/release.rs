//! The artifacts of a release: signed checksums, and an apt repository from which a server installs.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Instant;

use tempfile::TempDir;

use crate::lab::Lab;
use crate::skip::skip;

const CLONE: &str = env!("CARGO_MANIFEST_DIR");
const KEY: &str = "release-test@example.org";

/// A signing key and its directory.
struct Signer(TempDir);

impl Signer {
    fn new() -> Option<Self> {
        for tool in ["cargo-deb", "jq", "gpg", "apt-ftparchive", "dpkg-scanpackages"] {
            if Command::new(tool).arg("--version").output().is_err() {
                skip(&format!("`{tool}` is not installed"));
                return None;
            }
        }
        let signer = Self(tempfile::tempdir().unwrap());
        signer.sh(&format!(
            "gpg --batch --quiet --passphrase '' --quick-generate-key {KEY} ed25519 sign never"
        ));
        Some(signer)
    }

    /// Runs a script with the key, in the directory of the releases, and returns its output.
    fn sh(&self, script: &str) -> String {
        let mut command = Command::new("sh");
        command.args(["-ec", script]).current_dir(self.0.path()).env("GNUPGHOME", self.0.path());
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{script}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn release(&self, name: &str) -> PathBuf {
        self.release_with(name, "")
    }

    fn release_with(&self, name: &str, options: &str) -> PathBuf {
        // Both this test and the package tests build in `target/package`.
        let _turn = crate::package::ONE_AT_A_TIME.lock();
        let (program, arch) = (env!("CARGO_BIN_EXE_bluegreen"), std::env::consts::ARCH);
        self.sh(&format!("{CLONE}/packaging/release --key {KEY} --binary {arch} {program} {options} {name}"));
        self.0.path().join(name)
    }
}

impl Signer {
    fn fingerprint(&self) -> String {
        let list = format!("gpg --with-colons --list-keys {KEY} | sed -n 's/^fpr:*//p' | tr -d :");
        self.sh(&list).trim().to_owned()
    }
}

impl Drop for Signer {
    fn drop(&mut self) {
        self.sh("gpgconf --kill all");
    }
}

#[test]
fn releases_are_reproducible_and_signed() {
    let Some(signer) = Signer::new() else { return };
    for name in ["one", "two"] {
        signer.release(name);
    }
    signer.sh("diff -r --exclude='*.asc' --exclude=InRelease --exclude=Release.gpg one two");
    signer
        .sh("cd one; sha256sum --check --strict --quiet SHA256SUMS; gpg --verify SHA256SUMS.asc SHA256SUMS");
    signer.sh("cd one/apt/dists/stable; gpg --verify Release.gpg Release; gpg --verify InRelease");
    let listed = signer.sh("cut -c67- one/SHA256SUMS");
    for file in ["bluegreen.1", "bluegreen.spdx.json", "bluegreen.bash", "-1_", "-linux"] {
        assert!(listed.contains(file), "{file} is missing: {listed}");
    }
    // Nothing invents an address.
    signer.sh("cd one; ! ls bluegreen.rb 2>/dev/null; grep -Fx \"default_url=''\" get.sh");
    // A changed file is detected.
    signer.sh("cd two; echo changed >>bluegreen.1; ! sha256sum --check --status SHA256SUMS");
    signer.sh("cd two; echo changed >>SHA256SUMS; ! gpg --verify SHA256SUMS.asc SHA256SUMS 2>/dev/null");
}

// The test prints the duration of the installation.
#[allow(clippy::print_stdout)]
#[test]
fn apt_installs_from_the_repository_and_rejects_a_modified_one() {
    let Some(lab) = Lab::new() else { return };
    let Some(signer) = Signer::new() else { return };
    let release = signer.release("one");
    let (blue, dev) = (lab.booted("blue"), lab.client("dev"));
    blue.sh("rm -rf /root/bluegreen; ! command -v cc cargo make").ok();
    blue.bring_folder(&release.join("apt"), "/srv/apt", "root");
    blue.write("/root/dev.pub", &dev.public_key("id_ed25519"));
    blue.sh("rm -f /etc/apt/sources.list /etc/apt/sources.list.d/*
        echo 'deb [signed-by=/srv/apt/bluegreen.gpg] file:/srv/apt stable main' >/etc/apt/sources.list.d/bluegreen.list")
        .ok();
    let began = Instant::now();
    blue.sh("apt-get update; apt-get install -y bluegreen").ok();
    blue.sh("bluegreen-setup --web-server apache --key /root/dev.pub").ok();
    dev.commit("App v1", "App v1");
    dev.push("deploy@blue:sample_app master").ok().says("is live");
    assert_eq!(dev.get("blue"), "App v1");
    // The journal has the deployment with its fields.
    blue.sh(
        "journalctl --sync; journalctl -t bluegreen BLUEGREEN_ACTION=deploy BLUEGREEN_OUTCOME=live -o json",
    )
    .ok()
    .says("\"BLUEGREEN_SITE\":\"/var/www/html\"")
    .says("\"PRIORITY\":\"6\"");
    println!("from an empty server to a served page: {:.1} s", began.elapsed().as_secs_f64());

    // A changed index or release file is rejected. Control: the published files are accepted.
    blue.sh("cp -a /srv/apt /srv/published").ok();
    let update = |change: &str| {
        blue.sh(&format!(
            "rm -rf /srv/apt /var/lib/apt/lists/*; cp -a /srv/published /srv/apt; cd /srv/apt/dists/stable; {change}
            apt-get update -o APT::Update::Error-Mode=any"
        ))
    };
    update("").ok();
    update("rm main/binary-*/Packages.gz; sed -i 's/^Version:.*/Version: 99/' main/binary-*/Packages")
        .fails();
    update("sed -i 's/^Label:.*/Label: other/' InRelease; rm Release.gpg").fails();
    update("rm InRelease; sed -i 's/^Label:.*/Label: other/' Release").fails();
}

// The test prints the duration of the installation.
#[allow(clippy::print_stdout)]
#[test]
fn apt_leads_from_a_minimal_debian_13_to_a_served_page() {
    if Lab::new().is_none() {
        return;
    }
    let Some(signer) = Signer::new() else { return };
    let release = signer.release("one");
    let server = crate::fresh::machine("trixie", &[]);
    server.sh("! command -v git cc cargo apache2 curl").ok();
    server.bring_folder(&release.join("apt"), "/srv/apt", "root");
    // The machine shares the host's network, on which no package may start a service.
    server.write("/usr/sbin/policy-rc.d", "#!/bin/sh\nexit 101\n");
    server.sh("chmod +x /usr/sbin/policy-rc.d").ok();
    let source = "deb [signed-by=/srv/apt/bluegreen.gpg] file:/srv/apt stable main\n";
    server.write("/etc/apt/sources.list.d/bluegreen.list", source);
    let began = Instant::now();
    let apt =
        "export DEBIAN_FRONTEND=noninteractive; apt-get update && apt-get install -y --no-install-recommends";
    server.sh(&format!("{apt} bluegreen apache2 curl iproute2 openssh-server")).ok();
    // In a network of its own, with a push on the machine itself.
    server
        .sh("unshare --net sh -ec '
            ip link set lo up
            ssh-keygen -q -t ed25519 -N \"\" -C dev -f /root/dev
            bluegreen-setup --web-server apache --key /root/dev.pub
            git init -q -b master /tmp/app; cd /tmp/app; echo App v1 >index.html; git add .
            git -c user.name=Dev -c user.email=dev@example.org commit -qm v1
            chown -R deploy: /tmp/app
            runuser -u deploy -- git push /home/deploy/sample_app master 2>&1
            curl -sS http://localhost/'")
        .ok()
        .says("is live: ")
        .says("App v1\n");
    println!("from a minimal Debian 13 to a served page: {:.1} s", began.elapsed().as_secs_f64());
}

/// A web server for a directory, on a port of loopback.
struct WebServer {
    process: Child,
    url: String,
}

impl WebServer {
    fn start(directory: &Path) -> Self {
        let mut command = Command::new("python3");
        command.args(["-u", "-m", "http.server", "--bind", "127.0.0.1", "0"]).current_dir(directory);
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

/// Evaluates a formula for a system and a processor, and prints its URL and checksum.
const FORMULA: &str = r"
class Formula
  # Without this, Ruby's own `test` would be called.
  def self.test; end
  def self.method_missing(name, *words, &block)
    return ($got[name] = words.first) unless block
    block.call if [:on_linux, :on_intel, :on_arm].include?(name)
  end
end
$got = {}
load ARGV[0]
puts $got.values_at(:url, :sha256, :version)
";

#[test]
fn the_formula_and_the_quick_installer_know_the_published_addresses() {
    let Some(signer) = Signer::new() else { return };
    if Command::new("ruby").arg("--version").output().is_err() {
        return skip("`ruby` is not installed");
    }
    let web = WebServer::start(signer.0.path());
    let fingerprint = signer.fingerprint();
    let urls =
        format!("DOWNLOADS={}/{{version}}\nFINGERPRINT={fingerprint}\nHOMEPAGE=\nREPOSITORY=\n", web.url);
    std::fs::write(signer.0.path().join("urls"), urls).unwrap();
    let version = env!("CARGO_PKG_VERSION");
    let release = signer.release_with(version, "--urls urls");
    let evaluated =
        Command::new("ruby").args(["-e", FORMULA]).arg(release.join("bluegreen.rb")).output().unwrap();
    assert!(evaluated.status.success(), "{}", String::from_utf8_lossy(&evaluated.stderr));
    let text = String::from_utf8(evaluated.stdout).unwrap();
    let [url, checksum, of] = text.lines().collect::<Vec<_>>()[..] else { panic!("{text}") };
    assert_eq!(of, version);
    let found = signer.sh(&format!("curl --fail --silent {url} | sha256sum | cut -d ' ' -f 1"));
    assert_eq!(found.trim(), checksum, "{url}");
    signer.sh(&format!(
        "sh {version}/get.sh --prefix \"$PWD/prefix\"; prefix/bin/bluegreen --version | grep -F {version}"
    ));
    // A value that would end a string is rejected.
    std::fs::write(signer.0.path().join("urls"), "DOWNLOADS=https://example.org/'$(id)'\n").unwrap();
    signer.sh(&format!(
        "! {CLONE}/packaging/release --key {KEY} --urls urls bad 2>said; grep 'invalid DOWNLOADS' said"
    ));
}

#[test]
fn the_quick_installer_installs_only_what_is_signed_and_not_older() {
    let Some(signer) = Signer::new() else { return };
    let release = signer.release("one");
    let (fingerprint, prefix) = (&signer.fingerprint()[..], signer.0.path().join("prefix"));
    let web = WebServer::start(&release);
    let run = |script: &str, arguments: &[&str]| -> Output {
        Command::new("sh")
            .args([script, "--prefix", prefix.to_str().unwrap()])
            .args(arguments)
            .output()
            .unwrap()
    };
    let script = format!("{CLONE}/packaging/get.sh");
    let get = |fingerprint: &str| run(&script, &["--url", &web.url, "--fingerprint", fingerprint]);
    let refused = |output: Output, reason: &str| {
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains(reason) && text.contains("\nhint: "), "{text}");
        assert!(!prefix.join("bin/bluegreen").exists(), "{text}");
    };
    refused(get(""), "the fingerprint of the key is missing");
    refused(run(&script, &["--fingerprint", fingerprint]), "the URL of the release is missing");
    refused(get(&"A".repeat(40)), "is not from the key with that fingerprint");
    refused(run(&script, &["--url", "http://127.0.0.1:1", "--fingerprint", fingerprint]), "cannot download");

    // Each modification is detected, and undone for the next one.
    let program = signer.sh("cd one; ls bluegreen-*-linux");
    let program = program.trim();
    for (change, reason) in [
        (format!("truncate -s -1 {program}"), "the checksum of `bluegreen-"),
        ("echo changed >>bluegreen.1".to_owned(), "the checksum of `bluegreen.1` is wrong"),
        ("sed -i s/0/1/ SHA256SUMS".to_owned(), "the signature of the checksums is not from the key"),
        ("rm SHA256SUMS.asc".to_owned(), "cannot download"),
    ] {
        signer.sh(&format!("cp -a one saved; cd one; {change}"));
        refused(get(fingerprint), reason);
        signer.sh("rm -r one/*; cp -a saved/. one; rm -r saved");
    }
    // A truncated script does nothing.
    let text = std::fs::read_to_string(&script).unwrap();
    let half = signer.0.path().join("half.sh");
    std::fs::write(&half, &text[..text.rfind("main \"$@\"").unwrap()]).unwrap();
    assert!(
        run(half.to_str().unwrap(), &["--url", &web.url, "--fingerprint", fingerprint]).stdout.is_empty()
    );
    assert!(!prefix.exists());

    // The fingerprint as gpg prints it, with spaces.
    let spaced = fingerprint.as_bytes().chunks(4).map(|four| std::str::from_utf8(four).unwrap());
    let installed = get(&spaced.collect::<Vec<_>>().join(" "));
    assert!(installed.status.success(), "{}", String::from_utf8_lossy(&installed.stderr));
    let version = || Command::new(prefix.join("bin/bluegreen")).arg("--version").output().unwrap();
    let current = String::from_utf8(version().stdout).unwrap();
    assert!(current.starts_with("bluegreen "), "{current}");
    assert!(get(fingerprint).status.success(), "the same version is installed again");

    // A newer version stays, unless a downgrade is requested.
    let newer = "#!/bin/sh\necho bluegreen 99.0.0\n";
    std::fs::write(prefix.join("bin/bluegreen"), newer).unwrap();
    let kept = get(fingerprint);
    let text = String::from_utf8_lossy(&kept.stderr);
    assert!(text.contains("bluegreen 99.0.0 is installed, and"), "{text}");
    assert_eq!(String::from_utf8(version().stdout).unwrap(), "bluegreen 99.0.0\n");
    let arguments = ["--url", &web.url, "--fingerprint", fingerprint, "--allow-downgrade"];
    assert!(run(&script, &arguments).status.success());
    assert_eq!(String::from_utf8(version().stdout).unwrap(), current);

    assert!(run(&script, &["--uninstall"]).status.success());
    assert!(signer.sh("find prefix -type f").is_empty());
}
