//! A synthetic repository with a realistic history: thousands of commits that edit and copy files.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use super::repository::{Import, Random, init};
use super::{git, run};

/// The kinds of files. Files of one kind are similar.
const KINDS: [&str; 12] = [
    "Test.php",
    "Type.php",
    "Command.php",
    "Controller.php",
    "Event.php",
    "Exception.php",
    "Interface.php",
    "view.html.twig",
    "messages.en.xlf",
    "styles.scss",
    "README.md",
    "component.ts",
];

/// The number of pushes after the last `git gc`.
const PUSHES: usize = 50;

/// The files of a growing project. A line is a number, from which its text is derived.
struct Project {
    random: Random,
    lines: Vec<String>,
    files: Vec<(String, Vec<usize>)>,
    commits: usize,
}

/// Generates two bare repositories: `packed`, as `git gc` leaves it, and `pushed`, the same after fifty small
/// pushes that each left a pack.
pub fn make_lived_in(packed: &Path, pushed: &Path, files: usize, commits: usize) {
    let mut project = Project::new();
    init(packed);
    let mut import = Import::loose(packed);
    for commit in 0..commits {
        // A third of the files exist from the start. The rest are added evenly.
        let expected = files / 3 + (files - files / 3) * commit / (commits - 1);
        project.commit(&mut import, "master", None, expected.saturating_sub(project.files.len()));
    }
    import.end();
    run(git(packed).args(["gc", "-q"]));

    let clone = packed.with_extension("clone");
    run(Command::new("git").args(["clone", "-q", "--bare", "--shared"]).arg(packed).arg(&clone));
    let mut import = Import::loose(&clone);
    for push in 0..PUSHES {
        project.commit(&mut import, "next", (push == 0).then_some("master"), push % 2);
    }
    import.end();
    run(Command::new("cp").arg("-r").arg(packed).arg(pushed));
    for (key, value) in [("receive.unpackLimit", "1"), ("receive.autogc", "false")] {
        run(git(pushed).args(["config", key, value]));
    }
    for left in (0..PUSHES).rev() {
        run(git(&clone).args(["push", "-q"]).arg(pushed).arg(format!("next~{left}:refs/heads/master")));
    }
    fs::remove_dir_all(clone).unwrap();
}

impl Project {
    fn new() -> Self {
        let mut random = Random(2);
        let words: Vec<String> = (0..3000).map(|_| random.word()).collect();
        let lines = (0..40_000).map(|_| {
            let length = 2 + random.below(9);
            let words: Vec<&str> = (0..length).map(|_| words[random.below(words.len())].as_str()).collect();
            format!("{}{}\n", " ".repeat(4 * random.below(4)), words.join(" "))
        });
        let lines = lines.collect();
        Self { random, lines, files: Vec::new(), commits: 0 }
    }

    /// Adds files, and edits one to five existing ones.
    fn commit(&mut self, import: &mut Import, branch: &str, from: Option<&str>, new: usize) {
        import.commit(branch, self.commits, from);
        self.commits += 1;
        let mut changed: BTreeSet<usize> = (self.files.len()..self.files.len() + new).collect();
        (0..new).for_each(|_| self.add());
        for _ in 0..1 + self.random.below(5) {
            // The distribution is skewed: some files are edited much more often.
            let (a, b) = (self.random.below(self.files.len()), self.random.below(self.files.len()));
            let file = a * b / self.files.len();
            self.edit(file);
            changed.insert(file);
        }
        changed.into_iter().for_each(|file| self.write(import, file));
        writeln!(import.to).unwrap();
    }

    fn write(&self, import: &mut Import, file: usize) {
        let (path, lines) = &self.files[file];
        let text: String = lines.iter().map(|line| self.lines[*line].as_str()).collect();
        import.file(path, text.as_bytes());
    }

    /// Adds a file: usually a modified copy of another one in another directory, otherwise its kind's header
    /// and new lines.
    fn add(&mut self) {
        let number = self.files.len();
        let directory = format!("src/package{}/part{}", number / 400, number / 25);
        if number > 100 && self.random.below(20) < 17 {
            let (other, lines) = &self.files[self.random.below(number - 50)];
            let path = format!("{directory}/{}", other.rsplit('/').next().unwrap());
            if self.files[number - 50..].iter().all(|(taken, _)| *taken != path) {
                self.files.push((path, lines.clone()));
                (0..2).for_each(|_| self.edit(number));
                return;
            }
        }
        let kind = self.random.below(KINDS.len());
        let path = format!("{directory}/{number}{}", KINDS[kind]);
        // Most files are small, and a few are large.
        let length = 1 << (3 + self.random.below(6));
        let length = length + self.random.below(length);
        let length = if self.random.below(100) == 0 { length * 10 } else { length };
        let mut lines: Vec<usize> = (kind * 100..kind * 100 + 12).collect();
        lines.extend((0..length).map(|_| self.random.below(self.lines.len())));
        self.files.push((path, lines));
    }

    /// Replaces a few adjacent lines of a file.
    fn edit(&mut self, file: usize) {
        let lines = &mut self.files[file].1;
        let at = self.random.below(lines.len());
        let end = (at + self.random.below(6)).min(lines.len());
        let new: Vec<usize> =
            (0..=self.random.below(8)).map(|_| self.random.below(self.lines.len())).collect();
        lines.splice(at..end, new);
    }
}

/// Generates a bare repository with at least `objects` objects of history and the same 1,000 files at its
/// tip.
pub fn make_history(path: &Path, objects: usize) {
    init(path);
    let mut import = Import::packed(path);
    // Each commit adds a blob, a tree, and the commit itself.
    for commit in 0..objects / 3 {
        import.commit("master", commit, None);
        import.file("log", format!("entry {commit}\n").as_bytes());
    }
    import.commit("master", objects, None);
    writeln!(import.to, "deleteall").unwrap();
    let mut random = Random(3);
    for file in 0..1000 {
        let words: Vec<String> = (0..700).map(|_| random.word()).collect();
        import.file(&format!("directory{}/file{file}", file / 50), words.join(" ").as_bytes());
    }
    import.end();
}
