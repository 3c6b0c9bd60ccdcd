//! The artifacts of a release: signed checksums, and an apt repository from which a server installs.

use std::path::PathBuf;
use std::process::Command;
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
        // Both this test and the package tests build in `target/package`.
        let _turn = crate::package::ONE_AT_A_TIME.lock();
        let (program, arch) = (env!("CARGO_BIN_EXE_bluegreen"), std::env::consts::ARCH);
        self.sh(&format!("{CLONE}/packaging/release --key {KEY} --binary {arch} {program} {name}"));
        self.0.path().join(name)
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
