//! Messages of the past that a program has asked for, page by page (spec, 15.6).

use crate::fields::Fields;
use crate::message::{Message, Past, Position, read_headers};
use crate::standings::read_epoch;

/// What has come so far.
pub struct Pages {
    pub topic: String,
    limit: u64,
    past: Past,
    /// The number in the name of the latest question: each page has another one.
    pub page: u64,
}

impl Pages {
    pub fn new(topic: &str, since: &Option<Position>, limit: u64, page: u64) -> Pages {
        let position = since.clone().unwrap_or(Position { epoch: String::new(), offset: 0 });
        let past = Past { messages: Vec::new(), position, complete: true, lost: None };
        Pages { topic: topic.to_owned(), limit, past, page }
    }

    /// Takes a page. Returns where to go on, and how many messages are still wanted, if there are more.
    pub fn take(&mut self, fields: &Fields) -> Option<(Position, u64)> {
        let past = &mut self.past;
        let epoch = read_epoch(fields);
        if !past.messages.is_empty() && epoch != past.position.epoch {
            // They were forgotten meanwhile, and what comes now is something else.
            (past.complete, past.lost) = (false, None);
            return None;
        }
        if fields.boolean("recovered") == Some(false) {
            past.lost = fields.number("lost").filter(|_| past.complete);
            past.complete = false;
        }
        let offset = fields.number("offset").unwrap_or_default();
        past.position = Position { epoch, offset };
        let before = past.messages.len();
        for one in fields.objects("messages") {
            let Some(offset) = one.number("offset").filter(|offset| *offset > 0) else {
                continue;
            };
            past.position.offset = offset;
            past.messages.push(Message {
                topic: self.topic.clone(),
                data: one.payload("data"),
                from: one.text("from"),
                headers: read_headers(&one),
                position: Some(past.position.clone()),
                attempt: 1,
                ack: None,
            });
        }
        let came = (past.messages.len() - before) as u64;
        let missing = self.limit.saturating_sub(past.messages.len() as u64);
        let is_more = came > 0 && missing > 0 && came < fields.number("coming").unwrap_or_default();
        is_more.then(|| (past.position.clone(), missing))
    }

    /// What has come.
    pub fn past(&self) -> Past {
        self.past.clone()
    }
}
