//! The client, and what it sends.

use std::ffi::c_char;
use std::ptr::null_mut;
use std::sync::Mutex;

use kps::{Ask, Client, Position, Result};

use crate::ack::kps_ack;
use crate::message::kps_past;
use crate::options::duration;
use crate::pending::{self, Question, kps_pending};
use crate::presence::kps_presence;
use crate::status::{attempt, kps_status, or};
use crate::texts::{
    borrow, c_text, check, give, headers, optional, payload, required, take, texts,
};

/// A client.
pub struct kps_client(pub(crate) Client);

/// What else a message says that asks for answers. With all members 0: nothing, and 5 seconds.
#[repr(C)]
pub struct kps_ask {
    /// The seconds that receivers have for their answer; 0: 5 of them.
    pub timeout: f64,
    /// Texts beside the payload: a JSON object, or NULL.
    pub headers: *const c_char,
    /// An id that no other message of this client id has, or NULL. With it the message is handled once,
    /// however often it is sent, so the client can send it again after a reconnect.
    pub message_id: *const c_char,
    /// Each group gives messages with the same key to the same member. May be NULL.
    pub key: *const c_char,
    /// How many failures of members of a group are not final.
    pub retry: u64,
    /// Ids that must be among the receivers: a JSON array, or NULL.
    pub expect: *const c_char,
    /// Names of groups that must have a member: a JSON array, or NULL.
    pub expect_groups: *const c_char,
}

/// Reads what a message says besides.
///
/// # Safety
/// The pointer is NULL, or that of a `kps_ask` with texts.
unsafe fn read(ask: *const kps_ask) -> Result<Ask> {
    // SAFETY: as the caller promises.
    unsafe {
        let Some(ask) = ask.as_ref() else {
            return Ok(Ask::default());
        };
        let text =
            |text, what| Ok::<_, kps::Error>(optional(text, what)?.unwrap_or_default().to_owned());
        Ok(Ask {
            timeout: if ask.timeout == 0.0 { Ask::default().timeout } else { ask.timeout },
            headers: headers(ask.headers)?,
            message_id: text(ask.message_id, "a message id")?,
            key: text(ask.key, "a key")?,
            retry: ask.retry,
            expect: texts(ask.expect, "expect")?,
            expect_groups: texts(ask.expect_groups, "expect_groups")?,
        })
    }
}

/// Closes a client for good. What was accepted before is written, for up to so many seconds, or 5 below
/// 0. May be called twice; a callback does not wait here.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kps_client_close(client: *const kps_client, seconds: f64) -> kps_status {
    attempt(|| {
        // SAFETY: the caller hands over a client.
        let client = unsafe { borrow(client, "a client") }?;
        match seconds < 0.0 {
            true => client.0.close(),
            false => client.0.close_within(duration(seconds)?),
        }
        Ok(())
    })
}

/// Closes and frees a client. When this returns, no callback runs any more, and each closure was handed
/// to its kps_drop; but a callback must not call this. NULL has no effect.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kps_client_free(client: *mut kps_client) {
    or((), || {
        // SAFETY: it is ours, and nobody uses it any more.
        let client = unsafe { take(client) }?;
        client.0.close();
        client.0.join_callbacks();
        Some(())
    });
}

/// The id by which others reach the client. Free it with kps_string_free.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kps_client_id(client: *const kps_client) -> *mut c_char {
    or(null_mut(), || {
        // SAFETY: it is ours.
        let client = unsafe { borrow(client, "a client") }.ok()?;
        Some(c_text(&client.0.id()).into_raw())
    })
}

/// Whether the client is connected now.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kps_client_is_connected(client: *const kps_client) -> bool {
    // SAFETY: it is ours.
    or(false, || Some(unsafe { borrow(client, "a client") }.ok()?.0.is_connected()))
}

/// Publishes to all subscribers of a topic. `message_headers` is a JSON object of texts, or NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kps_publish(
    client: *const kps_client,
    topic: *const c_char,
    json: *const c_char,
    message_headers: *const c_char,
) -> kps_status {
    attempt(|| {
        // SAFETY: the caller hands over a client and texts.
        unsafe {
            let (client, topic) = (borrow(client, "a client")?, required(topic, "a topic")?);
            client.0.publish_with_headers(topic, &payload(json)?, &headers(message_headers)?)
        }
    })
}

/// Sends a direct message. If nobody has the id, a KPS_ERROR tells so. The headers may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kps_publish_to_id(
    client: *const kps_client,
    id: *const c_char,
    json: *const c_char,
    message_headers: *const c_char,
) -> kps_status {
    attempt(|| {
        // SAFETY: the caller hands over a client and texts.
        unsafe {
            let (client, id) = (borrow(client, "a client")?, required(id, "an id")?);
            client.0.publish_to_id_with_headers(id, &payload(json)?, &headers(message_headers)?)
        }
    })
}

/// Has the server send a message to another server: "host:port", maybe with a path, and maybe with "::"
/// and the address of a server behind that one. If the payload is an object with a member "topic", that
/// server publishes its member "data" there. If it fails, a KPS_ERROR tells so.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kps_publish_to_server(
    client: *const kps_client,
    address: *const c_char,
    json: *const c_char,
    is_secure: bool,
) -> kps_status {
    attempt(|| {
        // SAFETY: the caller hands over a client and texts.
        unsafe {
            let (client, address) = (borrow(client, "a client")?, required(address, "an address")?);
            client.0.publish_to_server(address, &payload(json)?, is_secure)
        }
    })
}

