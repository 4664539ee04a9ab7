//! `ringway lookup`: who owns a key, by the configuration alone or as a running proxy sees it.
//!
//! Owns what is asked, and the exit code. Who answers stands in [`source`], what is printed in [`show`].

mod show;
mod source;

pub(super) use self::show::printable;

use std::{
    ffi::OsString,
    io::{self, BufWriter, Read, Write},
    net::{IpAddr, SocketAddr},
    os::unix::ffi::OsStrExt,
    path::PathBuf,
};

use self::{
    show::{Format, Sheet},
    source::Source,
};
use super::{
    Failed, FileArgument,
    door::{Door, admin_address},
    exit, fail,
};
use crate::{
    limits::LOOKUP_LINE_BYTES,
    proxy::explain::{
        asked::{Asked, from_hex},
        brief::{Detail, Lines, lines_of},
    },
};

/// Arguments of `ringway lookup`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "From a file, all backends are taken to be serving. With --admin, a running proxy says how they stand, who\n\
                  would be chosen now, and why not those before; that takes no place at any backend and counts nowhere.\n\n\
                  Examples:\n  \
                  ringway lookup -c ringway.toml user-42\n  \
                  ringway lookup --admin 127.0.0.1:9180 -X PUT --uri /carts/7 -H 'x-user-id: user-42'\n  \
                  zcat keys.gz | ringway lookup -c ringway.toml --pool cache --format json -\n\n\
                  Exit codes: 0 somebody would serve each of them; 1 nobody would serve one of them, or there is no answer;\n\
                  2 wrong usage; 78 the configuration is wrong"
)]
pub(super) struct Arguments {
    /// Configuration file
    #[arg(short, long = "config", value_name = "FILE", env = "RINGWAY_CONFIG")]
    config: Option<PathBuf>,
    /// Ask a running proxy, at the address of its admin listener
    #[arg(long, value_name = "ADDRESS", value_parser = admin_address)]
    admin: Option<SocketAddr>,
    /// A file whose first line is the admin token
    #[arg(long, value_name = "FILE", env = "RINGWAY_TOKEN_FILE")]
    token_file: Option<PathBuf>,
    /// The pool; needed if there are several and keys are asked about
    #[arg(short, long)]
    pool: Option<String>,
    /// The key, or several; - for standard input, a key a line
    #[arg(value_name = "KEY", conflicts_with_all = ["uri", "key_hex"])]
    keys: Vec<OsString>,
    /// The key's bytes in hexadecimal digits, if they are no text
    #[arg(long, value_name = "DIGITS", conflicts_with = "uri", value_parser = digits)]
    key_hex: Option<String>,
    /// What the lines of standard input are: keys, or questions as JSON, with what /api/lookup has as parameters and `headers` as a list
    #[arg(long, value_enum, default_value = "keys")]
    input: Input,
    /// Ask about a request with this target, for example /images/logo.png?v=2 or http://example.org/
    #[arg(long)]
    uri: Option<String>,
    /// The request's method
    #[arg(
        short = 'X',
        long,
        requires = "uri",
        default_value_if("uri", clap::builder::ArgPredicate::IsPresent, "GET")
    )]
    method: Option<String>,
    /// A header of the request, as NAME:VALUE; may be repeated
    #[arg(short = 'H', long = "header", value_name = "NAME:VALUE", requires = "uri", value_parser = header)]
    headers: Vec<String>,
    /// Where the request comes from; behind a trusted proxy, headers say who the client is
    #[arg(long, value_name = "ADDRESS", requires = "uri")]
    client: Option<IpAddr>,
    /// How answers are printed; json for many is one object a line
    #[arg(long, value_enum, default_value = "human")]
    format: Format,
    /// The same as --format json
    #[arg(long)]
    json: bool,
    /// The whole walk for each of many, and not a row
    #[arg(long)]
    full: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Input {
    Keys,
    Json,
}

/// Pairs of digits, as they are.
fn digits(text: &str) -> Result<String, String> {
    from_hex(text).map(|_| text.to_owned())
}

/// A header, as it is.
fn header(text: &str) -> Result<String, &'static str> {
    if text.contains(':') { Ok(text.to_owned()) } else { Err("write it as NAME:VALUE") }
}

