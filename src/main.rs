//! The program's entry point: arguments in, exit status out.

use std::process::ExitCode;

fn main() -> ExitCode {
    bluegreen::command::close_inherited();
    // Start the logger only on request: most pushes deploy nothing and must not wait for it.
    if std::env::var_os("RUST_LOG").is_some() {
        env_logger::init();
    }
    ExitCode::from(bluegreen::command::run(&std::env::args_os().collect::<Vec<_>>()))
}