/// Publishes, and asks to how many subscribers the server has passed the message on: kps_wait_number,
/// -1 if it does not say. `ask` may be NULL; of it the headers and the message id count.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kps_publish_with_receipt(
    client: *const kps_client,
    topic: *const c_char,
    json: *const c_char,
    ask: *const kps_ask,
) -> *mut kps_pending {
    pending::ask(|| {
        // SAFETY: the caller hands over a client, texts and an ask.
        let sent = unsafe {
            let (client, topic) = (borrow(client, "a client")?, required(topic, "a topic")?);
            client.0.publish_with_receipt(topic, &payload(json)?, &read(ask)?)?
        };
        Ok(Question::Number(Box::new(|| Ok(sent.wait()?.map_or(-1, |count| count as i64)))))
    })
}

/// Asks the subscribers of a topic for one result, the first: kps_wait_json. `ask` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kps_request(
    client: *const kps_client,
    topic: *const c_char,
    json: *const c_char,
    ask: *const kps_ask,
) -> *mut kps_pending {
    pending::ask(|| {
        // SAFETY: the caller hands over a client, texts and an ask.
        let asked = unsafe {
            let (client, topic) = (borrow(client, "a client")?, required(topic, "a topic")?);
            client.0.request(topic, &payload(json)?, &read(ask)?)?
        };
        Ok(Question::Json(Box::new(|| Ok(asked.wait()?.to_string()))))
    })
}

/// Asks the client, or server, of an id. Otherwise like kps_request.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kps_request_to_id(
    client: *const kps_client,
    id: *const c_char,
    json: *const c_char,
    ask: *const kps_ask,
) -> *mut kps_pending {
    pending::ask(|| {
        // SAFETY: the caller hands over a client, texts and an ask.
        let asked = unsafe {
            let (client, id) = (borrow(client, "a client")?, required(id, "an id")?);
            client.0.request_to_id(id, &payload(json)?, &read(ask)?)?
        };
        Ok(Question::Json(Box::new(|| Ok(asked.wait()?.to_string()))))
    })
}

/// Publishes, and gathers what becomes of the message at each subscriber: see kps_ack_next. `ask` may
/// be NULL. Free the ack with kps_ack_free.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kps_publish_with_ack(
    client: *const kps_client,
    topic: *const c_char,
    json: *const c_char,
    ask: *const kps_ask,
    out: *mut *mut kps_ack,
) -> kps_status {
    attempt(|| {
        check(out, "where the ack is to go")?;
        // SAFETY: the caller hands over a client, texts and an ask; `out` is not NULL.
        unsafe {
            let (client, topic) = (borrow(client, "a client")?, required(topic, "a topic")?);
            let ack = client.0.publish_with_ack(topic, &payload(json)?, &read(ask)?)?;
            give(out, kps_ack { ack, taken: Mutex::new(0) });
        }
        Ok(())
    })
}

/// The same for one client. There is no outcome if nobody has the id.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kps_publish_to_id_with_ack(
    client: *const kps_client,
    id: *const c_char,
    json: *const c_char,
    ask: *const kps_ask,
    out: *mut *mut kps_ack,
) -> kps_status {
    attempt(|| {
        check(out, "where the ack is to go")?;
        // SAFETY: the caller hands over a client, texts and an ask; `out` is not NULL.
        unsafe {
            let (client, id) = (borrow(client, "a client")?, required(id, "an id")?);
            let ack = client.0.publish_to_id_with_ack(id, &payload(json)?, &read(ask)?)?;
            give(out, kps_ack { ack, taken: Mutex::new(0) });
        }
        Ok(())
    })
}

/// Asks for up to `limit` messages of a topic with history: the first ones behind a place, or else the
/// latest: kps_wait_past. `since_epoch` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kps_history(
    client: *const kps_client,
    topic: *const c_char,
    since_epoch: *const c_char,
    since_offset: u64,
    limit: u64,
) -> *mut kps_pending {
    pending::ask(|| {
        // SAFETY: the caller hands over a client and texts.
        let asked = unsafe {
            let (client, topic) = (borrow(client, "a client")?, required(topic, "a topic")?);
            let epoch = optional(since_epoch, "an epoch")?;
            let since =
                epoch.map(|epoch| Position { epoch: epoch.to_owned(), offset: since_offset });
            client.0.history(topic, since, limit)?
        };
        Ok(Question::Past(Box::new(|| Ok(kps_past::new(asked.wait()?)))))
    })
}

/// Asks who is subscribed to a topic: kps_wait_presence.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kps_presence_of(
    client: *const kps_client,
    topic: *const c_char,
) -> *mut kps_pending {
    pending::ask(|| {
        // SAFETY: the caller hands over a client and a text.
        let asked = unsafe {
            let (client, topic) = (borrow(client, "a client")?, required(topic, "a topic")?);
            client.0.presence(topic)?
        };
        Ok(Question::Presence(Box::new(|| Ok(kps_presence::new(asked.wait()?)))))
    })
}

/// Asks whether the server has handled all that was sent before: kps_wait.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kps_flush(client: *const kps_client) -> *mut kps_pending {
    pending::ask(|| {
        // SAFETY: the caller hands over a client.
        let asked = unsafe { borrow(client, "a client") }?.0.flush()?;
        Ok(Question::Done(Box::new(|| asked.wait())))
    })
}
