//! The connections of a session, one after the other: register, end, come back.

use std::time::Duration;

use super::Session;
use crate::error::Error;
use crate::event::Event;
use crate::fields::Object;
use crate::flow::Flow;
use crate::wire::{Closed, Item, Kind};

/// Connections in a row that may soon end before the waits begin to grow. A server that accepts each
/// client and ends it at once must not be hammered.
const FORGIVEN: u32 = 3;

/// After these close codes a client does not come back (spec, 8.6).
const FOR_GOOD: [u16; 2] = [4001, 4003];

/// What is known of earlier connections.
#[derive(Default)]
pub(super) struct History {
    /// Failed attempts, and before them connections that soon ended.
    attempt: u32,
    short_lived: u32,
    registered_at: Duration,
    was_connected: bool,
}

impl Session {
    /// Handles everything that the connection has to tell.
    pub(super) fn read(&mut self, now: Duration) {
        while let Some(item) = self.link.as_mut().and_then(|link| link.socket.next(now)) {
            match item {
                Item::Opened => self.register(now),
                Item::Message(text) => self.handle_message(&text, now),
                Item::Ended(closed) => self.link_ended(closed, now),
            }
        }
        self.settle_up(now);
    }

    fn register(&mut self, now: Duration) {
        let Some(link) = &mut self.link else {
            return;
        };
        link.register_by = Some(now + self.options.limits.handshake_timeout);
        let ping = Object::action("ping").text("from", &self.id);
        let is_highest = self.options.level >= 2;
        link.send(if is_highest { ping.number("proto", 2) } else { ping }, now);
    }

    /// Notes that the server has registered the client, with the first `pong`.
    pub(super) fn registered(&mut self, now: Duration) {
        let Some(link) = &mut self.link else {
            return;
        };
        link.register_by = None;
        self.id = link.id.clone();
        self.epoch += 1;
        self.past.registered_at = now;
        self.past.attempt = self.past.short_lived.saturating_sub(FORGIVEN);
        let again = std::mem::replace(&mut self.past.was_connected, true);
        self.events.push_back(Event::Connected { id: self.id.clone(), again });
        let unsupported = self.topics.connected(link, now);
        let unobserved = if link.has("presence") { 0 } else { self.topics.rosters.len() };
        self.asking.connected(link, now);
        self.send_kept();
        for (key, feature) in unsupported {
            let error = Error::Unsupported(feature.to_owned());
            self.end_subscriptions(&key, &error);
            self.events.push_back(Event::Error(error));
        }
        for _ in 0..unobserved {
            self.events.push_back(Event::Error(Error::Unsupported("presence".to_owned())));
        }
    }

    /// Notes that the server has refused to register the client.
    pub(super) fn registration_refused(&mut self, error: Error, is_temporary: bool, now: Duration) {
        if let Some(link) = &mut self.link {
            link.socket.fail(1008, &format!("the server refused: {error}"), now);
        }
        if !is_temporary {
            self.end(Some(error));
        }
    }

    fn link_ended(&mut self, closed: Closed, now: Duration) {
        let Some(mut link) = self.link.take() else {
            return;
        };
        self.epoch += 1;
        let unsent = link.socket.outbox.clear();
        self.leaving = Some(link.socket);
        self.flow = Flow::default();
        if self.ended.is_some() {
            return;
        }
        if !link.registered {
            return match closed.code {
                _ if self.is_closing => self.end(None),
                1009 if closed.by_server => {
                    let text =
                        "the server takes no first message as long as this client's id makes it";
                    self.end(Some(Error::ConnectFailed { reason: text.to_owned(), status: None }));
                }
                _ => self.attempt_failed(closed.reason, closed.status, now),
            };
        }
        let comes_back = match self.options.reconnect {
            Some(backoff) if now - self.past.registered_at >= backoff.longest => {
                (self.past.attempt, self.past.short_lived) = (0, 0);
                true
            }
            reconnect => reconnect.is_some(),
        };
        let comes_back = comes_back && !self.is_closing && !FOR_GOOD.contains(&closed.code);
        let lost = Error::ConnectionLost { reason: closed.reason.clone(), code: closed.code };
        self.asking.disconnected(&lost, comes_back);
        self.events.extend(self.asking.events.drain(..));
        self.topics.disconnected();
        for id in self.inbox.confirm_all() {
            self.events.push_back(Event::Subscribed(id, Ok(())));
        }
        let mut dropped = 0;
        for message in unsent {
            if !comes_back || !self.offline.keep(message) {
                dropped += 1;
            }
        }
        self.past.short_lived = self.past.short_lived.saturating_add(1);
        let retry_in = comes_back.then(|| self.plan_retry(now));
        let Closed { code, reason, .. } = closed;
        if !self.is_closing {
            self.events.push_back(Event::Disconnected { code, reason, retry_in, dropped });
        }
        if !comes_back {
            self.end((!self.is_closing).then_some(lost));
        }
    }

    pub(super) fn attempt_failed(&mut self, reason: String, status: Option<u16>, now: Duration) {
        let is_final = match status {
            Some(401 | 403) => !self.options.renews_token,
            Some(408 | 429) => false, // it blames the moment
            Some(400..=499) => !self.past.was_connected,
            _ => false,
        };
        let error = Error::ConnectFailed { reason, status };
        if self.is_over() {
            self.end(None);
        } else if is_final || self.options.reconnect.is_none() {
            self.end(Some(error));
        } else {
            let retry_in = self.plan_retry(now);
            self.events.push_back(Event::ConnectAttemptFailed { error, retry_in });
        }
    }

    fn plan_retry(&mut self, now: Duration) -> Duration {
        let chance = self.chance();
        let delay = self.options.reconnect.unwrap_or_default().delay(self.past.attempt, chance);
        self.past.attempt = self.past.attempt.saturating_add(1);
        self.retry_at = Some(now + delay);
        delay
    }

    /// Ends the client for good.
    pub(super) fn end(&mut self, error: Option<Error>) {
        if self.ended.is_some() {
            return;
        }
        self.ended = Some(error.clone());
        self.retry_at = None;
        self.asking.disconnected(error.as_ref().unwrap_or(&Error::ClientClosed), false);
        self.events.extend(self.asking.events.drain(..));
        for id in self.inbox.confirm_all() {
            let error = error.clone().unwrap_or(Error::ClientClosed);
            self.events.push_back(Event::Subscribed(id, Err(error)));
        }
        self.offline.take();
        self.events.push_back(Event::Ended(error));
    }

    fn send_kept(&mut self) {
        for message in self.offline.take() {
            let Some(link) = &mut self.link else {
                return;
            };
            match link.check_size(&message) {
                Ok(()) => link.socket.send(message, Kind::Publication),
                Err(error) => self.events.push_back(Event::Error(error)),
            }
        }
    }
}
