//! Who is subscribed to the topics that the program observes (spec, section 17).
//!
//! A subscription that observes is told what has changed since it was told last, when its program
//! takes that. So nothing piles up for a program that is slow, whatever the server says.

use std::collections::{BTreeMap, HashMap};

use crate::event::SubscriptionId;
use crate::fields::Fields;
use crate::json::Json;
use crate::key::Key;

/// Members that a client keeps. Of more it knows only the number.
const MOST: usize = 100_000;

/// The reason of one that has left unseen.
const UNKNOWN: &str = "unknown";

/// What members say about themselves, by id: an object, or nothing.
pub type Members = BTreeMap<String, Option<Json>>;

/// Who is subscribed to a topic, and what has changed since the last time.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Presence {
    /// The topic.
    pub topic: String,
    /// All members; `None`: there are so many that only their number is known.
    pub members: Option<Members>,
    /// The number of the members.
    pub count: u64,
    /// The number of the latest change, which grows; `None` if nobody observes the topic.
    pub version: Option<u64>,
    /// The members that are new.
    pub joined: Members,
    /// Those that say something else about themselves.
    pub updated: Members,
    /// Why others have left: `unsubscribed`, `closed`, `lost` (the connection broke), `replaced`
    /// (another connection took the id), `renamed`; or `unknown`, if that was while this client had
    /// no connection, or read too slowly.
    pub left: BTreeMap<String, String>,
}

impl Presence {
    /// Reads who is there. What cannot be read counts as missing.
    pub(crate) fn read(topic: &str, fields: &Fields) -> Presence {
        let members = fields.array("members").map(|_| read_members(fields, "members"));
        Presence {
            topic: topic.to_owned(),
            count: fields
                .number("count")
                .unwrap_or(members.as_ref().map_or(0, Members::len) as u64),
            version: fields.number("version"),
            members,
            ..Presence::default()
        }
    }

    /// Adds what has changed since a subscription knew these members, of whom some have left for a
    /// known reason.
    fn since(mut self, known: Members, mut reasons: BTreeMap<String, String>) -> Presence {
        let Some(members) = &self.members else {
            return self;
        };
        for (id, info) in members {
            match known.get(id) {
                None => drop(self.joined.insert(id.clone(), info.clone())),
                Some(before) if before == info => (),
                Some(_) => drop(self.updated.insert(id.clone(), info.clone())),
            }
        }
        for id in known.into_keys().filter(|id| !members.contains_key(id)) {
            let reason = reasons.remove(&id).unwrap_or_else(|| UNKNOWN.to_owned());
            self.left.insert(id, reason);
        }
        self
    }
}

fn read_members(fields: &Fields, name: &str) -> Members {
    let read = |one: &Fields| Some((one.text_or_none("id")?, one.get("info").map(Json::received)));
    fields.objects(name).iter().filter_map(read).collect()
}

/// A subscription that observes.
#[derive(Default)]
struct Observer {
    /// The members of which it was told last.
    told: Members,
    /// Why some of them have left since.
    reasons: BTreeMap<String, String>,
    /// Whether there is something to tell.
    is_due: bool,
}

/// The members of one topic.
#[derive(Default)]
struct Roster {
    /// As the server has told; `None`: not yet.
    now: Option<Presence>,
    observers: BTreeMap<SubscriptionId, Observer>,
}

impl Roster {
    fn follow(&mut self, topic: &str, fields: &Fields) {
        let mut now = Presence::read(topic, fields);
        let left = fields.objects("left");
        if now.members.is_none() && ["joined", "left"].iter().any(|one| fields.array(one).is_some())
        {
            now.members = self.now.take().and_then(|before| before.members);
        }
        if let Some(members) = &mut now.members {
            left.iter().for_each(|one| drop(members.remove(&one.text("id"))));
            members.extend(read_members(fields, "joined"));
        }
        now.members = now.members.filter(|members| members.len() <= MOST);
        for observer in self.observers.values_mut() {
            observer.note(&left, now.members.as_ref());
        }
        self.now = Some(now);
    }
}

impl Observer {
    fn note(&mut self, left: &[Fields], members: Option<&Members>) {
        for one in left {
            let (id, reason) = (one.text("id"), one.text("reason"));
            if self.told.contains_key(&id) && !reason.is_empty() {
                self.reasons.insert(id, reason);
            }
        }
        self.reasons.retain(|id, _| members.is_some_and(|members| !members.contains_key(id)));
    }
}

/// All topics that the program observes.
#[derive(Default)]
pub struct Rosters {
    rosters: HashMap<String, Roster>,
    topics: HashMap<SubscriptionId, String>,
    /// Subscriptions for which there is something new, once until they take it.
    pub changed: Vec<SubscriptionId>,
}

impl Rosters {
    /// Notes that a subscription observes a topic.
    pub fn observe(&mut self, id: SubscriptionId, topic: &str) {
        self.topics.insert(id, topic.to_owned());
        let roster = self.rosters.entry(topic.to_owned()).or_default();
        roster.observers.insert(id, Observer::default());
    }

    /// Notes that a subscription has ended; returns its topic if nobody observes that any more.
    pub fn leave(&mut self, id: SubscriptionId) -> Option<String> {
        let topic = self.topics.remove(&id)?;
        let roster = self.rosters.get_mut(&topic)?;
        roster.observers.remove(&id);
        if !roster.observers.is_empty() {
            return None;
        }
        self.rosters.remove(&topic);
        Some(topic)
    }

    /// Forgets a topic, to which the program is not subscribed any more.
    pub fn forget(&mut self, topic: &str) {
        for id in self.rosters.remove(topic).into_iter().flat_map(|roster| roster.observers) {
            self.topics.remove(&id.0);
        }
    }

    pub fn is_observed(&self, topic: &str) -> bool {
        self.rosters.contains_key(topic)
    }

    /// Whether the server has told who is subscribed. It goes on until the client does not want it.
    pub fn is_told(&self, key: &Key) -> bool {
        let roster = key.as_topic().and_then(|topic| self.rosters.get(topic));
        roster.is_some_and(|roster| roster.now.is_some())
    }

    /// How many topics are observed.
    pub fn len(&self) -> usize {
        self.rosters.len()
    }

    /// Takes the members at the beginning of a subscription.
    pub fn begin(&mut self, topic: &str, fields: &Fields) {
        if let Some(roster) = self.rosters.get_mut(topic) {
            roster.now.get_or_insert_default();
            self.follow(topic, fields);
        }
    }

    /// Takes what has changed.
    pub fn follow(&mut self, topic: &str, fields: &Fields) {
        let Some(roster) = self.rosters.get_mut(topic).filter(|roster| roster.now.is_some()) else {
            return; // the server tells it unasked
        };
        roster.follow(topic, fields);
        for (id, observer) in &mut roster.observers {
            if !std::mem::replace(&mut observer.is_due, true) {
                self.changed.push(*id);
            }
        }
    }

    /// Returns what a subscription has not been told yet, if there is something.
    pub fn take(&mut self, id: SubscriptionId) -> Option<Presence> {
        let roster = self.rosters.get_mut(self.topics.get(&id)?)?;
        let observer = roster.observers.get_mut(&id).filter(|observer| observer.is_due)?;
        let now = roster.now.clone()?;
        let told = now.members.clone().unwrap_or_default();
        let Observer { told: known, reasons, .. } =
            std::mem::replace(observer, Observer { told, ..Observer::default() });
        Some(now.since(known, reasons))
    }
}
