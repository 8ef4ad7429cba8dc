//! Subscribes to topics, and asks again when the server refuses them for now.

use std::collections::HashMap;
use std::time::Duration;

use crate::error::{Error, Result, ServerError};
use crate::event::{Event, SubscriptionId};
use crate::fields::{Fields, Object};
use crate::json::Json;
use crate::key::{Key, Scope};
use crate::level1::{Asked, Meaning, Positions, code_of};
use crate::link::Link;
use crate::message::{Start, Wish};
use crate::options::Backoff;
use crate::presence::Rosters;
use crate::standings::{Standing, Standings};
use crate::topic::{Extra, State, Topic, Verdict};

/// The waits before asking again for what the server has refused for now.
const RETRIES: Backoff = Backoff {
    first: Duration::from_millis(500),
    longest: Duration::from_secs(30),
    factor: 2.0,
    jitter: 0.5,
};

/// The time after which no answer is expected any more.
const PATIENCE: Duration = Duration::from_secs(10);

/// All topics and patterns of a program.
#[derive(Default)]
pub struct Topics {
    topics: HashMap<Key, Topic>,
    count: u64,
    retry_at: Option<Duration>,
    attempt: u32,
    /// When to look for questions without an answer.
    look_at: Option<Duration>,
    pub standings: Standings,
    pub rosters: Rosters,
    /// Matches errors with questions, if errors on this connection do not name those.
    pub positions: Option<Positions>,
}

impl Topics {
    /// Tells whether the server has answered all questions about something, on a connection that is
    /// ready.
    pub fn is_settled(&self, key: &Key) -> bool {
        self.topics.get(key).is_none_or(Topic::is_settled)
    }

    /// Lets a subscription have what it wants, now or on the next connection. `link` is one that is
    /// ready.
    pub fn want(
        &mut self,
        id: SubscriptionId,
        key: &Key,
        wish: &Wish,
        link: Option<&mut Link>,
        now: Duration,
    ) -> Result<()> {
        if let Some(link) = &link {
            key.needs().chain(wish.needs()).try_for_each(|feature| link.require(feature))?;
        }
        if wish.start.is_some() && self.wanted().any(|other| other.overlaps(key)) {
            let text = format!("this client is subscribed to {key} already: ask for its history");
            return Err(Error::InvalidArgument(text));
        }
        self.count += 1;
        let number = self.count;
        let new = || Topic { number, ..Topic::default() };
        let found = self.topics.entry(key.clone()).or_insert_with(new);
        if wish.observes {
            self.rosters.observe(id, key.scope.text());
        }
        match (found.state, link) {
            (state @ (State::Waiting | State::Leaving), link) => {
                if wish.start.is_some() || state == State::Leaving {
                    // Else another subscription may want some, once connected.
                    found.start = wish.start.clone();
                }
                found.concurrency = wish.concurrency;
                found.say(wish.info.clone());
                if let Some(link) = link {
                    self.ask(key, link, false, now);
                }
            }
            (State::Asked | State::Live, Some(link)) if wish.is_about_presence() => {
                let observes = wish.observes.then_some(true);
                let extra = Extra { asker: Some(id), info: wish.info.clone(), observes };
                self.ask_besides(key, extra, link, now);
            }
            // What is refused for now is asked again with all that the program wants.
            _ => found.say(wish.info.clone()),
        }
        Ok(())
    }

    /// Unsubscribes. `link` is one that is ready.
    pub fn leave(&mut self, key: &Key, link: Option<&mut Link>, now: Duration) {
        let Some(found) = self.topics.get_mut(key) else {
            return;
        };
        match link {
            Some(link) if found.state != State::Waiting => {
                found.state = State::Leaving;
                (found.has_been_live, found.is_granted) = (false, false);
                found.info = None;
                found.joins += std::mem::take(&mut found.extras).len() as u32;
                self.ask_to_leave(key, link, now);
            }
            _ => {
                self.topics.remove(key);
            }
        }
        self.forget(key);
    }

    /// Forgets all about something to which the program is not subscribed any more.
    fn forget(&mut self, key: &Key) {
        if key.group.is_empty() {
            let topics = &self.topics;
            let wanted = topics.iter().filter(|(_, found)| found.state != State::Leaving);
            let wanted = wanted.map(|(key, _)| key).filter(|key| key.group.is_empty());
            self.standings.forget(&key.scope, wanted);
        }
        if let Some(topic) = key.as_topic() {
            self.rosters.forget(topic);
        }
    }

