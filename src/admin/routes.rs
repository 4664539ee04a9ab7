//! Which path of the admin listener gives which answer.
//!
//! Owns paths, parameters and access. What is in an answer stands in [`super::answers`].

use std::{sync::Arc, time::Instant};

use http_body_util::{Either, Full};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE},
};
use serde::Serialize;

use super::{
    House, State, answers,
    arcs::{self, Asked},
    change::{Change, change},
    events::{Events, Feed},
    lookup::lookup,
    page,
    patience::Patience,
    plan::plan,
};
use crate::{limits::EVENT_STREAMS, server::Phase, telemetry::metrics::Scrape};

pub(super) type Answer = Response<Either<Full<Bytes>, Either<Scrape, Events>>>;

const INDEX: &str = "Ringway admin (browsers get a page here)\n\n\
    /metrics                              for Prometheus\n\
    /livez                                200 while the process runs\n\
    /readyz                               200 while it is ready for traffic\n\
    /api/pools                            pools, backends, shares, standing\n\
    /api/live                             what happens now: a sample of each second\n\
    /api/live/history                     the last five minutes of that\n\
    /api/events                           the same as it happens, and what changes (server-sent events)\n\
    /api/ring?pool=P                      its ring, for drawing (also resolution=, place=)\n\
    /api/lookup?pool=P&key=K              who owns a key, and who would get it now\n\
    /api/lookup?uri=U&header=N:V&...      the same for a request (also method=, host=, client=, pool=)\n\
    POST /api/lookup?pool=P               the same for many: a key a line (also input=json, detail=full); needs no more than reading\n\
    /api/config                           the configuration in force\n\
    POST /api/plan                        what would move with the configuration in the body; needs no more than reading\n\
    POST, with the token:\n\
    /api/reload                           reads the configuration again\n\
    /api/upgrade                          a new process takes over\n\
    /api/pools/P/backends/B/drain         no new requests for this backend\n\
    /api/pools/P/backends/B/weight?value=W  another weight for it\n\
    /api/pools/P/backends/B/restore       takes that back\n";

/// Answers one request.
pub(super) async fn answer(house: &Arc<House>, client: &Arc<Patience>, request: Request<Incoming>) -> Answer {
    let state = &house.state;
    let path = request.uri().path();
    match path {
        "/livez" if is_read(&request) => return text(StatusCode::OK, "ok\n"),
        "/readyz" if is_read(&request) => return ready(state),
        _ => {}
    }
    if let Some(page) = page::answer(&request) {
        return page;
    }
    if path == "/api/plan" && *request.method() == Method::POST {
        return if may_read(state, &request) { plan(house, request).await } else { unauthorized(&request) };
    }
    if path == "/api/lookup" && (is_read(&request) || *request.method() == Method::POST) {
        return if may_read(state, &request) { lookup(house, request).await } else { unauthorized(&request) };
    }
    if *request.method() == Method::POST {
        return match refusal_to_change(state, &request) {
            None => change(state, &request).await,
            Some(refused) => refused,
        };
    }
    if !is_read(&request) {
        return not_allowed("GET, HEAD, POST");
    }
    if !may_read(state, &request) {
        return unauthorized(&request);
    }
    match path {
        "/" => text(StatusCode::OK, INDEX),
        "/metrics" => match state.metrics.scrape() {
            Ok(scrape) => typed(
                StatusCode::OK,
                "text/plain; version=0.0.4; charset=utf-8",
                Either::Right(Either::Left(scrape)),
            ),
            Err(problem) => error(StatusCode::INTERNAL_SERVER_ERROR, &problem.to_string()),
        },
        "/api/pools" => json(StatusCode::OK, &answers::pools(&state.pictures.load().view)),
        "/api/live" => written(house.live.json()),
        "/api/live/history" => written(house.live.history_json()),
        "/api/events" => events(house, client, &request),
        "/api/ring" => ring(state, request.uri().query().unwrap_or_default()),
        "/api/config" => json(StatusCode::OK, &answers::config(state)),
        "/api/plan" => not_allowed("POST"),
        _ if Change::of(request.uri()).is_some() => not_allowed("POST"),
        _ => error(StatusCode::NOT_FOUND, "no such path; / lists those that there are"),
    }
}

fn ring(state: &State, query: &str) -> Answer {
    let view = &state.pictures.load().view;
    match Asked::read(query).and_then(|asked| arcs::draw(view, &asked, Instant::now())) {
        Ok(drawn) => written(serde_json::to_vec(&drawn).expect("the answers' types are all JSON").into()),
        Err(problem) => error(StatusCode::BAD_REQUEST, &problem),
    }
}

