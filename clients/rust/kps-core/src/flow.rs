//! Flow control: a client reads no faster than its program handles messages.
//!
//! Reading pauses while a mailbox is crowded, so TCP slows the server down, and nothing is dropped
//! here. A mailbox from which the program takes nothing for a while must not block the others, be it a
//! callback that hangs or an iterator that nobody reads: reading goes on, and messages that do not
//! fit are dropped. When the program goes on with it, reading waits for it again.
//!
//! A callback may wait for an answer of the server, which comes behind the messages that we do not
//! read. So while answers are due, a mailbox that stands still is given up soon.

use std::collections::HashMap;
use std::time::Duration;

use crate::event::SubscriptionId;
use crate::inbox::Inbox;

const LOOK_EVERY: Duration = Duration::from_millis(250);
const PATIENCE: Duration = Duration::from_secs(10);
const WHILE_ASKING: Duration = Duration::from_millis(500);

/// What the program has done with a crowded mailbox.
struct Watch {
    progress: Option<u64>,
    changed_at: Duration,
    /// Whether it was given up, and whether that was because the program waits for an answer.
    given_up: Option<bool>,
}

/// Decides whether reading is paused.
#[derive(Default)]
pub struct Flow {
    watches: HashMap<SubscriptionId, Watch>,
    look_at: Option<Duration>,
}

impl Flow {
    pub fn is_paused(&self) -> bool {
        self.look_at.is_some()
    }

    pub fn deadline(&self) -> Option<Duration> {
        self.look_at
    }

    /// Notes that a mailbox is above its high-water mark.
    pub fn crowded(&mut self, id: SubscriptionId, inbox: &Inbox, now: Duration) {
        let progress = inbox.progress(id);
        let watch =
            self.watches.entry(id).or_insert(Watch { progress, changed_at: now, given_up: None });
        match watch.given_up {
            // A program that waits for answers again and again would stop reading again and again.
            Some(true) => return,
            Some(false) if watch.progress == progress => return,
            _ => (),
        }
        if watch.given_up.take().is_some() {
            (watch.progress, watch.changed_at) = (progress, now);
        }
        self.look_at.get_or_insert(now + LOOK_EVERY);
    }

    /// Notes that the program has taken a message, or ended a subscription.
    pub fn taken(&mut self, id: SubscriptionId, inbox: &Inbox) {
        if self.watches.contains_key(&id) && inbox.is_relieved(id) {
            self.watches.remove(&id);
            self.rest();
        }
    }

    /// Gives up mailboxes with which the program does not go on. `asks`: answers are due.
    pub fn handle_timeout(&mut self, inbox: &Inbox, asks: bool, now: Duration) {
        if self.look_at.is_none_or(|at| now < at) {
            return;
        }
        self.look_at = Some(now + LOOK_EVERY);
        let patience = if asks { WHILE_ASKING } else { PATIENCE };
        for (id, watch) in self.watches.iter_mut().filter(|(_, watch)| watch.given_up.is_none()) {
            let progress = inbox.progress(*id);
            if progress != watch.progress {
                (watch.progress, watch.changed_at) = (progress, now);
            } else if now >= watch.changed_at + patience {
                watch.given_up = Some(asks);
            }
        }
        self.rest();
    }

    fn rest(&mut self) {
        if self.watches.values().all(|watch| watch.given_up.is_some()) {
            self.look_at = None;
        }
    }
}
