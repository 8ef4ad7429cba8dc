//! The session of a client: the verbs of its driver and of its program.

mod connecting;
mod receive;
mod sending;
mod subscribing;

use std::collections::VecDeque;
use std::time::Duration;

use crate::asking::Asking;
use crate::error::{Error, Result};
use crate::event::{Event, QuestionId};
use crate::flow::Flow;
use crate::inbox::Inbox;
use crate::json::Json;
use crate::key::check_text;
use crate::link::Link;
use crate::message::{Ask, Position, Target};
use crate::offline::Offline;
use crate::options::{LONGEST, Options, check_token};
use crate::topics::Topics;
use crate::wire::{Entropy, Transport, WebSocket};
use connecting::History;

/// One client. It does no I/O: after each call, the driver handles [`poll`](Session::poll) until
/// there is nothing, writes [`data_to_send`](Session::data_to_send), and looks at
/// [`transport`](Session::transport), [`wants_pause`](Session::wants_pause) and
/// [`deadline`](Session::deadline).
///
/// All times are counted from the same moment, whichever that is.
pub struct Session {
    options: Options,
    link: Option<Link>,
    /// A connection that has ended, but for what is still to be written.
    leaving: Option<WebSocket>,
    topics: Topics,
    inbox: Inbox,
    asking: Asking,
    flow: Flow,
    events: VecDeque<Event>,
    entropy: Entropy,
    /// Number of the present connection.
    epoch: u64,
    id: String,
    offline: Offline,
    is_closing: bool,
    /// How the client has ended, once it has.
    ended: Option<Option<Error>>,
    past: History,
    retry_at: Option<Duration>,
}

impl Session {
    /// Makes a client. `entropy` fills slices with bytes that nobody can predict.
    pub fn new(
        options: Options,
        entropy: impl FnMut(&mut [u8]) + Send + 'static,
    ) -> Result<Session> {
        options.check()?;
        Ok(Session {
            link: None,
            leaving: None,
            topics: Topics::default(),
            inbox: Inbox::new(options.limits.clone()),
            asking: Asking::new(options.request_timeout),
            flow: Flow::default(),
            events: VecDeque::from([Event::ConnectNeeded]),
            entropy: Box::new(entropy),
            epoch: 0,
            id: options.id.clone(),
            offline: Offline::new(options.offline),
            is_closing: false,
            ended: None,
            past: History::default(),
            retry_at: None,
            options,
        })
    }

    // -- for the driver

