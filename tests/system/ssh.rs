//! An account created by the installer accepts pushes, a few commands, and nothing else.

use crate::lab::Lab;

#[test]
fn the_account_accepts_only_pushes_and_a_few_commands() {
    let Some(lab) = Lab::new() else { return };
    let blue = lab.server("blue");
    let dev = lab.client("dev");
    blue.install_for(&dev, "--web-server nginx").ok();
    dev.commit("App v1", "one");
    dev.sh_as("dev", "cd sample_app; git remote add blue deploy@blue:sample_app").ok();
    dev.push("blue master").ok();
    let first = blue.sh("readlink /var/www/html/current").ok().text().trim().replace("releases/", "");
    dev.commit("App v2", "two");
    dev.push("-o timing blue master")
        .ok()
        .says(" s  ssh: connect and log in\n")
        .says(" s  git: receive the push\n")
        .says(" s  check out\n");
    let ssh = |command: &str| dev.sh_as("dev", &format!("ssh deploy@blue {command}"));

    ssh("status").ok().says("master");
    ssh("status --json").ok().says("{");
    ssh("releases").ok().says(&first);
    ssh("history").ok().says("dev@example.org (SHA256:").says(") from 192.0.2.");
    ssh("rollback").ok().says(&first);
    assert_eq!(dev.get("blue"), "App v1");
    ssh("deploy master").ok();
    assert_eq!(dev.get("blue"), "App v2");
    ssh(&format!("rollback {first}")).ok();
    assert_eq!(dev.get("blue"), "App v1");
    ssh("deploy --dry-run master").ok();
    assert_eq!(dev.get("blue"), "App v1");
    ssh("status -C sample_app").ok();
    ssh("bluegreen -C 'sample_app' status").ok().says("master");
    ssh("check").ok().says("All is well.");
    ssh("cancel").ok().says("Nothing is running.");
    dev.bring(std::path::Path::new(env!("CARGO_BIN_EXE_bluegreen")), "/usr/local/bin/bluegreen");
    ssh("lock Black Friday --until 2h").ok().says("Locked blue: Black Friday, until 20");
    ssh("deploy").fails().says("is locked by dev@example.org (SHA256:").says(": Black Friday");
    ssh("status").ok().says("Lock:     locked by dev@example.org");
    dev.sh_as("dev", "cd sample_app; bluegreen unlock --side blue")
        .ok()
        .says("blue: Unlocked blue: Black Friday");
    ssh("lock --side blue x").fails().says("does not run `lock`");
    ssh("log").fails().says("no log");
    ssh("status --help").ok().says("Usage:");

    // No shell, no other program, no other repository, and no unexpected option.
    ssh("").fails().says("has no shell");
    for refused in [
        "id",
        "sh -c id",
        "'status; id'",
        "'status $(id)'",
        "'status `id`'",
        "../../usr/bin/id",
        "hook post-receive",
        "adopt",
        "generate settings",
        "git",
        "git-shell -c id",
        "git status",
        "/usr/lib/openssh/sftp-server",
        "status -C /etc",
        "status -C ..",
        "rollback -C /etc",
        "deploy -C /tmp/x",
        "deploy --upload-pack=id",
        "deploy one two",
    ] {
        ssh(refused).fails().lacks("uid=");
    }
    dev.sh_as("dev", "cd sample_app; scp index.html deploy@blue:/tmp/x").fails();

    // Commands that the account places in its own home are not run.
    blue.sh_as("deploy", "mkdir git-shell-commands; printf '#!/bin/sh\\nid\\n' | tee git-shell-commands/status >git-shell-commands/id
        chmod 755 git-shell-commands/*")
        .ok();
    ssh("id").fails().lacks("uid=");
    ssh("status").ok().lacks("uid=");

    // Forwarding through the server is rejected.
    for forwarding in ["-W 127.0.0.1:80", "-N -o ExitOnForwardFailure=yes -R 8080:127.0.0.1:80"] {
        dev.sh_as("dev", &format!("timeout 10 ssh {forwarding} deploy@blue </dev/null")).fails();
    }
    let tunnel = dev.start("dev", "timeout 3 ssh -N -L 8080:127.0.0.1:80 deploy@blue || :");
    dev.sh("sleep 1; curl -sS --max-time 1 http://127.0.0.1:8080/").fails().lacks("App");
    tunnel.finish();

    // No other key, and no password, gains access.
    dev.sh_as("dev", "ssh -i .ssh/stranger -o IdentitiesOnly=yes -o IdentityAgent=none deploy@blue status")
        .fails()
        .says("Permission denied");
    blue.sh("passwd --status deploy").ok().says("deploy L");
}

#[test]
fn a_login_shell_is_set_on_request_and_kept() {
    let Some(lab) = Lab::new() else { return };
    let blue = lab.server("blue");
    let dev = lab.client("dev");
    blue.install_for(&dev, "--web-server none --login-shell").ok();
    dev.sh_as("dev", "ssh deploy@blue id -un").ok().says("deploy");
    let before = blue.written();
    blue.install_for(&dev, "--web-server none").ok();
    assert_eq!(blue.changed_since(&before), "");
}

#[test]
fn several_repositories_are_told_apart() {
    let Some(lab) = Lab::new() else { return };
    let blue = lab.server("blue");
    let dev = lab.client("dev");
    blue.install_for(&dev, "--web-server apache --domain one.example").ok();
    blue.install_for(&dev, "--web-server apache --domain two.example --repo two --site /srv/two").ok();
    dev.commit("One", "one");
    dev.sh_as(
        "dev",
        "cd sample_app; git remote add one deploy@blue:sample_app; git remote add two deploy@blue:two",
    )
    .ok();
    dev.push("one master").ok();
    dev.commit("Two", "two");
    dev.push("two master").ok();
    for (site, page) in [("one", "One"), ("two", "Two")] {
        dev.sh(&format!("curl -sS -H 'Host: {site}.example' http://blue/")).ok().says(page);
    }
    let ssh = |command: &str| dev.sh_as("dev", &format!("ssh deploy@blue {command}"));
    ssh("status").fails().says("several repositories").says("sample_app, two");
    ssh("status -C two").ok().says("/srv/two");

    // After the removal of one site, the other is intact.
    blue.install("--repo two --uninstall").ok();
    dev.sh("curl -sS -H 'Host: one.example' http://blue/").ok().says("One");
    ssh("status").ok();
    dev.commit("One more", "three");
    dev.push("one master").ok().says("is live");
}

#[test]
fn a_side_is_locked_over_ssh_and_its_jobs_follow_the_public_side() {
    let Some(lab) = Lab::new() else { return };
    let (blue, green, dev) = (lab.server("blue"), lab.server("green"), lab.client("dev"));
    for server in [&blue, &green] {
        server.install_for(&dev, "--web-server nginx").ok();
        let steps = "s|^#enter = .*|enter = \"touch ~/jobs\"|; s|^#leave = .*|leave = \"rm -f ~/jobs\"|";
        server.sh_as("deploy", &format!("sed -i '{steps}' ~/sample_app/bluegreen.toml")).ok();
    }
    dev.bring(std::path::Path::new(env!("CARGO_BIN_EXE_bluegreen")), "/usr/local/bin/bluegreen");
    dev.commit("App v1", "one");
    // The front end is a name, and its switch writes the file that resolves it.
    dev.write(
        "/home/dev/switch",
        "#!/bin/sh
file=/etc/hosts
address() { sed -n \"s/ $1\\$//p\" $file; }
case $1 in
    show) if [ \"$(address public)\" = \"$(address blue)\" ]; then echo blue; else echo green; fi ;;
    set) text=$(sed \"s/.* public\\$/$(address \"$2\") public/\" $file); echo \"$text\" >$file ;;
esac
",
    );
    dev.write(
        "/home/dev/promote.toml",
        "[sides]\nblue = 'deploy@blue:sample_app'\ngreen = 'deploy@green:sample_app'\n\
         [public]\nurl = 'http://public/'\nswitch = '/home/dev/switch'\n[check]\nhealthy = 1\nwatch = '0.5s'\n",
    );
    dev.sh("chmod 755 /home/dev/switch; chmod 666 /etc/hosts
        address=$(sed -n 's/ blue$//p' /etc/hosts); echo \"$address public\" >>/etc/hosts")
        .ok();
    let run =
        |words: &str| dev.sh_as("dev", &format!("cd sample_app; bluegreen {words} --config ~/promote.toml"));
    for side in ["blue", "green"] {
        run(&format!("push {side} master")).ok().says("  live ");
    }
    let runs = |side: &crate::machine::Machine| side.sh("ls /home/deploy").ok().text().contains("jobs");
    run("promote blue --yes").ok().says("Entered blue after ");
    assert!(runs(&blue) && !runs(&green));
    run("promote --yes").ok().says("Left blue after ").says("green is public");
    assert!(!runs(&blue) && runs(&green));

    run("lock --side blue 'Black Friday' --until 2h").ok().says("blue: Locked blue: Black Friday, until 20");
    run("promote --yes").ends_with_status(1).says("is locked by dev@example.org").says(": Black Friday");
    run("public").ok().says("warning: blue is locked by dev@example.org");
    run("unlock --side blue").ok().says("blue: Unlocked blue: Black Friday");
    let fails = "sed -i 's/^enter = .*/enter = \"false\"/' ~/sample_app/bluegreen.toml";
    blue.sh_as("deploy", fails).ok();
    run("promote --yes").ends_with_status(1).says("`enter` of `[public]` failed on `deploy@blue:sample_app`");
    assert!(!runs(&blue) && runs(&green));
    run("public").ok().lacks("warning");
}
