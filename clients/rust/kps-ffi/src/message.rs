//! Messages.

use std::ffi::{CString, c_char};
use std::ptr::{null, null_mut};

use kps::{Json, Message, Past};

use crate::status::{attempt, kps_status, or};
use crate::texts::{borrow, c_text, payload, required, take};

/// A message.
pub struct kps_message {
    message: Message,
    topic: CString,
    data: CString,
    from: CString,
    headers: CString,
    epoch: CString,
}

impl kps_message {
    pub(crate) fn new(message: Message) -> kps_message {
        let headers = match message.headers.is_empty() {
            true => CString::default(),
            false => {
                let texts =
                    message.headers.iter().map(|(name, text)| (name.clone(), text.as_str().into()));
                let object: serde_json::Map<String, serde_json::Value> = texts.collect();
                c_text(&serde_json::Value::Object(object).to_string())
            }
        };
        let epoch = message.position.as_ref().map_or("", |position| position.epoch.as_str());
        kps_message {
            topic: c_text(&message.topic),
            data: c_text(message.data.as_str()),
            from: c_text(&message.from),
            epoch: c_text(epoch),
            headers,
            message,
        }
    }
}

/// Messages of the past.
pub struct kps_past {
    messages: Vec<kps_message>,
    complete: bool,
    lost: i64,
}

impl kps_past {
    pub(crate) fn new(past: Past) -> kps_past {
        let messages = past.messages.into_iter().map(kps_message::new).collect();
        let lost = past.lost.map_or(-1, |lost| lost as i64);
        kps_past { messages, complete: past.complete, lost }
    }
}

unsafe fn text_of(
    message: *const kps_message,
    text: fn(&kps_message) -> &CString,
) -> *const c_char {
    or(null(), || {
        // SAFETY: it is ours.
        let message = unsafe { borrow(message, "a message") }.ok()?;
        Some(text(message).as_ptr())
    })
}

/// The topic; empty for a direct message.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kps_message_topic(message: *const kps_message) -> *const c_char {
    // SAFETY: the caller hands over a message.
    unsafe { text_of(message, |message| &message.topic) }
}

/// The payload: JSON.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kps_message_data(message: *const kps_message) -> *const c_char {
    // SAFETY: the caller hands over a message.
    unsafe { text_of(message, |message| &message.data) }
}

/// The id of the publisher.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kps_message_from(message: *const kps_message) -> *const c_char {
    // SAFETY: the caller hands over a message.
    unsafe { text_of(message, |message| &message.from) }
}

/// The texts beside the payload: a JSON object, or empty.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kps_message_headers(message: *const kps_message) -> *const c_char {
    // SAFETY: the caller hands over a message.
    unsafe { text_of(message, |message| &message.headers) }
}

/// The epoch of its place in the history of its topic; empty: it has none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kps_message_epoch(message: *const kps_message) -> *const c_char {
    // SAFETY: the caller hands over a message.
    unsafe { text_of(message, |message| &message.epoch) }
}

/// The offset of its place in the history of its topic; 0: it has none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kps_message_offset(message: *const kps_message) -> u64 {
    or(0, || {
        // SAFETY: it is ours.
        let message = unsafe { borrow(message, "a message") }.ok()?;
        message.message.position.as_ref().map(|position| position.offset)
    })
}

/// How many members of a group have been asked to handle it, with this one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kps_message_attempt(message: *const kps_message) -> u64 {
    // SAFETY: it is ours.
    or(1, || Some(unsafe { borrow(message, "a message") }.ok()?.message.attempt))
}

/// Whether the publisher wants an ack.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kps_message_wants_ack(message: *const kps_message) -> bool {
    // SAFETY: it is ours.
    or(false, || Some(unsafe { borrow(message, "a message") }.ok()?.message.wants_ack()))
}

/// Answers the publisher with a result. Without effect if it wants no ack, or has one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kps_message_reply(
    message: *const kps_message,
    json: *const c_char,
) -> kps_status {
    attempt(|| {
        // SAFETY: the caller hands over a message and a text.
        let (message, result): (_, Json) =
            unsafe { (borrow(message, "a message")?, payload(json)?) };
        message.message.reply(&result)
    })
}

/// Tells the publisher that the message could not be handled.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kps_message_fail(
    message: *const kps_message,
    reason: *const c_char,
) -> kps_status {
    attempt(|| {
        // SAFETY: the caller hands over a message and a text.
        let (message, reason) =
            unsafe { (borrow(message, "a message")?, required(reason, "a reason")?) };
        message.message.fail(reason);
        Ok(())
    })
}

/// Keeps a message beyond the call of a callback: it is handled when this one is freed, with
/// kps_message_free.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kps_message_keep(message: *const kps_message) -> *mut kps_message {
    or(null_mut(), || {
        // SAFETY: it is ours.
        let message = unsafe { borrow(message, "a message") }.ok()?;
        Some(Box::into_raw(Box::new(kps_message::new(message.message.clone()))))
    })
}

/// Frees a message that was kept or taken. Then it is handled. NULL has no effect.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kps_message_free(message: *mut kps_message) {
    or((), || {
        // SAFETY: it is ours, and nobody uses it any more.
        drop(unsafe { take(message) });
        Some(())
    });
}

/// How many messages of the past there are.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kps_past_count(past: *const kps_past) -> usize {
    // SAFETY: they are ours.
    or(0, || Some(unsafe { borrow(past, "messages") }.ok()?.messages.len()))
}

/// One of them, the oldest first; NULL if there is none with this number, from 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kps_past_message(
    past: *const kps_past,
    number: usize,
) -> *const kps_message {
    or(null(), || {
        // SAFETY: they are ours.
        let past = unsafe { borrow(past, "messages") }.ok()?;
        past.messages.get(number).map(std::ptr::from_ref)
    })
}

/// Whether nothing is missing between the place that was given and the messages.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kps_past_is_complete(past: *const kps_past) -> bool {
    // SAFETY: they are ours.
    or(false, || Some(unsafe { borrow(past, "messages") }.ok()?.complete))
}

/// If something is, how many messages; -1: nobody knows.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kps_past_lost(past: *const kps_past) -> i64 {
    // SAFETY: they are ours.
    or(-1, || Some(unsafe { borrow(past, "messages") }.ok()?.lost))
}

/// Frees messages of the past. NULL has no effect.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kps_past_free(past: *mut kps_past) {
    or((), || {
        // SAFETY: they are ours, and nobody uses them any more.
        drop(unsafe { take(past) });
        Some(())
    });
}
