//! The program of one vector.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use kps::{Ack, Client, Error, Headers, Message, Messages, Reply, Result};
use serde_json::{Value, json};

use crate::spelling::*;

/// Ends a subscription of a vector.
type Leave = Box<dyn FnOnce() + Send>;

pub struct Program {
    teller: Teller,
    options: Option<kps::Options>,
    reports_direct: bool,
    client: Option<Client>,
    subscriptions: HashMap<String, Leave>,
    answers: HashMap<String, Sender<Value>>,
    acks: HashMap<String, Arc<Ack>>,
}

impl Program {
    pub fn new(url: &Value, options: &Value) -> Program {
        let teller = Teller::default();
        let tell = teller.clone();
        Program {
            options: Some(options_in(url, options).on_event(move |event| tell.event(event))),
            reports_direct: options["reports_direct"] == true,
            teller,
            client: None,
            subscriptions: HashMap::new(),
            answers: HashMap::new(),
            acks: HashMap::new(),
        }
    }

    /// Closes the client without a word.
    pub fn end(self) {
        self.teller.end();
        drop(self.answers);
        if let Some(client) = self.client {
            client.close_within(std::time::Duration::from_millis(100));
        }
    }

    /// Begins a step.
    pub fn begin(&mut self, step: Value) {
        let name = step.get("as").unwrap_or(&step["do"]).clone();
        if let Err(error) = self.carry_out(&name, step) {
            self.teller.failed(&name, &error);
        }
    }

    fn carry_out(&mut self, name: &Value, step: Value) -> Result<()> {
        let (teller, name) = (self.teller.clone(), name.clone());
        if step["do"] == "connect" {
            return self.connect();
        }
        let client = self.client.clone().ok_or(Error::NotConnected)?;
        let (topic, to, data) = (text(&step, "topic"), text(&step, "to"), &step["data"]);
        let headers: Headers = headers_in(&step);
        match step["do"].as_str().unwrap_or_default() {
            "close" => client.close(),
            "subscribe" => self.subscribe(client, name, step)?,
            "answer" => {
                if let Some(answers) = self.answers.get(&text(&step, "as")) {
                    let _ = answers.send(step);
                }
            }
            "unsubscribe" => {
                if let Some(leave) = self.subscriptions.remove(&text(&step, "as")) {
                    leave();
                }
            }
            "publish" => client.publish_with_headers(&topic, data, &headers)?,
            "publish_to_id" => client.publish_to_id_with_headers(&to, data, &headers)?,
            "publish_with_ack" => {
                let ack = Arc::new(match to.is_empty() {
                    true => client.publish_with_ack(&topic, data, &ask_in(&step))?,
                    false => client.publish_to_id_with_ack(&to, data, &ask_in(&step))?,
                });
                self.acks.insert(text(&step, "as"), ack.clone());
                thread::spawn(move || gather(&teller, &name, &ack));
            }
            "cancel" => self.acks[&text(&step, "as")].cancel(),
            "status" => {
                let ack = self.acks[&text(&step, "of")].clone();
                match ack.ask_status()? {
                    Some(asked) => wait_for(teller, name, || asked.wait().map(|all| json!(all))),
                    None => teller.done(&name, json!(ack.status()?)),
                }
            }
            "publish_with_receipt" => {
                let sent = client.publish_with_receipt(&topic, data, &ask_in(&step))?;
                wait_for(teller, name, || sent.wait().map(|count| json!(count)));
            }
            "request" => {
                let asked = match to.is_empty() {
                    true => client.request(&topic, data, &ask_in(&step))?,
                    false => client.request_to_id(&to, data, &ask_in(&step))?,
                };
                wait_for(teller, name, || asked.wait()?.read());
            }
            "history" => {
                let limit = step["last"].as_u64().unwrap_or(100);
                let asked = client.history(&topic, position_in(&step), limit)?;
                wait_for(teller, name, || asked.wait().map(|past| of_past(&past)));
            }
            "presence" => {
                let asked = client.presence(&topic)?;
                wait_for(teller, name, || asked.wait().map(|presence| of_presence(&presence)));
            }
            "flush" => {
                let asked = client.flush()?;
                wait_for(teller, name, || asked.wait().map(|()| Value::Null));
            }
            _ => teller.failed(&name, &Error::Unsupported("this verb".to_owned())),
        }
        Ok(())
    }

    fn connect(&mut self) -> Result<()> {
        let Some(options) = self.options.take() else {
            return Ok(());
        };
        let client = options.start()?;
        if self.reports_direct {
            let teller = self.teller.clone();
            client.on_direct(move |message| teller.tell("direct", of_direct(&message)))?;
        }
        self.client = Some(client);
        Ok(())
    }

    fn subscribe(&mut self, client: Client, name: Value, step: Value) -> Result<()> {
        let (teller, answer) = (self.teller.clone(), step["answer"].clone());
        let (scope, options) = (scope_in(&step), subscribe_options_in(&step, &self.teller));
        let key = text(&step, "as");
        if answer.get("hold").is_some() {
            let messages = Arc::new(client.messages_with(scope, options)?);
            let (answers, held) = channel();
            self.answers.insert(key.clone(), answers);
            hold(&messages, held, &teller, &name);
            let leave = messages.clone();
            self.subscriptions.insert(key, Box::new(move || leave.unsubscribe()));
            wait_for(teller, name, move || messages.confirmed().map(|()| Value::Null));
            return Ok(());
        }
        let (told, of) = (teller.clone(), name.clone());
        let handle = move |message: Message| {
            tell_message(&told, &of, &message);
            answered(&answer)
        };
        let subscription = client.subscribe_with(scope, options, handle)?;
        let leave = subscription.clone();
        self.subscriptions.insert(key, Box::new(move || leave.unsubscribe()));
        wait_for(teller, name, move || subscription.confirmed().map(|()| Value::Null));
        Ok(())
    }
}

/// Takes one message after the other, and holds each until it is told what becomes of it.
fn hold(messages: &Arc<Messages>, answers: Receiver<Value>, teller: &Teller, name: &Value) {
    let (messages, teller, name) = (messages.clone(), teller.clone(), name.clone());
    thread::spawn(move || {
        while let Some(Ok(message)) = messages.wait() {
            tell_message(&teller, &name, &message);
            match answers.recv() {
                Ok(answer) => answered(&answer).answer(&message),
                Err(_) => return, // the vector is over
            }
        }
    });
}

fn tell_message(teller: &Teller, name: &Value, message: &Message) {
    let mut told = of_message(message);
    told["as"] = name.clone();
    teller.tell("message", told);
}

fn gather(teller: &Teller, name: &Value, ack: &Ack) {
    for outcome in ack.outcomes() {
        match outcome {
            Ok(outcome) => teller.tell("outcome", of_outcome(name, &outcome)),
            Err(error) => return teller.failed(name, &error),
        }
    }
    teller.done(name, Value::Null);
}

/// Does in a thread what waits for the server.
fn wait_for(teller: Teller, name: Value, act: impl FnOnce() -> Result<Value> + Send + 'static) {
    thread::spawn(move || match act() {
        Ok(result) => teller.done(&name, result),
        Err(error) => teller.failed(&name, &error),
    });
}
