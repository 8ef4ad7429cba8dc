//! Publications that are kept while there is no connection.

use std::collections::VecDeque;

/// Bytes of all of them, each with what it takes besides.
const MOST_BYTES: usize = 16 << 20;
const COST: usize = 100;

/// A queue that is bounded in messages and in bytes.
pub struct Offline {
    messages: VecDeque<Vec<u8>>,
    bytes: usize,
    most: usize,
}

impl Offline {
    pub fn new(most: usize) -> Offline {
        Offline { messages: VecDeque::new(), bytes: 0, most }
    }

    /// Whether the program wants any to be kept.
    pub fn is_wanted(&self) -> bool {
        self.most > 0
    }

    /// Keeps a message if there is room; tells whether there was.
    pub fn keep(&mut self, message: Vec<u8>) -> bool {
        let size = message.len() + COST;
        let has_room = self.messages.len() < self.most && self.bytes + size <= MOST_BYTES;
        if has_room {
            self.bytes += size;
            self.messages.push_back(message);
        }
        has_room
    }

    /// Takes all messages out, the oldest first.
    pub fn take(&mut self) -> VecDeque<Vec<u8>> {
        self.bytes = 0;
        std::mem::take(&mut self.messages)
    }
}
