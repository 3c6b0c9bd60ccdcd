//! HAProxy, nginx, Caddy, and Apache: fifty switches under load for each, what persists, and what is
//! rejected.

use crate::lab::Lab;
use crate::machine::Machine;

/// Switches fifty times under load. No request fails, and no request that starts after a switch has returned
/// gets the old side.
fn is_seamless(front: &Machine, switch: &str) {
    let ran = front.sh(&format!("python3 /test/load.py 50 /switches/{switch}")).ok();
    let ran = ran.says("\"failed\": 0,").says("\"reused\": 0,").says("\"stale\": 0,");
    let judged = ran.text().split("\"judged\": ").nth(1).unwrap().split(',').next().unwrap();
    assert!(judged.parse::<u32>().unwrap() > 500, "no load: {}", ran.text());
    assert!(!ran.text().contains("\"slow\": 0,"), "no long request: {}", ran.text());
}

fn shows(front: &Machine, switch: &str, side: &str) {
    assert_eq!(front.sh(&format!("/switches/{switch} show")).ok().text(), format!("{side}\n"));
    assert_eq!(front.get("127.0.0.1"), side);
}

/// Asserts that a side that is down, an unknown side, and invalid names are rejected.
fn refuses(front: &Machine, switch: &str, down: &str) {
    let before = front.sh(&format!("/switches/{switch} show")).ok().text().to_owned();
    front.sh(&format!("/switches/{switch} set {down}")).fails().says("error: ").says("is still public");
    // `--force` overrides the state of a side, but not its existence.
    front.sh(&format!("SWITCH_FORCE=1 /switches/{switch} set pink")).fails().says("pink");
    front
        .sh(&format!("SWITCH_FORCE=1 /switches/{switch} set {down}; /switches/{switch} show"))
        .ok()
        .says(down);
    front.sh(&format!("/switches/{switch} set {before}")).ok();
    for name in ["pink", "nowhere"] {
        front.sh(&format!("/switches/{switch} set {name}")).fails().says(name).says("hint: ");
    }
    for name in ["", "'bl ue'", "'blue;show'", "../blue", "\"$(printf 'blue\\ngreen')\"", "'*'", "Blue"] {
        front.sh(&format!("/switches/{switch} set {name}")).fails().says("error: ");
    }
    front.sh(&format!("/switches/{switch}")).fails().says("error: wrong usage");
    assert_eq!(front.sh(&format!("/switches/{switch} show")).ok().text(), before);
}

/// Asserts that upgraded connections pass, and that the side receives the visitor's address.
fn forwards_upgrades(front: &Machine) {
    front.sh("python3 /test/websocket.py 0").ok().says("echoed");
    let headers = front.sh("curl -sS http://127.0.0.1/headers").ok();
    let headers = headers.says("\"x-forwarded-for\": \"127.0.0.1\"").says("\"x-forwarded-proto\": \"http\"");
    drop(headers.says("\"x-forwarded-host\": \"127.0.0.1\""));
}

