//! Where a client stands in the topics that have history, so that it can resume (spec, 15.5).

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::fields::{Fields, Object};
use crate::key::{Key, Scope};
use crate::message::Position;

/// Topics of which the place is known. More begin anew after a reconnect.
const MOST: usize = 10_000;

/// Topics that the place of a pattern names, and bytes that they take.
const MOST_NAMED: usize = 1000;
const MOST_BYTES: usize = 256 * 1024;

/// Offsets on two sides of a multiple of this tell nothing of what is in between (spec, 15.2).
const BREAK: u64 = 1 << 32;

const LONGEST_EPOCH: usize = 256;

/// Where a subscription begins, as its confirmation tells.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Standing {
    /// Empty: no history.
    pub epoch: String,
    pub offset: u64,
    pub mark: u64,
    pub coming: u64,
    /// Whether all that was asked for comes, if something was.
    pub recovered: Option<bool>,
    pub lost: Option<u64>,
}

impl Standing {
    pub fn read(fields: &Fields) -> Standing {
        let number = |name| fields.number(name).unwrap_or_default();
        Standing {
            epoch: read_epoch(fields),
            offset: number("offset"),
            mark: number("mark"),
            coming: number("coming"),
            recovered: fields.boolean("recovered"),
            lost: fields.number("lost"),
        }
    }
}

pub fn read_epoch(fields: &Fields) -> String {
    fields.text("epoch").chars().take(LONGEST_EPOCH).collect()
}

/// What is known of messages that have come.
#[derive(Debug, PartialEq)]
pub struct Passed {
    /// The place of the first.
    pub position: Position,
    /// How many before it are missing; `None`: nobody knows, as the epoch is another one.
    pub missing: Option<u64>,
    /// How many of them, the first ones, the client has had before.
    pub repeated: usize,
}

/// The places of one client.
#[derive(Default)]
pub struct Standings {
    topics: HashMap<String, (Position, u64)>,
    /// The same topics, in the order in which they became known.
    order: BTreeMap<u64, String>,
    patterns: HashMap<String, Standing>,
    /// The epochs of topics, as this connection has confirmed them.
    epochs: HashMap<String, String>,
    /// Topics of which a confirmation has told what is missing.
    told: HashSet<String>,
}

impl Standings {
    /// Notes where a subscription begins, which resumes one or is new.
    pub fn begin(&mut self, scope: &Scope, standing: &Standing, resumes: bool) {
        match scope {
            Scope::Topic(topic) if standing.epoch.is_empty() => {
                if !self.epochs.contains_key(topic) {
                    self.remove(topic); // else it is confirmed once more
                }
            }
            Scope::Topic(topic) => {
                self.epochs.insert(topic.clone(), standing.epoch.clone());
                let known = self.topics.get(topic).map(|(position, _)| &position.epoch);
                if resumes || known != Some(&standing.epoch) {
                    let position =
                        Position { epoch: standing.epoch.clone(), offset: standing.offset };
                    self.note(topic, position);
                } // else another subscription has the topic, and its place shows what is missing
            }
            Scope::Pattern(pattern) if standing.epoch.is_empty() => {
                self.patterns.remove(pattern);
            }
            Scope::Pattern(pattern) => {
                let known = self.patterns.get(pattern).map(|before| &before.epoch);
                if known != Some(&standing.epoch) {
                    self.patterns.insert(pattern.clone(), standing.clone());
                } // else the first mark remains: some of what came after it may not be here yet
                if standing.recovered == Some(false) {
                    let known = self.topics.keys().filter(|topic| scope.has(topic));
                    self.told.extend(known.cloned());
                }
            }
        }
    }

    /// Notes that another connection may tell other epochs.
    pub fn disconnected(&mut self) {
        self.epochs.clear();
    }

