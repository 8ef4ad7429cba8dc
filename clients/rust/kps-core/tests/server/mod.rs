//! A server and a program in memory, and time as a number.

#![allow(dead_code)] // each test uses a part of it

use std::time::Duration;

use kps_core::{
    Address, Ask, Event, Json, Key, Message, Options, QuestionId, Session, SubscriptionId, Target,
    Transport, Wish,
};
use serde_json::{Value, json};

/// A session, the server at the other end, and what each of them was told.
pub struct World {
    pub session: Session,
    pub now: Duration,
    /// Bytes of the client that are not read yet.
    incoming: Vec<u8>,
    is_upgraded: bool,
    pub requests: Vec<String>,
    /// Messages that the server has got, arrays taken apart, and control frames.
    pub got: Vec<Value>,
    pub events: Vec<Event>,
}

pub fn options() -> Options {
    Options::new(Address::parse("localhost:1").unwrap(), "me")
}

pub fn topic(text: &str) -> Key {
    Key::from(text)
}

pub fn of(value: Value) -> Json {
    Json::of(&value).unwrap()
}

pub fn on(topic: &str) -> Target {
    Target::Topic(topic.into())
}

pub fn nothing() -> [Value; 0] {
    []
}

pub fn error_kinds(events: &[Event]) -> Vec<&'static str> {
    let kind = |event: &Event| match event {
        Event::Error(error) => Some(error.kind()),
        _ => None,
    };
    events.iter().filter_map(kind).collect()
}

impl World {
    pub fn new(options: Options) -> World {
        let session = Session::new(options, |bytes| bytes.fill(0)).unwrap();
        World {
            session,
            now: Duration::ZERO,
            incoming: Vec::new(),
            is_upgraded: false,
            requests: Vec::new(),
            got: Vec::new(),
            events: Vec::new(),
        }
    }

    /// A client that is registered at a server of level 2 with all features.
    pub fn ready() -> World {
        World::ready_with(options())
    }

    pub fn ready_with(options: Options) -> World {
        let mut world = World::new(options);
        world.accept();
        world.pong();
        world.events.clear();
        world.got.clear();
        world
    }

    /// Opens a transport, and the WebSocket.
    pub fn accept(&mut self) {
        self.open(None);
        self.pump();
        // The key has 16 zeros.
        self.receive(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
              Sec-WebSocket-Accept: ICX+Yqv66kxgM0FcWaLWlFLwTAI=\r\n\r\n",
        );
    }

    pub fn open(&mut self, token: Option<&str>) {
        (self.incoming, self.is_upgraded) = (Vec::new(), false);
        self.session.connected(token, self.now);
        self.pump();
    }

    pub fn pong(&mut self) {
        let features =
            ["patterns", "history", "expect", "presence", "groups", "headers", "message_ids"];
        self.send(json!({
            "action": "pong", "id": "me", "proto": 2, "limits": {"max_message": 100_000},
            "features": features, "message_ids": {"window": "w", "seconds": 120, "most": 10, "time": 1000},
        }));
    }

    pub fn receive(&mut self, bytes: &[u8]) {
        self.session.receive(bytes, self.now);
        self.pump();
    }

    pub fn send(&mut self, message: Value) {
        self.send_text(&message.to_string());
    }

    pub fn send_text(&mut self, text: &str) {
        self.frame(0x81, text.as_bytes());
    }

    pub fn frame(&mut self, first: u8, payload: &[u8]) {
        let mut bytes = vec![first];
        match payload.len() {
            size @ 0..=125 => bytes.push(size as u8),
            size => {
                bytes.push(126);
                bytes.extend((size as u16).to_be_bytes());
            }
        }
        bytes.extend(payload);
        self.receive(&bytes);
    }

    pub fn close(&mut self, code: u16) {
        self.frame(0x88, &code.to_be_bytes());
    }

    pub fn drop_connection(&mut self) {
        self.session.disconnected("reset", self.now);
        self.pump();
    }

