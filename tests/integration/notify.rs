//! `[notify]`: which commands run for which events. A notice changes nothing else.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::Sandbox;
use crate::support::sandbox::BLUEGREEN;
use crate::support::skip::program_or_skip;
use serde_json::Value;

/// A sandbox with these lines in `[notify]`.
fn with_notices(lines: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.config_section(&format!("[notify]\n{lines}"));
    sandbox
}

/// Returns the contents of a file that a notice wrote into the site, and removes the file.
fn take(sandbox: &Sandbox, name: &str) -> String {
    let file = sandbox.site().join(name);
    let text = fs::read_to_string(&file).unwrap_or_default();
    let _ = fs::remove_file(file);
    text
}

fn log(sandbox: &Sandbox) -> String {
    fs::read_to_string(sandbox.site().join(".bluegreen/notify.log")).unwrap_or_default()
}

#[test]
fn each_outcome_is_notified_once_with_its_history_entry() {
    let sandbox = with_notices(
        "run = ['cat >>told', 'printf \"%s %s %s\\n\" \"$BLUEGREEN_ACTION\" \"$BLUEGREEN_OUTCOME\" \"$BLUEGREEN_NOTICE\" >>words']",
    );
    sandbox.config_section("[steps]\ncheck = '! test -e broken'\n");
    let told = |action: &str, words: &str| {
        let lines = take(&sandbox, "told");
        assert_eq!(serde_json::from_str::<Value>(&lines).unwrap(), *sandbox.history().last().unwrap());
        let said = take(&sandbox, "words");
        assert!(said.starts_with(action) && said.contains(words), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    };
    sandbox.commit("index.html", "v1").push().ok();
    let id = sandbox.id("master");
    told("deploy live blue: deployment of ", &format!("{} by ", &id[..12]));
    sandbox.commit("index.html", "v2").push().ok();
    told("deploy live ", ": live (");
    sandbox.bluegreen(&["rollback"]).ok();
    told("rollback live ", "blue: rollback of ");
    sandbox.commit("broken", "").push().not_deployed();
    told("deploy failed ", ": failed: step `! test -e broken` exited with status 1 (");

    // A no-op triggers no notice.
    sandbox.push_refs(&["master:topic"]).ok();
    sandbox.commit_to("master", "Mend", &[(b"broken", crate::support::tree::Node::Nothing)]).push().ok();
    told("deploy live ", "");
    let id = sandbox.id("master");
    sandbox.as_git(format!("{id} {id} refs/heads/master\n")).ok();
    sandbox.bluegreen(&["deploy", "nothing"]).fails(1);
    assert_eq!(take(&sandbox, "told"), "");
}

#[test]
fn a_failed_notice_prints_a_warning_and_the_others_run() {
    let sandbox = with_notices(
        "run = ['exit 3', { name = 'chat', run = 'echo first; echo no such host >&2; false' }, 'kill -9 $$', 'cat >told']",
    );
    let warnings = [
        "warning: notice `exit 3` exited with status 3",
        "warning: notice `chat` exited with status 1: no such host",
        "warning: notice `kill -9 $$` was killed by SIGKILL",
    ];
    let mut run = sandbox.commit("index.html", "v1").push().warned().serves("index.html", "v1");
    for warning in warnings {
        run = run.says(warning);
    }
    assert_eq!(run.lines().last().unwrap(), "Git hooks deploy complete.");
    assert!(take(&sandbox, "told").contains("\"outcome\":\"live\""));
    let log = log(&sandbox);
    assert!(log.contains(" notify: chat: echo first; "), "{log}");
    assert!(log.contains("\nfirst\nno such host\n--- exited with status 1, "), "{log}");

    // After a failure, the last line still says what is live.
    sandbox.config_section("[steps]\ncheck = 'false'");
    let run = sandbox.commit("index.html", "v2").push().not_deployed().says(warnings[1]);
    assert!(run.lines().last().unwrap().starts_with("Not deployed: blue still serves "));
}

#[test]
fn notices_have_a_timeout_and_run_without_the_lock() {
    // Each would hold up the push for a minute. One hangs, and one leaves a child that keeps its output open.
    let sandbox = with_notices(
        "timeout = '1s'\nrun = ['cat >/dev/null; sleep 60', 'sleep 60 & exit 0', 'flock -n .bluegreen/lock touch free', \
         'test $(ps -o pgid= -p $$) = $$ && ! test -t 0']",
    );
    let start = Instant::now();
    let hangs = "warning: notice `cat >/dev/null; sleep 60` timed out after 1s";
    sandbox.commit("index.html", "v1").push().warned().says(hangs).serves("index.html", "v1");
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    assert!(sandbox.site().join("free").exists());
    assert!(!log(&sandbox).contains("status"), "{}", log(&sandbox));
}

#[test]
fn a_notice_that_changes_the_site_triggers_no_notice() {
    let sandbox = with_notices("run = 'echo >>count; $PROGRAM -C $REPOSITORY rollback'");
    let repository = sandbox.repository();
    sandbox
        .config_section(&format!("[env]\nPROGRAM = '{BLUEGREEN}'\nREPOSITORY = '{}'", repository.display()));
    sandbox.commit("index.html", "v1").push().warned();
    sandbox.commit("index.html", "v2").push().ok().serves("index.html", "v1");
    assert_eq!(take(&sandbox, "count").len(), 2);
    assert_eq!(sandbox.history().len(), 4, "a failed rollback is recorded too");
}

#[test]
fn the_notify_log_is_truncated_at_its_limit() {
    let sandbox = with_notices("run = 'head -c 2000000 /dev/zero; echo end'");
    sandbox.commit("index.html", "v1").push().ok();
    assert!(log(&sandbox).len() > 2_000_000);
    let config = fs::read_to_string(sandbox.config_path()).unwrap();
    sandbox.raw_config(&config.replace("head -c 2000000 /dev/zero; ", ""));
    sandbox.commit("index.html", "v2").push().ok();
    let log = log(&sandbox);
    assert!(log.len() < 200 && log.contains("\nend\n--- done, "), "{log}");
}

/// Accepts one connection, and sends the result of `talk` to the channel.
fn receive(
    talk: impl FnOnce(&mut dyn BufRead, &mut dyn Write) -> String + Send + 'static,
) -> (u16, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, received) = channel();
    thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut out = stream.try_clone().unwrap();
        sender.send(talk(&mut BufReader::new(stream), &mut out)).unwrap();
    });
    (port, received)
}

