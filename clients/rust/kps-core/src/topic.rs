//! The state of one topic or pattern to which a program subscribes, between client and server.
//!
//! The program's subscriptions survive reconnects; the server forgets them with the connection:
//!
//! ```text
//! WAITING --ask--> ASKED --confirmed--> LIVE
//! ASKED --refused for now, or no answer--> REFUSED --ask--> ASKED
//! REFUSED --confirmed late--> LIVE
//! LIVE, ASKED, REFUSED --leave--> LEAVING --confirmed--> (none)
//! LEAVING --ask--> ASKED
//! ASKED --refused for good--> (none)
//! ```
//!
//! When a connection is lost, every topic is WAITING, and those that are LEAVING are removed. The
//! server answers the questions about one topic in order, so only the last answer counts.

use std::collections::VecDeque;
use std::time::Duration;

use crate::event::SubscriptionId;
use crate::json::Json;
use crate::message::Start;

#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum State {
    /// There is no connection.
    #[default]
    Waiting,
    /// The server has not answered yet.
    Asked,
    Live,
    /// The server has refused it for now.
    Refused,
    /// The program has unsubscribed, and the server has not confirmed that yet.
    Leaving,
}

/// A question for something besides what the server was asked: about presence. So a subscription can
/// end that wants too much, and others to the same topic go on.
pub struct Extra {
    /// The subscription that wants it; `None`: the program wants less.
    pub asker: Option<SubscriptionId>,
    /// What it says about the client; `None`: as before.
    pub info: Option<Json>,
    /// Whether the program is to be told of members; `None`: as before.
    pub observes: Option<bool>,
}

#[derive(Default)]
pub struct Topic {
    /// Its place in the order in which the program has subscribed.
    pub number: u64,
    pub state: State,
    /// Questions to subscribe without an answer, and questions to unsubscribe.
    pub joins: u32,
    pub leaves: u32,
    /// Questions without an answer behind those to subscribe.
    pub extras: VecDeque<Extra>,
    /// When the client gives up waiting for the answers.
    pub answer_by: Duration,
    pub has_been_live: bool,
    /// Whether an extra question was confirmed on this connection.
    pub is_granted: bool,
    /// Whether the program knows of a refusal on this connection.
    pub is_reported: bool,
    pub concurrency: u64,
    /// What the client says about itself.
    pub info: Option<Json>,
    /// With what of the past the program wants it to begin.
    pub start: Option<Start>,
    /// Whether messages may have been missed, on an earlier connection.
    pub is_missing: bool,
    /// Whether the server has refused to be told many places.
    pub is_narrow: bool,
    /// Whether the last question asked for all behind a place.
    pub resumes: bool,
}

impl Topic {
    /// Whether any answer is due.
    pub fn is_open(&self) -> bool {
        !self.is_decided() || !self.extras.is_empty()
    }

    /// Whether the server has answered whether it has the subscription.
    pub fn is_decided(&self) -> bool {
        self.joins + self.leaves == 0
    }

    pub fn is_settled(&self) -> bool {
        self.state == State::Live && !self.is_open()
    }

    /// Counts an answer; tells whether a question of that kind was pending.
    pub fn answered(&mut self, joins: bool) -> bool {
        let count = if joins { &mut self.joins } else { &mut self.leaves };
        let was_pending = *count > 0;
        *count = count.saturating_sub(1);
        was_pending
    }

    /// Takes an answer as that to an extra question, if it is one.
    pub fn answer_extra(&mut self, joins: bool) -> Option<Extra> {
        if joins && self.joins == 0 { self.extras.pop_front() } else { None }
    }

    /// Whether the last question about its members, if one is open, tells to ignore them.
    pub fn is_to_be_ignored(&self) -> bool {
        self.extras.iter().rev().find_map(|extra| extra.observes) == Some(false)
    }

    /// Notes what the client says about itself, if it is new: later than all questions.
    pub fn say(&mut self, info: Option<Json>) {
        if info.is_some() {
            self.info = info;
            self.extras.iter_mut().for_each(|extra| extra.info = None);
        }
    }

    /// Notes that the server has confirmed a question, which is open no more.
    pub fn grant(&mut self, extra: Extra) {
        self.info = extra.info.or(self.info.take());
    }

    /// Expects no answers any more. The next connection is asked for all that is wanted.
    pub fn forget_questions(&mut self) {
        (self.joins, self.leaves) = (0, 0);
        while let Some(extra) = self.extras.pop_front() {
            self.grant(extra);
        }
    }
}

/// What an answer of the server means for a topic.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Verdict {
    /// Nothing: another answer is due, or the client asked nothing.
    Pending,
    /// The server has answered all questions.
    Settled,
    /// The server refused it for now, and the client will ask again.
    Retry,
    /// The server refused it for good.
    Final,
    /// The server refused only what one subscription wants besides; `None`: that the program wants less.
    Extra(Option<SubscriptionId>),
}
