//! One connection: its opening and closing handshakes, its messages and its heartbeat.

use std::time::Duration;

use super::Entropy;
use super::frames::{self, Decoder, Incoming};
use super::handshake::{Answer, Handshake};
use super::outbox::{Kind, Outbox};
use crate::options::{Limits, Options, check_token};

/// Bytes of answers to pings that may wait. With more, the client stops reading.
const CROWDED: usize = 64 * 1024;

/// How late a call may be before the process itself has stood still rather than the server.
const LATE: Duration = Duration::from_secs(5);

/// What a driver does with its transport once everything is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// Go on.
    Keep,
    /// End the sending side, and read on until the server has ended its own.
    Close,
    /// Drop it at once, whatever is unwritten.
    Abort,
}

/// How a connection ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Closed {
    /// The close code, 1006 without a close frame.
    pub code: u16,
    pub reason: String,
    /// The HTTP status with which the server refused the request, if it did.
    pub status: Option<u16>,
    /// Whether the server has closed it in an orderly way.
    pub by_server: bool,
}

/// What comes out of a connection.
pub enum Item {
    Opened,
    Message(String),
    /// The last one.
    Ended(Closed),
}

enum Phase {
    Handshake(Handshake),
    Open,
    /// We have sent a close frame, and wait for the other one.
    Closing(u16, String),
    Ended,
}

/// The client's end of a WebSocket, from its request on.
pub struct WebSocket {
    phase: Phase,
    pub outbox: Outbox,
    decoder: Decoder,
    /// What `next` is to tell first.
    opened: bool,
    closed: Option<Closed>,
    transport: Transport,
    give_up_at: Duration,
    heard_at: Duration,
    pinged_at: Option<Duration>,
    is_reading: bool,
    has_forgiven: bool,
    limits: Limits,
}

impl WebSocket {
    /// Begins on a transport that is open.
    pub fn new(
        options: &Options,
        token: Option<&str>,
        entropy: &mut Entropy,
        now: Duration,
    ) -> WebSocket {
        let mut key = [0; 16];
        entropy(&mut key);
        let token = token.filter(|token| check_token(token).is_ok());
        let (handshake, request) = Handshake::begin(&options.address, &options.headers, token, key);
        let mut outbox = Outbox::default();
        outbox.push_raw(request);
        WebSocket {
            phase: Phase::Handshake(handshake),
            outbox,
            decoder: Decoder::new(options.limits.max_message),
            opened: false,
            closed: None,
            transport: Transport::Keep,
            give_up_at: now + options.limits.handshake_timeout,
            heard_at: now,
            pinged_at: None,
            is_reading: true,
            has_forgiven: false,
            limits: options.limits.clone(),
        }
    }

    // -- incoming

    pub fn feed(&mut self, data: &[u8], now: Duration) {
        self.heard(now);
        match &mut self.phase {
            Phase::Handshake(handshake) => match handshake.feed(data) {
                Answer::Partial => (),
                Answer::Accepted(rest) => {
                    self.phase = Phase::Open;
                    self.opened = true;
                    self.decoder.feed(&rest);
                }
                Answer::Refused(status, reason) => {
                    self.transport = Transport::Abort;
                    self.end(Closed { code: 1006, reason, status, by_server: false }, now);
                }
            },
            Phase::Open | Phase::Closing(..) => self.decoder.feed(data),
            Phase::Ended => (),
        }
    }

    /// Returns what has come, one after the other.
    pub fn next(&mut self, now: Duration) -> Option<Item> {
        if std::mem::take(&mut self.opened) {
            return Some(Item::Opened);
        }
        while matches!(self.phase, Phase::Open | Phase::Closing(..)) {
            match self.decoder.next() {
                Ok(None) => break,
                Ok(Some(incoming)) => {
                    if let Some(message) = self.take(incoming, now) {
                        return Some(Item::Message(message));
                    }
                }
                Err(fault) => self.fail(fault.0, fault.1, now),
            }
        }
        self.closed.take().map(Item::Ended)
    }

    fn take(&mut self, incoming: Incoming, now: Duration) -> Option<String> {
        match incoming {
            // After the program's own close it wants no more messages.
            Incoming::Message(text) => return matches!(self.phase, Phase::Open).then_some(text),
            Incoming::Ping(payload) => {
                if matches!(self.phase, Phase::Open) {
                    self.outbox.push_control(frames::PONG, payload);
                }
            }
            Incoming::Pong => (),
            Incoming::Close(code, reason) => {
                let closed = match &self.phase {
                    Phase::Closing(own, why) => ended(*own, why),
                    _ => {
                        self.send_close(code, &reason);
                        Closed { by_server: true, ..ended(code, &reason) }
                    }
                };
                self.end(closed, now);
            }
        }
        None
    }

