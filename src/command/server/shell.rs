//! `bluegreen-shell`, the login shell of the deploy account. It passes pushes and fetches to git-shell, and runs some
//! subcommands, as in `ssh deploy@blue status`.
//!
//! The account can write neither this program nor the list of its repositories, which the installer writes: nothing in the
//! account's home decides what the shell runs.
//!
//! A key can have a role. Then its line in `authorized_keys` forces the command `role NAME`, and sshd passes the command of
//! the client in the environment.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::Parser;
use nix::unistd::Uid;

use super::git_shell;
use super::ledger::{self, Entry, LEDGERS};
use crate::cli::{Cli, Command};
use crate::error::{Error, Result};
use bluegreen_git::login_name;
use bluegreen_protocol::role::{Right, Role};

/// The file name of the program as a login shell.
const NAME: &str = "bluegreen-shell";

/// The variable in which sshd passes the command of a client whose key has a forced command.
const ORIGINAL: &str = "SSH_ORIGINAL_COMMAND";

/// The subcommands that run over ssh. [`right`] makes the same decision about a parsed command.
pub const COMMANDS: [&str; 15] = [
    "hold", "status", "public", "releases", "history", "log", "deploy", "rollback", "resume", "cancel",
    "check", "metrics", "lock", "unlock", "promote",
];

/// Root's config of the front end on this machine, as the installer writes it for a pair of sides.
const FRONT_END_CONFIG: &str = "/etc/bluegreen/promote.toml";

/// Returns whether the program was called as a login shell, whose name sshd prefixes with a dash.
pub fn is_called_as(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.strip_prefix('-').unwrap_or(name) == NAME
}

/// Reads the command that sshd passes with `-c`: becomes git-shell, or returns the command line to run. If clap cannot parse
/// it, or if it requests help, the inner result is clap's error.
pub fn take(arguments: &[OsString]) -> Result<Result<Cli, clap::Error>> {
    let Request { role, line } = Request::read(arguments, std::env::var_os(ORIGINAL))?;
    let repositories = own_repositories();
    if let Some(verb) = git_shell::verb(&line) {
        let right = if verb == "receive-pack" { Right::Push } else { Right::Read };
        require(role, right, &format!("git {verb}"))?;
        if let Some(named) = git_shell::unknown_repository(&line).filter(|_| !repositories.is_empty()) {
            return Err(Error::UnknownRepository { named, there: names(&repositories) });
        }
        return Err(git_shell::run(&line, role));
    }
    let front = std::fs::read_to_string(FRONT_END_CONFIG).unwrap_or_default();
    // It is the front end of the account whose repositories it names.
    let is_side = |repository: &PathBuf| front.contains(&format!("\"{}\"", repository.display()));
    parse(&line, role, &repositories, repositories.iter().any(is_side).then_some(Path::new(FRONT_END_CONFIG)))
}

/// Returns the repositories that the installer has set up for this account.
fn own_repositories() -> Vec<PathBuf> {
    let mine = |entry: &Entry| entry.user == login_name(Uid::current());
    ledger::read(Path::new(LEDGERS)).into_iter().filter(mine).map(|entry| entry.repository).collect()
}

/// Returns the file names of repositories, which name them over ssh.
fn names(repositories: &[PathBuf]) -> Vec<String> {
    repositories.iter().filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect()
}

/// Returns the role of the key, if it has one.
pub fn role(arguments: &[OsString]) -> Option<Role> {
    let role = Request::read(arguments, std::env::var_os(ORIGINAL)).ok()?.role;
    Some(role).filter(|role| *role != Role::All)
}

/// The command of a client, and the role of its key.
#[derive(Debug, PartialEq, Eq)]
struct Request {
    role: Role,
    line: String,
}

