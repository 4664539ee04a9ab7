//! What an operator asks of a running proxy, over its admin listener: `ringway reload`, `upgrade`, `drain`, `restore` and `weight`.
//!
//! Owns the asking. What is done about it stands in the proxy.

use super::{
    Failed,
    door::{Door, ask},
    exit, fail, say,
};

/// One backend of one pool.
#[derive(Debug, clap::Args)]
pub(super) struct Backend {
    /// The pool's name
    pool: String,
    /// The backend's name
    backend: String,
    #[command(flatten)]
    door: Door,
}

/// Another weight for it.
#[derive(Debug, clap::Args)]
pub(super) struct Weight {
    #[command(flatten)]
    backend: Backend,
    /// The weight: a decimal from 0 on
    weight: crate::ring::Weight,
}

/// Has the proxy read its configuration again. Exit code 78: it is wrong, and nothing has changed.
pub(super) fn reload(door: &Door) -> Result<(), Failed> {
    let report = post(door, "/api/reload")?;
    let texts = |name: &str| -> Vec<String> {
        let list = report[name].as_array().cloned().unwrap_or_default();
        list.iter().filter_map(|text| Some(text.as_str()?.to_owned())).collect()
    };
    say(report["summary"].as_str().unwrap_or_default());
    texts("warnings").iter().for_each(|warning| say(&format!("warning: {warning}")));
    Ok(())
}

/// Has a new process take over: the proxy starts its own program again, as the file is now, with the arguments it was started with.
/// Exit code 1: nothing came of it, and the old process goes on.
pub(super) fn upgrade(door: &Door) -> Result<(), Failed> {
    let told = post(door, "/api/upgrade")?;
    say(&format!("process {} has taken over", told["pid"]));
    Ok(())
}

/// Has a backend get no new requests.
pub(super) fn drain(backend: &Backend) -> Result<(), Failed> {
    obey(backend, "drain")
}

/// Takes back what was ordered about a backend.
pub(super) fn restore(backend: &Backend) -> Result<(), Failed> {
    obey(backend, "restore")
}

/// Gives a backend another weight.
pub(super) fn weigh(weight: &Weight) -> Result<(), Failed> {
    obey(&weight.backend, &format!("weight?value={}", weight.weight))
}

fn obey(Backend { pool, backend, door }: &Backend, what: &str) -> Result<(), Failed> {
    let obeyed = post(door, &format!("/api/pools/{}/backends/{}/{what}", encoded(pool), encoded(backend)))?;
    let share = obeyed["share_moved"].as_f64().unwrap_or_default();
    say(&format!("{pool}/{backend}: done; {:.2} % of the pool's keys move", share * 100.0));
    if let Some(why) = obeyed["not_kept"].as_str() {
        say(&format!("warning: {why}"));
    }
    Ok(())
}

/// A name as a segment of a path.
pub(super) fn encoded(name: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:".contains(&byte);
    let encode = |byte: u8| if is_plain(byte) { (byte as char).to_string() } else { format!("%{byte:02X}") };
    name.bytes().map(encode).collect()
}

fn post(door: &Door, path: &str) -> Result<serde_json::Value, Failed> {
    let token = door.token()?;
    let said = ask(door.admin, &format!("POST {path}"), token.as_deref(), b"", None)
        .map_err(|error| fail(exit::FAILURE, format_args!("{}: {error}", door.admin)))?;
    if said.status == 200 {
        return Ok(serde_json::from_slice(&said.body).unwrap_or_default());
    }
    let code = if said.status == 422 { exit::CONFIG } else { exit::FAILURE };
    Err(fail(code, format_args!("{}{}", said.problem(), said.hint(token.is_some()))))
}
