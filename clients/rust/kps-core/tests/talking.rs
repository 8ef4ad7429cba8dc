//! Subscriptions, messages, acks of what comes in, history and flow control, on level 2.

mod server;

use std::time::Duration;

use kps_core::{Answer, Ask, Error, Event, Key, Position, Scope, Start, Wish};
use serde_json::{Value, json};
use server::*;

// -- subscriptions

#[test]
fn several_subscriptions_to_a_topic_are_one_for_the_server() {
    let mut world = World::ready();
    let one = world.subscribe(topic("a"));
    let two = world.subscribe(topic("a"));
    assert_eq!(world.take_got(), [json!({"action": "subscribe", "topic": "a"})]);
    assert_eq!(world.take_events(), []);
    world.send(json!({"action": "subscribed", "topic": "a"}));
    assert_eq!(
        world.take_events(),
        [Event::Subscribed(one, Ok(())), Event::Subscribed(two, Ok(()))]
    );
    let three = world.subscribe(topic("a"));
    assert_eq!(world.take_events(), [Event::Subscribed(three, Ok(()))]);
    world.send(json!({"action": "publish", "topic": "a", "from": "x", "batch": [1, 2]}));
    for id in [one, two, three] {
        assert_eq!([world.message(id).data, world.message(id).data], [of(json!(1)), of(json!(2))]);
    }
    for id in [one, two, three] {
        assert_eq!(world.take_got(), nothing());
        world.session.unsubscribe(id, world.now);
    }
    assert_eq!(world.take_got(), [json!({"action": "unsubscribe", "topic": "a"})]);
}

#[test]
fn patterns_get_what_they_have() {
    let mut world = World::ready();
    let key = Key { scope: Scope::pattern("a/*"), group: String::new() };
    let pattern = world.subscribe(key);
    let exact = world.subscribe(topic("a/b"));
    assert_eq!(world.take_got()[0], json!({"action": "subscribe", "pattern": "a/*"}));
    world.send(json!([
        {"action": "subscribed", "pattern": "a/*"},
        {"action": "publish", "topic": "a/b", "from": "x", "data": 1},
        {"action": "publish", "topic": "a/c", "from": "x", "data": 2},
        {"action": "publish", "topic": "b", "from": "x", "data": 3},
    ]));
    let arrived: Vec<Event> = world.take_events().split_off(1);
    assert_eq!(arrived, [Event::Arrived(exact), Event::Arrived(pattern), Event::Arrived(pattern)]);
    assert_eq!(world.message(pattern).topic, "a/b");
}

#[test]
fn a_refusal_for_good_ends_a_subscription() {
    let mut world = World::ready();
    let id = world.subscribe(topic("a"));
    let refusal = |code: &str| json!({"action": "error", "error": "no", "code": code, "request": "subscribe", "topic": "a"});
    world.send(refusal("forbidden"));
    let events = world.take_events();
    assert!(
        matches!(&events[..], [Event::Subscribed(s, Err(Error::Server(e)))] if *s == id && e.code == "forbidden")
    );
    // A topic that never was in force is not asked for again when there are too many.
    let id = world.subscribe(topic("a"));
    world.send(refusal("limit_reached"));
    assert!(matches!(&world.take_events()[..], [Event::Subscribed(s, Err(_))] if *s == id));
    world.take_got();
    world.wait(60.0);
    assert!(!world.take_got().iter().any(|message| message["action"] == "subscribe"));
}

#[test]
fn a_refusal_for_now_is_asked_again() {
    let mut world = World::ready();
    world.subscribed("a");
    world.drop_connection();
    world.wait(1.0);
    world.accept();
    world.pong();
    world.take_got();
    world.take_events();
    let refusal = json!({"action": "error", "error": "full", "code": "limit_reached", "request": "subscribe", "topic": "a"});
    for wait in [0.5, 1.0, 2.0] {
        world.send(refusal.clone());
        assert_eq!(error_kinds(&world.take_events()).len(), (wait < 1.0) as usize, "told once");
        world.wait(wait - 0.01);
        assert_eq!(world.take_got(), nothing());
        world.wait(0.01);
        assert_eq!(world.take_got(), [json!({"action": "subscribe", "topic": "a"})]);
    }
    world.send(json!({"action": "subscribed", "topic": "a"}));
    world.wait(20.0);
    assert_eq!(world.take_got(), nothing());
}

