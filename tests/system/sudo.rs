//! sudo rules come from an administrator, and none of them can be exploited to gain root.

use crate::lab::Lab;

#[test]
fn steps_may_run_sudo_commands_that_an_admin_allowed() {
    let Some(lab) = Lab::new() else { return };
    let blue = lab.server("blue");
    let file = "/etc/sudoers.d/bluegreen-deploy_sample_app";
    let sudo = |command: &str| blue.sh_as("deploy", &format!("sudo -n {command}"));
    blue.install("--web-server none").ok();
    // The config alone allows no sudo rule.
    blue.sh(
        "sed -i 's|^#restart = .*|restart = [\"sudo /usr/bin/touch /srv/restarted\"]|' /home/deploy/sample_app/bluegreen.toml",
    )
    .ok();
    blue.install("").ok().says("Nothing had to be changed.");
    blue.sh(&format!("test ! -e {file}")).ok();
    let check = || blue.sh("bluegreen -C /home/deploy/sample_app check");
    check()
        .ok()
        .says("hint: ask an administrator to run `sudo ./install.sh --sudo '/usr/bin/touch /srv/restarted'`");

    let laid = "sudo         deploy may run as root, without a password: /usr/bin/touch /srv/restarted\n";
    blue.install("--sudo '/usr/bin/touch /srv/restarted' --sudo /usr/bin/id").ok().says(laid);
    blue.sh(&format!("visudo -cq; stat -c '%a %U' {file}")).ok().says("440 root");
    sudo("/usr/bin/touch /srv/restarted").ok();
    check().ok().lacks("--sudo");
    sudo("/usr/bin/touch /srv/else").fails();
    sudo("/usr/bin/id").ok().says("uid=0");
    sudo("/usr/bin/id -u").fails();
    let before = blue.written();
    blue.install("").ok().says(laid).says("Nothing had to be changed.");
    assert_eq!(blue.changed_since(&before), "");

    // Commands run as root start in a directory without files of the deploy user.
    blue.install("--sudo '/usr/bin/cat file'").ok();
    sudo("/usr/bin/cat file").fails();
    blue.sh("echo root >/file").ok();
    blue.sh_as("deploy", "cd /tmp; echo mine >file; sudo -n /usr/bin/cat file").ok().says("root\n");

    blue.install("--remove-sudo /usr/bin/id --remove-sudo '/usr/bin/cat file'")
        .ok()
        .lacks("root, without a password: /usr/bin/id");
    sudo("/usr/bin/id").fails();
    blue.install("--remove-sudo /usr/bin/id").fails().says("unknown rule `/usr/bin/id`");
    blue.install("--uninstall").ok().says(&format!("remove {file}"));
    sudo("/usr/bin/touch /srv/restarted").fails();
}

#[test]
fn exploitable_commands_are_rejected_as_rules() {
    let Some(lab) = Lab::new() else { return };
    let blue = lab.server("blue");
    blue.install("--web-server none").ok();
    blue.sh_as("deploy", "cp /bin/true mine; mkdir -p /tmp/x; cp /bin/true /tmp/x/true").ok();
    blue.sh(
        "install -d -m 777 /srv/open; cp /bin/true /srv/open/true; cp /bin/true /srv/true; chmod 775 /srv/true
        install -d -o deploy /srv/deploys; ln -s /usr/bin/touch /srv/link",
    )
    .ok();
    let before = blue.written();
    for (rule, words) in [
        ("systemctl restart app", "`systemctl` is not an absolute path"),
        ("/usr/bin/none", "/usr/bin/none is not a program"),
        ("/usr/bin", "/usr/bin is not a program"),
        ("/usr/bin/touch *", "plain words only"),
        ("/usr/bin/touch $HOME", "plain words only"),
        ("/usr/bin/touch \"a b\"", "plain words only"),
        ("/usr/bin/touch  a", "a single space"),
        ("/usr/bin/touch /srv/../home/deploy/x", "is not allowed in a path"),
        ("/srv/link a", "/srv/link resolves to /usr/bin/touch"),
        ("/home/deploy/mine", "/home/deploy/mine or a directory above it is writable by others"),
        ("/tmp/x/true", "or a directory above it is writable by others"),
        ("/srv/open/true", "or a directory above it is writable by others"),
        ("/srv/true", "or a directory above it is writable by others"),
        ("/usr/bin/dash /home/deploy/x", "deploy can change /home/deploy/x"),
        ("/usr/bin/dash /var/www/html/current/x", "deploy can change /var/www/html/current/x"),
        ("/usr/bin/dash --rcfile=/home/deploy/x", "deploy can change /home/deploy/x"),
        ("/usr/bin/dash -f/home/deploy/x", "deploy can change /home/deploy/x"),
        ("/usr/bin/dash a:/tmp/x", "/tmp/x or a directory above it is writable by others"),
        ("/usr/bin/dash /srv/deploys/x", "/srv/deploys/x or a directory above it is writable by others"),
        ("/usr/bin/dash /proc/self/cwd/x", "/proc/self/cwd/x or a directory above it is writable by others"),
    ] {
        blue.install(&format!("--sudo '{rule}'")).ends_with_status(1).says(words);
    }
    assert_eq!(blue.changed_since(&before), "");
}
