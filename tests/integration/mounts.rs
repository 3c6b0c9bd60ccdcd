//! Mounts in a release or next to one: their contents are never deleted, whatever happens to the release.

use std::fs;
use std::path::{Path, PathBuf};

use bluegreen_sys::dir::Dir;

use crate::support::mount::Mounted;
use crate::support::skip::{program_or_skip, root_or_skip};
use crate::support::{Run, Sandbox, Snapshot, snapshot};

/// A site with external data mounted into it.
struct Site {
    // Fields drop in order, so this unmounts before the sandbox is removed.
    mounts: Vec<Mounted>,
    sandbox: Sandbox,
    before: Snapshot,
}

impl Site {
    /// Three releases with `keep = 2`, so that the next push recycles the oldest.
    fn new() -> Self {
        let sandbox = Sandbox::new();
        fs::create_dir_all(sandbox.path("uploads/deep")).unwrap();
        for file in ["uploads/one", "uploads/deep/two", "single"] {
            fs::write(sandbox.path(file), "precious").unwrap();
        }
        sandbox.site_config("keep = 2").commit("up/page", "kept").commit("a", "kept");
        for version in ["v1", "v2", "v3"] {
            sandbox.commit("index.html", version).push().ok();
        }
        let before = snapshot(&sandbox.path("uploads"));
        Self { mounts: Vec::new(), sandbox, before }
    }

    fn oldest(&self) -> PathBuf {
        self.sandbox.site().join("releases").join(&self.sandbox.releases()[0])
    }

    fn bind(&mut self, from: &str, at: &Path) {
        self.mounts.push(Mounted::bind(&self.sandbox.path(from), at));
    }

    #[track_caller]
    fn nothing_is_lost(&self) {
        assert_eq!(snapshot(&self.sandbox.path("uploads")), self.before);
        assert_eq!(fs::read_to_string(self.sandbox.path("single")).unwrap(), "precious");
    }
}

#[test]
fn a_release_with_a_mount_is_neither_recycled_nor_pruned_until_it_is_unmounted() {
    if !root_or_skip() {
        return;
    }
    for (from, at) in [("uploads", "up"), ("single", "up/page"), ("uploads", "new"), ("uploads", "")] {
        let mut site = Site::new();
        let oldest = site.oldest();
        let at = if at.is_empty() { oldest.clone() } else { oldest.join(at) };
        if !at.exists() {
            fs::create_dir(&at).unwrap();
        }
        let content = snapshot(&oldest);
        site.bind(from, &at);
        for version in ["v4", "v5"] {
            let warning = format!(
                "warning: cannot remove or move `<site>/releases/<release>`: a file system is mounted at `{}`",
                site.sandbox
                    .normalize_paths(at.to_str().unwrap())
                    .replace(oldest.file_name().unwrap().to_str().unwrap(), "<release>")
            );
            site.sandbox.commit("index.html", version);
            site.sandbox.push().warned().says(&warning).serves_checkout("master");
            site.nothing_is_lost();
            site.sandbox.is_tidy();
        }
        // Everything below the mount is intact.
        assert_eq!(site.sandbox.releases().len(), 5, "{:?}", site.sandbox.releases());
        site.mounts.clear();
        assert_eq!(snapshot(&oldest), content, "{}", at.display());
        site.sandbox.commit("index.html", "v6").push().ok().serves_checkout("master");
        assert!(!oldest.exists());
    }
}

#[test]
fn a_crash_leftover_with_a_mount_is_not_swept() {
    if !root_or_skip() {
        return;
    }
    let mut site = Site::new();
    let staged = "20200101T000000Z-000000000000";
    let releases = site.sandbox.site().join("releases");
    let records = site.sandbox.site().join(".bluegreen/releases");
    let record = fs::read_to_string(records.join(format!("{}.toml", site.sandbox.live()))).unwrap();
    let record: String =
        record.lines().filter(|line| !line.starts_with("inode")).collect::<Vec<_>>().join("\n");
    fs::write(records.join(format!("{staged}.toml")), record.replace("ready", "staged")).unwrap();
    for name in [".incoming-000001", staged] {
        fs::create_dir_all(releases.join(name).join("a/up")).unwrap();
        fs::write(releases.join(name).join("file"), "stays").unwrap();
        site.bind("uploads", &releases.join(name).join("a/up"));
    }
    site.sandbox.commit("index.html", "v4");
    let told = site.sandbox.push().warned();
    assert_eq!(told.output().matches("a file system is mounted at").count(), 2, "{}", told.output());
    site.nothing_is_lost();
    for name in [".incoming-000001", staged] {
        assert!(releases.join(name).join("file").exists(), "{name} was partially emptied");
    }
    site.mounts.clear();
    site.sandbox.commit("index.html", "v5").push().ok();
    site.sandbox.is_tidy();
    assert!(!site.sandbox.releases().contains(&staged.to_owned()));
}

