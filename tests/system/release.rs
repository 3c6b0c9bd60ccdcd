//! The artifacts of a release: signed checksums, and an apt repository from which a server installs.

use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use crate::quick_installer::WebServer;
use crate::skip::skip;

const CLONE: &str = env!("CARGO_MANIFEST_DIR");
const KEY: &str = "release-test@example.org";

/// A signing key and its directory.
pub struct Signer(TempDir);

impl Signer {
    pub fn new() -> Option<Self> {
        for tool in ["cargo-deb", "jq", "gpg", "apt-ftparchive"] {
            if Command::new(tool).arg("--version").output().is_err() {
                skip(&format!("`{tool}` is not installed"));
                return None;
            }
        }
        let signer = Self(tempfile::tempdir().unwrap());
        signer.sh(&format!(
            "gpg --batch --quiet --passphrase '' --quick-generate-key {KEY} ed25519 sign never"
        ));
        Some(signer)
    }

    /// Runs a script with the key, in the directory of the releases, and returns its output.
    pub fn sh(&self, script: &str) -> String {
        let mut command = Command::new("sh");
        command.args(["-ec", script]).current_dir(self.0.path()).env("GNUPGHOME", self.0.path());
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let stdout = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{script}: {said}{stdout}");
        stdout
    }

    /// Writes a file in the directory of the releases.
    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.0.path().join(name), text).unwrap();
    }

    fn release(&self, name: &str) -> PathBuf {
        self.release_with(name, "")
    }

    pub fn release_with(&self, name: &str, options: &str) -> PathBuf {
        // Both this test and the package tests build in `target/package`.
        let _turn = crate::package::ONE_AT_A_TIME.lock();
        let (program, arch) = (env!("CARGO_BIN_EXE_bluegreen"), std::env::consts::ARCH);
        // The release's program has no symbols either, and the tests copy it often.
        self.sh(&format!(
            "strip -o program {program}
            {CLONE}/packaging/release --fast --key {KEY} --binary {arch} program {options} {name}"
        ));
        self.0.path().join(name)
    }
}

impl Signer {
    pub fn fingerprint(&self) -> String {
        let list = format!("gpg --with-colons --list-keys {KEY} | sed -n 's/^fpr:*//p' | tr -d :");
        self.sh(&list).trim().to_owned()
    }
}

impl Drop for Signer {
    fn drop(&mut self) {
        self.sh("gpgconf --kill all");
    }
}

#[test]
fn releases_are_reproducible_and_signed() {
    let Some(signer) = Signer::new() else { return };
    for name in ["one", "two"] {
        signer.release(name);
    }
    signer.sh("diff -r --exclude='*.asc' --exclude=InRelease --exclude=Release.gpg one two");
    signer
        .sh("cd one; sha256sum --check --strict --quiet SHA256SUMS; gpg --verify SHA256SUMS.asc SHA256SUMS");
    signer.sh("cd one/apt/dists/stable; gpg --verify Release.gpg Release; gpg --verify InRelease");
    let listed = signer.sh("cut -c67- one/SHA256SUMS");
    for file in [
        "bluegreen.1",
        "bluegreen.spdx.json",
        "bluegreen.bash",
        "bluegreen.gpg",
        "build-tools",
        "-1_",
        "-linux",
    ] {
        assert!(listed.contains(file), "{file} is missing: {listed}");
    }
    // Nothing invents an address.
    signer.sh(
        "cd one; ! ls bluegreen.rb apt/bluegreen.sources 2>/dev/null; grep -Fx \"default_url=''\" get.sh",
    );
    // A changed file is detected.
    signer.sh("cd two; echo changed >>bluegreen.1; ! sha256sum --check --status SHA256SUMS");
    signer.sh("cd two; echo changed >>SHA256SUMS; ! gpg --verify SHA256SUMS.asc SHA256SUMS 2>/dev/null");
}

/// Evaluates a formula for a system and a processor, and prints its URL and checksum.
const FORMULA: &str = r"
class Formula
  # Without this, Ruby's own `test` would be called.
  def self.test; end
  def self.method_missing(name, *words, &block)
    return ($got[name] = words.first) unless block
    block.call if ARGV.drop(1).include?(name.to_s)
  end
