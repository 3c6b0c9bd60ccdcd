//! Power cuts during pushes, on ext4, xfs, and btrfs. After the boot, without intervention, the live release
//! is complete and no acknowledged push is lost.
//!
//! `POWER_CUTS` is the number of cuts for each file system and deployment mode. `POWER_SEED` is the seed that
//! an earlier run printed. Half of the cuts come at random times, the other half at an instant that `status`
//! reports.

mod disk;
mod site;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use self::disk::{Disk, FileSystem, can_cut_or_skip};
use self::site::{Developer, State, Way, text};
use crate::snapshot::{Found, Snapshot, snapshot};

/// The instants at which half of the cuts aim: a moved ref, and phases as the lock's holder reports them.
const AIMS: [&str; 6] = ["ref", "check out", "build: ", "activate", "verify: ", "prune"];

/// The minimum duration of a push, in milliseconds.
const LONGEST_WAIT: u64 = 200;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// A seeded random number generator, for reproducible runs.
struct Random(u64);

impl Random {
    fn new() -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let seed = number("POWER_SEED").unwrap_or(now.subsec_nanos().into());
        // The test harness shows this output if the test fails.
        #[allow(clippy::print_stdout)]
        {
            println!("POWER_SEED={seed}");
        }
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// Waits for the instant of a cut, and returns its name.
fn wait_for_instant(developer: &Developer, random: &mut Random) -> String {
    let aim = AIMS[usize::try_from(random.below(12)).unwrap() % AIMS.len()];
    if random.below(2) == 0 {
        let wait = Duration::from_micros(random.below(LONGEST_WAIT * 1000));
        std::thread::sleep(wait);
        return format!("{wait:?}");
    }
    let repository = developer.repository();
    let tip = || fs::read(repository.join("refs/heads/master")).unwrap_or_default();
    let lock = repository.with_file_name("site/.bluegreen/lock");
    let (before, start) = (tip(), Instant::now());
    let has_come = || match aim {
        "ref" => tip() != before,
        phase => fs::read_to_string(&lock).unwrap_or_default().contains(&format!("\"phase\":\"{phase}")),
    };
    while !has_come() && start.elapsed() < Duration::from_secs(2) {
        std::thread::sleep(Duration::from_micros(200));
    }
    aim.trim_end_matches(": ").to_owned()
}

/// Cuts the power this many times while a developer works. Returns the faults found.
fn cut(disk: &Disk, developer: &Developer, cuts: u64, random: &mut Random) -> Vec<String> {
    let mut faults = Vec::new();
    std::thread::scope(|scope| {
        let work = scope.spawn(|| developer.work());
        for turn in 0..cuts {
            let instant = wait_for_instant(developer, random);
            assert!(developer.has_more() && !work.is_finished(), "the developer has no commits left");
            let acknowledged = developer.acknowledged();
            disk.cut();
            let states = developer.states_since(acknowledged);
            let seen = disk.boot(|| examine(developer, &states, acknowledged));
            faults.extend(seen.err().map(|fault| {
                format!(
                    "{:?}, cut {turn} at {instant}, acknowledged {acknowledged}: {fault}",
                    developer.way()
                )
            }));
        }
        developer.stop();
    });
    faults
}

/// Resumes as a boot does, and then checks everything.
fn examine(developer: &Developer, states: &[State], acknowledged: usize) -> Result<(), String> {
    let repository = developer.repository();
    let site = repository.with_file_name("site");
    age_locks(&repository);
    let boot = developer.bluegreen(&["resume", "--boot"]);
    let said = text(&boot);
    let fail = |fault: String| Err(format!("{fault}\nresume: {} {said}\nallowed: {states:?}", boot.status));

    let Some(name) = live(&site) else { return fail("nothing is live".into()) };
    let tip = developer.git_in_repository(&["rev-parse", "master"]);
    let numbers =
        (developer.number_of(name.split('-').nth(1).unwrap_or_default()), developer.number_of(&tip));
    let (Some(live), Some(branch)) = numbers else { return fail(format!("live {name}, branch {tip}")) };
    if !states.contains(&State { live, branch }) {
        return fail(format!("{live} is live, and the branch is at {branch}"));
    }
    is_exact(developer, &site, live).or_else(fail)?;
    uploads_are_complete(&site, acknowledged).or_else(fail)?;
    let fsck =
        developer.git_in_repository(&["fsck", "--connectivity-only", "--no-dangling", "--no-progress"]);
    if !fsck.is_empty() {
        return fail(format!("git fsck: {fsck}"));
    }
    let check = developer.bluegreen(&["check"]);
    if !check.status.success() || text(&check).contains("error:") {
        return fail(format!("check: {}", text(&check)));
    }
    let history = developer.bluegreen(&["history"]);
    if !history.status.success() {
        return fail(format!("history: {}", text(&history)));
    }
    let (last, said, is_ok) = developer.push_last();
    if !is_ok || !said.contains(" is live: ") || said.contains("aiting for") {
        return fail(format!("the next push: {said}"));
    }
    is_exact(developer, &site, last).or_else(fail)
}

/// Sets the mtime of git's locks to before the boot, as after a real cut, because this machine has not
/// rebooted.
fn age_locks(directory: &Path) {
    for entry in directory.read_dir().unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.is_symlink() {
            age_locks(&path);
        } else if path.extension().is_some_and(|extension| extension == "lock") {
            let lock = fs::File::options().write(true).open(&path).unwrap();
            lock.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000)).unwrap();
        }
    }
}

