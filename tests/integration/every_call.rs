//! Kills, disk errors, and full disks at every system call of a deployment, a gated push, a rollback, a
//! prune, a sweep, and a `resume`. The live release stays complete, the output is accurate, and the next
//! command works.
//!
//! A first run under strace counts the calls. Then each kind of call fails once per round, at up to
//! `EVERY_CALL` (4) positions that are spread evenly. Calls that change nothing on disk are killed at half as
//! many positions, because such a kill leaves the same state as a kill at the next change.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;

use crate::support::skip::program_or_skip;
use crate::support::{Run, TwoVersions};

/// Calls that read from disk. They are killed or fail with EIO. Calls in none of these lists may write, so they
/// also fail with ENOSPC.
const READS: [&str; 17] = [
    "access",
    "chdir",
    "flock",
    "fstat",
    "fstatfs",
    "getcwd",
    "getdents64",
    "lstat",
    "newfstatat",
    "open",
    "pread64",
    "read",
    "readlink",
    "readlinkat",
    "stat",
    "statfs",
    "statx",
];
/// Calls that manage child processes, and calls that no disk error affects. The program is killed at them.
const CHILDREN: [&str; 10] =
    ["clone", "clone3", "close", "fork", "kill", "pidfd_open", "pipe2", "vfork", "wait4", "waitid"];
/// Calls that involve neither files nor children: memory, signals, names, and sockets.
const OTHERS: [&str; 37] = [
    "arch_prctl",
    "brk",
    "connect",
    "dup",
    "execve",
    "exit_group",
    "fcntl",
    "getegid",
    "geteuid",
    "getgid",
    "getpid",
    "getrandom",
    "gettid",
    "getuid",
    "ioctl",
    "keyctl",
    "lseek",
    "mmap",
    "mprotect",
    "mremap",
    "munmap",
    "poll",
    "ppoll",
    "prlimit64",
    "recvfrom",
    "rseq",
    "rt_sigaction",
    "rt_sigprocmask",
    "rt_sigreturn",
    "sched_getaffinity",
    "sendto",
    "set_robust_list",
    "set_tid_address",
    "sigaltstack",
    "socket",
    "socketpair",
    "umask",
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scenario {
    /// `post-receive` deploys the other version into a recycled release.
    Deploy,
    /// Like `Deploy`, and surplus releases are removed.
    Prune,
    /// The gate deploys the other version, with steps.
    Gate,
    /// The gate deploys a version whose verification fails, and restores the previous release.
    Refused,
    /// An operator rolls back to the previous release.
    Rollback,
    /// An operator rolls back to a release whose verification fails.
    RollbackRefused,
    /// Only sweeps what a crash left.
    Sweep,
    /// `resume` deploys a tip that no hook has examined.
    Resume,
}

/// Returns the calls that a scenario must make. A missing call would be a gap in this test.
fn must_make(scenario: Scenario) -> &'static [&'static str] {
    match scenario {
        Scenario::Deploy => &[
            "openat",
            "openat2",
            "read",
            "write",
            "close",
            "mkdirat",
            "unlinkat",
            "renameat",
            "renameat2",
            "symlinkat",
            "ftruncate",
            "flock",
            "fsync",
            "fdatasync",
            "getdents64",
            "statx",
            "newfstatat",
            "readlinkat",
            "pread64",
        ],
        Scenario::Prune => &["renameat", "unlinkat", "openat2", "getdents64"],
        Scenario::Gate => &[
            "openat",
            "read",
            "write",
            "mkdirat",
            "unlinkat",
            "renameat",
            "symlinkat",
            "fsync",
            "fdatasync",
            "syncfs",
            "pipe2",
            "wait4",
        ],
        Scenario::Refused => &["unlinkat", "renameat", "symlinkat", "write", "fsync", "fdatasync", "syncfs"],
        Scenario::Rollback => {
            &["openat", "renameat", "symlinkat", "unlinkat", "write", "fsync", "read", "statx"]
        }
        Scenario::RollbackRefused => &["renameat", "symlinkat", "unlinkat", "write", "fsync", "fdatasync"],
        Scenario::Sweep => &["openat", "read", "statx", "newfstatat", "getdents64", "readlinkat"],
        Scenario::Resume => {
            &["openat", "read", "write", "mkdirat", "renameat", "symlinkat", "fsync", "fdatasync"]
        }
    }
}

