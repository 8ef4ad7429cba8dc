//! The blocking client.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use kps_core::{
    Answer, Ask, Error, Headers, Json, Position, Presence, QuestionId, Result, Scope, Session,
    SubscriptionId, Target,
};
use serde::Serialize;

use crate::ack::Ack;
use crate::answers;
use crate::message::{Message, Past, Reply};
use crate::options::Options;
use crate::pending::Pending;
use crate::shared::{HIGH_WATER, Shared};
use crate::slot::Slot;
use crate::subscription::{Messages, Observer, SubscribeOptions, Subscription, Words};

/// A connection to the bus that restores itself. Clones are the same client.
///
/// Any thread may call it, callbacks too. It has two threads for its socket and, once it needs it,
/// one for the callbacks. It closes when the last clone is dropped; a callback that holds one keeps
/// it open until [`close`](Client::close).
#[derive(Clone)]
pub struct Client {
    handle: Arc<Handle>,
}

/// Closes the client when the program has none any more.
struct Handle {
    shared: Arc<Shared>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        close(&self.shared, None);
    }
}

impl Client {
    /// Connects with default options, and waits until that is done: see [`Options`].
    pub fn connect(address: impl Into<String>) -> Result<Client> {
        Options::new(address).connect()
    }

    pub(crate) fn start(options: Options) -> Result<Client> {
        let shared = Shared::start(options)?;
        Ok(Client { handle: Arc::new(Handle { shared }) })
    }

    /// Waits until the client is connected. Fails with the reason if it has ended.
    pub fn wait_connected(&self) -> Result<()> {
        let state = self.shared().wait_until(|state| {
            let session = &state.engine.session;
            session.is_ready() || session.ended().is_some()
        });
        match state.engine.session.ended() {
            Some(error) => Err(error.clone().unwrap_or(Error::ClientClosed)),
            None => Ok(()),
        }
    }

    /// The id by which others reach this client.
    pub fn id(&self) -> String {
        self.shared().lock().engine.session.id().to_owned()
    }

    /// Whether the client is connected now.
    pub fn is_connected(&self) -> bool {
        self.shared().lock().engine.session.is_ready()
    }

    /// The level of the protocol on the present connection.
    pub fn level(&self) -> u8 {
        self.shared().lock().engine.session.level()
    }

    // -- subscriptions

    /// Subscribes to a topic, or with [`Scope::pattern`] to all topics of a pattern. Returns when the
    /// server has confirmed it; without a connection at once.
    ///
    /// All callbacks of a client run on one thread, one after the other. They may call the client. What
    /// a callback returns is the answer to a publisher that wants an ack: see [`Reply`]. For work
    /// that takes long use [`messages`](Client::messages) on threads of your own, or give the message
    /// to another thread.
    pub fn subscribe<R: Reply>(
        &self,
        scope: impl Into<Scope>,
        callback: impl FnMut(Message) -> R + Send + 'static,
    ) -> Result<Subscription> {
        self.subscribe_with(scope, SubscribeOptions::default(), callback)
    }

    /// Subscribes with messages of the past, as a member of a group, or with an eye on who else is
    /// subscribed.
    pub fn subscribe_with<R: Reply>(
        &self,
        scope: impl Into<Scope>,
        options: SubscribeOptions,
        callback: impl FnMut(Message) -> R + Send + 'static,
    ) -> Result<Subscription> {
        let waits = !options.returns_at_once;
        let (key, wish, observer) = options.split(scope.into());
        let subscription =
            self.attach(callback, observer, |session, now| session.subscribe(key, wish, now))?;
        if waits {
            subscription.confirmed()?;
        }
        Ok(subscription)
    }

    /// Takes the messages that are sent to this client's id. Only one callback or iterator may.
    pub fn on_direct<R: Reply>(
        &self,
        callback: impl FnMut(Message) -> R + Send + 'static,
    ) -> Result<Subscription> {
        self.attach(callback, None, |session, _| session.subscribe_direct())
    }

    /// Subscribes without a callback.
    ///
    /// ```no_run
    /// # let client = kps::Client::connect("localhost:9313")?;
    /// for message in client.messages("news")? {
    ///     println!("{}", message?.data);
    /// }
    /// # Ok::<(), kps::Error>(())
    /// ```
    pub fn messages(&self, scope: impl Into<Scope>) -> Result<Messages> {
        self.messages_with(scope, SubscribeOptions::default())
    }

    /// Subscribes without a callback, with messages of the past, or as a member of a group.
    pub fn messages_with(
        &self,
        scope: impl Into<Scope>,
        options: SubscribeOptions,
    ) -> Result<Messages> {
        let waits = !options.returns_at_once;
        let (key, wish, observer) = options.split(scope.into());
        let messages = self.iterate(observer, |session, now| session.subscribe(key, wish, now))?;
        if waits {
            messages.confirmed()?;
        }
        Ok(messages)
    }

