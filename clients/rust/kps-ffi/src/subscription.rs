//! Subscriptions, with a callback or without.

use std::ffi::{c_char, c_void};

use kps::{
    Error, Json, Message, Messages, Observer, Position, Result, Scope, SubscribeOptions,
    Subscription,
};

use crate::client::kps_client;
use crate::message::kps_message;
use crate::options::duration;
use crate::presence::{kps_presence_callback, observer};
use crate::status::{attempt, kps_status, or};
use crate::texts::{borrow, check, give, optional, required, take};

/// Takes a message, which is borrowed: it lives as long as the call, and is handled when that
/// returns. See kps_message_keep.
pub type kps_callback =
    Option<unsafe extern "C" fn(closure: *mut c_void, message: *const kps_message)>;

/// Frees a closure. May be NULL.
pub type kps_drop = Option<unsafe extern "C" fn(closure: *mut c_void)>;

/// A subscription with a callback.
pub struct kps_subscription(Subscription);

/// A subscription without a callback, from which messages are taken.
pub struct kps_messages(Messages);

/// What a subscription is to have. With all members 0 it is to a topic, and has new messages.
#[repr(C)]
pub struct kps_subscribe_options {
    /// The topic is a pattern: `*` stands for any characters but `/`, `**` for any.
    pub is_pattern: bool,
    /// The name of a group to be a member of, or NULL.
    pub group: *const c_char,
    /// How many messages with ack a member of a group takes at a time.
    pub concurrency: u64,
    /// Begin with so many of the latest messages, of a topic with history.
    pub last: u64,
    /// Begin behind the place with this epoch and offset, or NULL.
    pub since_epoch: *const c_char,
    pub since_offset: u64,
    /// What the client says about itself to those who observe who is subscribed: a JSON object, or NULL.
    pub info: *const c_char,
    /// Is told who is subscribed, unless it is NULL: in between the messages, on the thread of the
    /// callbacks or by kps_messages_next. `presence_drop` may be NULL.
    pub on_presence: kps_presence_callback,
    pub presence_closure: *mut c_void,
    pub presence_drop: kps_drop,
    /// Do not wait for the confirmation of the server: see kps_subscription_confirmed and
    /// kps_messages_confirmed.
    pub returns_at_once: bool,
}

/// What the program hands to its callback.
pub(crate) struct Closure {
    pointer: *mut c_void,
    drop: kps_drop,
}

// SAFETY: the program hands it over to be used by the thread of the callbacks, one call after the other.
unsafe impl Send for Closure {}

impl Closure {
    pub fn new(pointer: *mut c_void, drop: kps_drop) -> Closure {
        Closure { pointer, drop }
    }

    pub fn get(&self) -> *mut c_void {
        self.pointer
    }
}

impl Drop for Closure {
    fn drop(&mut self) {
        if let Some(drop) = self.drop {
            // SAFETY: the program hands over a function for its closure, which is called once.
            unsafe { drop(self.pointer) };
        }
    }
}

/// Takes over the closure of options.
///
/// # Safety
/// The pointer is NULL, or that of options.
unsafe fn observer_in(options: *const kps_subscribe_options) -> Option<Observer> {
    // SAFETY: as the caller promises.
    let options = unsafe { options.as_ref() }?;
    let closure = Closure::new(options.presence_closure, options.presence_drop);
    observer(options.on_presence, closure)
}

/// Reads what to subscribe to.
///
/// # Safety
/// The pointers are NULL, or those of a text and of options.
unsafe fn read(
    topic: *const c_char,
    options: *const kps_subscribe_options,
    presence: Option<Observer>,
) -> Result<(Scope, SubscribeOptions)> {
    // SAFETY: as the caller promises.
    unsafe {
        let topic = required(topic, "a topic")?;
        let Some(options) = options.as_ref() else {
            return Ok((topic.into(), SubscribeOptions::default()));
        };
        let scope = if options.is_pattern { Scope::pattern(topic) } else { topic.into() };
        let epoch = optional(options.since_epoch, "an epoch")?;
        let offset = options.since_offset;
        let info = optional(options.info, "info")?;
        let read = SubscribeOptions {
            last: options.last,
            since: epoch.map(|epoch| Position { epoch: epoch.to_owned(), offset }),
            group: optional(options.group, "a group")?.unwrap_or_default().to_owned(),
            concurrency: options.concurrency,
            info: info.map(Json::from_text).transpose()?,
            presence,
            returns_at_once: options.returns_at_once,
        };
        Ok((scope, read))
    }
}

/// Makes a Rust callback of one of C.
fn wrap(callback: kps_callback, closure: Closure) -> Result<impl FnMut(Message) + Send + 'static> {
    let Some(callback) = callback else {
        return Err(Error::InvalidArgument("a callback is NULL".to_owned()));
    };
    Ok(move |message| {
        let message = kps_message::new(message);
        // SAFETY: the program hands over a function for its closure, and borrows the message.
        unsafe { callback(closure.get(), &message) };
    })
}

