//! An address that moves between two servers on a bridge: the gap, a reboot, and an unreachable server.

use std::path::Path;

use crate::lab::Lab;
use crate::machine::Machine;

/// The figures in docs/reference/switches.md are from six moves.
const MOVES: usize = 2;
const SWITCH: &str =
    "SWITCH_ADDRESS=192.0.2.10/24 SWITCH_BLUE=root@blue SWITCH_GREEN=root@green timeout 60 /switches/address";

fn server(lab: &Lab, name: &str, dev: &Machine) -> Machine {
    let server = lab.server(name);
    let origin = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/system/switches/origin.py");
    server.bring(&origin, "/test/origin.py");
    server.write("/root/.ssh/authorized_keys", &dev.public_key("id_ed25519"));
    server
        .sh(&format!(
            "chmod -R go= /root/.ssh; setsid python3 /test/origin.py {name} 80 0.0.0.0 </dev/null >/tmp/origin.log 2>&1 &
            until curl -s -o /dev/null 127.0.0.1; do sleep 0.05; done"
        ))
        .ok();
    server
}

fn shows(dev: &Machine, side: &str) {
    assert_eq!(dev.sh_as("dev", &format!("{SWITCH} show")).ok().text().trim(), side);
}

#[test]
fn an_address_moves_with_a_bounded_gap() {
    let Some(lab) = Lab::new() else { return };
    let dev = lab.client("dev");
    let (blue, green) = (server(&lab, "blue", &dev), server(&lab, "green", &dev));
    let clone = Path::new(env!("CARGO_MANIFEST_DIR"));
    dev.bring(&clone.join("share/switches/address"), "/switches/address");
    dev.bring(&clone.join("tests/system/switches/probe.py"), "/test/probe.py");

    dev.sh_as("dev", "ssh root@blue true; ssh root@green true").either_way();
    shows(&dev, "");
    dev.sh_as("dev", &format!("{SWITCH} set blue")).ok();
    shows(&dev, "blue");
    moves(&dev);
    is_kept(&dev, &blue, &green);
    is_refused(&dev);
    loses_a_server(&dev, &blue);
}

fn moves(dev: &Machine) {
    let probe = dev.start("root", "timeout 100 python3 /test/probe.py 192.0.2.10");
    for n in 0..MOVES {
        let side = ["green", "blue"][n % 2];
        dev.sh_as("dev", &format!("sleep 0.6; a=$(date +%s.%N); {SWITCH} set {side}; echo {side} $a $(date +%s.%N) >>/tmp/moves; sleep 0.5"))
            .ok();
    }
    dev.sh("sleep 1; touch /tmp/stop").ok();
    let report = probe.finish();
    assert_eq!(report.lines().count(), MOVES);
    for line in report.lines() {
        assert!(line.contains("\"stale\": 0}"), "{report}");
        let number = |key: &str| -> u64 {
            line.split(&format!("\"{key}\": ")).nth(1).unwrap().split(',').next().unwrap().parse().unwrap()
        };
        // A reset connection, or one delayed by the loss of its first packet, may occur.
        assert!(number("gap_ms") < 1000, "{report}");
        assert!(number("failed") <= number("requests") / 10, "{report}");
    }
    shows(dev, "blue");
}

/// Runs the command that the package's unit runs at boot.
fn is_kept(dev: &Machine, blue: &Machine, green: &Machine) {
    let unit =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("share/switches/address.service"))
            .unwrap();
    let line = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap().replace("%%", "%");
    green.sh("test ! -e /var/lib/bluegreen/address").ok();
    blue.sh(&format!("ip addr del 192.0.2.10/24 dev eth0; {line}")).ok();
    shows(dev, "blue");
    // The address moved while this server was off.
    blue.sh("ip addr del 192.0.2.10/24 dev eth0; cp -r /var/lib/bluegreen /root/before").ok();
    dev.sh_as("dev", &format!("{SWITCH} set green")).ok();
    blue.sh("cp -r /root/before/. /var/lib/bluegreen").ok();
    blue.sh(&line).fails();
    shows(dev, "green");
    dev.sh_as("dev", &format!("{SWITCH} set blue")).ok();
}

fn is_refused(dev: &Machine) {
    dev.sh_as("dev", &format!("{SWITCH} set pink")).fails().says("error: no server is set for `pink`");
    dev.sh_as("dev", &format!("{SWITCH} set 'gre en'")).fails().says("invalid name of a side");
    for (settings, said) in [
        ("SWITCH_ADDRESS=192.0.2.10", "has no prefix"),
        ("SWITCH_ADDRESS='1.2.3.4/24;id'", "invalid IPv4 address"),
        ("SWITCH_ADDRESS=2001:db8::1/64", "invalid IPv4 address"),
        ("SWITCH_ADDRESS=1.2.3.4/24 SWITCH_DEVICE='e;id'", "invalid network device"),
        ("SWITCH_ADDRESS=192.0.2.10/24 SWITCH_GREEN=-oProxyCommand=id", "no server is set for `green`"),
        ("SWITCH_ADDRESS=192.0.2.10/24 SWITCH_GREEN=root@green SWITCH_DEVICE=eth7", "cannot get 192.0.2.10"),
    ] {
        dev.sh_as("dev", &format!("{settings} /switches/address set green"))
            .fails()
            .says("error: ")
            .says(said);
    }
    shows(dev, "blue");
}

/// A server that ssh cannot reach is not considered down while it responds at the address.
fn loses_a_server(dev: &Machine, blue: &Machine) {
    blue.sh("kill $(cat /run/sshd.pid)").ok();
    dev.sh_as("dev", &format!("{SWITCH} show")).fails().says("cannot reach blue at `root@blue`");
    dev.sh_as("dev", &format!("{SWITCH} set green")).fails().says("green has 192.0.2.10, but so has blue");
    blue.sh("ip link set eth0 down").ok();
    dev.sh_as("dev", &format!("{SWITCH} set green")).ok();
    assert_eq!(dev.get("192.0.2.10"), "green");
}
