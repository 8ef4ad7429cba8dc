//! What the clones of a client and its task share.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kps_core::{AckToken, Answer, Json, QuestionId, Result, Session, Transport};
use tokio::sync::{Notify, mpsc, oneshot, watch};

use crate::engine::{Engine, News, Settle, Teller};
use crate::event::Event;
use crate::options::Hook;

/// Events that may wait for the program.
const MOST_EVENTS: usize = 10_000;

/// The heart of a client.
pub(super) struct Inner {
    engine: Mutex<Engine>,
    /// Wakes the task.
    pub bell: Notify,
    /// The client is connected, or is not any more, or has room for more to send.
    changed: watch::Sender<()>,
}

impl Inner {
    pub fn new(session: Session, hook: Option<Hook>) -> Inner {
        let engine = Mutex::new(Engine::new(session, notify(hook)));
        Inner { engine, bell: Notify::new(), changed: watch::Sender::new(()) }
    }

    pub fn lock(&self) -> MutexGuard<'_, Engine> {
        self.engine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something with the session, and passes on what it leads to.
    pub fn call<R>(&self, act: impl FnOnce(&mut Engine) -> R) -> R {
        let mut engine = self.lock();
        let before = engine.changes;
        let result = act(&mut engine);
        engine.step();
        let has_changed = engine.changes != before;
        drop(engine);
        self.bell.notify_one();
        if has_changed {
            self.change();
        }
        result
    }

    /// Lets those look again who wait until something holds.
    pub fn change(&self) {
        self.changed.send_replace(());
    }

    /// Waits until there is a value.
    pub async fn until<T>(&self, mut look: impl FnMut(&mut Engine) -> Option<T>) -> T {
        let mut changes = self.changed.subscribe();
        loop {
            if let Some(found) = look(&mut self.lock()) {
                return found;
            }
            // It fails when the sender is gone, which is `self`.
            let _ = changes.changed().await;
        }
    }

    /// Waits until the client has ended, and its connection is closed.
    pub async fn ended(&self) {
        self.until(|engine| {
            let session = &engine.session;
            (session.ended().is_some() && session.transport() == Transport::Abort).then_some(())
        })
        .await;
    }

    /// Asks the server something, and waits for the answer.
    pub async fn ask<T>(
        self: &Arc<Self>,
        send: impl FnOnce(&mut Session, Duration) -> Result<QuestionId>,
        read: fn(Answer) -> Result<T>,
    ) -> Result<T> {
        let (sender, answer) = oneshot::channel();
        let mut sender = Some(sender);
        let teller: Teller<News> = Box::new(move |news| {
            if let (News::End(answer), Some(sender)) = (news, sender.take()) {
                let _ = sender.send(answer);
            }
        });
        let id = self.call(|engine| engine.ask(send, teller))?;
        let _cancels = Cancels { inner: self.clone(), id };
        read(answer.await.unwrap_or(Err(kps_core::Error::ClientClosed))?)
    }
}

impl Settle for Inner {
    fn settle(&self, token: AckToken, result: std::result::Result<Option<Json>, String>) {
        self.call(|engine| {
            let now = engine.now();
            engine.session.settle(token, result, now);
        });
    }
}

/// Ends a question that nobody waits for any more. Without effect if it has its answer.
struct Cancels {
    inner: Arc<Inner>,
    id: QuestionId,
}

impl Drop for Cancels {
    fn drop(&mut self) {
        self.inner.call(|engine| {
            let now = engine.now();
            engine.session.cancel(self.id, now);
        });
    }
}

/// Passes events on to a task that runs the hook.
fn notify(hook: Option<Hook>) -> Teller<Event> {
    let Some(mut hook) = hook else {
        return Box::new(|_| ());
    };
    let (sender, mut events) = mpsc::channel(MOST_EVENTS);
    tokio::spawn(async move {
        while let Some(event) = events.recv().await {
            hook(event);
        }
    });
    Box::new(move |event| drop(sender.try_send(event)))
}