fn line(input: &mut dyn BufRead) -> String {
    let mut line = String::new();
    input.read_line(&mut line).unwrap();
    line.trim_end().to_owned()
}

/// A mail server. Returns the text of one mail.
fn take_mail(input: &mut dyn BufRead, out: &mut dyn Write) -> String {
    let mut text = String::new();
    writeln!(out, "220 here\r").unwrap();
    loop {
        match line(input) {
            word if word.starts_with("DATA") => {
                writeln!(out, "354 go on\r").unwrap();
                let lines = std::iter::repeat_with(|| line(input)).take_while(|line| line != ".");
                text = lines.map(|line| line + "\n").collect();
                writeln!(out, "250 taken\r").unwrap();
            }
            word if word.starts_with("QUIT") || word.is_empty() => return text,
            _ => writeln!(out, "250 well\r").unwrap(),
        }
    }
}

/// A chat's webhook. Returns the body of one request.
fn take_request(input: &mut dyn BufRead, out: &mut dyn Write) -> String {
    let mut length = 0;
    for header in
        std::iter::repeat_with(|| line(input)).take_while(|line| !line.is_empty()).collect::<Vec<_>>()
    {
        if let Some(value) = header.to_lowercase().strip_prefix("content-length: ") {
            length = value.parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    input.read_exact(&mut body).unwrap();
    write!(out, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
    String::from_utf8(body).unwrap()
}

#[test]
fn documented_notices_reach_a_log_a_mailbox_and_a_chat() {
    if !["logger", "msmtp", "jq", "curl"].into_iter().all(program_or_skip) {
        return;
    }
    let page =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/howto/notify.md")).unwrap();
    let block = page.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let sandbox = Sandbox::new();
    let socket = sandbox.path("log");
    let system_log = UnixDatagram::bind(&socket).unwrap();
    let (mail_port, mail) = receive(take_mail);
    let (chat_port, chat) = receive(take_request);
    let home = sandbox.path("home");
    let mail_config = format!("account default\nhost 127.0.0.1\nport {mail_port}\nfrom deploy@blue\n");
    for (name, text) in [
        (".msmtprc", mail_config),
        ("chat.curl", format!("url = \"http://127.0.0.1:{chat_port}/hook/secret\"\n")),
    ] {
        fs::write(home.join(name), text).unwrap();
        fs::set_permissions(home.join(name), fs::Permissions::from_mode(0o600)).unwrap();
    }
    // The test must not write to the machine's log or send real mail.
    let lines = block
        .replace("logger -t", &format!("logger --socket {} -t", socket.display()))
        .replace("/usr/sbin/sendmail", "msmtp");
    sandbox.config_section(&format!("{lines}\n[steps]\nbuild = 'false'\n[env]\nHOME = '{}'", home.display()));
    sandbox.commit("index.html", "v1").push().not_deployed();
    let id = sandbox.id("master");
    let ends = ": failed: step `false` exited with status 1 (";
    let is_told =
        |text: &str| text.contains(&format!("blue: deployment of {} by ", &id[..12])) && text.contains(ends);
    let mut datagram = [0; 2000];
    let length = system_log.recv(&mut datagram).unwrap();
    let logged = String::from_utf8_lossy(&datagram[..length]).into_owned();
    assert!(is_told(&logged) && logged.contains("bluegreen"), "{logged}");
    let patience = Duration::from_secs(10);
    let mail = mail.recv_timeout(patience).unwrap();
    let (headers, body) = mail.split_once("\n\n").unwrap();
    assert!(is_told(headers.lines().find(|line| line.starts_with("Subject: ")).unwrap()), "{mail}");
    assert_eq!(serde_json::from_str::<Value>(body).unwrap(), sandbox.history()[0]);
    let said: Value = serde_json::from_str(&chat.recv_timeout(patience).unwrap()).unwrap();
    assert!(is_told(said["text"].as_str().unwrap()), "{said}");
}
