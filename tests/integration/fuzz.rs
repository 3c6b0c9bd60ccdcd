//! A short run of the fuzz targets on random bytes and on mutations of valid input.

#[path = "../../fuzz/entries.rs"]
pub mod entries;

use bluegreen_checkout::manifest::{Ctime, Manifest, Stamp};
use bluegreen_checkout::plan::Plan;
use bluegreen_git::Repository;
use bluegreen_object_store::ObjectFormat;

use crate::mutate::run;
use crate::support::objects::Objects;

fn text(seeds: &[&str]) -> Vec<Vec<u8>> {
    seeds.iter().map(|seed| seed.as_bytes().to_vec()).collect()
}

#[test]
fn push() {
    let (id, id64) = ("1".repeat(40), "a".repeat(64));
    let line = format!("{id} {id} refs/heads/master\n");
    run(entries::push, &text(&[&line, &line.repeat(3), &format!("{id64} {id64} refs/heads/caf\u{e9}"), ""]));
}

/// Encodes lines as pkt-lines. An empty line becomes a flush packet.
fn packets(lines: &[&str]) -> Vec<u8> {
    let packet = |line: &&str| match line.len() {
        0 => "0000".to_owned(),
        length => format!("{:04x}{line}", length + 4),
    };
    lines.iter().map(packet).collect::<String>().into_bytes()
}

#[test]
fn gate() {
    let (id, id64) = ("1".repeat(40), "a".repeat(64));
    let line = format!("{id} {id} refs/heads/master\n");
    let line64 = format!("{id64} {id64} refs/heads/caf\u{e9}");
    // A line of the maximum length leaves no space for the reason of a rejection.
    let long = format!("{id} {id} refs/heads/{}", "x".repeat(65516 - 93));
    let seeds = [
        packets(&["version=1\0push-options atomic\n", "", &line, &line64, &line, "", "skip\n", "a b", ""]),
        packets(&["version=1\n", "", &line64, "", "left over"]),
        packets(&["version=1", "", "", ""]),
        packets(&["version=1\0atomic", "", &long, ""]),
    ];
    for seed in &seeds {
        bluegreen_server::gate::protocol::read_request(&mut seed.as_slice(), &mut Vec::new()).unwrap();
    }
    run(entries::gate, &seeds);
    let signed = [b"+00dversion=1".to_vec(), packets(&["", &line, ""])].concat();
    entries::gate(&signed);
}

#[test]
fn client() {
    let id = "1a".repeat(20);
    let actor = r#"{"user":"deploy","ssh":"192.0.2.7","key":{"name":"ada","fingerprint":"SHA256:x"}}"#;
    let status = format!(
        r#"{{"server":"green","branch":"master","site":"/srv","live":"20261122T201500Z-1a1a1a1a1a1a","commit":"{id}",
        "subject":"\u001b]0;x\u0007","sealed":null,"since":null,"good":true,"public":{{"public":true,"since":"now"}},"tip":"{id}",
        "why":"failed","pending":[{{"kind":"tip","message":"m","command":"resume"}}],"running":{{"pid":1,"action":"deploy",
        "by":{actor},"since":"s","phase":"p"}}}}"#
    );
    let record = format!(
        r#"record {{"time":"2026-11-22T20:15:00Z","action":"promote","by":{actor},"release":null,"old":"{id}","new":null,
        "seconds":1.5,"outcome":"failed","error":"no","promotion":{{"from":"blue","to":"green","requests":1,"failures":0}}}}"#
    )
    .replace('\n', "");
    record.parse::<bluegreen_protocol::hold::Request>().unwrap();
    serde_json::from_str::<bluegreen_protocol::status::Status>(&status).unwrap();
    run(
        entries::client,
        &text(&[
            &status,
            &format!(r#"{{"held":{status}}}"#),
            r#"{"waiting":"a deployment by ada"}"#,
            r#"{"error":"no space"}"#,
            &record,
            "public yes",
            "HTTP/1.1 200 OK\r\nX-Served-By: green\r\n\r\nstatus 200\ntook 0.004\n",
            "remote: Writing: 1%\rremote: error: no\n!\ta:refs/heads/b\t[remote rejected] (x)\nssh: no route\n",
        ]),
    );
}

#[test]
fn config() {
    run(
        entries::config,
        &text(&[
            "branch = \"main\"\nserver = 'blue'\nlock-timeout = '1h 30m'\n[site]\nroot = '/srv/app'\nkeep = 0\n",
            "[site]\nsymlinks = 'any'\nsubmodules = 'fetch'\nmax-size = '10 GB'\nmax-files = 5\n",
            "",
        ]),
    );
}

#[test]
fn record() {
    run(
        entries::record,
        &text(&[
            "20261122T201500Z-1a2b3c4d5e6f",
            "20261122T201500Z-1a2b3c4d5e6f-12",
            "commit = \"1a2b\"\nsubject = \"x\"\nstate = \"ready\"\nfiles = 3\nsealed = \"2026-11-22T20:15:00Z\"\n",
        ]),
    );
}

#[test]
fn attributes() {
    let pointer =
        format!("version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize 5\n", "4d".repeat(32));
    run(
        entries::attributes,
        &text(&[
            "[attr]big filter=lfs\n*.iso big\n\"q \\\" x\" ident -text\n/a/** eol=crlf\n# no\n",
            &pointer,
        ]),
    );
}

/// Writes a manifest of a small tree with nested and empty directories, a symlink, and a submodule.
fn real_manifest() -> Vec<u8> {
    let temp = tempfile::tempdir().unwrap();
    std::fs::write(temp.path().join("HEAD"), "ref: refs/heads/master\n").unwrap();
    let raw = Objects::of(temp.path());
    let blob = raw.blob(b"a");
    let empty = raw.tree(&[]);
    let inner = raw.tree(&[("100644", b"f", blob), ("120000", b"l", blob)]);
    let outer = raw.tree(&[("40000", b"empty", empty), ("40000", b"inner", inner)]);
    let root = raw.tree(&[("100755", b"b", blob), ("40000", b"dir", outer), ("160000", b"sub", blob)]);
    let repository = Repository::open(temp.path()).unwrap();
    let objects = repository.objects(ObjectFormat::Sha1);
    let listing = Plan::read(&objects, root, None, 1000, None).unwrap().listing;
    let stamp = |inode| Stamp { inode, ctime: Ctime { seconds: 1, nanoseconds: 2 } };
    let manifest = Manifest {
        entries: vec![stamp(1); listing.entries.len()].into(),
        directories: vec![stamp(2); listing.directories.len()].into(),
        listing,
        converted: bluegreen_checkout::converted::Converted::default(),
        instant: Ctime { seconds: 3, nanoseconds: 4 },
    };
    let mut data = Vec::new();
    manifest.write(&mut data).unwrap();
    data
}

#[test]
fn manifest() {
    let data = real_manifest();
    assert!(Manifest::parse(&data).is_some());
    run(entries::manifest, &[data]);
}