#[test]
fn who_waits_for_a_confirmation_waits_so_long() {
    let mut with = options();
    with.request_timeout = Duration::from_secs(2);
    let mut world = World::ready_with(with);
    let id = world.subscribe(topic("a"));
    world.wait(2.0);
    let events = world.take_events();
    assert!(
        matches!(&events[..], [Event::Subscribed(s, Err(Error::RequestTimeout(_)))] if *s == id)
    );
    assert_eq!(world.take_got()[1], json!({"action": "unsubscribe", "topic": "a"}));
}

#[test]
fn a_subscription_without_a_connection_is_for_the_next_one() {
    let mut world = World::new(options());
    let id = world.subscribe(topic("a"));
    assert!(world.take_events().contains(&Event::Subscribed(id, Ok(()))));
    world.accept();
    world.take_got();
    world.pong();
    assert_eq!(world.take_got(), [json!({"action": "subscribe", "topic": "a"})]);
}

#[test]
fn arguments_are_checked() {
    let mut world = World::ready();
    let mut subscribe = |key: Key, wish: Wish| world.session.subscribe(key, wish, Duration::ZERO);
    let group = |name: &str| Key { group: name.into(), ..topic("a") };
    let last = Wish { start: Some(Start::Last(1)), ..Wish::default() };
    assert!(subscribe(topic(""), Wish::default()).is_err());
    assert!(subscribe(topic("a\n"), Wish::default()).is_err());
    assert!(subscribe(topic("a"), Wish { concurrency: 2, ..Wish::default() }).is_err());
    assert!(subscribe(group("g"), last.clone()).is_err());
    assert!(subscribe(group("g"), Wish::default()).is_ok());
    assert!(subscribe(group("g"), Wish::default()).is_err());
    assert!(subscribe(topic("a"), last.clone()).is_ok());
    assert!(subscribe(topic("a"), last).is_err());
    assert!(world.session.publish("", &of(json!(1)), &Vec::new()).is_err());
    let long = of(json!("x".repeat(100_000)));
    let error = world.session.publish("a", &long, &Vec::new()).unwrap_err();
    assert_eq!(error.kind(), "message_too_large");
}

// -- acks of what comes in

#[test]
fn an_ack_is_sent_when_the_message_is_handled() {
    let mut world = World::ready();
    let one = world.subscribed("a");
    let two = world.subscribe(topic("a"));
    world.send(
        json!({"action": "publish_ack", "topic": "a", "ack_id": "s1", "from": "x", "data": 7}),
    );
    let (first, second) = (world.message(one), world.message(two));
    world.settle(&first, Ok(Some(of(json!("r")))));
    assert_eq!(world.take_got(), nothing());
    world.settle(&second, Ok(None));
    assert_eq!(
        world.take_got(),
        [json!({"action": "ack", "ack_id": "s1", "success": true, "result": "r"})]
    );
    world.settle(&second, Ok(None));
    assert_eq!(world.take_got(), nothing());
}

#[test]
fn failures_are_told() {
    let mut world = World::ready();
    let id = world.subscribed("a");
    let ask =
        json!({"action": "publish_ack", "topic": "a", "ack_id": "s1", "from": "x", "data": 7});
    let failure =
        |error: &str| json!({"action": "ack", "ack_id": "s1", "success": false, "error": error});
    world.send(ask.clone());
    let message = world.message(id);
    world.settle(&message, Err("x".repeat(2000)));
    assert_eq!(world.take_got(), [failure(&"x".repeat(1000))]);
    world.send(ask.clone());
    let message = world.message(id);
    world.settle(&message, Ok(Some(of(json!("x".repeat(100_000))))));
    let error = world.take_got()[0]["error"].clone();
    assert!(error.as_str().unwrap().starts_with("the result of the callback cannot be sent: "));
    world.send(ask.clone());
    world.session.unsubscribe(id, world.now);
    world.pump();
    assert_eq!(
        world.take_got(),
        [failure("unsubscribed"), json!({"action": "unsubscribe", "topic": "a"})]
    );
    world.send(ask);
    assert_eq!(world.take_got(), [failure("no subscriber for topic")]);
}

#[test]
fn an_ack_of_an_old_connection_is_not_sent() {
    let mut world = World::ready();
    let id = world.subscribed("a");
    world.send(
        json!({"action": "publish_ack", "topic": "a", "ack_id": "s1", "from": "x", "data": 7}),
    );
    let message = world.message(id);
    world.drop_connection();
    world.wait(1.0);
    world.accept();
    world.pong();
    world.take_got();
    world.settle(&message, Ok(None));
    assert_eq!(world.take_got(), nothing());
}

