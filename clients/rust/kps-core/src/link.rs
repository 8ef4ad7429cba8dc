//! One connection of a session, and what both ends have agreed on.

use std::collections::HashSet;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::fields::{Fields, Object};
use crate::wire::{Kind, WebSocket};

/// Opening brackets that a server takes in one message (spec, 2.6).
const MOST_BRACKETS: usize = 70_000;

/// What a server says of the messages with ids that it remembers (spec, 21.3).
#[derive(Debug, Clone, PartialEq)]
pub struct Window {
    /// Another one after a restart, with which the server has forgotten everything.
    pub name: String,
    /// For how long it remembers a message, and how many of one client.
    pub seconds: f64,
    pub most: u64,
    /// Its time in seconds, and when it has told that.
    time: f64,
    told_at: Duration,
}

impl Window {
    fn read(pong: &Fields, now: Duration) -> Option<Window> {
        let told = pong.object("message_ids")?;
        Some(Window {
            name: told.text_or_none("window").filter(|name| !name.is_empty())?,
            seconds: told.seconds("seconds")?,
            most: told.number("most")?,
            time: told.seconds("time")?,
            told_at: now,
        })
    }

    /// The time of the server until which it is sure to remember a message that is sent now. By our
    /// clock, which may have stood still: then it is less.
    pub fn until(&self, now: Duration) -> f64 {
        self.time + now.saturating_sub(self.told_at).as_secs_f64() + self.seconds
    }
}

/// A connection.
pub struct Link {
    pub socket: WebSocket,
    /// Whether the server has answered the first `ping`.
    pub registered: bool,
    /// When that must have happened.
    pub register_by: Option<Duration>,
    /// The id of the client, as the server knows it.
    pub id: String,
    /// Whether both speak level 2.
    pub level_2: bool,
    /// The largest message that the server takes, if it has said so.
    pub max_message: Option<usize>,
    pub window: Option<Window>,
    features: HashSet<String>,
    queue_bytes: usize,
}

impl Link {
    pub fn new(socket: WebSocket, id: String, queue_bytes: usize) -> Link {
        Link {
            socket,
            registered: false,
            register_by: None,
            id,
            level_2: false,
            max_message: None,
            window: None,
            features: HashSet::new(),
            queue_bytes,
        }
    }

    /// Takes the first `pong` of the connection.
    pub fn agree(&mut self, pong: &Fields, highest: u8, now: Duration) {
        self.registered = true;
        self.level_2 = highest >= 2 && pong.number("proto") == Some(2);
        let limit = pong.object("limits").and_then(|limits| limits.number("max_message"));
        let limit = limit.filter(|limit| *limit > 0);
        self.max_message = limit.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX));
        if let Some(id) = pong.text_or_none("id").filter(|id| !id.is_empty()) {
            self.id = id;
        }
        if !self.level_2 {
            return;
        }
        self.socket.outbox.join(self.max_message.unwrap_or(usize::MAX));
        self.features = pong.texts("features").into_iter().collect();
        self.remember(pong, now);
    }

    /// Notes what a `pong` says of messages with ids.
    pub fn remember(&mut self, pong: &Fields, now: Duration) {
        if self.has("message_ids") {
            self.window = Window::read(pong, now).or(self.window.take());
        }
    }

    pub fn has(&self, feature: &str) -> bool {
        self.features.contains(feature)
    }

    pub fn require(&self, feature: &str) -> Result<()> {
        match self.has(feature) {
            true => Ok(()),
            false => Err(Error::Unsupported(feature.to_owned())),
        }
    }

    /// Begins a message. On level 1 each names its sender, as those of the original clients do.
    pub fn message(&self, action: &str) -> Object {
        let message = Object::action(action);
        if self.level_2 { message } else { message.text("from", &self.id) }
    }

    /// Refuses a message for which the server would end the connection, or refuse an array.
    pub fn check_size(&self, message: &[u8]) -> Result<()> {
        if let Some(most) = self.max_message.filter(|most| message.len() > *most) {
            let size = message.len();
            let text = format!("the message has {size} bytes, and the server takes {most} at most");
            return Err(Error::MessageTooLarge(text));
        }
        let is_bracket = |byte: &&u8| matches!(**byte, b'[' | b'{');
        if message.len() > MOST_BRACKETS
            && message.iter().filter(is_bracket).count() > MOST_BRACKETS
        {
            let text =
                format!("the message has more than {MOST_BRACKETS} opening brackets, [ and {{");
            return Err(Error::MessageTooLarge(text));
        }
        Ok(())
    }

    /// Sends a message of the program, if it fits.
    pub fn send_checked(&mut self, message: Vec<u8>, kind: Kind) -> Result<()> {
        self.check_size(&message)?;
        let waiting = self.socket.outbox.bytes;
        if waiting > 0 && waiting + message.len() > self.queue_bytes {
            let text = "the network is slower than the program, and too much waits to be sent";
            return Err(Error::QueueFull(text));
        }
        self.socket.send(message, kind);
        Ok(())
    }

    /// Sends a message that must not depend on what else waits. A server that causes very many of
    /// them, and reads none, loses the connection.
    pub fn send(&mut self, message: Object, now: Duration) {
        self.send_raw(message.done(), now);
    }

    pub fn send_raw(&mut self, message: Vec<u8>, now: Duration) {
        if self.socket.outbox.bytes > 2 * self.queue_bytes {
            self.socket.fail(1008, "slow consumer", now);
        }
        self.socket.send(message, Kind::Bound);
    }
}
