//! Power cuts of a server that systemd runs: nobody comes, and after the boot it serves the tip or what was live
//! before, and takes the next push at once.

use crate::booted::Booted;
use crate::lab::Lab;
use crate::machine::Machine;

/// A word for a step or a hook: as long as the power is on, it stays here and says so. What lies in /run is gone
/// after the boot, so that it then passes.
const HOLD: &str = "if [ -e /run/hold ]; then touch /run/hold/here; sleep 600; fi";

const CONFIG: &str = "/home/deploy/sample_app/bluegreen.toml";

#[test]
fn during_a_build() {
    let Some(lab) = Lab::new() else { return };
    let (mut blue, dev) = (lab.booted("blue"), lab.client("dev"));
    prepare(&blue, &dev, "--web-server apache", "build");
    cut(&mut blue, &dev);
    dev.soon_gets("blue", "App v1");
    goes_on(&blue, &dev);
}

/// Sets the server up with one step that stays where it is once the server is told to hold, and deploys a first version.
fn prepare(blue: &Booted, dev: &Machine, options: &str, phase: &str) {
    blue.install_for(dev, options).ok();
    blue.sh(&format!(
        "sed -i 's|^#{phase} = .*|{phase} = \"{HOLD}\"|' {CONFIG}; grep -q '^{phase} = ' {CONFIG}"
    ))
    .ok();
    dev.commit("App v1", "one");
    dev.push("deploy@blue:sample_app master").ok();
    assert_eq!(dev.get("blue"), "App v1");
}

/// Pushes a second version, cuts the power where it holds, and boots.
fn cut(blue: &mut Booted, dev: &Machine) {
    blue.sh("install -d -m 777 /run/hold").ok();
    dev.commit("App v2", "two");
    let push = dev.start(
        "dev",
        "cd sample_app; export GIT_SSH_COMMAND='ssh -o ServerAliveInterval=1 -o ServerAliveCountMax=2'
        git push deploy@blue:sample_app master 2>&1 && echo pushed || echo lost",
    );
    blue.sh("timeout 20 sh -c 'until [ -e /run/hold/here ]; do sleep 0.02; done'").ok();
    blue.lose_power();
    blue.switch_on();
    assert!(push.finish().ends_with("lost\n"));
}

/// The next push is deployed, and nothing is left to be said.
fn goes_on(blue: &Booted, dev: &Machine) {
    dev.commit("App v3", "three");
    dev.push("deploy@blue:sample_app master").ok().says("is live: ");
    assert_eq!(dev.get("blue"), "App v3");
    blue.sh("bluegreen -C /home/deploy/sample_app check").ok().says("All is well.");
    blue.sh("ls -A /var/www/html/releases /var/www/html/.bluegreen")
        .ok()
        .lacks(".incoming")
        .lacks("publishing");
}
