//! The client's end of a WebSocket (RFC 6455), without I/O.

mod frames;
mod handshake;
mod outbox;
mod websocket;

pub(crate) use outbox::Kind;
pub(crate) use websocket::{Closed, Item, WebSocket};

pub use websocket::Transport;

/// Fills a slice with bytes that nobody can predict.
pub type Entropy = Box<dyn FnMut(&mut [u8]) + Send>;
