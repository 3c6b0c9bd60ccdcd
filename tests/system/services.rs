//! systemd during deployments: a step restarts a service, and the installer reloads a web server.

use crate::lab::Lab;
use crate::machine::Machine;

#[test]
fn a_step_restarts_a_service_of_systemd() {
    let Some(lab) = Lab::new() else { return };
    let blue = lab.booted("blue");
    let dev = lab.client("dev");
    // An application that reads its code once, at startup.
    blue.write(
        "/etc/systemd/system/app.service",
        "[Service]\nUser=www-data\nExecStart=/bin/sh -c 'cp /var/www/html/current/index.html /run/app/serves && exec sleep infinity'\n\
         RuntimeDirectory=app\n[Install]\nWantedBy=multi-user.target\n",
    );
    blue.sh("systemctl enable --quiet app").ok();
    blue.install_for(&dev, "--web-server none --gate --sudo '/usr/bin/systemctl restart app'").ok();
    blue.sh("sed -i -e 's|^#restart = .*|restart = \"sudo /usr/bin/systemctl restart app\"|' \
                -e 's|^#verify = .*|verify = \"until grep v /run/app/serves; do sleep 0.1; done\"|' \
            /home/deploy/sample_app/bluegreen.toml")
        .ok();
    let serves = || blue.sh("systemctl is-active app; cat /run/app/serves").ok().text().to_owned();
    dev.commit("App v1", "one");
    dev.push("deploy@blue:sample_app master").ok();
    assert_eq!(serves(), "active\nApp v1\n");
    let first = property(&blue, "app", "MainPID");
    dev.commit("App v2", "two");
    dev.push("deploy@blue:sample_app master").ok();
    assert_eq!(serves(), "active\nApp v2\n");
    assert_ne!(property(&blue, "app", "MainPID"), first);

    // If the service does not start, the push fails and the previous release is restored.
    blue.sh(
        "sed -i 's|^ExecStart=.*|ExecStart=/bin/sh -c \"cp /var/www/html/current/index.html /run/app/serves; grep v2 /run/app/serves \\&\\& exec sleep infinity\"\\nType=exec|' \
            /etc/systemd/system/app.service; systemctl daemon-reload
        sed -i 's|^verify = .*|verify = \"sleep 0.3; systemctl is-active app\"|' /home/deploy/sample_app/bluegreen.toml",
    )
    .ok();
    dev.commit("App v3", "three");
    dev.push("deploy@blue:sample_app master").fails().says("exited with status 3");
    assert_eq!(serves(), "active\nApp v2\n");
    // sudo allows no other service and no other action on this one.
    blue.sh_as("deploy", "sudo -n /usr/bin/systemctl restart ssh").fails();
    blue.sh_as("deploy", "sudo -n /usr/bin/systemctl stop app").fails();
}

#[test]
fn the_installer_has_systemd_reload_apache() {
    reload("apache", "apache2");
}

#[test]
fn the_installer_has_systemd_start_and_reload_nginx() {
    reload("nginx", "nginx");
}

fn reload(web_server: &str, unit: &str) {
    let Some(lab) = Lab::new() else { return };
    let blue = lab.booted("blue");
    let dev = lab.client("dev");
    let starts = unit == "nginx";
    if starts {
        blue.sh("systemctl disable --quiet --now apache2").ok();
    }
    let installed = blue.install_for(&dev, &format!("--web-server {web_server}")).ok();
    installed.says(&format!("web server   {} {web_server}\n", if starts { "start" } else { "reload" }));
    blue.sh(&format!("systemctl is-enabled {unit}; systemctl is-active {unit}")).ok();
    dev.commit("App v1", "one");
    dev.push("deploy@blue:sample_app master").ok();
    assert_eq!(dev.get("blue"), "App v1");

    // The running processes also serve a second site.
    let main = property(&blue, unit, "MainPID");
    let options = format!("--web-server {web_server} --repo two --site /srv/two --domain two.example");
    blue.install_for(&dev, &options).ok().says(&format!("web server   reload {web_server}\n"));
    dev.push("deploy@blue:two master").ok();
    let page =
        |host: &str| dev.sh(&format!("curl -sS -H 'Host: {host}' http://blue/")).ok().text().to_owned();
    assert_eq!((page("one.example"), page("two.example")), ("App v1\n".into(), "App v1\n".into()));
    assert_eq!(property(&blue, unit, "MainPID"), main);
    blue.sh(&format!("journalctl --no-pager -u {unit}")).ok().says("Reloaded ");

    // After its removal, they stop serving it.
    blue.install("--repo two --uninstall").ok().says(&format!("uninstall    reload {web_server}\n"));
    assert_eq!(page("one.example"), "App v1\n");
    assert_eq!(property(&blue, unit, "MainPID"), main);
}

fn property(server: &Machine, unit: &str, name: &str) -> String {
    server.sh(&format!("systemctl show --value -p {name} {unit}")).ok().text().to_owned()
}
