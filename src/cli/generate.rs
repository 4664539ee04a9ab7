//! `ringway completions` and `ringway man`: what packages ship beside the binary.

use std::{io, path::PathBuf};

use clap::CommandFactory;

use super::{Failed, exit, fail, say};

/// Arguments of `ringway completions`.
#[derive(Debug, clap::Args)]
pub(super) struct Completions {
    /// The shell
    shell: clap_complete::Shell,
}

/// Arguments of `ringway man`.
#[derive(Debug, clap::Args)]
pub(super) struct Man {
    /// Directory to write to; it must exist
    #[arg(short, long, value_name = "DIR")]
    out: PathBuf,
}

/// Prints the script.
pub(super) fn completions(arguments: &Completions) -> Result<(), Failed> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut super::Arguments::command(), "ringway", &mut script);
    say(String::from_utf8_lossy(&script).trim_end());
    Ok(())
}

/// Writes one page for the program and one for each subcommand.
pub(super) fn man(arguments: &Man) -> Result<(), Failed> {
    let written: io::Result<()> = clap_mangen::generate_to(super::Arguments::command(), &arguments.out);
    written.map_err(|error| fail(exit::FAILURE, format_args!("{}: {error}", arguments.out.display())))
}