/// A fault injected at a system call.
#[derive(Debug, Clone, Copy)]
struct Fault<'a> {
    call: &'a str,
    number: usize,
    /// The fault in strace's syntax.
    how: &'a str,
    /// True if the fault also applies to git processes and steps.
    everywhere: bool,
}

/// Returns the faults to inject at a call.
fn faults(call: &str) -> &'static [&'static str] {
    match call {
        // If `setsid` fails, the program refuses to start. It has read nothing by then.
        "setsid" => &["signal=KILL"],
        _ if OTHERS.contains(&call) => &[],
        _ if CHILDREN.contains(&call) => &["signal=KILL"],
        _ if READS.contains(&call) => &["signal=KILL", "error=EIO"],
        _ => &["signal=KILL", "error=EIO", "error=ENOSPC"],
    }
}

/// One run of a scenario, from the version that is live before it to the one after it.
struct Round<'a> {
    scenario: Scenario,
    two: &'a TwoVersions,
    before: usize,
    after: usize,
    /// The target of the rollback.
    release: String,
    /// The names of all releases and records.
    names: Vec<String>,
}

impl Scenario {
    fn server(self) -> TwoVersions {
        let two = match self {
            Self::Deploy | Self::Prune | Self::Sweep | Self::Resume => TwoVersions::with_hook(10),
            Self::Gate | Self::Refused | Self::Rollback | Self::RollbackRefused => TwoVersions::with_gate(),
        };
        // A single thread makes the order of calls deterministic.
        two.sandbox.config("checkout-threads = 1");
        two
    }

    fn is_push(self) -> bool {
        matches!(self, Self::Deploy | Self::Prune | Self::Gate | Self::Refused)
    }
}

impl<'a> Round<'a> {
    /// Prepares the server for the scenario.
    fn new(scenario: Scenario, two: &'a TwoVersions) -> Self {
        let before = two.live();
        let stays = matches!(scenario, Scenario::Refused | Scenario::RollbackRefused | Scenario::Sweep);
        let after = if stays { before } else { 1 - before };
        let mut round = Self { scenario, two, before, after, release: String::new(), names: Vec::new() };
        if scenario == Scenario::Prune {
            round.add_surplus();
        }
        if scenario == Scenario::Resume {
            // As after a power failure before the hook ran.
            two.move_branch(round.after);
        }
        if matches!(scenario, Scenario::Refused | Scenario::RollbackRefused) {
            std::fs::write(two.sandbox.site().join("bad"), "").unwrap();
        }
        let wanted = if scenario == Scenario::Sweep { before } else { 1 - before };
        let id = &two.ids[wanted][..12];
        round.release = two.sandbox.releases().into_iter().rfind(|name| name.contains(id)).unwrap();
        round.names = [two.sandbox.releases(), two.sandbox.records()].concat();
        round
    }

    /// Adds two releases that are older than all others.
    fn add_surplus(&self) {
        let (site, live) = (self.two.sandbox.site(), self.two.sandbox.live());
        for number in [2, 3] {
            let old = format!("20200101T000000Z-{}-{number}", &self.two.ids[self.before][..12]);
            let mut copy = self.two.sandbox.command("cp");
            copy.arg("-a").arg(site.join("releases").join(&live)).arg(site.join("releases").join(&old));
            assert!(copy.status().unwrap().success());
            let record = |name: &str| site.join(format!(".bluegreen/releases/{name}.toml"));
            std::fs::copy(record(&live), record(&old)).unwrap();
        }
    }

