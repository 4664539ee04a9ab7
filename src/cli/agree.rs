//! `ringway agree`: whether proxies place keys alike and see the same backends up.
//!
//! Owns the asking, all at once, and what is printed. What counts as a difference stands in [`compare`].

mod compare;

use std::{collections::BTreeMap, fmt::Write, path::PathBuf, time::Duration};

use serde::Serialize;

use self::compare::{Difference, Layer, Told, compare};
use super::{
    Failed,
    door::{admin_address, ask},
    exit, fail, say,
};
use crate::limits::AGREE_PROXIES;

/// The rings are alike, but not the same backends serve.
const DIFFER_IN_SERVING: u8 = 3;
/// The rings differ.
const DIFFER_IN_RING: u8 = 4;

/// Arguments of `ringway agree`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 they agree; 3 the rings are alike, but not the same backends serve; 4 the rings differ;\n\
                        1 what could be asked agrees, but not all could, or only one. Ramps, addresses and revisions are told and do not count.\n\n\
                        Example:\n  ringway agree 10.0.0.1:9180 10.0.0.2:9180 --token-file /etc/ringway/admin.token"
)]
pub(super) struct Arguments {
    /// Addresses of admin listeners, as HOST:PORT or http://HOST:PORT
    #[arg(required = true, num_args = 2.., value_name = "URL")]
    proxies: Vec<String>,
    /// A file whose first line is the admin token; one for all, or one for each proxy in their order
    #[arg(long = "token-file", value_name = "FILE", env = "RINGWAY_TOKEN_FILE")]
    token_files: Vec<PathBuf>,
    /// How long each answer may take
    #[arg(long, default_value = "5s", value_parser = some_time, value_name = "TIME")]
    timeout: Duration,
    /// The form of what is printed
    #[arg(long, value_enum, default_value_t = Format::Human)]
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// For people
    Human,
    /// For programs
    Json,
}

/// What it comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    Agree,
    /// Those that could be asked do, or there are not two of them.
    Unreachable,
    Serving,
    Ring,
}

/// One proxy, as it was found.
#[derive(Debug, Serialize)]
struct Proxy {
    url: String,
    /// Revision of its view. Each process counts its own.
    revision: Option<u64>,
    /// By pool, the fingerprint of the ring and that of who serves.
    pools: BTreeMap<String, [String; 2]>,
    /// Why it could not be asked.
    error: Option<String>,
}

#[derive(Debug, Serialize)]
struct Findings {
    verdict: Verdict,
    proxies: Vec<Proxy>,
    differences: Vec<Difference>,
}

fn some_time(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(Duration::ZERO) => Err("no answer comes in no time: write for example 5s".to_owned()),
        parsed => parsed.map_err(|error| error.to_string()),
    }
}

/// Asks all, and compares.
pub(super) fn run(arguments: &Arguments) -> Result<(), Failed> {
    let tokens = tokens(arguments)?;
    let token = |at: usize| tokens.get(at).or(tokens.first()).map(String::as_str);
    let answers: Vec<Result<Told, String>> = std::thread::scope(|scope| {
        let asked: Vec<_> = arguments
            .proxies
            .iter()
            .enumerate()
            .map(|(at, url)| scope.spawn(move || pools_of(url, token(at), arguments.timeout)))
            .collect();
        let gone = |_| Err("the question came to a bad end".to_owned());
        asked.into_iter().map(|thread| thread.join().unwrap_or_else(gone)).collect()
    });
    let findings = judge(&arguments.proxies, &answers);
    match arguments.format {
        Format::Json => {
            say(&serde_json::to_string_pretty(&findings).expect("the findings' types are all JSON"));
        }
        Format::Human => say(describe(&findings).trim_end()),
    }
    let code = match findings.verdict {
        Verdict::Agree => return Ok(()),
        Verdict::Unreachable => exit::FAILURE,
        Verdict::Serving => DIFFER_IN_SERVING,
        Verdict::Ring => DIFFER_IN_RING,
    };
    Err(Failed { code, reason: sentence(&findings).to_owned() })
}

