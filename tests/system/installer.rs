//! The installer's guarantees: it changes only what it prints, it can be run again after any failure, and a
//! failure leaves a working server.

use crate::lab::Lab;
use crate::machine::difference;

#[test]
fn a_second_run_changes_nothing_with_apache() {
    second_run("apache");
}

#[test]
fn a_second_run_changes_nothing_with_nginx() {
    second_run("nginx");
}

fn second_run(web_server: &str) {
    let Some(lab) = Lab::new() else { return };
    let blue = lab.server("blue");
    let dev = lab.client("dev");
    let options = format!("--web-server {web_server}");
    blue.install_for(&dev, &options).ok();
    dev.commit("App v1", "one");
    dev.push("deploy@blue:sample_app master").ok();
    let before = blue.written();
    blue.install_for(&dev, &options).ok().says("Nothing had to be changed.");
    blue.install("").ok().says("Nothing had to be changed.");
    assert_eq!(blue.changed_since(&before), "");
    // The server keeps serving in the meantime.
    assert_eq!(dev.get("blue"), "App v1");
}

#[test]
fn a_dry_run_changes_nothing() {
    let Some(lab) = Lab::new() else { return };
    let blue = lab.server("blue");
    let dev = lab.client("dev");
    blue.write("/tmp/dev.pub", &dev.public_key("id_ed25519"));
    let before = blue.written();
    blue.install("--web-server apache --key /tmp/dev.pub --dry-run")
        .ok()
        .says("would add the user deploy")
        .says("would create the bare repository /home/deploy/sample_app")
        .says("would start apache")
        .says("nothing was changed");
    assert_eq!(blue.changed_since(&before), "");

    blue.install_for(&dev, "--web-server apache").ok();
    let before = blue.written();
    blue.install("--uninstall --dry-run").ok().says("would remove").says("nothing was changed");
    blue.install("--repo two --site /srv/two --domain two.example --dry-run").ok().says("would");
    blue.install("--dry-run").ok().says("Nothing would have to be changed.\n");
    let config = "printf 'branch = \"main\"\\nserver = \"azure\"\\n' |";
    let setup = "/root/bluegreen/install.sh --binary /root/bluegreen/program --config -";
    blue.sh(&format!("{config} {setup} --dry-run"))
        .ok()
        .says("would write /home/deploy/sample_app/bluegreen.toml\n")
        .says("would write /etc/apache2/sites-available/");
    assert_eq!(blue.changed_since(&before), "");

    // Only an administrator provides another config, and no option may contradict it.
    blue.sh(&format!("{config} {setup}")).ok().says("git push azure main");
    blue.sh(&format!("{config} {setup}")).ok().says("Nothing had to be changed.");
    blue.sh("cat /home/deploy/sample_app/bluegreen.toml")
        .ok()
        .says("branch = \"main\"\nserver = \"azure\"\n");
    blue.sh(&format!("{config} {setup} --site /srv/app"))
        .ends_with_status(1)
        .says("error: preflight: --config says `root = \"/var/www/html\"`, not /srv/app");
    // A config without a name says nothing about it.
    blue.sh(&format!("echo 'branch = \"main\"' | {setup} --name teal"))
        .ends_with_status(1)
        .says("sets no `server`, so the name would be blue, not teal")
        .says("add `server = \"teal\"` to the config, or leave out --name")
        .lacks("says `server");
}

