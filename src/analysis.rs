//! What is worked out from configurations and recorded traffic, away from any running proxy.
//!
//! Owns the reading of logs and the arithmetic over rings and requests. Never asks a proxy, starts a runtime or opens a file: who calls brings
//! what is read. Keys and routes are found by the proxy's own code, so an answer here is what the proxy would do. Start at
//! [`records::Records`].

pub mod chart;
pub mod compare;
pub mod distinct;
pub mod drawing;
pub mod heavy;
pub mod records;
pub mod replay;
pub mod survey;
pub mod traffic;
