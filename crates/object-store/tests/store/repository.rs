//! Bare repositories for tests.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use bluegreen_object_store::{ObjectFormat, ObjectId, ObjectKind};

/// A bare repository.
pub struct Packed {
    pub temp: tempfile::TempDir,
}

impl Packed {
    pub fn new(format: ObjectFormat) -> Self {
        let packed = Self { temp: tempfile::tempdir().unwrap() };
        let format = format!("--object-format={}", format.name());
        packed.git(&["init", "--quiet", "--bare", &format, "."], b"");
        packed
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.temp.path().join(path)
    }

    #[track_caller]
    pub fn git(&self, arguments: &[&str], input: &[u8]) -> Vec<u8> {
        let mut git = Command::new("git");
        git.current_dir(self.temp.path())
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_DIR", ".")
            .args(arguments);
        let mut child =
            git.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_vec();
        let feeder = std::thread::spawn(move || drop(stdin.write_all(&input)));
        let output = child.wait_with_output().unwrap();
        feeder.join().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    /// Writes an object, which may be invalid, and returns its id.
    pub fn write(&self, kind: ObjectKind, data: &[u8]) -> ObjectId {
        let output = self.git(&["hash-object", "-t", kind.name(), "--literally", "-w", "--stdin"], data);
        ObjectId::parse(output.trim_ascii()).unwrap()
    }

    pub fn packs(&self) -> Vec<PathBuf> {
        let files = fs::read_dir(self.path("objects/pack")).unwrap().map(|file| file.unwrap().path());
        files.filter(|path| path.extension().is_some_and(|end| end == "pack")).collect()
    }
}
