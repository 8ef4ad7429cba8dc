//! A queue between threads.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Any thread puts something in, and any thread takes it out, in order.
pub(crate) struct Queue<T> {
    state: Mutex<State<T>>,
    news: Condvar,
}

struct State<T> {
    waiting: VecDeque<T>,
    is_closed: bool,
}

/// What comes out of a queue.
#[derive(Debug, PartialEq)]
pub(crate) enum Popped<T> {
    Item(T),
    /// Nothing more comes.
    Closed,
    /// Nothing has come in time.
    Late,
}

impl<T> Queue<T> {
    pub fn new() -> Queue<T> {
        let state = State { waiting: VecDeque::new(), is_closed: false };
        Queue { state: Mutex::new(state), news: Condvar::new() }
    }

    pub fn push(&self, item: T) {
        self.locked().waiting.push_back(item);
        self.news.notify_one();
    }

    pub fn len(&self) -> usize {
        self.locked().waiting.len()
    }

    /// Lets those who wait go when nothing is left.
    pub fn close(&self) {
        self.locked().is_closed = true;
        self.news.notify_all();
    }

    pub fn pop(&self, until: Option<Instant>) -> Popped<T> {
        let mut state = self.locked();
        loop {
            if let Some(item) = state.waiting.pop_front() {
                return Popped::Item(item);
            }
            if state.is_closed {
                return Popped::Closed;
            }
            state = match until.map(|until| until.saturating_duration_since(Instant::now())) {
                None => self.news.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(left) if left.is_zero() => return Popped::Late,
                Some(left) => {
                    let waited = self.news.wait_timeout(state, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    fn locked(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_in_comes_out_before_the_end() {
        let queue = Queue::new();
        assert_eq!(queue.pop(Some(Instant::now())), Popped::Late);
        queue.push(1);
        queue.close();
        assert_eq!(queue.pop(None), Popped::Item(1));
        assert_eq!(queue.pop(None), Popped::Closed);
    }
}
