//! Finds the question that an error answers on level 1, where errors do not name it (spec, 4.11).
//!
//! A server answers in order. So an error answers our oldest question about a topic if everything
//! that we sent before it was answered. Otherwise we send a probe, whose answer is named: a question
//! that is still open when that comes was refused.

use std::collections::VecDeque;

/// A question about a topic, and its number among all messages of the connection.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    pub number: u64,
    pub topic: String,
    /// Whether it was to subscribe, or to unsubscribe.
    pub joins: bool,
}

/// What an error means.
#[derive(Debug, PartialEq)]
pub enum Meaning {
    /// It refuses this question.
    Refused(Asked),
    /// It may refuse one of several: send a probe.
    Unclear,
    /// It is about something else, or what it is about will be known later.
    Nothing,
}

/// The open questions about topics on one connection, in order.
#[derive(Default)]
pub struct Positions {
    open: VecDeque<Asked>,
    /// All messages up to this number have been answered.
    settled: u64,
    /// How many publications were confirmed since then.
    confirmed: u64,
    /// The number of the probe whose answer we wait for.
    probe: Option<u64>,
    errors: VecDeque<String>,
}

/// The outcome of a relay comes later than its turn.
const LATE: &str = "failed to relay to server";

impl Positions {
    /// Begins on a connection on which so many messages were sent and answered.
    pub fn new(sent: u64) -> Positions {
        Positions { settled: sent, ..Positions::default() }
    }

    pub fn asked(&mut self, number: u64, topic: &str, joins: bool) {
        self.open.push_back(Asked { number, topic: topic.to_owned(), joins });
    }

    /// Notes that a publication was confirmed.
    pub fn published(&mut self) {
        self.confirmed += 1;
    }

    /// Notes that a question was confirmed.
    pub fn answered(&mut self, topic: &str, joins: bool) {
        let is_it = |asked: &Asked| asked.topic == topic && asked.joins == joins;
        match self.open.iter().position(is_it) {
            Some(place) => {
                let number = self.open.remove(place).map_or(0, |asked| asked.number);
                self.settle(number);
            }
            None => self.open.clear(), // the server does not answer in order
        }
    }

    pub fn refused(&mut self, error: &str) -> Meaning {
        let Some(first) = self.open.front().filter(|_| !error.starts_with(LATE)) else {
            return Meaning::Nothing;
        };
        if self.probe.is_none() && first.number == self.settled + self.confirmed + 1 {
            let first = self.open.pop_front().expect("there is one");
            self.settle(first.number);
            return Meaning::Refused(first);
        }
        self.errors.push_back(error.to_owned());
        if self.errors.len() > self.open.len() {
            self.errors.pop_front();
        }
        match self.probe {
            None => Meaning::Unclear,
            Some(_) => Meaning::Nothing,
        }
    }

    pub fn probed(&mut self, number: u64) {
        self.probe = Some(number);
    }

    /// Notes the answer to a probe; returns the questions that were refused, with their errors.
    pub fn passed(&mut self) -> Vec<(Asked, String)> {
        let Some(probe) = self.probe.take() else {
            return Vec::new();
        };
        let count = self.open.iter().take_while(|asked| asked.number < probe).count();
        let refused: Vec<Asked> = self.open.drain(..count).collect();
        while self.errors.len() > count {
            self.errors.pop_front();
        }
        while self.errors.len() < count && !self.errors.is_empty() {
            self.errors.push_front(self.errors[0].clone());
        }
        (self.settled, self.confirmed) = (probe, 0);
        refused.into_iter().zip(std::mem::take(&mut self.errors)).collect()
    }

    fn settle(&mut self, number: u64) {
        if number > self.settled {
            (self.settled, self.confirmed) = (number, 0);
        }
    }
}

/// The code of a temporary error, by its text; else nothing.
pub fn code_of(error: &str) -> &'static str {
    match error {
        "too many messages in too short a time" => "rate_limited",
        "this client has too many subscriptions" | "the server has too many topics" => {
            "limit_reached"
        }
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_answers_the_oldest_question_if_all_before_it_was_answered() {
        let mut positions = Positions::new(1);
        positions.asked(2, "a", true);
        positions.asked(4, "b", true);
        assert!(matches!(positions.refused("no"), Meaning::Refused(asked) if asked.topic == "a"));
        positions.published(); // message 3
        assert!(matches!(positions.refused("no"), Meaning::Refused(asked) if asked.topic == "b"));
        assert_eq!(positions.refused("no"), Meaning::Nothing);
    }

    #[test]
    fn a_probe_tells_the_rest() {
        let mut positions = Positions::new(1);
        positions.asked(3, "a", true);
        positions.asked(4, "b", true);
        positions.asked(5, "c", false);
        assert_eq!(positions.refused("this client may not"), Meaning::Unclear);
        positions.probed(6);
        positions.answered("b", true);
        assert_eq!(positions.refused("neither"), Meaning::Nothing);
        positions.asked(7, "d", true);
        let refused = positions.passed();
        let told: Vec<_> = refused.iter().map(|(asked, why)| (&*asked.topic, &**why)).collect();
        assert_eq!(told, [("a", "this client may not"), ("c", "neither")]);
        assert!(matches!(positions.refused("no"), Meaning::Refused(asked) if asked.topic == "d"));
    }
}
