//! An existing site becomes the first release, and is served without interruption.

use crate::lab::Lab;

#[test]
fn a_site_served_by_apache_is_adopted() {
    adopt("apache", "service apache2 start");
}

#[test]
fn a_site_served_by_nginx_is_adopted() {
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
    // Root gives away its own files only if an administrator says so.
    blue.install_for(&dev, &format!("--web-server {web_server}"))
        .ends_with_status(1)
        .says("/var/www/html contains files that root owns")
        .says("hint: --site /var/www/html makes them the first release");
    blue.install_for(&dev, &format!("--web-server {web_server} --site /var/www/html"))
        .ok()
        .says("the first release");
    dev.sh("touch /tmp/stop").ok();
    let seen = visits.finish();
    let (good, bad): (Vec<&str>, Vec<&str>) = seen.lines().partition(|line| *line == "picture");
    // Between the move and the reload, for about a tenth of a second, pages may be missing. No connection is
    // refused.
    assert!(good.len() > 20 && bad.len() < 40, "{} good, {bad:?}", good.len());
    assert!(bad.iter().all(|complaint| complaint.ends_with("404")), "{bad:?}");

    // A worker that is shutting down may still serve a request.
    dev.soon_gets("blue", "Site by hand");
    assert_eq!(dev.sh("curl -sS http://blue/images/old/one.png").ok().text(), "picture\n");
    let after = blue
        .sh("cd /var/www/html/current/; find . -type f | sort | xargs sha256sum; readlink home.html")
        .ok();
    assert_eq!(after.text(), before.text());
    blue.sh("ls -A /var/www/html").ok().lacks("index.html").lacks("images");

    // Dotfiles are not served, except for those with which certificates are requested.
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
fn a_site_served_by_another_config_is_left_alone() {
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
    // Without a web server of its own, the installer moves nothing that another one serves.
    blue.install("--web-server none").ok().says("stays as it is");
    blue.sh("test -e /var/www/html/index.html && test ! -e /var/www/html/current").ok();
}

#[test]
fn files_that_others_can_write_are_not_given_away() {
    let Some(lab) = Lab::new() else { return };
    let blue = lab.server("blue");
    blue.sh(
        "useradd ann; useradd -m -s /bin/bash deploy; mkdir -m 700 /opt/boss; echo secret >/opt/boss/file",
    )
    .ok();
    let site = |name: &str, script: &str| {
        blue.sh(&format!("mkdir -p /srv/{name}; cd /srv/{name}; echo page >index.html; {script}")).ok();
    };
    site("anns", "chown ann .");
    site("shared-with-ann", "mkdir sub; chown ann sub");
    site("open", "mkdir -m 777 sub");
    site("mounted", "mkdir sub; mount --bind /opt/boss sub");
    site("linked", "ln /opt/boss/file file");
    site("writable", "chmod 777 .");
    site("planted", "mkdir mine; chown deploy mine");
    blue.sh("install -d -m 777 /srv/anybodys; cp -r /srv/linked /srv/anybodys/site; ln -s /opt/boss /srv/link; ln -s /srv/anns /srv/anybodys/link").ok();
    let before = blue.written();
    for (site, words) in [
        ("anns", "/srv/anns is owned by ann, not by deploy"),
        ("shared-with-ann", "another user owns, links, or can write /srv/shared-with-ann/sub"),
        ("open", "another user owns, links, or can write /srv/open/sub"),
        ("mounted", "something is mounted in /srv/mounted"),
        ("linked", "another user owns, links, or can write /srv/linked/file"),
        ("writable", "/srv/writable or a directory above it is writable by others"),
        ("planted", "another user owns, links, or can write /srv/planted/mine"),
        ("anybodys/site", "/srv/anybodys/site or a directory above it is writable by others"),
        ("link", "/srv/link resolves to /opt/boss"),
        ("anybodys/link", "/srv/anybodys/link resolves to /srv/anns"),
        ("none/../../opt", "is not a directory for a site"),
    ] {
        blue.install(&format!("--web-server nginx --site /srv/{site}")).fails().says(words);
    }
    assert_eq!(blue.changed_since(&before), "");

    // Files that the deploy user already owns are adopted as that user. Root changes nothing there.
    site("own", "mkdir sub; echo sub >sub/file; ln -s /opt/boss sub/boss; chown -hR deploy .");
    blue.install("--web-server nginx --site /srv/own")
        .ok()
        .says("the first release")
        .lacks("the owner of /srv/own");
    blue.sh("cat /srv/own/current/sub/file; stat -c %U /opt/boss /opt/boss/file")
        .ok()
        .says("sub\nroot\nroot\n");

    // Only an administrator can move a site.
    blue.sh_as("deploy", "sed -i 's|^root = .*|root = \"/srv/new\"|' sample_app/bluegreen.toml").ok();
    blue.install("")
        .ends_with_status(1)
        .says("says `root = \"/srv/new\"`, not /srv/own")
        .says("--repo /home/deploy/sample_app --site /srv/new");
    blue.install("--site /srv/new").ok().says("create /srv/new");
    blue.sh("grep -h root /etc/nginx/sites-enabled/000-bluegreen-*").ok().says("root /srv/new/current;");
    blue.install("").ok().says("Nothing had to be changed.");
}
