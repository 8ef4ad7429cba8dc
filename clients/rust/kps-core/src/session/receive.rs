//! Handles the messages of the server (spec, 4 and 12).

use std::time::Duration;

use serde_json::value::RawValue;

use super::Session;
use crate::error::{Error, ServerError};
use crate::event::Event;
use crate::fields::{Fields, messages_in};
use crate::inbox::{Errand, Settled};
use crate::json::Json;
use crate::key::{Key, Scope};
use crate::message::{Message, key_in, read_headers};
use crate::standings::{Passed, read_epoch};
use crate::topic::Verdict;

/// Characters of an error text that the program gets.
const LONGEST_ERROR: usize = 1000;

/// Of a delivery: the offsets of all messages in it are numbers that every language reads.
const LARGEST_OFFSET: u64 = (1 << 53) - 1 - (1 << 32);

impl Session {
    pub(super) fn handle_message(&mut self, text: &str, now: Duration) {
        let messages = match messages_in(text) {
            Ok(messages) => messages,
            Err(fault) => return self.unreadable(&fault),
        };
        for message in messages {
            if self.link.as_ref().is_none_or(|link| !link.socket.is_open()) {
                return; // an earlier one has ended the connection
            }
            match Fields::message(message) {
                Ok(fields) => self.handle(&fields, now),
                Err(fault) => self.unreadable(&fault),
            }
            self.settle_up(now);
        }
    }

    fn unreadable(&mut self, fault: &str) {
        self.events.push_back(Event::Error(Error::Server(Box::new(ServerError {
            text: format!("unreadable message from the server: {fault}"),
            code: "bad_message".to_owned(),
            ..ServerError::default()
        }))));
    }

    fn handle(&mut self, fields: &Fields, now: Duration) {
        let Some(link) = &mut self.link else {
            return;
        };
        let action = fields.text("action");
        if !link.registered {
            match action.as_str() {
                "pong" => {
                    link.agree(fields, self.options.level, now);
                    self.registered(now);
                }
                "error" => self.refused_to_register(fields, now),
                "" if fields.get("error").is_some() => self.refused_to_register(fields, now),
                _ => (),
            }
            return;
        }
        match action.as_str() {
            "publish" if link.level_2 && fields.get("group").is_some() => {
                self.message_for_member(fields, now);
            }
            "publish" => self.publications(fields),
            "publish_ack" => self.question(fields, now),
            "direct_message" => {
                let message = self.message(String::new(), fields, fields.payload("data"));
                self.inbox.deliver_direct(message, None);
            }
            "subscribed" => self.confirmed(fields, true, now),
            "unsubscribed" => self.confirmed(fields, false, now),
            "published" => {
                if let Some(positions) = &mut self.topics.positions {
                    positions.published();
                }
                self.asking.passed(&fields.text("receipt"), fields.number("delivered"));
            }
            "pong" => {
                link.remember(fields, now);
                self.asking.passed(&fields.text("nonce"), None);
            }
            "ack_update" => self.asking.outcomes(fields, false, link, now),
            "ack_response" => self.asking.outcomes(fields, true, link, now),
            "ack_status" => {
                let refused = self.topics.probe_answered(&fields.text("ack_id"), link);
                for error in refused {
                    self.topic_refused(error, now);
                }
                self.asking.status_received(fields);
            }
            "history" => self.asking.history_received(fields, link, now),
            "presence" if fields.get("nonce").is_some() => self.asking.presence_received(fields),
            "presence" => self.topics.rosters.follow(&fields.text("topic"), fields),
            "error" => self.errors(fields, now),
            // Servers of the original's earlier generation leave the action out (spec, 10.2).
            "" if !link.level_2 && fields.get("error").is_some() => self.errors(fields, now),
            _ => (), // of a later level
        }
    }

    // -- deliveries

    fn is_level_2(&self) -> bool {
        self.link.as_ref().is_some_and(|link| link.level_2)
    }

