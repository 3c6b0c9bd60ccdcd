//! Keys that may push: their names, and their removal.

use crate::lab::Lab;

#[test]
fn keys_are_named_listed_and_removed() {
    let Some(lab) = Lab::new() else { return };
    let (blue, dev) = (lab.server("blue"), lab.client("dev"));
    blue.write("/tmp/dev.pub", &dev.public_key("id_ed25519"));
    blue.write("/tmp/other.pub", &dev.public_key("stranger"));
    blue.install("--web-server none --key /tmp/dev.pub --key \"bob=$(cat /tmp/other.pub)\"")
        .ok()
        .says("allow 2 keys");
    blue.sh("cat /home/deploy/.ssh/authorized_keys").ok().says(" dev@example.org\n").says(" bob\n");
    blue.sh("/root/bluegreen/install.sh --keys")
        .ok()
        .says("dev@example.org ")
        .says("bob ")
        .says(" SHA256:")
        .says("ED25519");
    dev.commit("App v1", "one");
    dev.push("deploy@blue:sample_app master").ok();
    // An existing key gets a name, and keeps it.
    blue.install("--key alice=/tmp/dev.pub").ok().says("name a key");
    blue.install("--key /tmp/dev.pub").ok().says("Nothing had to be changed.");
    blue.sh("/root/bluegreen/install.sh --keys").ok().says("alice ").lacks("dev@example.org");

    blue.sh("/root/bluegreen/install.sh --remove-key carol").fails().says("no key matches carol");
    blue.sh("/root/bluegreen/install.sh --remove-key alice --dry-run")
        .ok()
        .says("would remove 1 key of alice");
    blue.sh("/root/bluegreen/install.sh --remove-key alice").ok().says("remove 1 key of alice");
    dev.push("deploy@blue:sample_app master").fails().says("Permission denied");
    let fingerprint = dev.sh("ssh-keygen -lf /home/dev/.ssh/stranger | cut -d' ' -f2").ok();
    blue.sh(&format!("/root/bluegreen/install.sh --remove-key {}", fingerprint.text().trim()))
        .ok()
        .says("no key may push now");
    blue.sh(
        "test ! -s /home/deploy/.ssh/authorized_keys || ! grep -q ssh- /home/deploy/.ssh/authorized_keys",
    )
    .ok();
}

#[test]
fn history_names_the_key_that_pushed() {
    let Some(lab) = Lab::new() else { return };
    let (blue, dev) = (lab.server("blue"), lab.client("dev"));
    blue.write("/tmp/dev.pub", &dev.public_key("id_ed25519"));
    blue.write("/tmp/other.pub", &dev.public_key("stranger"));
    blue.install("--web-server none --key alice=/tmp/dev.pub --key bob=/tmp/other.pub")
        .ok()
        .says("write /etc/ssh/sshd_config.d/bluegreen-deploy.conf")
        .says("reload sshd");
    let print = dev.sh("ssh-keygen -lf /home/dev/.ssh/id_ed25519 | cut -d' ' -f2").ok();
    let print = print.text().trim();
    dev.commit("App v1", "one");
    dev.push("deploy@blue:sample_app master").ok().says("is live");
    let alice = format!("alice ({}) from 192.0.2.13", &print[..15]);
    dev.sh_as("dev", "ssh deploy@blue history").ok().says(&alice);
    dev.sh_as("dev", "ssh deploy@blue history --json").ok().says("\"name\": \"alice\"").says(print);

    // A waiting push prints who holds the lock. Removing a key during its push does not affect that push.
    blue.sh_as("deploy", "sed -i 's|^#build = .*|build = [\"sleep 8\"]|' sample_app/bluegreen.toml").ok();
    dev.commit("App v2", "two");
    let push = dev.start("dev", "cd sample_app && git push deploy@blue:sample_app master 2>&1");
    dev.sh("sleep 1.5").ok();
    dev.sh_as("dev", "ssh deploy@blue status").ok().says(&alice);
    blue.sh_as("deploy", "sed -i 's|sleep 8|sleep 1|' sample_app/bluegreen.toml").ok();
    let remove = "/root/bluegreen/install.sh --remove-key alice";
    blue.sh(remove).ok();
    let bob = "export GIT_SSH_COMMAND='ssh -i ~/.ssh/stranger -o IdentitiesOnly=yes -o IdentityAgent=none'";
    dev.sh_as("dev", &format!("{bob}; cd sample_app; git commit -q --allow-empty -m three; git push deploy@blue:sample_app master"))
        .ok()
        .says("Waiting for a deployment by alice (SHA256:")
        .says("is live");
    let pushed = push.finish();
    assert!(pushed.contains("is live") || pushed.contains("superseded"), "{pushed}");
    let history = blue.sh("bluegreen -C /home/deploy/sample_app history").ok();
    assert!(
        history.text().contains("bob (SHA256:") && history.text().contains("alice"),
        "{}",
        history.text()
    );

    // A certificate contains its holder's name.
    dev.sh_as(
        "dev",
        "ssh-keygen -q -t ed25519 -N '' -f ca; ssh-keygen -q -t rsa -N '' -f .ssh/certified
        ssh-keygen -q -s ca -I 'dave@example.org' -n deploy .ssh/certified.pub",
    )
    .ok();
    let authority = dev.sh("cat /home/dev/ca.pub").ok();
    let line = format!("cert-authority {}", authority.text().trim());
    blue.sh_as("deploy", &format!("echo '{line}' >>.ssh/authorized_keys")).ok();
    let dave = "ssh -i ~/.ssh/certified -o IdentitiesOnly=yes -o IdentityAgent=none deploy@blue rollback";
    dev.sh_as("dev", dave).ok();
    let print = dev.sh("ssh-keygen -lf /home/dev/.ssh/certified.pub | cut -d' ' -f2").ok();
    let holder = format!("dave@example.org ({})", &print.text()[..15]);
    blue.sh("bluegreen -C /home/deploy/sample_app history").ok().says(&holder);
    blue.install("--uninstall").ok();
    blue.sh("test ! -e /etc/ssh/sshd_config.d/bluegreen-deploy.conf; sshd -t").ok();
}

#[test]
fn a_rejected_sshd_config_is_reverted() {
    let Some(lab) = Lab::new() else { return };
    let blue = lab.server("blue");
    blue.sh("echo 'NoSuchOption yes' >>/etc/ssh/sshd_config").ok();
    blue.install("--web-server none")
        .ends_with_status(1)
        .says("error: ssh: sshd rejects its config")
        .says("NoSuchOption");
    blue.sh("test ! -e /etc/ssh/sshd_config.d/bluegreen-deploy.conf").ok();
    blue.sh("sed -i '/NoSuchOption/d' /etc/ssh/sshd_config").ok();
    blue.install("--web-server none").ok().says("reload sshd");
    // Without the config folder of sshd, everything except the names works.
    blue.sh("rm /etc/ssh/sshd_config.d/bluegreen-deploy.conf; sed -i '/^Include/d' /etc/ssh/sshd_config")
        .ok();
    blue.install("--web-server none").ok().says("warning: /etc/ssh/sshd_config does not include");
}
