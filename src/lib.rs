//! **Ringway**: a consistent-hash routing reverse proxy.
//!
//! It reads a key from each request, finds the key's owner on a SHA-1 ring of virtual nodes, and forwards the request
//! there. Health checks take failed backends out and put recovered ones back; only the keys that must move do. It can say
//! who owns a key, and why.
//!
//! Tenets, in this order when they conflict: correct, bounded, observable, fast, flexible.
//!
//! # The picture
//!
//! ```text
//!                     control thread
//!    probes ──────┐
//!    resolver ────┤  Event ──►  control ──► Fleet ──► View ─┐
//!    requests ────┤              (one task, the only         ├──► Arc<Picture> ──► published
//!    time ────────┘               writer; also ticks)  Plan ─┘                         │ read only
//!                                      ▲                ▲                             │
//!    people: reload, drain, weight ──► app::reload ─────┘                             ▼
//!                                      │
//!    listeners ◄── Front ◄─────────────┘
//!        └──► worker threads: one runtime each, nothing shared on the way but what bounds a backend
//!                 request ─► key ─► owners in ring order ─► attempt ─► answer
//! ```
//!
//! Facts go down one pipe, pictures come up one pipe. A request reads one [`proxy::Picture`] and works with it to the end: the
//! [`fleet::View`] of the pools and the [`proxy::Plan`] with the rules for them. What
//! decides is pure, what touches the world is thin. The ring depends on membership alone; health is a filter over it.
//! Everything has a bound ([`limits`]), an owner and an end.
//!
//! # Where to find what
//!
//! | module | owns |
//! |---|---|
//! | [`ring`] | placement: which backend owns a key, and who comes next. Pure |
//! | [`fleet`] | pools and backends: what probes, requests and operators say about them, ramps, bounds, and the [`fleet::View`] of all that. Pure |
//! | [`http1`] | HTTP/1.1 on the wire: what bytes mean, and which are refused. Pure |
//! | [`http2`] | HTTP/2 on the wire: frames, field compression, windows, streams and what a peer may ask for. Pure |
//! | [`io`] | streams, buffers and timers of a connection, whatever carries it; [`endpoint`] is where it leads |
//! | [`upstream`] | connections to backends |
//! | [`proxy`] | the request path; start at [`proxy::exchange::exchange`] |
//! | [`preface`] | the PROXY protocol, in and out. Pure |
//! | [`server`] | listeners, which come and go while the proxy runs; workers, client connections |
//! | [`tls`] | certificates: read, checked, asked for, chosen by name, replaced while the proxy runs |
//! | [`control`] | the task around the fleet; probes, look-ups, and the file with operators' orders |
//! | [`tally`], [`telemetry`] | counting, and telling what was counted |
//! | [`admin`] | the operator's listener: metrics, questions, orders, and the live view with its page |
//! | [`analysis`] | what is worked out from configurations and recorded traffic, away from any running proxy. Pure |
//! | [`service`] | what passes between the process and systemd |
//! | [`takeover`] | a new process in the place of this one, without a gap |
//! | [`privileges`] | the change of user after everything is bound |
//! | [`threads`] | threads with a runtime of their own |
//! | [`config`] | the TOML file and its errors |
//! | [`app`] | assembly; [`app::Reloader`] changes what runs, `app/succession.rs` hands it over |
//!
//! Dependencies point one way: `app → {admin, proxy, server, control} → {upstream, telemetry} → fleet → ring`; `endpoint`,
//! `preface`, `tally` and `limits` are leaves, and `io → http2 → http1 → limits`. Nobody but `app` and `cli` imports `config`: it imports their policy types and makes
//! them. `tests/it/tidy.rs` holds these rules.
//!
//! # What changes while it runs
//!
//! - **One task changes the fleet.** Probes, requests, time, operators and reloads meet there, in one state machine for each backend
//!   (`fleet/member.rs`), so who said what is known and nothing has to be locked.
//! - **View and plan are published together.** Indices of pools and backends hold within one [`proxy::Picture`] only. With two
//!   publications, a request could meet the pools of one configuration with the rules of another.
//! - **A change is prepared, then made.** All that can fail comes first and changes nothing (`app/reload.rs`, [`fleet::Fleet::prepare`],
//!   [`server::Front::prepare`]); taking it in can't fail.
//! - **Load cells are shared, all other counts are each worker's own.** A count that is only read by a scrape is a plain load and store in memory that
//!   no other core writes ([`tally`]). A bound on a backend's requests in flight, on its failures in a row or on the requests of its trial is one bound for all
//!   workers, so it needs one cell that they all change ([`fleet::LoadCells`]): two counts that are added up would let two workers take the
//!   last place. The pool's total, which only the mean needs, is again added up from the workers' own counts.
//! - **The second hash is a mix of the first** (`fleet/ramp.rs`). When a key moves in a ramp must not depend on where on the ring it lies, or whole arcs would move at
//!   once; it need not be unpredictable. The key's place is 64 bits of SHA-1 already, so a bijection that mixes these bits is as good
//!   as a second hash of the key, costs a nanosecond instead of fifty, and works where the key itself is not at hand any more.
//! - **A takeover hands over sockets alone** ([`takeover`]). What one process believes about health is a matter of seconds for the next one to find
//!   out; what operators ordered is in a file.
//!
//! # Why the data path does not use hyper
//!
//! The control plane does: the admin listener, the probes and the demo's backends. The data path reads and writes HTTP/1.1
//! itself ([`http1`], tokens found by `httparse`), for three reasons:
//!
//! - **Strictness.** hyper drops a `Content-Length` that stands beside `Transfer-Encoding` before anybody can see it, and
//!   takes a list of codings that ends in `chunked`. A proxy must refuse both: what follows such a message is a matter
//!   of opinion, which is what request smuggling lives on.
//! - **Interim answers.** hyper's HTTP/1 server has no way to send a `103 Early Hints` that a backend sent.
//! - **Cost.** One task carries both sides of an exchange: no second task per upstream connection, no channel between
//!   the two, no header map. Lines that need no change are copied in runs. An idle connection, on either side, is a bare
//!   socket: no buffer, no parser. `benches/peers` measures what that gives.
//!
//! HTTP/2 ([`http2`]) is ours too, for the same reasons: what another server repairs before we see it can't be refused, what it does not count
//! can't be bounded, and a stream that reads and writes like a connection needs no second request path. A stream's head is put
//! together as the lines that an HTTP/1.1 client would have sent, so one reader judges both.
//!
//! # What keeps the data path short
//!
//! - **A short way** (`proxy/short.rs`) for what nearly all exchanges are: a request that one write takes, an answer that
//!   one read brings. Two writes, two reads, one wait. Whatever does not fit goes on, from where it stands, on the long
//!   way (`proxy/attempt.rs`), which alone knows about streams, interim answers and reading ahead.
//! - **A pipe for long bodies** (`io/pipe.rs`): the rest of a body of known length passes from socket to socket by
//!   splice(2).
//! - **Workers accept for themselves** (`server/accept.rs`). One accepting thread for all would spread connections
//!   evenly, but costs each of them a second thread, a second registration and a queue that a burst can fill. Sockets of
//!   their own (`SO_REUSEPORT`) cost none of that, and a connection that the kernel gave to a busy worker is passed on.
//! - **What was begun is finished first** (`server/gate.rs`): under load, answers go before new requests.

pub mod admin;
pub mod analysis;
pub mod app;
pub mod cli;
pub mod config;
pub mod control;
pub mod endpoint;
pub mod fleet;
pub mod http1;
pub mod http2;
pub mod io;
pub mod limits;
pub mod preface;
pub mod privileges;
pub mod proxy;
pub mod ring;
pub mod server;
pub mod service;
pub mod takeover;
pub mod tally;
pub mod telemetry;
pub mod threads;
pub mod tls;
pub mod upstream;
