//! A question about a key or a request as people and programs write it: parameters, arguments, a line of JSON.
//!
//! Owns that form. A request goes through the parser of the data path, so what that would refuse is refused here. Pure; answers nothing.

use std::{
    fmt::Write,
    net::{IpAddr, Ipv4Addr},
};

use serde::{Deserialize, Serialize};

use super::{Plan, Question};
use crate::{
    http1::{Parsed, RequestHead},
    limits::HEADERS_MAX,
    proxy::key::{Facts, Fields},
};

/// A question.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Asked {
    /// The pool's name. For a request, the routes find it otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    /// The key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The key's bytes in hexadecimal digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_hex: Option<String>,
    /// The request's method; `GET` if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// The request's target: a path with its query, or a whole URI.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
    /// The host that is asked for, where neither the target nor a header names it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Where the connection comes from; loopback if that is not said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<IpAddr>,
    /// Headers, each as `NAME:VALUE`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<String>,
}

/// Room for what a question is made of, used again and again.
#[derive(Debug, Default)]
pub struct Workspace {
    head: RequestHead,
    text: String,
    key: Vec<u8>,
}

impl Asked {
    /// The same as the question that is answered.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn question<'a>(&'a self, plan: &Plan, space: &'a mut Workspace) -> Result<Question<'a>, String> {
        let is_key = self.key.is_some() || self.key_hex.is_some();
        let Some(uri) = &self.uri else {
            let is_request = self.method.is_some() || self.host.is_some() || self.client.is_some();
            if !is_key || is_request || !self.headers.is_empty() {
                return Err(HOW.into());
            }
            let pool = self.pool.as_deref();
            return match (&self.key, &self.key_hex) {
                (Some(_), Some(_)) => Err("key and key_hex: one of them".into()),
                (Some(key), None) => Ok(Question::Key { pool, key: key.as_bytes() }),
                (None, digits) => {
                    space.key = from_hex(digits.as_deref().unwrap_or_default())?;
                    Ok(Question::Key { pool, key: &space.key })
                }
            };
        };
        if is_key {
            return Err(HOW.into());
        }
        let method = self.method.as_deref().unwrap_or("GET");
        self.write_head(method, uri, &mut space.text)?;
        match space.head.parse(space.text.as_bytes(), HEADERS_MAX) {
            Ok(Parsed::Complete(length)) if length == space.text.len() => {}
            Ok(_) => return Err("the request is not one: a line ends where none should".into()),
            Err(error) => return Err(format!("the request is refused: {error}")),
        }
        let head = &space.head;
        let facts = Facts {
            method: head.method_name(),
            authority: head.authority(),
            path: head.path(),
            query: head.query(),
            client: plan.trusted.client(self.client.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)), head),
            fields: Fields::Head(head),
        };
        Ok(Question::Request { pool: self.pool.as_deref(), facts })
    }

    /// The head that a client would send.
    fn write_head(&self, method: &str, uri: &str, text: &mut String) -> Result<(), String> {
        const FITS: &str = "a string takes all that is written";
        let is_named = |header: &String| {
            let name = header.split(':').next().unwrap_or_default();
            name.trim().eq_ignore_ascii_case("host")
        };
        // HTTP/1.0 alone can do without a host.
        let is_whole = !uri.starts_with('/') && uri != "*";
        let version =
            if is_whole || self.host.is_some() || self.headers.iter().any(is_named) { 1 } else { 0 };
        for (what, part) in
            [("method", method), ("uri", uri), ("host", self.host.as_deref().unwrap_or_default())]
        {
            if part.bytes().any(|byte| byte.is_ascii_whitespace() || byte.is_ascii_control()) {
                return Err(format!("{what}: it can't contain spaces or control characters"));
            }
        }
        text.clear();
        write!(text, "{method} {uri} HTTP/1.{version}\r\n").expect(FITS);
        match &self.host {
            Some(host) => write!(text, "host: {host}\r\n").expect(FITS),
            None if is_whole && !self.headers.iter().any(is_named) => text.push_str("host:\r\n"),
            None => {}
        }
        for header in &self.headers {
            let (name, value) = header.split_once(':').ok_or("header: write it as NAME:VALUE")?;
            if header.contains(['\r', '\n']) {
                return Err("header: it can't contain the end of a line".into());
            }
            write!(text, "{}: {}\r\n", name.trim(), value.trim()).expect(FITS);
        }
        text.push_str("\r\n");
        Ok(())
    }
}

const HOW: &str = "ask with key=KEY or key_hex=DIGITS (and pool=NAME), or with uri=PATH (and method=, host=, header=NAME:VALUE, \
                   client=, pool=)";

/// Bytes from pairs of hexadecimal digits.
///
/// # Errors
/// It is something else.
pub fn from_hex(digits: &str) -> Result<Vec<u8>, String> {
    let wrong = || format!("{digits:?} is not pairs of hexadecimal digits");
    if !digits.len().is_multiple_of(2) || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(wrong());
    }
    let pair = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).map_err(|_| wrong());
    (0..digits.len()).step_by(2).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_digits_come_in_pairs() {
        assert_eq!(from_hex("00fFa0"), Ok(vec![0, 255, 160]));
        assert_eq!(from_hex(""), Ok(vec![]));
        for wrong in ["0", "0g", "+1", "ä"] {
            assert!(from_hex(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_line_of_json_is_a_question() {
        let asked: Asked = serde_json::from_str(r#"{"uri":"/x","headers":["A:b"],"client":"::1"}"#).unwrap();
        assert_eq!((asked.uri.as_deref(), asked.headers.len()), (Some("/x"), 1));
        assert!(serde_json::from_str::<Asked>(r#"{"url":"/x"}"#).is_err());
    }
}
