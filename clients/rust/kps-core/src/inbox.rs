//! The subscriptions of a program: a bounded mailbox for each, and the acks that are due.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use crate::event::SubscriptionId;
use crate::json::Json;
use crate::key::{Key, Scope};
use crate::message::{AckToken, Message};
use crate::options::Limits;

/// What a message takes in memory, besides its texts.
const COST: usize = 200;

/// Reading pauses while a mailbox is fuller than one part in this many, until it is half as full.
const CROWDED: usize = 32;

/// An ack that can be sent: all subscriptions have handled its message.
#[derive(Debug, PartialEq)]
pub struct Settled {
    pub ack_id: String,
    /// The connection that brought the message. On another one the ack means nothing.
    pub epoch: u64,
    pub result: Result<Option<Json>, String>,
    /// Whether the program may have begun to handle it.
    pub begun: bool,
}

struct Due {
    settled: Settled,
    /// How many subscriptions have not handled the message yet.
    remaining: usize,
    /// Whether the program has it as a member of a group, so that another member may handle it.
    is_for_member: bool,
}

struct Mailbox {
    /// What it is subscribed to; `None`: the direct messages.
    key: Option<Key>,
    messages: VecDeque<Message>,
    bytes: usize,
    taken: u64,
    is_overflowing: bool,
}

/// All subscriptions of one program.
pub struct Inbox {
    limits: Limits,
    count: u64,
    mailboxes: HashMap<u64, Mailbox>,
    by_key: HashMap<Key, Vec<u64>>,
    /// The patterns among the keys that are in no group.
    patterns: Vec<Key>,
    direct: Option<u64>,
    /// Subscriptions for whose confirmation a caller waits, and until when: the oldest first.
    awaited: BTreeMap<u64, Duration>,
    due: HashMap<AckToken, Due>,
    /// Subscriptions that got a message, once for each.
    pub arrived: Vec<SubscriptionId>,
    /// Those that began to drop messages.
    pub overflowed: Vec<SubscriptionId>,
    /// Those that are above their high-water mark, perhaps several times.
    pub crowded: Vec<SubscriptionId>,
    /// Acks to send.
    pub settled: Vec<Settled>,
}

/// What came with a message that is to be acknowledged.
pub struct Errand {
    pub ack_id: String,
    pub epoch: u64,
    pub is_for_member: bool,
}

impl Inbox {
    pub fn new(limits: Limits) -> Inbox {
        Inbox {
            limits,
            count: 0,
            mailboxes: HashMap::new(),
            by_key: HashMap::new(),
            patterns: Vec::new(),
            direct: None,
            awaited: BTreeMap::new(),
            due: HashMap::new(),
            arrived: Vec::new(),
            overflowed: Vec::new(),
            crowded: Vec::new(),
            settled: Vec::new(),
        }
    }

    // -- subscriptions

    /// The id of the subscription that is added next.
    pub fn next_id(&self) -> SubscriptionId {
        SubscriptionId(self.count + 1)
    }

    pub fn add(&mut self, key: Option<Key>, confirm_by: Option<Duration>) -> SubscriptionId {
        self.count += 1;
        let id = self.count;
        match &key {
            Some(key) => {
                if is_plain_pattern(key) && !self.has(key) {
                    self.patterns.push(key.clone());
                }
                self.by_key.entry(key.clone()).or_default().push(id);
            }
            None => self.direct = Some(id),
        }
        self.awaited.extend(confirm_by.map(|by| (id, by)));
        let messages = VecDeque::new();
        let mailbox = Mailbox { key, messages, bytes: 0, taken: 0, is_overflowing: false };
        self.mailboxes.insert(id, mailbox);
        SubscriptionId(id)
    }

    pub fn has(&self, key: &Key) -> bool {
        self.by_key.contains_key(key)
    }

    pub fn has_direct(&self) -> bool {
        self.direct.is_some()
    }

    /// Ends a subscription. Messages that wait are dropped, and answered with `unsubscribed`.
    /// Returns what it was subscribed to if it was the last one.
    pub fn remove(&mut self, id: SubscriptionId) -> Option<Key> {
        let mailbox = self.mailboxes.remove(&id.0)?;
        self.awaited.remove(&id.0);
        for message in &mailbox.messages {
            self.settle(message.ack, Err("unsubscribed".to_owned()), false);
        }
        if self.direct == Some(id.0) {
            self.direct = None;
        }
        let key = mailbox.key?;
        let others = self.by_key.get_mut(&key)?;
        others.retain(|other| *other != id.0);
        if !others.is_empty() {
            return None;
        }
        self.forget(&key);
        Some(key)
    }

    /// Ends all subscriptions to a key; their messages remain. Tells of each whether a caller waits
    /// for its confirmation.
    pub fn refuse(&mut self, key: &Key) -> Vec<(SubscriptionId, bool)> {
        let ended = self.forget(key);
        let mut was_awaited = |id: &u64| self.awaited.remove(id).is_some();
        ended.into_iter().map(|id| (SubscriptionId(id), was_awaited(&id))).collect()
    }

