//! `ringway lookup`: who owns a key, by the configuration alone.

use std::{
    fmt::Write,
    net::{IpAddr, Ipv4Addr},
};

use super::{Failed, FileArgument, exit, fail, load, say};
use crate::{
    app::{make_plan, offline_view},
    proxy::{
        explain::{Explanation, Question, explain},
        key::{Facts, Fields},
    },
    upstream::Approach,
};

/// Arguments of `ringway lookup`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "All backends are taken to be serving. What a running proxy would do with those that are, it says\n\
                        itself, on its admin listener: /api/lookup?pool=POOL&key=KEY"
)]
pub(super) struct Arguments {
    #[command(flatten)]
    file: FileArgument,
    /// The key
    #[arg(required_unless_present = "uri", conflicts_with = "uri")]
    key: Option<String>,
    /// The pool; needed if there are several and a key is asked about
    #[arg(short, long)]
    pool: Option<String>,
    /// Ask about a request with this target, for example /images/logo.png?v=2 or http://example.org/
    #[arg(long)]
    uri: Option<String>,
    /// The request's method
    #[arg(long, default_value = "GET", requires = "uri")]
    method: String,
    /// A header of the request, as NAME:VALUE; may be repeated
    #[arg(short = 'H', long = "header", requires = "uri")]
    headers: Vec<String>,
    /// The client's address
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST), requires = "uri")]
    client: IpAddr,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Looks the key up.
pub(super) fn run(arguments: &Arguments) -> Result<(), Failed> {
    let loaded = load(&arguments.file)?;
    let view = offline_view(&loaded.config).map_err(|error| fail(exit::CONFIG, error))?;
    let plan = make_plan(&loaded.config, &vec![Approach::default(); loaded.config.pools.len()], 1, None);
    let mut headers = Vec::new();
    for header in &arguments.headers {
        let (name, value) =
            header.split_once(':').ok_or_else(|| fail(exit::USAGE, "write a header as NAME:VALUE"))?;
        headers.push((name.trim().to_owned(), value.trim().to_owned()));
    }
    let explanation = match (&arguments.key, &arguments.uri) {
        (_, Some(uri)) => {
            let uri: hyper::Uri =
                uri.parse().map_err(|error| fail(exit::USAGE, format_args!("--uri: {error}")))?;
            let host =
                headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("host")).map(|(_, value)| &**value);
            let facts = Facts {
                method: arguments.method.as_bytes(),
                authority: uri.authority().map(|a| a.as_str()).or(host).unwrap_or_default().as_bytes(),
                path: uri.path().as_bytes(),
                query: uri.query().map(str::as_bytes),
                client: arguments.client,
                fields: Fields::List(&headers),
            };
            explain(
                &view,
                &plan,
                std::time::Instant::now(),
                Question::Request { pool: arguments.pool.as_deref(), facts },
            )
        }
        (key, None) => {
            let key = key.as_deref().unwrap_or_default().as_bytes();
            let only = (view.pools.len() == 1).then(|| view.pools[0].pool.name.clone());
            let pool = arguments.pool.as_deref().or(only.as_deref());
            let pool =
                pool.ok_or_else(|| fail(exit::USAGE, "there are several pools: say which with --pool"))?;
            explain(&view, &plan, std::time::Instant::now(), Question::Key { pool, key })
        }
    };
    let explanation = explanation.map_err(|error| fail(exit::FAILURE, error))?;
    if arguments.json {
        say(&serde_json::to_string_pretty(&explanation).expect("the answer's type is all JSON"));
    } else {
        say(describe(&explanation).trim_end());
    }
    Ok(())
}

fn describe(explanation: &Explanation) -> String {
    const FITS: &str = "a string takes all that is written";
    let mut out = String::new();
    writeln!(out, "pool    {}", explanation.pool).expect(FITS);
    if let Some(key) = &explanation.key {
        let source =
            explanation.key_source.as_ref().map(|source| format!(" (from {source})")).unwrap_or_default();
        writeln!(out, "key     {}{source}", key.escape_debug()).expect(FITS);
    }
    if let (Some(place), Some(hex)) = (&explanation.place, &explanation.place_hex) {
        writeln!(out, "place   {hex} ({place})").expect(FITS);
    }
    for (at, owner) in explanation.owners.iter().take(5).enumerate() {
        let title = if at == 0 { "owner " } else { "then  " };
        writeln!(out, "{title}  {} ({})", owner.backend, owner.address).expect(FITS);
    }
    if explanation.owners.len() > 5 {
        writeln!(out, "        and {} more", explanation.owners.len() - 5).expect(FITS);
    }
    if explanation.key.is_none() {
        writeln!(out, "{}", explanation.summary).expect(FITS);
    }
    out
}