end
$got = {}
load ARGV[0]
puts $got.values_at(:url, :sha256, :version)
";

#[test]
fn the_formula_and_the_quick_installer_know_the_published_addresses() {
    let Some(signer) = Signer::new() else { return };
    if Command::new("ruby").arg("--version").output().is_err() {
        return skip("`ruby` is not installed");
    }
    let web = WebServer::start(signer.0.path());
    let fingerprint = signer.fingerprint();
    let urls = format!(
        "DOWNLOADS={}/{{version}}\nFINGERPRINT={fingerprint}\nHOMEPAGE=\nREPOSITORY=\nAPT=\n",
        web.url
    );
    std::fs::write(signer.0.path().join("urls"), urls).unwrap();
    let version = env!("CARGO_PKG_VERSION");
    for arch in ["aarch64", "x86_64"] {
        let script = format!("#!/bin/sh\necho 'bluegreen {version}'\n# {arch}\n");
        std::fs::write(signer.0.path().join(arch), script).unwrap();
    }
    let clients = "--binary aarch64-apple-darwin aarch64 --binary x86_64-apple-darwin x86_64";
    let release = signer.release_with(version, &format!("--urls urls {clients}"));
    let processor = if std::env::consts::ARCH == "aarch64" { "on_arm" } else { "on_intel" };
    for (system, processor, suffix) in
        [("on_linux", processor, "-linux"), ("on_macos", "on_arm", "-aarch64-apple-darwin")]
    {
        let mut ruby = Command::new("ruby");
        ruby.args(["-e", FORMULA]).arg(release.join("bluegreen.rb")).args([system, processor]);
        let evaluated = ruby.output().unwrap();
        assert!(evaluated.status.success(), "{}", String::from_utf8_lossy(&evaluated.stderr));
        let text = String::from_utf8(evaluated.stdout).unwrap();
        let [url, checksum, of] = text.lines().collect::<Vec<_>>()[..] else { panic!("{text}") };
        assert_eq!(of, version);
        assert!(url.ends_with(suffix), "{url}");
        let found = signer.sh(&format!("curl --fail --silent {url} | sha256sum | cut -d ' ' -f 1"));
        assert_eq!(found.trim(), checksum, "{url}");
    }
    signer.sh(&format!(
        "sh {version}/get.sh --prefix \"$PWD/prefix\"; prefix/bin/bluegreen --version | grep -F {version}"
    ));
    the_installer_chooses_the_program_for_macos(&signer, version);
    // A value that would end a string is rejected.
    std::fs::write(signer.0.path().join("urls"), "DOWNLOADS=https://example.org/'$(id)'\n").unwrap();
    signer.sh(&format!(
        "! {CLONE}/packaging/release --key {KEY} --urls urls bad 2>said; grep 'invalid DOWNLOADS' said"
    ));
}

/// Checks that the quick installer of a release chooses the program for macOS. Scripts stand in for the programs, and a fake
/// `uname` reports another system.
fn the_installer_chooses_the_program_for_macos(signer: &Signer, version: &str) {
    signer.sh(&format!(
        "jq -e '.name | endswith(\"-macos\")' {version}/bluegreen-macos.spdx.json
        jq -e '[.packages[].name] | index(\"bluegreen-panel\") and (index(\"bluegreen-server\") | not)' \
            {version}/bluegreen-macos.spdx.json"
    ));
    signer.sh("mkdir fake");
    // macOS lacks these programs and this option.
    for tool in ["sha256sum", "timeout"] {
        signer.write(&format!("fake/{tool}"), "#!/bin/sh\nexit 127\n");
    }
    let mv = "#!/bin/sh\ncase $1 in -*T*) echo 'mv: illegal option -- T' >&2; exit 64 ;; esac\nexec /bin/mv \"$@\"\n";
    signer.write("fake/mv", mv);
    let get = |system: &str, machine: &str| {
        let uname = format!("#!/bin/sh\ncase $1 in -s) echo {system} ;; -m) echo {machine} ;; esac\n");
        signer.write("fake/uname", &uname);
        signer.sh(&format!(
            "rm -rf prefix; chmod +x fake/*
            PATH=$PWD/fake:$PATH sh {version}/get.sh --prefix \"$PWD/prefix\" 2>&1 || echo status $?"
        ))
    };
    for (machine, arch) in [("arm64", "aarch64"), ("x86_64", "x86_64")] {
        let said = get("Darwin", machine);
        assert!(said.contains("Servers need Linux.") && !said.contains("install.sh"), "{said}");
        signer.sh(&format!("cmp prefix/bin/bluegreen {arch}"));
    }
    // A program that differs from the signed checksums is rejected on macOS, too.
    signer.sh(&format!("echo changed >>{version}/bluegreen-{version}-aarch64-apple-darwin"));
    let said = get("Darwin", "arm64");
    assert!(said.contains("the checksum of `bluegreen-") && said.contains("status 1"), "{said}");
    for (system, machine, problem) in [("FreeBSD", "amd64", "FreeBSD"), ("Darwin", "ppc", "ppc")] {
        let said = get(system, machine);
        assert!(said.contains(&format!("there is no program for {problem}")), "{said}");
        assert!(said.contains("status 1"), "{said}");
    }
}

