//! The page that browsers get: a few files, as they stand in `src/admin/page/`.
//!
//! Owns which files there are, and what a browser may do with them: nothing from elsewhere, nothing inline, no frame. They are the same for
//! everybody and tell nothing about this proxy, so no token is asked for; the page asks the API, which does.

use hyper::{
    HeaderMap, Method, Request, StatusCode,
    body::{Bytes, Incoming},
    header::{
        ACCEPT, CACHE_CONTROL, CONTENT_SECURITY_POLICY, ETAG, HeaderName, HeaderValue, IF_NONE_MATCH,
        LOCATION, REFERRER_POLICY, VARY, X_FRAME_OPTIONS,
    },
};

use super::routes::{Answer, typed, whole};
use crate::ring::Place;

/// What the page may load, and from where.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const IMAGE: &str = "image/svg+xml";

macro_rules! files {
    ($($name:literal: $kind:ident,)*) => { &[$(($name, $kind, include_str!(concat!("page/", $name)))),*] };
}

/// Name below `/ui/`, type, and text.
const FILES: &[(&str, &str, &str)] = files! {
    "index.html": HTML,
    "page.css": CSS,
    "page.js": SCRIPT,
    "api.js": SCRIPT,
    "charts.js": SCRIPT,
    "events.js": SCRIPT,
    "lookup.js": SCRIPT,
    "orders.js": SCRIPT,
    "plan.js": SCRIPT,
    "ring.js": SCRIPT,
    "table.js": SCRIPT,
    "verdict.js": SCRIPT,
    "words.js": SCRIPT,
    "icon.svg": IMAGE,
};

/// The answer to a request for one of them. `None`: it asks for something else.
pub(super) fn answer(request: &Request<Incoming>) -> Option<Answer> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return None;
    }
    let headers = request.headers();
    let name = match request.uri().path() {
        "/" if is_browser(headers) => "index.html",
        "/ui" => return Some(elsewhere("./")),
        "/ui/" | "/ui/index.html" => return Some(elsewhere("../")),
        path => path.strip_prefix("/ui/")?,
    };
    let (_, kind, text) = FILES.iter().find(|(file, ..)| *file == name)?;
    Some(file(headers, kind, text))
}

/// Programs that fetch `/` get the list of paths; whoever can show a page asks for one.
fn is_browser(headers: &HeaderMap) -> bool {
    let accepts = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepts.flat_map(|value| value.split(',')).any(|kind| kind.trim_start().starts_with("text/html"))
}

fn elsewhere(location: &'static str) -> Answer {
    let mut answer = typed(StatusCode::SEE_OTHER, HTML, whole(Bytes::new()));
    answer.headers_mut().insert(LOCATION, HeaderValue::from_static(location));
    answer
}

fn file(headers: &HeaderMap, kind: &'static str, text: &'static str) -> Answer {
    let tag = format!("\"{:016x}\"", Place::of(text.as_bytes()).0);
    let is_known = headers.get(IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes());
    let mut answer = match is_known {
        true => typed(StatusCode::NOT_MODIFIED, kind, whole(Bytes::new())),
        false => typed(StatusCode::OK, kind, whole(Bytes::from_static(text.as_bytes()))),
    };
    let tag = HeaderValue::try_from(tag).expect("hexadecimal digits are a header's value");
    let set: [(HeaderName, HeaderValue); 6] = [
        (ETAG, tag),
        // Kept, but asked for again each time: after an upgrade, the page is the new process's.
        (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (VARY, HeaderValue::from_static("accept")),
        (CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
        (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    ];
    let headers = answer.headers_mut();
    for (name, value) in set {
        headers.insert(name, value);
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_loaded_from_elsewhere() {
        for (name, _, text) in FILES {
            let text = text.replace("http://www.w3.org/2000/svg", "");
            for far in ["http://", "https://", "\"//", "'//", "@import", "url("] {
                assert!(!text.contains(far), "{name} contains {far}");
            }
        }
    }

    #[test]
    fn nothing_stands_inline_that_the_policy_forbids() {
        let (_, _, html) = FILES[0];
        for inline in ["<style", " style=", " onclick", " onload", "javascript:"] {
            assert!(!html.contains(inline), "{inline}");
        }
        assert!(!html.replace("<script type=\"module\" src=", "").contains("<script"));
    }

    #[test]
    fn each_file_is_asked_for_by_another() {
        for (name, ..) in &FILES[1..] {
            assert!(FILES.iter().any(|(_, _, text)| text.contains(name)), "{name} is not used");
        }
    }
}
