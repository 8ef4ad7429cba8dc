//! The thread that runs the callbacks of a client, one after the other, in the order in which what they
//! are for has come. It starts with the first of them.

use std::cell::Cell;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::null;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;

use kps_core::{Result, SubscriptionId};

use crate::engine::{Settle, Teller, Word};
use crate::event::Event;
use crate::message::Message;
use crate::options::Hook;
use crate::queue::{Popped, Queue};
use crate::shared::{Shared, spawn};
use crate::slot::Slot;
use crate::subscription::Observer;

/// Events that may wait for the program.
const MOST_EVENTS: usize = 10_000;

pub(crate) type Callback = Box<dyn FnMut(Message) + Send>;

enum Task {
    Event(Event),
    Message(SubscriptionId),
    Presence(SubscriptionId),
    Add(SubscriptionId, Callback, Option<Observer>),
    Remove(SubscriptionId),
}

thread_local! {
    /// The tasks of the client whose callbacks this thread runs.
    static SERVES: Cell<*const ()> = const { Cell::new(null()) };
}

pub(crate) struct Callbacks {
    tasks: Arc<Queue<Task>>,
    has_hook: bool,
    /// The hook for events, until the thread has it.
    hook: Mutex<Option<Hook>>,
    has_started: AtomicBool,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Callbacks {
    pub fn new(hook: Option<Hook>) -> Callbacks {
        Callbacks {
            tasks: Arc::new(Queue::new()),
            has_hook: hook.is_some(),
            hook: Mutex::new(hook),
            has_started: AtomicBool::new(false),
            thread: Mutex::new(None),
        }
    }

    /// What passes events on to the thread.
    pub fn notify(&self) -> Teller<Event> {
        let (tasks, has_hook) = (self.tasks.clone(), self.has_hook);
        Box::new(move |event| {
            let is_last = matches!(event, Event::Closed(_));
            if has_hook && (is_last || tasks.len() < MOST_EVENTS) {
                tasks.push(Task::Event(event));
            }
            if is_last {
                tasks.close();
            }
        })
    }

    /// What passes the messages of a subscription on to the thread.
    pub fn on_word(
        &self,
        id: Arc<OnceLock<SubscriptionId>>,
        in_force: Arc<Slot<Result<()>>>,
    ) -> Teller<Word> {
        let tasks = self.tasks.clone();
        Box::new(move |word| {
            let task = match (&word, id.get()) {
                (Word::Arrived, Some(id)) => Some(Task::Message(*id)),
                (Word::PresenceChanged, Some(id)) => Some(Task::Presence(*id)),
                (Word::Ended(_) | Word::InForce(Err(_)), Some(id)) => Some(Task::Remove(*id)),
                _ => None,
            };
            if let Word::InForce(result) = word {
                in_force.set(result);
            }
            if let Some(task) = task {
                tasks.push(task);
            }
        })
    }

    /// Lets a callback handle the messages of a subscription. `start` follows.
    pub fn push(&self, id: SubscriptionId, callback: Callback, observer: Option<Observer>) {
        self.tasks.push(Task::Add(id, callback, observer));
    }

    pub fn remove(&self, id: SubscriptionId) {
        self.tasks.push(Task::Remove(id));
    }

    pub fn start_for_events(&self, shared: &Arc<Shared>) {
        if self.has_hook {
            self.start(shared);
        }
    }

    /// Whether a callback is what asks.
    pub fn is_this_thread(&self) -> bool {
        SERVES.get() == Arc::as_ptr(&self.tasks).cast()
    }

    /// Waits until no callback runs any more, once the client has ended. Not from one of them.
    pub fn join(&self) {
        if self.is_this_thread() {
            return;
        }
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(thread) = thread.take() {
            let _ = thread.join();
        }
    }

    /// Starts the thread, unless it runs.
    pub fn start(&self, shared: &Arc<Shared>) {
        if self.has_started.swap(true, Ordering::SeqCst) {
            return;
        }
        let hook = self.hook.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (tasks, shared) = (self.tasks.clone(), shared.clone());
        let thread = spawn("kps-callbacks", move || {
            SERVES.set(Arc::as_ptr(&tasks).cast());
            run(&tasks, hook, shared);
        });
        *self.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
    }
}

fn run(tasks: &Queue<Task>, mut hook: Option<Hook>, shared: Arc<Shared>) {
    let settle: Arc<dyn Settle> = shared.clone();
    let mut callbacks: HashMap<SubscriptionId, (Callback, Option<Observer>)> = HashMap::new();
    while let Popped::Item(task) = tasks.pop(None) {
        match task {
            Task::Event(event) => {
                if let Some(hook) = &mut hook {
                    let _ = catch_unwind(AssertUnwindSafe(|| hook(event)));
                }
            }
            Task::Message(id) => {
                let Some((callback, _)) = callbacks.get_mut(&id) else {
                    continue;
                };
                if let Some(message) = shared.call(|engine| engine.session.take(id)) {
                    let message = Message::new(message, &settle);
                    // A panic is told to standard error by the runtime, and to the publisher.
                    let _ = catch_unwind(AssertUnwindSafe(|| callback(message)));
                }
            }
            Task::Presence(id) => {
                if let Some((_, Some(observer))) = callbacks.get_mut(&id) {
                    if let Some(presence) = shared.call(|engine| engine.session.take_presence(id)) {
                        let _ = catch_unwind(AssertUnwindSafe(|| observer.tell(presence)));
                    }
                }
            }
            Task::Add(id, callback, observer) => {
                callbacks.insert(id, (callback, observer));
            }
            Task::Remove(id) => {
                callbacks.remove(&id);
                shared.call(|engine| engine.unsubscribe(id)); // if the server has ended it
            }
        }
    }
}
