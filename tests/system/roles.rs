//! Roles of keys: what each role may do on a server, and what a key with the role `read` cannot.

use std::fmt::Write;

use crate::lab::Lab;
use crate::machine::{Machine, Ran};

const REPO: &str = "/home/deploy/sample_app";
const SITE: &str = "/var/www/html";

/// Creates a key for each role, and returns the installer options that allow it.
fn keys(blue: &Machine, dev: &Machine) -> String {
    let mut options = String::new();
    for role in ["read", "push", "promote", "all"] {
        let file = format!("/tmp/{role}.pub");
        dev.sh_as("dev", &format!("ssh-keygen -q -t ed25519 -N '' -C {role} -f .ssh/{role}")).ok();
        blue.write(&file, dev.sh(&format!("cat /home/dev/.ssh/{role}.pub")).ok().text());
        write!(options, " --key {role}={file} --role {role}={role}").unwrap();
    }
    options
}

/// Runs a command in the client's clone, with the key of a role.
fn with_key(dev: &Machine, role: &str, command: &str) -> Ran {
    let ssh = format!("ssh -i ~/.ssh/{role} -o IdentitiesOnly=yes -o IdentityAgent=none");
    let shell = format!(
        "export GIT_SSH_COMMAND='{ssh}'; ssh() {{ command {ssh} \"$@\"; }}; cd sample_app; {command}"
    );
    dev.sh_as("dev", &shell)
}

#[test]
fn each_key_can_do_what_its_role_includes() {
    let Some(lab) = Lab::new() else { return };
    let (blue, dev) = (lab.server("blue"), lab.client("dev"));
    let keys = keys(&blue, &dev);
    blue.install(&format!("--web-server none{keys}")).ok();
    blue.install(&format!("--web-server none{keys}")).ok().says("Nothing had to be changed.");
    let lines = blue.sh("cut -c1-40 /home/deploy/.ssh/authorized_keys").ok();
    for line in ["command=\"role push\",restrict ssh-ed25519", "restrict ssh-ed25519 "] {
        assert!(lines.text().contains(line), "{}", lines.text());
    }
    let list = blue.sh("/root/bluegreen/install.sh --keys").ok();
    for role in ["read", "push", "promote", "all"] {
        let is_listed = |line: &str| line.starts_with(role) && line.ends_with(&format!("ED25519  {role}"));
        assert!(list.text().lines().any(is_listed), "{}", list.text());
    }
    dev.commit("App v1", "one");
    with_key(&dev, "all", "git push deploy@blue:sample_app master").ok().says("is live");
    dev.commit("App v2", "two");
    with_key(&dev, "push", "git push deploy@blue:sample_app master").ok().says("is live");
    with_key(&dev, "promote", "git push deploy@blue:sample_app master:other")
        .fails()
        .says("the role `promote` of this key does not include `git receive-pack`");
    with_key(&dev, "push", "ssh deploy@blue rollback")
        .fails()
        .says("the role `push` of this key does not include `rollback`")
        .says("install.sh --role NAME=ROLE");
    with_key(&dev, "promote", "ssh deploy@blue rollback").ok();
    with_key(&dev, "promote", "ssh deploy@blue deploy").ok();
    for role in ["read", "push", "promote", "all"] {
        with_key(&dev, role, "git fetch deploy@blue:sample_app master && ssh deploy@blue status").ok();
    }
    with_key(&dev, "read", "ssh deploy@blue history")
        .ok()
        .says(") with the role push from 192.0.2.13")
        .says(") with the role promote from 192.0.2.13");
    with_key(&dev, "read", "ssh deploy@blue history --json").ok().says("\"role\": \"promote\"");

    // The role `push` does not override the protection of the public side.
    blue.sh_as("deploy", "sed -i 's|^\\[site\\]|&\\nwhen-public = \"refuse\"|' sample_app/bluegreen.toml")
        .ok();
    blue.sh_as(
        "deploy",
        &format!("printf '{{\"public\":true,\"since\":\"2026-11-22T20:15:00Z\"}}' >{SITE}/.bluegreen/public"),
    )
    .ok();
    dev.commit("App v3", "three");
    with_key(&dev, "push", "git push -o public deploy@blue:sample_app master")
        .ok()
        .says("warning: the role `push` does not include the push option `public`")
        .says("error: blue is public");
    with_key(
        &dev,
        "all",
        "git commit -q --allow-empty -m four; git push -o public deploy@blue:sample_app master",
    )
    .ok()
    .says("is live");

    // A role can be changed and revoked.
    blue.install("--role push=read").ok().says("change the role of a key");
    with_key(&dev, "push", "git push deploy@blue:sample_app master:other").fails().says("the role `read`");
    blue.install("--role push=all --role read=promote").ok();
    with_key(&dev, "push", "ssh deploy@blue rollback").ok();
    with_key(&dev, "read", "ssh deploy@blue deploy").ok();
    blue.install("--role nobody=read").fails().says("no key matches nobody");
    blue.install("--role read=admin").fails().says("unknown role admin");
    blue.install("--role read").fails().says("--role needs NAME=ROLE");
    blue.install("--login-shell --role read=read").fails().says("--role has no effect");
    blue.sh("/root/bluegreen/install.sh --remove-key promote").ok();
    with_key(&dev, "promote", "ssh deploy@blue status").fails().says("Permission denied");
}