    /// Notes that a subscription has ended, while others to its topic go on.
    pub fn ended(&mut self, id: SubscriptionId, link: Option<&mut Link>, now: Duration) {
        if let Some(topic) = self.rosters.leave(id) {
            self.unobserved(&Key::from(topic), link, now);
        }
    }

    /// Notes that a topic that the program has goes on, and no subscription observes it any more.
    pub fn unobserved(&mut self, key: &Key, link: Option<&mut Link>, now: Duration) {
        let Some(found) = self.topics.get(key) else {
            return;
        };
        let is_asked =
            matches!(found.state, State::Asked | State::Live) && !found.is_to_be_ignored();
        if let Some(link) = link.filter(|link| is_asked && link.has("presence")) {
            let extra = Extra { asker: None, info: None, observes: Some(false) };
            self.ask_besides(key, extra, link, now);
        }
    }

    /// Subscribes to everything on a new connection: to patterns behind the topics, which tell their
    /// places exactly. Returns what the server lacks; it has ended.
    pub fn connected(&mut self, link: &mut Link, now: Duration) -> Vec<(Key, &'static str)> {
        self.positions = (!link.level_2).then(|| Positions::new(link.socket.outbox.put));
        let mut unsupported = Vec::new();
        let mut keys: Vec<Key> = self.topics.keys().cloned().collect();
        keys.sort_by_key(|key| {
            (
                !matches!(key.scope, Scope::Topic(_)) || !key.group.is_empty(),
                self.topics[key].number,
            )
        });
        for key in keys {
            let lacking = key.needs().find(|feature| !link.has(feature));
            match lacking {
                None => self.ask(&key, link, true, now),
                Some(feature) => {
                    self.topics.remove(&key);
                    unsupported.push((key, feature));
                }
            }
        }
        unsupported
    }

    pub fn disconnected(&mut self) {
        self.standings.disconnected();
        (self.retry_at, self.look_at, self.attempt) = (None, None, 0);
        self.positions = None;
        self.topics.retain(|_, found| found.state != State::Leaving);
        for found in self.topics.values_mut() {
            found.state = State::Waiting;
            found.forget_questions();
            (found.is_granted, found.is_reported) = (false, false);
        }
    }

    /// Tells whether messages of a topic are on their way for an earlier subscription. What the
    /// present one wants comes behind its confirmation.
    pub fn awaits_past(&self, topic: &str) -> bool {
        let Some(found) =
            self.topics.get(&Key::from(topic)).filter(|found| found.state == State::Asked)
        else {
            return false;
        };
        (found.start.is_some() || found.leaves > 0)
            && !self
                .wanted()
                .any(|key| key.group.is_empty() && key.scope.is_pattern() && key.scope.has(topic))
    }

    // -- answers

    /// Notes a confirmation: of a question to subscribe, or to unsubscribe.
    pub fn confirmed(&mut self, key: &Key, joins: bool) -> Verdict {
        let Some(found) = self.topics.get_mut(key) else {
            return Verdict::Pending;
        };
        if let Some(extra) = found.answer_extra(joins) {
            found.grant(extra);
            found.is_granted = true;
            return if found.is_settled() { Verdict::Settled } else { Verdict::Pending };
        }
        let is_late = joins && found.state == State::Refused;
        let is_answer = found.answered(joins);
        if let Some(positions) = self.positions.as_mut().filter(|_| is_answer) {
            positions.answered(key.scope.text(), joins);
        }
        if !(is_answer || is_late) || !found.is_decided() {
            return Verdict::Pending;
        }
        self.attempt = 0;
        if found.state == State::Leaving {
            self.topics.remove(key);
            return Verdict::Settled;
        }
        (found.state, found.has_been_live, found.start) = (State::Live, true, None);
        if found.is_settled() { Verdict::Settled } else { Verdict::Pending }
    }

    /// Notes where a subscription begins; returns what that means for the program.
    pub fn stand(&mut self, key: &Key, fields: &Fields) -> Option<Event> {
        let found = self.topics.get_mut(key).filter(|found| found.state != State::Leaving)?;
        if !key.group.is_empty() {
            return None;
        }
        let standing = Standing::read(fields);
        let resumes = std::mem::take(&mut found.resumes);
        self.standings.begin(&key.scope, &standing, resumes);
        let topic = key.scope.text().to_owned();
        match standing.recovered {
            _ if !resumes => None,
            Some(true) => Some(Event::Recovered { topic, messages: standing.coming }),
            _ => Some(Event::Lost { topic, messages: standing.lost }),
        }
    }

