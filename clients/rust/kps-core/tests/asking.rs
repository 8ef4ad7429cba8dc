//! Ack requests, requests and other questions, on level 2.

mod server;

use std::time::Duration;

use kps_core::{Answer, Ask, Error, Event, Json, Outcome, Target};
use serde_json::{Value, json};
use server::*;

// -- ack requests

#[test]
fn outcomes_are_gathered() {
    let mut world = World::ready();
    let ask = Ask {
        expect: vec!["z".into()],
        expect_groups: vec!["h".into()],
        key: "k".into(),
        ..Ask::within(2.5)
    };
    let id = world.ask(on("a"), &ask);
    let expected = json!({
        "action": "publish_with_ack", "topic": "a", "data": 1, "ack_id": "ack_1", "timeout": 2.5,
        "updates": true, "key": "k", "expect": ["z", {"group": "h"}],
    });
    assert_eq!(world.take_got(), [expected]);
    world.send(json!({"action": "ack_update", "ack_id": "ack_1", "responses": {"x": {"success": true, "result": 1}}}));
    world.send(
        json!({"action": "ack_response", "ack_id": "ack_1", "complete": false, "missing": ["y"], "presence": 7,
        "responses": {"x": {"success": false}, "z": {"success": false, "error": "absent"}},
        "groups": [{"topic": "a", "group": "g", "member": "m", "attempts": 2, "success": true,
                    "failures": [{"member": "n", "error": "e"}]}]}),
    );
    let outcomes: Vec<Outcome> = world
        .take_events()
        .into_iter()
        .filter_map(|event| match event {
            Event::Outcome(of, outcome) if of == id => Some(outcome),
            other => {
                assert_eq!(other, Event::Answered(id, Ok(Answer::Acked { presence: Some(7) })));
                None
            }
        })
        .collect();
    let told: Vec<_> =
        outcomes.iter().map(|one| (one.name(), one.success, one.error.clone())).collect();
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(
        told,
        [
            ("x".into(), true, None),
            ("z".into(), false, some("absent")),
            ("g of a".into(), true, None),
            ("y".into(), false, some("timeout")),
        ]
    );
    assert_eq!(outcomes[2].group.as_ref().unwrap().failures, [("n".into(), "e".into())]);
}

#[test]
fn a_request_without_an_answer_is_given_up() {
    let mut world = World::ready();
    let id = world.ask(on("a"), &Ask::within(3.0));
    world.take_got();
    world.wait(3.9);
    assert_eq!(world.take_events(), []);
    world.wait(0.2);
    assert!(
        matches!(&world.take_events()[..], [Event::Answered(a, Err(Error::RequestTimeout(_)))] if *a == id)
    );
    assert_eq!(world.take_got(), [json!({"action": "cancel_ack", "ack_id": "ack_1"})]);
    world.send(json!({"action": "ack_response", "ack_id": "ack_1", "complete": true}));
    assert_eq!(world.take_events(), []);
}

#[test]
fn the_time_of_a_request_begins_when_it_is_written() {
    let mut world = World::ready();
    world.session.publish_with_ack(&on("a"), &of(json!(1)), &Ask::within(1.0), world.now).unwrap();
    world.now += Duration::from_secs(4);
    world.pump();
    world.wait(1.9);
    assert_eq!(world.take_events(), []);
    world.wait(0.2);
    assert_eq!(world.take_events().len(), 1);
    // One that is not written in time ends as well.
    world.session.publish_with_ack(&on("a"), &of(json!(1)), &Ask::within(1.0), world.now).unwrap();
    world.now += Duration::from_secs(5);
    world.session.handle_timeout(world.now);
    assert!(matches!(world.take_events()[..], [Event::Answered(_, Err(Error::RequestTimeout(_)))]));
}

#[test]
fn questions_end_with_the_connection() {
    let mut world = World::ready();
    let ack = world.ask(on("a"), &Ask::default());
    let flush = world.session.flush(world.now).unwrap();
    world.drop_connection();
    let events = world.take_events();
    for (event, id) in events.iter().zip([ack, flush]) {
        assert!(
            matches!(event, Event::Answered(a, Err(Error::ConnectionLost { code: 1006, .. })) if *a == id)
        );
    }
    assert!(matches!(world.session.flush(world.now), Err(Error::NotConnected)));
}

