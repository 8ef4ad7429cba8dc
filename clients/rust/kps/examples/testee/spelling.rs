//! How the programs of vectors are spelled in Rust.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kps::{
    Ask, Backoff, Error, Event, Headers, Json, Message, Observer, Options, Outcome, Past, Position,
    Presence, Scope, SubscribeOptions,
};
use serde_json::{Map, Value, json};

/// The features that the testees know.
pub const NEEDS: [&str; 10] = [
    "level_1",
    "patterns",
    "history",
    "presence",
    "groups",
    "headers",
    "message_ids",
    "tokens",
    "request_tokens",
    "offline",
];

/// Tells the judge what the program is told, until the vector is over.
#[derive(Clone, Default)]
pub struct Teller {
    is_over: Arc<AtomicBool>,
}

impl Teller {
    pub fn tell(&self, what: &str, fields: Value) {
        if self.is_over.load(Ordering::SeqCst) {
            return;
        }
        let mut told = Map::from_iter([("told".to_owned(), json!(what))]);
        if let Value::Object(fields) = fields {
            told.extend(fields);
        }
        println!("{}", Value::Object(told));
    }

    pub fn failed(&self, name: &Value, error: &Error) {
        self.tell("failed", with(json!({"as": name}), of_error(error)));
    }

    pub fn done(&self, name: &Value, result: Value) {
        let mut fields = json!({"as": name});
        put(&mut fields, "result", result);
        self.tell("done", fields);
    }

    /// Tells of each change of the members of a topic.
    pub fn observer(&self, name: &Value) -> Observer {
        let (teller, name) = (self.clone(), name.clone());
        Observer::new(move |presence| {
            let ids = presence.members.as_ref().map(|members| members.keys().collect::<Vec<_>>());
            let told = json!({"as": name, "members": ids, "count": presence.count});
            teller.tell("members", told);
        })
    }

    pub fn event(&self, event: Event) {
        match event {
            Event::Connected { id, .. } => self.tell("connected", json!({"id": id})),
            Event::Disconnected { code, .. } => self.tell("disconnected", json!({"code": code})),
            Event::Recovered { topic, messages } => {
                self.tell("recovered", json!({"topic": topic, "messages": messages}));
            }
            Event::Lost { topic, messages } => {
                self.tell("lost", json!({"topic": topic, "messages": messages}));
            }
            Event::Error(error) => self.tell("error", of_error(&error)),
            Event::Closed(error) => {
                self.tell("ended", error.map_or(json!({}), |error| of_error(&error)));
            }
            _ => (),
        }
    }

    pub fn end(&self) {
        self.is_over.store(true, Ordering::SeqCst);
    }
}

fn put(fields: &mut Value, name: &str, value: Value) {
    if !value.is_null() {
        fields[name] = value;
    }
}

fn with(mut fields: Value, more: Value) -> Value {
    if let (Value::Object(fields), Value::Object(more)) = (&mut fields, more) {
        fields.extend(more);
    }
    fields
}

pub fn of_error(error: &Error) -> Value {
    let mut told = json!({"error": error.kind()});
    match error {
        Error::Server(error) if !error.code.is_empty() => told["code"] = json!(error.code),
        Error::RequestFailed { errors, .. } => told["errors"] = json!(errors),
        _ => (),
    }
    told
}

pub fn of_message(message: &Message) -> Value {
    let mut told = of_direct(message);
    told["topic"] = json!(message.topic);
    put(&mut told, "offset", json!(message.position.as_ref().map(|place| place.offset)));
    put(&mut told, "attempt", json!((message.attempt > 1).then_some(message.attempt)));
    told
}

pub fn of_direct(message: &Message) -> Value {
    let data: Value = message.read().expect("any JSON is a value");
    let mut told = json!({"data": data, "from": message.from});
    if !message.headers.is_empty() {
        told["headers"] =
            Value::Object(message.headers.iter().map(|(n, t)| (n.clone(), json!(t))).collect());
    }
    told
}

