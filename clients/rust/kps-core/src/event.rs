//! What a session tells its driver.

use std::time::Duration;

use crate::error::{Error, Result};
use crate::json::Json;
use crate::message::{Past, Status};
use crate::outcomes::Outcome;
use crate::presence::Presence;

/// Names a subscription of the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SubscriptionId(pub(crate) u64);

/// Names a question of the program to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QuestionId(pub(crate) u64);

/// What has happened, in order.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// Open a transport to the server, then call `connected` or `connect_failed`.
    ConnectNeeded,
    /// The client is registered, and has subscribed to what the program wants.
    Connected {
        /// The id by which others reach the client.
        id: String,
        /// Whether it was connected before.
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
        /// The close code, 1006 without a close frame.
        code: u16,
        /// Why.
        reason: String,
        /// The wait before the next attempt, if there is one.
        retry_in: Option<Duration>,
        /// Publications that were accepted and neither written nor kept.
        dropped: usize,
    },
    /// A subscription is in force, or wanted without a connection; or it was refused, and has ended.
    Subscribed(SubscriptionId, Result<()>),
    /// A subscription that was in force has ended: the server does not grant it any more.
    SubscriptionEnded(SubscriptionId, Error),
    /// A message waits in the mailbox of a subscription. Comes once for each message.
    Arrived(SubscriptionId),
    /// Somebody has come or gone on the topic of a subscription that observes. Comes once until
    /// [`take_presence`](crate::Session::take_presence) is called.
    PresenceChanged(SubscriptionId),
    /// The outcome of an ack request for one receiver.
    Outcome(QuestionId, Outcome),
    /// The end of a question.
    Answered(QuestionId, Result<Answer>),
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
    /// Something went wrong for which nobody waits.
    Error(Error),
    /// The client has ended, for this reason unless the program closed it. The last event.
    Ended(Option<Error>),
}

/// The answer to a question.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Answer {
    /// The server has handled everything before a flush; or an ack request was cancelled.
    Done,
    /// An ack request has ended: all its outcomes were told.
    Acked {
        /// The version of the members of the topic when the message was published, if anybody observed
        /// them then: see [`Presence`].
        presence: Option<u64>,
    },
    /// To how many subscribers the server has passed a publication on. One on level 1 does not say.
    Delivered(Option<u64>),
    /// The result of a request.
    Result(Json),
    /// Who is asked, and who has answered.
    Status(Status),
    /// Messages of the past.
    Past(Past),
    /// Who is subscribed.
    Presence(Presence),
}