    fn run(&self, wrapper: &[String]) -> Run<'a> {
        let two = self.two;
        if self.scenario.is_push() {
            return two.push(1 - self.before, wrapper);
        }
        let arguments: &[&str] = match self.scenario {
            Scenario::Resume => &["resume", "--boot"],
            _ => &["rollback", &self.release],
        };
        Run::new(&two.sandbox, &mut two.command(wrapper, two.sandbox.hook_path(), arguments))
    }

    /// Runs the scenario with a fault. Returns the run and strace's lines about the fault.
    fn run_with(&self, fault: Fault) -> (Run<'a>, String) {
        let trace = self.two.sandbox.path("trace");
        let (call, how, number) = (fault.call, fault.how, fault.number);
        let mut wrapper = vec!["strace".to_owned(), "-qqq".into(), "-y".into(), "-o".into()];
        wrapper.push(trace.display().to_string());
        wrapper.extend(["-e".into(), format!("trace={call}")]);
        wrapper.extend(["-e".into(), format!("inject={call}:{how}:when={number}")]);
        wrapper.extend(fault.everywhere.then(|| "-f".into()));
        let run = self.run(&wrapper);
        let trace = std::fs::read(trace).unwrap();
        let trace = String::from_utf8_lossy(&trace);
        (run, trace.lines().filter(|line| line.contains("(INJECTED)")).collect())
    }

    /// Counts the calls of a run without faults.
    fn count_calls(&self) -> BTreeMap<String, usize> {
        let trace = self.two.sandbox.path("trace");
        let run = self.run(&["strace".into(), "-qqq".into(), "-o".into(), trace.display().to_string()]);
        self.judge(&run, "", "nothing");
        self.recover("nothing");
        let mut calls = BTreeMap::new();
        let trace = std::fs::read(trace).unwrap();
        for line in String::from_utf8_lossy(&trace).lines() {
            let name = line.split('(').next().unwrap_or_default();
            // Other lines describe signals.
            if name.starts_with(|first: char| first.is_ascii_lowercase()) {
                *calls.entry(name.to_owned()).or_default() += 1;
            }
        }
        calls
    }

    /// Asserts that the live release is complete, and that the output and the exit status are accurate.
    fn judge(&self, run: &Run, injected: &str, when: &str) {
        let (two, output) = (self.two, &run.output);
        let when = format!("{when}\n{output}\n{injected}");
        two.is_whole(&when);
        // The dynamic loader prints its own messages, and a failure to read or write a pipe is not a disk
        // error.
        let is_dead = run.status.signal().is_some() || run.status.code() == Some(127);
        let is_mute = injected.contains("<pipe:");
        assert!(is_mute || !output.contains("panicked"), "{when}");
        let live = two.live();
        if output.contains(" is live") {
            assert_eq!(live, self.after, "the output reports a live release after {when}");
        }
        if self.scenario == Scenario::Sweep {
            let names = [two.sandbox.releases(), two.sandbox.records()].concat();
            assert_eq!(names, self.names, "{when}");
        }
        if is_dead || is_mute {
            return;
        }
        let is_gate = two.has_gate && self.scenario.is_push();
        if is_gate {
            two.agrees(&when);
        }
        let has_moved = output.contains("ok refs/heads/master");
        let status = match run.status.code() {
            Some(0) if is_gate && output.contains("Deployed with errors") => 3,
            Some(0) if is_gate && !has_moved => 1,
            Some(status) => status,
            None => panic!("{when}"),
        };
        let id = &two.ids[live][..12];
        match status {
            0 => assert_eq!(live, self.after, "{when}"),
            1 | 2 => {
                assert_eq!(live, self.before, "{when}");
                let says_so = output.contains(&format!("still serves {id}"))
                    || output.contains("still serves what it served before");
                // A command that cannot read a file may fail before any deployment begins.
                let is_early = !self.scenario.is_push() && !output.contains("Not ");
                assert!(output.contains("error: ") && (says_so || is_early), "{when}");
            }
            3 => assert!(output.contains("error: ") && output.contains(&format!("serves {id}")), "{when}"),
            status => panic!("exit status {status}: {when}"),
        }
        if is_gate {
            assert_eq!(has_moved, live != self.before, "{when}");
        }
    }

    /// Asserts that the next command works and sweeps leftovers.
    fn recover(&self, when: &str) {
        let two = self.two;
        let _ = std::fs::remove_file(two.sandbox.site().join("bad"));
        match self.scenario {
            Scenario::Deploy | Scenario::Gate => two.push_works(self.after, when),
            // Only a deployment prunes.
            Scenario::Prune | Scenario::Resume => two.push_works(1 - two.live(), when),
            Scenario::Refused => two.push_works(1 - self.before, when),
            Scenario::Rollback | Scenario::RollbackRefused | Scenario::Sweep => {
                let to = 1 - two.live();
                let run = two.sandbox.bluegreen(&["deploy", &two.ids[to]]);
                assert!(run.status.success(), "{when}: {}", run.output);
                two.is_whole(when);
                assert_eq!(two.live(), to);
                two.is_clean(when);
            }
        }
    }
}

