//! What becomes of a message at each of its receivers.

use std::ffi::{CString, c_char};
use std::ptr::null;
use std::sync::Mutex;

use kps::{Ack, Outcome};

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
}

impl kps_outcome {
    fn new(outcome: &Outcome) -> kps_outcome {
        kps_outcome {
            client_id: c_text(&outcome.client_id),
            name: c_text(&outcome.name()),
            success: outcome.success,
            error: c_text(outcome.error.as_deref().unwrap_or_default()),
            result: c_text(outcome.result.as_ref().map_or("", |result| result.as_str())),
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

/// Frees an outcome. NULL has no effect.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kps_outcome_free(outcome: *mut kps_outcome) {
    or((), || {
        // SAFETY: it is ours, and nobody uses it any more.
        drop(unsafe { take(outcome) });
        Some(())
    });
}