    /// Ends one subscription to a key; its messages remain. Tells whether a caller waits for its
    /// confirmation; `None`: it has ended before.
    pub fn refuse_one(&mut self, key: &Key, id: SubscriptionId) -> Option<bool> {
        let all = self.by_key.get_mut(key)?;
        all.remove(all.iter().position(|one| *one == id.0)?);
        if all.is_empty() {
            self.forget(key);
        }
        Some(self.awaited.remove(&id.0).is_some())
    }

    /// Returns the subscriptions to a key for whose confirmation a caller waits; it waits no more.
    pub fn confirm(&mut self, key: &Key) -> Vec<SubscriptionId> {
        let ids = self.by_key.get(key).into_iter().flatten();
        let confirmed = ids.filter(|id| self.awaited.remove(id).is_some());
        confirmed.map(|id| SubscriptionId(*id)).collect()
    }

    /// The same for all keys.
    pub fn confirm_all(&mut self) -> Vec<SubscriptionId> {
        std::mem::take(&mut self.awaited).into_keys().map(SubscriptionId).collect()
    }

    pub fn are_awaited(&self) -> bool {
        !self.awaited.is_empty()
    }

    /// When the first caller gives up waiting for a confirmation.
    pub fn confirm_deadline(&self) -> Option<Duration> {
        self.awaited.first_key_value().map(|(_, by)| *by)
    }

    /// Returns the subscriptions whose callers have waited for too long.
    pub fn unconfirmed(&self, now: Duration) -> Vec<SubscriptionId> {
        let late = self.awaited.iter().take_while(|(_, by)| now >= **by);
        late.map(|(id, _)| SubscriptionId(*id)).collect()
    }

    fn forget(&mut self, key: &Key) -> Vec<u64> {
        self.patterns.retain(|pattern| pattern != key);
        self.by_key.remove(key).unwrap_or_default()
    }

    // -- messages in

    /// Tells whether a subscription has a topic.
    pub fn selects(&self, topic: &str) -> bool {
        !self.receivers(topic).is_empty()
    }

    /// Gives a message to every subscription that has its topic, and to no member of a group. Tells
    /// whether there is one.
    pub fn deliver(&mut self, message: Message, errand: Option<Errand>) -> bool {
        let receivers = self.receivers(&message.topic);
        self.deliver_to(&receivers, message, errand)
    }

    /// Gives a message of a group to its member.
    pub fn deliver_to_member(
        &mut self,
        key: &Key,
        message: Message,
        errand: Option<Errand>,
    ) -> bool {
        let receivers = self.by_key.get(key).cloned().unwrap_or_default();
        self.deliver_to(&receivers, message, errand)
    }

    pub fn deliver_direct(&mut self, message: Message, errand: Option<Errand>) -> bool {
        let receivers: Vec<u64> = self.direct.into_iter().collect();
        self.deliver_to(&receivers, message, errand)
    }

    fn receivers(&self, topic: &str) -> Vec<u64> {
        let exact = Key { scope: Scope::from(topic), group: String::new() };
        let mut receivers = self.by_key.get(&exact).cloned().unwrap_or_default();
        for pattern in self.patterns.iter().filter(|pattern| pattern.scope.has(topic)) {
            receivers.extend(&self.by_key[pattern]);
        }
        receivers
    }

    fn deliver_to(&mut self, ids: &[u64], mut message: Message, errand: Option<Errand>) -> bool {
        if ids.is_empty() {
            return false;
        }
        if let Some(Errand { ack_id, epoch, is_for_member }) = errand {
            self.count += 1;
            let settled = Settled { ack_id, epoch, result: Ok(None), begun: true };
            let due = Due { settled, remaining: ids.len(), is_for_member };
            self.due.insert(AckToken(self.count), due);
            message.ack = Some(AckToken(self.count));
        }
        if let [others @ .., last] = ids {
            others.iter().for_each(|id| self.put(*id, message.clone()));
            self.put(*last, message);
        }
        !ids.is_empty()
    }

    fn put(&mut self, id: u64, message: Message) {
        let Some(mailbox) = self.mailboxes.get_mut(&id) else {
            return;
        };
        let size = size_of(&message);
        let waiting = mailbox.messages.len();
        let has_room = waiting < self.limits.mailbox_messages
            && mailbox.bytes + size <= self.limits.mailbox_bytes;
        if waiting > 0 && !has_room {
            if !std::mem::replace(&mut mailbox.is_overflowing, true) {
                self.overflowed.push(SubscriptionId(id));
            }
            self.settle(message.ack, Err("queue full".to_owned()), false);
            return;
        }
        mailbox.bytes += size;
        mailbox.messages.push_back(message);
        self.arrived.push(SubscriptionId(id));
        if self.fills(SubscriptionId(id), CROWDED) {
            self.crowded.push(SubscriptionId(id));
        }
    }