#[test]
fn direct_messages_go_to_what_takes_them() {
    let mut world = World::ready();
    let ask = json!({"action": "publish_ack", "ack_id": "s1", "from": "x", "data": 7});
    world.send(ask.clone());
    assert_eq!(world.take_got()[0]["error"], "no subscriber for topic");
    let id = world.session.subscribe_direct().unwrap();
    assert!(world.session.subscribe_direct().is_err());
    world.send(
        json!([{"action": "direct_message", "from": "x", "data": 1, "headers": {"k": "v"}}, ask]),
    );
    let message = world.message(id);
    assert_eq!((message.headers, message.topic), (vec![("k".into(), "v".into())], String::new()));
    assert!(world.message(id).ack.is_some());
}

#[test]
fn members_of_groups_get_their_messages() {
    let mut world = World::ready();
    let group = Key { group: "g".into(), ..topic("a") };
    let wish = Wish { concurrency: 3, ..Wish::default() };
    let member = world.session.subscribe(group, wish, world.now).unwrap();
    let plain = world.subscribe(topic("a"));
    let subscribe = json!({"action": "subscribe", "topic": "a", "group": "g", "concurrency": 3});
    assert_eq!(world.take_got()[0], subscribe);
    world.send(json!([
        {"action": "publish", "topic": "a", "group": "g", "from": "x", "data": 1},
        {"action": "publish_ack", "topic": "a", "group": "g", "ack_id": "s1", "attempt": 2, "from": "x", "data": 2},
    ]));
    assert!(world.session.take(plain).is_none());
    world.message(member);
    assert_eq!(world.message(member).attempt, 2);
    world.send(json!({"action": "publish_ack", "topic": "a", "group": "g", "ack_id": "s2", "from": "x", "data": 2}));
    world.take_got();
    world.session.unsubscribe(member, world.now);
    let unsubscribed = json!({"action": "ack", "ack_id": "s2", "success": false, "error": "unsubscribed", "begun": false});
    let got = world.take_got();
    assert!(got.contains(&unsubscribed), "{got:?}");
    assert_eq!(got[0], json!({"action": "unsubscribe", "topic": "a", "group": "g"}));
}
// -- publications

#[test]
fn publications_that_wait_share_a_message() {
    let mut world = World::ready();
    let headers = vec![("h".to_owned(), "x".to_owned())];
    for (topic, data) in [("a", 1), ("a", 2), ("b", 3)] {
        world.session.publish(topic, &of(json!(data)), &Vec::new()).unwrap();
    }
    for data in [4, 5] {
        world.session.publish("b", &of(json!(data)), &headers).unwrap();
    }
    world.session.publish_to_id("b", &of(json!(6)), &Vec::new()).unwrap();
    world.session.publish_to_id("b", &of(json!(7)), &Vec::new()).unwrap();
    assert_eq!(
        world.take_got(),
        [
            json!({"action": "publish", "topic": "a", "batch": [1, 2]}),
            json!({"action": "publish", "topic": "b", "data": 3}),
            json!({"action": "publish", "topic": "b", "headers": {"h": "x"}, "batch": [4, 5]}),
            json!({"action": "direct_message", "to": "b", "data": 6}),
            json!({"action": "direct_message", "to": "b", "data": 7}),
        ]
    );
}

#[test]
fn a_server_sends_messages_to_others() {
    let mut world = World::ready();
    world.session.publish_to_server("other:9313", &of(json!(1)), true).unwrap();
    let expected = json!({
        "action": "publish_to_server", "to": "other:9313", "data": 1, "status": {"is_secure": true},
    });
    assert_eq!(world.take_got(), [expected]);
    world.send(json!({"action": "server_message_sent", "to": "other:9313"}));
    assert_eq!(world.take_events(), []);
    world.send(json!({
        "action": "error", "error": "failed to relay to server: no", "code": "relay_failed",
        "request": "publish_to_server", "to": "other:9313",
    }));
    assert_eq!(error_kinds(&world.take_events()), ["server_error"]);
    assert!(world.session.publish_to_server("", &of(json!(1)), false).is_err());
}

// -- history

