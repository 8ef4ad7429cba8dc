//! What a client is told when it is made.

use std::time::Duration;

use crate::address::Address;
use crate::error::{Error, Result};
use crate::key::check_text;

/// The options of a session.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// The server.
    pub address: Address,
    /// The id to ask for.
    pub id: String,
    /// The highest level of the protocol to offer: 2, or 1 like the original clients.
    pub level: u8,
    /// More fields for the opening request.
    pub headers: Vec<(String, String)>,
    /// The waits before the client connects again; `None`: it does not.
    pub reconnect: Option<Backoff>,
    /// Whether each connection has a new token, so that a refusal of one is not the last word.
    pub renews_token: bool,
    /// How many publications to keep while there is no connection.
    pub offline: usize,
    /// The time for the server to answer a question.
    pub request_timeout: Duration,
    /// Bounds.
    pub limits: Limits,
}

impl Options {
    /// The default options.
    pub fn new(address: Address, id: impl Into<String>) -> Options {
        Options {
            address,
            id: id.into(),
            level: 2,
            headers: Vec::new(),
            reconnect: Some(Backoff::default()),
            renews_token: false,
            offline: 0,
            request_timeout: Duration::from_secs(10),
            limits: Limits::default(),
        }
    }

    pub(crate) fn check(&self) -> Result<()> {
        check_text("an id", &self.id)?;
        if !(1..=2).contains(&self.level) {
            return Err(Error::invalid("the level is 1 or 2"));
        }
        for (name, value) in &self.headers {
            let is_token =
                |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
            let is_sound = |byte: u8| byte.is_ascii_graphic() || byte == b' ' || byte == b'\t';
            if is_own(name) {
                return Err(Error::invalid(format!("the client itself sends the header {name}")));
            }
            if name.is_empty() || !name.bytes().all(is_token) || !value.bytes().all(is_sound) {
                return Err(Error::invalid(format!("{name:?} does not fit into a header")));
            }
        }
        let Limits { handshake_timeout, heartbeat_interval, heartbeat_timeout, .. } = self.limits;
        let times = [handshake_timeout, heartbeat_interval, heartbeat_timeout];
        let more = [self.request_timeout, self.limits.close_timeout];
        if times.iter().chain(&more).any(|time| *time > LONGEST) {
            return Err(Error::invalid("a time is one of 31 years at most"));
        }
        Ok(())
    }
}

/// Tells whether a header is one of the opening handshake.
fn is_own(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let own = ["host", "upgrade", "connection", "content-length", "transfer-encoding"];
    own.contains(&name.as_str()) || name.starts_with("sec-websocket-")
}

/// The longest time that a program may give. Beyond it times overflow.
pub(crate) const LONGEST: Duration = Duration::from_secs(1_000_000_000);

/// Refuses a token that does not fit into a header, without showing it.
pub fn check_token(token: &str) -> Result<()> {
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Error::invalid("a token is ASCII, not empty, without spaces and line ends"));
    }
    Ok(())
}

/// Bounds on what a client may cost its program.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes of a message of the server. A larger one ends the connection with code 1009.
    pub max_message: usize,
    /// Bytes that wait to be sent. What does not fit is refused with `QueueFull`.
    pub queue_bytes: usize,
    /// Messages that wait for one subscription; more are dropped, and answered with `queue full`. The
    /// client stops reading long before.
    pub mailbox_messages: usize,
    /// The same in bytes.
    pub mailbox_bytes: usize,
    /// The time for the opening handshake, and for the answer to the first `ping`.
    pub handshake_timeout: Duration,
    /// The silence after which the client asks whether the server is still there.
    pub heartbeat_interval: Duration,
    /// The silence behind that question which means that it is not.
    pub heartbeat_timeout: Duration,
    /// The time for the closing handshake.
    pub close_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            max_message: 64 << 20,
            queue_bytes: 64 << 20,
            mailbox_messages: 262_144,
            mailbox_bytes: 64 << 20,
            handshake_timeout: Duration::from_secs(10),
            heartbeat_interval: Duration::from_secs(25),
            heartbeat_timeout: Duration::from_secs(20),
            close_timeout: Duration::from_secs(5),
        }
    }
}

/// Waits that grow from one failed attempt to the next. A part of each is random, so that the
/// clients of a server that was restarted do not all return in the same instant.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Backoff {
    /// The first wait.
    pub first: Duration,
    /// The longest wait.
    pub longest: Duration,
    /// By what each wait grows.
    pub factor: f64,
    /// Which part of a wait is random: with 0.5 it lasts between half of the time and all of it.
    pub jitter: f64,
}

/// The shortest wait. Without one a client would try in a busy loop.
const LEAST: Duration = Duration::from_millis(10);

impl Default for Backoff {
    fn default() -> Backoff {
        Backoff {
            first: Duration::from_millis(250),
            longest: Duration::from_secs(30),
            factor: 2.0,
            jitter: 0.5,
        }
    }
}

impl Backoff {
    /// Always the same wait.
    pub fn every(wait: Duration) -> Backoff {
        Backoff { first: wait, longest: wait, factor: 1.0, jitter: 0.0 }
    }

    /// The wait before an attempt, counted from 0; `chance` is in [0, 1).
    pub(crate) fn delay(&self, attempt: u32, chance: f64) -> Duration {
        let factor = self.factor.max(1.0).powi(attempt.min(1000) as i32);
        let seconds = self.first.as_secs_f64() * factor;
        let wait =
            seconds.min(self.longest.as_secs_f64()) * (1.0 - self.jitter.clamp(0.0, 1.0) * chance);
        Duration::try_from_secs_f64(wait).unwrap_or(self.first).clamp(LEAST, LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_longest() {
        let backoff = Backoff::default();
        let waits: Vec<u128> = (0..9).map(|n| backoff.delay(n, 0.0).as_millis()).collect();
        assert_eq!(waits, [250, 500, 1000, 2000, 4000, 8000, 16000, 30000, 30000]);
        assert_eq!(backoff.delay(u32::MAX, 0.999).as_secs(), 15);
        assert_eq!(Backoff::every(Duration::ZERO).delay(5, 0.0), LEAST);
        let odd = Backoff { factor: f64::NAN, jitter: f64::NAN, ..Backoff::every(Duration::MAX) };
        assert_eq!(odd.delay(5, 0.5), LONGEST);
    }

    #[test]
    fn options_are_checked() {
        let with = |change: fn(&mut Options)| {
            let mut options = Options::new(Address::parse("a").unwrap(), "me");
            change(&mut options);
            options.check().is_ok()
        };
        assert!(with(|_| ()));
        assert!(with(|options| options.headers.push(("X-A".into(), "b c".into()))));
        assert!(!with(|options| options.headers.push(("Host".into(), "b".into()))));
        assert!(!with(|options| options.request_timeout = Duration::MAX));
        assert!(!with(|options| options.id.clear()));
        assert!(!with(|options| options.level = 3));
        assert!(!with(|options| options.headers.push(("X-A".into(), "b\r\nc: d".into()))));
        assert!(check_token("a.b-c").is_ok() && check_token("a b").is_err());
    }
}
