//! The client.

use std::sync::Arc;
use std::time::Duration;

use kps_core::{Ask, Error, Headers, Json, Position, Presence, Result, Scope, Session, Target};
use serde::Serialize;

use super::ack::Ack;
use super::inner::Inner;
use super::messages::{Messages, Words};
use super::task::Task;
use crate::answers;
use crate::message::Past;
use crate::options::Options;
use crate::shared::HIGH_WATER;
use crate::subscription::SubscribeOptions;

/// A connection to the bus that restores itself. Clones are the same client; it closes when the last
/// one is dropped, or with [`close`](Client::close).
#[derive(Clone)]
pub struct Client {
    handle: Arc<Handle>,
}

struct Handle {
    inner: Arc<Inner>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        begin_to_close(&self.inner, None);
    }
}

impl Client {
    /// Connects with default options, and waits until that is done.
    pub async fn connect(address: impl Into<String>) -> Result<Client> {
        Client::connect_with(Options::new(address)).await
    }

    /// Connects, and waits until that is done. While the server cannot be reached it tries again,
    /// unless the client is not to [`reconnect`](Options::reconnect).
    pub async fn connect_with(options: Options) -> Result<Client> {
        let client = Client::start(options)?;
        client.wait_connected().await?;
        Ok(client)
    }

    /// Makes a client that connects, and does not wait. Its task runs on the runtime from which this is
    /// called.
    pub fn start(mut options: Options) -> Result<Client> {
        let address = options.address()?;
        let session = options.session()?;
        let inner = Arc::new(Inner::new(session, options.on_event.take()));
        inner.call(|_| ()); // it asks for a transport
        let task = Task {
            inner: inner.clone(),
            address,
            tokens: options.tokens.take(),
            timeout: options.connect_timeout,
            #[cfg(feature = "tls")]
            trust: std::mem::take(&mut options.trust),
            #[cfg(not(feature = "tls"))]
            trust: (),
        };
        tokio::spawn(task.run());
        Ok(Client { handle: Arc::new(Handle { inner }) })
    }

    /// Waits until the client is connected. Fails with the reason if it has ended.
    pub async fn wait_connected(&self) -> Result<()> {
        let look = |session: &Session| match session.ended() {
            Some(error) => Some(Err(error.clone().unwrap_or(Error::ClientClosed))),
            None => session.is_ready().then_some(Ok(())),
        };
        self.inner().until(|engine| look(&engine.session)).await
    }

    /// The id by which others reach this client.
    pub fn id(&self) -> String {
        self.inner().lock().session.id().to_owned()
    }

    /// Whether the client is connected now.
    pub fn is_connected(&self) -> bool {
        self.inner().lock().session.is_ready()
    }

    /// The level of the protocol on the present connection.
    pub fn level(&self) -> u8 {
        self.inner().lock().session.level()
    }

    /// Subscribes to a topic, or with [`Scope::pattern`] to all topics of a pattern. Waits until the
    /// server has confirmed it, unless there is no connection.
    pub async fn messages(&self, scope: impl Into<Scope>) -> Result<Messages> {
        self.messages_with(scope, SubscribeOptions::default()).await
    }

    /// Subscribes with messages of the past, as a member of a group, or with an eye on who else is
    /// subscribed.
    pub async fn messages_with(
        &self,
        scope: impl Into<Scope>,
        options: SubscribeOptions,
    ) -> Result<Messages> {
        let waits = !options.returns_at_once;
        let (key, wish, observer) = options.split(scope.into());
        let subscribe = |session: &mut Session, now| session.subscribe(key, wish, now);
        let mut messages = Words::new().subscribe(self.inner(), observer, |teller| {
            self.inner().call(|engine| engine.subscribe(subscribe, teller))
        })?;
        if waits {
            messages.confirmed().await?;
        }
        Ok(messages)
    }

    /// Takes the messages that are sent to this client's id. Only one stream may.
    pub fn direct_messages(&self) -> Result<Messages> {
        Words::new().subscribe(self.inner(), None, |teller| {
            let subscribe = |session: &mut Session, _| session.subscribe_direct();
            self.inner().call(|engine| engine.subscribe(subscribe, teller))
        })
    }

    /// Publishes to all subscribers of a topic. Waits only while the network is slower than the program.
    /// The message may be lost with the connection.
    pub async fn publish<T: Serialize + ?Sized>(&self, topic: &str, data: &T) -> Result<()> {
        self.publish_with_headers(topic, data, &Headers::new()).await
    }

    /// Publishes, with texts beside the payload.
    pub async fn publish_with_headers<T: Serialize + ?Sized>(
        &self,
        topic: &str,
        data: &T,
        headers: &Headers,
    ) -> Result<()> {
        let data = Json::of(data)?;
        self.inner().call(|engine| engine.session.publish(topic, &data, headers))?;
        self.wait_for_room().await
    }

