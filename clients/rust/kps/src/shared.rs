//! What the threads of a blocking client share, and what two of them do: one connects and reads, one
//! writes and keeps the time.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use kps_core::{AckToken, Address, Json, Transport as Wish};

use crate::callbacks::Callbacks;
use crate::engine::{Engine, Settle};
use crate::options::{Options, Tokens};
use crate::transport::{Transport, Trust};

/// Bytes that wait above which `publish` waits too.
pub(crate) const HIGH_WATER: usize = 128 * 1024;

/// Bytes that are written at a time.
const CHUNK: usize = 64 * 1024;

/// The heart of a client.
pub(crate) struct Shared {
    state: Mutex<State>,
    to_writer: Condvar,
    to_reader: Condvar,
    /// The client is connected, or is not any more, or has room for more to send.
    changed: Condvar,
    pub callbacks: Callbacks,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

pub(crate) struct State {
    pub engine: Engine,
    transport: Option<Arc<Transport>>,
    /// Whether the sending side has ended.
    is_finished: bool,
    /// Until when the writer waits; `None`: until it is told.
    writer_waits_until: Option<Instant>,
    /// Whether the reader waits to be told to read on.
    is_paused: bool,
    /// Whether the reader calls the program for a token, or waits for the network to connect it.
    is_connecting: bool,
    /// Whether all is written, and the writer has come to its end.
    is_over: bool,
}

impl Shared {
    pub fn start(mut options: Options) -> kps_core::Result<Arc<Shared>> {
        let address = options.address()?;
        let session = options.session()?;
        let callbacks = Callbacks::new(options.on_event.take());
        let engine = Engine::new(session, callbacks.notify());
        let state = State {
            engine,
            transport: None,
            is_finished: false,
            writer_waits_until: None,
            is_paused: false,
            is_connecting: false,
            is_over: false,
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            to_writer: Condvar::new(),
            to_reader: Condvar::new(),
            changed: Condvar::new(),
            callbacks,
            threads: Mutex::default(),
        });
        shared.callbacks.start_for_events(&shared);
        shared.call(|_| ()); // it asks for a transport
        let reader = Reader {
            shared: shared.clone(),
            address,
            tokens: options.tokens.take(),
            timeout: options.connect_timeout,
            #[cfg(feature = "tls")]
            trust: std::mem::take(&mut options.trust),
            #[cfg(not(feature = "tls"))]
            trust: (),
        };
        let writer = shared.clone();
        let threads =
            [spawn("kps-reader", || reader.run()), spawn("kps-writer", move || writer.write())];
        shared.threads.lock().unwrap_or_else(PoisonError::into_inner).extend(threads);
        Ok(shared)
    }

    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something with the session, and passes on what it leads to.
    pub fn call<R>(&self, act: impl FnOnce(&mut Engine) -> R) -> R {
        let mut state = self.lock();
        let before = state.engine.changes;
        let result = act(&mut state.engine);
        state.engine.step();
        self.wake(&state, before);
        result
    }

    /// Waits until the connection is closed and the threads have ended, once the session is closing. A
    /// reader that is just connecting is left to itself.
    pub fn wait_until_over(&self) {
        let is_connecting = self.wait_until(|state| state.is_over).is_connecting;
        let threads =
            std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads.into_iter().skip(usize::from(is_connecting)) {
            let _ = thread.join();
        }
    }

    /// Waits until a condition holds.
    pub fn wait_until(
        &self,
        mut condition: impl FnMut(&mut State) -> bool,
    ) -> MutexGuard<'_, State> {
        let mut state = self.lock();
        while !condition(&mut state) {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state
    }

    /// Wakes the threads for which there is something to do.
    fn wake(&self, state: &State, before: u64) {
        let engine = &state.engine;
        let session = &engine.session;
        let is_due = match (engine.deadline(), state.writer_waits_until) {
            (Some(deadline), Some(until)) => deadline < until,
            (deadline, _) => deadline.is_some(),
        };
        if is_due || session.has_data_to_send() || session.transport() != Wish::Keep {
            self.to_writer.notify_one();
        }
        let may_read = state.is_paused && !session.wants_pause();
        if may_read || engine.connect_needed || session.ended().is_some() {
            self.to_reader.notify_one();
        }
        if engine.changes != before {
            self.changed.notify_all();
        }
    }

    // -- the thread that writes

