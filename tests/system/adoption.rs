//! A site that was there before becomes the first release, and goes on being served.

use crate::lab::Lab;

#[test]
fn a_site_of_apaches_is_adopted() {
    adopt("apache", "service apache2 start");
}

#[test]
fn a_site_of_nginxs_is_adopted() {
    adopt("nginx", "service nginx start");
}

fn adopt(web_server: &str, start: &str) {
    let Some(lab) = Lab::new() else { return };
    let dev = lab.client("dev");
    let blue = lab.server("blue");
    blue.sh("cd /var/www/html; rm -rf ./*; mkdir -p images/old .well-known
                echo 'Site by hand' >index.html; echo picture >images/old/one.png; echo hidden >.well-known/file
                ln -s index.html home.html")
            .ok();
    blue.sh(start).ok();
    assert_eq!(dev.get("blue"), "Site by hand");
    let before =
        blue.sh("cd /var/www/html; find . -type f | sort | xargs sha256sum; readlink home.html").ok();

    let visits = dev.start(
        "root",
        "n=0; while [ ! -e /tmp/stop ] && [ $n -lt 3000 ]; do
                n=$((n + 1)); curl -sS -f --max-time 5 http://blue/images/old/one.png || :
            done",
    );
    // What root has, root gives away by the word of an admin only.
    blue.install_for(&dev, &format!("--web-server {web_server}"))
        .ends_with_status(1)
        .says("/var/www/html holds something already, and belongs to root")
        .says("hint: --site /var/www/html makes that the first release");
    blue.install_for(&dev, &format!("--web-server {web_server} --site /var/www/html"))
        .ok()
        .says("the first release");
    dev.sh("touch /tmp/stop").ok();
    let seen = visits.finish();
    let (good, bad): (Vec<&str>, Vec<&str>) = seen.lines().partition(|line| *line == "picture");
    // Between the move and the reload, a tenth of a second, a page may be missing; no visitor is turned away.
    assert!(good.len() > 20 && bad.len() < 40, "{} good, {bad:?}", good.len());
    assert!(bad.iter().all(|complaint| complaint.ends_with("404")), "{bad:?}");

    // A worker that is about to go may still take a request.
    dev.soon_gets("blue", "Site by hand");
    assert_eq!(dev.sh("curl -sS http://blue/images/old/one.png").ok().text(), "picture\n");
    let after = blue
        .sh("cd /var/www/html/current/; find . -type f | sort | xargs sha256sum; readlink home.html")
        .ok();
    assert_eq!(after.text(), before.text());
    blue.sh("ls -A /var/www/html").ok().lacks("index.html").lacks("images");

    // Names with a dot are not for visitors, but for the one that certificates are asked for by.
    assert_eq!(dev.sh("curl -sS http://blue/.well-known/file").ok().text(), "hidden\n");
    blue.sh("echo secret >/var/www/html/current/.env").ok();
    dev.sh("curl -sS -f http://blue/.env").fails().lacks("secret");

    dev.commit("App v1", "one");
    dev.push("deploy@blue:sample_app master").ok().says("is live");
    assert_eq!(dev.get("blue"), "App v1");
    dev.sh_as("dev", "ssh deploy@blue rollback").ok();
    assert_eq!(dev.get("blue"), "Site by hand");
}

#[test]
fn a_site_that_another_config_serves_is_left_alone() {
    let Some(lab) = Lab::new() else { return };
    let blue = lab.server("blue");
    blue.write(
        "/etc/apache2/sites-available/shop.conf",
        "<VirtualHost *:80>\nServerName shop.example\nDocumentRoot /var/www/html/\n</VirtualHost>\n",
    );
    blue.sh("a2ensite -q shop").ok();
    let before = blue.written();
    blue.install("--web-server apache")
        .ends_with_status(1)
        .says("sites-enabled/shop.conf serves /var/www/html already");
    assert_eq!(blue.changed_since(&before), "");
    // Without a web server of ours nothing is moved from under theirs.
    blue.install("--web-server none").ok().says("stays as it is");
    blue.sh("test -e /var/www/html/index.html && test ! -e /var/www/html/current").ok();
}
