//! Texts and pointers between C and Rust.

use std::ffi::{CStr, CString, c_char};
use std::ptr::null_mut;

use kps::{Error, Headers, Json, Result};

use crate::status::or;

/// Makes a text for C. A NUL, which none of ours has but a broken peer's, ends it.
pub(crate) fn c_text(text: &str) -> CString {
    let end = text.find('\0').unwrap_or(text.len());
    CString::new(&text[..end]).unwrap_or_default()
}

/// Reads a text; `None` for NULL.
///
/// # Safety
/// The pointer is NULL, or that of a text which ends with a NUL and does not change meanwhile.
pub(crate) unsafe fn optional<'a>(text: *const c_char, what: &str) -> Result<Option<&'a str>> {
    if text.is_null() {
        return Ok(None);
    }
    // SAFETY: as the caller promises.
    let text = unsafe { CStr::from_ptr(text) };
    match text.to_str() {
        Ok(text) => Ok(Some(text)),
        Err(_) => Err(Error::InvalidArgument(format!("{what} is not UTF-8"))),
    }
}

/// Reads a text that must be there.
///
/// # Safety
/// As for [`optional`].
pub(crate) unsafe fn required<'a>(text: *const c_char, what: &str) -> Result<&'a str> {
    // SAFETY: as the caller promises.
    let text = unsafe { optional(text, what) }?;
    text.ok_or_else(|| Error::InvalidArgument(format!("{what} is NULL")))
}

/// Reads a payload.
///
/// # Safety
/// As for [`optional`].
pub(crate) unsafe fn payload(json: *const c_char) -> Result<Json> {
    // SAFETY: as the caller promises.
    Json::from_text(unsafe { required(json, "a payload") }?)
}

/// Reads headers: a JSON object of texts, or NULL.
///
/// # Safety
/// As for [`optional`].
pub(crate) unsafe fn headers(json: *const c_char) -> Result<Headers> {
    // SAFETY: as the caller promises.
    let Some(text) = (unsafe { optional(json, "headers") })? else {
        return Ok(Headers::new());
    };
    let read: serde_json::Map<String, serde_json::Value> = read_json(text, "headers")?;
    let text = |(name, value): (String, serde_json::Value)| match value {
        serde_json::Value::String(text) => Ok((name, text)),
        _ => Err(Error::InvalidArgument("headers are a JSON object of texts".to_owned())),
    };
    read.into_iter().map(text).collect()
}

/// Reads a JSON array of texts, or NULL.
///
/// # Safety
/// As for [`optional`].
pub(crate) unsafe fn texts(json: *const c_char, what: &str) -> Result<Vec<String>> {
    // SAFETY: as the caller promises.
    match unsafe { optional(json, what) }? {
        Some(text) => read_json(text, what),
        None => Ok(Vec::new()),
    }
}

fn read_json<T: serde::de::DeserializeOwned>(text: &str, what: &str) -> Result<T> {
    let read = serde_json::from_str(text);
    read.map_err(|error| Error::InvalidArgument(format!("{what}: {error}")))
}

/// Gives an object to C.
///
/// # Safety
/// The pointer is NULL, or one to where a pointer may be written.
pub(crate) unsafe fn give<T>(out: *mut *mut T, value: T) {
    // SAFETY: as the caller promises.
    unsafe { out.write(Box::into_raw(Box::new(value))) }
}

/// Gives a text to C.
///
/// # Safety
/// As for [`give`].
pub(crate) unsafe fn give_text(out: *mut *mut c_char, text: &str) {
    // SAFETY: as the caller promises.
    unsafe { out.write(c_text(text).into_raw()) }
}

/// Refuses NULL for something that must be there.
pub(crate) fn check<T>(pointer: *const T, what: &str) -> Result<()> {
    match pointer.is_null() {
        true => Err(Error::InvalidArgument(format!("{what} is NULL"))),
        false => Ok(()),
    }
}

/// Borrows an object of C.
///
/// # Safety
/// The pointer is NULL, or that of an object which is not freed meanwhile.
pub(crate) unsafe fn borrow<'a, T>(object: *const T, what: &str) -> Result<&'a T> {
    check(object, what)?;
    // SAFETY: as the caller promises.
    Ok(unsafe { &*object })
}

/// Takes an object back from C.
///
/// # Safety
/// The pointer is NULL, or one that `give` has made and nobody uses any more.
pub(crate) unsafe fn take<T>(object: *mut T) -> Option<T> {
    // SAFETY: as the caller promises.
    (!object.is_null()).then(|| *unsafe { Box::from_raw(object) })
}

/// Makes a payload of a text: JSON. Free it with kps_string_free. NULL if the text is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kps_text_to_json(text: *const c_char) -> *mut c_char {
    or(null_mut(), || {
        // SAFETY: the caller hands over a text.
        let json = Json::of(unsafe { required(text, "a text") }.ok()?).ok()?;
        Some(c_text(json.as_str()).into_raw())
    })
}

/// Reads the text that a payload is. Free it with kps_string_free. NULL if the payload is something
/// else.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kps_json_to_text(json: *const c_char) -> *mut c_char {
    or(null_mut(), || {
        // SAFETY: the caller hands over a text.
        let text: String = unsafe { payload(json) }.ok()?.read().ok()?;
        Some(c_text(&text).into_raw())
    })
}

/// Frees a text that a function gave.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kps_string_free(text: *mut c_char) {
    or((), || {
        if !text.is_null() {
            // SAFETY: it was made by `into_raw` of a `CString`, and is freed once.
            drop(unsafe { CString::from_raw(text) });
        }
        Some(())
    });
}
