//! The program: hands the command line over and turns the result into an exit code.

use std::process::ExitCode;

/// Chosen over the system's allocator and jemalloc by measurement: see `benches/README.md`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    ringway::cli::run()
}
