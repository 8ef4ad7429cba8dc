//! Messages, as programs see them.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use kps_core::{AckToken, Headers, Json, Message as CoreMessage, Position, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::engine::Settle;

/// A message, as a callback or an iterator gets it.
///
/// If its publisher wants an ack, the message counts as handled when it is dropped, or with
/// [`reply`](Message::reply) and [`fail`](Message::fail). So a program may keep it, or give it to
/// another thread, and handle it later. Clones are the same message.
#[derive(Clone)]
pub struct Message {
    /// The topic; empty for a direct message.
    pub topic: String,
    /// The payload.
    pub data: Json,
    /// The id of the publisher.
    pub from: String,
    /// Texts beside the payload.
    pub headers: Headers,
    /// Its place in the history of its topic, to resume behind it, if there is one.
    pub position: Option<Position>,
    /// How many members of a group have been asked to handle it, with this one. Above 1 it may have
    /// been handled before, in part or wholly.
    pub attempt: u64,
    ack: Option<Arc<Guard>>,
}

impl Message {
    pub(crate) fn new(message: CoreMessage, settle: &Arc<dyn Settle>) -> Message {
        let guard = |token| {
            let settle = settle.clone();
            Arc::new(Guard { token, settle, is_settled: AtomicBool::new(false) })
        };
        let ack = message.ack.map(guard);
        Message { ack, ..Message::of_the_past(message) }
    }

    pub(crate) fn of_the_past(message: CoreMessage) -> Message {
        let CoreMessage { topic, data, from, headers, position, attempt, .. } = message;
        Message { topic, data, from, headers, position, attempt, ack: None }
    }

    /// Reads the payload. Fails with [`InvalidArgument`](crate::Error::InvalidArgument) if it is another value.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T> {
        self.data.read()
    }

    /// A text beside the payload.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, text)| text.as_str())
    }

    /// Whether the publisher wants an ack.
    pub fn wants_ack(&self) -> bool {
        self.ack.is_some()
    }

    /// Answers the publisher. Without effect if it wants no ack, or has one.
    pub fn reply<T: Serialize + ?Sized>(&self, result: &T) -> Result<()> {
        match (&self.ack, Json::of(result)) {
            (Some(ack), Ok(result)) => ack.settle(Ok(Some(result))),
            (Some(ack), Err(error)) => {
                ack.settle(Err(error.to_string()));
                return Err(error);
            }
            _ => (),
        }
        Ok(())
    }

    /// Tells the publisher that the message could not be handled.
    pub fn fail(&self, reason: impl fmt::Display) {
        if let Some(ack) = &self.ack {
            ack.settle(Err(reason.to_string()));
        }
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Message");
        shown.field("topic", &self.topic).field("data", &self.data).field("from", &self.from);
        shown.finish_non_exhaustive()
    }
}

/// Settles an ack once, at the latest when the last clone of its message is gone.
struct Guard {
    token: AckToken,
    settle: Arc<dyn Settle>,
    is_settled: AtomicBool,
}

impl Guard {
    fn settle(&self, result: std::result::Result<Option<Json>, String>) {
        if !self.is_settled.swap(true, Ordering::Relaxed) {
            self.settle.settle(self.token, result);
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        match std::thread::panicking() {
            true => self.settle(Err("the program has panicked".to_owned())),
            false => self.settle(Ok(None)),
        }
    }
}

/// What a callback may return: nothing, or a result, which is sent to a publisher that wants an ack.
pub trait Reply {
    /// Answers a message with it.
    fn answer(self, message: &Message);
}

impl Reply for () {
    fn answer(self, _: &Message) {}
}

impl<T: Serialize, E: fmt::Display> Reply for std::result::Result<T, E> {
    fn answer(self, message: &Message) {
        match self.map(|result| Json::of(&result)) {
            // Without a result it is handled when it is dropped, which may be later.
            Ok(Ok(result)) if result.is_null() => (),
            Ok(Ok(result)) => drop(message.reply(&result)),
            Ok(Err(error)) => message.fail(error),
            Err(error) => message.fail(error),
        }
    }
}

/// Messages of the past. See [`Client::history`](crate::Client::history).
#[derive(Debug, Clone)]
pub struct Past {
    /// The oldest first.
    pub messages: Vec<Message>,
    /// Where to go on.
    pub position: Position,
    /// Whether nothing is missing between `since` and the messages.
    pub complete: bool,
    /// If something is, how many messages, if anybody knows.
    pub lost: Option<u64>,
}

impl Past {
    pub(crate) fn of(past: kps_core::Past) -> Past {
        let kps_core::Past { messages, position, complete, lost } = past;
        let messages = messages.into_iter().map(Message::of_the_past).collect();
        Past { messages, position, complete, lost }
    }
}
