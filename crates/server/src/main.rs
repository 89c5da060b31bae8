//! The `switchboard` command. What it does is in [`switchboard_server::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    switchboard_server::cli::main()
}
