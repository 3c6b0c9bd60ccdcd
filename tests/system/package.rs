//! The Debian package: what it brings, and that a server can be set up with nothing else.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::lab::Lab;
use crate::skip::skip;

#[test]
fn the_package_sets_up_a_server() {
    let Some(lab) = Lab::new() else { return };
    let Some(package) = build() else { return };
    let blue = lab.server("blue");
    let dev = lab.client("dev");
    blue.sh("rm -rf /root/bluegreen").ok();
    blue.bring(&package, "/root/bluegreen.deb");
    blue.sh("dpkg --install /root/bluegreen.deb").ok();
    blue.sh("bluegreen --version; man -P cat bluegreen | head -n 5; bluegreen-setup --help")
        .ok()
        .says("bluegreen 0")
        .says("Usage: bluegreen-setup");
    blue.sh(
        "ls /usr/share/bash-completion/completions/bluegreen /usr/share/zsh/vendor-completions/_bluegreen \
            /usr/share/fish/vendor_completions.d/bluegreen.fish /usr/share/doc/bluegreen/README.md",
    )
    .ok();

    blue.write("/root/dev.pub", &dev.public_key("id_ed25519"));
    blue.sh("bluegreen-setup --web-server apache --key /root/dev.pub").ok();
    blue.sh("test ! -e /usr/local/bin/bluegreen; readlink /home/deploy/sample_app/hooks/post-receive")
        .ok()
        .says("/usr/bin/bluegreen\n");
    dev.commit("App v1", "one");
    dev.push("deploy@blue:sample_app master").ok().says("is live");
    assert_eq!(dev.get("blue"), "App v1");
    dev.sh_as("dev", "ssh deploy@blue status").ok();

    // Whoever removes it first is told that pushes would come to nothing.
    blue.sh("/var/lib/dpkg/info/bluegreen.prerm remove")
        .ok()
        .says("/home/deploy/sample_app still deploys with bluegreen");
    blue.sh("bluegreen-setup --uninstall; dpkg --remove bluegreen").ok();
    blue.sh("cat /var/www/html/current/index.html").ok().says("App v1");
}

/// Builds the package in a folder of its own, where its tool is.
fn build() -> Option<PathBuf> {
    let clone = Path::new(env!("CARGO_MANIFEST_DIR"));
    let script = clone.join("packaging/deb.sh");
    let program = env!("CARGO_BIN_EXE_bluegreen");
    if Command::new("cargo-deb").arg("--version").output().is_err() {
        skip("`cargo-deb` is not installed");
        return None;
    }
    let output = Command::new(script).args(["--binary", program]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(PathBuf::from(String::from_utf8(output.stdout).unwrap().lines().last().unwrap().trim()))
}
