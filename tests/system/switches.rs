//! The bundled switches, each with its real front end.

mod address;
mod balancers;
mod canary;
mod cloud;
mod drain;
pub(crate) mod local;
mod prometheus;
pub(crate) mod promotions;

use std::path::Path;

use crate::lab::Lab;
use crate::machine::Machine;
use crate::skip::skip;

/// Starts a machine with a server for each side, blue on port 8001 and green on port 8002, and the switches
/// in `/switches`. Skips the test if the machine lacks a program.
fn front(lab: &Lab, needed: &[&str]) -> Option<Machine> {
    let front = lab.machine("front");
    for program in needed {
        if front.sh(&format!("command -v {program}")).either_way().text().is_empty() {
            skip(&format!("`{program}` is not installed"));
            return None;
        }
    }
    let clone = Path::new(env!("CARGO_MANIFEST_DIR"));
    for switch in std::fs::read_dir(clone.join("share/switches")).unwrap() {
        let switch = switch.unwrap();
        front.bring(&switch.path(), &format!("/switches/{}", switch.file_name().to_str().unwrap()));
    }
    for script in ["origin.py", "load.py", "websocket.py", "count.py"] {
        front.bring(&clone.join("tests/system/switches").join(script), &format!("/test/{script}"));
    }
    front
        .sh("for side in 'blue 8001' 'green 8002'; do
                setsid python3 /test/origin.py $side </dev/null >/tmp/origin.log 2>&1 &
            done
            for port in 8001 8002; do
                until curl -s -o /dev/null 127.0.0.1:$port; do sleep 0.05; done
            done")
        .ok();
    Some(front)
}