pub fn of_outcome(name: &Value, outcome: &Outcome) -> Value {
    let mut told = json!({"as": name, "success": outcome.success});
    put(&mut told, "id", json!(Some(&outcome.client_id).filter(|id| !id.is_empty())));
    put(&mut told, "error", json!(outcome.error));
    put(&mut told, "result", json!(outcome.result));
    if let Some(group) = &outcome.group {
        let (kind, text) = match &group.key.scope {
            Scope::Topic(text) => ("topic", text),
            Scope::Pattern(text) => ("pattern", text),
        };
        told[kind] = json!(text);
        told["group"] = json!(group.key.group);
        told["attempts"] = json!(group.attempts);
        put(&mut told, "failures", json!(Some(&group.failures).filter(|all| !all.is_empty())));
    }
    told
}

pub fn of_past(past: &Past) -> Value {
    let messages: Vec<_> = past.messages.iter().map(|message| &message.data).collect();
    json!({"messages": messages, "complete": past.complete, "lost": past.lost})
}

pub fn of_presence(presence: &Presence) -> Value {
    json!({"members": presence.members, "count": presence.count})
}

// -- what a vector says

/// What a callback returns.
pub fn answered(answer: &Value) -> Result<Value, String> {
    match answer["error"].as_str() {
        Some(error) => Err(error.to_owned()),
        None => Ok(answer["result"].clone()),
    }
}

pub fn text(step: &Value, name: &str) -> String {
    step[name].as_str().unwrap_or_default().to_owned()
}

fn texts(step: &Value, name: &str) -> Vec<String> {
    let texts = step[name].as_array().into_iter().flatten();
    texts.filter_map(|text| text.as_str().map(str::to_owned)).collect()
}

pub fn scope_in(step: &Value) -> Scope {
    match step["pattern"].as_str() {
        Some(pattern) => Scope::pattern(pattern),
        None => text(step, "topic").into(),
    }
}

pub fn position_in(step: &Value) -> Option<Position> {
    let since = step["since"].as_object()?;
    Some(Position { epoch: since["epoch"].as_str()?.to_owned(), offset: since["offset"].as_u64()? })
}

pub fn subscribe_options_in(step: &Value, teller: &Teller) -> SubscribeOptions {
    SubscribeOptions {
        last: step["last"].as_u64().unwrap_or_default(),
        since: position_in(step),
        group: text(step, "group"),
        concurrency: step["concurrency"].as_u64().unwrap_or_default(),
        info: step.get("info").map(|info| Json::of(info).expect("it is JSON")),
        presence: (step["presence"] == true).then(|| teller.observer(&step["as"])),
        returns_at_once: true,
    }
}

pub fn headers_in(step: &Value) -> Headers {
    let headers = step["headers"].as_object().into_iter().flatten();
    headers
        .map(|(name, text)| (name.clone(), text.as_str().unwrap_or_default().to_owned()))
        .collect()
}

pub fn ask_in(step: &Value) -> Ask {
    Ask {
        timeout: step["timeout"].as_f64().unwrap_or(5.0),
        headers: headers_in(step),
        message_id: text(step, "message_id"),
        key: text(step, "key"),
        retry: step["retry"].as_u64().unwrap_or_default(),
        expect: texts(step, "expect"),
        expect_groups: texts(step, "expect_groups"),
    }
}

pub fn options_in(url: &Value, options: &Value) -> Options {
    let mut made = Options::new(url.as_str().unwrap_or_default());
    if let Some(id) = options["id"].as_str() {
        made = made.id(id);
    }
    if let Some(level) = options["level"].as_u64() {
        made = made.level(level as u8);
    }
    if let Some(token) = options["token"].as_str() {
        made = made.token(token);
    }
    let mut tokens = texts(options, "tokens");
    if !tokens.is_empty() {
        made = made.token_with(move || {
            let token = tokens[0].clone();
            if tokens.len() > 1 {
                tokens.remove(0);
            }
            Ok::<_, String>(token)
        });
    }
    match &options["reconnect"] {
        Value::Bool(false) => made = made.reconnect(None),
        Value::Number(wait) => {
            let wait = Duration::from_secs_f64(wait.as_f64().unwrap_or_default());
            made = made.reconnect(Backoff::every(wait));
        }
        _ => (),
    }
    let timeout = options["request_timeout"].as_f64().unwrap_or(5.0);
    let offline = options["offline"].as_u64().unwrap_or_default() as usize;
    made.request_timeout(Duration::from_secs_f64(timeout)).offline(offline)
}
