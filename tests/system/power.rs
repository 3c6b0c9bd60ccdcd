//! Power cuts on a server with systemd. Without intervention, after the boot it serves the tip or the
//! previously live release, and accepts the next push right away.

use crate::booted::Booted;
use crate::lab::Lab;
use crate::machine::Machine;

const CONFIG: &str = "/home/deploy/sample_app/bluegreen.toml";

#[test]
fn without_the_gate() {
    let Some(lab) = Lab::new() else { return };
    let (mut blue, dev) = (lab.booted("blue"), lab.client("dev"));
    prepare(&blue, &dev, "--web-server apache");
    // Git has stored these commits, so pushing them again is a no-op. The boot deploys them.
    for (place, version) in [("ref", 2), ("build", 4), ("verify", 6)] {
        cut(&mut blue, &dev, place, version);
        dev.soon_gets("blue", &page(version));
        deploys_again(&blue, &dev, version + 1);
    }
    blue.sh("bluegreen -C /home/deploy/sample_app history").ok().says("the boot");
}

#[test]
fn with_the_gate() {
    let Some(lab) = Lab::new() else { return };
    let (mut blue, dev) = (lab.booted("blue"), lab.client("dev"));
    prepare(&blue, &dev, "--web-server apache --gate");
    // Until a commit is live, the branch does not contain it, and the same push sends it again.
    for (place, version) in [("build", 2), ("ref", 4)] {
        cut(&mut blue, &dev, place, version);
        dev.soon_gets("blue", &page(version - 1));
        dev.push("deploy@blue:sample_app master").ok().lacks("up-to-date");
        assert_eq!(dev.get("blue"), page(version));
        deploys_again(&blue, &dev, version + 1);
    }
    // Once it is live, the boot verifies it.
    cut(&mut blue, &dev, "verify", 6);
    dev.soon_gets("blue", &page(6));
    dev.push("deploy@blue:sample_app master").ok().says("Everything up-to-date");
    deploys_again(&blue, &dev, 7);
}

/// Sets up the server so that it can pause at a given place, and deploys a first version.
fn prepare(blue: &Booted, dev: &Machine, options: &str) {
    blue.install_for(dev, options).ok();
    for phase in ["build", "verify"] {
        let hold = hold(phase);
        blue.sh(&format!(
            "sed -i 's|^#{phase} = .*|{phase} = \"{hold}\"|' {CONFIG}; grep -q '^{phase} = ' {CONFIG}"
        ))
        .ok();
    }
    // Git runs this hook after the branch has moved.
    let hook = "/home/deploy/sample_app/hooks/reference-transaction";
    let moved =
        format!("#!/bin/sh\n[ $1 = committed ] && grep -q refs/heads/master || exit 0\n{}\n", hold("ref"));
    blue.write(hook, &moved);
    blue.sh(&format!("chmod 755 {hook}")).ok();
    dev.commit(&page(1), "1");
    dev.push("deploy@blue:sample_app master").ok();
    assert_eq!(dev.get("blue"), page(1));
}

/// Pauses at a place if its directory in /run exists, which the reboot removes.
fn hold(place: &str) -> String {
    format!("if [ -e /run/{place} ]; then touch /run/{place}/here; sleep 600; fi")
}

/// Pushes a version, cuts the power once the server has reached that place, and boots it.
fn cut(blue: &mut Booted, dev: &Machine, place: &str, version: u32) {
    blue.sh(&format!("install -d -m 777 /run/{place}")).ok();
    dev.commit(&page(version), &version.to_string());
    let push = dev.start(
        "dev",
        "cd sample_app; export GIT_SSH_COMMAND='ssh -o ServerAliveInterval=1 -o ServerAliveCountMax=2'
        git push deploy@blue:sample_app master 2>&1 && echo pushed || echo lost",
    );
    blue.sh(&format!("timeout 20 sh -c 'until [ -e /run/{place}/here ]; do sleep 0.02; done'")).ok();
    blue.lose_power();
    blue.switch_on();
    assert!(push.finish().ends_with("lost\n"));
}

/// Asserts that the next push is deployed, and that nothing is pending.
fn deploys_again(blue: &Booted, dev: &Machine, version: u32) {
    dev.commit(&page(version), &version.to_string());
    dev.push("deploy@blue:sample_app master").ok().says("is live: ").lacks("warning:");
    assert_eq!(dev.get("blue"), page(version));
    blue.sh("bluegreen -C /home/deploy/sample_app check").ok().says("All is well.");
    blue.sh("cd /var/www/html; ls -A releases .bluegreen").ok().lacks(".incoming").lacks("publishing");
    blue.sh("test $(git -C /home/deploy/sample_app -c safe.directory='*' rev-parse --short=12 master) = \
             $(readlink /var/www/html/current | grep -oE '[0-9a-f]{12}')")
        .ok();
}

fn page(version: u32) -> String {
    format!("App v{version}")
}