    /// Lets time pass, and does at each deadline what is due.
    pub fn wait(&mut self, seconds: f64) {
        let end = self.now + Duration::from_secs_f64(seconds);
        while let Some(deadline) = self.session.deadline().filter(|deadline| *deadline <= end) {
            self.now = self.now.max(deadline);
            self.session.handle_timeout(self.now);
            self.pump();
        }
        self.now = end;
    }

    pub fn subscribe(&mut self, key: Key) -> SubscriptionId {
        let id = self.session.subscribe(key, Wish::default(), self.now).unwrap();
        self.pump();
        id
    }

    /// Subscribes, and lets the server confirm it.
    pub fn subscribed(&mut self, name: &str) -> SubscriptionId {
        let id = self.subscribe(topic(name));
        self.send(json!({"action": "subscribed", "topic": name}));
        self.got.clear();
        self.events.clear();
        id
    }

    pub fn ask(&mut self, target: Target, ask: &Ask) -> QuestionId {
        let id = self.session.publish_with_ack(&target, &of(json!(1)), ask, self.now).unwrap();
        self.pump();
        id
    }

    pub fn request(&mut self, topic: &str) -> QuestionId {
        let ask = Ask::default();
        let id = self.session.request(&on(topic), &of(json!(1)), &ask, self.now).unwrap();
        self.pump();
        self.got.clear();
        id
    }

    pub fn message(&mut self, id: SubscriptionId) -> Message {
        self.session.take(id).expect("a message has come")
    }

    pub fn settle(&mut self, message: &Message, result: Result<Option<Json>, String>) {
        self.session.settle(message.ack.unwrap(), result, self.now);
        self.pump();
    }

    /// Moves what the client writes to the server, and its events here.
    pub fn pump(&mut self) {
        self.session.data_to_send(&mut self.incoming, usize::MAX / 2, self.now);
        while self.read() {}
        while let Some(event) = self.session.poll() {
            self.events.push(event);
        }
    }

    pub fn take_got(&mut self) -> Vec<Value> {
        self.pump();
        std::mem::take(&mut self.got)
    }

    pub fn take_events(&mut self) -> Vec<Event> {
        self.pump();
        std::mem::take(&mut self.events)
    }

    pub fn is_aborted(&self) -> bool {
        self.session.transport() == Transport::Abort
    }

    fn read(&mut self) -> bool {
        if !self.is_upgraded {
            let Some(end) = self.incoming.windows(4).position(|four| four == b"\r\n\r\n") else {
                return false;
            };
            let rest = self.incoming.split_off(end + 4);
            let request = std::mem::replace(&mut self.incoming, rest);
            self.requests.push(String::from_utf8(request).unwrap());
            self.is_upgraded = true;
            return true;
        }
        let bytes = &self.incoming;
        if bytes.len() < 2 {
            return false;
        }
        assert!(bytes[1] & 0x80 != 0, "a client masks its frames");
        let (size, begin) = match bytes[1] & 0x7f {
            126 => (u16::from_be_bytes([bytes[2], bytes[3]]) as usize, 4),
            127 => (u64::from_be_bytes(bytes[2..10].try_into().unwrap()) as usize, 10),
            size => (size as usize, 2),
        };
        let payload = bytes[begin + 4..begin + 4 + size].to_vec(); // the mask is 0
        match bytes[0] {
            0x81 => match serde_json::from_slice(&payload).unwrap() {
                Value::Array(messages) => self.got.extend(messages),
                message => self.got.push(message),
            },
            0x88 => {
                let code = payload.first_chunk().map(|code| u16::from_be_bytes(*code));
                self.got.push(json!({"close": code}));
            }
            0x89 => self.got.push(json!("ping")),
            0x8a => self.got.push(json!("pong")),
            other => panic!("opcode {other}"),
        }
        self.incoming.drain(..begin + 4 + size);
        true
    }
}
