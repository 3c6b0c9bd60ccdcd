//! The Debian package: its build, its contents, and its life cycle on a server with systemd.

use std::path::Path;
use std::process::Command;

use tempfile::NamedTempFile;

use crate::booted::Booted;
use crate::lab::Lab;
use crate::skip::skip;

const CLONE: &str = env!("CARGO_MANIFEST_DIR");

#[test]
fn the_package_is_reproducible_and_clean() {
    let Some(package) = build() else { return };
    let read = |package: &NamedTempFile| std::fs::read(package.path()).unwrap();
    // The build time and the mtimes of the packed files must have no effect.
    let touched = Command::new("touch").arg(Path::new(CLONE).join("README.md")).status();
    assert!(touched.unwrap().success());
    assert!(read(&package) == read(&build().unwrap()), "two packages of one program differ");
    // Building the program twice takes minutes, so this is opt-in.
    if std::env::var_os("BLUEGREEN_STATIC").is_some() {
        let folder = tempfile::tempdir().unwrap();
        let [one, another] = ["one", "another"].map(|name| {
            let clone = folder.path().join(name);
            let cloned = Command::new("git").args(["clone", "--quiet", CLONE]).arg(&clone).status();
            assert!(cloned.unwrap().success());
            read(&run(Command::new(clone.join("packaging/deb.sh")).env_remove("CARGO_TARGET_DIR")))
        });
        assert!(one == another, "two builds of the same sources differ");
    }

    let Ok(lintian) = Command::new("lintian")
        .args(["--allow-root", "--fail-on", "error,warning"])
        .arg(package.path())
        .output()
    else {
        return skip("`lintian` is not installed");
    };
    assert!(lintian.status.success(), "{}", String::from_utf8_lossy(&lintian.stdout));
}

#[test]
fn the_package_lists_what_is_inside() {
    let Some(package) = build() else { return };
    let script = "dpkg-deb --fsys-tarfile \"$1\" | tar -xO ./usr/share/doc/bluegreen/bluegreen.spdx.json \
         | jq -r '.spdxVersion, (.packages[] | .name + \" \" + .versionInfo + \" \" + .licenseDeclared)'";
    let output = Command::new("sh").args(["-ec", script, "sh"]).arg(package.path()).output().unwrap();
    let listed = String::from_utf8(output.stdout).unwrap();
    let listed: Vec<&str> = listed.lines().collect();
    assert_eq!(listed[0], "SPDX-2.3");
    let lock: toml::Table =
        std::fs::read_to_string(Path::new(CLONE).join("Cargo.lock")).unwrap().parse().unwrap();
    let known: Vec<String> = lock["package"]
        .as_array()
        .unwrap()
        .iter()
        .map(|package| {
            format!("{} {} ", package["name"].as_str().unwrap(), package["version"].as_str().unwrap())
        })
        .collect();
    // The list contains the program's dependencies and their C code, without packages that only tests need.
    let c = ["libdeflate as-in-libdeflate-sys-"];
    for line in &listed[1..] {
        let is_known = known.iter().any(|package| line.starts_with(package));
        assert!(is_known || c.iter().any(|start| line.starts_with(start)), "{line}");
        assert!(!line.contains("NOASSERTION"), "no licence: {line}");
    }
    let manifest = |path: &str| -> toml::Table {
        std::fs::read_to_string(Path::new(CLONE).join(path)).unwrap().parse().unwrap()
    };
    let crates = std::fs::read_dir(Path::new(CLONE).join("crates")).unwrap();
    let of_crates: Vec<String> = crates
        .map(|entry| format!("crates/{}/Cargo.toml", entry.unwrap().file_name().display()))
        .flat_map(|path| {
            manifest(&path)["dependencies"].as_table().unwrap().keys().cloned().collect::<Vec<_>>()
        })
        .collect();
    let manifest = manifest("Cargo.toml");
    let lists = |name: &str| listed.iter().any(|line| line.starts_with(&format!("{name} ")));
    let dependencies = manifest["dependencies"].as_table().unwrap();
    for name in dependencies.keys().chain(&of_crates) {
        assert!(lists(name), "{name} is missing");
    }
    let of_tests = manifest["dev-dependencies"].as_table().unwrap().keys();
    for name in of_tests.filter(|name| !dependencies.contains_key(*name) && !of_crates.contains(*name)) {
        assert!(!lists(name), "{name} is not part of the program");
    }
    assert!(c.iter().all(|start| listed.iter().any(|line| line.starts_with(start))), "{listed:?}");
}

