//! The core of a client of KPS, a real-time publish/subscribe bus over WebSockets.
//!
//! It does no I/O and starts no threads: bytes and times go in; events, bytes to write and deadlines
//! come out. The crate `kps` has drivers for it. A driver of one's own opens a transport on
//! [`Event::ConnectNeeded`], and then moves bytes and times: see [`Session`].

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod ack;
mod address;
mod asked;
mod asking;
mod error;
mod event;
mod fields;
mod flow;
mod inbox;
mod json;
mod key;
mod level1;
mod link;
mod message;
mod offline;
mod options;
mod outcomes;
mod past;
mod presence;
mod repeat;
mod session;
mod standings;
mod topic;
mod topics;
mod wire;

pub use address::Address;
pub use error::{Error, Result, ServerError};
pub use event::{Answer, Event, QuestionId, SubscriptionId};
pub use json::Json;
pub use key::{Key, Scope};
pub use message::{AckToken, Ask, Headers, Message, Past, Position, Start, Status, Target, Wish};
pub use options::{Backoff, Limits, Options, check_token};
pub use outcomes::{GroupOutcome, Outcome};
pub use presence::{Members, Presence};
pub use session::Session;
pub use wire::{Entropy, Transport};
