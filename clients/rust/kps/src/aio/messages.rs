//! Subscriptions.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_core::Stream;
use kps_core::{Error, Result, SubscriptionId};
use tokio::sync::{mpsc, watch};

use super::inner::Inner;
use crate::engine::{Settle, Teller, Word};
use crate::message::Message;
use crate::subscription::Observer;

/// A subscription: a stream of messages. It ends when it is dropped.
///
/// The stream ends with the client, or with an error if the server ends the subscription.
pub struct Messages {
    inner: Arc<Inner>,
    settle: Arc<dyn Settle>,
    id: SubscriptionId,
    words: mpsc::UnboundedReceiver<News>,
    in_force: watch::Receiver<Option<Result<()>>>,
    observer: Option<Observer>,
}

/// What comes to a stream.
enum News {
    Arrived,
    PresenceChanged,
    Ended(Option<Error>),
}

/// What a stream is told by.
pub(super) struct Words {
    teller: Teller<Word>,
    words: mpsc::UnboundedReceiver<News>,
    in_force: watch::Receiver<Option<Result<()>>>,
}

impl Words {
    pub fn new() -> Words {
        // As many words may wait as messages, which are bounded.
        let (sender, words) = mpsc::unbounded_channel();
        let (confirm, in_force) = watch::channel(None);
        let teller: Teller<Word> = Box::new(move |word| {
            let news = match word {
                Word::Arrived => News::Arrived,
                Word::PresenceChanged => News::PresenceChanged,
                Word::Ended(error) => News::Ended(error),
                Word::InForce(result) => {
                    let has_ended = result.is_err();
                    confirm.send_replace(Some(result));
                    if !has_ended {
                        return;
                    }
                    News::Ended(None)
                }
            };
            let _ = sender.send(news);
        });
        Words { teller, words, in_force }
    }

    /// Subscribes, and returns the stream.
    pub fn subscribe(
        self,
        inner: &Arc<Inner>,
        observer: Option<Observer>,
        subscribe: impl FnOnce(Teller<Word>) -> Result<SubscriptionId>,
    ) -> Result<Messages> {
        let Words { teller, words, in_force } = self;
        let id = subscribe(teller)?;
        Ok(Messages { inner: inner.clone(), settle: inner.clone(), id, words, in_force, observer })
    }
}

impl Messages {
    /// Waits until the server has confirmed the subscription. Fails if the server refuses it, or does not
    /// answer in time; then it has ended.
    pub async fn confirmed(&mut self) -> Result<()> {
        match self.in_force.wait_for(Option::is_some).await {
            Ok(result) => result.clone().unwrap_or(Ok(())),
            Err(_) => Err(Error::ClientClosed),
        }
    }

    /// Waits for the next message; `None`: the client was closed. No message is lost if the future is
    /// dropped.
    pub async fn next(&mut self) -> Option<Result<Message>> {
        poll_fn(|context| self.poll(context)).await
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Message>>> {
        loop {
            match std::task::ready!(self.words.poll_recv(context)) {
                Some(News::Arrived) => {
                    let message = self.inner.call(|engine| engine.session.take(self.id));
                    if let Some(message) = message {
                        return Poll::Ready(Some(Ok(Message::new(message, &self.settle))));
                    }
                }
                Some(News::PresenceChanged) => {
                    let presence = self.inner.call(|engine| engine.session.take_presence(self.id));
                    if let (Some(observer), Some(presence)) = (&mut self.observer, presence) {
                        observer.tell(presence);
                    }
                }
                Some(News::Ended(error)) => {
                    self.words.close();
                    return Poll::Ready(error.map(Err));
                }
                None => return Poll::Ready(None),
            }
        }
    }
}

impl Stream for Messages {
    type Item = Result<Message>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll(context)
    }
}

impl Drop for Messages {
    fn drop(&mut self) {
        self.inner.call(|engine| engine.unsubscribe(self.id));
    }
}

impl fmt::Debug for Messages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Messages").field(&self.id).finish()
    }
}
