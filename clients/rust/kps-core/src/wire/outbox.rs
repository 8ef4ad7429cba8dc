//! What waits to be written on one connection.

use std::collections::VecDeque;

use super::frames;

/// Bytes of messages that share an array (spec, 12.2). So no array has too many brackets.
const LARGEST_ARRAY: usize = 64 * 1024;

/// What an entry takes in memory, besides its bytes.
const COST: usize = 64;

/// What becomes of a message that was not written when its connection ends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// It means nothing on another connection.
    Bound,
    /// It is a publication, which the client may keep for the next one.
    Publication,
}

enum Entry {
    Message(Vec<u8>, Kind),
    Control(u8, Vec<u8>),
    /// Bytes that are no frame: the opening request.
    Raw(Vec<u8>),
}

impl Entry {
    fn size(&self) -> usize {
        match self {
            Entry::Message(data, _) | Entry::Control(_, data) | Entry::Raw(data) => {
                COST + data.len()
            }
        }
    }
}

/// A queue of messages and control frames.
#[derive(Default)]
pub struct Outbox {
    entries: VecDeque<Entry>,
    /// Bytes that wait.
    pub bytes: usize,
    /// How many messages were put in so far.
    pub put: u64,
    /// How many of them were taken to be written.
    pub taken: u64,
    /// The largest array of messages to write; 0 where the server reads none.
    array: usize,
    /// Bytes of control frames, which the server itself causes.
    pub control_bytes: usize,
}

impl Outbox {
    /// From now on the server reads arrays, up to a size.
    pub fn join(&mut self, max_message: usize) {
        self.array = max_message.min(LARGEST_ARRAY);
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn push(&mut self, message: Vec<u8>, kind: Kind) {
        self.put += 1;
        self.add(Entry::Message(message, kind));
    }

    pub fn push_raw(&mut self, bytes: Vec<u8>) {
        self.add(Entry::Raw(bytes));
    }

    pub fn push_control(&mut self, opcode: u8, payload: Vec<u8>) {
        let entry = Entry::Control(opcode, payload);
        self.control_bytes += entry.size();
        self.add(entry);
    }

    /// Puts a control frame in front of all that waits.
    pub fn push_control_first(&mut self, opcode: u8, payload: Vec<u8>) {
        self.push_control(opcode, payload);
        self.entries.rotate_right(1);
    }

    /// Writes what waits, as frames, until there are `most` bytes or a few more.
    pub fn take(&mut self, out: &mut Vec<u8>, most: usize, mut mask: impl FnMut() -> [u8; 4]) {
        let end = out.len() + most;
        while out.len() < end {
            let Some(entry) = self.pop() else {
                return;
            };
            match entry {
                Entry::Raw(bytes) => out.extend_from_slice(&bytes),
                Entry::Control(opcode, payload) => frames::write(out, opcode, &payload, mask()),
                Entry::Message(first, _) => {
                    let message = self.with_following(first);
                    frames::write(out, frames::TEXT, &message, mask());
                }
            }
        }
    }

    /// Removes all messages, and returns the publications among them.
    pub fn clear(&mut self) -> Vec<Vec<u8>> {
        let mut publications = Vec::new();
        for entry in std::mem::take(&mut self.entries) {
            match entry {
                Entry::Message(data, Kind::Publication) => publications.push(data),
                Entry::Control(..) => self.entries.push_back(entry),
                _ => (),
            }
        }
        self.bytes = self.entries.iter().map(Entry::size).sum();
        publications
    }

    fn add(&mut self, entry: Entry) {
        self.bytes += entry.size();
        self.entries.push_back(entry);
    }

    fn pop(&mut self) -> Option<Entry> {
        let entry = self.entries.pop_front()?;
        self.bytes -= entry.size();
        match &entry {
            Entry::Message(..) => self.taken += 1,
            Entry::Control(..) => self.control_bytes -= entry.size(),
            Entry::Raw(_) => (),
        }
        Some(entry)
    }

    /// Returns a message, or an array of it and of those that wait directly behind it.
    fn with_following(&mut self, first: Vec<u8>) -> Vec<u8> {
        let mut array: Vec<u8> = Vec::new();
        let mut size = first.len() + 2;
        while let Some(Entry::Message(next, _)) = self.entries.front() {
            size += next.len() + 1;
            if size > self.array {
                break;
            }
            if array.is_empty() {
                array.push(b'[');
                array.extend_from_slice(&first);
            }
            array.push(b',');
            array.extend_from_slice(next);
            self.pop();
        }
        if array.is_empty() {
            return first;
        }
        array.push(b']');
        array
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(outbox: &mut Outbox, most: usize) -> String {
        let mut out = Vec::new();
        outbox.take(&mut out, most, || [0; 4]);
        let printable = |byte: u8| if byte.is_ascii_graphic() { byte as char } else { '.' };
        out.into_iter().map(printable).collect()
    }

    #[test]
    fn messages_share_arrays_as_large_as_the_server_takes() {
        let mut outbox = Outbox::default();
        outbox.join(10);
        for message in ["aaaa", "bbb", "c", "dddddddddddd", "e"] {
            outbox.push(message.into(), Kind::Bound);
        }
        outbox.push_control(frames::PING, Vec::new());
        outbox.push(b"f".into(), Kind::Bound);
        let expected = ".......[aaaa,bbb]......c......dddddddddddd......e............f";
        let all = written(&mut outbox, 1000);
        assert_eq!(all.matches(char::is_alphabetic).count(), 22);
        assert!(all.contains("[aaaa,bbb]") && !all.contains("c,"), "{all} {expected}");
        assert_eq!((outbox.taken, outbox.bytes, outbox.control_bytes), (6, 0, 0));
    }

    #[test]
    fn without_arrays_each_message_is_alone() {
        let mut outbox = Outbox::default();
        outbox.push(b"a".into(), Kind::Bound);
        outbox.push(b"b".into(), Kind::Bound);
        assert_eq!(written(&mut outbox, 1), "......a");
        assert_eq!((outbox.put, outbox.taken), (2, 1));
        assert_eq!(written(&mut outbox, 1), "......b");
    }

    #[test]
    fn what_is_not_written_is_given_back() {
        let mut outbox = Outbox::default();
        outbox.push(b"a".into(), Kind::Publication);
        outbox.push(b"b".into(), Kind::Bound);
        outbox.push_control(frames::CLOSE, Vec::new());
        assert_eq!(outbox.clear(), [b"a"]);
        assert!(!outbox.is_empty() && outbox.bytes == COST);
    }
}
