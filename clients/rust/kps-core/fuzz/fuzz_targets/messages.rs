//! Any messages of a server at which the client is registered: each line is one.
//!
//! `cargo +nightly fuzz run messages` in `kps-core`; with `-dict=fuzz/messages.dict` it finds more.

#![no_main]

use std::time::Duration;

use kps_core::{Address, Ask, Json, Key, Options, Scope, Session, Target, Wish};
use libfuzzer_sys::fuzz_target;

const ACCEPTED: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Accept: ICX+Yqv66kxgM0FcWaLWlFLwTAI=\r\n\r\n";

const PONG: &str = r#"{"action":"pong","id":"me","proto":2,"features":["patterns","history","expect",
    "presence","groups","headers","message_ids"],"message_ids":{"window":"w","seconds":120,"most":9,"time":1}}"#;

fn frame(text: &[u8]) -> Vec<u8> {
    let size = (text.len() as u64).to_be_bytes();
    let head: &[u8] = match text.len() {
        0..=125 => &[0x81, text.len() as u8],
        126..=0xffff => &[0x81, 126, size[6], size[7]],
        _ => return Vec::new(),
    };
    [head, text].concat()
}

fuzz_target!(|data: &[u8]| {
    let address = Address::parse("localhost:1").unwrap();
    let mut session = Session::new(Options::new(address, "me"), |bytes| bytes.fill(0)).unwrap();
    let (mut now, mut out) = (Duration::ZERO, Vec::new());
    let is_level_1 = data.first() == Some(&b'1');
    let pong = if is_level_1 { r#"{"action":"pong","id":"me"}"# } else { PONG };
    let connect = |session: &mut Session, now| {
        session.connected(None, now);
        session.receive(ACCEPTED, now);
        session.receive(&frame(pong.as_bytes()), now);
    };
    connect(&mut session, now);
    let json = Json::from_text("1").unwrap();
    let subscriptions = [("a", "", false), ("a/*", "", true), ("a", "g", false)].map(
        |(text, group, is_pattern)| {
            let scope = if is_pattern { Scope::pattern(text) } else { text.into() };
            session.subscribe(Key { scope, group: group.into() }, Wish::default(), now)
        },
    );
    let observing = Wish { observes: !is_level_1, ..Wish::default() };
    let observer = session.subscribe(Key::from("a"), observing, now);
    let ask = Ask { message_id: if is_level_1 { "" } else { "m" }.into(), ..Ask::default() };
    let _ = session.publish_with_ack(&Target::Topic("a".into()), &json, &Ask::default(), now);
    let _ = session.request(&Target::Id("b".into()), &json, &ask, now);
    let _ = session.publish_with_receipt("a", &json, &Ask::default(), now);
    let _ = session.history("a", None, 5, now);
    let _ = session.flush(now);
    let _ = session.presence("a", now);
    for (number, line) in data.split(|byte| *byte == b'\n').enumerate() {
        session.receive(&frame(line), now);
        now += Duration::from_millis(500);
        session.handle_timeout(now);
        out.clear();
        session.data_to_send(&mut out, 1 << 20, now);
        while session.poll().is_some() {}
        for id in subscriptions.iter().flatten() {
            if let Some(token) = session.take(*id).and_then(|message| message.ack) {
                session.settle(token, Ok(None), now);
            }
        }
        if let Ok(id) = observer {
            let _ = session.take_presence(id);
        }
        if number % 16 == 15 {
            session.disconnected("", now);
            connect(&mut session, now);
        }
    }
    session.close(None, now);
});