#[test]
fn a_read_only_key_cannot_change_anything() {
    let Some(lab) = Lab::new() else { return };
    let (blue, dev) = (lab.server("blue"), lab.client("dev"));
    let keys = keys(&blue, &dev);
    blue.install(&format!("--web-server none{keys}")).ok();
    dev.commit("App v1", "one");
    with_key(&dev, "all", "git push deploy@blue:sample_app master").ok();
    dev.commit("App v2", "two");
    with_key(&dev, "all", "git push deploy@blue:sample_app master").ok();
    // The most permissive sshd config that an administrator could write.
    blue.sh(
        "printf 'AcceptEnv *\\nAllowTcpForwarding yes\\nPermitUserRC yes\\n' >/etc/ssh/sshd_config.d/00-open.conf
        kill -HUP $(cat /run/sshd.pid); echo touch /tmp/rc >/home/deploy/.ssh/rc",
    )
    .ok();
    dev.sh("sleep 0.5").ok();
    let state = format!(
        "cd /; find {REPO} {SITE} /home/deploy/.ssh -type f -exec md5sum {{}} + | sort; readlink {SITE}/current; ls /tmp"
    );
    let before = blue.sh(&state).ok();
    let attempts = [
        "git push deploy@blue:sample_app master:other",
        "git push -o public -o no-cache deploy@blue:sample_app master",
        "git push --receive-pack='git receive-pack' deploy@blue:sample_app master:other",
        "git push --receive-pack='role all; git-receive-pack' deploy@blue:sample_app master:other",
        "ssh deploy@blue \"git-receive-pack 'sample_app'\"",
        "ssh deploy@blue 'git receive-pack sample_app'",
        "ssh deploy@blue 'git-receive-pack\tsample_app'",
        "ssh deploy@blue ' git-receive-pack sample_app'",
        "ssh deploy@blue 'git-shell -c git-receive-pack'",
        "ssh deploy@blue 'role all'",
        "ssh deploy@blue 'role all rollback'",
        "ssh deploy@blue rollback",
        "ssh deploy@blue bluegreen rollback",
        "ssh deploy@blue -- rollback -C sample_app",
        "ssh deploy@blue rollback --force",
        "ssh deploy@blue deploy",
        "ssh deploy@blue deploy --dry-run",
        "ssh deploy@blue deploy --force master",
        "ssh deploy@blue resume",
        "ssh deploy@blue cancel",
        "ssh deploy@blue hold </dev/null",
        "ssh deploy@blue lock reason",
        "ssh deploy@blue unlock",
        "ssh deploy@blue adopt",
        "ssh deploy@blue hook post-receive",
        "ssh deploy@blue generate settings --apply",
        "ssh deploy@blue promote green",
        "ssh deploy@blue id",
        "ssh deploy@blue '$(touch /tmp/x)'",
        "ssh deploy@blue 'status; touch /tmp/x'",
        "ssh deploy@blue 'status && rollback'",
        "ssh deploy@blue 'status\nrollback'",
        "ssh deploy@blue </dev/null",
        "ssh -tt deploy@blue </dev/null",
        "ssh -s deploy@blue sftp </dev/null",
        "scp -O -i ~/.ssh/read /etc/hostname deploy@blue:/tmp/x",
        "scp -i ~/.ssh/read -o IdentitiesOnly=yes /etc/hostname deploy@blue:/tmp/x",
        "SSH_ORIGINAL_COMMAND=rollback ssh -o SendEnv=SSH_ORIGINAL_COMMAND deploy@blue rollback",
        "BLUEGREEN_ROLE=all ssh -o SendEnv=BLUEGREEN_ROLE deploy@blue rollback",
        "GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=uploadpack.packObjectsHook GIT_CONFIG_VALUE_0='touch /tmp/x' \
         git push deploy@blue:sample_app master:other",
        "ssh -o ExitOnForwardFailure=yes -R 8099:localhost:80 -N deploy@blue",
        "ssh -W localhost:22 deploy@blue </dev/null",
    ];
    for attempt in attempts {
        let ran = with_key(&dev, "read", &format!("timeout 20 sh -c : && {attempt}")).fails();
        assert!(!ran.text().contains("panicked"), "{attempt}: {}", ran.text());
    }
    assert_eq!(blue.sh(&state).ok().text(), before.text());
    // Read-only commands work.
    for command in
        ["status", "public", "releases", "history", "metrics", "check", "status -C sample_app --json"]
    {
        with_key(&dev, "read", &format!("ssh deploy@blue {command}")).ok();
    }
    with_key(&dev, "read", "git ls-remote deploy@blue:sample_app").ok().says("refs/heads/master");
    assert_eq!(blue.sh(&state).ok().text(), before.text());
    // Unknown role names disable the key.
    for role in ["reader", "", "all\\\" x"] {
        let line = format!(
            "sed -i 's|^command=\"role read\"|command=\"role {role}\"|' .ssh/authorized_keys; grep -c 'role {role}' .ssh/authorized_keys"
        );
        let _ = blue.sh_as("deploy", &line).either_way();
        with_key(&dev, "read", "ssh deploy@blue status").fails();
        blue.sh_as(
            "deploy",
            "sed -i 's|^command=\"role [^,]*,|command=\"role read\",|' .ssh/authorized_keys",
        )
        .ok();
    }
    with_key(&dev, "read", "ssh deploy@blue status").ok();
    // After an uninstall the account has git-shell, and the key has no access.
    blue.install("--uninstall").ok();
    with_key(&dev, "read", "git ls-remote deploy@blue:sample_app").fails();
}