#[test]
fn refusals_end_their_question() {
    let mut world = World::ready();
    let to_id = world.ask(Target::Id("bob".into()), &Ask::default());
    let ask = Ask { headers: vec![("k".into(), "v".into())], ..Ask::default() };
    let receipt = world.session.publish_with_receipt("a", &of(json!(1)), &ask, world.now).unwrap();
    let got = world.take_got();
    assert_eq!((&got[0]["to"], &got[0]["topic"]), (&json!("bob"), &Value::Null));
    assert_eq!((&got[1]["receipt"], &got[1]["headers"]), (&json!("receipt_2"), &json!({"k": "v"})));
    world.send(json!({"action": "error", "error": "no", "code": "bad_request", "refused": [
        {"request": "publish_to_id_with_ack", "to": "bob", "ack_id": "ack_1"},
        {"request": "publish", "topic": "a", "receipt": "receipt_2"},
        {"request": "direct_message", "to": "eve"},
    ]}));
    let events = world.take_events();
    assert!(matches!(&events[0], Event::Answered(a, Err(Error::Server(_))) if *a == to_id));
    assert!(matches!(&events[1], Event::Answered(a, Err(Error::Server(_))) if *a == receipt));
    assert!(
        matches!(&events[2], Event::Error(Error::Server(error)) if error.to == "eve" && error.code == "bad_request")
    );
}

#[test]
fn status_receipt_and_flush_are_answered() {
    let mut world = World::ready();
    let ack = world.ask(on("a"), &Ask::default());
    let status = world.session.status(ack, world.now).unwrap().unwrap();
    let receipt =
        world.session.publish_with_receipt("a", &of(json!(1)), &Ask::default(), world.now).unwrap();
    let flush = world.session.flush(world.now).unwrap();
    assert_eq!(world.take_got()[3], json!({"action": "ping", "from": "me", "nonce": "flush_4"}));
    world.send(json!([
        {"action": "ack_status", "ack_id": "ack_1", "status": {"x": true, "y": false}},
        {"action": "published", "topic": "a", "receipt": "receipt_3", "delivered": 4},
        {"action": "pong", "id": "me", "nonce": "flush_4"},
    ]));
    let members = [("x".into(), true), ("y".into(), false)].into();
    assert_eq!(
        world.take_events(),
        [
            Event::Answered(status, Ok(Answer::Status(members))),
            Event::Answered(receipt, Ok(Answer::Delivered(Some(4)))),
            Event::Answered(flush, Ok(Answer::Done)),
        ]
    );
    world.session.cancel(ack, world.now);
    assert_eq!(world.take_events(), [Event::Answered(ack, Ok(Answer::Done))]);
    assert_eq!(world.take_got(), [json!({"action": "cancel_ack", "ack_id": "ack_1"})]);
    assert_eq!(world.session.status(ack, world.now), Ok(None));
}

// -- requests

fn end(responses: Value) -> Value {
    json!({"action": "ack_response", "ack_id": "ack_1", "complete": true, "responses": responses})
}

#[test]
fn the_first_success_is_the_result_of_a_request() {
    let mut world = World::ready();
    let id = world.request("a");
    world.send(json!({"action": "ack_update", "ack_id": "ack_1", "responses": {"x": {"success": false, "error": "e"}}}));
    assert_eq!(world.take_events(), []);
    world.send(json!({"action": "ack_update", "ack_id": "ack_1", "responses": {"y": {"success": true, "result": [1.50]}}}));
    let answer = Event::Answered(id, Ok(Answer::Result(Json::from_text("[1.5]").unwrap())));
    assert_eq!(world.take_events(), [answer]);
    assert_eq!(world.take_got(), [json!({"action": "cancel_ack", "ack_id": "ack_1"})]);

    let mut world = World::ready();
    world.request("a");
    world.send(end(json!({"y": {"success": true}})));
    assert!(
        matches!(&world.take_events()[..], [Event::Answered(_, Ok(Answer::Result(json)))] if json.is_null())
    );
    assert_eq!(world.take_got(), nothing());
}