    /// Notes that the server will send nothing more.
    pub fn eof(&mut self, reason: &str, now: Duration) {
        let closed = match &self.phase {
            Phase::Closing(code, why) => ended(*code, why),
            _ => ended(1006, reason),
        };
        self.end(closed, now);
        self.transport = Transport::Abort;
    }

    fn heard(&mut self, now: Duration) {
        (self.heard_at, self.pinged_at, self.has_forgiven) = (now, None, false);
    }

    // -- outgoing

    pub fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open)
    }

    /// Queues a message, which has no effect once the connection ends.
    pub fn send(&mut self, message: Vec<u8>, kind: Kind) {
        if self.is_open() {
            self.outbox.push(message, kind);
        }
    }

    /// Takes bytes to write.
    pub fn data_to_send(&mut self, out: &mut Vec<u8>, most: usize, entropy: &mut Entropy) {
        self.outbox.take(out, most, || {
            let mut mask = [0; 4];
            entropy(&mut mask);
            mask
        });
    }

    /// Begins the closing handshake, behind all that waits. A second call can only shorten it.
    pub fn close(&mut self, code: u16, reason: &str, grace: Duration, now: Duration) {
        match self.phase {
            Phase::Handshake(_) => self.abort(reason, now),
            Phase::Open => {
                self.send_close(code, reason);
                self.phase = Phase::Closing(code, reason.to_owned());
                self.give_up_at = now + grace;
            }
            Phase::Closing(..) | Phase::Ended => self.give_up_at = self.give_up_at.min(now + grace),
        }
    }

    /// Closes because the server is at fault; what it sends from now on is not handled.
    pub fn fail(&mut self, code: u16, reason: &str, now: Duration) {
        self.send_close(code, reason);
        self.end(ended(code, reason), now);
    }

    /// Drops the connection without a closing handshake.
    pub fn abort(&mut self, reason: &str, now: Duration) {
        self.transport = Transport::Abort;
        self.end(ended(1006, reason), now);
    }

    fn send_close(&mut self, code: u16, reason: &str) {
        if self.is_open() {
            self.outbox.push_control(frames::CLOSE, frames::close_payload(code, reason));
        }
    }

    fn end(&mut self, closed: Closed, now: Duration) {
        if matches!(self.phase, Phase::Ended) {
            return;
        }
        self.phase = Phase::Ended;
        self.closed = Some(closed);
        self.decoder = Decoder::new(0);
        self.give_up_at = now + self.limits.close_timeout;
        if self.transport == Transport::Keep {
            self.transport = Transport::Close;
        }
    }

    // -- for the driver

    pub fn transport(&self) -> Transport {
        self.transport
    }

    /// Whether to stop reading, because the server does not read the answers to its pings.
    pub fn wants_pause(&self) -> bool {
        self.outbox.control_bytes > CROWDED
    }

    /// Notes whether the driver reads: while it does not, it sees no pongs.
    pub fn set_reading(&mut self, is_reading: bool, now: Duration) {
        if self.is_reading != is_reading {
            self.is_reading = is_reading;
            self.heard(now);
        }
    }

    pub fn deadline(&self) -> Option<Duration> {
        match self.phase {
            Phase::Ended if self.transport == Transport::Abort => None,
            Phase::Open => Some(match self.pinged_at {
                Some(pinged_at) if self.is_reading => pinged_at + self.limits.heartbeat_timeout,
                Some(pinged_at) => pinged_at + self.limits.heartbeat_interval,
                None => self.heard_at + self.limits.heartbeat_interval,
            }),
            _ => Some(self.give_up_at),
        }
    }

    pub fn handle_timeout(&mut self, now: Duration) {
        let Some(deadline) = self.deadline().filter(|deadline| now >= *deadline) else {
            return;
        };
        match self.phase {
            Phase::Handshake(_) => self.abort("the server did not answer in time", now),
            Phase::Closing(..) | Phase::Ended => {
                self.eof("the server did not close in time", now);
            }
            Phase::Open if self.pinged_at.is_none() || !self.is_reading => self.ping(now),
            Phase::Open if now > deadline + LATE && !self.has_forgiven => {
                self.has_forgiven = true; // its pong may be here already, unread
                self.ping(now);
            }
            Phase::Open => self.abort("no answer to the heartbeat", now),
        }
    }

    fn ping(&mut self, now: Duration) {
        self.pinged_at = Some(now);
        self.outbox.push_control_first(frames::PING, Vec::new());
    }
}

fn ended(code: u16, reason: &str) -> Closed {
    Closed { code, reason: reason.to_owned(), status: None, by_server: false }
}
