//! The project's one integration test binary: a module for each subject.
#![allow(missing_docs, unreachable_pub)]
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod ring;
