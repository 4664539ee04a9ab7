//! The traffic: which requests and answers pass, over which connections, through which configuration.
//!
//! Owns the list, the configurations and the rounds. Everything is the same in every round and every run: names, keys,
//! sizes, order. Never judges.

use std::fmt::Write;

use crate::{
    program::{Count, Program},
    wire::{End, Origin, exchange, part},
};

/// Requests in a round; also the number of different keys, so that all rounds ask for the same.
const REQUESTS: usize = 128;
/// Rounds, of which the cheapest counts: what disturbs, as a worker's sweep of idle connections each second, only adds.
const ROUNDS: usize = 5;

const KIB_64: usize = 64 * 1024;

/// A configuration, and so a program of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Setup {
    /// Four backends, the key is the target.
    Usual,
    /// The same without what is on by default to keep failures and load from spreading.
    Plain,
    /// The key is in a header.
    KeyHeader,
    /// A thousand backends.
    Thousand,
}

/// One kind of traffic.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    pub(crate) setup: Setup,
    /// Connections, used in turn. 0: a new one for each request.
    connections: usize,
    /// Requests that are sent at once, on one connection.
    pipelined: usize,
    /// Fields beyond the usual ones.
    fields: String,
    /// Bytes of the request's body.
    upload: usize,
    answer: Vec<u8>,
}

/// What a scenario costs, for each request.
pub(crate) struct Measured {
    pub(crate) name: &'static str,
    /// In the cheapest round.
    pub(crate) instructions: f64,
    pub(crate) calls: f64,
    /// Its requests share connections.
    pub(crate) keeps_connections: bool,
    /// How many percent the dearest round is above it.
    pub(crate) spread: f64,
}

/// All of them, in the order of the table.
pub(crate) fn all() -> Vec<Scenario> {
    let usual = |name, what| Scenario {
        name,
        what,
        setup: Setup::Usual,
        connections: 1,
        pipelined: 1,
        fields: String::new(),
        upload: 0,
        answer: answer("", 100),
    };
    let close = "Connection: close\r\n".to_owned();
    vec![
        usual("get", "GET, 100 bytes in answer, one connection"),
        Scenario { connections: 64, ..usual("connections-64", "the same on 64 connections in turn") },
        Scenario {
            fields: fields("X-Request-Field"),
            answer: answer(&fields("X-Answer-Field"), 100),
            ..usual("headers-30", "30 further headers in each direction")
        },
        Scenario { answer: answer("", KIB_64), ..usual("answer-64k", "64 KiB in answer") },
        Scenario { upload: KIB_64, ..usual("upload-64k", "POST of 64 KiB with Content-Length") },
        Scenario { answer: chunked(), ..usual("answer-chunked", "eight chunks of 100 bytes in answer") },
        Scenario { pipelined: 8, ..usual("pipelined-8", "eight requests sent at once") },
        Scenario {
            connections: 0,
            fields: close,
            ..usual("connection-each", "a new connection for each request")
        },
        Scenario {
            setup: Setup::Plain,
            ..usual("get-plain", "without passive health, load bounds and repeats")
        },
        Scenario { setup: Setup::KeyHeader, ..usual("key-header", "the key from a header, not the target") },
        Scenario { setup: Setup::Thousand, ..usual("backends-1000", "1000 backends instead of 4") },
    ]
}

fn fields(name: &str) -> String {
    (10..40).fold(String::new(), |text, number| {
        text + &format!("{name}-{number}: a value of usual length, number {number}\r\n")
    })
}

fn answer(fields: &str, length: usize) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 200 OK\r\nDate: Mon, 01 Jan 2024 00:00:00 GMT\r\nContent-Type: text/plain\r\n{fields}\
         Content-Length: {length}\r\n\r\n"
    );
    [head.into_bytes(), vec![b'a'; length]].concat()
}

fn chunked() -> Vec<u8> {
    let head = "HTTP/1.1 200 OK\r\nDate: Mon, 01 Jan 2024 00:00:00 GMT\r\nContent-Type: text/plain\r\n\
                Transfer-Encoding: chunked\r\n\r\n";
    let chunk = format!("64\r\n{}\r\n", "a".repeat(100));
    format!("{head}{}0\r\n\r\n", chunk.repeat(8)).into_bytes()
}

impl Setup {
    pub(crate) const ALL: [Setup; 4] = [Setup::Usual, Setup::Plain, Setup::KeyHeader, Setup::Thousand];

