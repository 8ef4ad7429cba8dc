//! How to connect.

use std::ffi::{CString, c_char, c_void};
use std::ptr::null_mut;
use std::time::Duration;

use kps::{Backoff, Error, Event, Options, Result};

use crate::client::kps_client;
use crate::status::{attempt, code_of, kps_status, or, status_of};
use crate::subscription::{Closure, kps_drop};
use crate::texts::{c_text, check, give, required, take};

/// The options of a client.
pub struct kps_options(Option<Options>);

/// What has happened to a client.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum kps_event_kind {
    /// It is connected. `text`: its id. `number`: 1 if it was connected before.
    KPS_CONNECTED = 0,
    /// An attempt to connect has failed, and another one follows. `text`: why. `error`.
    KPS_CONNECT_ATTEMPT_FAILED = 1,
    /// The connection has ended. `text`: why. `number`: the close code.
    KPS_DISCONNECTED = 2,
    /// It has come back, and gets what it has missed. `text`: a topic or pattern. `number`: how many
    /// messages come.
    KPS_RECOVERED = 3,
    /// Messages do not come. `text`: a topic or pattern. `number`: how many, or -1: nobody knows.
    KPS_LOST = 4,
    /// Something went wrong for which nobody waits. `text`: what. `error`, `code`.
    KPS_ERROR = 5,
    /// It has ended: the last event. `error`: KPS_OK if the program closed it. `text`: why, `code`.
    KPS_CLOSED = 6,
}

/// Something has happened. It lives as long as the call of the callback.
#[repr(C)]
pub struct kps_event {
    pub kind: kps_event_kind,
    pub text: *const c_char,
    pub number: i64,
    pub error: kps_status,
    /// The code with which the server has refused something, or empty.
    pub code: *const c_char,
}

/// Takes an event.
pub type kps_event_callback =
    Option<unsafe extern "C" fn(closure: *mut c_void, event: *const kps_event)>;

/// Makes the options for a server: "host", "host:port", or a URL with ws:// or wss://. Free them with
/// kps_options_free, unless kps_connect or kps_start has taken them. NULL if the address is no text.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kps_options_new(address: *const c_char) -> *mut kps_options {
    or(null_mut(), || {
        // SAFETY: the address is a text.
        let address = unsafe { required(address, "an address") }.ok()?;
        Some(Box::into_raw(Box::new(kps_options(Some(Options::new(address))))))
    })
}

/// Frees options. NULL has no effect.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kps_options_free(options: *mut kps_options) {
    or((), || {
        // SAFETY: they are ours, and nobody uses them any more.
        drop(unsafe { take(options) });
        Some(())
    });
}

/// Changes options.
///
/// # Safety
/// The pointer is NULL, or that of options which nobody else uses.
unsafe fn change(
    options: *mut kps_options,
    change: impl FnOnce(Options) -> Result<Options>,
) -> kps_status {
    attempt(|| {
        check(options, "options")?;
        // SAFETY: as the caller promises.
        let held = unsafe { &mut (*options).0 };
        let taken = held.take();
        *held = Some(change(taken.ok_or(Error::ClientClosed)?)?);
        Ok(())
    })
}

/// Sets the id by which others reach the client. Without one it is random.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kps_options_set_id(
    options: *mut kps_options,
    id: *const c_char,
) -> kps_status {
    // SAFETY: the caller hands over options and a text.
    unsafe { change(options, |options| Ok(options.id(required(id, "an id")?))) }
}

/// Sets the token that identifies the client.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kps_options_set_token(
    options: *mut kps_options,
    token: *const c_char,
) -> kps_status {
    // SAFETY: the caller hands over options and a text.
    unsafe { change(options, |options| Ok(options.token(required(token, "a token")?))) }
}

/// Gives the token for a connection: a text that lives until the next call. NULL: there is none; the
/// attempt to connect fails, and another one follows.
pub type kps_token_callback = Option<unsafe extern "C" fn(closure: *mut c_void) -> *const c_char>;

/// Sets a callback that gives a token for each connection, on a thread of the client, which waits for
/// it. `drop` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kps_options_set_token_with(
    options: *mut kps_options,
    callback: kps_token_callback,
    closure: *mut c_void,
    drop: kps_drop,
) -> kps_status {
    let closure = Closure::new(closure, drop);
    // SAFETY: the caller hands over options.
    unsafe {
        change(options, |options| {
            let Some(callback) = callback else {
                return Err(Error::InvalidArgument("a callback is NULL".to_owned()));
            };
            Ok(options.token_with(move || {
                // SAFETY: the program hands over a function for its closure, which gives a text.
                required(callback(closure.get()), "a token").map(str::to_owned)
            }))
        })
    }
}

/// Sets the highest level of the protocol to offer: 2, or 1 like the original clients.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kps_options_set_level(options: *mut kps_options, level: u8) -> kps_status {
    // SAFETY: the caller hands over options.
    unsafe { change(options, |options| Ok(options.level(level))) }
}

/// Adds a field to the opening request.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kps_options_add_header(
    options: *mut kps_options,
    name: *const c_char,
    value: *const c_char,
) -> kps_status {
    // SAFETY: the caller hands over options and texts.
    unsafe {
        change(options, |options| {
            Ok(options.header(required(name, "a name")?, required(value, "a value")?))
        })
    }
}

