//! What the installer must never allow: a lost key, secrets or source files served to visitors, a lock that
//! another user holds, and commands for root that are dangerous in the deploy user's directories.

use crate::lab::Lab;
use crate::machine::Machine;

const SETUP: &str = "/root/bluegreen/install.sh --binary /root/bluegreen/program";

const KEYS: &str = "/home/deploy/.ssh/authorized_keys";

/// Adds ten other keys to `authorized_keys`, and returns their lines.
fn others(server: &Machine) -> String {
    server
        .sh(&format!(
            "cd /tmp; for i in 0 1 2 3 4 5 6 7 8 9; do
                rm -f other; ssh-keygen -q -t ed25519 -N '' -C \"other $i\" -f other; cat other.pub
            done >/root/others; printf '# a comment\\nfrom=\"192.0.2.0/24\" ' >>/root/others; cat other.pub >>/root/others
            install -o deploy -m 600 /root/others {KEYS}; cat /root/others"
        ))
        .ok()
        .text()
        .to_owned()
}

/// Asserts that the key file contains each line of `lines`.
fn has_all(server: &Machine, lines: &str, when: &str) {
    let keys = server.sh(&format!("cat {KEYS}")).ok();
    for line in lines.lines() {
        assert!(keys.text().lines().any(|key| key == line), "{when}: lost: {line}\n{}", keys.text());
    }
}

#[test]
fn an_unreadable_key_file_is_an_error_and_keeps_its_keys() {
    let Some(lab) = Lab::new() else { return };
    let (blue, dev) = (lab.server("blue"), lab.client("dev"));
    blue.write("/root/new.pub", &dev.public_key("stranger"));
    blue.install_for(&dev, "--web-server none").ok();
    let lines = others(&blue);
    let add = format!("{SETUP} --key new=/root/new.pub");
    // A file owned by root, which deploy cannot read.
    blue.sh(&format!("chown root {KEYS}")).ok();
    for command in
        [&add, "/root/bluegreen/install.sh --remove-key other", "/root/bluegreen/install.sh --keys"]
    {
        blue.sh(command).ends_with_status(1).says(&format!("cannot read {KEYS}: ")).says("Permission denied");
        has_all(&blue, &lines, command);
    }
    blue.sh(&format!("chown deploy {KEYS}; chmod 0 /home/deploy/.ssh")).ok();
    blue.sh(&add).ends_with_status(1).says("Permission denied");
    blue.sh("chmod 700 /home/deploy/.ssh").ok();
    has_all(&blue, &lines, "closed directory");
    // A file above the size limit is not truncated.
    blue.sh(&format!("cp -a {KEYS} /root/keys; head -c 1100000 /dev/zero | tr '\\0' '#' >>{KEYS}")).ok();
    blue.sh(&add).ends_with_status(1).says("larger than 1000000 bytes");
    has_all(&blue, &lines, "large file");
    blue.sh(&format!("cp -a /root/keys {KEYS}")).ok();
    // The disk for temporary files is full.
    blue.sh("mkdir /srv/full; mount -t tmpfs -o size=128k,mode=1777 full /srv/full").ok();
    for free in [0, 1, 4, 8, 16, 32] {
        blue.sh(&format!(
            "rm -rf /srv/full/*; head -c 1000000 /dev/zero >/srv/full/filler 2>/dev/null || :
            truncate -s $(( (32 - {free}) * 4096 )) /srv/full/filler"
        ))
        .ok();
        blue.sh(&format!("TMPDIR=/srv/full {add}")).either_way();
        has_all(&blue, &lines, &format!("{free} pages free"));
    }
    // The disk of the home directory is full.
    blue.sh(
        "mkdir /srv/home; mount -t tmpfs -o size=16k,mode=700,uid=$(id -u deploy) home /srv/home; cp -a /root/keys /srv/home/authorized_keys
        mount --bind /srv/home /home/deploy/.ssh; head -c 1000000 /dev/zero >/srv/home/filler 2>/dev/null || :",
    )
    .ok();
    blue.sh("sed -i '/^key /d' /var/lib/bluegreen/users/deploy").ok();
    blue.sh(&add).ends_with_status(1).says("No space left on device");
    has_all(&blue, &lines, "full home");
    blue.sh("rm /srv/home/filler").ok();
    blue.sh(&add).ok().says("allow 1 key");
    has_all(&blue, &lines, "after all");
}