    /// Notes a refusal; also tells whether the program knows of one already.
    pub fn refused(
        &mut self,
        key: &Key,
        error: &ServerError,
        chance: f64,
        now: Duration,
    ) -> (Verdict, bool) {
        let joins = error.request == "subscribe";
        let Some(found) = self.topics.get_mut(key) else {
            return (Verdict::Pending, false);
        };
        if let Some(Extra { asker, .. }) = found.answer_extra(joins) {
            return (Verdict::Extra(asker), false);
        }
        if !found.answered(joins) || !found.is_decided() {
            return (Verdict::Pending, false);
        }
        let is_full = error.code == "limit_reached";
        if joins && found.resumes && is_full {
            found.is_narrow = true; // the next question names no places
        }
        let was_reported = std::mem::replace(&mut found.is_reported, true);
        let is_leaving = found.state == State::Leaving;
        let is_final = !error.is_temporary() || (!is_leaving && is_full && !found.has_been_live);
        if is_final {
            // Else the server has the subscription with one of these: the caller leaves.
            if found.extras.is_empty() && !found.is_granted {
                self.topics.remove(key);
                self.forget(key);
            }
            let verdict = if is_leaving { Verdict::Settled } else { Verdict::Final };
            return (verdict, was_reported);
        }
        if !is_leaving {
            found.state = State::Refused;
        }
        self.retry_later(chance, now);
        (Verdict::Retry, was_reported)
    }

    /// Returns the refusals of topics that an error without names means, if that is certain.
    pub fn refused_by_position(
        &mut self,
        error: &str,
        link: &mut Link,
        now: Duration,
    ) -> Option<ServerError> {
        match self.positions.as_mut()?.refused(error) {
            Meaning::Refused(asked) => return Some(about(asked, error.to_owned())),
            Meaning::Unclear => {
                let probe = link.message("get_ack_status").text("ack_id", &probe_name(link));
                link.send(probe, now);
                self.positions.as_mut()?.probed(link.socket.outbox.put);
            }
            Meaning::Nothing => (),
        }
        None
    }

    /// Notes the status of an ack request, which may be the answer to a probe.
    pub fn probe_answered(&mut self, name: &str, link: &Link) -> Vec<ServerError> {
        let Some(positions) = self.positions.as_mut().filter(|_| name == probe_name(link)) else {
            return Vec::new();
        };
        let passed = positions.passed();
        for (asked, _) in &passed {
            if let Some(found) = self.topics.get_mut(&Key::from(&asked.topic)) {
                found.is_reported = true; // when the error came
            }
        }
        passed.into_iter().map(|(asked, why)| about(asked, why)).collect()
    }

    // -- time

    pub fn deadline(&self) -> Option<Duration> {
        [self.retry_at, self.look_at].into_iter().flatten().min()
    }

    /// Asks again about what was refused for now, or got no answer.
    pub fn handle_timeout(&mut self, link: &mut Link, chance: f64, now: Duration) {
        if self.look_at.is_some_and(|at| now >= at) {
            let mut is_late = false;
            for found in
                self.topics.values_mut().filter(|one| one.is_open() && now >= one.answer_by)
            {
                is_late = true;
                found.forget_questions();
                if found.state == State::Asked {
                    found.state = State::Refused;
                }
            }
            if is_late {
                self.retry_later(chance, now);
            }
            let open = self.topics.values().filter(|found| found.is_open());
            self.look_at = open.map(|found| found.answer_by).min();
        }
        if self.retry_at.is_some_and(|at| now >= at) {
            self.retry_at = None;
            let due = |found: &Topic| match found.state {
                // What is asked while a question is open could not be told apart from that in the answers.
                State::Refused => found.extras.is_empty(),
                State::Leaving => !found.is_open(),
                _ => false,
            };
            let mut keys: Vec<(Key, State, u64)> = self
                .topics
                .iter()
                .filter(|(_, found)| due(found))
                .map(|(key, found)| (key.clone(), found.state, found.number))
                .collect();
            if self
                .topics
                .values()
                .any(|found| found.state == State::Refused && !found.extras.is_empty())
            {
                self.retry_later(chance, now);
            }
            keys.sort_by_key(|(_, _, number)| *number);
            for (key, state, _) in keys {
                match state {
                    State::Refused => self.ask(&key, link, false, now),
                    _ => self.ask_to_leave(&key, link, now),
                }
            }
        }
    }