#[test]
fn a_client_resumes_where_it_stood() {
    let mut world = World::ready();
    let wish = Wish { start: Some(Start::Last(2)), ..Wish::default() };
    let id = world.session.subscribe(topic("a"), wish, world.now).unwrap();
    assert_eq!(world.take_got(), [json!({"action": "subscribe", "topic": "a", "last": 2})]);
    world.send(json!([
        {"action": "subscribed", "topic": "a", "epoch": "e", "offset": 4, "coming": 1},
        {"action": "publish", "topic": "a", "from": "x", "offset": 5, "batch": [1, 2]},
    ]));
    world.message(id);
    let position = Position { epoch: "e".into(), offset: 6 };
    assert_eq!(world.message(id).position, Some(position));
    world.drop_connection();
    world.wait(1.0);
    world.accept();
    world.take_got();
    world.pong();
    world.take_events();
    let since = json!({"epoch": "e", "offset": 6});
    assert_eq!(world.take_got(), [json!({"action": "subscribe", "topic": "a", "since": since})]);
    world.send(json!({"action": "subscribed", "topic": "a", "epoch": "e", "offset": 6, "coming": 3, "recovered": true}));
    assert_eq!(world.take_events(), [Event::Recovered { topic: "a".into(), messages: 3 }]);
    world.send(json!({"action": "publish", "topic": "a", "from": "x", "offset": 9, "data": 1}));
    assert_eq!(world.take_events()[0], Event::Lost { topic: "a".into(), messages: Some(2) });
    world.send(
        json!({"action": "publish", "topic": "a", "from": "x", "offset": 8, "batch": [1, 2, 3]}),
    );
    assert_eq!(world.take_events(), [Event::Arrived(id)]);
    let first = world.message(id);
    assert_eq!(
        (first.position.unwrap().offset, world.message(id).position.unwrap().offset),
        (9, 10)
    );
}

#[test]
fn what_does_not_come_is_told() {
    let mut world = World::ready();
    let position = Position { epoch: "e".into(), offset: 3 };
    let wish = Wish { start: Some(Start::Since(position)), ..Wish::default() };
    world.session.subscribe(topic("a"), wish, world.now).unwrap();
    world.send(json!({"action": "subscribed", "topic": "a", "epoch": "f", "offset": 0, "coming": 1, "recovered": false}));
    assert_eq!(world.take_events()[0], Event::Lost { topic: "a".into(), messages: None });
}

#[test]
fn history_is_asked_until_it_is_whole() {
    let mut world = World::ready();
    let id = world.session.history("a", None, 3, world.now).unwrap();
    let question = json!({"action": "history", "topic": "a", "nonce": "history_1", "last": 3});
    assert_eq!(world.take_got(), [question]);
    let answer = |nonce: &str, coming: u64, offsets: &[u64]| {
        let one = |offset: &u64| json!({"offset": offset, "from": "x", "data": offset});
        let messages: Vec<Value> = offsets.iter().map(one).collect();
        json!({"action": "history", "topic": "a", "nonce": nonce, "epoch": "e",
            "offset": 0, "coming": coming, "messages": messages})
    };
    world.send(answer("history_1", 3, &[7, 8]));
    let since = json!({"epoch": "e", "offset": 8});
    let question =
        json!({"action": "history", "topic": "a", "nonce": "history_2", "last": 1, "since": since});
    assert_eq!(world.take_got(), [question]);
    world.send(answer("history_1", 3, &[7, 8])); // of an old question: without effect
    world.send(answer("history_2", 1, &[9]));
    let past = match world.take_events().pop() {
        Some(Event::Answered(answered, Ok(Answer::Past(past)))) if answered == id => past,
        other => panic!("{other:?}"),
    };
    assert_eq!((past.messages.len(), past.position.offset, past.complete), (3, 9, true));
    let refusal = |nonce: &str| json!({"action": "error", "error": "no", "code": "no_history", "request": "history", "nonce": nonce});
    let id = world.session.history("a", None, 3, world.now).unwrap();
    world.send(refusal("history_3"));
    assert!(
        matches!(&world.take_events()[..], [Event::Answered(a, Err(Error::Server(_)))] if *a == id)
    );
}