#[test]
fn a_commented_out_key_does_not_count() {
    let Some(lab) = Lab::new() else { return };
    let (blue, dev) = (lab.server("blue"), lab.client("dev"));
    blue.install_for(&dev, "--web-server none").ok();
    blue.sh(&format!("sed -i 's/^/#/' {KEYS}")).ok();
    blue.sh("/root/bluegreen/install.sh --remove-key dev@example.org")
        .fails()
        .says("no key matches dev@example.org");
    blue.install_for(&dev, "").ok().says("allow 1 key");
    blue.sh(&format!("grep -c ^restrict {KEYS}; grep -c ^#restrict {KEYS}")).ok().says("1\n1\n");
    dev.sh_as("dev", "ssh deploy@blue status").ok();
    // The same in a key file passed with `--key`.
    blue.sh("sed 's/^/# /' /tmp/dev.pub >/root/commented.pub").ok();
    blue.install("--key /root/commented.pub").fails().says("contains no public ssh key");
}

/// A truncated key is a prefix of every other key of its type.
#[test]
fn removing_or_changing_a_key_affects_no_other_key() {
    let Some(lab) = Lab::new() else { return };
    let (blue, dev) = (lab.server("blue"), lab.client("dev"));
    blue.install_for(&dev, "--web-server none").ok();
    let lines = others(&blue);
    let cut = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA bob";
    blue.sh(&format!("echo '{cut}' >>{KEYS}")).ok();
    blue.install("--role bob=read").ok().says("change the role of a key");
    has_all(&blue, &lines, "a new role");
    blue.sh(&format!("grep -c 'command=\"role read\"' {KEYS}")).ok().says("1\n");
    blue.sh("/root/bluegreen/install.sh --remove-key bob").ok().says("remove 1 key of bob");
    has_all(&blue, &lines, "a removed key");
    blue.sh(&format!("grep bob {KEYS}")).fails();
    // sshd also accepts tabs between the parts of a line.
    blue.sh("rm -f /tmp/other*; ssh-keygen -q -t ed25519 -N '' -C tab -f /tmp/other").ok();
    blue.sh(&format!("tr ' ' '\\t' </tmp/other.pub >>{KEYS}; /root/bluegreen/install.sh --remove-key tab"))
        .ok()
        .says("remove 1 key of tab");
    blue.sh(&format!("grep tab {KEYS}")).fails();
    has_all(&blue, &lines, "a removed key with tabs");
}