/// Returns the positions at which a call fails: numbers from 1 to `count`, evenly spread, including both
/// ends.
fn spread(call: &str, how: &str, count: usize) -> Vec<usize> {
    let each = std::env::var("EVERY_CALL").ok().and_then(|each| each.parse().ok()).unwrap_or(4);
    let each: usize = if READS.contains(&call) && how == "signal=KILL" { each / 2 } else { each }.max(2);
    if count <= each {
        return (1..=count).collect();
    }
    (0..each).map(|at| 1 + at * (count - 1) / (each - 1)).collect()
}

/// Runs a scenario with each fault at each call.
fn at_every_call(scenario: Scenario) {
    if !program_or_skip("strace") {
        return;
    }
    let two = scenario.server();
    let counts = Round::new(scenario, &two).count_calls();
    for call in must_make(scenario) {
        assert!(counts.contains_key(*call), "{scenario:?} never calls {call}");
    }
    let mut struck = 0;
    for (call, &count) in &counts {
        for &how in faults(call) {
            for number in spread(call, how, count) {
                let fault = Fault { call, number, how, everywhere: false };
                struck += usize::from(strike(scenario, &two, fault));
            }
        }
    }
    assert!(struck > 50, "only {struck} faults");
}

/// Runs a scenario with one fault. Returns whether the fault was triggered.
fn strike(scenario: Scenario, two: &TwoVersions, fault: Fault) -> bool {
    let round = Round::new(scenario, two);
    let when = format!("{scenario:?} with {fault:?}");
    let (run, injected) = round.run_with(fault);
    round.judge(&run, &injected, &when);
    round.recover(&when);
    run.status.signal().is_some() || !injected.is_empty()
}

#[test]
fn faults_during_a_deployment() {
    at_every_call(Scenario::Deploy);
}

#[test]
fn faults_during_a_prune() {
    at_every_call(Scenario::Prune);
}

#[test]
fn faults_during_a_gated_push() {
    at_every_call(Scenario::Gate);
}

#[test]
fn faults_during_a_reverted_gated_push() {
    at_every_call(Scenario::Refused);
}

#[test]
fn faults_during_a_rollback() {
    at_every_call(Scenario::Rollback);
}

#[test]
fn faults_during_a_reverted_rollback() {
    at_every_call(Scenario::RollbackRefused);
}

#[test]
fn faults_during_a_resume() {
    at_every_call(Scenario::Resume);
}

#[test]
fn faults_during_a_sweep() {
    at_every_call(Scenario::Sweep);
}
