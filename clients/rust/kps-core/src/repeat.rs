//! How a message with an id is asked again on another connection (spec, 21.3).

use std::time::Duration;

use crate::asked::Asked;
use crate::link::{Link, Window};

pub struct Repeat {
    pub message: Asked,
    pub size: usize,
    window: Option<Window>,
    client_id: String,
    /// The time of the server until which it is sure to remember the message.
    pub until: f64,
    /// Its place among all messages with ids.
    number: u64,
    /// Whether it was sent again.
    pub is_again: bool,
}

impl Repeat {
    /// Notes a message that is sent now for the first time.
    pub fn new(message: Asked, size: usize, number: u64, link: &Link, now: Duration) -> Repeat {
        let window = link.window.clone();
        Repeat {
            message,
            size,
            until: window.as_ref().map_or(0.0, |window| window.until(now)),
            window,
            client_id: link.id.clone(),
            number,
            is_again: false,
        }
    }

    /// Tells whether it is the same server, which may still remember the message. `sent` is the number
    /// of all messages with ids.
    pub fn is_safe(&self, sent: u64, link: &Link) -> bool {
        let Some((before, now)) = self.window.as_ref().zip(link.window.as_ref()) else {
            return false;
        };
        before.name == now.name && self.client_id == link.id && sent - self.number < now.most
    }
}
