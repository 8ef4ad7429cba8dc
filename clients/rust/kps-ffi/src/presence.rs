//! Who is subscribed to a topic.

use std::ffi::{CString, c_char, c_void};
use std::ptr::null;

use kps::{Members, Observer, Presence};

use crate::status::or;
use crate::subscription::Closure;
use crate::texts::{borrow, c_text, take};

/// A part of what is known of the members of a topic.
#[repr(C)]
#[allow(dead_code)] // C has the names; what it hands over may be any number
pub enum kps_presence_part {
    /// All members.
    KPS_MEMBERS = 0,
    /// Those that are new since the last time.
    KPS_JOINED = 1,
    /// Those that say something else about themselves.
    KPS_UPDATED = 2,
    /// Those that were members the last time.
    KPS_LEFT = 3,
}

/// Who is subscribed to a topic, and what has changed since the last time.
pub struct kps_presence {
    topic: CString,
    count: u64,
    version: i64,
    is_listed: bool,
    /// Ids, and what is said of each.
    parts: [Vec<(CString, CString)>; 4],
}

/// Is told who is subscribed to a topic, at first and when that changes. What it gets lives as long as
/// the call.
pub type kps_presence_callback =
    Option<unsafe extern "C" fn(closure: *mut c_void, presence: *const kps_presence)>;

impl kps_presence {
    pub(crate) fn new(presence: Presence) -> kps_presence {
        let Presence { topic, members, count, version, joined, updated, left } = presence;
        let reasons = left.iter().map(|(id, reason)| (c_text(id), c_text(reason))).collect();
        kps_presence {
            topic: c_text(&topic),
            count,
            version: version.map_or(-1, |version| version as i64),
            is_listed: members.is_some(),
            parts: [
                texts_of(members.unwrap_or_default()),
                texts_of(joined),
                texts_of(updated),
                reasons,
            ],
        }
    }

    fn entry(&self, part: u32, number: usize) -> Option<&(CString, CString)> {
        self.parts.get(part as usize)?.get(number)
    }
}

fn texts_of(members: Members) -> Vec<(CString, CString)> {
    let info =
        |info: Option<kps::Json>| info.map_or(CString::default(), |info| c_text(info.as_str()));
    members.into_iter().map(|(id, about)| (c_text(&id), info(about))).collect()
}

/// Makes a Rust observer of one of C, if there is one.
pub(crate) fn observer(callback: kps_presence_callback, closure: Closure) -> Option<Observer> {
    let callback = callback?;
    Some(Observer::new(move |presence| {
        let presence = kps_presence::new(presence);
        // SAFETY: the program hands over a function for its closure, and borrows what it gets.
        unsafe { callback(closure.get(), &presence) };
    }))
}

unsafe fn read<T>(
    presence: *const kps_presence,
    otherwise: T,
    read: impl FnOnce(&kps_presence) -> Option<T>,
) -> T {
    // SAFETY: it is ours.
    or(otherwise, || read(unsafe { borrow(presence, "a presence") }.ok()?))
}

/// The topic.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kps_presence_topic(presence: *const kps_presence) -> *const c_char {
    // SAFETY: the caller hands over a presence.
    unsafe { read(presence, null(), |presence| Some(presence.topic.as_ptr())) }
}

/// The number of the members.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kps_presence_count(presence: *const kps_presence) -> u64 {
    // SAFETY: the caller hands over a presence.
    unsafe { read(presence, 0, |presence| Some(presence.count)) }
}

/// The number of the latest change, which grows; -1 if nobody observes the topic.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kps_presence_version(presence: *const kps_presence) -> i64 {
    // SAFETY: the caller hands over a presence.
    unsafe { read(presence, -1, |presence| Some(presence.version)) }
}

/// Whether the members are known. Where there are very many, only their number is.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kps_presence_is_listed(presence: *const kps_presence) -> bool {
    // SAFETY: the caller hands over a presence.
    unsafe { read(presence, false, |presence| Some(presence.is_listed)) }
}

/// How many a kps_presence_part has.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kps_presence_size(presence: *const kps_presence, part: u32) -> usize {
    // SAFETY: the caller hands over a presence.
    unsafe { read(presence, 0, |presence| Some(presence.parts.get(part as usize)?.len())) }
}

/// The id of one of them; NULL if there is none with this number, from 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kps_presence_id(
    presence: *const kps_presence,
    part: u32,
    number: usize,
) -> *const c_char {
    // SAFETY: the caller hands over a presence.
    unsafe { read(presence, null(), |presence| Some(presence.entry(part, number)?.0.as_ptr())) }
}

/// What it says about itself: a JSON object, or empty. Of KPS_LEFT: why it has left, such as
/// "unsubscribed", "closed", "lost" or "unknown".
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kps_presence_info(
    presence: *const kps_presence,
    part: u32,
    number: usize,
) -> *const c_char {
    // SAFETY: the caller hands over a presence.
    unsafe { read(presence, null(), |presence| Some(presence.entry(part, number)?.1.as_ptr())) }
}

/// Frees a presence that a question has given. NULL has no effect.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kps_presence_free(presence: *mut kps_presence) {
    or((), || {
        // SAFETY: it is ours, and nobody uses it any more.
        drop(unsafe { take(presence) });
        Some(())
    });
}
