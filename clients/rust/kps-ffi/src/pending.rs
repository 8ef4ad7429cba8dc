//! Questions to the server, whose answers are waited for later.

use std::ffi::c_char;
use std::ptr::null_mut;

use kps::{Error, Result};

use crate::message::kps_past;
use crate::presence::kps_presence;
use crate::status::{attempt, kps_status, last, or};
use crate::texts::{check, give, give_text, take};

/// Waits for an answer.
pub(crate) type Wait<T> = Box<dyn FnOnce() -> Result<T> + Send>;

pub(crate) enum Question {
    Done(Wait<()>),
    Number(Wait<i64>),
    Json(Wait<String>),
    Past(Wait<kps_past>),
    Presence(Wait<kps_presence>),
}

/// A question to the server, which has been sent. Several may be under way at a time.
pub struct kps_pending(Question);

/// Makes a question for C; NULL if it could not be sent.
pub(crate) fn ask(send: impl FnOnce() -> Result<Question>) -> *mut kps_pending {
    let mut asked = null_mut();
    attempt(|| {
        // SAFETY: it is where a pointer may be written.
        unsafe { give(&mut asked, kps_pending(send()?)) };
        Ok(())
    });
    asked
}

/// Waits for an answer of one type, and gives it to C.
///
/// # Safety
/// The pointers are NULL, or those of a question that nobody uses any more, and of a place to write to.
unsafe fn wait<T, P>(
    pending: *mut kps_pending,
    out: *mut P,
    pick: fn(Question) -> Option<Wait<T>>,
    give: impl FnOnce(*mut P, T),
) -> kps_status {
    // SAFETY: as the caller promises.
    let Some(kps_pending(question)) = (unsafe { take(pending) }) else {
        return last();
    };
    attempt(|| {
        check(out, "where the answer is to go")?;
        let other = || Error::InvalidArgument("the answer is of another type".to_owned());
        give(out, pick(question).ok_or_else(other)?()?);
        Ok(())
    })
}

/// Waits for the answer to any question, and frees both.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kps_wait(pending: *mut kps_pending) -> kps_status {
    // SAFETY: it is ours, and the caller gives it up.
    let Some(kps_pending(question)) = (unsafe { take(pending) }) else {
        return last();
    };
    attempt(|| match question {
        Question::Done(wait) => wait(),
        Question::Number(wait) => wait().map(drop),
        Question::Json(wait) => wait().map(drop),
        Question::Past(wait) => wait().map(drop),
        Question::Presence(wait) => wait().map(drop),
    })
}

/// Waits for an answer that is a number, and frees the question.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kps_wait_number(pending: *mut kps_pending, out: *mut i64) -> kps_status {
    let pick = |question| match question {
        Question::Number(wait) => Some(wait),
        _ => None,
    };
    // SAFETY: the caller gives its question up, and says where the answer is to go.
    unsafe { wait(pending, out, pick, |out, number| out.write(number)) }
}

/// Waits for an answer that is JSON, and frees the question. Free the text with kps_string_free.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kps_wait_json(
    pending: *mut kps_pending,
    out: *mut *mut c_char,
) -> kps_status {
    let pick = |question| match question {
        Question::Json(wait) => Some(wait),
        _ => None,
    };
    // SAFETY: the caller gives its question up, and says where the answer is to go.
    unsafe { wait(pending, out, pick, |out, text| give_text(out, &text)) }
}

/// Waits for messages of the past, and frees the question. Free them with kps_past_free.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kps_wait_past(
    pending: *mut kps_pending,
    out: *mut *mut kps_past,
) -> kps_status {
    let pick = |question| match question {
        Question::Past(wait) => Some(wait),
        _ => None,
    };
    // SAFETY: the caller gives its question up, and says where the answer is to go.
    unsafe { wait(pending, out, pick, |out, past| give(out, past)) }
}

/// Waits for the members of a topic, and frees the question. Free them with kps_presence_free.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kps_wait_presence(
    pending: *mut kps_pending,
    out: *mut *mut kps_presence,
) -> kps_status {
    let pick = |question| match question {
        Question::Presence(wait) => Some(wait),
        _ => None,
    };
    // SAFETY: the caller gives its question up, and says where the answer is to go.
    unsafe { wait(pending, out, pick, |out, presence| give(out, presence)) }
}

/// Frees a question whose answer is not wanted any more. NULL has no effect.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kps_pending_free(pending: *mut kps_pending) {
    or((), || {
        // SAFETY: it is ours, and nobody uses it any more.
        drop(unsafe { take(pending) });
        Some(())
    });
}
