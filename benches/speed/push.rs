//! Pushes to a large site, and rollbacks.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::support::repository::make_repository;
use super::support::server::Server;
use super::support::{BLUEGREEN, Pairs, number, run, said, time};
use super::{BEFORE, Bench};

impl Bench {
    pub fn one_file(&mut self) {
        let (blue, bash) = self.servers(&self.plain);
        let pairs = Pairs::measure(
            self.runs * 2 + 1,
            |round| blue.push(4 + round).as_secs_f64(),
            |round| bash.push(4 + round).as_secs_f64(),
        );
        self.print("one-file push, recycling", "the bash hook, in place", 0.70, &pairs);
        self.push_before("one-file push, recycling", &self.plain.clone(), &blue, self.runs * 2 + 1);
        let releases = self.fresh();
        let capistrano = |round: usize| {
            let (new, old) = (releases.join((round + 1).to_string()), releases.join(round.to_string()));
            let mut shell = Command::new("sh");
            shell.current_dir(&releases).arg("-ec").arg(
                "mkdir $0; git --git-dir=\"$2\" archive v$3 | tar x -C $0; ln -s $0 next; mv -T next current; rm -rf $1",
            );
            shell.arg(&new).arg(&old).arg(&self.plain).arg((round % 20).to_string());
            time(&mut shell).as_secs_f64()
        };
        let pairs = Pairs::measure(self.runs, |round| blue.push(4 + round).as_secs_f64(), capistrano);
        self.print("one-file push, recycling", "archive, tar, activate, remove the oldest", 0.04, &pairs);
        fs::remove_dir_all(releases).unwrap();
        blue.remove();
        bash.remove();
    }

    pub fn one_percent(&mut self) {
        let files = number("BENCH_FILES", 50_000);
        let origin = self.scratch.path().join("percent-origin.git");
        make_repository(&origin, files, files / 100, self.runs + 5);
        let (blue, bash) = self.servers(&origin);
        let pairs = Pairs::measure(
            self.runs,
            |round| blue.push(4 + round).as_secs_f64(),
            |round| bash.push(4 + round).as_secs_f64(),
        );
        self.print("push that changes 1 % of the files", "the bash hook, in place", 1.0, &pairs);
        self.push_before("push that changes 1 % of the files", &origin, &blue, self.runs);
        blue.remove();
        bash.remove();
        fs::remove_dir_all(origin).unwrap();
    }

    /// Measures the same pushes against those to a server with an earlier build.
    fn push_before(&mut self, work: &str, origin: &Path, blue: &Server, runs: usize) {
        let Some(program) = &self.before else { return };
        let before = Server::with_program(program, self.scratch.path(), origin, "before", 2);
        (0..4).for_each(|version| _ = before.push(version));
        let pairs = Pairs::measure(
            runs,
            |round| blue.push(4 + round).as_secs_f64(),
            |round| before.push(4 + round).as_secs_f64(),
        );
        self.print(work, BEFORE.0, BEFORE.1, &pairs);
        before.remove();
    }

    /// Creates two servers with enough releases that further pushes recycle.
    fn servers(&self, origin: &Path) -> (Server, Server) {
        let blue = Server::bluegreen(self.scratch.path(), origin, "blue", 2);
        let bash = Server::bash(self.scratch.path(), origin, "bash");
        for version in 0..4 {
            blue.push(version);
            bash.push(version);
        }
        (blue, bash)
    }

    pub fn other_ref(&mut self) {
        let blue = Server::bluegreen(self.scratch.path(), &self.plain, "other", 2);
        let bash = Server::bash(self.scratch.path(), &self.plain, "other-bash");
        let line = format!("{0} {0} refs/heads/topic\n", "1".repeat(40));
        let pairs =
            Pairs::measure(50, |_| blue.hook(&line).as_secs_f64(), |_| bash.hook(&line).as_secs_f64());
        self.print("push of another ref", "the bash hook", 1.05, &pairs);
        if let Some(program) = &self.before {
            let before = Server::with_program(program, self.scratch.path(), &self.plain, "other-before", 2);
            let pairs =
                Pairs::measure(50, |_| blue.hook(&line).as_secs_f64(), |_| before.hook(&line).as_secs_f64());
            self.print("push of another ref", BEFORE.0, BEFORE.1, &pairs);
            before.remove();
        }
        blue.remove();
        bash.remove();
    }

    pub fn rollback(&mut self) {
        let small = self.scratch.path().join("small-origin.git");
        make_repository(&small, 100, 1, 2);
        let servers = [(&self.plain, "large"), (&small, "small")]
            .map(|(origin, name)| Server::bluegreen(self.scratch.path(), origin, name, 2));
        for server in &servers {
            server.push(0);
            server.push(1);
        }
        let there_and_back = |server: &Server| {
            let bluegreen = |arguments: &[&str]| {
                let mut command = Command::new(BLUEGREEN);
                command.arg("-C").arg(&server.repository).args(arguments);
                command
            };
            let took = time(&mut bluegreen(&["rollback"])).as_secs_f64();
            let releases = said(&mut bluegreen(&["releases"]));
            let newest = releases.lines().nth(1).unwrap().split(' ').next().unwrap();
            run(&mut bluegreen(&["rollback", newest]));
            took
        };
        let pairs = Pairs::measure(15, |_| there_and_back(&servers[0]), |_| there_and_back(&servers[1]));
        self.print("rollback", "the same in a site of 100 files", 1.25, &pairs);
        servers.iter().for_each(Server::remove);
        fs::remove_dir_all(small).unwrap();
    }
}
