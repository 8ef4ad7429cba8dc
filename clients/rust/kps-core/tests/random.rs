//! A server that sends anything: the client neither panics nor stands still. (`fuzz/` does more.)

mod server;

use kps_core::{Ask, Json, Key, Presence, Scope, Target, Wish};
use serde_json::{Value, json};
use server::{World, topic};

/// Numbers that look random, and are the same each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, most: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) as usize % most
    }

    fn one<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.roll(of.len())]
    }

    fn value(&mut self, depth: usize) -> Value {
        let texts = [
            "",
            "a",
            "a/b",
            "a/*",
            "g",
            "e",
            "me",
            "ack_1",
            "ack_2",
            "receipt_3",
            "flush_5",
            "history_4",
            "presence_6",
            "subscribe",
            "publish_with_ack",
            "forbidden",
            "limit_reached",
        ];
        match self.roll(if depth > 2 { 5 } else { 7 }) {
            0 => Value::Null,
            1 => json!(self.roll(2) == 0),
            2 => json!(self.roll(9) as i64 - 1),
            3 | 4 => json!(self.one(&texts)),
            5 => (0..self.roll(4)).map(|_| self.value(depth + 1)).collect(),
            _ => Value::Object((0..self.roll(4)).map(|_| self.field(depth + 1)).collect()),
        }
    }

    fn field(&mut self, depth: usize) -> (String, Value) {
        let names = [
            "topic",
            "pattern",
            "group",
            "from",
            "data",
            "batch",
            "ack_id",
            "receipt",
            "nonce",
            "error",
            "code",
            "request",
            "refused",
            "responses",
            "groups",
            "missing",
            "success",
            "result",
            "offset",
            "epoch",
            "mark",
            "coming",
            "recovered",
            "lost",
            "messages",
            "headers",
            "attempt",
            "member",
            "failures",
            "status",
            "delivered",
            "limits",
            "features",
            "proto",
            "id",
            "to",
            "presence",
            "members",
            "joined",
            "left",
            "count",
            "version",
            "info",
            "reason",
        ];
        ((*self.one(&names)).to_owned(), self.value(depth))
    }

    fn message(&mut self) -> Value {
        let actions = [
            "pong",
            "publish",
            "publish_ack",
            "direct_message",
            "subscribed",
            "unsubscribed",
            "published",
            "ack_update",
            "ack_response",
            "ack_status",
            "history",
            "presence",
            "error",
        ];
        let mut fields: serde_json::Map<String, Value> =
            (0..self.roll(7)).map(|_| self.field(0)).collect();
        fields.insert("action".into(), json!(self.one(&actions)));
        Value::Object(fields)
    }
}

#[test]
fn any_messages() {
    let mut dice = Dice(1);
    for round in 0..300 {
        let mut world = World::ready();
        let in_group = Key { group: "g".into(), ..topic("a") };
        let pattern = Key { scope: Scope::pattern("a/*"), group: String::new() };
        let ids = [topic("a"), in_group, pattern].map(|key| world.subscribe(key));
        let wish = Wish { observes: true, ..Wish::default() };
        let observer = world.session.subscribe(topic("a"), wish, world.now).unwrap();
        let json = Json::of(&1).unwrap();
        let target = Target::Topic("a".into());
        let ask = Ask { message_id: "m".into(), ..Ask::default() };
        let session = &mut world.session;
        session.publish_with_ack(&target, &json, &ask, world.now).unwrap();
        session.request(&target, &json, &Ask::default(), world.now).unwrap();
        session.publish_with_receipt("a", &json, &Ask::default(), world.now).unwrap();
        session.history("a", None, 5, world.now).unwrap();
        session.flush(world.now).unwrap();
        session.presence("a", world.now).unwrap();
        for number in 0..60 {
            let message = match dice.roll(5) {
                0 => (0..dice.roll(4)).map(|_| dice.message()).collect(),
                _ => dice.message(),
            };
            world.send(message);
            for id in ids {
                if let Some(token) = world.session.take(id).and_then(|message| message.ack) {
                    world.session.settle(token, Ok(None), world.now);
                }
            }
            if let Some(Presence { members: Some(members), joined, .. }) =
                world.session.take_presence(observer)
            {
                assert!(joined.iter().all(|(id, info)| members[id] == *info));
            }
            if number % 20 == 19 && round % 2 == 0 {
                world.drop_connection();
                world.wait(2.0);
                world.accept();
                world.pong();
            }
            world.wait(0.3);
        }
        // Whatever has come, every question ends.
        world.wait(60.0);
        world.session.close(None, world.now);
        world.wait(6.0);
        assert!(world.session.ended().is_some());
    }
}

#[test]
fn any_bytes() {
    let mut dice = Dice(2);
    for _ in 0..2000 {
        let mut world = World::ready();
        for _ in 0..dice.roll(8) {
            let first = *dice.one(&[0x81, 0x82, 0x01, 0x80, 0x00, 0x88, 0x89, 0x8a, 0xff, 0x7f]);
            let mut bytes = vec![first, dice.roll(256) as u8];
            bytes.extend((0..dice.roll(200)).map(|_| dice.roll(256) as u8));
            world.receive(&bytes);
        }
        world.wait(30.0);
    }
}
