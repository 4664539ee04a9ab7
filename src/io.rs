//! Bytes in and out of a socket: buffers, waiting with a bound, and the two ends of a connection.
//!
//! Owns reading and writing. Never looks at what the bytes mean: that is [`crate::http1`] and [`crate::http2`].

mod buffer;
mod carrier;
mod deadline;
mod multiplexed;
mod pipe;
mod secure;
mod stream;

pub use buffer::{Buffer, BufferPool};
pub use carrier::{Carrier, Stopped};
pub use deadline::Deadline;
pub use pipe::{Pipe, Pipes};
pub use secure::Secure;
pub use stream::{Detached, ReadHalf, Stream, WriteHalf};
