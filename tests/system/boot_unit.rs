//! The installed systemd unit that completes, at every boot, what a crash interrupted.

use crate::lab::Lab;

const UNIT: &str = "/etc/systemd/system/bluegreen@home-deploy-sample_app.service";
const WANTED: &str = "/etc/systemd/system/multi-user.target.wants/bluegreen@home-deploy-sample_app.service";

#[test]
fn each_repository_has_a_unit() {
    let Some(lab) = Lab::new() else { return };
    let blue = lab.server("blue");
    let before = blue.written();
    blue.install("--web-server none --dry-run").ok().says(&format!("would write {UNIT}"));
    assert_eq!(blue.changed_since(&before), "");
    let line = "@reboot /usr/local/bin/bluegreen -C /home/deploy/sample_app resume --boot";
    blue.install("--web-server none").ok().says(line);
    blue.sh(&format!("cat {UNIT}; readlink {WANTED}; systemd-analyze verify {UNIT} 2>&1"))
        .ok()
        .says("\nUser=deploy\n")
        .says("\nExecStart=/usr/local/bin/bluegreen -C /home/deploy/sample_app resume --boot\n")
        .says("\nRequiresMountsFor=/home/deploy/sample_app /var/www/html /home/deploy\n")
        .says("\nNoNewPrivileges=yes\n")
        .says(&format!("\n{UNIT}\n"))
        .lacks("@:")
        .lacks("@no-sudo");
    // The unit's command, run as the unit would run it.
    blue.sh_as("deploy", "bluegreen -C /home/deploy/sample_app resume --boot | grep . && exit 1 || :").ok();

    // Commands that an administrator allows for steps also work at boot.
    blue.install("--sudo '/usr/bin/systemctl reload apache2'").ok().says(&format!("write {UNIT}"));
    blue.sh(&format!("grep -E 'NoNewPrivileges|ProtectSystem' {UNIT}")).fails();
    // A unit that the administrator disabled or changed stays that way.
    blue.write("/usr/local/bin/crontab", &format!("#!/bin/sh\necho '{line}'\n"));
    blue.sh(&format!("rm {WANTED}; chmod +x /usr/local/bin/crontab")).ok();
    blue.install("").ok().says("Nothing had to be changed.").lacks("@reboot");
    blue.sh(&format!("test ! -e {WANTED} && echo '# mine' >>{UNIT}")).ok();
    blue.install("").ok().says(&format!("{UNIT} was changed by hand"));
    blue.sh(&format!("sed -i '$d' {UNIT} && ln -s {UNIT} {WANTED}")).ok();
    blue.install("--uninstall").ok().says(&format!("remove {UNIT}"));
    blue.sh(&format!("test ! -e {UNIT} && test ! -L {WANTED}")).ok();
}
