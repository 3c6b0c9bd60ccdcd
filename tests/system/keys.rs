//! Keys that may push: whose they are, and that they go.

use crate::lab::Lab;

#[test]
fn keys_have_names_are_listed_and_go() {
    let Some(lab) = Lab::new() else { return };
    let (blue, dev) = (lab.server("blue"), lab.client("dev"));
    blue.write("/tmp/dev.pub", &dev.public_key("id_ed25519"));
    blue.write("/tmp/other.pub", &dev.public_key("stranger"));
    blue.install("--web-server none --key /tmp/dev.pub --key bob=/tmp/other.pub").ok().says("allow 2 key(s)");
    blue.sh("cat /home/deploy/.ssh/authorized_keys").ok().says(" dev@example.org\n").says(" bob\n");
    blue.sh("/root/bluegreen/install.sh --keys")
        .ok()
        .says("dev@example.org ")
        .says("bob ")
        .says(" SHA256:")
        .says("ED25519");
    dev.commit("App v1", "one");
    dev.push("deploy@blue:sample_app master").ok();
    // A key that is there gets a name, and keeps it.
    blue.install("--key alice=/tmp/dev.pub").ok().says("name a key");
    blue.install("--key /tmp/dev.pub").ok().says("Nothing had to be changed.");
    blue.sh("/root/bluegreen/install.sh --keys").ok().says("alice ").lacks("dev@example.org");

    blue.sh("/root/bluegreen/install.sh --remove-key carol").fails().says("no key of carol may push");
    blue.sh("/root/bluegreen/install.sh --remove-key alice --dry-run")
        .ok()
        .says("would take away 1 key(s) of alice");
    blue.sh("/root/bluegreen/install.sh --remove-key alice").ok().says("take away 1 key(s) of alice");
    dev.push("deploy@blue:sample_app master").fails().says("Permission denied");
    let fingerprint = dev.sh("ssh-keygen -lf /home/dev/.ssh/stranger | cut -d' ' -f2").ok();
    blue.sh(&format!("/root/bluegreen/install.sh --remove-key {}", fingerprint.text().trim()))
        .ok()
        .says("no key may push any more");
    blue.sh(
        "test ! -s /home/deploy/.ssh/authorized_keys || ! grep -q ssh- /home/deploy/.ssh/authorized_keys",
    )
    .ok();
}
