//! What a client tells its program besides messages.

use std::time::Duration;

use kps_core::{Error, Event as CoreEvent};

/// Something has happened. See [`Options::on_event`](crate::Options::on_event).
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// The client is connected.
    Connected {
        /// The id by which others reach it.
        id: String,
        /// Whether it was connected before. What was published meanwhile has not come, but on topics
        /// with history.
        again: bool,
    },
    /// An attempt to connect has failed, and another one follows.
    ConnectAttemptFailed {
        /// Why.
        error: Error,
        /// The wait before the next attempt.
        retry_in: Duration,
    },
    /// The connection has ended.
    Disconnected {
        /// The close code of the WebSocket, 1006 without one.
        code: u16,
        /// Why.
        reason: String,
        /// The wait before the next attempt, if there is one.
        retry_in: Option<Duration>,
        /// Publications that were accepted and neither written nor kept.
        dropped: usize,
    },
    /// The client has come back, and gets all messages of a topic that it has missed.
    Recovered {
        /// The topic, or the text of a pattern.
        topic: String,
        /// How many messages come, before any new one.
        messages: u64,
    },
    /// Messages of a topic with history do not come.
    Lost {
        /// The topic, or the text of a pattern.
        topic: String,
        /// How many, if anybody knows.
        messages: Option<u64>,
    },
    /// Something went wrong for which nobody waits: a refused publication, a subscription that has
    /// ended, a message that cannot be read.
    Error(Error),
    /// The client has ended: for this reason, unless the program closed it. The last event.
    Closed(Option<Error>),
}

impl Event {
    pub(crate) fn of(event: CoreEvent) -> Option<Event> {
        Some(match event {
            CoreEvent::Connected { id, again } => Event::Connected { id, again },
            CoreEvent::ConnectAttemptFailed { error, retry_in } => {
                Event::ConnectAttemptFailed { error, retry_in }
            }
            CoreEvent::Disconnected { code, reason, retry_in, dropped } => {
                Event::Disconnected { code, reason, retry_in, dropped }
            }
            CoreEvent::Recovered { topic, messages } => Event::Recovered { topic, messages },
            CoreEvent::Lost { topic, messages } => Event::Lost { topic, messages },
            CoreEvent::Error(error) => Event::Error(error),
            _ => return None,
        })
    }

    pub(crate) fn is_change(&self) -> bool {
        matches!(self, Event::Connected { .. } | Event::Disconnected { .. })
    }
}