    /// Notes that a subscription has ended; `wanted` are those that go on.
    pub fn forget<'k>(&mut self, scope: &Scope, wanted: impl Iterator<Item = &'k Key> + Clone) {
        let ended: Vec<String> = match scope {
            Scope::Topic(topic) => vec![topic.clone()],
            Scope::Pattern(pattern) => {
                self.patterns.remove(pattern);
                self.topics.keys().filter(|topic| scope.has(topic)).cloned().collect()
            }
        };
        for topic in ended {
            if !wanted.clone().any(|key| key.scope.has(&topic)) {
                self.remove(&topic);
                self.epochs.remove(&topic);
                self.told.remove(&topic);
            }
        }
    }

    /// Writes the `since` that resumes a subscription, if anything does. It has up to `largest` bytes:
    /// what it does not name comes once more, and is dropped here.
    pub fn since(&self, scope: &Scope, largest: usize) -> Option<Object> {
        let pattern = match scope {
            Scope::Topic(topic) => return Some(self.topics.get(topic)?.0.written()),
            Scope::Pattern(pattern) => pattern,
        };
        let standing = self.patterns.get(pattern)?;
        let (mut named, mut size) = (Object::new(), 0);
        let latest = self.order.values().rev().filter(|topic| scope.has(topic));
        for topic in latest.take(MOST_NAMED) {
            let position = &self.topics[topic].0;
            size += 6 * (topic.len() + position.epoch.len()) + 64;
            if size > largest.min(MOST_BYTES) {
                break;
            }
            named = named.object(topic, position.written());
        }
        let since = Object::new().text("epoch", &standing.epoch).number("mark", standing.mark);
        Some(since.object("topics", named))
    }

    /// Notes messages that have come, the first with an offset.
    pub fn passed(&mut self, topic: &str, epoch: String, offset: u64, count: usize) -> Passed {
        let known = self.topics.get(topic).map(|(position, _)| position.clone());
        let epoch = [Some(epoch), self.epochs.get(topic).cloned(), self.usual_epoch(topic)]
            .into_iter()
            .flatten()
            .find(|epoch| !epoch.is_empty())
            .unwrap_or_default();
        let was_told = self.told.remove(topic);
        let mut last = offset + count as u64 - 1;
        let mut passed = Passed {
            position: Position { epoch: epoch.clone(), offset },
            missing: Some(0),
            repeated: 0,
        };
        match known {
            Some(known) if known.epoch == epoch => {
                passed.repeated = count.min((known.offset + 1).saturating_sub(offset) as usize);
                last = last.max(known.offset);
                if !was_told && known.offset / BREAK == offset / BREAK {
                    passed.missing = Some(offset.saturating_sub(known.offset + 1));
                }
            }
            Some(_) if !was_told => passed.missing = None,
            _ => (),
        }
        self.note(topic, Position { epoch, offset: last });
        passed
    }

    fn note(&mut self, topic: &str, position: Position) {
        if let Some((known, _)) = self.topics.get_mut(topic) {
            *known = position;
            return;
        }
        if self.topics.len() >= MOST {
            if let Some((_, oldest)) = self.order.pop_first() {
                self.topics.remove(&oldest);
            }
        }
        let number = self.order.last_key_value().map_or(0, |(number, _)| number + 1);
        self.order.insert(number, topic.to_owned());
        self.topics.insert(topic.to_owned(), (position, number));
    }

    fn remove(&mut self, topic: &str) {
        if let Some((_, number)) = self.topics.remove(topic) {
            self.order.remove(&number);
        }
    }

    fn usual_epoch(&self, topic: &str) -> Option<String> {
        let mut known = self.patterns.iter();
        let found = known.find(|(pattern, _)| Scope::pattern(*pattern).has(topic))?;
        Some(found.1.epoch.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(epoch: &str, offset: u64) -> Standing {
        Standing { epoch: epoch.into(), offset, mark: offset, ..Standing::default() }
    }

    fn since(standings: &Standings, scope: &Scope) -> Option<String> {
        Some(String::from_utf8(standings.since(scope, 10_000)?.done()).unwrap())
    }

    #[test]
    fn a_topic_resumes_behind_its_last_message() {
        let mut standings = Standings::default();
        let topic = Scope::from("t");
        assert_eq!(since(&standings, &topic), None);
        standings.begin(&topic, &standing("e", 4), false);
        assert_eq!(standings.passed("t", "".into(), 5, 2).missing, Some(0));
        assert_eq!(since(&standings, &topic).unwrap(), r#"{"epoch":"e","offset":6}"#);
        let passed = standings.passed("t", "".into(), 6, 3);
        assert_eq!((passed.missing, passed.repeated), (Some(0), 1));
        assert_eq!(standings.passed("t", "".into(), 12, 1).missing, Some(3));
        assert_eq!(standings.passed("t", "f".into(), 1, 1).missing, None);
        assert_eq!(standings.passed("t", "f".into(), BREAK + 1, 1).missing, Some(0));
        standings.forget(&topic, [].iter());
        assert_eq!(since(&standings, &topic), None);
    }

    #[test]
    fn a_pattern_names_the_latest_topics() {
        let mut standings = Standings::default();
        let pattern = Scope::pattern("t/*");
        standings.begin(&pattern, &standing("e", 7), false);
        standings.passed("t/a", "".into(), 1, 1);
        standings.passed("t/b", "x".into(), 2, 1);
        standings.passed("u", "y".into(), 2, 1);
        let expected = concat!(
            r#"{"epoch":"e","mark":7,"topics":{"t/b":{"epoch":"x","offset":2},"#,
            r#""t/a":{"epoch":"e","offset":1}}}"#
        );
        assert_eq!(since(&standings, &pattern).unwrap(), expected);
        let narrow = standings.since(&pattern, 0).unwrap().done();
        assert_eq!(narrow, br#"{"epoch":"e","mark":7,"topics":{}}"#);
        standings.begin(&pattern, &standing("e", 9), true);
        assert!(since(&standings, &pattern).unwrap().contains(r#""mark":7"#));
    }

    #[test]
    fn the_oldest_places_are_forgotten() {
        let mut standings = Standings::default();
        for number in 0..=MOST {
            standings.passed(&number.to_string(), "e".into(), 1, 1);
        }
        assert_eq!(since(&standings, &"0".into()), None);
        assert!(since(&standings, &"1".into()).is_some());
    }
}