    /// Makes a message; on level 1 its payload and its sender are wrapped, once (spec, 4.8).
    fn message(&self, topic: String, fields: &Fields, data: Json) -> Message {
        Message {
            topic,
            data,
            from: fields.text("from"),
            headers: if self.is_level_2() { read_headers(fields) } else { Vec::new() },
            position: None,
            attempt: fields.number("attempt").unwrap_or(1),
            ack: None,
        }
    }

    fn unwrapped(&self, topic: String, fields: &Fields) -> Message {
        let mut message = self.message(topic, fields, fields.payload("data"));
        let wrapped =
            fields.object("data").filter(|data| data.members().any(|(name, _)| name == "data"));
        if let Some(wrapped) = wrapped.filter(|_| !self.is_level_2()) {
            message.data = wrapped.payload("data");
            message.from = wrapped.text("from");
        }
        message
    }

    fn publications(&mut self, fields: &Fields) {
        let topic = fields.text("topic");
        if !self.is_level_2() {
            let message = self.unwrapped(topic, fields);
            self.inbox.deliver(message, None);
            return;
        }
        let payloads = payloads_in(fields);
        let place = match self.place(&topic, fields, payloads.len()) {
            Place::None => None,
            Place::At(passed) => Some(passed),
            Place::OfEarlier => return,
        };
        let repeated = place.as_ref().map_or(0, |passed| passed.repeated);
        for (number, data) in payloads.into_iter().enumerate().skip(repeated) {
            let mut message = self.message(topic.clone(), fields, data);
            message.position = place.as_ref().map(|passed| {
                let mut position = passed.position.clone();
                position.offset += number as u64;
                position
            });
            self.inbox.deliver(message, None);
        }
    }

    fn question(&mut self, fields: &Fields, now: Duration) {
        let topic = fields.text("topic");
        let ack_id = fields.text("ack_id");
        let is_level_2 = self.is_level_2();
        if is_level_2 && fields.get("group").is_some() && !topic.is_empty() {
            return self.message_for_member(fields, now);
        }
        let may_be_direct = match is_level_2 {
            true => topic.is_empty(),
            false => topic.starts_with(&format!("__direct_{}", self.id)),
        };
        let epoch = self.epoch;
        let errand = || {
            let is_for_member = false;
            (!ack_id.is_empty()).then(|| Errand { ack_id: ack_id.clone(), epoch, is_for_member })
        };
        let mut message = self.unwrapped(topic.clone(), fields);
        if let Place::At(passed) = self.place(&topic, fields, 1) {
            message.position = Some(passed.position);
        }
        if self.inbox.deliver(message.clone(), errand()) {
            return;
        }
        message.topic.clear();
        if !(may_be_direct && self.inbox.deliver_direct(message, errand())) {
            self.refuse(ack_id, true, now);
        }
    }

    fn message_for_member(&mut self, fields: &Fields, now: Duration) {
        let key = key_in(fields);
        let ack_id = fields.text("ack_id");
        for data in payloads_in(fields) {
            let errand = Errand { ack_id: ack_id.clone(), epoch: self.epoch, is_for_member: true };
            let message = self.message(fields.text("topic"), fields, data);
            let errand = (!ack_id.is_empty()).then_some(errand);
            if !self.inbox.deliver_to_member(&key, message, errand) {
                return self.refuse(ack_id, false, now);
            }
        }
    }

    fn refuse(&mut self, ack_id: String, begun: bool, now: Duration) {
        if !ack_id.is_empty() {
            let result = Err("no subscriber for topic".to_owned());
            self.answer(Settled { ack_id, epoch: self.epoch, result, begun }, now);
        }
    }

    /// Notes the place of messages in the history of their topic.
    fn place(&mut self, topic: &str, fields: &Fields, count: usize) -> Place {
        let offset = fields.number("offset").unwrap_or_default();
        if !self.is_level_2() || offset == 0 || offset > LARGEST_OFFSET || count == 0 {
            return Place::None;
        }
        if self.topics.awaits_past(topic) {
            return Place::OfEarlier;
        }
        if !self.inbox.selects(topic) {
            return Place::None;
        }
        let passed = self.topics.standings.passed(topic, read_epoch(fields), offset, count);
        if passed.missing != Some(0) {
            let topic = topic.to_owned();
            self.events.push_back(Event::Lost { topic, messages: passed.missing });
        }
        Place::At(passed)
    }