impl Request {
    /// Reads the command that ssh passes with `-c`. If that is a role, `original` is the command of the client.
    fn read(arguments: &[OsString], original: Option<OsString>) -> Result<Self> {
        let line = match arguments {
            [_, option, line] if option == "-c" => line.to_string_lossy().into_owned(),
            _ => return Err(Error::NoShell(&COMMANDS)),
        };
        let Some(name) = line.strip_prefix("role ") else { return Ok(Self { role: Role::All, line }) };
        let role = Role::parse(name).ok_or_else(|| Error::UnknownRole(name.to_owned()))?;
        let line = original.filter(|line| !line.is_empty()).ok_or(Error::NoShell(&COMMANDS))?;
        Ok(Self { role, line: line.to_string_lossy().into_owned() })
    }
}

/// Rejects a command that a role does not include.
fn require(role: Role, right: Right, command: &str) -> Result<()> {
    if role.includes(right) {
        return Ok(());
    }
    Err(Error::NotInRole { role, command: command.to_owned() })
}

/// Parses a command line from a client, which is not trusted. `front` is the config of the front end on this machine.
fn parse(
    line: &str,
    role: Role,
    repositories: &[PathBuf],
    front: Option<&Path>,
) -> Result<Result<Cli, clap::Error>> {
    let mut words = shlex::split(line).ok_or_else(|| refused(line))?;
    // `ssh deploy@blue bluegreen status` works too.
    if words.first().is_some_and(|word| word == "bluegreen") {
        words.remove(0);
    }
    let verb = verb(&words).to_owned();
    if !COMMANDS.contains(&verb.as_str()) {
        return Err(refused(&verb));
    }
    let mut cli = match Cli::try_parse_from(std::iter::once("bluegreen".into()).chain(words)) {
        Ok(cli) => cli,
        Err(error) => return Ok(Err(error)),
    };
    let right = right(&cli.command).ok_or_else(|| refused(&verb))?;
    require(role, right, &verb)?;
    if !use_front_end(&mut cli, front)? {
        cli.repository = Some(choose(cli.repository.as_deref(), repositories)?);
    }
    Ok(Ok(cli))
}

/// Has `promote` and `public` use root's config of the front end, and no other. Returns whether the command uses it:
/// `public -C REPOSITORY` shows the mark of one side instead.
fn use_front_end(cli: &mut Cli, front: Option<&Path>) -> Result<bool> {
    let options = match &mut cli.command {
        Command::Promote { side, yes, options, .. } => {
            // The account has no terminal for a question: naming the side confirms it.
            *yes |= side.is_some();
            if front.is_none() {
                return Err(Error::NoFrontEnd);
            }
            options
        }
        Command::Public(public) if cli.repository.is_none() && front.is_some() => &mut public.options,
        _ => return Ok(false),
    };
    if options.config.is_some() || options.trust {
        return Err(Error::FrontEndConfig);
    }
    options.config = front.map(Path::to_path_buf);
    cli.repository = None;
    Ok(true)
}

/// The first word that is neither `-C` nor the repository after it.
fn verb(words: &[String]) -> &str {
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if word == "-C" {
            words.next();
        } else {
            return word;
        }
    }
    ""
}

fn refused(command: &str) -> Error {
    Error::NotOverSsh { command: command.into(), commands: &COMMANDS }
}

/// Returns the right that a command needs over ssh; `None` if it does not run there.
fn right(command: &Command) -> Option<Right> {
    match command {
        Command::Status(_)
        | Command::Public(_)
        | Command::Releases(_)
        | Command::History { .. }
        | Command::Metrics
        | Command::Log { .. }
        | Command::Check(_) => Some(Right::Read),
        Command::Deploy { .. }
        | Command::Rollback { .. }
        | Command::Resume { .. }
        | Command::Cancel
        | Command::Hold { .. }
        | Command::Promote { .. } => Some(Right::Promote),
        // A side is locked from a clone.
        Command::Lock { options, .. } | Command::Unlock(options) => {
            options.side.is_none().then_some(Right::Promote)
        }
        Command::Hook { .. }
        | Command::Adopt
        | Command::Generate { .. }
        | Command::Panel { .. }
        | Command::Push { .. } => None,
    }
}

