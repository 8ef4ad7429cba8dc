//! A client of KPS, a real-time publish/subscribe bus over WebSockets.
//!
//! ```no_run
//! let client = kps::Client::connect("localhost:9313")?;
//! client.subscribe("news", |message| println!("{}: {}", message.from, message.data))?;
//! client.publish("news", &["hello"])?;
//! # Ok::<(), kps::Error>(())
//! ```
//!
//! The client comes back by itself when its connection ends, and subscribes again. [`Client`] is
//! blocking; with the feature `tokio` there is an asynchronous one in `kps::aio`, and with the
//! feature `tls` both speak TLS.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod ack;
#[cfg(feature = "tokio")]
pub mod aio;
mod answers;
mod callbacks;
mod client;
mod engine;
mod event;
mod message;
mod options;
mod pending;
mod queue;
mod random;
mod shared;
mod slot;
mod subscription;
#[cfg(feature = "tls")]
mod tls;
mod transport;

pub use ack::{Ack, Outcomes};
pub use client::Client;
pub use event::Event;
pub use kps_core::{
    Ask, Backoff, Error, GroupOutcome, Headers, Json, Key, Limits, Members, Outcome, Position,
    Presence, Result, Scope, ServerError, Status,
};
pub use message::{Message, Past, Reply};
pub use options::Options;
pub use pending::Pending;
#[cfg(feature = "tls")]
pub use rustls;
pub use subscription::{Messages, Observer, SubscribeOptions, Subscription};