/// Building the four programs twice takes an hour on two cores, so this test runs only if `BLUEGREEN_RELEASE` is set.
#[test]
fn a_release_that_is_built_twice_is_the_same() {
    if std::env::var_os("BLUEGREEN_RELEASE").is_none() {
        return;
    }
    let signer = Signer::new().unwrap();
    let folder = signer.0.path();
    // Clones of the same commit whose paths have different lengths.
    signer.sh(&format!("git clone --quiet {CLONE} clone-one; git clone --quiet clone-one clone-another"));
    for name in ["one", "another"] {
        signer.sh(&format!(
            "unset CARGO_TARGET_DIR; clone-{name}/packaging/release --key {KEY} --skip-emulation {name}"
        ));
    }
    signer.sh("diff -r --exclude='*.asc' --exclude=InRelease --exclude=Release.gpg one another");
    let version = env!("CARGO_PKG_VERSION");
    for (arch, cpu) in [("aarch64", "arm64"), ("x86_64", "x86_64")] {
        let linux = format!("one/bluegreen-{version}-{arch}-linux");
        let said = signer.sh(&format!("file --brief {linux}"));
        assert!(said.contains("statically linked") || said.contains("static-pie linked"), "{said}");
        let macos = format!("one/bluegreen-{version}-{arch}-apple-darwin");
        the_program_runs_on_macos(
            &signer.sh(&format!("python3 {CLONE}/tests/system/mach_o.py {macos}")),
            cpu,
        );
        for program in [linux, macos] {
            let bytes = std::fs::read(folder.join(&program)).unwrap();
            let sysroots =
                signer.sh("for rustc in rustc /usr/bin/rustc; do $rustc --print sysroot || :; done");
            let mut paths =
                vec![folder.to_str().unwrap().to_owned(), std::env::var("HOME").unwrap() + "/.cargo"];
            paths.extend(sysroots.lines().map(|root| format!("{root}/lib/rustlib/src")));
            paths.push("/usr/src/rustc".to_owned());
            for path in paths {
                let found = bytes.windows(path.len()).any(|window| window == path.as_bytes());
                assert!(!found, "{program} contains `{path}`");
            }
        }
    }
}

/// Checks the requirements of a program that `mach_o.py` printed.
fn the_program_runs_on_macos(said: &str, cpu: &str) {
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines.contains(&format!("cpu {cpu}").as_str()) && lines.contains(&"minimum 11.0"), "{said}");
    // Apple's processors run only signed programs.
    assert!(cpu != "arm64" || lines.contains(&"signature ad-hoc"), "{said}");
    let libraries: Vec<&str> = lines.iter().filter_map(|line| line.strip_prefix("library ")).collect();
    let belongs_to_macos =
        |path: &&str| path.starts_with("/usr/lib/") || path.starts_with("/System/Library/");
    assert!(!libraries.is_empty() && libraries.iter().all(belongs_to_macos), "{said}");
}
