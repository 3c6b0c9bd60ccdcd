//! The control panel in headless Chromium, before two sides behind HAProxy: the tutorial's flip, played with the mouse and
//! the keyboard, under load.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::lab::Lab;
use crate::machine::Machine;
use crate::skip::skip;
use crate::switches::{local, promotions};

/// The screenshots of the documentation. `docs/screenshots` takes them anew.
const PICTURES: [&str; 4] =
    ["panel-wide-light", "panel-wide-dark", "panel-narrow-light", "panel-narrow-dark"];

/// Returns a file of the clone.
fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Two sides with a few commits between them, and a panel at port 8080.
fn machine(lab: &Lab) -> Option<Machine> {
    let front = local::haproxy::machine(lab, "")?;
    for program in ["chromium", "chromedriver"] {
        if front.sh(&format!("command -v {program}")).either_way().text().is_empty() {
            skip(&format!("`{program}` is not installed"));
            return None;
        }
    }
    let axe = file("target/node/node_modules/axe-core/axe.min.js");
    if !axe.exists() {
        skip("axe-core is not installed: `tests/setup` installs it");
        return None;
    }
    promotions::add_sides(&front, "haproxy");
    front.bring(&axe, "/test/axe.js");
    front.bring(&file("tests/system/panel/browser.py"), "/test/browser.py");
    front
        .sh("sed -i 's/watch = .*/watch = \"3s\"/' /test/promote.toml
            cd /srv/clone
            git config user.name 'Ada Developer'
            for subject in 'Add tax to the price list' 'Show prices with tax' 'Let customers choose the currency'; do
                echo \"$subject\" >>index.html; git commit -qam \"$subject\"
            done
            git push -q /srv/green/app master
            setsid bluegreen panel --config /test/promote.toml </dev/null >/tmp/panel.log 2>&1 &
            until curl -s -o /dev/null 127.0.0.1:8080/panel.css; do sleep 0.1; done")
        .ok();
    Some(front)
}

#[test]
fn the_flip_is_played_in_the_panel_under_load() {
    let Some(lab) = Lab::new() else { return };
    let Some(front) = machine(&lab) else { return };
    let pictures = if std::env::var_os("BLUEGREEN_RECORD").is_some() { "/tmp/pictures" } else { "" };
    let played = front
        .sh(&format!(
            "mkdir /tmp/pictures; cd /tmp; export HOME=/tmp
            python3 /test/browser.py /test/axe.js {pictures} || {{ cat /tmp/panel.log; exit 1; }}"
        ))
        .ok()
        .says("\"failed\": 0,");
    let line = played.text().lines().find(|line| line.starts_with('{')).unwrap();
    let figures: serde_json::Value = serde_json::from_str(line).unwrap();
    assert!(figures["requests"].as_u64().unwrap() > 300, "no load: {figures}");
    // The best of several flips: the machine may be busy with other tests.
    for event in ["watch", "side", "end"] {
        assert!(figures["lag"][event].as_f64().unwrap() < 1.0, "{event}: {figures}");
    }
    assert!(figures["axe"].as_u64().unwrap() >= 5, "{figures}");
    // The figures, with `--nocapture`.
    std::io::Write::write_all(&mut std::io::stderr(), format!("{figures}\n").as_bytes()).unwrap();
    if !pictures.is_empty() {
        record(&front);
    }
}

/// Keeps the screenshots.
fn record(front: &Machine) {
    for name in PICTURES {
        let text = front.sh(&format!("base64 -w 0 /tmp/pictures/{name}.png")).ok().text().trim().to_owned();
        let picture = STANDARD.decode(text).unwrap();
        assert!(picture.starts_with(b"\x89PNG"), "{name}");
        std::fs::write(file(&format!("docs/images/{name}.png")), picture).unwrap();
    }
}
