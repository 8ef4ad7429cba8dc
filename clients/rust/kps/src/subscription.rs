//! What `subscribe` and `messages` return.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use kps_core::{Error, Key, Position, Result, Scope, Start, SubscriptionId, Wish};

use crate::engine::{Settle, Teller, Word};
use crate::message::Message;
use crate::queue::{Popped, Queue};
use crate::shared::Shared;
use crate::slot::Slot;

/// What a subscription is to have. `SubscribeOptions::default()` has new messages, and nothing else.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SubscribeOptions {
    /// Begin with so many of the latest messages, of a topic with history.
    pub last: u64,
    /// Begin with the messages behind a place.
    pub since: Option<Position>,
    /// Be a member of the group of this name: each message goes to one of its members.
    pub group: String,
    /// How many messages with ack a member of a group takes at a time; 0 means 1.
    pub concurrency: u64,
    /// Do not wait for the confirmation of the server, which `confirmed` tells later: so many
    /// subscriptions take the time of one.
    pub returns_at_once: bool,
}

impl SubscribeOptions {
    pub(crate) fn split(self, scope: Scope) -> (Key, Wish) {
        let start = match (self.since, self.last) {
            (Some(position), _) => Some(Start::Since(position)),
            (None, 0) => None,
            (None, last) => Some(Start::Last(last)),
        };
        let concurrency = self.concurrency;
        (Key { scope, group: self.group }, Wish { start, concurrency })
    }
}

/// A subscription with a callback. To drop it does not end it; to close the client does.
#[derive(Clone)]
pub struct Subscription {
    shared: Arc<Shared>,
    id: SubscriptionId,
    in_force: Arc<Slot<Result<()>>>,
}

impl Subscription {
    pub(crate) fn new(
        shared: Arc<Shared>,
        id: SubscriptionId,
        in_force: Arc<Slot<Result<()>>>,
    ) -> Subscription {
        Subscription { shared, id, in_force }
    }

    /// Waits until the server has confirmed the subscription. Fails if the server refuses it, or does not
    /// answer in time; then it has ended.
    pub fn confirmed(&self) -> Result<()> {
        self.in_force.wait()
    }

    /// Ends the subscription. No callback begins after that; one that runs comes to its end. May be
    /// called twice, also by a callback.
    pub fn unsubscribe(&self) {
        self.shared.call(|engine| engine.unsubscribe(self.id));
        self.shared.callbacks.remove(self.id);
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Subscription").field(&self.id).finish()
    }
}

/// A subscription without a callback: an iterator of messages, which ends when it is dropped. It is
/// blocking; several threads may share a reference to it, and each message goes to one of them.
///
/// The iterator ends with the client, or with an error if the server ends the subscription.
pub struct Messages {
    shared: Arc<Shared>,
    settle: Arc<dyn Settle>,
    id: SubscriptionId,
    words: Arc<Words>,
}

impl Messages {
    pub(crate) fn new(shared: Arc<Shared>, id: SubscriptionId, words: Arc<Words>) -> Messages {
        Messages { settle: shared.clone(), shared, id, words }
    }

    /// Waits until the server has confirmed the subscription. Fails if the server refuses it, or does not
    /// answer in time; then it has ended.
    pub fn confirmed(&self) -> Result<()> {
        self.words.in_force.wait()
    }

    /// Waits for the next message; `None`: the client was closed.
    pub fn wait(&self) -> Option<Result<Message>> {
        self.next_until(None)
    }

    /// Waits for the next message, and fails with [`Error::RequestTimeout`] if none comes in time.
    pub fn wait_for(&self, timeout: Duration) -> Option<Result<Message>> {
        self.next_until(Instant::now().checked_add(timeout))
    }

    /// Ends the subscription, as dropping it does. Threads that wait for a message get none.
    pub fn unsubscribe(&self) {
        self.shared.call(|engine| engine.unsubscribe(self.id));
        self.words.arrived.close();
    }

    fn next_until(&self, until: Option<Instant>) -> Option<Result<Message>> {
        loop {
            match self.words.arrived.pop(until) {
                Popped::Item(()) => {
                    let message = self.shared.call(|engine| engine.session.take(self.id));
                    if let Some(message) = message {
                        return Some(Ok(Message::new(message, &self.settle)));
                    }
                }
                Popped::Closed => return self.words.take_error().map(Err),
                Popped::Late => {
                    let text = "no message has come in time".to_owned();
                    return Some(Err(Error::RequestTimeout(text)));
                }
            }
        }
    }
}

impl Iterator for Messages {
    type Item = Result<Message>;

    fn next(&mut self) -> Option<Result<Message>> {
        self.wait()
    }
}

impl Drop for Messages {
    fn drop(&mut self) {
        self.unsubscribe();
    }
}

impl fmt::Debug for Messages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Messages").field(&self.id).finish()
    }
}

/// What an iterator is told.
pub(crate) struct Words {
    in_force: Slot<Result<()>>,
    /// One for each message.
    arrived: Queue<()>,
    error: Mutex<Option<Error>>,
}

impl Words {
    pub fn new() -> Arc<Words> {
        let (in_force, arrived, error) = (Slot::new(), Queue::new(), Mutex::new(None));
        Arc::new(Words { in_force, arrived, error })
    }

    pub fn teller(self: &Arc<Self>) -> Teller<Word> {
        let words = self.clone();
        Box::new(move |word| match word {
            Word::InForce(result) => {
                if result.is_err() {
                    words.arrived.close();
                }
                words.in_force.set(result);
            }
            Word::Arrived => words.arrived.push(()),
            Word::Ended(error) => {
                *words.error.lock().unwrap_or_else(PoisonError::into_inner) = error;
                words.arrived.close();
            }
        })
    }

    fn take_error(&self) -> Option<Error> {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
