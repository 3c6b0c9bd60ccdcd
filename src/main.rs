//! The program: a hook or a command line, by the name that it is called.

use std::process::ExitCode;

fn main() -> ExitCode {
    bluegreen::command::close_inherited();
    // Most pushes deploy nothing, and what they do not use they need not wait for.
    if std::env::var_os("RUST_LOG").is_some() {
        env_logger::init();
    }
    ExitCode::from(bluegreen::command::run(std::env::args_os().collect()))
}
