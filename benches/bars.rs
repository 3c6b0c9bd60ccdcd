//! The bars of the design, each a ratio in one run against what a user would run instead.
//!
//! `cargo bench --bench bars` makes its repository (50,000 files, 220 MB), runs all peers that are on the
//! machine and prints a table. `BENCH_FILES` makes it smaller, `BENCH_DIR` puts it elsewhere,
//! `BENCH_RUNS` sets the number of pairs.

#![allow(
    clippy::all,
    clippy::pedantic,
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods
)]
#![allow(missing_docs)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::{BLUEGREEN, Pairs, Scratch, Server, git, machine, make_repository, run, time};

struct Bench {
    scratch: Scratch,
    origin: PathBuf,
    runs: usize,
    fresh: usize,
}

fn main() {
    let number =
        |name: &str, default| std::env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(default);
    let files: usize = number("BENCH_FILES", 50_000);
    let scratch = Scratch::new();
    let origin = scratch.path().join("origin.git");
    println!("Machine: {}", machine());
    println!("Making a repository of {files} files in {} ...", scratch.path().display());
    let mut bench = Bench { origin, scratch, runs: number("BENCH_RUNS", 7), fresh: 0 };
    make_repository(&bench.origin, files, 1, 30);
    println!("\n| work | against | bar | ratio | spread | bluegreen | other |");
    println!("|---|---|---|---|---|---|---|");
    bench.first_release();
    bench.one_file();
    bench.one_percent(files);
    bench.other_ref();
    bench.rollback();
    bench.memory();
}

impl Bench {
    fn row(&self, work: &str, against: &str, bar: f64, unit: &str, pairs: &Pairs) {
        let (least, median, greatest) = pairs.ratio();
        let verdict = if median <= bar { "" } else { " (missed)" };
        println!(
            "| {work} | {against} | <= {bar:.2}{verdict} | **{median:.2}** | {least:.2} to {greatest:.2} | {:.3} {unit} | {:.3} {unit} |",
            pairs.ours(),
            pairs.theirs()
        );
    }

    /// A new directory, so that no run pays for another one's deletions.
    fn fresh(&mut self) -> PathBuf {
        self.fresh += 1;
        let path = self.scratch.path().join(format!("fresh{}", self.fresh));
        fs::create_dir(&path).unwrap();
        path
    }

    fn first(&mut self, origin: &Path) -> (Command, PathBuf) {
        let site = self.fresh();
        let config = format!("[site]\nroot = \"{}\"\nsymlinks = \"any\"\n", site.display());
        fs::write(origin.join("bluegreen.toml"), config).unwrap();
        let mut deploy = Command::new(BLUEGREEN);
        deploy.arg("-C").arg(origin).arg("deploy");
        (deploy, site)
    }

    fn checkout(&mut self, origin: &Path) -> (Command, PathBuf) {
        let tree = self.fresh();
        let mut checkout = git(origin);
        checkout.env("GIT_INDEX_FILE", tree.with_extension("index"));
        checkout.arg("--work-tree").arg(&tree).args(["checkout", "-q", "-f", "master"]);
        (checkout, tree)
    }

    fn timed(made: (Command, PathBuf)) -> f64 {
        let (mut command, directory) = made;
        let took = time(&mut command);
        fs::remove_dir_all(directory).unwrap();
        took.as_secs_f64()
    }

    fn against(&mut self, name: &str, bar: f64, mut other: impl FnMut(&mut Self) -> (Command, PathBuf)) {
        let origin = self.origin.clone();
        let mut ours = Vec::new();
        let mut theirs = Vec::new();
        for _ in 0..=self.runs {
            ours.push(Self::timed(self.first(&origin)));
            theirs.push(Self::timed(other(self)));
        }
        let pairs = Pairs::measure(self.runs, |round| ours[round], |round| theirs[round]);
        self.row("first release", name, bar, "s", &pairs);
    }

