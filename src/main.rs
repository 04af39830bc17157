//! The program: everything is in the library, so that tests can put another machine behind it.

use std::process::ExitCode;

fn main() -> ExitCode {
    bundle::cli::main(&bundle::cli::machine)
}
