//! The subscriptions of the program.

use std::time::Duration;

use super::Session;
use crate::error::{Error, Result};
use crate::event::{Event, SubscriptionId};
use crate::json::Json;
use crate::key::Key;
use crate::message::{AckToken, Message, Wish};
use crate::presence::Presence;

impl Session {
    /// Subscribes. [`Event::Subscribed`] tells the outcome; without a connection at once, and the
    /// client subscribes on the next one.
    pub fn subscribe(&mut self, key: Key, wish: Wish, now: Duration) -> Result<SubscriptionId> {
        self.require_life()?;
        key.check()?;
        wish.check(&key)?;
        if !key.group.is_empty() && self.inbox.has(&key) {
            return Err(Error::invalid(format!("this client is a member of {key} already")));
        }
        let link = self.link.as_mut().filter(|link| link.registered);
        let is_ready = link.is_some();
        self.topics.want(self.inbox.next_id(), &key, &wish, link, now)?;
        let is_settled = !is_ready || self.topics.is_settled(&key);
        let confirm_by = (!is_settled).then_some(now + self.options.request_timeout);
        let id = self.inbox.add(Some(key), confirm_by);
        if is_settled {
            self.events.push_back(Event::Subscribed(id, Ok(())));
        }
        self.settle_up(now);
        Ok(id)
    }

    /// Takes direct messages. A client has one such subscription.
    pub fn subscribe_direct(&mut self) -> Result<SubscriptionId> {
        self.require_life()?;
        match self.inbox.has_direct() {
            true => Err(Error::invalid("something takes the direct messages already")),
            false => {
                let id = self.inbox.add(None, None);
                self.events.push_back(Event::Subscribed(id, Ok(())));
                Ok(id)
            }
        }
    }

    /// Ends a subscription. May be called twice.
    pub fn unsubscribe(&mut self, id: SubscriptionId, now: Duration) {
        let key = self.inbox.remove(id);
        self.flow.taken(id, &self.inbox);
        if key.as_ref().is_some_and(|key| key.group.is_empty()) {
            self.settle_up(now);
        } // else it leaves the group first, so that it gets nothing back that it returns
        let link = self.link.as_mut().filter(|link| link.registered && !self.is_closing);
        match key {
            Some(key) => self.topics.leave(&key, link, now),
            None => self.topics.ended(id, link, now),
        }
        self.settle_up(now);
    }

    /// Takes the oldest message out of the mailbox of a subscription. Once the program has closed the
    /// client there are none.
    pub fn take(&mut self, id: SubscriptionId) -> Option<Message> {
        if self.is_closing {
            return None;
        }
        let message = self.inbox.take(id)?;
        self.flow.taken(id, &self.inbox);
        Some(message)
    }

    /// Tells who is subscribed to the topic of a subscription that observes, and what has changed since
    /// it was told last; `None`: nothing. In answer to [`Event::PresenceChanged`].
    pub fn take_presence(&mut self, id: SubscriptionId) -> Option<Presence> {
        self.topics.rosters.take(id)
    }

    /// Notes that a subscription has handled a message, with a result or an error. Once for each
    /// message with an ack; a second call has no effect if there is one subscription to its topic.
    pub fn settle(&mut self, token: AckToken, result: Result<Option<Json>, String>, now: Duration) {
        self.inbox.settle(Some(token), result, true);
        self.settle_up(now);
    }

    /// Ends all subscriptions to something; tells whether each of them has a caller that is told so.
    pub(super) fn end_subscriptions(&mut self, key: &Key, error: &Error) -> bool {
        let ended = self.inbox.refuse(key);
        let all_are_told = !ended.is_empty() && ended.iter().all(|(_, is_awaited)| *is_awaited);
        for (id, is_awaited) in ended {
            self.subscription_ended(id, is_awaited, error);
        }
        all_are_told
    }

    /// Ends the subscription that has asked for something besides in vain, if it has not ended yet;
    /// tells whether it has a caller that is told so. Others to the topic go on.
    pub(super) fn end_asker(
        &mut self,
        key: &Key,
        asker: Option<SubscriptionId>,
        error: &Error,
        now: Duration,
    ) -> bool {
        let refuse = |id| Some((id, self.inbox.refuse_one(key, id)?));
        let ended = asker.and_then(refuse);
        if let Some((id, is_awaited)) = ended {
            self.subscription_ended(id, is_awaited, error);
            let was_told = self.topics.rosters.is_told(key);
            let is_unobserved = self.topics.rosters.leave(id).is_some();
            if !self.inbox.has(key) {
                self.topics.leave(key, self.link.as_mut(), now);
            } else if was_told && is_unobserved {
                self.topics.unobserved(key, self.link.as_mut(), now);
            }
        }
        if self.topics.is_settled(key) {
            self.settled(key);
        }
        ended.is_some_and(|(_, is_awaited)| is_awaited)
    }

    fn subscription_ended(&mut self, id: SubscriptionId, is_awaited: bool, error: &Error) {
        self.events.push_back(match is_awaited {
            true => Event::Subscribed(id, Err(error.clone())),
            false => Event::SubscriptionEnded(id, error.clone()),
        });
    }
}