fn tokens(arguments: &Arguments) -> Result<Vec<String>, Failed> {
    let (proxies, files) = (arguments.proxies.len(), arguments.token_files.len());
    if proxies > AGREE_PROXIES {
        return Err(fail(exit::USAGE, format_args!("{proxies} proxies; {AGREE_PROXIES} is the most")));
    }
    if files > 1 && files != proxies {
        let problem = format_args!("{files} token files for {proxies} proxies: write one, or one for each");
        return Err(fail(exit::USAGE, problem));
    }
    let again = arguments.proxies.iter().enumerate().find(|(at, url)| arguments.proxies[..*at].contains(url));
    if let Some((_, url)) = again {
        return Err(fail(exit::USAGE, format_args!("{url} is named twice: it agrees with itself")));
    }
    let read = |file: &PathBuf| {
        let text = std::fs::read_to_string(file)
            .map_err(|error| fail(exit::FAILURE, format_args!("{}: {error}", file.display())))?;
        Ok(text.lines().next().unwrap_or_default().trim().to_owned())
    };
    arguments.token_files.iter().map(read).collect()
}

fn pools_of(url: &str, token: Option<&str>, limit: Duration) -> Result<Told, String> {
    let address = admin_address(url)?;
    let said = ask(address, "GET /api/pools", token, b"", Some(limit)).map_err(|error| error.to_string())?;
    match said.status {
        200 => {
            serde_json::from_slice(&said.body).map_err(|error| format!("that is no list of pools: {error}"))
        }
        401 if token.is_none() => Err("it wants a token: --token-file FILE".to_owned()),
        401 => Err("the token is not its own".to_owned()),
        _ => Err(said.problem()),
    }
}

fn judge(urls: &[String], answers: &[Result<Told, String>]) -> Findings {
    let told: Vec<(&str, &Told)> = urls
        .iter()
        .zip(answers)
        .filter_map(|(url, answer)| Some((url.as_str(), answer.as_ref().ok()?)))
        .collect();
    let differences = compare(&told);
    let verdict = match differences.iter().map(|difference| difference.layer).max() {
        Some(Layer::Ring) => Verdict::Ring,
        Some(Layer::Serving) => Verdict::Serving,
        _ if told.len() < urls.len() => Verdict::Unreachable,
        _ => Verdict::Agree,
    };
    let proxies = urls.iter().zip(answers).map(|(url, answer)| Proxy {
        url: url.clone(),
        revision: answer.as_ref().ok().map(|told| told.revision),
        pools: answer.as_ref().map_or_else(|_| BTreeMap::new(), Told::fingerprints),
        error: answer.as_ref().err().cloned(),
    });
    Findings { verdict, proxies: proxies.collect(), differences }
}

fn sentence(findings: &Findings) -> &'static str {
    match findings.verdict {
        Verdict::Agree => "they agree: every key has the same owners everywhere, and the same backends serve",
        Verdict::Unreachable => match findings.proxies.iter().filter(|proxy| proxy.error.is_none()).count() {
            0 => "none could be asked",
            1 => "only one could be asked: there is nothing to compare it with",
            _ => "not all could be asked; the others agree",
        },
        Verdict::Serving => "the rings are alike, but not the same backends serve: some keys go elsewhere",
        Verdict::Ring => "the rings differ: keys have other owners",
    }
}

fn describe(findings: &Findings) -> String {
    const FITS: &str = "a string takes all that is written";
    let mut out = String::new();
    let widest = findings.proxies.iter().map(|proxy| proxy.url.len()).max().unwrap_or_default();
    for Proxy { url, revision, pools, error } in &findings.proxies {
        match (revision, error) {
            (Some(revision), _) => {
                let rings =
                    pools.iter().map(|(name, [ring, _])| format!("{name} {}", &ring[..ring.len().min(8)]));
                let rings: Vec<String> = rings.collect();
                writeln!(out, "{url:widest$}  revision {revision}, rings: {}", rings.join(", ")).expect(FITS);
            }
            (None, error) => {
                let why = error.as_deref().unwrap_or_default();
                writeln!(out, "{url:widest$}  can't be asked: {why}").expect(FITS);
            }
        }
    }
    for Difference { pool, backend, what, layer, values } in &findings.differences {
        let title = match layer {
            Layer::Ring => "RING   ",
            Layer::Serving => "SERVING",
            Layer::Note => "note   ",
        };
        let subject = backend.as_ref().map_or_else(|| pool.clone(), |backend| format!("{pool}/{backend}"));
        let said: Vec<String> =
            values.iter().map(|said| format!("{} at {}", said.value, said.proxies.join(", "))).collect();
        writeln!(out, "{title}  {subject}: {}: {}", what.replace('_', " "), said.join("; ")).expect(FITS);
    }
    writeln!(out, "{}", sentence(findings)).expect(FITS);
    out
}