    /// Takes the messages that are sent to this client's id, without a callback.
    pub fn direct_messages(&self) -> Result<Messages> {
        self.iterate(None, |session, _| session.subscribe_direct())
    }

    // -- sending

    /// Publishes to all subscribers of a topic. Returns at once, unless the network is slower than the
    /// program. The message may be lost with the connection.
    pub fn publish<T: Serialize + ?Sized>(&self, topic: &str, data: &T) -> Result<()> {
        self.publish_with_headers(topic, data, &Headers::new())
    }

    /// Publishes, with texts beside the payload.
    pub fn publish_with_headers<T: Serialize + ?Sized>(
        &self,
        topic: &str,
        data: &T,
        headers: &Headers,
    ) -> Result<()> {
        let data = Json::of(data)?;
        self.shared().call(|engine| engine.session.publish(topic, &data, headers))?;
        self.wait_for_room()
    }

    /// Sends a direct message to the client, or server, of an id. If nobody has it, an
    /// [`Event::Error`](crate::Event::Error) tells so.
    pub fn publish_to_id<T: Serialize + ?Sized>(&self, id: &str, data: &T) -> Result<()> {
        self.publish_to_id_with_headers(id, data, &Headers::new())
    }

    /// Sends a direct message, with texts beside the payload.
    pub fn publish_to_id_with_headers<T: Serialize + ?Sized>(
        &self,
        id: &str,
        data: &T,
        headers: &Headers,
    ) -> Result<()> {
        let data = Json::of(data)?;
        self.shared().call(|engine| engine.session.publish_to_id(id, &data, headers))?;
        self.wait_for_room()
    }

    /// Has the server send a message to another server, with TLS if it is to be `secure`. An address is
    /// `host:port`, maybe with a path, and maybe with `::` and the address of a server behind that one.
    /// If the payload is an object with a member `topic`, that server publishes its member `data`
    /// there. If it fails, an [`Event::Error`](crate::Event::Error) tells so.
    pub fn publish_to_server<T: Serialize + ?Sized>(
        &self,
        address: &str,
        data: &T,
        secure: bool,
    ) -> Result<()> {
        let data = Json::of(data)?;
        self.shared().call(|engine| engine.session.publish_to_server(address, &data, secure))?;
        self.wait_for_room()
    }

    /// Publishes, and asks to how many subscribers the server has passed the message on, which one on
    /// level 1 does not tell. Of `ask` the headers and the message id count.
    pub fn publish_with_receipt<T: Serialize + ?Sized>(
        &self,
        topic: &str,
        data: &T,
        ask: &Ask,
    ) -> Result<Pending<Option<u64>>> {
        let data = Json::of(data)?;
        let send =
            |session: &mut Session, now| session.publish_with_receipt(topic, &data, ask, now);
        self.ask(send, answers::delivered)
    }

    /// Publishes, and gathers what becomes of the message at each subscriber.
    ///
    /// ```no_run
    /// # let client = kps::Client::connect("localhost:9313")?;
    /// for outcome in client.publish_with_ack("jobs", "sweep", &kps::Ask::default())?.wait()? {
    ///     println!("{}: {:?} {:?}", outcome.client_id, outcome.result, outcome.error);
    /// }
    /// # Ok::<(), kps::Error>(())
    /// ```
    pub fn publish_with_ack<T: Serialize + ?Sized>(
        &self,
        topic: &str,
        data: &T,
        ask: &Ask,
    ) -> Result<Ack> {
        self.publish_for_ack(Target::Topic(topic.to_owned()), data, ask)
    }

    /// The same for one client. There is no outcome if nobody has the id.
    pub fn publish_to_id_with_ack<T: Serialize + ?Sized>(
        &self,
        id: &str,
        data: &T,
        ask: &Ask,
    ) -> Result<Ack> {
        self.publish_for_ack(Target::Id(id.to_owned()), data, ask)
    }

    /// Asks the subscribers of a topic for one result, the first. The others are not waited for.
    ///
    /// ```no_run
    /// # let client = kps::Client::connect("localhost:9313")?;
    /// let sum: i64 = client.request("sum", &[1, 2], &kps::Ask::default())?.wait()?.read()?;
    /// # Ok::<(), kps::Error>(())
    /// ```
    pub fn request<T: Serialize + ?Sized>(
        &self,
        topic: &str,
        data: &T,
        ask: &Ask,
    ) -> Result<Pending<Json>> {
        self.request_of(Target::Topic(topic.to_owned()), data, ask)
    }

