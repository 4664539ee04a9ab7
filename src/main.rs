//! The program: hands the command line over and turns the result into an exit code.

use std::process::ExitCode;

/// Chosen over the system's allocator and mimalloc by measurement: see `benches/README.md`.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    ringway::cli::run()
}