    // -- within

    fn wanted(&self) -> impl Iterator<Item = &Key> + Clone {
        let wanted = self.topics.iter().filter(|(_, found)| found.state != State::Leaving);
        wanted.map(|(key, _)| key)
    }

    fn retry_later(&mut self, chance: f64, now: Duration) {
        if self.retry_at.is_none() {
            self.retry_at = Some(now + RETRIES.delay(self.attempt, chance));
            self.attempt = self.attempt.saturating_add(1);
        }
    }

    fn ask(&mut self, key: &Key, link: &mut Link, is_back: bool, now: Duration) {
        let Some(found) = self.topics.get_mut(key) else {
            return;
        };
        found.state = State::Asked;
        found.joins += 1;
        found.is_missing = is_back || found.has_been_live;
        found.answer_by = now + PATIENCE;
        found.resumes = false;
        let mut message = named(link.message("subscribe"), key);
        if found.concurrency > 1 {
            message = message.number("concurrency", found.concurrency);
        }
        if let Some(topic) = key.as_topic().filter(|_| link.has("presence")) {
            // Of what was refused for now, the server knows only what it has confirmed besides.
            let observes = self.rosters.is_observed(topic);
            let observes = (observes || found.is_granted).then_some(observes);
            message = with_presence(message, found.info.as_ref(), observes);
        }
        if key.group.is_empty() && link.has("history") {
            let largest = link.max_message.unwrap_or(1 << 20) / 4;
            let since = match &found.start {
                Some(Start::Last(count)) => {
                    message = message.number("last", count);
                    None
                }
                Some(Start::Since(position)) => Some(position.written()),
                None if !found.is_missing => None,
                None => self.standings.since(&key.scope, if found.is_narrow { 0 } else { largest }),
            };
            if let Some(since) = since {
                found.resumes = true;
                message = message.object("since", since);
            }
        }
        self.send(key, message, true, link, now);
    }

    /// Asks for something besides, about presence.
    fn ask_besides(&mut self, key: &Key, extra: Extra, link: &mut Link, now: Duration) {
        if let Some(found) = self.topics.get_mut(key) {
            let message = named(link.message("subscribe"), key);
            let message = with_presence(message, extra.info.as_ref(), extra.observes);
            found.extras.push_back(extra);
            found.answer_by = now + PATIENCE;
            self.send(key, message, true, link, now);
        }
    }

    fn ask_to_leave(&mut self, key: &Key, link: &mut Link, now: Duration) {
        if let Some(found) = self.topics.get_mut(key) {
            found.leaves += 1;
            found.answer_by = now + PATIENCE;
            let message = named(link.message("unsubscribe"), key);
            self.send(key, message, false, link, now);
        }
    }

    fn send(&mut self, key: &Key, message: Object, joins: bool, link: &mut Link, now: Duration) {
        self.look_at.get_or_insert(now + PATIENCE);
        link.send(message, now);
        if let Some(positions) = &mut self.positions {
            positions.asked(link.socket.outbox.put, key.scope.text(), joins);
        }
    }
}

fn named(message: Object, key: &Key) -> Object {
    let message = match &key.scope {
        Scope::Topic(topic) => message.text("topic", topic),
        Scope::Pattern(pattern) => message.text("pattern", pattern),
    };
    message.text_if("group", &key.group)
}

fn with_presence(message: Object, info: Option<&Json>, observes: Option<bool>) -> Object {
    let message = info.iter().fold(message, |message, info| message.json("info", info));
    observes.iter().fold(message, |message, observes| message.boolean("presence", *observes))
}

fn probe_name(link: &Link) -> String {
    format!("probe_{}", link.id)
}

fn about(asked: Asked, text: String) -> ServerError {
    ServerError {
        code: code_of(&text).to_owned(),
        text,
        request: if asked.joins { "subscribe" } else { "unsubscribe" }.to_owned(),
        topic: asked.topic,
        ..ServerError::default()
    }
}