#[test]
fn the_package_is_installed_upgraded_removed_and_purged() {
    let Some(lab) = Lab::new() else { return };
    let Some(package) = build() else { return };
    let (mut blue, dev) = (lab.booted("blue"), lab.client("dev"));
    blue.sh("rm -rf /root/bluegreen; ! command -v cc cargo make").ok();
    blue.bring(package.path(), "/root/bluegreen.deb");
    blue.sh("dpkg --install /root/bluegreen.deb").ok();
    blue.sh("bluegreen --version; bluegreen-setup --help")
        .ok()
        .says("bluegreen 0")
        .says("Usage: bluegreen-setup");
    blue.sh("cd /usr/share; ls bash-completion/completions/bluegreen zsh/vendor-completions/_bluegreen \
            fish/vendor_completions.d/bluegreen.fish man/man1/bluegreen.1.gz man/man8/bluegreen-setup.8.gz \
            doc/bluegreen/README.md doc/bluegreen/copyright")
        .ok();

    blue.write("/root/dev.pub", &dev.public_key("id_ed25519"));
    let setup = || blue.sh("bluegreen-setup --web-server apache --key /root/dev.pub").ok();
    setup();
    blue.sh("test ! -e /usr/local/bin/bluegreen; readlink /home/deploy/sample_app/hooks/post-receive")
        .ok()
        .says("/usr/bin/bluegreen\n");
    let deploys = |version: &str| {
        dev.commit(version, version);
        dev.push("deploy@blue:sample_app master").ok().says("is live");
        assert_eq!(dev.get("blue"), version);
    };
    deploys("App v1");
    dev.sh_as("dev", "ssh deploy@blue status").ok();

    // An upgrade during a deployment, while another push waits for it. Both finish, and nothing is left to recover.
    blue.sh_as("deploy", "cp sample_app/bluegreen.toml . && sed -i 's|^#check = \\[\\]|check = \"touch ~/began; until test -e ~/go; do sleep 0.1; done\"|' sample_app/bluegreen.toml")
        .ok();
    dev.commit("App v1.1", "App v1.1");
    let push = "cd sample_app; git push deploy@blue:sample_app master 2>&1";
    let first = dev.start("dev", push);
    blue.sh("timeout 60 sh -c 'until test -e /home/deploy/began; do sleep 0.1; done'").ok();
    dev.commit("App v1.2", "App v1.2");
    let second = dev.start("dev", push);
    let waits = "until git -C /home/deploy/sample_app -c safe.directory='*' log -1 --format=%s master | grep -Fx 'App v1.2'; do sleep 0.1; done";
    blue.sh(&format!("timeout 60 sh -c \"{waits}\"")).ok();
    blue.sh(
        "cd /root; dpkg-deb -R bluegreen.deb new; sed -i 's/^Version: .*/Version: 99-1/' new/DEBIAN/control
        echo newer >>new/usr/bin/bluegreen; dpkg-deb -b new newer.deb; dpkg --install newer.deb",
    )
    .ok()
    .lacks("warning:");
    assert_eq!(dev.get("blue"), "App v1");
    blue.sh("runuser -u deploy -- touch /home/deploy/go").ok();
    let said = first.finish() + &second.finish();
    assert!(said.contains("is live: ") && !said.contains("error:"), "{said}");
    assert_eq!(dev.get("blue"), "App v1.2");
    dev.sh_as("dev", "ssh deploy@blue status").ok().says("Branch:   master is live").lacks("Pending:");
    blue.sh_as("deploy", "mv bluegreen.toml sample_app/bluegreen.toml").ok();

    // After the upgrade, the next push uses the newer version.
    for link in ["/home/deploy/sample_app/hooks/post-receive", "/usr/local/bin/bluegreen-shell"] {
        blue.sh(&format!("tail -c 6 {link}")).ok().says("newer\n");
    }
    setup().says("Nothing had to be changed.");
    deploys("App v2");

    // Removing the package warns that pushes will fail. After a reinstallation, deployments continue.
    blue.sh("dpkg --remove bluegreen").ok().says("/home/deploy/sample_app still deploys with bluegreen");
    assert_eq!(dev.get("blue"), "App v2");
    // The account's login shell is the program.
    dev.push("deploy@blue:sample_app master").fails().says("Permission denied");
    blue.sh("dpkg --install newer.deb").ok();
    deploys("App v3");

    blue.sh("bluegreen-setup --uninstall; dpkg --purge bluegreen").ok().lacks("warning:");
    leaves_nothing(&blue);
    blue.reboot();
    blue.sh("cat /var/www/html/current/index.html").ok().says("App v3");
}

