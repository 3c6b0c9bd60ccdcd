//! Deployments from a repository with more packs than the process may have open files.

use std::fs;
use std::io::Write;
use std::process::Command;

use bluegreen_object_store::ObjectFormat;

use crate::repository::Packed;

#[test]
fn a_repository_with_more_packs_than_descriptors_deploys() {
    let packed = Packed::new(ObjectFormat::Sha1);
    let mut stream = Vec::new();
    for version in 0..600 {
        writeln!(stream, "commit refs/heads/master\ncommitter A <a@b> {version} +0000\ndata 0").unwrap();
        let files = if version == 0 { 0..300 } else { version % 300..version % 300 + 1 };
        for file in files {
            let content = format!("version {version} of {file}\n");
            writeln!(stream, "M 644 inline {file}\ndata {}\n{content}", content.len()).unwrap();
        }
        writeln!(stream, "checkpoint").unwrap();
    }
    packed.git(&["-c", "fastimport.unpackLimit=0", "fast-import", "--quiet"], &stream);
    assert!(packed.packs().len() > 512, "{}", packed.packs().len());
    let site = packed.path("site");
    fs::create_dir(&site).unwrap();
    fs::write(packed.path("bluegreen.toml"), format!("[site]\nroot = '{}'\n", site.display())).unwrap();
    let mut deploy = Command::new("sh");
    deploy.args(["-c", "ulimit -n 1024; exec \"$0\" -C \"$1\" deploy", env!("CARGO_BIN_EXE_bluegreen")]);
    let output = deploy.arg(packed.temp.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for file in [0, 299] {
        let served = fs::read_to_string(site.join(format!("current/{file}"))).unwrap();
        assert_eq!(served, format!("version {} of {file}\n", 300 + file));
    }
}