    fn first_release(&mut self) {
        let origin = self.origin.clone();
        self.against("`git checkout -f` into an empty tree", 0.40, |bench| bench.checkout(&origin));
        self.against("`git archive \\| tar x`", 0.50, |bench| {
            let tree = bench.fresh();
            let mut shell = Command::new("sh");
            shell
                .arg("-c")
                .arg("git --git-dir=\"$0\" archive master | tar x -C \"$1\"")
                .arg(&origin)
                .arg(&tree);
            (shell, tree)
        });
        match build_gix() {
            None => println!("| first release | gix, 2 threads | <= 1.00 | not built here | | | |"),
            Some(gix) => self.against("gix, 2 threads", 1.0, |bench| {
                let tree = bench.fresh();
                let mut command = Command::new(&gix);
                command.arg(&origin).arg(&tree).arg("2");
                (command, tree)
            }),
        }
    }

    fn one_file(&mut self) {
        let blue = Server::bluegreen(self.scratch.path(), &self.origin, "one", 2);
        let bash = Server::bash(self.scratch.path(), &self.origin, "bash");
        for version in 0..4 {
            blue.push(version);
            bash.push(version);
        }
        let runs = self.runs * 2 + 1;
        let pairs = Pairs::measure(
            runs,
            |round| blue.push(4 + round).as_secs_f64(),
            |round| bash.push(4 + round).as_secs_f64(),
        );
        self.row("one-file push, recycling", "the bash hook, in place", 0.75, "s", &pairs);
        let (scratch, origin) = (self.scratch.path().to_owned(), self.origin.clone());
        let releases = scratch.join("capistrano");
        fs::create_dir(&releases).unwrap();
        let capistrano = |round: usize| {
            let (new, old) = (releases.join((round + 1).to_string()), releases.join(round.to_string()));
            let mut shell = Command::new("sh");
            shell.current_dir(&releases).arg("-ec").arg(
                "mkdir $0; git --git-dir=\"$2\" archive v$3 | tar x -C $0; ln -s $0 next; mv -T next current; rm -rf $1",
            );
            shell.arg(&new).arg(&old).arg(&origin).arg((round % 20).to_string());
            time(&mut shell).as_secs_f64()
        };
        let pairs = Pairs::measure(self.runs, |round| blue.push(4 + round).as_secs_f64(), capistrano);
        self.row("one-file push, recycling", "archive, tar, flip, remove the oldest", 0.04, "s", &pairs);
        fs::remove_dir_all(releases).unwrap();
        self.remove(&blue);
        self.remove(&bash);
    }

    fn one_percent(&mut self, files: usize) {
        let origin = self.scratch.path().join("percent-origin.git");
        make_repository(&origin, files, files / 100, self.runs + 5);
        let blue = Server::bluegreen(self.scratch.path(), &origin, "percent", 2);
        let bash = Server::bash(self.scratch.path(), &origin, "percent-bash");
        for version in 0..4 {
            blue.push(version);
            bash.push(version);
        }
        let pairs = Pairs::measure(
            self.runs,
            |round| blue.push(4 + round).as_secs_f64(),
            |round| bash.push(4 + round).as_secs_f64(),
        );
        self.row("push that changes 1 % of the files", "the bash hook, in place", 1.0, "s", &pairs);
        self.remove(&blue);
        self.remove(&bash);
        fs::remove_dir_all(origin).unwrap();
    }

    fn other_ref(&mut self) {
        let blue = Server::bluegreen(self.scratch.path(), &self.origin, "other", 2);
        let bash = Server::bash(self.scratch.path(), &self.origin, "other-bash");
        let line = format!("{0} {0} refs/heads/topic\n", "1".repeat(40));
        let pairs =
            Pairs::measure(50, |_| blue.hook(&line).as_secs_f64(), |_| bash.hook(&line).as_secs_f64());
        self.row("push of another ref", "the bash hook", 0.70, "s", &pairs);
        self.remove(&blue);
        self.remove(&bash);
    }