/// Returns the name of the live release.
fn live(site: &Path) -> Option<String> {
    let target = site.join("current").canonicalize().ok()?;
    Some(target.file_name()?.to_str()?.to_owned())
}

/// Compares the live release with the files that git writes for that commit, plus those from steps and the
/// config.
fn is_exact(developer: &Developer, site: &Path, number: usize) -> Result<(), String> {
    let mut expected = snapshot(&developer.check_out(number));
    if developer.way() != Way::Plain {
        expected.insert("built".into(), Found::File { mode: 0o644, content: number.to_string().into() });
        for name in ["uploads", ".env"] {
            expected.insert(name.into(), Found::Link { target: format!("../../shared/{name}").into() });
        }
    }
    let found = snapshot(&site.join("current").canonicalize().unwrap());
    let differs = |path: &&std::ffi::OsString| found.get(*path) != expected.get(*path);
    let names = |all: &Snapshot| all.keys().filter(differs).cloned().collect::<Vec<_>>();
    let (wrong, missing) = (names(&found), names(&expected));
    if wrong.is_empty() && missing.is_empty() {
        return Ok(());
    }
    let empty =
        found.values().filter(|node| matches!(node, Found::File { content, .. } if content.is_empty()));
    Err(format!(
        "commit {number} is live with other content, {} empty files: {wrong:?} {missing:?}",
        empty.count()
    ))
}

/// Checks that visitors' uploads are complete.
fn uploads_are_complete(site: &Path, acknowledged: usize) -> Result<(), String> {
    let shared = site.join("shared");
    let is_secret = fs::read_to_string(shared.join(".env")).is_ok_and(|text| text == "SECRET=1\n");
    let lost = (0..=acknowledged).filter(|&number| Developer::has_upload(number)).find(|number| {
        let content = fs::read_to_string(shared.join("uploads").join(number.to_string()));
        content.ok() != Some(Developer::upload_of(*number))
    });
    match lost {
        Some(number) => Err(format!("upload {number} is lost")),
        None if !is_secret => Err("`.env` is lost".into()),
        None => Ok(()),
    }
}

/// Runs a test in a thread, whose mounts are removed with it.
fn in_thread(test: impl FnOnce() + Send + 'static) {
    std::thread::spawn(test).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

fn power_cuts(kind: FileSystem) {
    if !can_cut_or_skip(kind) {
        return;
    }
    in_thread(move || {
        let (disk, mut random) = (Disk::new(kind, ""), Random::new());
        let cuts = number("POWER_CUTS").unwrap_or(7);
        let mut faults = Vec::new();
        for way in [Way::Plain, Way::Steps, Way::Gate] {
            let commits = 100 + 30 * usize::try_from(cuts).unwrap();
            let developer = Developer::new(&disk, way, commits, true);
            faults.extend(cut(&disk, &developer, cuts, &mut random));
        }
        let count = faults.len();
        assert!(faults.is_empty(), "{kind:?}: {count} of {} cuts\n{}", 3 * cuts, faults.join("\n\n"));
    });
}

#[test]
fn power_cuts_on_ext4() {
    power_cuts(FileSystem::Ext4);
}

#[test]
fn power_cuts_on_xfs() {
    power_cuts(FileSystem::Xfs);
}

#[test]
fn power_cuts_on_btrfs() {
    power_cuts(FileSystem::Btrfs);
}

/// Control: without `durable`, power cuts damage the site, and these tests detect it.
#[test]
fn without_durability_power_cuts_cause_damage() {
    if !can_cut_or_skip(FileSystem::Ext4) {
        return;
    }
    in_thread(|| {
        let disk = Disk::new(FileSystem::Ext4, "commit=1");
        let developer = Developer::new(&disk, Way::Plain, 1000, false);
        let mut random = Random::new();
        let found = (0..15).find(|_| {
            std::thread::sleep(Duration::from_secs(1));
            !cut(&disk, &developer, 1, &mut random).is_empty()
        });
        assert!(found.is_some(), "fifteen cuts caused no fault");
    });
}
