//! The gate over ssh, as the installer sets it up, and a step that needs `sudo`.

use crate::lab::Lab;

#[test]
fn a_push_over_ssh_fails_with_its_deployment() {
    let Some(lab) = Lab::new() else { return };
    let blue = lab.server("blue");
    let dev = lab.client("dev");
    blue.install_for(&dev, "--web-server nginx --gate").ok();
    let steps = "build = 'test ! -e broken'\nrestart = 'sudo /usr/bin/touch /srv/restarted'\nverify = 'test -e /srv/restarted'";
    let config = "/home/deploy/sample_app/bluegreen.toml";
    blue.sh(&format!("cat >>{config}.new <<'end'\n{steps}\nend\nsed -i '/^\\[steps\\]/r {config}.new' {config}; rm {config}.new")).ok();
    // The installer allows exactly the command that an administrator specifies.
    blue.install("--sudo '/usr/bin/touch /srv/restarted'")
        .ok()
        .says("sudo         deploy may run as root, without a password: /usr/bin/touch /srv/restarted")
        .says("sudo         write /etc/sudoers.d/bluegreen-deploy_sample_app");
    blue.sh("runuser -u deploy -- sudo -n /usr/bin/touch /srv/else").fails();
    blue.sh("bluegreen -C /home/deploy/sample_app check")
        .ok()
        .says("A push to master fails if its deployment fails: `proc-receive` deploys it.");

    dev.commit("App v1", "one");
    dev.sh_as("dev", "cd sample_app; git remote add blue deploy@blue:sample_app").ok();
    dev.push("blue master").ok().says("Git hooks deploy complete.").lacks("Nothing to do");
    assert_eq!(dev.get("blue"), "App v1");
    blue.sh("test $(stat -c %U /srv/restarted) = root").ok();

    dev.sh_as("dev", "cd sample_app; touch broken; git add broken; git commit -qm broken").ok();
    dev.push("blue master")
        .fails()
        .says("! [remote rejected] master -> master (step test ! -e broken exited with status 1)");
    assert_eq!(dev.get("blue"), "App v1");
    dev.sh_as("dev", "cd sample_app; git rm -q broken; git commit -qm mended").ok();
    dev.commit("App v2", "two");
    dev.push("blue master").ok();
    assert_eq!(dev.get("blue"), "App v2");
    let tip = blue.sh("runuser -u deploy -- git -C /home/deploy/sample_app rev-parse master").ok();
    blue.sh("readlink /var/www/html/current").ok().says(&tip.text()[..12]);
}