/// Sets a fixed wait in seconds before the client connects again; below 0: it does not connect again.
/// Without it the waits grow from a quarter of a second to half a minute, a part of them at random.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kps_options_set_reconnect(
    options: *mut kps_options,
    seconds: f64,
) -> kps_status {
    let backoff = |seconds| Ok::<_, Error>(Backoff::every(duration(seconds)?));
    // SAFETY: the caller hands over options.
    unsafe {
        change(options, |options| match seconds < 0.0 {
            true => Ok(options.reconnect(None)),
            false => Ok(options.reconnect(backoff(seconds)?)),
        })
    }
}

/// Sets how many publications are kept while there is no connection; 0 by default.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kps_options_set_offline(
    options: *mut kps_options,
    most: usize,
) -> kps_status {
    // SAFETY: the caller hands over options.
    unsafe { change(options, |options| Ok(options.offline(most))) }
}

/// Sets the seconds for the server to answer; 10 by default.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kps_options_set_request_timeout(
    options: *mut kps_options,
    seconds: f64,
) -> kps_status {
    // SAFETY: the caller hands over options.
    unsafe { change(options, |options| Ok(options.request_timeout(duration(seconds)?))) }
}

/// Sets the authorities to trust in place of the system's: the text of their certificates (PEM).
/// KPS_UNSUPPORTED if this library was built without TLS.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kps_options_set_trust(
    options: *mut kps_options,
    certificates: *const c_char,
) -> kps_status {
    // SAFETY: the caller hands over options and a text.
    unsafe {
        change(options, |options| {
            let text = required(certificates, "certificates")?;
            #[cfg(feature = "tls")]
            return Ok(options.trust(text));
            #[cfg(not(feature = "tls"))]
            {
                let _ = (options, text);
                Err(Error::Unsupported("TLS in this library".to_owned()))
            }
        })
    }
}

/// Sets a callback that is told what happens besides messages. `drop` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kps_options_set_on_event(
    options: *mut kps_options,
    callback: kps_event_callback,
    closure: *mut c_void,
    drop: kps_drop,
) -> kps_status {
    let closure = Closure::new(closure, drop);
    // SAFETY: the caller hands over options.
    unsafe {
        change(options, |options| {
            let Some(callback) = callback else {
                return Err(Error::InvalidArgument("a callback is NULL".to_owned()));
            };
            Ok(options.on_event(move |event| {
                let texts = Texts::of(event);
                // SAFETY: the program hands over a function for its closure.
                callback(closure.get(), &texts.event());
            }))
        })
    }
}

/// An event, and the texts to which it points.
struct Texts {
    kind: kps_event_kind,
    text: CString,
    number: i64,
    error: kps_status,
    code: CString,
}

impl Texts {
    fn of(event: Event) -> Texts {
        use kps_event_kind::*;
        let plain = |kind, text: &str, number| {
            let (error, code) = (kps_status::KPS_OK, CString::default());
            Texts { kind, text: c_text(text), number, error, code }
        };
        let failed = |kind, error: &Error| Texts {
            error: status_of(error),
            code: code_of(error),
            ..plain(kind, &error.to_string(), 0)
        };
        match &event {
            Event::Connected { id, again } => plain(KPS_CONNECTED, id, i64::from(*again)),
            Event::ConnectAttemptFailed { error, .. } => failed(KPS_CONNECT_ATTEMPT_FAILED, error),
            Event::Disconnected { code, reason, .. } => {
                plain(KPS_DISCONNECTED, reason, i64::from(*code))
            }
            Event::Recovered { topic, messages } => plain(KPS_RECOVERED, topic, *messages as i64),
            Event::Lost { topic, messages } => {
                plain(KPS_LOST, topic, messages.map_or(-1, |messages| messages as i64))
            }
            Event::Error(error) => failed(KPS_ERROR, error),
            Event::Closed(Some(error)) => failed(KPS_CLOSED, error),
            _ => plain(KPS_CLOSED, "", 0),
        }
    }

    fn event(&self) -> kps_event {
        let Texts { kind, number, error, .. } = *self;
        kps_event { kind, text: self.text.as_ptr(), number, error, code: self.code.as_ptr() }
    }
}

/// Connects, and waits until that is done. Takes the options, also if it fails. Free the client with
/// kps_client_free.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kps_connect(
    options: *mut kps_options,
    out: *mut *mut kps_client,
) -> kps_status {
    // SAFETY: the caller hands over its options, and where to put the client.
    unsafe { open(options, out, Options::connect) }
}

/// Makes a client that connects, and does not wait. Otherwise like kps_connect.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kps_start(
    options: *mut kps_options,
    out: *mut *mut kps_client,
) -> kps_status {
    // SAFETY: the caller hands over its options, and where to put the client.
    unsafe { open(options, out, Options::start) }
}

unsafe fn open(
    options: *mut kps_options,
    out: *mut *mut kps_client,
    open: fn(Options) -> Result<kps::Client>,
) -> kps_status {
    attempt(|| {
        // SAFETY: they are ours, and the caller gives them up.
        let options = unsafe { take(options) }.and_then(|options| options.0);
        check(out, "where the client is to go")?;
        let missing = || Error::InvalidArgument("options are NULL, or were not valid".to_owned());
        let client = open(options.ok_or_else(missing)?)?;
        // SAFETY: it is not NULL.
        unsafe { give(out, kps_client(client)) };
        Ok(())
    })
}

pub(crate) fn duration(seconds: f64) -> Result<Duration> {
    let read = Duration::try_from_secs_f64(seconds);
    read.map_err(|_| Error::InvalidArgument("a time is a number of seconds".to_owned()))
}
