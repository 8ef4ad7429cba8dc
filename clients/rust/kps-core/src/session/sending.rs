//! Messages that need no answer: publications, direct messages, and acks.

use std::time::Duration;

use super::Session;
use crate::error::{Error, Result};
use crate::fields::Object;
use crate::inbox::Settled;
use crate::json::Json;
use crate::key::check_text;
use crate::link::Link;
use crate::message::{Headers, write_headers};
use crate::wire::Kind;

/// Characters of an error text that a publisher gets.
const LONGEST_ERROR: usize = 1000;

impl Session {
    /// Publishes. Without a connection the message is kept, if the options say so.
    pub fn publish(&mut self, topic: &str, data: &Json, headers: &Headers) -> Result<()> {
        check_text("a topic", topic)?;
        self.send_or_keep("publish", headers, |message| message.text("topic", topic), data)
    }

    /// Sends a direct message. If nobody has the id, [`Event::Error`](crate::Event::Error) tells it.
    pub fn publish_to_id(&mut self, id: &str, data: &Json, headers: &Headers) -> Result<()> {
        check_text("an id", id)?;
        self.send_or_keep("direct_message", headers, |message| message.text("to", id), data)
    }

    /// Has the server send a message to another server, with TLS if it is to be `secure`. An address is
    /// `host:port`, maybe with a path, and maybe with `::` and the address of a server behind that one.
    /// If it fails, [`Event::Error`](crate::Event::Error) tells it.
    pub fn publish_to_server(&mut self, address: &str, data: &Json, secure: bool) -> Result<()> {
        check_text("an address", address)?;
        let status = || Object::new().boolean("is_secure", secure);
        let to = |message: Object| message.text("to", address).object("status", status());
        self.send_or_keep("publish_to_server", &Headers::new(), to, data)
    }

    /// Sends a message of the program, or keeps it for the next connection.
    fn send_or_keep(
        &mut self,
        action: &str,
        headers: &Headers,
        to: impl Fn(Object) -> Object,
        data: &Json,
    ) -> Result<()> {
        self.require_life()?;
        let write = |message| write_headers(to(message), headers).json("data", data).done();
        if let Some(link) = self.link.as_mut().filter(|link| link.registered) {
            if !headers.is_empty() {
                link.require("headers")?;
            }
            let message = write(link.message(action));
            let kind = match action {
                "publish" => Kind::Batched { payload: message.len() - 1 - data.as_str().len() },
                _ => Kind::Publication,
            };
            return link.send_checked(message, kind);
        }
        if !self.offline.is_wanted() {
            return Err(Error::NotConnected);
        }
        // Servers of each level understand it so.
        match self.offline.keep(write(Object::action(action).text("from", &self.id))) {
            true => Ok(()),
            false => Err(Error::QueueFull("not connected, and too much is kept already")),
        }
    }

    /// Sends an ack, unless the connection of its message has ended.
    pub(super) fn answer(&mut self, settled: Settled, now: Duration) {
        let epoch = self.epoch;
        let Some(link) =
            self.link.as_mut().filter(|link| link.registered && settled.epoch == epoch)
        else {
            return;
        };
        let mut message = ack(link, &settled);
        if let (Err(error), true) = (link.check_size(&message), settled.result.is_ok()) {
            let result = Err(format!("the result of the callback cannot be sent: {error}"));
            message = ack(link, &Settled { result, begun: true, ..settled });
        }
        link.send_raw(message, now);
    }
}

fn ack(link: &Link, settled: &Settled) -> Vec<u8> {
    let Settled { ack_id, result, begun, .. } = settled;
    let message = link.message("ack").text("ack_id", ack_id);
    let error =
        result.as_ref().err().map(|error| error.chars().take(LONGEST_ERROR).collect::<String>());
    if !link.level_2 {
        let outcome = Object::new().text("ack_id", ack_id).text("client_id", &link.id);
        let outcome = outcome.boolean("success", error.is_none());
        let outcome = match &error {
            Some(error) => outcome.text("error", error),
            None => outcome,
        };
        return message.object("data", outcome).done();
    }
    let message = message.boolean("success", error.is_none());
    match (error, result) {
        (Some(error), _) if *begun => message.text("error", &error).done(),
        (Some(error), _) => message.text("error", &error).boolean("begun", false).done(),
        (None, Ok(Some(result))) if !result.is_null() => message.json("result", result).done(),
        _ => message.done(),
    }
}