    fn rollback(&mut self) {
        let small = self.scratch.path().join("small-origin.git");
        make_repository(&small, 100, 1, 2);
        let servers = [(&self.origin, "large"), (&small, "small")]
            .map(|(origin, name)| Server::bluegreen(self.scratch.path(), origin, name, 2));
        for server in &servers {
            server.push(0);
            server.push(1);
        }
        let there_and_back = |server: &Server| {
            let mut deploy = Command::new(BLUEGREEN);
            let took = time(deploy.arg("-C").arg(&server.repository).arg("rollback")).as_secs_f64();
            let releases =
                Command::new(BLUEGREEN).arg("-C").arg(&server.repository).args(["releases"]).output();
            let newest = String::from_utf8(releases.unwrap().stdout).unwrap();
            let newest = newest.lines().nth(1).unwrap().split(' ').next().unwrap().to_owned();
            run(Command::new(BLUEGREEN).arg("-C").arg(&server.repository).args(["rollback", &newest]));
            took
        };
        let pairs = Pairs::measure(15, |_| there_and_back(&servers[0]), |_| there_and_back(&servers[1]));
        self.row("rollback", "the same in a site of 100 files", 1.25, "s", &pairs);
        for server in &servers {
            self.remove(server);
        }
    }

    fn memory(&mut self) {
        if !Path::new("/usr/bin/time").exists() {
            println!("| peak memory | `git checkout -f` | <= 1.20 | GNU time is not here | | | |");
            return;
        }
        let origin = self.origin.clone();
        self.memory_row("peak memory of a first release", &origin);
        let big = self.scratch.path().join("big-origin.git");
        make_repository(&big, 50, 1, 1);
        let file = self.scratch.path().join("1GB");
        run(Command::new("sh").arg("-c").arg("head -c 1000000000 /dev/urandom > \"$0\"").arg(&file));
        let id = git(&big).args(["hash-object", "-w"]).arg(&file).output().unwrap().stdout;
        let id = String::from_utf8(id).unwrap();
        fs::remove_file(file).unwrap();
        run(git(&big).args(["update-index", "--add", "--cacheinfo", &format!("100644,{},big", id.trim())]));
        let tree = String::from_utf8(git(&big).arg("write-tree").output().unwrap().stdout).unwrap();
        let mut commit = git(&big);
        commit.args([
            "-c",
            "user.name=bench",
            "-c",
            "user.email=bench@localhost",
            "commit-tree",
            "-m",
            "big",
        ]);
        let commit = String::from_utf8(commit.arg(tree.trim()).output().unwrap().stdout).unwrap();
        run(git(&big).args(["update-ref", "refs/heads/master", commit.trim()]));
        self.memory_row("the same with one file of 1 GB", &big);
    }

    fn memory_row(&mut self, work: &str, origin: &Path) {
        let mut ours = Vec::new();
        let mut theirs = Vec::new();
        for _ in 0..3 {
            ours.push(peak(self.first(origin)));
            theirs.push(peak(self.checkout(origin)));
        }
        let pairs = Pairs::measure(2, |round| ours[round], |round| theirs[round]);
        self.row(work, "`git checkout -f`", 1.20, "MB", &pairs);
    }

    fn remove(&self, server: &Server) {
        fs::remove_dir_all(&server.site).unwrap();
        fs::remove_dir_all(&server.repository).unwrap();
    }
}

/// The largest resident set of a command and of all that it starts, in MB.
fn peak(made: (Command, PathBuf)) -> f64 {
    let (command, directory) = made;
    let mut time = Command::new("/usr/bin/time");
    time.args(["-f", "%M"]).arg(command.get_program()).args(command.get_args());
    time.envs(command.get_envs().filter_map(|(key, value)| Some((key, value?))));
    let output = time.output().unwrap();
    fs::remove_dir_all(directory).unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    text.lines().last().unwrap().parse::<f64>().unwrap() / 1024.0
}

/// Builds the peer on gix, which is no dependency of the product.
fn build_gix() -> Option<PathBuf> {
    let peer = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers/gix");
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("gix");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(&peer).args(["build", "--release", "--quiet"]).env("CARGO_TARGET_DIR", &target);
    cargo.status().ok()?.success().then(|| target.join("release/gix-checkout"))
}
