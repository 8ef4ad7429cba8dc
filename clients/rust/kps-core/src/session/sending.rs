//! Messages that need no answer: publications, direct messages, and acks.

use std::time::Duration;

use super::Session;
use crate::error::{Error, Result};
use crate::fields::Object;
use crate::inbox::Settled;
use crate::json::Json;
use crate::link::Link;
use crate::message::{Headers, write_headers};
use crate::wire::Kind;

/// Characters of an error text that a publisher gets.
const LONGEST_ERROR: usize = 1000;

impl Session {
    /// Sends a message of the program, or keeps it for the next connection.
    pub(super) fn send_or_keep(
        &mut self,
        action: &str,
        field: &str,
        target: &str,
        data: &Json,
        headers: &Headers,
    ) -> Result<()> {
        self.require_life()?;
        if let Some(link) = self.link.as_mut().filter(|link| link.registered) {
            if !headers.is_empty() {
                link.require("headers")?;
            }
            let message = link.message(action).text(field, target).json("data", data);
            let message = write_headers(message, headers).done();
            return link.send_checked(message, Kind::Publication);
        }
        if !self.offline.is_wanted() {
            return Err(Error::NotConnected);
        }
        // Servers of each level understand it so.
        let message = Object::action(action).text("from", &self.id).text(field, target);
        let message = write_headers(message.json("data", data), headers).done();
        match self.offline.keep(message) {
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