    /// The configuration, with backends on this port. Nothing in it happens by itself while requests pass: no probes,
    /// no admin listener, no connection that ends because of its age.
    pub(crate) fn configuration(self, port: u16) -> String {
        let key = if self == Setup::KeyHeader { "header:x-user-id" } else { "uri" };
        let backends = if self == Setup::Thousand { 1000 } else { 4 };
        let mut text = format!(
            r#"
[[listeners]]
address = "127.0.0.1:0"

[server]
workers = 1

[client]
keep_alive_timeout = "1h"

[admin]
address = ""

[pools.bench]
key = ["{key}"]
health.kind = "off"
connections.keep_alive = "1h"
connections.max_age = "1h"
backends = [
"#
        );
        for number in 0..backends {
            // The names decide who owns which key, and the port is another one in every run.
            let address = format!("127.1.{}.{}:{port}", number / 250, number % 250 + 1);
            writeln!(text, "  {{ name = \"backend-{number}\", address = \"{address}\" }},")
                .expect("a string takes all that is written to it");
        }
        text.push_str("]\n");
        match self {
            Setup::Usual | Setup::KeyHeader => {}
            Setup::Plain => text.push_str(PLAIN),
            // What is read of each backend a few times a second is no request's, and takes long under valgrind.
            Setup::Thousand => text.push_str("[pools.bench.passive]\nshare = 0.0\n"),
        }
        text
    }
}

const PLAIN: &str = r#"
[pools.bench.load]
factor = 0

[pools.bench.passive]
consecutive = 0
share = 0.0
counts = []
flaps = 0

[pools.bench.repeats]
budget = 0.0
backoff = "0s"
"#;

impl Scenario {
    /// A request, with one of as many keys as a round has requests.
    fn request(&self, number: usize) -> Vec<u8> {
        let number = number % REQUESTS;
        let method = if self.upload > 0 { "POST" } else { "GET" };
        // The same fields in all scenarios, so that those with another key or body can be compared.
        let mut head = format!(
            "{method} /images/{number:06}/picture.png?size=large HTTP/1.1\r\nHost: www.example.org\r\n\
             User-Agent: bench/1.0\r\nAccept: */*\r\nX-User-Id: user-{number:06}\r\n{}",
            self.fields
        );
        if self.upload > 0 {
            head += &format!("Content-Length: {}\r\n", self.upload);
        }
        [head.into_bytes(), b"\r\n".to_vec(), vec![b'b'; self.upload]].concat()
    }

    fn round(&self, program: &Program, origin: &mut Origin, clients: &mut [End]) -> Result<(), String> {
        for (turn, first) in (0..REQUESTS).step_by(self.pipelined).enumerate() {
            let requests: Vec<_> =
                (first..first + self.pipelined).flat_map(|number| self.request(number)).collect();
            if clients.is_empty() {
                let mut client = End::connect(program.address)?;
                program.rest()?;
                exchange(program, origin, &mut client, &requests, self.pipelined, &self.answer)?;
                part(program, client)?;
            } else {
                let client = &mut clients[turn % self.connections];
                exchange(program, origin, client, &requests, self.pipelined, &self.answer)?;
            }
        }
        Ok(())
    }

    /// Measures, after a round that counts for nothing: it opens connections and touches each key.
    fn measure(&self, program: &Program, origin: &mut Origin, profiled: bool) -> Result<Measured, String> {
        let connect = |_| End::connect(program.address);
        let mut clients = (0..self.connections).map(connect).collect::<Result<Vec<_>, _>>()?;
        self.round(program, origin, &mut clients)?;
        if profiled {
            program.ask("zero")?;
        }
        let mut rounds = vec![];
        let mut before = program.count()?;
        for _ in 0..ROUNDS {
            self.round(program, origin, &mut clients)?;
            let after = program.count()?;
            rounds.push(Count {
                instructions: after.instructions - before.instructions,
                calls: after.calls - before.calls,
            });
            before = after;
        }
        if profiled {
            program.ask("dump")?;
        }
        let range = |what: fn(&Count) -> u64| {
            let least = rounds.iter().map(what).min().unwrap_or(0) as f64;
            let most = rounds.iter().map(what).max().unwrap_or(0) as f64;
            (least / REQUESTS as f64, (most / least - 1.0) * 100.0)
        };
        let (instructions, spread) = range(|round| round.instructions);
        let (calls, _) = range(|round| round.calls);
        Ok(Measured { name: self.name, instructions, calls, keeps_connections: self.connections > 0, spread })
    }
}

/// Measures scenarios of one program, one after the other.
pub(crate) fn measure(
    program: &Program,
    mut origin: Origin,
    scenarios: &[&Scenario],
    profiled: bool,
) -> Result<Vec<Measured>, String> {
    let one = |scenario: &&Scenario| {
        scenario
            .measure(program, &mut origin, profiled)
            .map_err(|error| format!("scenario {}: {error}", scenario.name))
    };
    scenarios.iter().map(one).collect()
}