/// Returns the repository that `-C` names by its path or file name; without `-C`, the only one.
fn choose(named: Option<&Path>, repositories: &[PathBuf]) -> Result<PathBuf> {
    let found: Vec<&PathBuf> = match named {
        Some(name) => repositories.iter().filter(|path| path.ends_with(name)).collect(),
        None => repositories.iter().collect(),
    };
    match (&found[..], named) {
        ([path], _) => Ok((*path).clone()),
        ([], Some(named)) => {
            Err(Error::UnknownRepository { named: named.into(), there: names(repositories) })
        }
        ([], None) => Err(Error::NoRepository),
        _ => Err(Error::SeveralRepositories(names(repositories))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn ask(line: &str) -> String {
        let repositories = ["/home/deploy/sample_app".into()];
        match parse(line, Role::All, &repositories, None) {
            Ok(Ok(cli)) => format!("{} {:?}", cli.repository.unwrap().display(), cli.command),
            Ok(Err(error)) => format!("clap: {}", error.kind()),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn every_command_is_either_listed_or_refused() {
        let arguments =
            [("hook", " post-receive"), ("generate", " man"), ("push", " blue"), ("lock", " reason")];
        for command in Cli::command().get_subcommands().filter(|command| command.get_name() != "help") {
            let name = command.get_name();
            let rest = arguments.iter().find(|(verb, _)| *verb == name).map_or("", |(_, rest)| rest);
            let cli = Cli::try_parse_from(format!("bluegreen {name}{rest}").split(' ')).unwrap();
            assert_eq!(right(&cli.command).is_some(), COMMANDS.contains(&name), "{name}");
        }
    }

    #[test]
    fn a_command_finds_its_repository() {
        let status = "/home/deploy/sample_app Status(TableArgs { json: true })";
        for line in [
            "status --json",
            "status -C sample_app --json",
            "-C /home/deploy/sample_app status --json",
            "bluegreen -C 'deploy/sample_app' status --json",
        ] {
            assert_eq!(ask(line), status, "{line}");
        }
        let two = ["/home/deploy/sample_app".into(), "/srv/git/two".into()];
        let error = |line| parse(line, Role::All, &two, None).unwrap_err().to_string();
        assert_eq!(error("status"), "this account has several repositories");
        assert_eq!(error("status -C app"), "unknown repository `app`");
        assert_eq!(
            parse("status -C two", Role::All, &two, None).unwrap().unwrap().repository,
            Some("/srv/git/two".into())
        );
    }

    #[test]
    fn an_account_promotes_only_by_the_config_of_root() {
        let two = ["/home/deploy/blue".into(), "/home/deploy/green".into()];
        let front = Path::new("/etc/promote.toml");
        let ask = |line: &str, front| match parse(line, Role::All, &two, front) {
            Ok(Ok(cli)) => format!("{:?} {:?}", cli.repository, cli.command),
            Ok(Err(error)) => format!("clap: {}", error.kind()),
            Err(error) => error.to_string(),
        };
        let promoted = ask("promote blue", Some(front));
        assert!(promoted.starts_with("None Promote { side: Some(\"blue\"), yes: true,"), "{promoted}");
        assert!(promoted.contains("config: Some(\"/etc/promote.toml\")"), "{promoted}");
        assert!(ask("promote", Some(front)).starts_with("None Promote { side: None, yes: false,"));
        assert!(ask("promote -C blue green", Some(front)).starts_with("None Promote"));
        assert!(ask("public", Some(front)).contains("config: Some(\"/etc/promote.toml\")"));
        assert!(ask("public -C blue", Some(front)).starts_with("Some(\"/home/deploy/blue\") Public"));
        for line in ["promote blue --config /tmp/mine.toml", "public --config=x", "promote --trust blue"] {
            assert_eq!(ask(line, Some(front)), "this account uses the front end's own config", "{line}");
        }
        assert_eq!(ask("promote blue", None), "this server has no front end that this account may switch");
        assert_eq!(ask("public", None), "this account has several repositories");
    }

    #[test]
    fn other_commands_are_refused() {
        for (line, problem) in [
            ("id", "this account does not run `id`"),
            ("sh -c id", "this account does not run `sh`"),
            ("'status; id'", "this account does not run `status; id`"),
            ("hook post-receive", "this account does not run `hook`"),
            ("generate man status", "this account does not run `generate`"),
            ("-C sample_app generate man", "this account does not run `generate`"),
            ("hook post-receive -C status", "this account does not run `hook`"),
            ("status -C /etc", "unknown repository `/etc`"),
            ("status -C ..", "unknown repository `..`"),
            ("status $(id)", "clap: unexpected argument found"),
            ("status; id", "this account does not run `status;`"),
            ("deploy --upload-pack=id", "clap: unexpected argument found"),
            ("deploy one two", "clap: unexpected argument found"),
            ("unlock --side blue", "this account does not run `unlock`"),
            ("lock --side blue --config /etc/passwd x", "this account does not run `lock`"),
            ("status 'x", "this account does not run `status 'x`"),
            ("", "this account does not run ``"),
        ] {
            assert_eq!(ask(line), problem, "{line}");
        }
    }

    #[test]
    fn a_role_is_a_forced_command() {
        let read = |line: &str, original: Option<&str>| {
            let arguments = ["bluegreen-shell", "-c", line].map(OsString::from);
            Request::read(&arguments, original.map(OsString::from)).map_err(|error| error.to_string())
        };
        let request = |role, line: &str| Ok(Request { role, line: line.into() });
        assert_eq!(read("role read", Some("status")), request(Role::Read, "status"));
        assert_eq!(read("role push", Some("role all")), request(Role::Push, "role all"));
        assert_eq!(read("status", None), request(Role::All, "status"));
        // Without a forced command, the variable means nothing.
        assert_eq!(read("status", Some("hold")), request(Role::All, "status"));
        let no_shell = Err(Error::NoShell(&COMMANDS).to_string());
        assert_eq!(read("role all", None), no_shell);
        assert_eq!(read("role push", Some("")), no_shell);
        for name in ["", "admin", "READ", "read push", " read"] {
            let expected = format!("this key has the unknown role `{name}`");
            assert_eq!(read(&format!("role {name}"), Some("status")), Err(expected));
        }
    }

    #[test]
    fn each_role_includes_its_commands() {
        let repositories = ["/home/deploy/sample_app".into()];
        let reading = ["status", "public", "releases", "history", "log", "check", "metrics"];
        for command in COMMANDS {
            let line = if command == "lock" { "lock reason" } else { command };
            let front = Some(Path::new("/etc/promote.toml"));
            let may = |role| matches!(parse(line, role, &repositories, front), Ok(Ok(_)));
            let is_reading = reading.contains(&command);
            let all = [Role::All, Role::Promote, Role::Push, Role::Read, Role::Unknown].map(may);
            assert_eq!(all, [true, true, is_reading, is_reading, false], "{command}");
        }
        let error = parse("rollback", Role::Push, &repositories, None).unwrap_err();
        assert_eq!(error.to_string(), "the role `push` of this key does not include `rollback`");
    }

    #[test]
    fn the_commands_of_git_are_recognised() {
        for line in ["git-receive-pack 'sample_app'", "git upload-pack 'x'", "git-upload-archive 'x'"] {
            assert!(git_shell::verb(line).is_some(), "{line}");
        }
        for line in ["git", "git-shell", "git status", "git-receive-packs", "gitreceive-pack x"] {
            assert!(git_shell::verb(line).is_none(), "{line}");
        }
    }

    #[test]
    fn a_login_shell_has_a_dash() {
        for (path, expected) in [
            ("-bluegreen-shell", true),
            ("bluegreen-shell", true),
            ("/usr/local/bin/bluegreen-shell", true),
            ("bluegreen", false),
            ("post-receive", false),
        ] {
            assert_eq!(is_called_as(Path::new(path)), expected, "{path}");
        }
    }
}
