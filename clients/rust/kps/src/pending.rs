//! Questions to the server that are sent, and whose answers are waited for later.

use std::fmt;
use std::sync::Arc;

use kps_core::{Answer, QuestionId, Result};

use crate::engine::{News, Teller};
use crate::shared::Shared;
use crate::slot::Slot;

/// A question that has been sent. Several may be under way at a time. To drop it is to want no
/// answer any more.
#[must_use = "wait() returns the answer"]
pub struct Pending<T> {
    shared: Arc<Shared>,
    id: QuestionId,
    answer: Arc<Slot<Result<Answer>>>,
    read: fn(Answer) -> Result<T>,
}

impl<T> Pending<T> {
    pub(crate) fn new(
        shared: &Arc<Shared>,
        ask: impl FnOnce(Teller<News>) -> Result<QuestionId>,
        read: fn(Answer) -> Result<T>,
    ) -> Result<Pending<T>> {
        let answer = Arc::new(Slot::new());
        let told = answer.clone();
        let id = ask(Box::new(move |news| {
            if let News::End(answer) = news {
                told.set(answer);
            }
        }))?;
        Ok(Pending { shared: shared.clone(), id, answer, read })
    }

    /// Waits for the answer. It comes in time, or fails.
    pub fn wait(self) -> Result<T> {
        (self.read)(self.answer.wait()?)
    }
}

impl<T> Drop for Pending<T> {
    fn drop(&mut self) {
        // Without effect if there is an answer.
        self.shared.call(|engine| {
            let now = engine.now();
            engine.session.cancel(self.id, now);
        });
    }
}

impl<T> fmt::Debug for Pending<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pending").field(&self.id).finish()
    }
}