    /// Asks the client, or server, of an id.
    pub fn request_to_id<T: Serialize + ?Sized>(
        &self,
        id: &str,
        data: &T,
        ask: &Ask,
    ) -> Result<Pending<Json>> {
        self.request_of(Target::Id(id.to_owned()), data, ask)
    }

    /// Asks for up to `limit` messages of a topic with history: the first ones behind `since`, or else
    /// the latest.
    pub fn history(
        &self,
        topic: &str,
        since: Option<Position>,
        limit: u64,
    ) -> Result<Pending<Past>> {
        let send = |session: &mut Session, now| session.history(topic, since, limit, now);
        self.ask(send, answers::past)
    }

    /// Asks who is subscribed to a topic.
    pub fn presence(&self, topic: &str) -> Result<Pending<Presence>> {
        self.ask(|session, now| session.presence(topic, now), answers::presence)
    }

    /// Asks whether the server has handled all that was sent before.
    pub fn flush(&self) -> Result<Pending<()>> {
        self.ask(|session, now| session.flush(now), answers::done)
    }

    /// Closes for good. What was accepted before is written, for up to 5 seconds. Callers that wait
    /// for an answer get [`Error::ClientClosed`]. May be called twice; a callback does not wait here.
    pub fn close(&self) {
        close(self.shared(), None);
    }

    /// Closes for good within a time.
    pub fn close_within(&self, timeout: Duration) {
        close(self.shared(), Some(timeout));
    }

    /// Waits until no callback runs any more, once the client is closed. A callback does not wait.
    pub fn join_callbacks(&self) {
        self.shared().callbacks.join();
    }

    // -- within

    fn shared(&self) -> &Arc<Shared> {
        &self.handle.shared
    }

    fn attach<R: Reply>(
        &self,
        mut callback: impl FnMut(Message) -> R + Send + 'static,
        observer: Option<Observer>,
        subscribe: impl FnOnce(&mut Session, Duration) -> Result<SubscriptionId>,
    ) -> Result<Subscription> {
        let shared = self.shared();
        let (later, in_force) = (Arc::new(OnceLock::new()), Arc::new(Slot::new()));
        let teller = shared.callbacks.on_word(later.clone(), in_force.clone());
        // The clone keeps an ack open until the callback has returned its answer.
        let callback = move |message: Message| callback(message.clone()).answer(&message);
        let id = shared.call(|engine| {
            let id = engine.subscribe(subscribe, teller)?;
            let _ = later.set(id);
            shared.callbacks.push(id, Box::new(callback), observer);
            Ok(id)
        })?;
        shared.callbacks.start(shared);
        Ok(Subscription::new(shared.clone(), id, in_force))
    }

    fn iterate(
        &self,
        observer: Option<Observer>,
        subscribe: impl FnOnce(&mut Session, Duration) -> Result<SubscriptionId>,
    ) -> Result<Messages> {
        let words = Words::new();
        let id = self.shared().call(|engine| engine.subscribe(subscribe, words.teller()))?;
        Ok(Messages::new(self.shared().clone(), id, words, observer))
    }

    fn ask<T>(
        &self,
        send: impl FnOnce(&mut Session, Duration) -> Result<QuestionId>,
        read: fn(Answer) -> Result<T>,
    ) -> Result<Pending<T>> {
        let shared = self.shared();
        Pending::new(shared, |teller| shared.call(|engine| engine.ask(send, teller)), read)
    }

    fn publish_for_ack<T: Serialize + ?Sized>(
        &self,
        target: Target,
        data: &T,
        ask: &Ask,
    ) -> Result<Ack> {
        let data = Json::of(data)?;
        let send = |session: &mut Session, now| session.publish_with_ack(&target, &data, ask, now);
        Ack::new(self.shared(), send)
    }

    fn request_of<T: Serialize + ?Sized>(
        &self,
        target: Target,
        data: &T,
        ask: &Ask,
    ) -> Result<Pending<Json>> {
        let data = Json::of(data)?;
        let send = |session: &mut Session, now| session.request(&target, &data, ask, now);
        self.ask(send, answers::result)
    }

    /// Waits while the network is slower than the program.
    fn wait_for_room(&self) -> Result<()> {
        let shared = self.shared();
        if shared.lock().engine.session.backlog() <= HIGH_WATER {
            return Ok(());
        }
        drop(shared.wait_until(|state| {
            let session = &state.engine.session;
            session.backlog() <= HIGH_WATER || session.ended().is_some()
        }));
        Ok(())
    }
}

fn close(shared: &Arc<Shared>, within: Option<Duration>) {
    shared.call(|engine| {
        let now = engine.now();
        engine.session.close(within, now);
    });
    if !shared.callbacks.is_this_thread() {
        shared.wait_until_over();
    }
}
