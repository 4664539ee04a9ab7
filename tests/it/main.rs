//! The project's one integration test binary: a module for each subject. Start with `support`, the kit.
#![allow(missing_docs, unreachable_pub)]
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod support;

mod access_log;
mod admin;
mod again;
mod answers;
mod bad_answers;
mod bad_input;
mod bodies;
mod breaks;
mod cli;
mod config;
mod drain;
mod failover;
mod fleet;
mod forwarding;
mod fuzz;
mod health;
mod http2;
mod http2_backend;
mod keys;
mod limits;
mod listeners;
mod metrics;
mod pains;
mod preface;
mod reload;
mod repeats;
mod rewrite;
mod ring;
mod tidy;
mod tls;
mod unix;
mod upgrade;