#[test]
fn the_package_contains_every_file_named_in_its_pages() {
    let Some(package) = build() else { return };
    let folder = tempfile::tempdir().unwrap();
    let status = Command::new("dpkg-deb").arg("-x").arg(package.path()).arg(folder.path()).status();
    assert!(status.unwrap().success());
    let share = folder.path().join("usr/share");
    let list = "find doc/bluegreen bluegreen -name '*.md'";
    let pages = Command::new("sh").args(["-ec", list]).current_dir(&share).output().unwrap();
    let (mut links, mut names) = (0, 0);
    for page in String::from_utf8(pages.stdout).unwrap().lines() {
        let text = std::fs::read_to_string(share.join(page)).unwrap();
        for target in
            text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target)
        {
            let path = target.split('#').next().unwrap();
            if path.is_empty() || path.contains("://") {
                continue;
            }
            let below = share.join(page).parent().unwrap().join(path);
            let found = path.strip_prefix('/').map_or(below, |path| folder.path().join(path));
            assert!(found.exists(), "{page} links to {target}, which the package lacks");
            links += 1;
        }
        // A clone's `share/` and `hooks/` are in /usr/share/bluegreen.
        for name in text.split('`').filter(|name| !name.contains([' ', '\n', '*', '~'])) {
            let path = name.strip_prefix("share/").map(|path| format!("bluegreen/{path}"));
            let path = path.or_else(|| name.starts_with("hooks/").then(|| format!("bluegreen/{name}")));
            if let Some(path) = path {
                assert!(share.join(&path).exists(), "{page} names `{name}`, which the package lacks");
                names += 1;
            }
        }
    }
    assert!(links > 50 && names > 10, "{links} links, {names} names");
    let mode = "stat -c %a bluegreen/switches/nginx bluegreen/hooks/pre-push bluegreen/stacks/node/bluegreen.toml bluegreen/ci/github.yml";
    let modes = Command::new("sh").args(["-ec", mode]).current_dir(&share).output().unwrap();
    assert_eq!(String::from_utf8(modes.stdout).unwrap(), "755\n755\n644\n644\n");
}

/// Asserts that the repository and the site remain, and that the package and its setup are completely
/// removed.
fn leaves_nothing(server: &Booted) {
    server
        .sh("find /etc /usr /var -name '*bluegreen*' ! -path '/var/www/*' ! -path '/var/log/*'")
        .ok()
        .lacks("/");
    server.sh("grep -rl --exclude='*-' bluegreen /etc /home/deploy/sample_app/hooks || :").ok().lacks("/");
    server.sh("test -d /home/deploy/sample_app/objects").ok();
}

/// Held while a package is built, because all builds share one directory.
pub static ONE_AT_A_TIME: std::sync::Mutex<()> = std::sync::Mutex::new(());

/// Builds the package if its tools are installed. Concurrent tests take turns.
pub fn build() -> Option<NamedTempFile> {
    let script = Path::new(CLONE).join("packaging/deb.sh");
    let program = env!("CARGO_BIN_EXE_bluegreen");
    for tool in ["cargo-deb", "jq"] {
        if Command::new(tool).arg("--version").output().is_err() {
            skip(&format!("`{tool}` is not installed"));
            return None;
        }
    }
    let _turn = ONE_AT_A_TIME.lock();
    Some(run(Command::new(script).args(["--binary", program])))
}

/// Runs a script that builds a package, and copies the package, because the next build overwrites it.
fn run(script: &mut Command) -> NamedTempFile {
    let output = script.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let package = tempfile::Builder::new().suffix(".deb").tempfile().unwrap();
    let output = String::from_utf8(output.stdout).unwrap();
    std::fs::copy(output.lines().last().unwrap(), package.path()).unwrap();
    package
}
