//! `ringway demo`: the real proxy, with a real configuration, in front of five backends that live in the same process.
//!
//! Owns the words on the screen. The backends stand in `backends`.

mod backends;

use std::{fmt::Write, net::SocketAddr, path::PathBuf, time::Duration};

use super::{Failed, exit, fail, run::serve, runtime, say};
use crate::{
    app::{Inherited, Running},
    config::Loaded,
    telemetry::{LogFormat, LogPolicy, log},
};
use backends::Stage;

/// Arguments of `ringway demo`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Port of the proxy; 0 lets the system choose
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Port of the admin listener; 0 lets the system choose
    #[arg(long, default_value_t = 0)]
    admin_port: u16,
    /// Number of backends
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u8).range(1..=50))]
    backends: u8,
    /// Write the configuration to a file, as a start for your own
    #[arg(long, value_name = "FILE")]
    write_config: Option<PathBuf>,
    /// End after so many seconds
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<u64>,
}

/// Runs until Ctrl-C.
pub(super) fn run(arguments: &Arguments) -> Result<(), Failed> {
    runtime()?.block_on(demo(arguments))
}

async fn demo(arguments: &Arguments) -> Result<(), Failed> {
    let policy = LogPolicy { level: "warn,ringway=info".into(), format: LogFormat::Human };
    let _log = log::start(&policy).map_err(|error| fail(exit::FAILURE, error))?;
    let stage = Stage::start(arguments.backends)
        .map_err(|error| fail(exit::FAILURE, format_args!("demo: {error}")))?;
    let text = configuration(arguments, &stage);
    if let Some(file) = &arguments.write_config {
        std::fs::write(file, &text)
            .map_err(|error| fail(exit::FAILURE, format_args!("{}: {error}", file.display())))?;
    }
    let loaded: Loaded =
        crate::config::parse(&text, "demo.toml").map_err(|errors| fail(exit::CONFIG, errors))?;
    let control = stage.control;
    let names: Vec<String> = stage.names().map(str::to_owned).collect();
    let written = arguments.write_config.clone();
    let mut nobody = None;
    let serve = serve((loaded, None), Inherited::default(), &mut nobody, move |running| {
        tell(running, control, &names, written.as_deref())
    });
    match arguments.seconds {
        None => serve.await.map(drop),
        Some(seconds) => match tokio::time::timeout(Duration::from_secs(seconds), serve).await {
            Ok(stopped) => stopped.map(drop),
            Err(_) => Ok(()),
        },
    }
}

fn configuration(arguments: &Arguments, stage: &Stage) -> String {
    const FITS: &str = "a string takes all that is written";
    let mut text = String::new();
    writeln!(
        text,
        "# The configuration of `ringway demo`.\n\n\
         [[listeners]]\naddress = \"127.0.0.1:{}\"\n\n\
         [admin]\naddress = \"127.0.0.1:{}\"\n\n\
         [pools.demo]\n\
         # The key: this header, or else the path.\n\
         key = [\"header:x-user\", \"path\"]\n\
         backends = [",
        arguments.port, arguments.admin_port
    )
    .expect(FITS);
    for (name, address) in stage.addresses() {
        writeln!(text, "  {{ name = \"{name}\", address = \"{address}\" }},").expect(FITS);
    }
    writeln!(
        text,
        "]\n\n[pools.demo.health]\nkind = \"http\"\npath = \"/health\"\ninterval = \"1s\"\n\
         changing_interval = \"250ms\"\ntimeout = \"500ms\"\nrise = 2\nfall = 2"
    )
    .expect(FITS);
    text
}

fn tell(running: &Running, control: SocketAddr, names: &[String], written: Option<&std::path::Path>) {
    let proxy = running.listeners.first().expect("the demo's configuration has a listener");
    let admin = running.admin.expect("the demo's configuration has an admin listener");
    let view = running.view();
    let ring = &view.pools[0].ring;
    let owner = ring
        .owner(crate::ring::Place::of(b"user-42"))
        .map(|owner| ring.member(owner).name.to_string())
        .expect("the demo's backends are on the ring");
    say(&format!(
        "\nRingway is running: {count} backends behind http://{proxy}\n\
         Watch it in a browser:  http://{admin}/\n\n\
         Try, in another terminal:\n\n\
         \x20 # The same key twice: the same backend twice.\n\
         \x20 curl -s http://{proxy}/ -H 'x-user: user-42'\n\
         \x20 curl -s http://{proxy}/ -H 'x-user: user-42'\n\n\
         \x20 # Who owns it, and who comes next?\n\
         \x20 curl -s 'http://{admin}/api/lookup?key=user-42'\n\n\
         \x20 # Stop its owner: the next one on the ring stands in at once, and no other key moves.\n\
         \x20 curl -s -X POST http://{control}/{owner}/stop\n\
         \x20 curl -s http://{proxy}/ -H 'x-user: user-42'\n\n\
         \x20 # Bring it back: within two seconds its keys, and no others, return.\n\
         \x20 curl -s -X POST http://{control}/{owner}/start\n\
         \x20 curl -s http://{proxy}/ -H 'x-user: user-42'\n\n\
         \x20 # Make one slow, let it fail, let it flap, or heal it: slow, fail, flap, heal.\n\
         \x20 curl -s -X POST http://{control}/{other}/flap\n\n\
         \x20 # Everything else.\n\
         \x20 curl -s http://{admin}/api/pools\n\
         \x20 curl -s http://{admin}/metrics\n\n\
         Backends: {names}.{written} Ctrl-C ends it.\n",
        count = names.len(),
        other = names.iter().find(|name| **name != owner).unwrap_or(&owner),
        names = names.join(", "),
        written =
            written.map(|file| format!(" The configuration is in {}.", file.display())).unwrap_or_default(),
    ));
}
