//! `ringway config`: the configuration in force, and its schema.

use super::{Failed, FileArgument, load, say};

/// Subcommands of `ringway config`.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Print the configuration with its defaults filled in
    Show(FileArgument),
    /// Print the JSON Schema of configuration files
    Schema,
}

/// Prints what was asked for.
pub(super) fn run(command: &Command) -> Result<(), Failed> {
    match command {
        Command::Show(file) => say(load(file)?.effective.trim_end()),
        Command::Schema => {
            let schema = crate::config::schema();
            say(&serde_json::to_string_pretty(&schema).expect("a JSON value is always JSON"));
        }
    }
    Ok(())
}