/// Switches to both sides ten times concurrently. The switches take turns, and the result is consistent.
fn serializes_switches(front: &Machine, switch: &str) {
    // A user who locks every file that it can open blocks no switch.
    let attack = "for path in /etc/haproxy /etc/nginx /etc/caddy /etc/apache2 /etc/haproxy/.* /etc/nginx/.* /etc/caddy/.* /etc/apache2/.*; do
            [ ! -r \"$path\" ] || flock -n \"$path\" sleep 25 & done; wait";
    let locks = front.start("nobody", attack);
    front
        .sh(&format!("sleep 0.5; for side in green blue; do timeout 15 /switches/{switch} set $side; done"))
        .ok();
    drop(locks);
    front
        .sh(&format!(
            "for n in 1 2 3 4 5; do for side in blue green; do
                /switches/{switch} set $side || echo failed &
            done; done; wait"
        ))
        .ok()
        .lacks("failed");
}

pub(crate) mod haproxy {
    use super::*;

    const START: &str =
        "haproxy -D -W -S /run/haproxy-master.sock -p /run/haproxy.pid -f /etc/haproxy/haproxy.cfg";
    const RELOADED: &str = "until [ \"$(echo 'show info' | socat stdio /run/haproxy/admin.sock | sed -n 's/^Pid: //p')\" != \"$old\" ]; do sleep 0.1; done";

    pub fn machine(lab: &Lab, more: &str) -> Option<Machine> {
        let front = super::super::front(lab, &["haproxy", "socat", "flock"])?;
        front
            .sh(&format!(
                "mkdir -p /run/haproxy /etc/haproxy
                sed 's/10.0.0.2:80/127.0.0.1:8001/; s/10.0.0.3:80/127.0.0.1:8002/; s/inter 1s/inter 200ms/; s/^defaults/&\\n{more}/' /switches/haproxy.cfg >/etc/haproxy/haproxy.cfg
                echo 'public blue' >/etc/haproxy/public.map
                {START}; sleep 0.5"
            ))
            .ok();
        shows(&front, "haproxy", "blue");
        Some(front)
    }

    pub fn reload(front: &Machine) {
        front
            .sh(&format!(
                "old=$(echo 'show info' | socat stdio /run/haproxy/admin.sock | sed -n 's/^Pid: //p')
                kill -USR2 $(cat /run/haproxy.pid); {RELOADED}; sleep 0.5"
            ))
            .ok();
    }

    /// A reboot, as far as HAProxy is concerned.
    pub fn reboot(front: &Machine) {
        front
            .sh(&format!(
                "pid=$(cat /run/haproxy.pid); kill -TERM $pid; while grep -qs \"State:.[^Z]\" /proc/$pid/status; do sleep 0.1; done
                {START}; sleep 0.5"
            ))
            .ok();
    }

    #[test]
    fn fifty_haproxy_switches_are_seamless_and_persistent() {
        let Some(lab) = Lab::new() else { return };
        let Some(front) = machine(&lab, "") else { return };
        // Control: this count detects a switch that does not wait for its front end.
        front.write(
            "/switches/late",
            "#!/bin/sh\n(sleep 3; exec /switches/haproxy \"$@\") >/dev/null 2>&1 &\n",
        );
        front
            .sh("chmod +x /switches/late; python3 /test/load.py 4 /switches/late 0.5")
            .ok()
            .says("\"failed\": 0,")
            .lacks("\"stale\": 0,");
        // Its background processes outlive the count, and would switch during the next one, which then finds stale responses.
        front.sh("while pgrep -f '[/]switches/(late|haproxy) set' >/dev/null; do sleep 0.1; done").ok();
        front.sh("/switches/haproxy set blue").ok();
        // The shipped config does not leave the process that serves visitors with root's rights.
        let user =
            "ps -o user= -p $(echo 'show info' | socat stdio /run/haproxy/admin.sock | sed -n 's/^Pid: //p')";
        assert_eq!(front.sh(user).ok().text(), "haproxy\n");
        is_seamless(&front, "haproxy");
        forwards_upgrades(&front);
        serializes_switches(&front, "haproxy");
        for side in ["green", "blue", "green"] {
            front.sh(&format!("/switches/haproxy set {side}")).ok();
            reload(&front);
            shows(&front, "haproxy", side);
        }
        reboot(&front);
        shows(&front, "haproxy", "green");
        front.sh("touch /tmp/blue.ill; sleep 1.5").ok();
        refuses(&front, "haproxy", "blue");
    }

    /// A kept-alive connection to a worker from before a reload also switches.
    #[test]
    fn old_haproxy_workers_also_switch() {
        let Some(lab) = Lab::new() else { return };
        let Some(front) = machine(&lab, "option idle-close-on-response") else { return };
        front.write(
            "/tmp/kept.py",
            "import http.client, os, time
connection = http.client.HTTPConnection('127.0.0.1', 80)
def ask():
    connection.request('GET', '/')
    return connection.getresponse().read().decode()
print(ask(), flush=True)
open('/tmp/connected', 'w')
while not os.path.exists('/tmp/switched'): time.sleep(0.05)
print(ask())
",
        );
        let visitor = front.start("root", "timeout 60 python3 /tmp/kept.py");
        front.sh("until [ -e /tmp/connected ]; do sleep 0.1; done").ok();
        reload(&front);
        front.sh("echo 'show proc' | socat stdio /run/haproxy-master.sock | sed -n '/^# old/,/^# pro/p' | grep -q worker").ok();
        front.sh("/switches/haproxy set green; touch /tmp/switched").ok();
        assert_eq!(visitor.finish(), "blue\ngreen\n");
        // Reloads at any moment during a switch do not undo it.
        for n in 0..12 {
            let side = ["blue", "green"][n % 2];
            front
                .sh(&format!(
                    "(sleep 0.0{n}; kill -USR2 $(cat /run/haproxy.pid)) & /switches/haproxy set {side}; wait; sleep 0.6"
                ))
                .ok();
            shows(&front, "haproxy", side);
            front.sh("cat /etc/haproxy/public.map").ok().says(&format!("public {side}\n"));
        }
    }

    /// HAProxy reports success for all of these, so the switch must detect them.
    #[test]
    fn reasons_why_haproxy_does_not_switch_are_reported() {
        let Some(lab) = Lab::new() else { return };
        let Some(front) = machine(&lab, "") else { return };
        let set = "/switches/haproxy set green";
        front
            .sh(&format!("SWITCH_MAP=/etc/haproxy/other.map {set}"))
            .fails()
            .says("HAProxy has no map `/etc/haproxy/other.map`");
        front
            .sh(&format!("SWITCH_SOCKET=/run/none.sock {set}"))
            .fails()
            .says("no HAProxy socket at `/run/none.sock` on this machine");
        front.sh(&format!("SWITCH_SOCKET='/run/a b;c' {set}")).fails().says("a setting contains a character");
        // Unreachable old workers are reported, and memory and file agree.
        front
            .sh(&format!("SWITCH_MASTER=/run/none.sock {set}"))
            .fails()
            .says("cannot connect to the HAProxy master at `/run/none.sock`");
        reload(&front);
        shows(&front, "haproxy", "green");
        front.sh("SWITCH_MASTER= /switches/haproxy set blue").ok();
        // A user who can use the socket but cannot write the file must not switch, because a reload would
        // revert it.
        front
            .sh("useradd olga; chmod 666 /run/haproxy/admin.sock
                runuser -u olga -- /switches/haproxy set green")
            .fails()
            .says("cannot write to `/etc/haproxy`: blue is still public");
        shows(&front, "haproxy", "blue");
        front.sh("runuser -u olga -- /switches/haproxy show").ok().says("blue");
        // A full disk leaves no partial change and no temporary file.
        front
            .sh("mkdir /tmp/full; mount -t tmpfs -o size=4k tmpfs /tmp/full; echo 'public blue' >/tmp/full/public.map
                sed -i s,/etc/haproxy/public.map,/tmp/full/public.map, /etc/haproxy/haproxy.cfg")
            .ok();
        reload(&front);
        front.sh(&format!("SWITCH_MAP=/tmp/full/public.map {set}")).fails();
        assert_eq!(front.get("127.0.0.1"), "blue");
        assert_eq!(front.sh("ls /tmp/full").ok().text(), "public.map\n");
        // Without any side yet, `show` prints nothing, and `set` adds the key.
        front.sh("sed -i s,/tmp/full/public.map,/etc/haproxy/public.map, /etc/haproxy/haproxy.cfg; : >/etc/haproxy/public.map").ok();
        reload(&front);
        assert_eq!(front.sh("/switches/haproxy show").ok().text(), "");
        front.sh("echo 'other green' >>/etc/haproxy/public.map; /switches/haproxy set green").ok();
        shows(&front, "haproxy", "green");
        assert_eq!(front.sh("cat /etc/haproxy/public.map").ok().text(), "other green\npublic green\n");
    }
}

#[test]
fn an_idle_websocket_through_haproxy_stays_open() {
    let Some(lab) = Lab::new() else { return };
    let Some(front) = haproxy::machine(&lab, "") else { return };
    // The timeouts of connections that are not tunnels, shortened for the test.
    front.sh("sed -i 's/timeout client .*/timeout client 1s/; s/timeout server .*/timeout server 1s/' /etc/haproxy/haproxy.cfg
        kill -USR2 $(cat /run/haproxy.pid); sleep 2; python3 /test/websocket.py 3").ok().says("echoed");
    front.sh("ps -o user= -C haproxy | sort -u").ok().says("haproxy");
}

pub(super) mod nginx {
    use super::*;

    pub fn machine(lab: &Lab) -> Option<Machine> {
        let front = super::super::front(lab, &["nginx", "flock"])?;
        front
            .sh("sed 's/10.0.0.2:80/127.0.0.1:8001/; s/10.0.0.3:80/127.0.0.1:8002/' /switches/nginx.conf >/etc/nginx/sites-enabled/default
                # What would hide the flag, where the config did not turn it off.
                echo 'open_file_cache max=1000; open_file_cache_valid 60s;' >/etc/nginx/conf.d/cache.conf
                nginx; sleep 0.3")
            .ok();
        shows(&front, "nginx", "blue");
        Some(front)
    }

    #[test]
    fn fifty_nginx_switches_are_seamless_and_persistent() {
        let Some(lab) = Lab::new() else { return };
        let Some(front) = machine(&lab) else { return };
        is_seamless(&front, "nginx");
        forwards_upgrades(&front);
        serializes_switches(&front, "nginx");
        for side in ["green", "blue", "green"] {
            front
                .sh(&format!(
                    "/switches/nginx set {side}; /switches/nginx set {side}; nginx -s reload; sleep 0.3"
                ))
                .ok();
            shows(&front, "nginx", side);
        }
        front.sh("nginx -s stop; while [ -e /run/nginx.pid ]; do sleep 0.1; done; nginx; sleep 0.3").ok();
        shows(&front, "nginx", "green");
        front.sh("touch /tmp/blue.ill").ok();
        refuses(&front, "nginx", "blue");
    }

    #[test]
    fn reasons_why_nginx_does_not_switch_are_reported() {
        let Some(lab) = Lab::new() else { return };
        let Some(front) = machine(&lab) else { return };
        let set = "/switches/nginx set green";
        // nginx reads another file than the switch writes.
        front
            .sh(&format!("SWITCH_FLAG=/tmp/x-is-green {set}"))
            .fails()
            .says("error: nginx shows `blue` after");
        assert_eq!(front.sh("ls /tmp/x-is-green 2>/dev/null || :").ok().text(), "");
        front
            .sh(&format!("SWITCH_FLAG=/etc/nginx/public-is-pink {set}"))
            .fails()
            .says("nginx has `blue` and `pink`, not `green`");
        shows(&front, "nginx", "blue");
        front.sh("useradd olga; runuser -u olga -- /switches/nginx set green").fails().says("error: ");
        shows(&front, "nginx", "blue");
        front.sh(&format!("nginx -s stop; sleep 0.5; {set}")).fails().says("cannot ask nginx at");
    }
}

mod caddy {
    use super::*;

    #[test]
    fn fifty_caddy_switches_are_seamless_and_persistent() {
        let Some(lab) = Lab::new() else { return };
        let Some(front) = super::super::front(&lab, &["caddy", "flock"]) else { return };
        let start = "caddy start --config /etc/caddy/Caddyfile >/tmp/caddy.log 2>&1 </dev/null; sleep 0.5";
        front
            .sh(&format!(
                "mkdir -p /etc/caddy
                sed 's/10.0.0.2:80/127.0.0.1:8001/; s/10.0.0.3:80/127.0.0.1:8002/' /switches/Caddyfile >/etc/caddy/Caddyfile
                {start}"
            ))
            .ok();
        shows(&front, "caddy", "blue");
        is_seamless(&front, "caddy");
        forwards_upgrades(&front);
        serializes_switches(&front, "caddy");
        for side in ["green", "blue", "green"] {
            front.sh(&format!("/switches/caddy set {side}; caddy reload --force --config /etc/caddy/Caddyfile 2>/tmp/reload.log; sleep 0.3")).ok();
            shows(&front, "caddy", side);
        }
        front.sh(&format!("caddy stop 2>/dev/null; {start}")).ok();
        shows(&front, "caddy", "green");
        super::super::drain::drains(&front, "caddy");
        front.sh("/switches/caddy set green; touch /tmp/blue.ill").ok();
        refuses(&front, "caddy", "blue");
        front.sh("caddy stop 2>/dev/null; /switches/caddy set blue").fails().says("cannot ask Caddy at");
    }
}

mod apache {
    use super::*;

    fn machine(lab: &Lab) -> Option<Machine> {
        let front = super::super::front(lab, &["apache2ctl", "flock", "socat"])?;
        let sides = "s/10.0.0.2:80/127.0.0.1:8001/; s/10.0.0.3:80/127.0.0.1:8002/";
        let site = "/etc/apache2/sites-enabled/000-default.conf";
        front
            .sh(&format!(
                "sed '{sides}' /switches/apache.conf >{site}
                a2enmod -q rewrite proxy proxy_http headers; apache2ctl start; sleep 0.5"
            ))
            .ok();
        shows(&front, "apache", "blue");
        Some(front)
    }

    #[test]
    fn fifty_apache_switches_are_seamless_and_persistent() {
        let Some(lab) = Lab::new() else { return };
        let Some(front) = machine(&lab) else { return };
        is_seamless(&front, "apache");
        forwards_upgrades(&front);
        serializes_switches(&front, "apache");
        for side in ["green", "blue", "green"] {
            front
                .sh(&format!(
                    "/switches/apache set {side}; /switches/apache set {side}; apache2ctl graceful; sleep 0.5"
                ))
                .ok();
            shows(&front, "apache", side);
        }
        front
            .sh("apache2ctl stop; while pidof apache2 >/dev/null; do sleep 0.1; done; apache2ctl start; sleep 0.5")
            .ok();
        shows(&front, "apache", "green");
        super::super::drain::drains(&front, "apache");
        front.sh("/switches/apache set green").ok();
        // The side receives the path exactly as the visitor sent it.
        front
            .sh("timeout 10 socat -u TCP-LISTEN:8003,reuseaddr OPEN:/tmp/seen,creat </dev/null >/dev/null 2>&1 & sed -i 's/127.0.0.1:8002/127.0.0.1:8003/' /etc/apache2/sites-enabled/000-default.conf
                apache2ctl graceful; sleep 0.5; curl -s --max-time 1 'http://127.0.0.1/a%2Fb%20c%252F?d=%2F' || :
                sed -i 's/127.0.0.1:8003/127.0.0.1:8002/' /etc/apache2/sites-enabled/000-default.conf; apache2ctl graceful; sleep 0.5
                head -n 1 /tmp/seen")
            .ok()
            .says("GET /a%2Fb%20c%252F?d=%2F HTTP/1.1");
        front.sh("touch /tmp/blue.ill").ok();
        refuses(&front, "apache", "blue");
    }

    #[test]
    fn reasons_why_apache_does_not_switch_are_reported() {
        let Some(lab) = Lab::new() else { return };
        let Some(front) = machine(&lab) else { return };
        let set = "/switches/apache set green";
        // Apache reads another file than the switch writes.
        front
            .sh(&format!("SWITCH_FLAG=/tmp/x-is-green {set}"))
            .fails()
            .says("error: Apache shows `blue` after");
        assert_eq!(front.sh("ls /tmp/x-is-green 2>/dev/null || :").ok().text(), "");
        front
            .sh(&format!("SWITCH_FLAG=/etc/apache2/public-is-pink {set}"))
            .fails()
            .says("Apache has `blue` and `pink`, not `green`");
        front.sh("useradd olga; runuser -u olga -- /switches/apache set green").fails().says("error: ");
        shows(&front, "apache", "blue");
        front.sh(&format!("apache2ctl stop; sleep 1; {set}")).fails().says("cannot ask Apache at");
    }
}