    // -- messages out

    pub fn take(&mut self, id: SubscriptionId) -> Option<Message> {
        let mailbox = self.mailboxes.get_mut(&id.0)?;
        let message = mailbox.messages.pop_front()?;
        mailbox.bytes -= size_of(&message);
        mailbox.taken += 1;
        mailbox.is_overflowing = false;
        Some(message)
    }

    /// How many messages a subscription has taken; `None`: it has ended.
    pub fn progress(&self, id: SubscriptionId) -> Option<u64> {
        self.mailboxes.get(&id.0).map(|mailbox| mailbox.taken)
    }

    /// Tells whether a mailbox is below its low-water mark.
    pub fn is_relieved(&self, id: SubscriptionId) -> bool {
        !self.fills(id, 2 * CROWDED)
    }

    fn fills(&self, id: SubscriptionId, part: usize) -> bool {
        self.mailboxes.get(&id.0).is_some_and(|mailbox| {
            mailbox.messages.len() > self.limits.mailbox_messages / part
                || mailbox.bytes > self.limits.mailbox_bytes / part
        })
    }

    /// Notes that one subscription has handled a message. The first error and the first result count.
    pub fn settle(
        &mut self,
        token: Option<AckToken>,
        result: Result<Option<Json>, String>,
        begun: bool,
    ) {
        let Some((token, due)) = token.and_then(|token| Some((token, self.due.get_mut(&token)?)))
        else {
            return;
        };
        match (&due.settled.result, result) {
            (Ok(None), new) => due.settled.result = new,
            (Ok(Some(_)), Err(error)) => due.settled.result = Err(error),
            _ => (),
        }
        due.settled.begun &= begun || !due.is_for_member;
        due.remaining -= 1;
        if due.remaining == 0 {
            let due = self.due.remove(&token).expect("it was there");
            self.settled.push(due.settled);
        }
    }
}

fn is_plain_pattern(key: &Key) -> bool {
    key.group.is_empty() && key.scope.is_pattern()
}

fn size_of(message: &Message) -> usize {
    let headers: usize =
        message.headers.iter().map(|(name, text)| name.len() + text.len() + 50).sum();
    COST + message.topic.len() + message.from.len() + message.data.as_str().len() + headers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(topic: &str) -> Message {
        Message {
            topic: topic.into(),
            data: Json::null(),
            from: "a".into(),
            headers: Vec::new(),
            position: None,
            attempt: 1,
            ack: None,
        }
    }

    fn errand() -> Option<Errand> {
        Some(Errand { ack_id: "x".into(), epoch: 1, is_for_member: false })
    }

    fn inbox(messages: usize) -> Inbox {
        Inbox::new(Limits { mailbox_messages: messages, ..Limits::default() })
    }

    fn key(scope: impl Into<Scope>) -> Option<Key> {
        Some(Key { scope: scope.into(), group: String::new() })
    }

    #[test]
    fn an_ack_is_due_when_all_have_handled_the_message() {
        let mut inbox = inbox(10);
        let one = inbox.add(key("t"), None);
        let two = inbox.add(key(Scope::pattern("*")), None);
        assert!(inbox.deliver(message("t"), errand()));
        assert_eq!(inbox.arrived, [one, two]);
        let (first, second) = (inbox.take(one).unwrap(), inbox.take(two).unwrap());
        inbox.settle(first.ack, Ok(Some(Json::null())), true);
        assert!(inbox.settled.is_empty());
        inbox.settle(second.ack, Err("no".into()), true);
        inbox.settle(second.ack, Ok(None), true); // once more: without effect
        assert_eq!(inbox.settled.len(), 1);
        assert_eq!(inbox.settled[0].result, Err("no".into()));
    }

    #[test]
    fn a_full_mailbox_drops_the_new_message_and_answers_it() {
        let mut inbox = inbox(2);
        let id = inbox.add(key("t"), None);
        for _ in 0..4 {
            inbox.deliver(message("t"), errand());
        }
        assert_eq!((inbox.overflowed.len(), inbox.settled.len()), (1, 2));
        assert_eq!(inbox.settled[0].result, Err("queue full".into()));
        inbox.remove(id);
        assert_eq!(inbox.settled[3].result, Err("unsubscribed".into()));
        assert!(!inbox.deliver(message("t"), None));
    }

    #[test]
    fn a_message_of_any_size_fits_into_an_empty_mailbox() {
        let mut inbox = Inbox::new(Limits { mailbox_bytes: 1, ..Limits::default() });
        let id = inbox.add(None, None);
        assert!(inbox.deliver_direct(message(""), None));
        assert_eq!((inbox.crowded.len(), inbox.is_relieved(id)), (1, false));
        assert!(inbox.take(id).is_some() && inbox.is_relieved(id));
    }
}
