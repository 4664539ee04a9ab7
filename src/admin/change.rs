//! What operators change by POST: which path means which wish.
//!
//! Owns paths and parameters. Who may is asked before; what is done stands behind [`super::Operator`].

use std::borrow::Cow;

use hyper::{Request, StatusCode, Uri, body::Incoming};

use super::{
    OperatorError, State,
    routes::{Answer, error, json},
};
use crate::fleet::Order;

/// A wish, as a path tells it.
#[derive(Debug, PartialEq)]
pub(super) enum Change {
    /// `/api/reload`
    Reload,
    /// `/api/upgrade`
    Upgrade,
    /// `/api/pools/POOL/backends/BACKEND/…`
    Backend {
        /// The pool.
        pool: String,
        /// The backend.
        backend: String,
        /// What is to be done with it, or why that can't be told.
        order: Result<Order, String>,
    },
}

impl Change {
    /// The wish of this address. `None`: there is none.
    pub(super) fn of(uri: &Uri) -> Option<Change> {
        let mut parts = uri.path().strip_prefix("/api/")?.split('/');
        let part = |part: &str| percent_decoded(part).into_owned();
        let change = match (parts.next()?, parts.next(), parts.next(), parts.next(), parts.next()) {
            ("reload", None, ..) => Change::Reload,
            ("upgrade", None, ..) => Change::Upgrade,
            ("pools", Some(pool), Some("backends"), Some(backend), Some(what)) => Change::Backend {
                pool: part(pool),
                backend: part(backend),
                order: match what {
                    "drain" => Ok(Order::Drain),
                    "restore" => Ok(Order::None),
                    "weight" => weight(uri.query().unwrap_or_default()),
                    _ => return None,
                },
            },
            _ => return None,
        };
        parts.next().is_none().then_some(change)
    }
}

fn weight(query: &str) -> Result<Order, String> {
    let mut values = form_urlencoded::parse(query.as_bytes());
    match (values.next(), values.next()) {
        (Some((name, value)), None) if name == "value" => {
            value.parse().map(Order::Weight).map_err(|error| format!("value: {error}"))
        }
        _ => Err("say which weight, as ?value=0.5".to_owned()),
    }
}

/// A path's segment. What is not UTF-8 can't be the name of anything here.
fn percent_decoded(segment: &str) -> Cow<'_, str> {
    if !segment.contains('%') {
        return Cow::Borrowed(segment);
    }
    let bytes = segment.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let code = (bytes[at] == b'%').then(|| segment.get(at + 1..at + 3)).flatten();
        match code.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                decoded.push(byte);
                at += 3;
            }
            None => {
                decoded.push(bytes[at]);
                at += 1;
            }
        }
    }
    Cow::Owned(String::from_utf8_lossy(&decoded).into_owned())
}

/// Grants the wish of a request that may have wishes.
pub(super) async fn change(state: &State, request: &Request<Incoming>) -> Answer {
    let done = match Change::of(request.uri()) {
        None => return error(StatusCode::NOT_FOUND, "no such path; / lists those that there are"),
        Some(Change::Reload) => {
            state.operator.clone().reload().await.map(|report| json(StatusCode::OK, &report))
        }
        Some(Change::Upgrade) => {
            state.operator.upgrade().await.map(|pid| json(StatusCode::OK, &serde_json::json!({ "pid": pid })))
        }
        Some(Change::Backend { pool, backend, order }) => match order {
            Err(problem) => return error(StatusCode::BAD_REQUEST, &problem),
            Ok(order) => {
                let obeyed = state.operator.obey(&pool, &backend, order).await;
                obeyed.map(|obeyed| json(StatusCode::OK, &obeyed))
            }
        },
    };
    done.unwrap_or_else(|problem| match problem {
        OperatorError::Refused(why) => error(StatusCode::UNPROCESSABLE_ENTITY, &why),
        OperatorError::NotNow(why) => error(StatusCode::CONFLICT, &why),
        OperatorError::Failed(why) => error(StatusCode::INTERNAL_SERVER_ERROR, &why),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_mean_wishes() {
        let of = |uri: &str| Change::of(&uri.parse().unwrap());
        assert_eq!(of("/api/reload"), Some(Change::Reload));
        assert_eq!(of("/api/upgrade"), Some(Change::Upgrade));
        let backend = |pool: &str, backend: &str, order| {
            Some(Change::Backend { pool: pool.into(), backend: backend.into(), order })
        };
        assert_eq!(of("/api/pools/p/backends/b/drain"), backend("p", "b", Ok(Order::Drain)));
        assert_eq!(
            of("/api/pools/p/backends/unix:%2Frun%2Fb/restore"),
            backend("p", "unix:/run/b", Ok(Order::None))
        );
        let weight = Order::Weight("0.5".parse().unwrap());
        assert_eq!(of("/api/pools/p/backends/b/weight?value=0.5"), backend("p", "b", Ok(weight)));
        for unclear in ["", "?value=x", "?value=1&value=2", "?weight=1"] {
            let Some(Change::Backend { order: Err(_), .. }) =
                of(&format!("/api/pools/p/backends/b/weight{unclear}"))
            else {
                panic!("{unclear}")
            };
        }
        for nothing in
            ["/api/reload/x", "/api/pools", "/api/pools/p/backends/b", "/api/pools/p/backends/b/drain/x", "/"]
        {
            assert_eq!(of(nothing), None);
        }
    }
}
