//! First releases of given and generated repositories, and their peak memory.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::support::history::make_lived_in;
use super::support::repository::{make_repository, row_of};
use super::support::{BLUEGREEN, Pairs, git, peak, run, said, time};
use super::{BEFORE, Bench};

/// A program that writes the files of a commit.
#[derive(Clone, Copy, PartialEq)]
enum Peer {
    Bluegreen,
    /// An earlier build of bluegreen.
    Before,
    Git {
        workers: usize,
    },
    Archive,
    Gix,
}

/// All peers, in the order of the rows.
const PEERS: [Peer; 6] = [
    Peer::Bluegreen,
    Peer::Before,
    Peer::Git { workers: 1 },
    Peer::Git { workers: 2 },
    Peer::Archive,
    Peer::Gix,
];

/// The target ratios against git with one worker, `git archive`, and gix.
struct Targets {
    git: f64,
    archive: Option<f64>,
    gix: f64,
}

/// The targets for repositories whose packs consist mostly of deltas, and for those of fewer than 1,000 files.
const REAL: Targets = Targets { git: 0.35, archive: None, gix: 0.75 };
const SMALL: Targets = Targets { git: 0.45, archive: None, gix: 0.85 };
const PLAIN: Targets = Targets { git: 0.40, archive: Some(0.50), gix: 0.90 };

/// The minimum duration, in seconds, of a run that needs no repetition.
const LONG: f64 = 0.1;

impl Peer {
    fn name(self) -> String {
        match self {
            Self::Bluegreen => "bluegreen".into(),
            Self::Before => BEFORE.0.into(),
            Self::Git { workers: 1 } => "`git checkout -f`".into(),
            Self::Git { workers } => format!("`git checkout -f`, {workers} workers"),
            Self::Archive => "`git archive \\| tar x`".into(),
            Self::Gix => "gix, 2 threads".into(),
        }
    }

    fn target(self, targets: &Targets) -> Option<f64> {
        match self {
            Self::Git { workers: 1 } => Some(targets.git),
            Self::Archive => targets.archive,
            Self::Gix => Some(targets.gix),
            Self::Before => Some(BEFORE.1),
            _ => None,
        }
    }
}

impl Bench {
    /// Measures a given repository. A copy, including its packs, lets all peers read it from memory.
    pub fn given(&mut self, name: &str, path: &Path) {
        let copy = self.scratch.path().join("given.git");
        run(Command::new("git").args(["clone", "-q", "--bare", "--no-hardlinks"]).arg(path).arg(&copy));
        run(git(&copy).args(["update-ref", "--no-deref", "refs/heads/master", "HEAD^0"]));
        let files = said(git(&copy).args(["ls-tree", "-r", "--name-only", "master"])).lines().count();
        self.first_release(name, &copy, if files < 1000 { &SMALL } else { &REAL });
        fs::remove_dir_all(copy).unwrap();
    }

    pub fn lived_in(&mut self) {
        let [packed, pushed] = ["packed.git", "pushed.git"].map(|name| self.scratch.path().join(name));
        eprintln!("Generating a repository with 12,000 files and 4,000 commits...");
        make_lived_in(&packed, &pushed, 12_000, 4_000);
        self.first_release("4,000 commits after `git gc`", &packed, &REAL);
        self.first_release("the same after 50 pushes", &pushed, &REAL);
        fs::remove_dir_all(packed).unwrap();
        fs::remove_dir_all(pushed).unwrap();
    }

    pub fn plain(&mut self) {
        let plain = self.plain.clone();
        self.first_release("large, without deltas", &plain, &PLAIN);
        let big = self.scratch.path().join("big.git");
        make_repository(&big, 50, 1, 1);
        add_file_of_1_gb(&big);
        self.repositories.push(row_of("one file of 1 GB", &big));
        self.memory("one file of 1 GB", &big);
        fs::remove_dir_all(big).unwrap();
    }

    /// Runs all peers in alternating order, and prints a row for each.
    fn first_release(&mut self, name: &str, origin: &Path, targets: &Targets) {
        eprintln!("First releases: {name}...");
        self.repositories.push(row_of(name, origin));
        let (has_gix, has_before) = (self.gix.is_some(), self.before.is_some());
        let is_there = |peer: &Peer| match peer {
            Peer::Gix => has_gix,
            Peer::Before => has_before,
            _ => true,
        };
        let peers: Vec<Peer> = PEERS.into_iter().filter(is_there).collect();
        let mut took: Vec<Vec<f64>> = vec![Vec::new(); peers.len()];
        let mut runs = self.runs;
        let mut round = 0;
        while round <= runs {
            let mut order: Vec<usize> = (0..peers.len()).collect();
            if round % 2 == 1 {
                order.reverse();
            }
            for peer in order {
                let (mut command, directory) = self.command(peers[peer], origin);
                took[peer].push(time(&mut command).as_secs_f64());
                fs::remove_dir_all(directory).unwrap();
            }
            if round == 0 && took[0][0] < LONG {
                runs *= 3;
            }
            round += 1;
        }
        let work = format!("first release: {name}");
        for (peer, theirs) in peers.iter().zip(&took).skip(1) {
            let row = self.row(&work, &peer.name(), peer.target(targets), "s", &Pairs::of(&took[0], theirs));
            println!("{row}");
        }
        if !has_gix {
            println!("| {work} | gix, 2 threads | <= {:.2} | not built | | | |", targets.gix);
        }
        self.memory(name, origin);
    }

