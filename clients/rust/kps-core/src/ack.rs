//! What has become of one message, for the program that has asked for acks or for a result.

use std::collections::HashSet;
use std::time::Duration;

use crate::error::Error;
use crate::json::Json;
use crate::outcomes::{Outcome, failure_of};

/// Bytes of the outcomes of one request.
const MOST_BYTES: usize = 64 << 20;

/// An ack request that is under way.
pub struct Ack {
    /// Whether the program wants one result only.
    pub is_request: bool,
    pub timeout: Duration,
    /// When it was seen to be written. The time of the receivers begins then.
    pub started: Option<Duration>,
    target: String,
    /// Who has had an outcome.
    known: HashSet<String>,
    size: usize,
    /// Of a request: who has failed, and why.
    failures: Vec<(String, String)>,
}

/// What an outcome is for the program.
pub enum Taken {
    /// Nothing new, or nothing that it wants to know.
    Nothing,
    Outcome(Outcome),
    /// The result of a request.
    Result(Json),
    /// More than fits into memory.
    TooMuch,
}

impl Ack {
    pub fn new(target: &str, timeout: Duration, is_request: bool) -> Ack {
        Ack {
            is_request,
            timeout,
            started: None,
            target: target.to_owned(),
            known: HashSet::new(),
            size: 0,
            failures: Vec::new(),
        }
    }

    /// Takes the outcome of a receiver, by a name that no other one has. The first one counts.
    pub fn take(&mut self, name: String, outcome: Outcome) -> Taken {
        if self.known.contains(&name) {
            return Taken::Nothing;
        }
        self.size += outcome.size(name.len());
        if self.size > MOST_BYTES {
            return Taken::TooMuch;
        }
        self.known.insert(name);
        if !self.is_request {
            return Taken::Outcome(outcome);
        }
        if outcome.success {
            return Taken::Result(outcome.result.unwrap_or_else(Json::null));
        }
        if !outcome.has_asked_nobody() {
            let error = outcome.error.clone().unwrap_or_default();
            let by = if outcome.client_id.is_empty() { outcome.name() } else { outcome.client_id };
            self.failures.push((by, error));
        }
        Taken::Nothing
    }

    /// The error of a request that has ended without a result.
    pub fn failure(&self) -> Error {
        failure_of(&self.target, &self.failures)
    }
}
