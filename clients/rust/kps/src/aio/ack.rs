//! What becomes of a message at each of its receivers.

use std::sync::Arc;
use std::time::Duration;

use kps_core::{Answer, Error, Outcome, QuestionId, Result, Session, Status};
use tokio::sync::mpsc;

use super::inner::Inner;
use crate::answers;
use crate::engine::News;

/// The acks of one message. They are gathered whether or not the program waits.
pub struct Ack {
    inner: Arc<Inner>,
    id: QuestionId,
    news: mpsc::UnboundedReceiver<News>,
    presence: Option<u64>,
}

impl Ack {
    pub(super) fn new(
        inner: &Arc<Inner>,
        send: impl FnOnce(&mut Session, Duration) -> Result<QuestionId>,
    ) -> Result<Ack> {
        let (sender, news) = mpsc::unbounded_channel();
        let teller = Box::new(move |news| drop(sender.send(news)));
        let id = inner.call(|engine| engine.ask(send, teller))?;
        Ok(Ack { inner: inner.clone(), id, news, presence: None })
    }

    /// Waits for the next outcome; there is none when all are told. Fails with
    /// [`Error::RequestTimeout`] if the server does not answer, and with [`Error::ConnectionLost`] if the
    /// connection ends.
    pub async fn next(&mut self) -> Option<Result<Outcome>> {
        match self.news.recv().await? {
            News::Outcome(outcome) => Some(Ok(outcome)),
            News::End(answer) => {
                self.news.close();
                if let Ok(Answer::Acked { presence }) = answer {
                    self.presence = presence;
                }
                answer.err().map(Err)
            }
        }
    }

    /// Waits until all receivers have answered, or their time is over; returns the outcomes that `next`
    /// has not returned.
    pub async fn wait(&mut self) -> Result<Vec<Outcome>> {
        let mut outcomes = Vec::new();
        while let Some(outcome) = self.next().await {
            outcomes.push(outcome?);
        }
        Ok(outcomes)
    }

    /// The version of the members of the topic when the message was published, if anybody observed
    /// them then and all outcomes are there: who knows the members at this
    /// [`version`](crate::Presence::version) knows who was asked.
    pub fn presence(&self) -> Option<u64> {
        self.presence
    }

    /// Asks the server for the ids of those who were asked, and whether each has answered. There are none
    /// if the request has ended.
    pub async fn status(&self) -> Result<Status> {
        let mut has_ended = false;
        let send = |session: &mut Session, now| {
            let asked = session.status(self.id, now)?;
            has_ended = asked.is_none();
            asked.ok_or(Error::NotConnected)
        };
        let status = self.inner.ask(send, answers::status).await;
        if has_ended { Ok(Status::new()) } else { status }
    }

    /// Ends the request.
    pub fn cancel(&self) {
        self.inner.call(|engine| {
            let now = engine.now();
            engine.session.cancel(self.id, now);
        });
    }
}
