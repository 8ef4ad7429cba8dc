//! A value that one thread sets, and others wait for.

use std::sync::{Condvar, Mutex, PoisonError};

/// A value that comes once.
pub(crate) struct Slot<T> {
    value: Mutex<Option<T>>,
    news: Condvar,
}

impl<T: Clone> Slot<T> {
    pub fn new() -> Slot<T> {
        Slot { value: Mutex::new(None), news: Condvar::new() }
    }

    pub fn set(&self, value: T) {
        *self.value.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
        self.news.notify_all();
    }

    /// Waits for the value.
    pub fn wait(&self) -> T {
        let mut value = self.value.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match &*value {
                Some(value) => return value.clone(),
                None => value = self.news.wait(value).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}