/// Looks keys up.
pub(super) fn run(arguments: &Arguments) -> Result<(), Failed> {
    if arguments.keys.is_empty() && arguments.key_hex.is_none() && arguments.uri.is_none() {
        return Err(fail(exit::USAGE, "name a key, or several, or a request with --uri"));
    }
    let mut source = open(arguments)?;
    let format = if arguments.json { Format::Json } else { arguments.format };
    let reads = matches!(&*arguments.keys, [key] if key == "-");
    let is_one = !reads && arguments.keys.len() <= 1;
    let detail = if is_one || arguments.full { Detail::Full } else { Detail::Brief };
    let lines = match (reads, arguments.input) {
        (true, Input::Keys) => Lines::Keys,
        _ => Lines::Json,
    };
    let out = BufWriter::with_capacity(64 * 1024, io::stdout().lock());
    let mut sheet = Sheet::new(out, format, is_one, arguments.admin.is_some());
    let done = if reads {
        from_input(&mut source, &mut sheet, lines, detail)
    } else {
        from_arguments(arguments, &mut source, &mut sheet, detail)
    };
    match done.and_then(|()| sheet.flush().map_err(Stopped::from)) {
        // Whoever reads has enough.
        Err(Stopped::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(Stopped::Output(error)) => Err(fail(exit::FAILURE, format_args!("standard output: {error}"))),
        Err(Stopped::Failed(failed)) => Err(failed),
        Ok(()) if sheet.all_served() => Ok(()),
        Ok(()) => Err(Failed { code: exit::FAILURE, reason: "nobody would serve one of them".into() }),
    }
}

/// Why no further question is answered.
enum Stopped {
    /// The answers can't be written.
    Output(io::Error),
    /// It has been told.
    Failed(Failed),
}

impl From<io::Error> for Stopped {
    fn from(error: io::Error) -> Stopped {
        Stopped::Output(error)
    }
}

impl From<Failed> for Stopped {
    fn from(failed: Failed) -> Stopped {
        Stopped::Failed(failed)
    }
}

fn open(arguments: &Arguments) -> Result<Source, Failed> {
    let pool = arguments.pool.clone();
    match (&arguments.admin, &arguments.config) {
        (Some(admin), _) => {
            let door = Door { admin: *admin, token_file: arguments.token_file.clone() };
            Source::running(&door, pool)
        }
        (None, Some(config)) => Source::file(&FileArgument { config: config.clone() }, pool),
        (None, None) => {
            Err(fail(exit::USAGE, "name a configuration with -c, or a running proxy with --admin"))
        }
    }
}

/// The questions on the command line.
fn from_arguments<W: Write>(
    arguments: &Arguments,
    source: &mut Source,
    sheet: &mut Sheet<W>,
    detail: Detail,
) -> Result<(), Stopped> {
    let asked = Asked {
        key_hex: arguments.key_hex.clone(),
        method: arguments.method.clone(),
        uri: arguments.uri.clone(),
        client: arguments.client,
        headers: arguments.headers.clone(),
        ..Asked::default()
    };
    let mut all = Vec::new();
    if arguments.keys.is_empty() {
        all.push(asked);
    } else {
        all.extend(arguments.keys.iter().map(|key| match key.to_str() {
            Some(key) => Asked { key: Some(key.to_owned()), ..Asked::default() },
            None => {
                let digits = key.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
                Asked { key_hex: Some(digits), ..Asked::default() }
            }
        }));
    }
    let mut text = Vec::new();
    for asked in all {
        serde_json::to_writer(&mut text, &asked).expect("a question is all JSON");
        text.push(b'\n');
    }
    let lines: Vec<&[u8]> = lines_of(&text).collect();
    source.ask(&lines, Lines::Json, detail, sheet)
}

/// The questions on standard input: as many at once as have come.
fn from_input<W: Write>(
    source: &mut Source,
    sheet: &mut Sheet<W>,
    lines: Lines,
    detail: Detail,
) -> Result<(), Stopped> {
    let mut input = io::stdin().lock();
    let (mut text, mut room) = (Vec::new(), vec![0; 256 * 1024]);
    loop {
        let n = match input.read(&mut room) {
            Ok(n) => n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(fail(exit::FAILURE, format_args!("standard input: {error}")).into()),
        };
        text.extend_from_slice(&room[..n]);
        let whole = if n == 0 { text.len() } else { memchr::memrchr(b'\n', &text).map_or(0, |at| at + 1) };
        if text.len() - whole > LOOKUP_LINE_BYTES {
            let problem = format_args!("standard input: a line is longer than {LOOKUP_LINE_BYTES} bytes");
            return Err(fail(exit::FAILURE, problem).into());
        }
        let questions: Vec<&[u8]> = lines_of(&text[..whole]).collect();
        source.ask(&questions, lines, detail, sheet)?;
        text.drain(..whole);
        if n == 0 {
            return Ok(());
        }
        sheet.flush()?;
    }
}
