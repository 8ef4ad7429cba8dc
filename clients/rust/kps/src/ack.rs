//! What becomes of a message at each of its receivers.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kps_core::{Answer, Error, Outcome, QuestionId, Result, Session, Status};

use crate::answers;
use crate::engine::{News, Teller};
use crate::pending::Pending;
use crate::shared::Shared;

/// The acks of one message. They are gathered whether or not the program waits.
pub struct Ack {
    shared: Arc<Shared>,
    id: QuestionId,
    gathered: Arc<Gathered>,
}

impl Ack {
    pub(crate) fn new(
        shared: &Arc<Shared>,
        send: impl FnOnce(&mut Session, Duration) -> Result<QuestionId>,
    ) -> Result<Ack> {
        let gathered = Arc::new(Gathered::default());
        let id = shared.call(|engine| engine.ask(send, gathered.teller()))?;
        Ok(Ack { shared: shared.clone(), id, gathered })
    }

    /// Waits until all receivers have answered, or their time is over. There are no outcomes if
    /// nobody was asked, or after [`cancel`](Ack::cancel).
    ///
    /// Fails with [`Error::RequestTimeout`] if the server does not answer, and with
    /// [`Error::ConnectionLost`] if the connection ends: [`outcomes_so_far`](Ack::outcomes_so_far)
    /// has what is known.
    pub fn wait(&self) -> Result<Vec<Outcome>> {
        let state = self.gathered.until(|state| state.end.is_some());
        match &state.end {
            Some(Err(error)) => Err(error.clone()),
            _ => Ok(state.outcomes.clone()),
        }
    }

    /// Waits for the first outcome; there is none if nobody was asked.
    pub fn wait_any(&self) -> Result<Option<Outcome>> {
        self.outcomes().next().transpose()
    }

    /// Returns the outcomes as they come, until there are no more.
    pub fn outcomes(&self) -> Outcomes<'_> {
        Outcomes { ack: self, next: 0, has_failed: false }
    }

    /// The outcomes that are known, without waiting.
    pub fn outcomes_so_far(&self) -> Vec<Outcome> {
        self.gathered.lock().outcomes.clone()
    }

    /// The version of the members of the topic when the message was published, if anybody observed
    /// them then and all outcomes are there: who knows the members at this
    /// [`version`](crate::Presence::version) knows who was asked.
    pub fn presence(&self) -> Option<u64> {
        match self.gathered.lock().end {
            Some(Ok(Answer::Acked { presence })) => presence,
            _ => None,
        }
    }

    /// Asks the server for the ids of those who were asked, and whether each has answered. Of a request
    /// that has ended it tells the outcomes.
    pub fn status(&self) -> Result<Status> {
        match self.ask_status()? {
            Some(pending) => pending.wait(),
            None => {
                let is_known = |outcome: Outcome| (outcome.name(), true);
                Ok(self.wait()?.into_iter().map(is_known).collect())
            }
        }
    }

    /// The same without waiting; there is nothing to ask if the request has ended.
    pub fn ask_status(&self) -> Result<Option<Pending<Status>>> {
        let mut is_over = false;
        let ask = |teller| {
            self.shared.call(|engine| {
                engine.ask(
                    |session, now| {
                        let asked = session.status(self.id, now)?;
                        is_over = asked.is_none();
                        asked.ok_or(Error::NotConnected)
                    },
                    teller,
                )
            })
        };
        let pending = Pending::new(&self.shared, ask, answers::status);
        if is_over { Ok(None) } else { pending.map(Some) }
    }

    /// Whether all who were asked have answered.
    pub fn is_complete(&self) -> Result<bool> {
        let status = self.status()?;
        Ok(!status.is_empty() && status.values().all(|is_known| *is_known))
    }

    /// Ends the request. Who waits gets the outcomes so far.
    pub fn cancel(&self) {
        self.shared.call(|engine| {
            let now = engine.now();
            engine.session.cancel(self.id, now);
        });
    }
}

/// Iterates over outcomes as they come. See [`Ack::outcomes`].
pub struct Outcomes<'a> {
    ack: &'a Ack,
    next: usize,
    has_failed: bool,
}

impl Iterator for Outcomes<'_> {
    type Item = Result<Outcome>;

    fn next(&mut self) -> Option<Result<Outcome>> {
        if self.has_failed {
            return None;
        }
        let is_more = |state: &State| state.outcomes.len() > self.next || state.end.is_some();
        let state = self.ack.gathered.until(is_more);
        if let Some(outcome) = state.outcomes.get(self.next) {
            self.next += 1;
            return Some(Ok(outcome.clone()));
        }
        match &state.end {
            Some(Err(error)) => {
                self.has_failed = true;
                Some(Err(error.clone()))
            }
            _ => None,
        }
    }
}

/// What a caller is told of its question.
#[derive(Default)]
struct Gathered {
    state: Mutex<State>,
    news: Condvar,
}

#[derive(Default)]
struct State {
    outcomes: Vec<Outcome>,
    end: Option<Result<Answer>>,
}

impl Gathered {
    fn teller(self: &Arc<Self>) -> Teller<News> {
        let gathered = self.clone();
        Box::new(move |news| {
            let mut state = gathered.lock();
            match news {
                News::Outcome(outcome) => state.outcomes.push(outcome),
                News::End(answer) => state.end = Some(answer),
            }
            gathered.news.notify_all();
        })
    }

    fn until(&self, mut condition: impl FnMut(&State) -> bool) -> MutexGuard<'_, State> {
        let mut state = self.lock();
        while !condition(&state) {
            state = self.news.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
