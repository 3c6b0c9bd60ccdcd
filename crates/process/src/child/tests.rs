//! Tests of the engine, with real processes.

use super::*;

fn shell(line: &str) -> Command {
    let mut shell = command("sh");
    shell.args(["-c", line]);
    shell
}

const TIMEOUT: Duration = Duration::from_secs(20);

#[test]
fn output_is_read_to_its_end_however_slow_the_reader_is() {
    let mut length = 0;
    let end = run(&mut shell("head -c 65536 /dev/zero"), TIMEOUT, None, |bytes| {
        std::thread::sleep(Duration::from_millis(200));
        length += bytes.len();
    });
    assert!(matches!(end.unwrap(), End::Exited(status) if status.success()));
    assert_eq!(length, 65536);
}

#[test]
fn a_background_process_that_keeps_the_pipe_open_costs_only_a_moment() {
    let started = Instant::now();
    let mut program = shell("sleep 20 & echo answer");
    let (end, captured) = Task::start(&mut program, TIMEOUT, 100).unwrap().finish(None).unwrap();
    assert!(matches!(end, End::Exited(status) if status.success()));
    assert_eq!(captured.stdout, b"answer\n");
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}

#[test]
fn endless_output_is_an_error() {
    let limits = Limits { timeout: TIMEOUT, stop: None };
    let error = output(&mut shell("yes"), b"", limits, 100_000, |_| ()).unwrap_err();
    assert_eq!(error.to_string(), "it printed more than 100 kB");
    // Of standard error, the end is kept.
    let mut program = shell("seq 100000 >&2; echo last >&2");
    let (_, captured) = Task::start(&mut program, TIMEOUT, 0).unwrap().finish(None).unwrap();
    assert!(captured.stderr.ends_with(b"100000\nlast\n") && captured.stderr.len() <= 2 * MAX_STDERR);
}

#[test]
fn a_timeout_is_never_an_empty_answer() {
    let limits = Limits { timeout: Duration::from_millis(100), stop: None };
    let (end, _) = output(&mut shell("sleep 20; echo late"), b"", limits, 100, |_| ()).unwrap();
    assert_eq!(end, End::TimedOut);
}

#[test]
fn input_and_output_of_any_size_do_not_block_each_other() {
    let input = vec![b'x'; 3 << 20];
    let limits = Limits { timeout: TIMEOUT, stop: None };
    let (_, answer) = output(&mut command("cat"), &input, limits, 4 << 20, |_| ()).unwrap();
    assert!(answer == input);
    let end = run_with_stdin(&mut command("true"), &input, TIMEOUT, |_| ()).unwrap();
    assert!(matches!(end, End::Exited(status) if status.success()));
}

#[test]
fn a_program_that_does_not_exist_is_an_error() {
    assert!(Task::start(&mut command("/nowhere/program"), TIMEOUT, 0).is_err());
}