    /// Returns what has happened, one after the other.
    pub fn poll(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// A transport is open, in answer to [`Event::ConnectNeeded`]. The token is for this connection.
    pub fn connected(&mut self, token: Option<&str>, now: Duration) {
        if let Some(fault) = token.and_then(|token| check_token(token).err()) {
            return self.connect_failed(fault, now);
        }
        self.leaving = None;
        if self.is_over() {
            return self.end(None);
        }
        let socket = WebSocket::new(&self.options, token, &mut self.entropy, now);
        self.link = Some(Link::new(socket, self.id.clone(), self.options.limits.queue_bytes));
    }

    /// No transport could be opened, in answer to [`Event::ConnectNeeded`].
    pub fn connect_failed(&mut self, reason: impl ToString, now: Duration) {
        self.attempt_failed(reason.to_string(), None, now);
    }

    /// Bytes have come.
    pub fn receive(&mut self, data: &[u8], now: Duration) {
        if let Some(link) = &mut self.link {
            link.socket.feed(data, now);
        }
        self.read(now);
    }

    /// The transport has ended: the server sends nothing more, or it has failed.
    pub fn disconnected(&mut self, reason: &str, now: Duration) {
        self.leaving = None;
        if let Some(link) = &mut self.link {
            link.socket.eof(reason, now);
        }
        self.read(now);
        self.leaving = None;
    }

    /// Takes about `most` bytes to write, and puts them behind those in `out`.
    pub fn data_to_send(&mut self, out: &mut Vec<u8>, most: usize, now: Duration) {
        if let Some(socket) = &mut self.leaving {
            return socket.data_to_send(out, most, &mut self.entropy);
        }
        if let Some(link) = &mut self.link {
            link.socket.data_to_send(out, most, &mut self.entropy);
            self.asking.written(link.socket.outbox.taken, now);
        }
    }

    /// Whether there is something to write.
    pub fn has_data_to_send(&self) -> bool {
        self.socket().is_some_and(|socket| !socket.outbox.is_empty())
    }

    /// What to do with the transport once everything is written. Without one it has no meaning.
    pub fn transport(&self) -> Transport {
        self.socket().map_or(Transport::Abort, WebSocket::transport)
    }

    /// Whether the driver should stop reading.
    pub fn wants_pause(&self) -> bool {
        let Some(link) = &self.link else {
            return false;
        };
        (self.flow.is_paused() && link.socket.is_open()) || link.socket.wants_pause()
    }

    /// Notes whether the driver reads: while it does not, it sees no signs of life.
    pub fn set_reading(&mut self, is_reading: bool, now: Duration) {
        if let Some(link) = &mut self.link {
            link.socket.set_reading(is_reading, now);
        }
    }

    /// When to call `handle_timeout`.
    pub fn deadline(&self) -> Option<Duration> {
        let register_by = self.link.as_ref().and_then(|link| link.register_by);
        let topics = self.ready().and(self.topics.deadline());
        [
            self.socket().and_then(WebSocket::deadline),
            register_by,
            topics,
            self.asking.deadline(),
            self.inbox.confirm_deadline(),
            self.flow.deadline(),
            self.retry_at,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Does everything that is due.
    pub fn handle_timeout(&mut self, now: Duration) {
        if let Some(socket) = &mut self.leaving {
            socket.handle_timeout(now);
        }
        if let Some(link) = &mut self.link {
            link.socket.handle_timeout(now);
            if link.register_by.is_some_and(|at| now >= at) {
                link.socket.abort("the server did not answer the first ping", now);
            }
        }
        self.read(now);
        if self.retry_at.is_some_and(|at| now >= at) {
            self.retry_at = None;
            if let Some(socket) = &mut self.leaving {
                socket.abort("", now); // the server takes its time to end the old connection
            }
            self.events.push_back(Event::ConnectNeeded);
        }
        let chance = self.chance();
        let mut ready = self.link.as_mut().filter(|link| link.registered);
        if let Some(link) = ready.as_deref_mut() {
            self.topics.handle_timeout(link, chance, now);
        }
        self.asking.handle_timeout(ready, now);
        for id in self.inbox.unconfirmed(now) {
            let error = Error::RequestTimeout("the server did not answer in time".to_owned());
            self.unsubscribe(id, now);
            self.events.push_back(Event::Subscribed(id, Err(error)));
        }
        let asks = !self.asking.is_empty() || self.inbox.are_awaited();
        self.flow.handle_timeout(&self.inbox, asks, now);
        self.settle_up(now);
    }

    // -- for the program

    /// The id by which others reach this client; before it is registered the one it asks for.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Whether the client is registered, and not closing.
    pub fn is_ready(&self) -> bool {
        self.ready().is_some()
    }

    /// How the client has ended, once it has.
    pub fn ended(&self) -> Option<&Option<Error>> {
        self.ended.as_ref()
    }

    /// The level of the protocol on the present connection.
    pub fn level(&self) -> u8 {
        if self.ready().is_some_and(|link| link.level_2) { 2 } else { 1 }
    }

    /// Bytes that wait to be written.
    pub fn backlog(&self) -> usize {
        self.link.as_ref().map_or(0, |link| link.socket.outbox.bytes)
    }

    /// Publishes, and asks to how many subscribers the server has passed the message on. Of `ask`
    /// only the headers and the message id count.
    pub fn publish_with_receipt(
        &mut self,
        topic: &str,
        data: &Json,
        ask: &Ask,
        now: Duration,
    ) -> Result<QuestionId> {
        check_text("a topic", topic)?;
        let (asking, link) = self.asking()?;
        asking.publish_with_receipt(topic, data, ask, link, now)
    }

    /// Publishes, or sends to one client, and gathers what becomes of the message at each receiver.
    pub fn publish_with_ack(
        &mut self,
        target: &Target,
        data: &Json,
        ask: &Ask,
        now: Duration,
    ) -> Result<QuestionId> {
        self.ask(target, data, ask, false, now)
    }

    /// The same for one result: the first.
    pub fn request(
        &mut self,
        target: &Target,
        data: &Json,
        ask: &Ask,
        now: Duration,
    ) -> Result<QuestionId> {
        self.ask(target, data, ask, true, now)
    }

    /// Asks who has answered an ack request; `None` if it has ended.
    pub fn status(&mut self, of: QuestionId, now: Duration) -> Result<Option<QuestionId>> {
        let (asking, link) = self.asking()?;
        asking.status(of, link, now)
    }

    /// Ends a question without its answer. Of an ack request the server is told.
    pub fn cancel(&mut self, question: QuestionId, now: Duration) {
        let link = self.link.as_mut().filter(|link| link.registered);
        self.asking.cancel(question, link, now);
        self.settle_up(now);
    }

    /// Asks for messages of the past: the first ones behind `since`, or else the latest.
    pub fn history(
        &mut self,
        topic: &str,
        since: Option<Position>,
        limit: u64,
        now: Duration,
    ) -> Result<QuestionId> {
        check_text("a topic", topic)?;
        if limit == 0 {
            return Err(Error::invalid("limit is a number of messages from 1"));
        }
        let (asking, link) = self.asking()?;
        asking.history(topic, since, limit, link, now)
    }

    /// Asks who is subscribed to a topic.
    pub fn presence(&mut self, topic: &str, now: Duration) -> Result<QuestionId> {
        check_text("a topic", topic)?;
        let (asking, link) = self.asking()?;
        asking.presence(topic, link, now)
    }

    /// Asks whether the server has handled everything that was sent before.
    pub fn flush(&mut self, now: Duration) -> Result<QuestionId> {
        let (asking, link) = self.asking()?;
        asking.flush(link, now)
    }

    /// Closes for good, behind what waits to be written, within a time. May be called again to shorten
    /// that. Pending questions end at once.
    pub fn close(&mut self, within: Option<Duration>, now: Duration) {
        if self.ended.is_some() {
            return;
        }
        let grace = within.unwrap_or(self.options.limits.close_timeout).min(LONGEST);
        let was_closing = std::mem::replace(&mut self.is_closing, true);
        self.retry_at = None;
        if !was_closing {
            self.asking.disconnected(&Error::ClientClosed, false);
        }
        match &mut self.link {
            Some(link) if link.registered => link.socket.close(1000, "", grace, now),
            Some(link) => link.socket.abort("the client was closed", now),
            None => self.end(None),
        }
        self.read(now);
    }

    // -- within

    fn socket(&self) -> Option<&WebSocket> {
        self.leaving.as_ref().or(self.link.as_ref().map(|link| &link.socket))
    }

    fn ready(&self) -> Option<&Link> {
        self.link.as_ref().filter(|link| link.registered && !self.is_closing)
    }

    fn chance(&mut self) -> f64 {
        let mut bytes = [0; 4];
        (self.entropy)(&mut bytes);
        f64::from(u32::from_ne_bytes(bytes)) / (f64::from(u32::MAX) + 1.0)
    }

    fn is_over(&self) -> bool {
        self.is_closing || self.ended.is_some()
    }

    fn require_life(&self) -> Result<()> {
        if self.is_over() { Err(Error::ClientClosed) } else { Ok(()) }
    }

    fn asking(&mut self) -> Result<(&mut Asking, &mut Link)> {
        self.require_life()?;
        match self.link.as_mut().filter(|link| link.registered) {
            Some(link) => Ok((&mut self.asking, link)),
            None => Err(Error::NotConnected),
        }
    }

    fn ask(
        &mut self,
        target: &Target,
        data: &Json,
        ask: &Ask,
        is_request: bool,
        now: Duration,
    ) -> Result<QuestionId> {
        match target {
            Target::Topic(topic) => check_text("a topic", topic)?,
            Target::Id(id) => check_text("an id", id)?,
        }
        let (asking, link) = self.asking()?;
        asking.ask(target, data, ask, is_request, link, now)
    }

    // -- what other parts have noted

    fn settle_up(&mut self, now: Duration) {
        self.events.extend(self.asking.events.drain(..));
        self.events.extend(self.inbox.arrived.drain(..).map(Event::Arrived));
        self.events.extend(self.topics.rosters.changed.drain(..).map(Event::PresenceChanged));
        for _ in self.inbox.overflowed.drain(..) {
            let error =
                Error::QueueFull("messages are dropped: a subscription is too slow for them");
            self.events.push_back(Event::Error(error));
        }
        for id in std::mem::take(&mut self.inbox.crowded) {
            self.flow.crowded(id, &self.inbox, now);
        }
        for settled in std::mem::take(&mut self.inbox.settled) {
            self.answer(settled, now);
        }
    }
}
