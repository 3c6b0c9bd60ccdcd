//! The account on a front end's machine, reached through a real sshd from another machine. It runs the switch
//! that the administrator installed, and nothing else.

use std::path::Path;

use crate::lab::Lab;
use crate::machine::{Machine, Ran};

/// The commands that start the front ends of these tests.
const HAPROXY: &str = "mkdir -p /run/haproxy /etc/haproxy
    sed 's/10.0.0.2:80/127.0.0.1:8001/; s/10.0.0.3:80/127.0.0.1:8002/; s/inter 1s/inter 200ms/' /root/bluegreen/share/switches/haproxy.cfg >/etc/haproxy/haproxy.cfg
    [ -e /etc/haproxy/public.map ] || echo 'public blue' >/etc/haproxy/public.map
    haproxy -D -W -S /run/haproxy-master.sock -p /run/haproxy.pid -f /etc/haproxy/haproxy.cfg; sleep 0.5";
const NGINX: &str = "sed 's/10.0.0.2:80/127.0.0.1:8001/; s/10.0.0.3:80/127.0.0.1:8002/' /root/bluegreen/share/switches/nginx.conf >/etc/nginx/sites-enabled/public
    rm -f /etc/nginx/sites-enabled/default; nginx; sleep 0.5";

/// Starts a front end for both sides on `lb`, and a developer who may run its switch and has a config for it.
fn start(lab: &Lab, switch: &str, front: &str) -> (Machine, Machine) {
    let (lb, dev) = (lab.server("lb"), lab.client("dev"));
    let clone = Path::new(env!("CARGO_MANIFEST_DIR"));
    lb.bring(&clone.join("tests/system/switches/origin.py"), "/test/origin.py");
    lb.sh("for side in 'blue 8001' 'green 8002'; do
            setsid python3 /test/origin.py $side 0.0.0.0 </dev/null >/tmp/origin.log 2>&1 &
        done
        for port in 8001 8002; do until curl -s -o /dev/null 127.0.0.1:$port; do sleep 0.05; done; done")
        .ok();
    lb.sh(front).ok();
    lb.write("/tmp/dev.pub", &dev.public_key("id_ed25519"));
    let installed =
        lb.sh(&format!("/root/bluegreen/install.sh --front-end --switch {switch} --key ada=/tmp/dev.pub"));
    installed.ok().says("The front end shows blue.").says("host = \"bluegreen-front@lb\"");
    add_sides(&dev);
    (lb, dev)
}

/// Adds two sites on the developer's machine, whose web servers are on `lb`.
fn add_sides(dev: &Machine) {
    dev.bring(Path::new(env!("CARGO_BIN_EXE_bluegreen")), "/usr/local/bin/bluegreen");
    dev.sh_as(
        "dev",
        "git init -q clone; cd clone; echo v1 >index.html; git add -A; git commit -qm v1; cd ..
        for side in blue green; do
            mkdir -p $side/html; git init -q --bare $side/app
            ln -s /usr/local/bin/bluegreen $side/app/hooks/post-receive
            printf 'server = \"%s\"\\n[site]\\nroot = \"/home/dev/%s/html\"\\n' $side $side >$side/app/bluegreen.toml
            git -C clone push -q /home/dev/$side/app master
        done
        cat >promote.toml <<'EOT'
[sides]
blue = { ssh = \"/home/dev/blue/app\", address = \"lb:8001\" }
green = { ssh = \"/home/dev/green/app\", address = \"lb:8002\" }
[public]
url = \"http://lb/\"
host = \"bluegreen-front@lb\"
within = \"5s\"
[check]
healthy = 1
watch = \"0.4s\"
EOT",
    )
    .ok();
}

fn promote(dev: &Machine, arguments: &str) -> Ran {
    dev.sh_as("dev", &format!("bluegreen promote --yes --config promote.toml {arguments}"))
}

fn public(dev: &Machine) -> Ran {
    dev.sh_as("dev", "bluegreen public --config promote.toml")
}

/// Promotes through the account, also after a kill, a hanging switch, and a reboot of the front end.
fn promotes(lb: &Machine, dev: &Machine, switch: &str, restart: &str) {
    promote(dev, "").ok().says("The front end shows green after").says("green is public instead of blue");
    public(dev).ok().says("green  green   yes");
    assert_eq!(dev.get("lb"), "green");
    promote(dev, "").ok().says("blue is public instead of green");

    // Killed while the switch runs: one side is public, and the next command reports which.
    let program = format!("/usr/local/lib/bluegreen/switches/{switch}");
    lb.sh(&format!("cp {program} {program}.kept; sed -i '2i sleep 1' {program}")).ok();
    dev.sh_as(
        "dev",
        "bluegreen promote --yes --config promote.toml >promoted 2>&1 & pid=$!
        until grep -q Switching promoted; do sleep 0.05; done; sleep 0.3; kill -9 $pid",
    )
    .ok();
    dev.sh("sleep 4").ok();
    lb.sh(&format!("cp {program}.kept {program}")).ok();
    let side = dev.get("lb");
    public(dev).ok().says(&format!("{side:6} {side:7} yes"));
    promote(dev, "blue").ok().says("blue is public");

    // A hanging switch is killed on its own machine at the timeout.
    lb.sh(&format!("sed -i '2i [ \"$1\" != set ] || sleep 30' {program}")).ok();
    promote(dev, "")
        .ends_with_status(1)
        .says("the switch's `set green` timed out after 5s")
        .says("Not promoted: blue is public.");
    lb.sh(&format!("cp {program}.kept {program}; ! pgrep -f '[s]leep 30'")).ok();

    // A front end that is down is an error. After its reboot, everything works as before.
    promote(dev, "green").ok();
    lb.sh(&format!("{restart} stop; sleep 0.5")).ok();
    promote(dev, "blue").ends_with_status(1).says("the switch's `show` exited with status 1").says("hint: ");
    lb.sh(&format!("{restart} start; sleep 1")).ok();
    public(dev).ok().says("green  green   yes");
    promote(dev, "blue").ok();
}

#[test]
fn a_promotion_from_another_machine_switches_haproxy() {
    let Some(lab) = Lab::new() else { return };
    let (lb, dev) = start(&lab, "haproxy", HAPROXY);
    lb.write(
        "/test/restart",
        &format!("case $1 in stop) kill -TERM $(cat /run/haproxy.pid) ;; start) {HAPROXY} ;; esac\n"),
    );
    promotes(&lb, &dev, "haproxy", "sh /test/restart");
}

#[test]
fn a_promotion_from_another_machine_switches_nginx() {
    let Some(lab) = Lab::new() else { return };
    let (lb, dev) = start(&lab, "nginx", NGINX);
    lb.write("/test/restart", "case $1 in stop) nginx -s stop ;; start) nginx ;; esac\n");
    promotes(&lb, &dev, "nginx", "sh /test/restart");
}

#[test]
fn a_front_end_account_runs_only_its_switch() {
    let Some(lab) = Lab::new() else { return };
    let (lb, dev) = start(&lab, "haproxy", HAPROXY);
    let ssh = |command: &str| dev.sh_as("dev", &format!("ssh bluegreen-front@lb {command}"));
    ssh("show").ok().says("blue");
    ssh("set green").ok();
    ssh("set blue --force --within 10").ok();
    assert_eq!(ssh("show --within 5").ok().text(), "blue\n");
    let refused = "error: this account does not run that command";
    for command in [
        "",
        "id",
        "sh",
        "sh -c id",
        "'show; id'",
        "'show && id'",
        "'show | id'",
        "'show\nid'",
        "'show `id`'",
        "'show $(id)'",
        "'show >/tmp/hit'",
        "'set $HOME'",
        "'set *'",
        "'set ../../etc'",
        "'set -x'",
        "'set green --force=1'",
        "'set green blue'",
        "set",
        "drained",
        "'weight green'",
        "'weight green five'",
        "'weight green 1000'",
        "'show --within'",
        "'show --within 1e9'",
        "'show --force'",
        "'set green --within 999999'",
        "'set green -- --force'",
        "-- '-c show'",
        "'SHOW'",
        "'show\tblue'",
        "'env SWITCH_MAP=/etc/shadow show'",
        "'SWITCH_MAP=/etc/shadow show'",
        "'/usr/local/lib/bluegreen/front-end show'",
        "'git-upload-pack /'",
        "/usr/lib/openssh/sftp-server",
        "'scp -t /tmp/hit'",
        "rsync",
    ] {
        ssh(command).fails().says(refused).lacks("uid=");
    }
    lb.sh("! ls /tmp/hit /etc/shadow.* 2>/dev/null").ok();
    sends_no_environment(&lb, &dev);
    opens_nothing(&lb, &dev);
    // No other key, password, or account gains access.
    dev.sh_as(
        "dev",
        "ssh -i .ssh/stranger -o IdentitiesOnly=yes -o IdentityAgent=none bluegreen-front@lb show",
    )
    .fails()
    .says("Permission denied");
    lb.sh("useradd mallory; runuser -u mallory -- sudo -n /usr/local/lib/bluegreen/front-end show").fails();
    lb.sh("runuser -u mallory -- cat /etc/bluegreen/front-end.conf").fails().says("Permission denied");
    lb.sh("runuser -u bluegreen-front -- cat /etc/bluegreen/front-end.conf").fails();
    lb.sh("runuser -u bluegreen-front -- sudo -n id").fails().lacks("uid=");
    lb.sh("runuser -u bluegreen-front -- sudo -n SWITCH_MAP=/x /usr/local/lib/bluegreen/front-end show")
        .fails();
    lb.sh("find / -xdev -user bluegreen-front ! -path '/proc/*' 2>/dev/null | grep . && exit 1 || exit 0")
        .ok();
}

/// The client's variables do not reach the switch, even if sshd passes all of them on.
fn sends_no_environment(lb: &Machine, dev: &Machine) {
    lb.sh(
        "echo 'AcceptEnv *' >/etc/ssh/sshd_config.d/hostile.conf; kill -HUP $(cat /run/sshd.pid); sleep 0.5",
    )
    .ok();
    let variables = "SWITCH_SOCKET=/nowhere SWITCH_MAP=/etc/shadow IFS=o ENV=/tmp/x BASH_ENV=/tmp/x PATH_X=1 SWITCH_FORCE=1";
    let names = variables.split(' ').filter_map(|pair| pair.split('=').next());
    let send = names.flat_map(|name| [" -o SendEnv=", name]).collect::<String>();
    let asked = format!("export {variables}; ssh{send} bluegreen-front@lb show");
    assert_eq!(dev.sh_as("dev", &asked).ok().text(), "blue\n");
    dev.sh_as("dev", "ssh -o SetEnv=BLUEGREEN_FRONT_END=1 bluegreen-front@lb 'set pink'")
        .fails()
        .says("no backend `pink`");
}

/// Terminals, forwarding, and file transfers are rejected, even if sshd serves sftp itself.
fn opens_nothing(lb: &Machine, dev: &Machine) {
    for options in ["-W 127.0.0.1:80", "-N -o ExitOnForwardFailure=yes -R 8080:127.0.0.1:80", "-tt"] {
        dev.sh_as("dev", &format!("timeout 10 ssh {options} bluegreen-front@lb </dev/null")).fails();
    }
    let tunnel = dev.start("dev", "timeout 3 ssh -N -L 8080:127.0.0.1:80 -A -X bluegreen-front@lb || :");
    dev.sh("sleep 1; curl -sS --max-time 1 http://127.0.0.1:8080/").fails().lacks("blue");
    tunnel.finish();
    for config in ["", "s|^Subsystem.*|Subsystem sftp internal-sftp|"] {
        lb.sh(&format!("sed -i '{config}' /etc/ssh/sshd_config; kill -HUP $(cat /run/sshd.pid); sleep 0.5"))
            .ok();
        dev.sh_as("dev", "scp clone/index.html bluegreen-front@lb:/tmp/hit").fails();
        dev.sh_as("dev", "scp bluegreen-front@lb:/etc/passwd stolen").fails();
        dev.sh_as("dev", "echo 'get /etc/passwd stolen' | sftp -b - bluegreen-front@lb").fails();
        dev.sh_as("dev", "! ls stolen").ok();
    }
    lb.sh("! ls /tmp/hit").ok();
}

#[test]
fn setting_up_a_front_end_is_idempotent_and_can_be_undone() {
    let Some(lab) = Lab::new() else { return };
    let (lb, dev) = (lab.server("lb"), lab.client("dev"));
    lb.write("/tmp/dev.pub", &dev.public_key("id_ed25519"));
    lb.sh(HAPROXY).ok();
    let before = lb.written();
    let install = |options: &str| lb.sh(&format!("/root/bluegreen/install.sh --front-end {options}"));
    let options = "--switch haproxy --key ada=/tmp/dev.pub --setting socket=/run/haproxy/admin.sock";
    install(&format!("{options} --dry-run")).ok().says("would add the user bluegreen-front").says("dry run");
    assert_eq!(lb.changed_since(&before), "");
    install(options).ok().says("The front end shows blue.");
    lb.sh("cat /etc/bluegreen/front-end.conf").ok().says("SWITCH_SOCKET='/run/haproxy/admin.sock'");
    lb.sh("stat -c '%U %a' /etc/bluegreen/front-end.conf /var/lib/bluegreen-front/.ssh/authorized_keys")
        .ok()
        .says("root 600\nroot 644\n");
    let installed = lb.written();
    install(options).ok().says("Nothing had to be changed.");
    install("").ok().says("Nothing had to be changed.");
    assert_eq!(lb.changed_since(&installed), "");

    // Another switch replaces it, and its settings are removed.
    install("--switch nginx --setting url=http://127.0.0.1:8049")
        .ok()
        .says("warning: the switch nginx cannot read");
    lb.sh("cat /etc/bluegreen/front-end.conf; ls /usr/local/lib/bluegreen/switches")
        .ok()
        .lacks("SOCKET")
        .lacks("haproxy");
    for (wrong, problem) in [
        ("--switch haproxy --setting sockett=/x", "unknown setting sockett of the switch haproxy"),
        ("--switch haproxy --setting \"socket=/x'; id\"", "contains a quote"),
        ("--switch ../haproxy", "invalid name of a switch"),
        ("--switch pink", "unknown switch pink"),
        ("--switch /tmp/own", "is not a program"),
    ] {
        install(wrong).fails().says(problem);
    }
    lb.sh("install -m 777 /bin/true /tmp/own").ok();
    install("--switch /tmp/own").fails().says("is writable by others, and root would run it");
    lb.sh("/root/bluegreen/install.sh --switch haproxy").fails().says("need --front-end");

    install("--keys").ok().says("ada (ED25519)");
    install("--remove-key ada").ok().says("remove 1 key of ada");
    dev.sh_as("dev", "ssh bluegreen-front@lb show").fails().says("Permission denied");
    install("--uninstall --dry-run").ok();
    lb.sh("getent passwd bluegreen-front").ok();
    install("--uninstall").ok();
    let left = lb.changed_since(&before);
    for file in
        ["/etc/bluegreen", "/usr/local/lib/bluegreen", "/var/lib/bluegreen", "/etc/sudoers.d/bluegreen"]
    {
        lb.sh(&format!("ls -d {file}* 2>/dev/null && exit 1 || exit 0")).ok();
    }
    lb.sh("getent passwd bluegreen-front || getent group bluegreen-front").fails();
    assert!(!left.contains("/lib/bluegreen"), "{left}");
    install("--uninstall").ok().says("No front end was set up here.");
}