#[test]
fn what_the_server_lacks_is_refused() {
    let mut world = World::new(options());
    world.accept();
    world.send(json!({"action": "pong", "id": "me", "proto": 2}));
    world.take_got();
    let pattern = Key { scope: Scope::pattern("a"), group: String::new() };
    let group = Key { group: "g".into(), ..topic("a") };
    let last = Wish { start: Some(Start::Last(1)), ..Wish::default() };
    let data = of(json!(1));
    let headers = vec![("a".into(), "b".into())];
    let session = &mut world.session;
    let mut ask = |ask: Ask| session.publish_with_ack(&on("a"), &data, &ask, Duration::ZERO).err();
    let errors = [
        ask(Ask { expect: vec!["x".into()], ..Ask::default() }),
        ask(Ask { retry: 1, ..Ask::default() }),
        ask(Ask { message_id: "x".into(), ..Ask::default() }),
        ask(Ask { headers: headers.clone(), ..Ask::default() }),
        session.publish("a", &data, &headers).err(),
        session.history("a", None, 1, Duration::ZERO).err(),
        session.subscribe(pattern, Wish::default(), Duration::ZERO).err(),
        session.subscribe(group, Wish::default(), Duration::ZERO).err(),
        session.subscribe(topic("a"), last, Duration::ZERO).err(),
    ];
    for error in errors {
        assert_eq!(error.expect("it is refused").kind(), "unsupported");
    }
    assert_eq!(world.take_got(), nothing());
}

// -- flow control

#[test]
fn reading_pauses_while_a_program_is_slow() {
    let mut with = options();
    with.limits.mailbox_messages = 320; // crowded above 10, relieved below 6
    let mut world = World::ready_with(with);
    let id = world.subscribed("a");
    let one = json!({"action": "publish", "topic": "a", "from": "x", "data": 1});
    for _ in 0..11 {
        assert!(!world.session.wants_pause());
        world.send(one.clone());
    }
    assert!(world.session.wants_pause());
    world.wait(9.0);
    for _ in 0..5 {
        assert!(world.session.wants_pause());
        world.message(id);
    }
    world.message(id);
    assert!(!world.session.wants_pause());

    // A program that does nothing for long is not waited for, until it goes on.
    for _ in 0..6 {
        world.send(one.clone());
    }
    assert!(world.session.wants_pause());
    world.wait(10.5);
    world.send(one.clone());
    assert!(!world.session.wants_pause());
    world.message(id);
    world.send(one.clone());
    assert!(world.session.wants_pause());

    // While it waits for an answer, it is given up soon.
    world.request("a");
    world.wait(1.0);
    assert!(!world.session.wants_pause());
}

#[test]
fn a_full_mailbox_is_reported_once() {
    let mut with = options();
    with.limits.mailbox_messages = 2;
    let mut world = World::ready_with(with);
    let id = world.subscribed("a");
    for _ in 0..5 {
        world.send(json!({"action": "publish", "topic": "a", "from": "x", "data": 1}));
    }
    assert_eq!(error_kinds(&world.take_events()), ["queue_full"]);
    world.session.unsubscribe(id, world.now);
    assert!(world.session.take(id).is_none());
}

// -- what cannot be read

#[test]
fn unreadable_messages_are_reported() {
    let mut world = World::ready();
    let id = world.subscribed("a");
    for text in ["", "nonsense", "[1]", r#"{"action": 5}"#, &"[".repeat(1000), "null"] {
        world.send_text(text);
        assert_eq!(error_kinds(&world.take_events()), ["server_error"], "{text}");
    }
    for text in
        ["[]", "{}", r#"{"action": "later"}"#, r#"{"action":"ack_response","ack_id":"ack_99"}"#]
    {
        world.send_text(text);
        assert_eq!(world.take_events(), [], "{text}");
    }
    world.send_text(r#"[7, {"action": "publish", "topic": "a", "from": "x", "data": 1e999}]"#);
    assert_eq!(world.take_events().len(), 2);
    assert_eq!(world.message(id).data.as_str(), "1e999");
}

#[test]
fn nothing_more_is_accepted_than_fits() {
    let mut with = options();
    with.limits.queue_bytes = 1000;
    let mut world = World::ready_with(with);
    let publish = |world: &mut World, size: usize| {
        world.session.publish("a", &of(json!("x".repeat(size))), &Vec::new())
    };
    publish(&mut world, 5000).unwrap(); // a single one passes
    assert!(matches!(publish(&mut world, 1), Err(Error::QueueFull(_))));
    assert!(world.session.backlog() > 5000);
    world.pump();
    publish(&mut world, 1).unwrap();
}