    // -- answers

    fn confirmed(&mut self, fields: &Fields, joins: bool, now: Duration) {
        let key = key_in(fields);
        let mut is_unwanted = false;
        if joins {
            let told = self.topics.stand(&key, fields);
            self.events.extend(told);
            if let Some((topic, members)) = key.as_topic().zip(fields.object("presence")) {
                self.topics.rosters.begin(topic, &members);
                is_unwanted = !self.topics.rosters.is_observed(topic);
            }
        }
        if self.topics.confirmed(&key, joins) == Verdict::Settled {
            self.settled(&key);
        }
        if is_unwanted && self.inbox.has(&key) {
            // Whoever asked for it has ended meanwhile.
            self.topics.unobserved(&key, self.link.as_mut(), now);
        }
    }

    pub(super) fn settled(&mut self, key: &Key) {
        for id in self.inbox.confirm(key) {
            self.events.push_back(Event::Subscribed(id, Ok(())));
        }
    }

    fn refused_to_register(&mut self, fields: &Fields, now: Duration) {
        let error = server_error(fields);
        let is_temporary = error.is_temporary();
        self.registration_refused(Error::Server(Box::new(error)), is_temporary, now);
    }

    fn errors(&mut self, fields: &Fields, now: Duration) {
        let refused = fields.objects("refused");
        if refused.is_empty() {
            return self.one_error(fields, server_error(fields), now);
        }
        // The server has refused a whole array, and names each message in it.
        for one in refused {
            let shared = server_error(fields);
            let error = ServerError { text: shared.text, code: shared.code, ..server_error(&one) };
            self.one_error(&one, error, now);
            self.settle_up(now);
        }
    }

    fn one_error(&mut self, fields: &Fields, error: ServerError, now: Duration) {
        if matches!(error.request.as_str(), "subscribe" | "unsubscribe") {
            return self.topic_refused(error, now);
        }
        if error.request.is_empty() {
            let named = self
                .link
                .as_mut()
                .and_then(|link| self.topics.refused_by_position(&error.text, link, now));
            if let Some(named) = named {
                return self.topic_refused(named, now);
            }
        }
        if !self.asking.refused(fields, &error) {
            self.events.push_back(Event::Error(Error::Server(Box::new(error))));
        }
    }

    fn topic_refused(&mut self, error: ServerError, now: Duration) {
        let key = Key {
            scope: match error.pattern.is_empty() {
                true => error.topic.as_str().into(),
                false => Scope::pattern(&error.pattern),
            },
            group: error.group.clone(),
        };
        let chance = self.chance();
        let (verdict, was_reported) = self.topics.refused(&key, &error, chance, now);
        let error = Error::Server(Box::new(error));
        let is_told = match verdict {
            Verdict::Final => {
                self.topics.leave(&key, self.link.as_mut(), now);
                self.end_subscriptions(&key, &error)
            }
            Verdict::Extra(asker) => self.end_asker(&key, asker, &error, now),
            Verdict::Settled => {
                self.settled(&key);
                false
            }
            _ => false,
        };
        if !was_reported && !is_told {
            self.events.push_back(Event::Error(error));
        }
    }
}

/// The place of messages in the history of their topic.
enum Place {
    /// They have none.
    None,
    At(Passed),
    /// They come for an earlier subscription.
    OfEarlier,
}

fn payloads_in(fields: &Fields) -> Vec<Json> {
    match fields.array("batch") {
        Some(batch) => batch.into_iter().map(|data: &RawValue| Json::received(data)).collect(),
        None => vec![fields.payload("data")],
    }
}

fn server_error(fields: &Fields) -> ServerError {
    ServerError {
        text: fields.text("error").chars().take(LONGEST_ERROR).collect(),
        code: fields.text("code"),
        request: fields.text("request"),
        topic: fields.text("topic"),
        pattern: fields.text("pattern"),
        group: fields.text("group"),
        to: fields.text("to"),
    }
}