#[test]
fn a_failed_deployment_keeps_what_a_step_mounted() {
    if !root_or_skip() {
        return;
    }
    let mut site = Site::new();
    site.sandbox.config_section(&format!(
        "[steps]\nbuild = 'mkdir up2; mount --bind {} up2; exit 1'",
        site.sandbox.path("uploads").display()
    ));
    site.sandbox.commit("index.html", "v4").push().not_deployed().serves("index.html", "v3");
    site.nothing_is_lost();
    site.sandbox.commit("index.html", "v5");
    let told = site.sandbox.push().not_deployed();
    assert!(told.output().contains("a file system is mounted at"), "{}", told.output());
    site.nothing_is_lost();
    for release in site.sandbox.releases() {
        let at = site.sandbox.site().join("releases").join(release).join("up2");
        if at.exists() {
            site.mounts.push(Mounted::adopt(&at));
        }
    }
    assert_eq!(site.mounts.len(), 2);
}

#[test]
fn a_mount_that_appears_concurrently_is_detected_at_its_descriptor() {
    if !root_or_skip() {
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    let path = |path: &str| temp.path().join(path);
    fs::create_dir_all(path("elsewhere/deep")).unwrap();
    fs::create_dir_all(path("tree/a/up")).unwrap();
    fs::write(path("elsewhere/deep/precious"), "").unwrap();
    fs::write(path("tree/a/file"), "").unwrap();
    fs::write(path("single"), "precious").unwrap();
    let dir = Dir::open(temp.path()).unwrap();
    {
        let _mounts = [
            Mounted::bind(&path("elsewhere"), &path("tree/a/up")),
            Mounted::bind(&path("single"), &path("tree/a/file")),
        ];
        assert_eq!(dir.find_mount(&[b"elsewhere"]).unwrap(), None);
        assert!(dir.find_mount(&[b"tree"]).unwrap().is_some());
        // This function does not check for mounts beforehand.
        assert!(dir.remove(b"tree").is_err());
        let a = dir.open_inside(b"tree").unwrap().open_inside(b"a").unwrap();
        let error = a.open_inside(b"up").unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::CrossesDevices);
        assert!(a.remove(b"file").is_err());
    }
    assert!(path("elsewhere/deep/precious").exists());
    assert_eq!(fs::read_to_string(path("single")).unwrap(), "precious");
    dir.remove(b"tree").unwrap();
}

#[test]
fn adopt_moves_everything_or_nothing() {
    if !root_or_skip() {
        return;
    }
    let sandbox = Sandbox::new();
    for file in ["a.html", "index.html", "img/logo", "z.html"] {
        fs::create_dir_all(sandbox.site().join(file).parent().unwrap()).unwrap();
        fs::write(sandbox.site().join(file), "by hand").unwrap();
    }
    fs::create_dir_all(sandbox.site().join("up")).unwrap();
    fs::create_dir(sandbox.path("uploads")).unwrap();
    let names = || -> Vec<_> {
        let entries = sandbox.site().read_dir().unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<_> = entries.filter(|name| name != ".bluegreen" && name != "releases").collect();
        names.sort();
        names
    };
    {
        let _mount = Mounted::bind(&sandbox.path("uploads"), &sandbox.site().join("up"));
        let before = names();
        let told = sandbox.bluegreen(&["adopt"]).fails(1);
        told.says("error: cannot remove or move `<site>`: a file system is mounted at `<site>/up`")
            .says("hint: unmount `<site>/up` if it is not needed there");
        assert_eq!(names(), before);
    }
    // If a directory cannot be moved for another reason, everything is moved back.
    if program_or_skip("strace") {
        let before = names();
        let mut strace = sandbox.command("strace");
        strace.args(["-qqq", "-o", "/dev/null", "-e", "inject=renameat2:error=EIO:when=3"]);
        strace.arg(sandbox.hook_path()).arg("adopt");
        let told = Run::new(&sandbox, &mut strace).fails(1);
        assert!(told.output().contains("error: cannot move `"), "{}", told.output());
        assert_eq!(names(), before);
        assert_eq!(sandbox.releases(), Vec::<String>::new());
    }
    sandbox.bluegreen(&["adopt"]).ok().serves("index.html", "by hand").serves("img/logo", "by hand");
}