#[test]
fn installed_files_are_as_documented() {
    let Some(lab) = Lab::new() else { return };
    let blue = lab.server("blue");
    let dev = lab.client("dev");
    // Debian's own git, which is older than the one in /usr/local, if any.
    blue.sh("rm -rf /usr/local/bin/git* /usr/local/libexec/git-core; git --version").ok();
    // Set up from the files that the program contains.
    blue.sh("mv bluegreen/program program; rm -rf bluegreen; ./program generate files bluegreen; mv program bluegreen/").ok();
    blue.install_for(
        &dev,
        "--web-server nginx --branch main --name teal --site /srv/site --repo /srv/git/app",
    )
    .ok();
    blue.sh("stat -c '%a %U %n' /home/deploy/.ssh /home/deploy/.ssh/authorized_keys /srv/site /srv/site/releases \\
             /srv/site/.bluegreen /srv/git/app /srv/git/app/bluegreen.toml")
        .ok()
        .says("700 deploy /home/deploy/.ssh\n600 deploy /home/deploy/.ssh/authorized_keys\n")
        .says("755 deploy /srv/site\n755 deploy /srv/site/releases\n700 deploy /srv/site/.bluegreen\n")
        .says("755 deploy /srv/git/app\n644 deploy /srv/git/app/bluegreen.toml\n");
    blue.sh("cat /srv/git/app/config /srv/git/app/HEAD; readlink /srv/git/app/hooks/post-receive")
        .ok()
        .says("fsckObjects = true")
        .says("advertisePushOptions = true")
        .says("unpackLimit = 1")
        .says("fsync = committed,reference")
        .says("ref: refs/heads/main\n/usr/local/bin/bluegreen\n");
    blue.sh("cat /srv/git/app/bluegreen.toml")
        .ok()
        .says("\nbranch = \"main\"\n")
        .says("\nserver = \"teal\"\n")
        .says("\nroot = \"/srv/site\"\n");
    blue.sh("cat /home/deploy/.ssh/authorized_keys").ok().says("restrict ssh-ed25519 ");
    blue.sh("man -P cat bluegreen; bash -n /usr/local/share/bash-completion/completions/bluegreen")
        .ok()
        .says("rollback");
    blue.sh("getent passwd deploy").ok().says(":/usr/local/bin/bluegreen-shell\n");
    dev.commit("App v1", "one");
    dev.sh_as("dev", "cd sample_app; git remote add teal deploy@blue:/srv/git/app").ok();
    dev.push("teal master:main").ok().says("remote: Main ref received.  Deploying main branch to teal...");
    assert_eq!(dev.get("blue"), "App v1");

    // The config is the user's: a contradicting option is rejected, and no run overwrites the file.
    blue.install("--repo /srv/git/app --branch other").fails().says("says `branch = \"main\"`, not other");
    blue.sh("echo '# mine' >>/srv/git/app/bluegreen.toml").ok();
    blue.sh_as("deploy", "git --git-dir /srv/git/app config core.fsync all").ok();
    let before = blue.written();
    blue.install("--repo /srv/git/app").ok();
    assert_eq!(blue.changed_since(&before), "");
}

#[test]
fn a_foreign_hook_is_kept() {
    let Some(lab) = Lab::new() else { return };
    let blue = lab.server("blue");
    blue.sh("adduser --quiet --disabled-password --gecos '' deploy
             runuser -u deploy -- git init -q --bare /home/deploy/sample_app")
        .ok();
    blue.write(
        "/home/deploy/sample_app/hooks/post-receive",
        "#!/bin/sh\nexec git --work-tree=/var/www/html checkout -f\n",
    );
    let before = blue.written();
    blue.install("--web-server apache")
        .ends_with_status(1)
        .says("error: preflight: cannot install the hook /home/deploy/sample_app/hooks/post-receive: another hook is installed there")
        .says("`bluegreen hook post-receive`");
    assert_eq!(blue.changed_since(&before), "");

    // A hook that chains the program as the hint says is kept, and pushes deploy.
    blue.write(
        "/home/deploy/sample_app/hooks/post-receive",
        "#!/bin/sh\necho mine\nexec bluegreen hook post-receive\n",
    );
    blue.sh("chmod +x /home/deploy/sample_app/hooks/post-receive").ok();
    let dev = lab.client("dev");
    blue.install_for(&dev, "--web-server apache").ok().says("keeps its shell /bin/bash, so `promote` and `ssh deploy@blue status` fail until root runs: usermod -s /usr/local/bin/bluegreen-shell deploy");
    dev.commit("App v1", "one");
    dev.push("deploy@blue:sample_app master").ok().says("remote: mine\n").says("is live");
    assert_eq!(dev.get("blue"), "App v1");
}

#[test]
fn wrong_usage_is_rejected_before_any_change() {
    let Some(lab) = Lab::new() else { return };
    let blue = lab.server("blue");
    blue.sh(
        "ssh-keygen -q -t ed25519 -N '' -f /root/k; echo 'command=\"id\" ssh-ed25519 AAAA' >/root/options.pub
             mkdir -p /srv/real/current; echo nonsense >/root/nonsense",
    )
    .ok();
    let before = blue.written();
    for (options, words) in [
        ("--frobnicate", "unknown option --frobnicate"),
        ("--run node app.js", "unexpected argument `app.js`\nhint: quote a value with spaces"),
        ("--user", "--user needs a value"),
        ("--user root", "--user cannot be root"),
        ("--user 'a b'", "invalid name of a user"),
        ("--repo '/srv/a b'", "--repo may contain"),
        ("--site srv/www", "--site must be an absolute path: `srv/www`"),
        ("--site /", "is not a directory for a site"),
        ("--site /srv", "is not a directory for a site"),
        ("--site /etc/apache2", "is not a directory for a site"),
        ("--site /home/deploy", "would contain the repository or the home"),
        ("--site /srv/real", "as root: mv -nT /srv/real/current /srv/real/current.old"),
        ("--branch 'a\"b'", "--branch may contain"),
        ("--domain 'a b'", "invalid host name: `a b`"),
        ("--web-server lighttpd", "invalid web server `lighttpd`: auto, apache, nginx, caddy, or none"),
        ("--key /root/none", "cannot read the key /root/none\nhint: name a file with a public key"),
        ("--key /root/k", "the public one is /root/k.pub"),
        ("--key /root/options.pub", "not a public ssh key"),
        ("--key /root/nonsense", "not a public ssh key"),
        ("--key 'eve=ssh-ed25519 AAA'", "--key eve: not a public ssh key"),
        ("--config /root/none", "cannot read the config /root/none"),
        ("--config /root/nonsense", "    error: bluegreen.toml:1: "),
        ("--binary /bin/true", "/bin/true is not bluegreen"),
    ] {
        blue.install(options).fails().says(words);
    }
    blue.sh("/root/bluegreen/install.sh")
        .fails()
        .says("/root/bluegreen contains no sources to build the program from");
    assert_eq!(blue.changed_since(&before), "");
    blue.sh_as("nobody", "sh /root/bluegreen/install.sh 2>&1 || sh -c 'exit 1'").fails();
}

#[test]
fn a_failed_step_is_reported_and_stops_the_installer() {
    let Some(lab) = Lab::new() else { return };
    let blue = lab.server("blue");
    blue.sh("cp /usr/sbin/nginx /root/; dpkg --remove --force-all nginx-core nginx-light nginx-full nginx 2>/dev/null || :
        rm -f /usr/sbin/nginx")
        .ok();
    blue.install("--web-server nginx --dry-run").ok().says("packages     would apt-get install nginx");
    // This machine cannot reach any package source.
    blue.sh("echo 'Acquire::Retries 0;' >/etc/apt/apt.conf.d/99-no-retries; : >/etc/resolv.conf").ok();
    blue.install("--web-server nginx")
        .ends_with_status(1)
        .says("error: packages: could not apt-get")
        .lacks("add the user");
    blue.sh("! id deploy && test ! -e /var/www/html/releases && test ! -e /usr/local/bin/bluegreen").ok();

    // A stand-in for a package manager that works: installing the web server creates a page in a directory
    // owned by root.
    blue.write(
        "/usr/local/sbin/apt-get",
        "#!/bin/sh\ncase $* in *install*) mv /root/nginx /usr/sbin/ && mkdir /var/www/html &&
            echo '<title>Welcome to nginx!</title>' >/var/www/html/index.html ;; esac\n",
    );
    blue.sh("chmod +x /usr/local/sbin/apt-get; rm -r /var/www/html").ok();
    blue.install("--web-server nginx").ok().says("make deploy the owner of /var/www/html and its files");
    blue.install("").ok().says("Nothing had to be changed.");
}

#[test]
fn without_a_binary_it_builds_as_the_owner_of_the_clone() {
    let Some(lab) = Lab::new() else { return };
    let blue = lab.server("blue");
    // A stand-in for cargo that records its user and directory. The real one takes minutes.
    blue.write(
        "/home/ann/.cargo/bin/cargo",
        "#!/bin/sh
        case $* in
            --version) echo 'cargo 1.999.0' ;;
            'build --release --locked')
                mkdir -p target/release; cp /srv/program target/release/bluegreen
                { id -un; readlink /proc/$$/fd/*; (: </dev/tty) 2>/dev/null && echo terminal; } >target/release/builder
                echo Compiling; [ ! -e fails ] || exit 1 ;;
            *) exit 9 ;;
        esac\n",
    );
    blue.sh("useradd ann; chmod 755 /home/ann/.cargo/bin/cargo; cp -r /root/bluegreen /srv/clone
             cp /root/bluegreen/program /srv/program; echo 'rust-version = \"1.89\"' >/srv/clone/Cargo.toml
             chown -R ann: /srv/clone /home/ann")
        .ok();
    blue.sh("/srv/clone/install.sh --web-server none --dry-run")
        .ok()
        .says("would build bluegreen in /srv/clone");
    // Build scripts get neither root's terminal nor its descriptors.
    let in_terminal = |script: &str| blue.sh(&format!("script -qec '{script}' /dev/null 7</root/new.pub"));
    blue.sh("touch /root/new.pub").ok();
    in_terminal("/srv/clone/install.sh --web-server none")
        .ok()
        .says("program      build bluegreen in /srv/clone");
    blue.sh("cat /srv/clone/target/release/builder").ok().lacks("/dev/pts").lacks("terminal").lacks("/root/");
    in_terminal("touch /srv/clone/fails; /srv/clone/install.sh")
        .ends_with_status(1)
        .says("Compiling")
        .says("the build failed");
    blue.sh("rm /srv/clone/fails").ok();
    blue.sh("/srv/clone/install.sh").ok().says("Nothing had to be changed.");
    blue.sh("cat /srv/clone/target/release/builder; cmp /srv/program /usr/local/bin/bluegreen")
        .ok()
        .says("ann\n");
    // A cargo that is too old is not used, but an installed program stays in use.
    blue.sh("sed -i s/1.999.0/1.60.0/ /home/ann/.cargo/bin/cargo; rm -rf /srv/clone/target /usr/bin/cargo")
        .ok();
    let path = "PATH=/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin";
    blue.sh(&format!("env {path} /srv/clone/install.sh")).ok().says("Nothing had to be changed.");
    // Without either, the installer installs a recent enough Rust if the distribution has a package of it. Here the
    // packages are stand-ins.
    blue.sh("rm /usr/local/bin/bluegreen; mkdir /srv/debian").ok();
    blue.write("/usr/local/sbin/apt-cache", "#!/bin/sh\n[ ! -e /srv/debian/$2 ] || cat /srv/debian/$2\n");
    blue.write(
        "/usr/local/sbin/apt-get",
        "#!/bin/sh
        case $* in *' install '*cargo-web)
            mkdir -p /usr/lib/rust-9/bin && sed s/1.60.0/1.999.0/ /home/ann/.cargo/bin/cargo >/usr/lib/rust-9/bin/cargo
            chmod 755 /usr/lib/rust-9/bin/cargo ;;
        esac\n",
    );
    blue.sh("chmod 755 /usr/local/sbin/apt-*; echo '  Candidate: 1.60.0' >/srv/debian/cargo").ok();
    blue.sh(&format!("env {path} /srv/clone/install.sh"))
        .ends_with_status(1)
        .says("needs cargo of Rust 1.89 or newer")
        .lacks("apt-get install");
    blue.sh("echo '  Candidate: 1.91.0+dfsg-1' >/srv/debian/cargo-web").ok();
    blue.sh(&format!("env {path} /srv/clone/install.sh"))
        .ok()
        .says("packages     apt-get install cargo-web")
        .says("program      build bluegreen in /srv/clone");
}

#[test]
fn with_the_gate_a_push_fails_if_its_deployment_fails() {
    let Some(lab) = Lab::new() else { return };
    let (blue, dev) = (lab.server("blue"), lab.client("dev"));
    blue.install_for(&dev, "--web-server none --gate")
        .ok()
        .says("/home/deploy/sample_app/hooks/proc-receive");
    dev.commit("App v1", "one");
    dev.push("deploy@blue:sample_app master").ok().says("is live");
    dev.sh_as("dev", "cd sample_app && ln -s /etc/passwd passwd && git add passwd && git commit -qm two")
        .ok();
    dev.push("deploy@blue:sample_app master").ends_with_status(1).says(
        "! [remote rejected] master -> master (symlink passwd points outside the release, to /etc/passwd)",
    );
    dev.sh_as("dev", "cd sample_app && git rm -q passwd && git commit -qm three").ok();
    dev.push("deploy@blue:sample_app master").ok().says("is live");
    let before = blue.written();
    blue.install("--web-server none").ok();
    assert_eq!(blue.changed_since(&before), "", "a later run must keep the gate");
}

#[test]
fn a_rejected_web_server_config_is_reverted() {
    let Some(lab) = Lab::new() else { return };
    let blue = lab.server("blue");
    let dev = lab.client("dev");
    blue.sh("rm /etc/nginx/sites-enabled/default").ok();
    blue.write(
        "/etc/nginx/conf.d/mine.conf",
        "server { listen 80 default_server; location / { return 200 'mine'; } }\n",
    );
    blue.sh("service nginx start").ok();
    assert_eq!(dev.get("blue"), "mine");
    let config = "find /etc/nginx ! -type d -printf '%p %m %s %T@ %l\\n' | sort";
    let before = blue.sh(config).ok();
    // Both are default servers. nginx's own config test reports that.
    blue.install_for(&dev, "--web-server nginx").ends_with_status(1).says("duplicate default server").says(
        "error: web server: nginx rejects the config for /var/www/html, so its previous config is restored",
    );
    assert_eq!(difference(before.text(), blue.sh(config).ok().text()), "");
    blue.sh("nginx -tq").ok();
    assert_eq!(dev.get("blue"), "mine");
    blue.sh("test ! -e /var/www/html/current && test -e /var/www/html/index.html").ok();

    // After the fix, the same command continues where it stopped.
    blue.install_for(&dev, "--web-server nginx --domain blue").ok();
    dev.commit("App v1", "one");
    dev.push("deploy@blue:sample_app master").ok();
    assert_eq!((dev.get("blue"), dev.get(blue.address())), ("App v1".into(), "mine".into()));

    // A config that was already broken is not made worse.
    blue.write("/etc/nginx/conf.d/broken.conf", "no such directive;\n");
    let before = blue.written();
    blue.install("--repo two --site /srv/two --domain two.example --dry-run")
        .ends_with_status(1)
        .says("nginx rejects its config as it is, before any change");
    assert_eq!(blue.changed_since(&before), "");
}

#[test]
fn a_killed_run_can_be_repeated() {
    let Some(lab) = Lab::new() else { return };
    let dev = lab.client("dev");
    let blue = lab.server("blue");
    blue.write("/tmp/dev.pub", &dev.public_key("id_ed25519"));
    let command =
        "/root/bluegreen/install.sh --binary /root/bluegreen/program --web-server apache --key /tmp/dev.pub";
    for hundredths in (4..100).step_by(4) {
        // Without killing its children, because a running package manager must not be killed.
        blue.sh(&format!("timeout --foreground -s KILL 0.{hundredths:02} {command}")).either_way();
    }
    blue.sh(command).ok();
    let before = blue.written();
    blue.sh(command).ok().says("Nothing had to be changed.");
    assert_eq!(blue.changed_since(&before), "");
    dev.commit("App v1", "one");
    dev.push("deploy@blue:sample_app master").ok();
    assert_eq!(dev.get("blue"), "App v1");
    blue.sh("find / -xdev -name '.*.bluegreen-new' | grep . && exit 1; grep -c restrict /home/deploy/.ssh/authorized_keys")
        .ok()
        .says("1\n");
}

#[test]
fn a_full_disk_does_not_damage_the_ledger() {
    let Some(lab) = Lab::new() else { return };
    let blue = lab.server("blue");
    blue.install("--web-server none").ok();
    blue.sh("mkdir /srv/small; mount -t tmpfs -o size=64k small /srv/small; cp -a /var/lib/bluegreen/. /srv/small/
        mount --bind /srv/small /var/lib/bluegreen
        i=0; while [ $i -lt 400 ]; do i=$((i + 1)); echo \"filler $i\"; done >>/var/lib/bluegreen/repositories/deploy_sample_app
        cp /var/lib/bluegreen/repositories/deploy_sample_app /srv/whole
        head -c 1000000 /dev/zero >/var/lib/bluegreen/full || :")
        .ok();
    blue.install("--sudo /usr/bin/id").ends_with_status(1).says("No space left on device");
    blue.sh("cmp /srv/whole /var/lib/bluegreen/repositories/deploy_sample_app; test ! -e /etc/sudoers.d/bluegreen-deploy_sample_app")
        .ok();
    blue.sh("rm /var/lib/bluegreen/full").ok();
    blue.install("--sudo /usr/bin/id").ok();
    blue.sh("grep -c filler /var/lib/bluegreen/repositories/deploy_sample_app; grep 'sudo /usr/bin/id' /var/lib/bluegreen/repositories/deploy_sample_app").ok().says("400\n");
}

#[test]
fn responses_name_their_server() {
    let Some(lab) = Lab::new() else { return };
    let (blue, green, dev) = (lab.server("blue"), lab.server("green"), lab.client("dev"));
    blue.install("--web-server apache").ok().says("enable Apache's module headers");
    green.install("--web-server nginx --name teal").ok();
    for (server, name) in [("blue", "blue"), ("green", "teal")] {
        for page in ["", "none", ".env"] {
            dev.sh(&format!("curl -sS -o /dev/null -D - http://{server}/{page}"))
                .ok()
                .says(&format!("X-Served-By: {name}\n"));
        }
    }
    blue.install("--uninstall").ok();
    blue.sh("test ! -e /etc/apache2/mods-enabled/headers.load").ok();
}

#[test]
fn uninstalling_from_apache_keeps_foreign_files() {
    uninstall("apache", "apache2/sites-enabled/000-default.conf");
}

#[test]
fn uninstalling_from_nginx_keeps_foreign_files() {
    uninstall("nginx", "nginx/sites-enabled/default");
}

fn uninstall(web_server: &str, default: &str) {
    let Some(lab) = Lab::new() else { return };
    let dev = lab.client("dev");
    let blue = lab.server("blue");
    let system = "find /etc/apache2 /etc/nginx /etc/sudoers.d /usr/local \\( -type d -printf '%p %m %U\\n' -o -printf '%p %y %m %U %s %l\\n' \\) | sort";
    let before = blue.sh(system).ok();
    blue.sh("install -d /var/www/html/shared; echo secret >/var/www/html/shared/.env").ok();
    blue.install_for(&dev, &format!("--web-server {web_server}")).ok();
    dev.commit("App v1", "one");
    dev.push("deploy@blue:sample_app master").ok();
    blue.sh(&format!("test ! -e /etc/{default}")).ok();

    blue.install("--uninstall").ok().says("remain.");
    let after = blue.sh(system).ok();
    assert_eq!(difference(before.text(), after.text()), "");
    blue.sh("test ! -e /var/lib/bluegreen && ! find /usr/local/share -name '*bluegreen*' | grep .").ok();
    blue.sh("cat /var/www/html/current/index.html; git -C /home/deploy/sample_app -c safe.directory='*' log -1 master")
            .ok()
            .says("App v1")
            .says("one");
    // The default site is enabled again, and serves neither the releases nor their shared files.
    blue.sh(&format!("test -e /etc/{default}")).ok();
    blue.sh("test -s /var/www/html/shared/.env").ok();
    dev.sh("curl -sS -f http://blue/shared/.env").fails().lacks("secret");
    dev.sh("curl -sS -f http://blue/current/index.html").fails().lacks("App");
    dev.push("deploy@blue:sample_app master").fails().says("Permission denied");

    blue.install("--uninstall").ok().says("Nothing was installed");
    // After a reinstallation, the site works as before.
    blue.install_for(&dev, &format!("--web-server {web_server}")).ok();
    dev.soon_gets("blue", "App v1");
    dev.commit("App v2", "two");
    dev.push("deploy@blue:sample_app master").ok().says("is live");
    assert_eq!(dev.get("blue"), "App v2");
    // So does the shell: git-shell, which the uninstall sets, does not support `status`.
    dev.sh_as("dev", "ssh deploy@blue status").ok().says("Live:");
}
