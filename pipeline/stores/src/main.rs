//! `lapidary-stores`: answers the other binaries' requests about object stores, on stdin and stdout.

use std::process::ExitCode;

fn main() -> ExitCode {
    match lapidary_stores::serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}\nhint: Lapidary's other binaries start this one when they are given a URL");
            ExitCode::from(1)
        }
    }
}
