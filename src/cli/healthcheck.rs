//! `ringway healthcheck`: asks a running proxy whether it is ready, for containers that have no other program to ask with.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use super::{Failed, door::admin_address, exit, fail, say};

/// Arguments of `ringway healthcheck`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Address of the admin listener
    #[arg(long, default_value = "127.0.0.1:9180", env = "RINGWAY_ADMIN", value_parser = admin_address)]
    admin: SocketAddr,
    /// Ask whether the process lives, not whether it is ready
    #[arg(long)]
    live: bool,
}

const LIMIT: Duration = Duration::from_secs(3);

/// Asks. Exit code 0: yes; 1: no.
pub(super) fn run(arguments: &Arguments) -> Result<(), Failed> {
    let path = if arguments.live { "/livez" } else { "/readyz" };
    let answer = ask(arguments.admin, path)
        .map_err(|error| fail(exit::FAILURE, format_args!("{}: {error}", arguments.admin)))?;
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body).trim();
    if answer.starts_with("HTTP/1.1 200 ") {
        say(body);
        Ok(())
    } else {
        Err(fail(exit::FAILURE, format_args!("{}{path}: {body}", arguments.admin)))
    }
}

fn ask(admin: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&admin, LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {admin}\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(64 * 1024).read_to_string(&mut answer)?;
    Ok(answer)
}
