//! How to connect.

use std::fmt;
use std::time::Duration;

use kps_core::{Address, Backoff, Limits, Options as CoreOptions, Result, Session, check_token};

use crate::event::Event;
use crate::random::{entropy, random_id};

/// Gives the token for a connection.
pub(crate) type Tokens = Box<dyn FnMut() -> std::result::Result<String, String> + Send>;

pub(crate) type Hook = Box<dyn FnMut(Event) + Send>;

/// The options of a client.
///
/// ```no_run
/// let client = kps::Options::new("wss://example.org/ws/bus").id("alice").token("secret").connect()?;
/// # Ok::<(), kps::Error>(())
/// ```
#[must_use]
pub struct Options {
    address: String,
    id: Option<String>,
    level: u8,
    headers: Vec<(String, String)>,
    pub(crate) tokens: Option<Tokens>,
    /// The token, if it is always the same.
    token: Option<String>,
    reconnect: Option<Backoff>,
    offline: usize,
    request_timeout: Duration,
    pub(crate) connect_timeout: Duration,
    limits: Limits,
    pub(crate) on_event: Option<Hook>,
    #[cfg(feature = "tls")]
    pub(crate) trust: crate::tls::Trust,
}

impl Options {
    /// The options for a server: `host`, `host:port`, or a URL with `ws://` or `wss://`.
    pub fn new(address: impl Into<String>) -> Options {
        Options {
            address: address.into(),
            id: None,
            level: 2,
            headers: Vec::new(),
            tokens: None,
            token: None,
            reconnect: Some(Backoff::default()),
            offline: 0,
            request_timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(10),
            limits: Limits::default(),
            on_event: None,
            #[cfg(feature = "tls")]
            trust: Default::default(),
        }
    }

    /// The id by which others reach the client; a random one if it is not given. A client that
    /// asks for the id of another one takes it over, and the other one ends.
    pub fn id(mut self, id: impl Into<String>) -> Options {
        self.id = Some(id.into());
        self
    }

    /// The token that identifies the client.
    pub fn token(mut self, token: impl Into<String>) -> Options {
        let token = token.into();
        self.token = Some(token.clone());
        self.tokens = Some(Box::new(move || Ok(token.clone())));
        self
    }

    /// A function that gives a token for each connection. If it fails, the attempt fails, and another
    /// one follows.
    pub fn token_with<E: fmt::Display>(
        mut self,
        mut token: impl FnMut() -> std::result::Result<String, E> + Send + 'static,
    ) -> Options {
        self.tokens = Some(Box::new(move || token().map_err(|error| error.to_string())));
        self.token = None;
        self
    }

    /// One more field for the opening request.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Options {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// The waits before the client connects again; `None`: it does not, and ends with its connection.
    pub fn reconnect(mut self, backoff: impl Into<Option<Backoff>>) -> Options {
        self.reconnect = backoff.into();
        self
    }

    /// How many publications to keep while there is no connection. With 0, the default, publishing
    /// fails with [`NotConnected`](crate::Error::NotConnected).
    pub fn offline(mut self, most: usize) -> Options {
        self.offline = most;
        self
    }

    /// The time for the server to answer. Ack requests have their own.
    pub fn request_timeout(mut self, timeout: Duration) -> Options {
        self.request_timeout = timeout;
        self
    }

    /// The time for one attempt to reach the server.
    pub fn connect_timeout(mut self, timeout: Duration) -> Options {
        self.connect_timeout = timeout;
        self
    }

    /// The highest level of the protocol to offer: 2, or 1 like the original clients.
    pub fn level(mut self, level: u8) -> Options {
        self.level = level;
        self
    }

    /// Bounds on what the client may cost the program.
    pub fn limits(mut self, limits: Limits) -> Options {
        self.limits = limits;
        self
    }

    /// A function that is told what happens besides messages. It is called on the thread of the
    /// callbacks.
    pub fn on_event(mut self, hook: impl FnMut(Event) + Send + 'static) -> Options {
        self.on_event = Some(Box::new(hook));
        self
    }

    /// The authorities to trust in place of the system's: the text of their certificates (PEM).
    #[cfg(feature = "tls")]
    pub fn trust(mut self, certificates: impl Into<Vec<u8>>) -> Options {
        self.trust = crate::tls::Trust::Authorities(certificates.into());
        self
    }

    /// The configuration of TLS in full.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, config: std::sync::Arc<rustls::ClientConfig>) -> Options {
        self.trust = crate::tls::Trust::Configured(config);
        self
    }

    /// Connects, and waits until that is done. While the server cannot be reached it tries again,
    /// unless the client is not to [`reconnect`](Options::reconnect).
    pub fn connect(self) -> Result<crate::Client> {
        let client = self.start()?;
        client.wait_connected()?;
        Ok(client)
    }

    /// Makes a client that connects, and does not wait.
    pub fn start(self) -> Result<crate::Client> {
        crate::Client::start(self)
    }

    pub(crate) fn address(&self) -> Result<Address> {
        let address = Address::parse(&self.address)?;
        if address.secure && !cfg!(feature = "tls") {
            let text = "for wss:// this program needs the feature tls of the crate kps";
            return Err(kps_core::Error::InvalidArgument(text.to_owned()));
        }
        Ok(address)
    }

    pub(crate) fn session(&mut self) -> Result<Session> {
        self.token.as_deref().map_or(Ok(()), check_token)?;
        let id = self.id.take().unwrap_or_else(random_id);
        let mut options = CoreOptions::new(self.address()?, id);
        options.level = self.level;
        options.headers = std::mem::take(&mut self.headers);
        options.reconnect = self.reconnect;
        options.renews_token = self.tokens.is_some() && self.token.is_none();
        options.offline = self.offline;
        options.request_timeout = self.request_timeout;
        options.limits = self.limits.clone();
        Session::new(options, entropy())
    }
}