    fn write(&self) {
        let mut state = self.lock();
        loop {
            self.tick(&mut state);
            if let Some(transport) = state.transport.clone() {
                let now = state.engine.now();
                let mut out = Vec::new();
                state.engine.session.data_to_send(&mut out, CHUNK, now);
                if !out.is_empty() || transport.wants_write() {
                    if state.engine.session.backlog() <= HIGH_WATER {
                        self.changed.notify_all();
                    }
                    drop(state);
                    self.write_all(&transport, out);
                    state = self.lock();
                    continue;
                }
                if state.engine.session.transport() == Wish::Close && !state.is_finished {
                    state.is_finished = true;
                    transport.finish();
                }
            } else if state.engine.session.ended().is_some() {
                state.is_over = true;
                self.changed.notify_all();
                return;
            }
            let until = state.engine.deadline();
            state.writer_waits_until = until;
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            let left = left.unwrap_or(Duration::from_secs(3600));
            let waited = self.to_writer.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Does what is due, and drops a transport that is to be dropped.
    fn tick(&self, state: &mut State) {
        let before = state.engine.changes;
        if state.engine.deadline().is_some_and(|deadline| Instant::now() >= deadline) {
            let now = state.engine.now();
            state.engine.session.handle_timeout(now);
            state.engine.step();
            self.wake(state, before);
        }
        if state.engine.session.transport() == Wish::Abort {
            if let Some(transport) = state.transport.take() {
                transport.abort(); // which wakes the reader
            }
        }
    }

    fn write_all(&self, transport: &Transport, plain: Vec<u8>) {
        let data = transport.encode(plain);
        let mut rest = &data[..];
        while !rest.is_empty() {
            match transport.write(rest) {
                Ok(0) => {
                    let mut state = self.lock();
                    self.tick(&mut state);
                    if state.transport.is_none() {
                        return;
                    }
                }
                Ok(count) => rest = &rest[count..],
                Err(_) => return transport.abort(),
            }
        }
    }
}

impl Settle for Shared {
    fn settle(&self, token: AckToken, result: Result<Option<Json>, String>) {
        self.call(|engine| {
            let now = engine.now();
            engine.session.settle(token, result, now);
        });
    }
}

/// The thread that connects and reads.
struct Reader {
    shared: Arc<Shared>,
    address: Address,
    tokens: Option<Tokens>,
    timeout: Duration,
    trust: Trust,
}

impl Reader {
    fn run(mut self) {
        while self.connect_is_needed() {
            let token = match self.tokens.as_mut().map(|give| give()).transpose() {
                Ok(token) => token,
                Err(fault) => {
                    self.failed(format!("there is no token: {fault}"));
                    continue;
                }
            };
            match Transport::open(&self.address, &self.trust, self.timeout) {
                Ok(transport) => self.read(Arc::new(transport), token),
                Err(fault) => self.failed(format!("{}: {fault}", self.address.authority())),
            }
        }
    }

    /// Waits until the session asks for a transport; tells whether it ever will.
    fn connect_is_needed(&self) -> bool {
        let mut state = self.shared.lock();
        loop {
            state.is_connecting = false;
            if state.engine.session.ended().is_some() {
                return false;
            }
            if std::mem::take(&mut state.engine.connect_needed) {
                state.is_connecting = true;
                return true;
            }
            state = self.shared.to_reader.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn failed(&self, fault: String) {
        self.shared.call(|engine| {
            let now = engine.now();
            engine.session.connect_failed(fault, now);
        });
    }

    /// Serves one connection until it has ended.
    fn read(&self, transport: Arc<Transport>, token: Option<String>) {
        let shared = &self.shared;
        {
            let mut state = shared.lock();
            state.is_connecting = false;
            let now = state.engine.now();
            state.engine.session.connected(token.as_deref(), now);
            state.engine.step();
            if state.engine.session.ended().is_some() {
                return; // the program has closed the client meanwhile
            }
            state.transport = Some(transport.clone());
            state.is_finished = false;
            shared.to_writer.notify_one();
        }
        let mut buffer = Vec::new();
        let fault = loop {
            self.wait_until_reading_is_wanted();
            let data = match transport.read(&mut buffer) {
                Ok(data) => data,
                Err(fault) => break fault,
            };
            shared.call(|engine| {
                let now = engine.now();
                engine.session.receive(data, now);
            });
            if transport.wants_write() {
                let _writer_waits_or_will_see_it = shared.lock();
                shared.to_writer.notify_one();
            }
        };
        {
            let mut state = shared.lock();
            state.transport = None;
            let before = state.engine.changes;
            let now = state.engine.now();
            state.engine.session.disconnected(&fault, now);
            state.engine.step();
            shared.wake(&state, before);
        }
        shared.to_writer.notify_one();
    }

    fn wait_until_reading_is_wanted(&self) {
        let mut state = self.shared.lock();
        while state.engine.session.wants_pause() && state.transport.is_some() {
            let now = state.engine.now();
            state.engine.session.set_reading(false, now);
            state.is_paused = true;
            state = self.shared.to_reader.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if std::mem::take(&mut state.is_paused) {
            let now = state.engine.now();
            state.engine.session.set_reading(true, now);
        }
    }
}

pub(crate) fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    let spawned = thread::Builder::new().name(name.to_owned()).spawn(run);
    spawned.expect("the system has room for a thread")
}
