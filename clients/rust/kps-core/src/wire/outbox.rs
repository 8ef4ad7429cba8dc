//! What waits to be written on one connection.

use std::collections::VecDeque;

use super::frames;

/// Bytes of messages that share an array (spec, 12.2). So no array has too many brackets.
const LARGEST_ARRAY: usize = 64 * 1024;

/// What is in front of one payload, and of several.
const DATA: &[u8] = br#""data":"#;
const BATCH: &[u8] = br#""batch":["#;

/// What an entry takes in memory, besides its bytes.
const COST: usize = 64;

/// What becomes of a message that was not written when its connection ends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// It means nothing on another connection.
    Bound,
    /// The client may keep it for the next one.
    Publication,
    /// The same. Besides, it may share one message with those directly behind it that are alike up to
    /// the `payload`, which ends the message but for a brace (spec, 12.3).
    Batched {
        /// Where it begins.
        payload: usize,
    },
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
                Entry::Message(first, kind) => {
                    let first = self.with_alike(first, kind, self.array);
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
                Entry::Control(..) => self.entries.push_back(entry),
                Entry::Raw(_) | Entry::Message(_, Kind::Bound) => (),
                Entry::Message(data, _) => publications.push(data),
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
        while let Some(next) = self.next_message(self.array.saturating_sub(size + 1)) {
            if array.is_empty() {
                array.push(b'[');
                array.extend_from_slice(&first);
            }
            size += next.len() + 1;
            array.push(b',');
            array.extend_from_slice(&next);
        }
        if array.is_empty() {
            return first;
        }
        array.push(b']');
        array
    }

    /// Takes what waits if it is a message that fits.
    fn next_message(&mut self, largest: usize) -> Option<Vec<u8>> {
        match self.entries.front() {
            Some(Entry::Message(next, _)) if next.len() <= largest => (),
            _ => return None,
        }
        match self.pop() {
            Some(Entry::Message(next, kind)) => Some(self.with_alike(next, kind, largest)),
            _ => None,
        }
    }

    /// Returns a message, or a batch of it and of those that wait directly behind it.
    fn with_alike(&mut self, first: Vec<u8>, kind: Kind, largest: usize) -> Vec<u8> {
        let Kind::Batched { payload } = kind else {
            return first;
        };
        let mut batch: Vec<u8> = Vec::new();
        let mut size = first.len() + BATCH.len() + 1 - DATA.len();
        while let Some(Entry::Message(next, Kind::Batched { payload: begin })) =
            self.entries.front()
        {
            size += next.len().saturating_sub(payload);
            if *begin != payload || next[..payload] != first[..payload] || size > largest {
                break;
            }
            if batch.is_empty() {
                batch.extend_from_slice(&first[..payload - DATA.len()]);
                batch.extend_from_slice(BATCH);
                batch.extend_from_slice(&first[payload..first.len() - 1]);
            }
            batch.push(b',');
            batch.extend_from_slice(&next[payload..next.len() - 1]);
            self.pop();
        }
        if batch.is_empty() {
            return first;
        }
        batch.extend_from_slice(b"]}");
        batch
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
    fn publications_that_are_alike_share_a_batch() {
        let mut outbox = Outbox::default();
        outbox.join(1000);
        let head = |topic: &str| format!(r#"{{"topic":"{topic}","data":"#);
        for (topic, data) in [("a", "1"), ("a", "[2]"), ("b", "3"), ("a", "4"), ("a", "5")] {
            let kind = Kind::Batched { payload: head(topic).len() };
            outbox.push(format!("{}{data}}}", head(topic)).into(), kind);
        }
        outbox.push(format!("{}6}}", head("a")).into(), Kind::Publication);
        let all = written(&mut outbox, 1000);
        let expected = concat!(
            r#"[{"topic":"a","batch":[1,[2]]},{"topic":"b","data":3},"#,
            r#"{"topic":"a","batch":[4,5]},{"topic":"a","data":6}]"#
        );
        assert!(all.ends_with(expected), "{all}");
        assert_eq!((outbox.taken, outbox.bytes), (6, 0));
    }

    #[test]
    fn a_batch_is_no_larger_than_the_server_takes() {
        let mut outbox = Outbox::default();
        outbox.join(r#"{"data":1}"#.len() + 5);
        for data in 1..=3 {
            outbox.push(format!(r#"{{"data":{data}}}"#).into(), Kind::Batched { payload: 8 });
        }
        let messages = [r#"{"batch":[1,2]}"#, r#"{"data":3}"#];
        assert_eq!(written(&mut outbox, 1000), messages.map(|one| format!("......{one}")).concat());
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
