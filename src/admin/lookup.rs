//! Who owns a key: `/api/lookup`, for one question in its parameters or for many in its body.
//!
//! Owns parameters, bounds and the form of the answers. What is answered stands in [`crate::proxy::explain`]. Changes nothing, so a POST here needs
//! what reading needs.

use std::time::Instant;

use http_body_util::{BodyExt, Limited};
use hyper::{
    Method, Request, StatusCode,
    body::{Bytes, Incoming},
};
use tokio::sync::OwnedSemaphorePermit;

use super::{
    House, State,
    routes::{Answer, error, full, json, json_lines},
};
use crate::{
    limits::{ADMIN_BODY, LOOKUP_ANSWER_BYTES, LOOKUP_BODY_BYTES, LOOKUP_QUESTIONS},
    proxy::explain::{
        Explanation,
        asked::{Asked, Workspace},
        brief::{Answerer, Detail, Lines, lines_of},
        explain,
    },
};

/// Answers between which others get their turn.
const AT_ONCE: usize = 256;

/// Answers a question, or many.
pub(super) async fn lookup(house: &House, request: Request<Incoming>) -> Answer {
    if *request.method() == Method::POST {
        return many(house, request).await;
    }
    match one(&house.state, request.uri().query().unwrap_or_default()) {
        Ok(explanation) => json(StatusCode::OK, &explanation),
        Err(problem) => error(StatusCode::BAD_REQUEST, &problem),
    }
}

fn one(state: &State, query: &str) -> Result<Explanation, String> {
    let asked = read_query(query)?;
    let picture = state.pictures.load();
    let mut space = Workspace::default();
    let question = asked.question(&picture.plan, &mut space)?;
    explain(&picture.view, &picture.plan, Instant::now(), question)
}

fn read_query(query: &str) -> Result<Asked, String> {
    let mut asked = Asked::default();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let value = value.into_owned();
        match &*name {
            "pool" => asked.pool = Some(value),
            "key" => asked.key = Some(value),
            "key_hex" => asked.key_hex = Some(value),
            "method" => asked.method = Some(value),
            "uri" => asked.uri = Some(value),
            "host" => asked.host = Some(value),
            "client" => {
                asked.client =
                    Some(value.parse().map_err(|_| format!("client: {value:?} is not an IP address"))?);
            }
            "header" => asked.headers.push(value),
            other => return Err(format!("there is no parameter {other:?}")),
        }
    }
    Ok(asked)
}

/// How many questions are asked.
#[derive(Debug, PartialEq)]
struct Many {
    pool: Option<String>,
    lines: Lines,
    detail: Detail,
}

fn read_many(query: &str) -> Result<Many, String> {
    let mut many = Many { pool: None, lines: Lines::Keys, detail: Detail::Brief };
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match (&*name, &*value) {
            ("pool", name) => many.pool = Some(name.to_owned()),
            ("input", "keys") => many.lines = Lines::Keys,
            ("input", "json") => many.lines = Lines::Json,
            ("detail", "brief") => many.detail = Detail::Brief,
            ("detail", "full") => many.detail = Detail::Full,
            ("input", _) => return Err("input: keys, or json for a question in each line".into()),
            ("detail", _) => return Err("detail: brief or full".into()),
            (other, _) => return Err(format!("there is no parameter {other:?} for many questions")),
        }
    }
    Ok(many)
}

/// Answers on their way to a client. They keep a place until the client has taken them.
struct Held {
    lines: Vec<u8>,
    _place: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.lines
    }
}

async fn many(house: &House, request: Request<Incoming>) -> Answer {
    let many = match read_many(request.uri().query().unwrap_or_default()) {
        Ok(many) => many,
        Err(problem) => return error(StatusCode::BAD_REQUEST, &problem),
    };
    // Before the body, which is what memory is needed for.
    let Ok(place) = house.lookups.clone().try_acquire_owned() else {
        return full("many others ask about many keys: ask again");
    };
    let body = Limited::new(request.into_body(), LOOKUP_BODY_BYTES).collect();
    let body = match tokio::time::timeout(ADMIN_BODY, body).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(problem)) if problem.is::<http_body_util::LengthLimitError>() => return too_much(),
        Ok(Err(problem)) => return error(StatusCode::BAD_REQUEST, &problem.to_string()),
        Err(_) => return error(StatusCode::REQUEST_TIMEOUT, "the questions came too slowly"),
    };
    // All answers are from one picture, at one time.
    let (picture, now) = (house.state.pictures.load_full(), Instant::now());
    let mut answerer = Answerer::new(&picture.view, &picture.plan, now, many.pool.as_deref(), many.lines);
    let mut out = Vec::new();
    for (number, line) in lines_of(&body).enumerate() {
        if number == LOOKUP_QUESTIONS || out.len() > LOOKUP_ANSWER_BYTES {
            return too_much();
        }
        answerer.write(line, many.detail, &mut out);
        if number % AT_ONCE == AT_ONCE - 1 {
            tokio::task::yield_now().await;
        }
    }
    json_lines(Bytes::from_owner(Held { lines: out, _place: place }))
}

fn too_much() -> Answer {
    let problem = format!(
        "at most {LOOKUP_QUESTIONS} questions at once, in {LOOKUP_BODY_BYTES} bytes, with answers of {LOOKUP_ANSWER_BYTES} bytes"
    );
    error(StatusCode::PAYLOAD_TOO_LARGE, &problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_read_or_named() {
        let asked = read_query("uri=/a%3Fb&header=A:%20b&client=::1&method=PUT").unwrap();
        assert_eq!((asked.uri.as_deref(), &*asked.headers[0]), (Some("/a?b"), "A: b"));
        assert!(read_query("kee=x").unwrap_err().contains("no parameter"));
        let many = read_many("pool=p&input=json&detail=full").unwrap();
        assert_eq!(many, Many { pool: Some("p".into()), lines: Lines::Json, detail: Detail::Full });
        for wrong in ["key=x", "input=csv", "detail=all"] {
            assert!(read_many(wrong).is_err(), "{wrong}");
        }
    }
}