/// Runs the installer under limits that apply to root or to deploy. No key is lost, and a later run completes
/// what a killed or failed run left.
#[test]
fn resource_limits_lose_no_key_and_leave_no_partial_state() {
    let Some(lab) = Lab::new() else { return };
    let (blue, dev) = (lab.server("blue"), lab.client("dev"));
    blue.write("/root/new.pub", &dev.public_key("stranger"));
    blue.install_for(&dev, "--web-server none").ok();
    let lines = others(&blue);
    let step = std::env::var("BLUEGREEN_LIMIT_STEP").unwrap_or_else(|_| "7".into());
    // A megabyte of address space is too small for a shell. 64 are enough for every program except git.
    blue.write(
        "/root/limits",
        &format!(
            "for limit in nofile:1 nproc:1 fsize:64 as:1000000; do
                n=1
                while [ $n -le 64 ]; do
                    case $((n % 2)) in
                        0) action='--remove-key new' ;;
                        *) action='--binary /root/bluegreen/program --key new=/root/new.pub' ;;
                    esac
                    timeout 60 prlimit --core=0 --${{limit%:*}}=$((n * ${{limit#*:}})) sh /root/bluegreen/install.sh $action >/root/said 2>&1 || :
                    ! grep -Fxv -f {KEYS} /root/others || {{ echo \"lost at $limit $n $action\"; cat /root/said; exit 1; }}
                    ! grep -q ' new$' {KEYS} || grep -q '^key ' /var/lib/bluegreen/users/deploy ||
                        {{ echo \"$limit $n $action: the ledger lacks the key\"; exit 1; }}
                    n=$((n + {step}))
                done
            done
            echo finished"
        ),
    );
    blue.sh("sh /root/limits").ok().says("finished");
    has_all(&blue, &lines, "limits");
    blue.sh(&format!("{SETUP} --key new=/root/new.pub")).ok();
    blue.sh(SETUP).ok().says("Nothing had to be changed.");
    blue.sh("/root/bluegreen/install.sh --remove-key new").ok();
    has_all(&blue, &lines, "afterwards");
    blue.sh("find / -xdev -name '.*.bluegreen-new' | grep . && exit 1 || :").ok();
}

#[test]
fn only_root_can_access_the_ledger_and_locks() {
    let Some(lab) = Lab::new() else { return };
    let (blue, dev) = (lab.server("blue"), lab.client("dev"));
    blue.install_for(&dev, "--web-server none --sudo /usr/bin/id").ok();
    // Leftovers of a killed installer, and file modes of an earlier version.
    blue.sh(
        "cd /var/lib/bluegreen; cp repositories/deploy_sample_app repositories/.deploy_sample_app.bluegreen-new
        cp accounts/deploy accounts/.deploy.bluegreen-new; echo /srv/other >>accounts/.deploy.bluegreen-new
        chmod -R go+rX .; install -o deploy -m 600 /dev/null /run/bluegreen-install.lock",
    )
    .ok();
    dev.sh_as("dev", "ssh deploy@blue status").ok().says("Live:");
    blue.install("").ok().says("Nothing had to be changed.");
    blue.sh("find / -xdev -name '.*.bluegreen-new' | grep . && exit 1 || :").ok();
    let readable = "find /var/lib/bluegreen /run -name '*bluegreen*' -o -path '/var/lib/bluegreen/*' 2>/dev/null | while read -r path; do
            { [ ! -f \"$path\" ] || [ ! -r \"$path\" ]; } || echo \"$path\"
        done";
    let list = blue.sh_as("deploy", readable).ok().text().to_owned();
    assert_eq!(list, "/var/lib/bluegreen/accounts/deploy\n/run/bluegreen-install.lock\n");
    // Locks taken by deploy do not block root's installer.
    let locks = blue.start(
        "deploy",
        "for path in /run /var/lib/bluegreen /var/lib/bluegreen/* /run/bluegreen*; do
            [ ! -r \"$path\" ] || flock -n \"$path\" sleep 20 & done; wait",
    );
    blue.sh("sleep 1; /root/bluegreen/install.sh --remove-key dev@example.org").ok();
    blue.install("--uninstall").ok();
    drop(locks);
}

#[test]
fn nothing_is_served_after_an_uninstall_with_apache() {
    secrets_after_uninstall("apache", "apache2/sites-enabled/000-default.conf");
}

#[test]
fn nothing_is_served_after_an_uninstall_with_nginx() {
    secrets_after_uninstall("nginx", "nginx/sites-enabled/default");
}

fn secrets_after_uninstall(web_server: &str, default: &str) {
    let Some(lab) = Lab::new() else { return };
    let (blue, dev) = (lab.server("blue"), lab.client("dev"));
    let paths = ["shared/.env", "shared/upload", "current/index.html", ".bluegreen/history.jsonl"];
    let secrets = |when: &str| {
        for path in paths {
            let said = dev.sh(&format!("curl -sS --max-time 5 http://blue/{path}")).either_way();
            for secret in ["secret", "App v1", "deployment"] {
                assert!(!said.text().contains(secret), "{when}: {path}: {}", said.text());
            }
        }
    };
    let install = || {
        blue.install_for(&dev, &format!("--web-server {web_server}")).ok();
        dev.sh_as("dev", "[ -d sample_app ] || git init -q sample_app; date +%N >sample_app/time").ok();
        dev.commit("App v1", "one");
        dev.push("deploy@blue:sample_app master").ok().says("is live");
        dev.soon_gets("blue", "App v1");
    };
    blue.sh("cd /var/www/html; install -d shared; echo secret | tee shared/.env >shared/upload; chmod 644 shared/.env").ok();
    install();

    blue.install("--uninstall").ok().says("close /var/www/html/shared").lacks("cp -a");
    blue.sh(&format!("test -e /etc/{default}")).ok();
    secrets("as installed");

    // The web server's group, which setgid directories pass on.
    install();
    blue.sh("cd /var/www/html; test \"$(stat -c %a releases)\" = 755; chgrp -R www-data .; find . -type d -exec chmod 2750 {} +; chmod 2755 .").ok();
    blue.install("--uninstall").ok();
    secrets("setgid www-data");
    install();
    // The kernel clears setgid on a directory if its owner is not in its group.
    blue.sh("cd /var/www/html; stat -c '%a %G' shared").ok().says("750 www-data\n");

    // An administrator's symlink, whose target cannot be closed from here.
    blue.sh("mv /var/www/html/shared /srv/data; chown -R root:root /srv/data; chmod -R a+rX /srv/data; ln -s /srv/data /var/www/html/shared; chmod g+rx,o+rx /var/www/html").ok();
    blue.install("--uninstall")
        .ends_with_status(1)
        .says("error: uninstall: without the installer's site, visitors could read /var/www/html/shared\n");
    dev.soon_gets("blue", "App v1");
    blue.sh("chmod 700 /srv/data").ok();
    blue.install("--uninstall").ok();
    blue.sh(&format!("test -e /etc/{default}")).ok();
    secrets("a symlink");
}

#[test]
fn apache_does_not_serve_source_files() {
    sources("apache", "403");
}

#[test]
fn nginx_does_not_serve_source_files() {
    sources("nginx", "404");
}

fn sources(web_server: &str, status: &str) {
    let Some(lab) = Lab::new() else { return };
    let (blue, dev) = (lab.server("blue"), lab.client("dev"));
    // A machine without PHP.
    blue.sh("rm -rf /run/php /etc/apache2/conf-enabled/php* /etc/apache2/mods-enabled/php*").ok();
    blue.install_for(&dev, &format!("--web-server {web_server}")).ok();
    let deploy = |files: &str| {
        dev.sh_as(
            "dev",
            &format!(
                "rm -rf sample_app; git init -q sample_app; cd sample_app; mkdir -p .well-known
                for file in {files} .env .well-known/proof; do mkdir -p \"$(dirname $file)\"; echo \"source $file\" >$file; done
                git add -Af; git commit -qm '{files}'; git push -qf deploy@blue:sample_app master"
            ),
        )
        .ok();
    };
    for application in [
        "server.js package.json package-lock.json index.html",
        "server.py requirements.txt app/settings.py",
        "Gemfile config.ru config/database.yml app/models/user.rb",
    ] {
        deploy(application);
        for file in application.split(' ').chain([".env", ""]) {
            assert_eq!(dev.status_of(&format!("http://blue/{file}")), status, "{file} of {application}");
        }
        assert_eq!(dev.status_of("http://blue/.well-known/proof"), "200", "{application}");
    }
    // A static site is served, but not its PHP files, which would not be executed, and not its dotfiles.
    deploy("index.html css/site.css config.php a.PHP b.phtml c.phar d.php7 app.js");
    for file in ["", "css/site.css", "app.js"] {
        assert_eq!(dev.status_of(&format!("http://blue/{file}")), "200", "{file}");
    }
    for file in ["config.php", "a.PHP", "b.phtml", "c.phar", "d.php7", ".env", ".git/config"] {
        assert_eq!(dev.status_of(&format!("http://blue/{file}")), status, "{file}");
    }
    // With `--static`, a manifest next to the pages is ignored.
    deploy("index.html package.json");
    assert_eq!(dev.status_of("http://blue/"), status);
    blue.install("--static").ok().says(&format!("reload {web_server}"));
    blue.install("").ok().says("Nothing had to be changed.");
    assert_eq!(dev.status_of("http://blue/"), "200");
}

#[test]
fn without_a_network_the_installer_fails_quickly_with_the_reason() {
    let Some(lab) = Lab::new() else { return };
    let blue = lab.server("blue");
    blue.sh("dpkg --remove --force-all nginx-core nginx-light nginx-full nginx 2>/dev/null || :; rm -f /usr/sbin/nginx").ok();
    // A mirror that accepts connections but never responds.
    blue.sh("rm -f /etc/apt/sources.list.d/* /etc/apt/apt.conf.d/*proxy*; : >/etc/apt/apt.conf
        echo 'deb http://127.0.0.1:9 stable main' >/etc/apt/sources.list
        setsid python3 -c 'import socket, time
server = socket.create_server((\"127.0.0.1\", 9), backlog=99)
time.sleep(300)' >/dev/null 2>&1 & sleep 0.5")
        .ok();
    let started = std::time::Instant::now();
    blue.install("--web-server nginx").ends_with_status(1).says("error: packages: could not apt-get ").says(
        "check the network and the sources in /etc/apt, or install these packages by other means: nginx",
    );
    assert!(started.elapsed().as_secs() < 150, "{:?}", started.elapsed());
    blue.sh("! id deploy").ok();
}

#[test]
fn root_commands_are_safe_in_directories_of_the_deploy_user() {
    let Some(lab) = Lab::new() else { return };
    let (blue, dev) = (lab.server("blue"), lab.client("dev"));
    let is_safe = |said: &str| {
        for line in said.lines() {
            for command in ["cp ", "mv ", "rm ", "chown ", "chmod ", "ln ", "tee ", "install -"] {
                let Some((before, after)) = line.split_once(&format!(": {command}")) else { continue };
                // It says which user runs it: the owner of the directory.
                assert!(before.contains("as deploy") || before.contains("as root"), "{line}");
                assert!(command != "mv " || after.starts_with("-nT "), "{line}");
                assert!(!after.starts_with("-R"), "{line}");
            }
        }
    };
    blue.install_for(&dev, "--web-server apache").ok();
    dev.commit("App v1", "one");
    dev.push("deploy@blue:sample_app master").ok();
    blue.sh_as("deploy", "ln -s /etc/profile /var/www/html/profile; rm /var/www/html/current; echo >/var/www/html/current; ln -s /etc /var/www/html/current.old").ok();
    let said =
        blue.install("").fails().says("as deploy: mv -nT /var/www/html/current /var/www/html/current.old");
    is_safe(said.text());
    blue.sh("mv -nT /var/www/html/current /var/www/html/current.old || :; test ! -e /etc/current").ok();
    blue.sh("rm -f /var/www/html/current /var/www/html/current.old").ok();
    let said = blue.install("--uninstall").ok().lacks("cp -a");
    is_safe(said.text());
    // A site in an inaccessible home, and one owned by another user.
    blue.sh("useradd -m ann; install -d -o ann /srv/anns; chmod 700 /home/deploy").ok();
    let said = blue.install("--web-server apache --site /home/deploy/public").ok();
    is_safe(said.says("as deploy: chmod o+x /home/deploy").text());
    is_safe(blue.install("--repo two --site /srv/anns --domain two").fails().text());
}

#[test]
fn adoption_warns_about_paths_that_visitors_lose() {
    let Some(lab) = Lab::new() else { return };
    let (blue, dev) = (lab.server("blue"), lab.client("dev"));
    blue.sh("cd /var/www/html; rm -rf ./*; mkdir releases shared; echo page >index.html; echo notes >releases/v1.html; echo file >shared/file").ok();
    let warnings = |dry: &str| {
        let options = format!("--web-server apache --site /var/www/html {dry}");
        let ran = blue.install_for(&dev, &options).ok();
        for name in ["releases", "shared"] {
            let words = format!("warning: visitors will no longer get /{name}/: /var/www/html/{name} ");
            assert!(ran.text().contains(&words), "{}", ran.text());
        }
    };
    warnings("--dry-run");
    warnings("");
    assert_eq!(dev.get("blue"), "page");
    blue.install("").ok().lacks("will no longer get");
}

/// Apache passes PHP-FPM the path of a symlink. The installer turns off the cache of such paths in the pool that Apache
/// uses, and has FPM reload its settings once.
#[test]
fn the_pool_of_php_that_apache_uses_caches_no_path() {
    let Some(lab) = Lab::new() else { return };
    let (blue, dev) = (lab.server("blue"), lab.client("dev"));
    let pool = "/etc/php/8.9/fpm/pool.d/zz-bluegreen-shop.conf";
    blue.sh(
        "rm -rf /etc/php /run/php /etc/apache2/conf-enabled/php*; mkdir -p /etc/php/8.9/fpm/pool.d /run/php
        cd /etc/php/8.9/fpm/pool.d; printf '[www]\nlisten = /run/php/other.sock\n' >www.conf
        printf '; A comment\n[shop]\nuser = www-data\nlisten = /run/php/php8.9-fpm.sock\n' >shop.conf
        printf '<FilesMatch \"\\\\.php$\">\nSetHandler \"proxy:unix:/run/php/php8.9-fpm.sock|fcgi://localhost\"\n</FilesMatch>\n' \
            >/etc/apache2/conf-enabled/php8.9-fpm.conf; cat /etc/apache2/conf-enabled/php8.9-fpm.conf",
    )
    .ok();
    // Stands for PHP-FPM, which reloads its settings at SIGUSR2.
    let fpm = blue.start(
        "root",
        "trap 'echo reloaded >>/root/reloads' USR2; echo $$ >/run/php/php8.9-fpm.pid; while :; do sleep 0.1; done",
    );
    blue.sh("until [ -s /run/php/php8.9-fpm.pid ]; do sleep 0.1; done").ok();
    let reloads = || blue.sh("sleep 0.5; cat /root/reloads 2>/dev/null || :").ok().text().lines().count();
    blue.install_for(&dev, "--web-server apache --dry-run").ok().says(pool);
    assert_eq!(reloads(), 0);
    blue.install_for(&dev, "--web-server apache").ok().says("reload PHP-FPM");
    blue.sh(&format!("cat {pool}")).ok().says(
        "[shop]\nphp_admin_value[realpath_cache_size] = 0\nphp_admin_value[opcache.revalidate_path] = 1\n",
    );
    assert_eq!(reloads(), 1);
    blue.install("").ok().says("Nothing had to be changed.");
    assert_eq!(reloads(), 1);
    // A pool that is not found is named, because its visitors would get old releases.
    blue.sh("mv /etc/php/8.9/fpm/pool.d/shop.conf /root/").ok();
    blue.install("").either_way().says("no pool of PHP-FPM listens on /run/php/php8.9-fpm.sock");
    blue.sh("mv /root/shop.conf /etc/php/8.9/fpm/pool.d/").ok();
    blue.install("--uninstall").ok().says("reload PHP-FPM");
    blue.sh(&format!("test ! -e {pool}")).ok();
    assert_eq!(reloads(), 2);
    drop(fpm);
}
