//! The asynchronous client, on tokio.
//!
//! ```no_run
//! # async fn run() -> kps::Result<()> {
//! let client = kps::aio::Client::connect("localhost:9313").await?;
//! let mut messages = client.messages("news").await?;
//! client.publish("news", &["hello"]).await?;
//! while let Some(message) = messages.next().await {
//!     println!("{}", message?.data);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! A call whose future is dropped wants no answer any more. What happens besides messages is told to
//! [`Options::on_event`](crate::Options::on_event), in a task of its own, which it must not block.

mod ack;
mod client;
mod inner;
mod messages;
mod task;

pub use ack::Ack;
pub use client::Client;
pub use messages::Messages;
