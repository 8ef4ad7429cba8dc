//! The task that connects, reads, writes and keeps the time.

use std::future::pending;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kps_core::{Address, Transport as Wish};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep_until, timeout};

use super::inner::Inner;
use crate::options::Tokens;
use crate::shared::HIGH_WATER;
use crate::transport::Trust;

const CHUNK: usize = 64 * 1024;

pub(super) struct Task {
    pub inner: Arc<Inner>,
    pub address: Address,
    pub tokens: Option<Tokens>,
    pub timeout: Duration,
    pub trust: Trust,
}

impl Task {
    pub async fn run(mut self) {
        let inner = self.inner.clone();
        tokio::select! {
            () = self.connect_again_and_again() => (),
            () = inner.ended() => (),
        }
    }

    async fn connect_again_and_again(&mut self) {
        loop {
            connect_is_needed(&self.inner).await;
            let token = match self.tokens.as_mut().map(|give| give()).transpose() {
                Ok(token) => token,
                Err(fault) => {
                    self.failed(format!("there is no token: {fault}"));
                    continue;
                }
            };
            let host = (self.address.host.as_str(), self.address.port);
            let opened = tokio::select! {
                opened = timeout(self.timeout, TcpStream::connect(host)) => opened,
                never = keep_time(&self.inner) => never,
            };
            match opened {
                Ok(Ok(tcp)) => match Wire::new(tcp, &self.address, &self.trust) {
                    Ok(wire) => {
                        serve(&self.inner, wire, token).await;
                        self.inner.change();
                    }
                    Err(fault) => self.failed(fault),
                },
                Ok(Err(error)) => self.failed(format!("{}: {error}", self.address.authority())),
                Err(_) => {
                    self.failed(format!("{} does not answer in time", self.address.authority()))
                }
            }
        }
    }

    fn failed(&self, fault: String) {
        self.inner.call(|engine| {
            let now = engine.now();
            engine.session.connect_failed(fault, now);
        });
    }
}

async fn connect_is_needed(inner: &Inner) {
    loop {
        if std::mem::take(&mut inner.lock().connect_needed) {
            return;
        }
        tick(inner).await;
    }
}

async fn keep_time<T>(inner: &Inner) -> T {
    loop {
        tick(inner).await;
    }
}

/// Waits for the bell, or the next deadline; does what is due.
async fn tick(inner: &Inner) {
    let deadline = inner.lock().deadline();
    tokio::select! {
        () = inner.bell.notified() => (),
        () = at(deadline) => (),
    }
    do_what_is_due(inner);
}

async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline.into()).await,
        None => pending().await,
    }
}

fn do_what_is_due(inner: &Inner) {
    let is_due = inner.lock().deadline().is_some_and(|deadline| Instant::now() >= deadline);
    if is_due {
        inner.call(|engine| {
            let now = engine.now();
            engine.session.handle_timeout(now);
        });
    }
}

/// What a connection has to do next.
struct Plan {
    wish: Wish,
    reads: bool,
    deadline: Option<Instant>,
}

/// Serves one connection until it has ended.
async fn serve(inner: &Inner, mut wire: Wire, token: Option<String>) {
    inner.call(|engine| {
        let now = engine.now();
        engine.session.connected(token.as_deref(), now);
    });
    let (mut buffer, mut out, mut written) = (vec![0; CHUNK], Vec::new(), 0);
    let (mut is_finished, mut is_reading) = (false, true);
    let fault = loop {
        do_what_is_due(inner);
        if written == out.len() {
            (out, written) = (wire.encode(take_data(inner)), 0);
        }
        let plan = plan(inner, &mut is_reading);
        if plan.wish == Wish::Abort {
            break String::new();
        }
        if plan.wish == Wish::Close && out.is_empty() && !is_finished {
            is_finished = true;
            out = wire.finish();
            if out.is_empty() {
                let _ = wire.tcp.shutdown().await;
            }
        }
        let (mut reader, mut writer) = wire.tcp.split();
        tokio::select! {
            count = reader.read(&mut buffer), if plan.reads => match count {
                Ok(0) => break "the server has ended the connection".to_owned(),
                Ok(count) => match wire.decode(&buffer[..count]) {
                    Ok(data) => inner.call(|engine| {
                        let now = engine.now();
                        engine.session.receive(&data, now);
                    }),
                    Err(fault) => break fault,
                },
                Err(error) => break error.to_string(),
            },
            count = writer.write(&out[written..]), if written < out.len() => match count {
                Ok(count) => written += count,
                Err(error) => break error.to_string(),
            },
            () = inner.bell.notified() => (),
            () = at(plan.deadline) => (),
        }
    };
    inner.call(|engine| {
        let now = engine.now();
        engine.session.disconnected(&fault, now);
    });
}

fn take_data(inner: &Inner) -> Vec<u8> {
    let mut engine = inner.lock();
    let now = engine.now();
    let (before, mut data) = (engine.session.backlog(), Vec::new());
    engine.session.data_to_send(&mut data, CHUNK, now);
    let has_room_again = before > HIGH_WATER && engine.session.backlog() <= HIGH_WATER;
    drop(engine);
    if has_room_again {
        inner.change();
    }
    data
}

fn plan(inner: &Inner, is_reading: &mut bool) -> Plan {
    let mut engine = inner.lock();
    let reads = !engine.session.wants_pause();
    if reads != *is_reading {
        let now = engine.now();
        engine.session.set_reading(reads, now);
        *is_reading = reads;
    }
    Plan { wish: engine.session.transport(), reads, deadline: engine.deadline() }
}

/// A TCP connection, with TLS or without.
struct Wire {
    tcp: TcpStream,
    #[cfg(feature = "tls")]
    tls: Option<crate::tls::Tls>,
}

impl Wire {
    fn new(tcp: TcpStream, address: &Address, trust: &Trust) -> Result<Wire, String> {
        tcp.set_nodelay(true).map_err(|error| error.to_string())?;
        #[cfg(feature = "tls")]
        let tls = match address.secure {
            true => Some(crate::tls::Tls::new(trust, &address.host)?),
            false => None,
        };
        #[cfg(not(feature = "tls"))]
        let _ = (address, trust);
        Ok(Wire {
            tcp,
            #[cfg(feature = "tls")]
            tls,
        })
    }
}

#[cfg(feature = "tls")]
impl Wire {
    fn encode(&mut self, data: Vec<u8>) -> Vec<u8> {
        match &mut self.tls {
            Some(tls) => tls.outgoing(&data),
            None => data,
        }
    }

    fn decode<'d>(&mut self, data: &'d [u8]) -> Result<std::borrow::Cow<'d, [u8]>, String> {
        match &mut self.tls {
            Some(tls) => tls.incoming(data).map(Into::into),
            None => Ok(data.into()),
        }
    }

    fn finish(&mut self) -> Vec<u8> {
        self.tls.as_mut().map(crate::tls::Tls::finish).unwrap_or_default()
    }
}

#[cfg(not(feature = "tls"))]
impl Wire {
    fn encode(&mut self, data: Vec<u8>) -> Vec<u8> {
        data
    }

    fn decode<'d>(&mut self, data: &'d [u8]) -> Result<std::borrow::Cow<'d, [u8]>, String> {
        Ok(data.into())
    }

    fn finish(&mut self) -> Vec<u8> {
        Vec::new()
    }
}
