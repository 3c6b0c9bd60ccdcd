//! The program: a hook or a command line, by the name that it is called.

use std::process::ExitCode;

fn main() -> ExitCode {
    env_logger::init();
    ExitCode::from(bluegreen::command::run(std::env::args_os().collect()))
}