#[test]
fn a_request_that_fails_tells_why() {
    let failed = |responses: Value| {
        let mut world = World::ready();
        world.request("a");
        world.send(end(responses));
        match world.take_events().pop() {
            Some(Event::Answered(_, Err(error))) => error,
            other => panic!("{other:?}"),
        }
    };
    let failure = |error: &str| json!({"success": false, "error": error});
    assert!(matches!(failed(json!({})), Error::NobodyThere(_)));
    assert!(matches!(
        failed(json!({"x": failure("no subscriber for topic")})),
        Error::NobodyThere(_)
    ));
    assert!(matches!(failed(json!({"x": failure("timeout")})), Error::RequestTimeout(_)));
    let error = failed(
        json!({"x": failure("disconnected"), "y": failure("own"), "z": failure("no subscriber for topic")}),
    );
    let errors = [("x".into(), "disconnected".into()), ("y".into(), "own".into())].into();
    assert_eq!(error, Error::RequestFailed { reason: "own".into(), errors });
}

// -- message ids

#[test]
fn a_message_with_an_id_is_sent_again() {
    let mut world = World::ready();
    let a = world.subscribed("a");
    let ask = Ask { message_id: "m1".into(), ..Ask::within(9.0) };
    let id = world.ask(on("b"), &ask);
    let without = world.ask(on("b"), &Ask::default());
    world.take_got();
    world.drop_connection();
    let events = world.take_events();
    assert!(matches!(events[0], Event::Answered(q, Err(_)) if q == without));
    world.wait(3.0);
    world.accept();
    world.take_got();
    world.pong();
    let got = world.take_got();
    assert_eq!(got[0]["action"], "subscribe");
    let expected = json!({
        "action": "publish_with_ack", "topic": "b", "data": 1, "ack_id": "ack_1", "timeout": 6,
        "updates": true, "message_id": "m1", "repeat_until": 1120,
    });
    assert_eq!(got[1], expected);
    world.take_events();
    world.send(json!({"action": "ack_response", "ack_id": "ack_1", "complete": true}));
    assert_eq!(world.take_events(), [Event::Answered(id, Ok(Answer::Acked { presence: None }))]);
    world.session.unsubscribe(a, world.now);
}

#[test]
fn a_message_that_might_be_handled_twice_is_not_sent_again() {
    let come_back = |window: Value, id: &str| {
        let mut world = World::ready();
        let ask = Ask { message_id: "m1".into(), ..Ask::within(300.0) };
        let question = world.ask(on("b"), &ask);
        world.drop_connection();
        world.wait(1.0);
        world.accept();
        world.take_got();
        world.take_events();
        let (proto, features) = (2, ["message_ids"]);
        world.send(json!({"action": "pong", "id": id, "proto": proto, "features": features, "message_ids": window}));
        (world, question)
    };
    let window = json!({"window": "w", "seconds": 120, "most": 10, "time": 1000});
    let lost = Error::ConnectionLost { reason: "reset".into(), code: 1006 };
    let mut other = window.clone();
    other["window"] = json!("other");
    let mut partial = window.clone();
    partial["time"] = Value::Null;
    for (window, id) in [(&other, "me"), (&window, "other"), (&partial, "me")] {
        let (mut world, question) = come_back(window.clone(), id);
        let events = world.take_events();
        assert!(events.contains(&Event::Answered(question, Err(lost.clone()))), "{window} {id}");
        assert_eq!(world.take_got(), nothing());
    }
    // What the server says to the repeat tells nothing of the first, but for one thing.
    for (code, kind) in [("rate_limited", "connection_lost"), ("outcome_unknown", "server_error")] {
        let (mut world, question) = come_back(window.clone(), "me");
        world.take_events();
        world.send(json!({"action": "error", "error": "x", "code": code, "request": "publish_with_ack", "ack_id": "ack_1"}));
        let events = world.take_events();
        assert!(
            matches!(&events[..], [Event::Answered(q, Err(error))] if *q == question && error.kind() == kind)
        );
    }
}
