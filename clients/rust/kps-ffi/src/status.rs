//! How functions fail.

use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::null;

use kps::Error;

use crate::texts::c_text;

/// Whether a function has done what it is for, or how it has failed.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum kps_status {
    /// It has.
    KPS_OK = 0,
    /// An argument is not valid. Nothing was sent.
    KPS_INVALID_ARGUMENT = 1,
    /// The message is larger than the server takes. Nothing was sent.
    KPS_MESSAGE_TOO_LARGE = 2,
    /// There is no connection at the moment.
    KPS_NOT_CONNECTED = 3,
    /// The client has ended.
    KPS_CLIENT_CLOSED = 4,
    /// No connection could be made.
    KPS_CONNECT_FAILED = 5,
    /// The connection ended before the answer.
    KPS_CONNECTION_LOST = 6,
    /// The answer did not come in time.
    KPS_REQUEST_TIMEOUT = 7,
    /// Something bounded has no room. Nothing was sent.
    KPS_QUEUE_FULL = 8,
    /// The server lacks a feature. Nothing was sent.
    KPS_UNSUPPORTED = 9,
    /// The server has refused something: see kps_last_error_code().
    KPS_SERVER_ERROR = 10,
    /// A request has reached nobody.
    KPS_NOBODY_THERE = 11,
    /// All who were asked by a request have failed.
    KPS_REQUEST_FAILED = 12,
    /// A mistake of this library.
    KPS_BUG = 13,
}

use kps_status::*;

/// The last failure of a thread.
struct Failure {
    status: kps_status,
    text: CString,
    code: CString,
    errors: CString,
}

thread_local! {
    static LAST: RefCell<Failure> = RefCell::default();
}

pub(crate) fn status_of(error: &Error) -> kps_status {
    match error {
        Error::InvalidArgument(_) => KPS_INVALID_ARGUMENT,
        Error::MessageTooLarge(_) => KPS_MESSAGE_TOO_LARGE,
        Error::NotConnected => KPS_NOT_CONNECTED,
        Error::ClientClosed => KPS_CLIENT_CLOSED,
        Error::ConnectFailed { .. } => KPS_CONNECT_FAILED,
        Error::ConnectionLost { .. } => KPS_CONNECTION_LOST,
        Error::RequestTimeout(_) => KPS_REQUEST_TIMEOUT,
        Error::QueueFull(_) => KPS_QUEUE_FULL,
        Error::Unsupported(_) => KPS_UNSUPPORTED,
        Error::Server(_) => KPS_SERVER_ERROR,
        Error::NobodyThere(_) => KPS_NOBODY_THERE,
        Error::RequestFailed { .. } => KPS_REQUEST_FAILED,
        _ => KPS_BUG,
    }
}

pub(crate) fn code_of(error: &Error) -> CString {
    match error {
        Error::Server(error) => c_text(&error.code),
        _ => CString::default(),
    }
}

/// Does what a function is for, and notes how it fails.
pub(crate) fn attempt(act: impl FnOnce() -> kps::Result<()>) -> kps_status {
    let failure = match catch_unwind(AssertUnwindSafe(act)) {
        Ok(Ok(())) => return KPS_OK,
        Ok(Err(error)) => Failure::of(&error),
        Err(_) => {
            let text = c_text("a mistake of this library: it has panicked");
            Failure { status: KPS_BUG, text, ..Failure::default() }
        }
    };
    LAST.with(|last| *last.borrow_mut() = failure);
    last()
}

/// The status of the last failure in this thread.
pub(crate) fn last() -> kps_status {
    LAST.with(|last| last.borrow().status)
}

impl Default for Failure {
    /// What a thread has that has not failed yet. To wait for NULL fails even so.
    fn default() -> Failure {
        let none = CString::default;
        Failure { status: KPS_INVALID_ARGUMENT, text: none(), code: none(), errors: none() }
    }
}

impl Failure {
    fn of(error: &Error) -> Failure {
        let errors = match error {
            Error::RequestFailed { errors, .. } => serde_json::json!(errors).to_string(),
            _ => String::new(),
        };
        Failure {
            status: status_of(error),
            text: c_text(&error.to_string()),
            code: code_of(error),
            errors: c_text(&errors),
        }
    }
}

/// Does what a function is for that cannot fail.
pub(crate) fn or<T>(otherwise: T, act: impl FnOnce() -> Option<T>) -> T {
    catch_unwind(AssertUnwindSafe(act)).ok().flatten().unwrap_or(otherwise)
}

/// The text of the last failure in this thread; empty if there was none. It lives until the next one.
#[unsafe(no_mangle)]
pub extern "C" fn kps_last_error() -> *const c_char {
    or(null(), || Some(LAST.with(|last| last.borrow().text.as_ptr())))
}

/// The code with which the server has refused something, if that was the last failure in this thread;
/// else empty. Programs rely on these codes: "forbidden", "rate_limited" and so on.
#[unsafe(no_mangle)]
pub extern "C" fn kps_last_error_code() -> *const c_char {
    or(null(), || Some(LAST.with(|last| last.borrow().code.as_ptr())))
}

/// The errors of all who were asked, if the last failure in this thread was KPS_REQUEST_FAILED: a JSON
/// object, by client id or "GROUP of TOPIC"; else empty.
#[unsafe(no_mangle)]
pub extern "C" fn kps_last_errors() -> *const c_char {
    or(null(), || Some(LAST.with(|last| last.borrow().errors.as_ptr())))
}

/// The name of a kps_status, which is the same in every language: "request_timeout" for instance. NULL
/// if there is no such status.
#[unsafe(no_mangle)]
pub extern "C" fn kps_status_name(status: i32) -> *const c_char {
    const NAMES: [&CStr; 14] = [
        c"ok",
        c"invalid_argument",
        c"message_too_large",
        c"not_connected",
        c"client_closed",
        c"connect_failed",
        c"connection_lost",
        c"request_timeout",
        c"queue_full",
        c"unsupported",
        c"server_error",
        c"nobody_there",
        c"request_failed",
        c"bug",
    ];
    usize::try_from(status)
        .ok()
        .and_then(|status| NAMES.get(status))
        .map_or(null(), |name| name.as_ptr())
}