/// A stream of events, where there is a place for one more who watches.
fn events(house: &Arc<House>, client: &Arc<Patience>, request: &Request<Incoming>) -> Answer {
    let with_samples = match request.uri().query().unwrap_or_default() {
        "" => true,
        "samples=false" => false,
        _ => return error(StatusCode::BAD_REQUEST, "the only parameter here is samples=false"),
    };
    let after = request.headers().get("last-event-id").and_then(|id| id.to_str().ok());
    // Only the right one is kept: any other one opens nothing later either.
    let in_force = house.state.in_force.load();
    let shown = in_force.token.clone().filter(|_| in_force.is_token(bearer(request)));
    let Some(feed) = Feed::begin((house, client), shown, after, with_samples) else {
        let problem = format!("{EVENT_STREAMS} watch already; /api/live has the same figures");
        return full(&problem);
    };
    typed(StatusCode::OK, "text/event-stream", Either::Right(Either::Right(feed.events())))
}

fn is_read(request: &Request<Incoming>) -> bool {
    matches!(*request.method(), Method::GET | Method::HEAD)
}

fn not_allowed(methods: &'static str) -> Answer {
    let mut answer = error(StatusCode::METHOD_NOT_ALLOWED, &format!("the methods here are {methods}"));
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static(methods));
    answer
}

/// A token is missing, or it is another one (RFC 6750 section 3).
fn unauthorized(request: &Request<Incoming>) -> Answer {
    let (problem, challenge) = match bearer(request) {
        Some(_) => ("that is not this proxy's token", "Bearer error=\"invalid_token\""),
        None => ("this needs the token as `Authorization: Bearer TOKEN`", "Bearer"),
    };
    let mut answer = error(StatusCode::UNAUTHORIZED, problem);
    answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    answer
}

fn ready(state: &State) -> Answer {
    if *state.phase.borrow() != Phase::Serving {
        return text(StatusCode::SERVICE_UNAVAILABLE, "draining\n");
    }
    if !*state.proven.borrow() {
        return text(StatusCode::SERVICE_UNAVAILABLE, "starting: not every backend has been probed yet\n");
    }
    text(StatusCode::OK, "ok\n")
}

fn may_read(state: &State, request: &Request<Incoming>) -> bool {
    state.in_force.load().may_read(bearer(request))
}

fn refusal_to_change(state: &State, request: &Request<Incoming>) -> Option<Answer> {
    let in_force = state.in_force.load();
    match &in_force.token {
        Some(_) if in_force.is_token(bearer(request)) => None,
        Some(_) => Some(unauthorized(request)),
        None => Some(error(
            StatusCode::FORBIDDEN,
            "changes need a token, and there is none: name a file with one in `admin.token_file`",
        )),
    }
}

/// The token that a request shows. The scheme's name has no case (RFC 9110 section 11.1).
fn bearer(request: &Request<Incoming>) -> Option<&[u8]> {
    let (scheme, token) = request.headers().get(AUTHORIZATION)?.as_bytes().split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then_some(token.trim_ascii_start())
}

#[derive(Serialize)]
struct Problem<'a> {
    error: &'a str,
}

pub(super) fn error(status: StatusCode, problem: &str) -> Answer {
    json(status, &Problem { error: problem })
}

/// All places for this are taken.
pub(super) fn full(problem: &str) -> Answer {
    let mut answer = error(StatusCode::SERVICE_UNAVAILABLE, problem);
    answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("5"));
    answer
}

pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Answer {
    let mut body = serde_json::to_string_pretty(value).expect("the answers' types are all JSON");
    body.push('\n');
    typed(status, "application/json", whole(body))
}

/// JSON that is written already.
fn written(body: Bytes) -> Answer {
    typed(StatusCode::OK, "application/json", whole(body))
}

pub(super) fn json_lines(lines: Bytes) -> Answer {
    typed(StatusCode::OK, "application/jsonl", whole(lines))
}

fn text(status: StatusCode, body: &'static str) -> Answer {
    typed(status, "text/plain; charset=utf-8", whole(body))
}

pub(super) fn whole(body: impl Into<Bytes>) -> Either<Full<Bytes>, Either<Scrape, Events>> {
    Either::Left(Full::new(body.into()))
}

pub(super) fn typed(
    status: StatusCode,
    kind: &'static str,
    body: Either<Full<Bytes>, Either<Scrape, Events>>,
) -> Answer {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    answer
}
