//! Messages that ask the server for an answer, which repeats the name that is in them.

use crate::fields::Object;
use crate::json::Json;
use crate::link::Link;
use crate::message::{Ask, Position, Target, write_headers};

/// A message that asks for an answer.
#[derive(Clone)]
pub enum Asked {
    Ack { target: Target, data: Json, ask: Ask },
    Publication { topic: String, data: Json, ask: Ask },
}

impl Asked {
    /// Writes it. `seconds` is the time that receivers have, `repeat_until` the time of the server
    /// past which it does not handle what it does not remember.
    pub fn written(
        &self,
        id: u64,
        link: &Link,
        seconds: f64,
        repeat_until: Option<f64>,
    ) -> Vec<u8> {
        match self {
            Asked::Publication { topic, data, ask } => {
                let message = link.message("publish").text("topic", topic).json("data", data);
                match link.level_2 {
                    true => with_ids(
                        message.text("receipt", &name_of("receipt", id)),
                        ask,
                        repeat_until,
                    ),
                    false => message.done(),
                }
            }
            Asked::Ack { target, data, ask } => {
                let message = match target {
                    Target::Topic(topic) => link.message("publish_with_ack").text("topic", topic),
                    Target::Id(to) => link.message("publish_to_id_with_ack").text("to", to),
                };
                let message = message.json("data", data).text("ack_id", &name_of("ack", id));
                let message = message.number("timeout", seconds);
                if !link.level_2 {
                    return message.done();
                }
                let message = message.boolean("updates", true);
                let message = match target {
                    Target::Topic(_) => with_demands(message, ask),
                    Target::Id(_) => message,
                };
                with_ids(message, ask, repeat_until)
            }
        }
    }
}

fn with_ids(message: Object, ask: &Ask, repeat_until: Option<f64>) -> Vec<u8> {
    let message = write_headers(message, &ask.headers).text_if("message_id", &ask.message_id);
    match repeat_until {
        Some(time) => message.number("repeat_until", time).done(),
        None => message.done(),
    }
}

fn with_demands(message: Object, ask: &Ask) -> Object {
    let message = message.text_if("key", &ask.key);
    let message = if ask.retry > 0 { message.number("retry", ask.retry) } else { message };
    if ask.expect.is_empty() && ask.expect_groups.is_empty() {
        return message;
    }
    let ids = ask.expect.iter().filter_map(|id| serde_json::to_string(id).ok());
    let groups = ask.expect_groups.iter().map(|group| Object::new().text("group", group).done());
    let groups = groups.map(|group| String::from_utf8_lossy(&group).into_owned());
    let expected: Vec<String> = ids.chain(groups).collect();
    message.raw("expect", format!("[{}]", expected.join(",")).as_bytes())
}

/// Asks for something whose answer repeats a name, and comes when all before it is handled. On level
/// 1 servers repeat the id of an ack request only, even of one that they do not know.
pub fn barrier(link: &Link, name: &str) -> Object {
    match link.level_2 {
        true => link.message("ping").text("from", &link.id).text("nonce", name),
        false => link.message("get_ack_status").text("ack_id", name),
    }
}

/// Asks for messages of the past.
pub fn ask_history(id: u64, topic: &str, since: &Option<Position>, last: u64) -> Vec<u8> {
    let message =
        Object::action("history").text("topic", topic).text("nonce", &name_of("history", id));
    let message = message.number("last", last);
    match since {
        Some(position) => message.object("since", position.written()).done(),
        None => message.done(),
    }
}

/// Asks for the members of a topic.
pub fn ask_presence(id: u64, topic: &str) -> Vec<u8> {
    Object::action("presence").text("topic", topic).text("nonce", &name_of("presence", id)).done()
}

/// The name of a question.
pub fn name_of(kind: &str, id: u64) -> String {
    format!("{kind}_{id}")
}

/// The number in the name of a question of that kind.
pub fn id_in(kind: &str, name: &str) -> Option<u64> {
    name.strip_prefix(kind)?.strip_prefix('_')?.parse().ok()
}
