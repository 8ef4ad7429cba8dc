//! What `subscribe` and `messages` return.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use kps_core::{Error, Json, Key, Position, Presence, Result, Scope, Start, SubscriptionId, Wish};

use crate::engine::{Settle, Teller, Word};
use crate::message::Message;
use crate::queue::{Popped, Queue};
use crate::shared::Shared;
use crate::slot::Slot;

/// What a subscription is to have. `SubscribeOptions::default()` has new messages, and nothing else.
#[derive(Debug, Default)]
pub struct SubscribeOptions {
    /// Begin with so many of the latest messages, of a topic with history.
    pub last: u64,
    /// Begin with the messages behind a place.
    pub since: Option<Position>,
    /// Be a member of the group of this name: each message goes to one of its members.
    pub group: String,
    /// How many messages with ack a member of a group takes at a time; 0 means 1.
    pub concurrency: u64,
    /// What the client says about itself to those who observe who is subscribed: an object. It
    /// replaces what it has said before, and remains until its last subscription to the topic ends.
    pub info: Option<Json>,
    /// Is told who is subscribed to the topic.
    pub presence: Option<Observer>,
    /// Do not wait for the confirmation of the server, which `confirmed` tells later: so many
    /// subscriptions take the time of one.
    pub returns_at_once: bool,
}

impl SubscribeOptions {
    pub(crate) fn split(self, scope: Scope) -> (Key, Wish, Option<Observer>) {
        let SubscribeOptions { last, since, group, concurrency, info, presence, .. } = self;
        let start = match (since, last) {
            (Some(position), _) => Some(Start::Since(position)),
            (None, 0) => None,
            (None, last) => Some(Start::Last(last)),
        };
        let observes = presence.is_some();
        (Key { scope, group }, Wish { start, concurrency, info, observes }, presence)
    }
}

/// A function that is told who is subscribed to a topic, at first and when that changes. What a slow
/// program has not taken yet is told at once.
///
/// It is called in between the messages of its subscription: on the thread of the callbacks, or by what
/// waits for the next message.
pub struct Observer(Box<dyn FnMut(Presence) + Send>);

impl Observer {
    /// Makes one of a function.
    pub fn new(function: impl FnMut(Presence) + Send + 'static) -> Observer {
        Observer(Box::new(function))
    }

    pub(crate) fn tell(&mut self, presence: Presence) {
        (self.0)(presence);
    }
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Observer")
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
    observer: Mutex<Option<Observer>>,
}

impl Messages {
    pub(crate) fn new(
        shared: Arc<Shared>,
        id: SubscriptionId,
        words: Arc<Words>,
        observer: Option<Observer>,
    ) -> Messages {
        Messages { settle: shared.clone(), shared, id, words, observer: Mutex::new(observer) }
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
                Popped::Item(News::Presence) => self.tell_presence(),
                Popped::Item(News::Message) => {
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

    fn tell_presence(&self) {
        let mut observer = self.observer.lock().unwrap_or_else(PoisonError::into_inner);
        let presence = self.shared.call(|engine| engine.session.take_presence(self.id));
        if let (Some(observer), Some(presence)) = (observer.as_mut(), presence) {
            observer.tell(presence);
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

/// What waits for an iterator.
#[derive(Clone, Copy)]
enum News {
    Message,
    Presence,
}

/// What an iterator is told.
pub(crate) struct Words {
    in_force: Slot<Result<()>>,
    arrived: Queue<News>,
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
            Word::Arrived => words.arrived.push(News::Message),
            Word::PresenceChanged => words.arrived.push(News::Presence),
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
