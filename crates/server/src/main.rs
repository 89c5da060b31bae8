//! The `switchboard` command. What it does is in [`switchboard_server::cli`].

use std::process::ExitCode;

/// Gives back what closed connections had (`docs/decisions/0004-jemalloc.md`).
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    switchboard_server::cli::main()
}