/// Subscribes to a topic. Returns when the server has confirmed it; without a connection at once.
///
/// `options`, `drop` and `out` may be NULL. Free the subscription with kps_subscription_free, which does
/// not end it: kps_unsubscribe does, and the end of the client.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kps_subscribe(
    client: *const kps_client,
    topic: *const c_char,
    options: *const kps_subscribe_options,
    callback: kps_callback,
    closure: *mut c_void,
    drop: kps_drop,
    out: *mut *mut kps_subscription,
) -> kps_status {
    let closure = Closure::new(closure, drop);
    // SAFETY: the caller hands over options.
    let observer = unsafe { observer_in(options) };
    attempt(|| {
        // SAFETY: the caller hands over a client, a text and options.
        let (client, (scope, options)) =
            unsafe { (borrow(client, "a client")?, read(topic, options, observer)?) };
        let subscription = client.0.subscribe_with(scope, options, wrap(callback, closure)?)?;
        if !out.is_null() {
            // SAFETY: it is not NULL.
            unsafe { give(out, kps_subscription(subscription)) };
        }
        Ok(())
    })
}

/// Takes the messages that are sent to the id of this client. Otherwise like kps_subscribe.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kps_on_direct(
    client: *const kps_client,
    callback: kps_callback,
    closure: *mut c_void,
    drop: kps_drop,
    out: *mut *mut kps_subscription,
) -> kps_status {
    let closure = Closure::new(closure, drop);
    attempt(|| {
        // SAFETY: the caller hands over a client.
        let client = unsafe { borrow(client, "a client") }?;
        let subscription = client.0.on_direct(wrap(callback, closure)?)?;
        if !out.is_null() {
            // SAFETY: it is not NULL.
            unsafe { give(out, kps_subscription(subscription)) };
        }
        Ok(())
    })
}

/// Waits until the server has confirmed a subscription. Fails if the server refuses it, or does not
/// answer in time; then it has ended.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kps_subscription_confirmed(
    subscription: *const kps_subscription,
) -> kps_status {
    // SAFETY: the caller hands over a subscription.
    attempt(|| unsafe { borrow(subscription, "a subscription") }?.0.confirmed())
}

/// Ends a subscription. No callback begins after that; one that runs comes to its end.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kps_unsubscribe(subscription: *const kps_subscription) {
    or((), || {
        // SAFETY: it is ours.
        unsafe { borrow(subscription, "a subscription") }.ok()?.0.unsubscribe();
        Some(())
    });
}

/// Frees a subscription, which goes on. NULL has no effect.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kps_subscription_free(subscription: *mut kps_subscription) {
    or((), || {
        // SAFETY: it is ours, and nobody uses it any more.
        drop(unsafe { take(subscription) });
        Some(())
    });
}

/// Subscribes without a callback. `options` may be NULL. Free it with kps_messages_free, which ends
/// it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kps_subscribe_messages(
    client: *const kps_client,
    topic: *const c_char,
    options: *const kps_subscribe_options,
    out: *mut *mut kps_messages,
) -> kps_status {
    // SAFETY: the caller hands over options.
    let observer = unsafe { observer_in(options) };
    attempt(|| {
        check(out, "where the messages are to go")?;
        // SAFETY: the caller hands over a client, a text and options; `out` is not NULL.
        unsafe {
            let (client, (scope, options)) =
                (borrow(client, "a client")?, read(topic, options, observer)?);
            give(out, kps_messages(client.0.messages_with(scope, options)?));
        }
        Ok(())
    })
}

/// Waits for the next message, for so many seconds, or below 0 for as long as it takes:
/// KPS_REQUEST_TIMEOUT if none comes. `out` becomes NULL if the client was closed. Free the message with
/// kps_message_free; then it is handled. Several threads may wait.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kps_messages_next(
    messages: *const kps_messages,
    seconds: f64,
    out: *mut *mut kps_message,
) -> kps_status {
    attempt(|| {
        check(out, "where the message is to go")?;
        // SAFETY: the caller hands over messages.
        let messages = unsafe { borrow(messages, "messages") }?;
        let next = match seconds < 0.0 {
            true => messages.0.wait(),
            false => messages.0.wait_for(duration(seconds)?),
        };
        // SAFETY: `out` is not NULL.
        match next.transpose()? {
            Some(message) => unsafe { give(out, kps_message::new(message)) },
            None => unsafe { out.write(std::ptr::null_mut()) },
        }
        Ok(())
    })
}

/// The same as kps_subscription_confirmed without a callback.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kps_messages_confirmed(messages: *const kps_messages) -> kps_status {
    // SAFETY: the caller hands over messages.
    attempt(|| unsafe { borrow(messages, "messages") }?.0.confirmed())
}

/// Ends a subscription without a callback, and lets those go who wait for its messages.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kps_messages_unsubscribe(messages: *const kps_messages) {
    or((), || {
        // SAFETY: they are ours.
        unsafe { borrow(messages, "messages") }.ok()?.0.unsubscribe();
        Some(())
    });
}

/// Ends and frees a subscription without a callback. NULL has no effect.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kps_messages_free(messages: *mut kps_messages) {
    or((), || {
        // SAFETY: they are ours, and nobody uses them any more.
        drop(unsafe { take(messages) });
        Some(())
    });
}
