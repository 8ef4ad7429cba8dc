//! What programs see: messages, places in history, the outcomes of ack requests.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::fields::{Fields, Object};
use crate::json::Json;
use crate::key::{Key, Scope};

/// Names and texts that go beside a payload, in order.
pub type Headers = Vec<(String, String)>;

/// A message, as a subscription gets it.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// The topic; empty for a direct message.
    pub topic: String,
    /// The payload.
    pub data: Json,
    /// The id of the publisher.
    pub from: String,
    /// Texts beside the payload.
    pub headers: Headers,
    /// Its place in the history of its topic, if that has one.
    pub position: Option<Position>,
    /// How many members of a group have been asked to handle it, with this one. Above 1 it may have
    /// been handled before, in part or wholly.
    pub attempt: u64,
    /// What to settle once it is handled, if the publisher wants an ack.
    pub ack: Option<AckToken>,
}

/// Names an ack that is due. See [`Session::settle`](crate::Session::settle).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AckToken(pub(crate) u64);

/// A place in the history of a topic: behind the message with this offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// Offsets of another epoch mean nothing beside this one.
    pub epoch: String,
    /// The number of a message, from 1.
    pub offset: u64,
}

impl Position {
    pub(crate) fn written(&self) -> Object {
        Object::new().text("epoch", &self.epoch).number("offset", self.offset)
    }
}

/// With which messages of the past a subscription begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// With so many of the latest; for a pattern, of each topic.
    Last(u64),
    /// With those behind a place.
    Since(Position),
}

/// What a subscription is to have besides new messages.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Wish {
    /// Messages of the past.
    pub start: Option<Start>,
    /// How many messages with ack a member of a group takes at a time; 0 means 1.
    pub concurrency: u64,
    /// What the client says about itself to those who observe who is subscribed: an object. It
    /// replaces what it has said before, and remains until the last subscription to the topic ends.
    pub info: Option<Json>,
    /// Whether it observes who is subscribed:
    /// see [`Event::PresenceChanged`](crate::Event::PresenceChanged).
    pub observes: bool,
}

impl Wish {
    pub(crate) fn check(&self, key: &Key) -> Result<()> {
        let is_member = !key.group.is_empty();
        if is_member && (self.start.is_some() || self.is_about_presence()) {
            return Err(Error::invalid("a group has neither a past nor presence"));
        }
        if !is_member && self.concurrency > 1 {
            return Err(Error::invalid("concurrency is for a member of a group"));
        }
        if key.scope.is_pattern() && matches!(self.start, Some(Start::Since(_))) {
            return Err(Error::invalid("a position is that of a topic, not of a pattern"));
        }
        if key.scope.is_pattern() && self.is_about_presence() {
            return Err(Error::invalid("presence and info are for a topic, not for a pattern"));
        }
        if self.info.as_ref().is_some_and(|info| !info.as_str().starts_with('{')) {
            return Err(Error::invalid("info is an object"));
        }
        Ok(())
    }

    /// The features of a server that it needs.
    pub(crate) fn needs(&self) -> impl Iterator<Item = &'static str> {
        let history = self.start.as_ref().map(|_| "history");
        history.into_iter().chain(self.is_about_presence().then_some("presence"))
    }

    pub(crate) fn is_about_presence(&self) -> bool {
        self.observes || self.info.is_some()
    }
}

/// Messages of the past, as [`Session::history`](crate::Session::history) gets them.
#[derive(Debug, Clone, PartialEq)]
pub struct Past {
    /// The oldest first.
    pub messages: Vec<Message>,
    /// Where to go on: the place of the last one.
    pub position: Position,
    /// Whether nothing is missing between `since` and the messages.
    pub complete: bool,
    /// If something is, how many messages, if anybody knows.
    pub lost: Option<u64>,
}

/// The topic or pattern, and the group, that a message of the server names.
pub(crate) fn key_in(fields: &Fields) -> Key {
    let pattern = fields.text("pattern");
    let scope = match pattern.is_empty() {
        true => Scope::Topic(fields.text("topic")),
        false => Scope::Pattern(pattern),
    };
    Key { scope, group: fields.text("group") }
}

/// Where a message with an ack goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// To the subscribers of a topic.
    Topic(String),
    /// To one client, or to the server's program.
    Id(String),
}

/// What else an ack request says. `Ask::default()` asks for 5 seconds, and nothing else.
#[derive(Debug, Clone, PartialEq)]
pub struct Ask {
    /// The seconds that receivers have for their answer.
    pub timeout: f64,
    /// Texts beside the payload.
    pub headers: Headers,
    /// An id that no other message of this client id has. With it the message is handled once,
    /// however often it is sent, so the client can send it again after a reconnect.
    pub message_id: String,
    /// Each group gives messages with the same key to the same member.
    pub key: String,
    /// How many failures of members of a group are not final.
    pub retry: u64,
    /// Ids that must be among the receivers: who is not has the outcome `absent`.
    pub expect: Vec<String>,
    /// Groups of the topic that must have a member; else their outcome is `no member`.
    pub expect_groups: Vec<String>,
}

impl Default for Ask {
    fn default() -> Ask {
        Ask {
            timeout: 5.0,
            headers: Headers::new(),
            message_id: String::new(),
            key: String::new(),
            retry: 0,
            expect: Vec::new(),
            expect_groups: Vec::new(),
        }
    }
}

impl Ask {
    /// The default with another timeout, in seconds.
    pub fn within(seconds: f64) -> Ask {
        Ask { timeout: seconds, ..Ask::default() }
    }

    pub(crate) fn check(&self) -> Result<()> {
        if self.timeout > 0.0 && self.timeout <= 1e9 {
            return Ok(());
        }
        Err(Error::invalid("a timeout is a number of seconds above 0"))
    }
}

/// What the members of an ack request were, by id: whether the outcome of each is known.
pub type Status = BTreeMap<String, bool>;

pub(crate) fn write_headers(message: Object, headers: &Headers) -> Object {
    if headers.is_empty() {
        return message;
    }
    let written =
        headers.iter().fold(Object::new(), |object, (name, text)| object.text(name, text));
    message.object("headers", written)
}

pub(crate) fn read_headers(fields: &Fields) -> Headers {
    let Some(headers) = fields.object("headers") else {
        return Headers::new();
    };
    let text = |value: &str| serde_json::from_str::<String>(value).ok();
    let read =
        headers.members().filter_map(|(name, value)| Some((name.into(), text(value.get())?)));
    read.collect()
}
