//! What becomes of a message at each of its receivers.

use std::ffi::{CString, c_char};
use std::ptr::null;
use std::sync::Mutex;

use kps::{Ack, Outcome, Scope};
use serde_json::json;

use crate::pending::{self, Question, kps_pending};
use crate::status::{attempt, kps_status, or};
use crate::texts::{borrow, c_text, check, give, take};

/// The acks of one message.
pub struct kps_ack {
    pub(crate) ack: Ack,
    /// How many outcomes were taken.
    pub(crate) taken: Mutex<usize>,
}

/// The outcome for one receiver.
pub struct kps_outcome {
    client_id: CString,
    name: CString,
    success: bool,
    error: CString,
    result: CString,
    group: CString,
    topic: CString,
    is_pattern: bool,
    attempts: u64,
    failures: CString,
}

impl kps_outcome {
    fn new(outcome: &Outcome) -> kps_outcome {
        let group = outcome.group.as_ref();
        let scope = group.map(|group| &group.key.scope);
        let failures = group.map(|group| json!(group.failures).to_string());
        kps_outcome {
            client_id: c_text(&outcome.client_id),
            name: c_text(&outcome.name()),
            success: outcome.success,
            error: c_text(outcome.error.as_deref().unwrap_or_default()),
            result: c_text(outcome.result.as_ref().map_or("", |result| result.as_str())),
            group: c_text(group.map_or("", |group| &group.key.group)),
            topic: c_text(scope.map_or("", |scope| scope.text())),
            is_pattern: matches!(scope, Some(Scope::Pattern(_))),
            attempts: group.map_or(0, |group| group.attempts),
            failures: c_text(&failures.unwrap_or_default()),
        }
    }
}

/// Waits for the next outcome. `out` becomes NULL when there are no more. Free it with
/// kps_outcome_free.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kps_ack_next(
    ack: *const kps_ack,
    out: *mut *mut kps_outcome,
) -> kps_status {
    attempt(|| {
        check(out, "where the outcome is to go")?;
        // SAFETY: the caller hands over an ack.
        let ack = unsafe { borrow(ack, "an ack") }?;
        let mut taken = ack.taken.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let next = ack.ack.outcomes().nth(*taken).transpose()?;
        // SAFETY: `out` is not NULL.
        match next {
            Some(outcome) => {
                *taken += 1;
                unsafe { give(out, kps_outcome::new(&outcome)) }
            }
            None => unsafe { out.write(std::ptr::null_mut()) },
        }
        Ok(())
    })
}

/// Asks the server for the ids of those who were asked, and whether each has answered: kps_wait_json,
/// an object of booleans.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kps_ack_status(ack: *const kps_ack) -> *mut kps_pending {
    pending::ask(|| {
        // SAFETY: the caller hands over an ack.
        let ack = &unsafe { borrow(ack, "an ack") }?.ack;
        let Some(asked) = ack.ask_status()? else {
            let known = json!(ack.status()?).to_string();
            return Ok(Question::Json(Box::new(|| Ok(known))));
        };
        Ok(Question::Json(Box::new(|| Ok(json!(asked.wait()?).to_string()))))
    })
}

/// The version of the members of the topic when the message was published: see kps_presence_version. -1
/// if nobody observed them then, or not all outcomes are there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kps_ack_presence(ack: *const kps_ack) -> i64 {
    or(-1, || {
        // SAFETY: it is ours.
        let version = unsafe { borrow(ack, "an ack") }.ok()?.ack.presence();
        version.map(|version| version as i64)
    })
}

/// Ends the request. Who waits gets the outcomes so far.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kps_ack_cancel(ack: *const kps_ack) {
    or((), || {
        // SAFETY: it is ours.
        unsafe { borrow(ack, "an ack") }.ok()?.ack.cancel();
        Some(())
    });
}

/// Frees an ack. NULL has no effect.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kps_ack_free(ack: *mut kps_ack) {
    or((), || {
        // SAFETY: it is ours, and nobody uses it any more.
        drop(unsafe { take(ack) });
        Some(())
    });
}

unsafe fn text_of(
    outcome: *const kps_outcome,
    text: fn(&kps_outcome) -> &CString,
) -> *const c_char {
    or(null(), || {
        // SAFETY: it is ours.
        let outcome = unsafe { borrow(outcome, "an outcome") }.ok()?;
        Some(text(outcome).as_ptr())
    })
}

/// The id of the client; of a group, that of the member which had the message last.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kps_outcome_client_id(outcome: *const kps_outcome) -> *const c_char {
    // SAFETY: the caller hands over an outcome.
    unsafe { text_of(outcome, |outcome| &outcome.client_id) }
}

/// The id of the client, or "GROUP of TOPIC".
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kps_outcome_name(outcome: *const kps_outcome) -> *const c_char {
    // SAFETY: the caller hands over an outcome.
    unsafe { text_of(outcome, |outcome| &outcome.name) }
}

/// Whether the receiver has handled the message.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kps_outcome_success(outcome: *const kps_outcome) -> bool {
    // SAFETY: it is ours.
    or(false, || Some(unsafe { borrow(outcome, "an outcome") }.ok()?.success))
}

/// Why it has not, or empty: "disconnected" and "timeout" among others.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kps_outcome_error(outcome: *const kps_outcome) -> *const c_char {
    // SAFETY: the caller hands over an outcome.
    unsafe { text_of(outcome, |outcome| &outcome.error) }
}

/// What handling the message resulted in: JSON, or empty.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kps_outcome_result(outcome: *const kps_outcome) -> *const c_char {
    // SAFETY: the caller hands over an outcome.
    unsafe { text_of(outcome, |outcome| &outcome.result) }
}

/// If the receiver is a group, its name, else empty.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kps_outcome_group(outcome: *const kps_outcome) -> *const c_char {
    // SAFETY: the caller hands over an outcome.
    unsafe { text_of(outcome, |outcome| &outcome.group) }
}

/// Of a group: the topic or pattern of which it is one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kps_outcome_topic(outcome: *const kps_outcome) -> *const c_char {
    // SAFETY: the caller hands over an outcome.
    unsafe { text_of(outcome, |outcome| &outcome.topic) }
}

/// Of a group: whether that is a pattern.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kps_outcome_is_pattern(outcome: *const kps_outcome) -> bool {
    // SAFETY: it is ours.
    or(false, || Some(unsafe { borrow(outcome, "an outcome") }.ok()?.is_pattern))
}

/// Of a group: how often a member had the message.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kps_outcome_attempts(outcome: *const kps_outcome) -> u64 {
    // SAFETY: it is ours.
    or(0, || Some(unsafe { borrow(outcome, "an outcome") }.ok()?.attempts))
}

/// Of a group: the attempts that were not final, a JSON array of arrays of the member and its error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kps_outcome_failures(outcome: *const kps_outcome) -> *const c_char {
    // SAFETY: the caller hands over an outcome.
    unsafe { text_of(outcome, |outcome| &outcome.failures) }
}

/// Frees an outcome. NULL has no effect.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kps_outcome_free(outcome: *mut kps_outcome) {
    or((), || {
        // SAFETY: it is ours, and nobody uses it any more.
        drop(unsafe { take(outcome) });
        Some(())
    });
}
