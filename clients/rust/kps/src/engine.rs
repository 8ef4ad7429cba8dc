//! What both drivers share: the session, and who is to be told what.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use kps_core::{
    AckToken, Answer, Error, Event as CoreEvent, Json, Outcome, QuestionId, Result, Session,
    SubscriptionId,
};

use crate::event::Event;

/// What a caller is told of its question.
pub(crate) enum News {
    Outcome(Outcome),
    /// The last one.
    End(Result<Answer>),
}

/// What a subscription is told.
pub(crate) enum Word {
    /// It is in force, or was refused and has ended.
    InForce(Result<()>),
    /// A message waits for it.
    Arrived,
    /// Somebody has come or gone on its topic.
    PresenceChanged,
    /// It has ended, with an error unless the program closed the client.
    Ended(Option<Error>),
}

/// Tells somebody something. It is called with the lock of the driver, so it only passes it on.
pub(crate) type Teller<T> = Box<dyn FnMut(T) + Send>;

/// Gives the outcome of a message to the session.
pub(crate) trait Settle: Send + Sync {
    fn settle(&self, token: AckToken, result: std::result::Result<Option<Json>, String>);
}

/// The session of a client.
pub(crate) struct Engine {
    pub session: Session,
    /// Whether the session has asked for a transport.
    pub connect_needed: bool,
    /// How often the client has been connected, disconnected or ended.
    pub changes: u64,
    origin: Instant,
    questions: HashMap<QuestionId, Teller<News>>,
    subscriptions: HashMap<SubscriptionId, Teller<Word>>,
    notify: Teller<Event>,
}

impl Engine {
    pub fn new(session: Session, notify: Teller<Event>) -> Engine {
        Engine {
            session,
            connect_needed: false,
            changes: 0,
            origin: Instant::now(),
            questions: HashMap::new(),
            subscriptions: HashMap::new(),
            notify,
        }
    }

    pub fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    /// When the session wants to be called.
    pub fn deadline(&self) -> Option<Instant> {
        self.session.deadline().map(|deadline| self.origin + deadline)
    }

    /// Asks the server something, and lets `teller` hear of the answer.
    pub fn ask(
        &mut self,
        ask: impl FnOnce(&mut Session, Duration) -> Result<QuestionId>,
        teller: Teller<News>,
    ) -> Result<QuestionId> {
        let now = self.now();
        let id = ask(&mut self.session, now)?;
        self.questions.insert(id, teller);
        Ok(id)
    }

    /// Makes a subscription, and lets `teller` hear of it.
    pub fn subscribe(
        &mut self,
        subscribe: impl FnOnce(&mut Session, Duration) -> Result<SubscriptionId>,
        teller: Teller<Word>,
    ) -> Result<SubscriptionId> {
        let now = self.now();
        let id = subscribe(&mut self.session, now)?;
        self.subscriptions.insert(id, teller);
        Ok(id)
    }

    pub fn unsubscribe(&mut self, id: SubscriptionId) {
        let now = self.now();
        self.session.unsubscribe(id, now);
        self.subscriptions.remove(&id);
    }

    /// Passes on what has happened.
    pub fn step(&mut self) {
        while let Some(event) = self.session.poll() {
            match event {
                CoreEvent::ConnectNeeded => self.connect_needed = true,
                CoreEvent::Subscribed(id, result) => {
                    let has_ended = result.is_err();
                    self.tell(id, Word::InForce(result));
                    if has_ended {
                        self.subscriptions.remove(&id);
                    }
                }
                CoreEvent::SubscriptionEnded(id, error) => self.tell(id, Word::Ended(Some(error))),
                CoreEvent::Arrived(id) => self.tell(id, Word::Arrived),
                CoreEvent::PresenceChanged(id) => self.tell(id, Word::PresenceChanged),
                CoreEvent::Outcome(id, outcome) => {
                    if let Some(tell) = self.questions.get_mut(&id) {
                        tell(News::Outcome(outcome));
                    }
                }
                CoreEvent::Answered(id, answer) => {
                    if let Some(mut tell) = self.questions.remove(&id) {
                        tell(News::End(answer));
                    }
                }
                CoreEvent::Ended(error) => {
                    self.changes += 1;
                    for tell in self.subscriptions.values_mut() {
                        tell(Word::Ended(error.clone()));
                    }
                    (self.notify)(Event::Closed(error));
                }
                event => {
                    if let Some(event) = Event::of(event) {
                        self.changes += u64::from(event.is_change());
                        (self.notify)(event);
                    }
                }
            }
        }
    }

    fn tell(&mut self, id: SubscriptionId, word: Word) {
        if let Some(tell) = self.subscriptions.get_mut(&id) {
            tell(word);
        }
    }
}