    /// Sends a direct message to the client, or server, of an id. If nobody has it, an
    /// [`Event::Error`](crate::Event::Error) tells so.
    pub async fn publish_to_id<T: Serialize + ?Sized>(&self, id: &str, data: &T) -> Result<()> {
        self.publish_to_id_with_headers(id, data, &Headers::new()).await
    }

    /// Sends a direct message, with texts beside the payload.
    pub async fn publish_to_id_with_headers<T: Serialize + ?Sized>(
        &self,
        id: &str,
        data: &T,
        headers: &Headers,
    ) -> Result<()> {
        let data = Json::of(data)?;
        self.inner().call(|engine| engine.session.publish_to_id(id, &data, headers))?;
        self.wait_for_room().await
    }

    /// Has the server send a message to another server, as
    /// [`kps::Client::publish_to_server`](crate::Client::publish_to_server) does.
    pub async fn publish_to_server<T: Serialize + ?Sized>(
        &self,
        address: &str,
        data: &T,
        secure: bool,
    ) -> Result<()> {
        let data = Json::of(data)?;
        self.inner().call(|engine| engine.session.publish_to_server(address, &data, secure))?;
        self.wait_for_room().await
    }

    /// Publishes, and waits until the server has passed the message on; tells to how many subscribers,
    /// which one on level 1 does not tell. Of `ask` the headers and the message id count.
    pub async fn publish_with_receipt<T: Serialize + ?Sized>(
        &self,
        topic: &str,
        data: &T,
        ask: &Ask,
    ) -> Result<Option<u64>> {
        let data = Json::of(data)?;
        let send =
            |session: &mut Session, now| session.publish_with_receipt(topic, &data, ask, now);
        self.inner().ask(send, answers::delivered).await
    }

    /// Publishes, and gathers what becomes of the message at each subscriber.
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
    pub async fn request<T: Serialize + ?Sized>(
        &self,
        topic: &str,
        data: &T,
        ask: &Ask,
    ) -> Result<Json> {
        self.request_of(Target::Topic(topic.to_owned()), data, ask).await
    }

    /// Asks the client, or server, of an id.
    pub async fn request_to_id<T: Serialize + ?Sized>(
        &self,
        id: &str,
        data: &T,
        ask: &Ask,
    ) -> Result<Json> {
        self.request_of(Target::Id(id.to_owned()), data, ask).await
    }

    /// Returns up to `limit` messages of a topic with history: the first ones behind `since`, or else
    /// the latest.
    pub async fn history(&self, topic: &str, since: Option<Position>, limit: u64) -> Result<Past> {
        let send = |session: &mut Session, now| session.history(topic, since, limit, now);
        self.inner().ask(send, answers::past).await
    }

    /// Tells who is subscribed to a topic.
    pub async fn presence(&self, topic: &str) -> Result<Presence> {
        self.inner().ask(|session, now| session.presence(topic, now), answers::presence).await
    }

    /// Waits until the server has handled all that was sent before.
    pub async fn flush(&self) -> Result<()> {
        self.inner().ask(|session, now| session.flush(now), answers::done).await
    }

    /// Closes for good. What was accepted before is written, for up to 5 seconds.
    pub async fn close(&self) {
        self.close_within(None).await;
    }

    /// Closes for good within a time, or 5 seconds.
    pub async fn close_within(&self, timeout: Option<Duration>) {
        begin_to_close(self.inner(), timeout);
        self.inner().ended().await;
    }

    // -- within

    fn inner(&self) -> &Arc<Inner> {
        &self.handle.inner
    }

    fn publish_for_ack<T: Serialize + ?Sized>(
        &self,
        target: Target,
        data: &T,
        ask: &Ask,
    ) -> Result<Ack> {
        let data = Json::of(data)?;
        let send = |session: &mut Session, now| session.publish_with_ack(&target, &data, ask, now);
        Ack::new(self.inner(), send)
    }

    async fn request_of<T: Serialize + ?Sized>(
        &self,
        target: Target,
        data: &T,
        ask: &Ask,
    ) -> Result<Json> {
        let data = Json::of(data)?;
        let send = |session: &mut Session, now| session.request(&target, &data, ask, now);
        self.inner().ask(send, answers::result).await
    }

    async fn wait_for_room(&self) -> Result<()> {
        let has_room =
            |session: &Session| session.backlog() <= HIGH_WATER || session.ended().is_some();
        if has_room(&self.inner().lock().session) {
            return Ok(());
        }
        self.inner().until(|engine| has_room(&engine.session).then_some(())).await;
        Ok(())
    }
}

fn begin_to_close(inner: &Inner, within: Option<Duration>) {
    inner.call(|engine| {
        let now = engine.now();
        engine.session.close(within, now);
    });
}