    /// Returns the command that writes a first release into a new directory, and the directory to remove.
    fn command(&mut self, peer: Peer, origin: &Path) -> (Command, PathBuf) {
        let tree = self.fresh();
        let command = match peer {
            Peer::Bluegreen | Peer::Before => {
                let config = format!("[site]\nroot = \"{}\"\nsymlinks = \"any\"\n", tree.display());
                fs::write(origin.join("bluegreen.toml"), config).unwrap();
                let before = self.before.as_deref().filter(|_| peer == Peer::Before);
                let mut deploy = Command::new(before.unwrap_or(Path::new(BLUEGREEN)));
                deploy.arg("-C").arg(origin).arg("deploy");
                deploy
            }
            Peer::Git { workers } => {
                let mut checkout = git(origin);
                checkout.env("GIT_INDEX_FILE", tree.with_extension("index"));
                checkout.args(["-c", &format!("checkout.workers={workers}"), "--work-tree"]).arg(&tree);
                checkout.args(["checkout", "-q", "-f", "master"]);
                checkout
            }
            Peer::Archive => {
                let mut shell = Command::new("sh");
                shell.arg("-c").arg("git --git-dir=\"$0\" archive master | tar x -C \"$1\"");
                shell.arg(origin).arg(&tree);
                shell
            }
            Peer::Gix => {
                let mut gix = Command::new(self.gix.as_ref().unwrap());
                gix.arg(origin).arg(&tree).arg("2");
                gix
            }
        };
        (command, tree)
    }

    fn memory(&mut self, name: &str, origin: &Path) {
        if !Path::new("/usr/bin/time").exists() {
            self.memory
                .push(format!("| {name} | `git checkout -f` | <= 1.00 | GNU time is not installed | | | |"));
            return;
        }
        let mut peak_of = |peer| {
            let (command, directory) = self.command(peer, origin);
            let peak = peak(&command);
            fs::remove_dir_all(directory).unwrap();
            peak
        };
        let (ours, theirs): (Vec<f64>, Vec<f64>) =
            (0..3).map(|_| (peak_of(Peer::Bluegreen), peak_of(Peer::Git { workers: 1 }))).unzip();
        let row = self.row(name, "`git checkout -f`", Some(1.00), "MB", &Pairs::of(&ours, &theirs));
        self.memory.push(row);
    }
}

/// Returns the names and paths of the repositories in `BENCH_REPOSITORIES`.
pub fn given() -> Vec<(String, PathBuf)> {
    let list = std::env::var("BENCH_REPOSITORIES").unwrap_or_default();
    let named = list.split(':').filter(|item| !item.is_empty()).map(|item| {
        let (name, path) = item.split_once('=').unwrap_or_else(|| {
            let path = item.trim_end_matches('/').trim_end_matches("/.git").trim_end_matches(".git");
            (path.rsplit('/').next().unwrap(), item)
        });
        let mut list = git(Path::new(path));
        let objects = said(list.args(["rev-list", "--objects", "--missing=print", "--no-walk", "HEAD"]));
        assert!(!objects.is_empty(), "`{path}` is not a repository with a commit");
        assert!(
            !objects.lines().any(|line| line.starts_with('?')),
            "`{path}` lacks objects of its commit `HEAD`"
        );
        (name.to_owned(), PathBuf::from(path))
    });
    named.collect()
}

fn add_file_of_1_gb(repository: &Path) {
    let file = repository.join("1GB");
    run(Command::new("sh").arg("-c").arg("head -c 1000000000 /dev/urandom > \"$0\"").arg(&file));
    let id = said(git(repository).args(["hash-object", "-w"]).arg(&file));
    fs::remove_file(file).unwrap();
    run(git(repository).args(["update-index", "--add", "--cacheinfo", &format!("100644,{id},big")]));
    let tree = said(git(repository).arg("write-tree"));
    let mut commit = git(repository);
    for role in ["AUTHOR", "COMMITTER"] {
        commit.env(format!("GIT_{role}_NAME"), "bench");
        commit.env(format!("GIT_{role}_EMAIL"), "bench@localhost");
    }
    let commit = said(commit.args(["commit-tree", "-m", "big", &tree]));
    run(git(repository).args(["update-ref", "refs/heads/master", &commit]));
}

/// Builds the gix peer, which is not a dependency of the product.
pub fn build_gix() -> Option<PathBuf> {
    let peer = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers/gix");
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("gix");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(&peer).args(["build", "--release", "--quiet"]).env("CARGO_TARGET_DIR", &target);
    cargo.status().ok()?.success().then(|| target.join("release/gix-checkout"))
}
