//! Level 1, for servers of the family.

mod server;

use kps_core::{Answer, Ask, Error, Event, Json, Target};
use serde_json::{Value, json};
use server::{World, options, topic};

fn ready() -> World {
    let mut world = World::new(options());
    world.accept();
    world.send(json!({"action": "pong", "id": "me"}));
    world.take_got();
    world.take_events();
    world
}

fn null() -> Json {
    Json::of(&()).unwrap()
}

#[test]
fn messages_name_their_sender_and_are_alone() {
    let mut world = ready();
    assert_eq!(world.session.level(), 1);
    world.session.publish("a", &null(), &Vec::new()).unwrap();
    world.session.publish_to_id("bob", &null(), &Vec::new()).unwrap();
    assert_eq!(
        world.take_got(),
        [
            json!({"action": "publish", "from": "me", "topic": "a", "data": null}),
            json!({"action": "direct_message", "from": "me", "to": "bob", "data": null}),
        ]
    );
    let mut level_1 = options();
    level_1.level = 1;
    let mut world = World::new(level_1);
    world.accept();
    assert_eq!(world.take_got(), [json!({"action": "ping", "from": "me"})]);
    world.pong(); // even of a server that answers with more
    assert_eq!(world.session.level(), 1);
}

#[test]
fn payloads_are_unwrapped_once() {
    let mut world = ready();
    let id = world.subscribed("a");
    for (data, expected, from) in [
        (json!({"data": {"data": 1}, "from": "x"}), r#"{"data":1}"#, "x"),
        (json!({"data": null}), "null", ""),
        (json!({"other": 1}), r#"{"other":1}"#, "y"),
        (json!(7), "7", "y"),
    ] {
        world.send(json!({"action": "publish", "topic": "a", "data": data, "from": "y"}));
        let message = world.session.take(id).unwrap();
        assert_eq!((message.data.as_str(), message.from.as_str()), (expected, from));
    }
}

#[test]
fn acks_have_their_outcome_within() {
    let mut world = ready();
    let id = world.subscribed("a");
    let ask = json!({"action": "publish_ack", "topic": "a", "ack_id": "s", "data": {"data": 1, "from": "x"}});
    let ack =
        |outcome: Value| json!({"action": "ack", "from": "me", "ack_id": "s", "data": outcome});
    world.send(ask.clone());
    let token = world.session.take(id).unwrap().ack.unwrap();
    world.session.settle(token, Ok(Some(null())), world.now);
    assert_eq!(world.take_got(), [ack(json!({"ack_id": "s", "client_id": "me", "success": true}))]);
    world.send(ask);
    let token = world.session.take(id).unwrap().ack.unwrap();
    world.session.settle(token, Err("no".into()), world.now);
    let failure = json!({"ack_id": "s", "client_id": "me", "success": false, "error": "no"});
    assert_eq!(world.take_got(), [ack(failure)]);

    let direct = world.session.subscribe_direct().unwrap();
    world.send(json!({"action": "publish_ack", "topic": "__direct_me_1", "ack_id": "s", "data": {"data": 1, "from": "x"}}));
    assert_eq!(world.session.take(direct).unwrap().topic, "");
    world.send(json!({"action": "publish_ack", "topic": "b", "ack_id": "s", "data": {"data": 1, "from": "x"}}));
    assert_eq!(world.take_got()[0]["data"]["error"], "no subscriber for topic");
}

#[test]
fn outcomes_and_their_absence() {
    let mut world = ready();
    let target = Target::Topic("a".into());
    let ask = |world: &mut World| {
        let id =
            world.session.publish_with_ack(&target, &null(), &Ask::default(), world.now).unwrap();
        world.pump();
        id
    };
    let one = ask(&mut world);
    let expected = json!({"action": "publish_with_ack", "from": "me", "topic": "a", "data": null, "ack_id": "ack_1", "timeout": 5.0});
    let got = world.take_got();
    assert_eq!(got[0]["timeout"].as_f64(), Some(5.0));
    assert_eq!(got[0]["ack_id"], expected["ack_id"]);
    world.send(json!({"action": "ack_response", "ack_id": "ack_1", "responses": {"x": {"ack_id": "s", "client_id": "x", "success": true}}}));
    let events = world.take_events();
    assert!(
        matches!(&events[..], [Event::Outcome(_, outcome), Event::Answered(id, Ok(Answer::Acked { .. }))]
        if outcome.success && *id == one)
    );
    // At once: nobody was asked. After the server's time: nobody answered.
    let two = ask(&mut world);
    world.send(json!({"action": "ack_response", "ack_id": "ack_2", "responses": {}}));
    assert_eq!(world.take_events(), [Event::Answered(two, Ok(Answer::Acked { presence: None }))]);
    let three = ask(&mut world);
    world.wait(5.0);
    world.send(json!({"action": "ack_response", "ack_id": "ack_3"}));
    assert!(
        matches!(&world.take_events()[..], [Event::Answered(id, Err(Error::RequestTimeout(_)))] if *id == three)
    );
}

#[test]
fn barriers_ask_for_a_status() {
    let mut world = ready();
    let flush = world.session.flush(world.now).unwrap();
    let receipt =
        world.session.publish_with_receipt("a", &null(), &Ask::default(), world.now).unwrap();
    let actions: Vec<Value> =
        world.take_got().iter().map(|message| message["action"].clone()).collect();
    assert_eq!(actions, ["get_ack_status", "publish", "get_ack_status"]);
    for name in ["flush_1", "receipt_2"] {
        world.send(json!({"action": "ack_status", "ack_id": name, "status": {}}));
    }
    let delivered = Ok(Answer::Delivered(None));
    assert_eq!(
        world.take_events(),
        [Event::Answered(flush, Ok(Answer::Done)), Event::Answered(receipt, delivered)]
    );
}

#[test]
fn errors_are_matched_with_subscriptions_by_their_place() {
    let mut world = ready();
    let one = world.subscribe(topic("a"));
    world.send(json!({"action": "error", "error": "no"}));
    assert!(
        matches!(&world.take_events()[..], [Event::Subscribed(id, Err(Error::Server(_)))] if *id == one)
    );

    // Behind a direct message, which has no answer of its own, only a probe tells.
    world.take_got();
    world.session.publish_to_id("bob", &null(), &Vec::new()).unwrap();
    let two = world.subscribe(topic("b"));
    world.take_got();
    world.send(json!({"error": "no"})); // of an early server: without an action
    assert_eq!(
        world.take_got(),
        [json!({"action": "get_ack_status", "from": "me", "ack_id": "probe_me"})]
    );
    assert_eq!(world.take_events().len(), 1); // nobody knows yet, so it is told
    world.send(json!({"action": "ack_status", "ack_id": "probe_me", "status": {}}));
    assert!(
        matches!(&world.take_events()[..], [Event::Subscribed(id, Err(Error::Server(_)))] if *id == two)
    );
}

#[test]
fn what_level_1_lacks_is_refused() {
    let mut world = ready();
    let headers = vec![("a".to_owned(), "b".to_owned())];
    assert!(matches!(world.session.publish("a", &null(), &headers), Err(Error::Unsupported(_))));
    assert!(matches!(world.session.history("a", None, 1, world.now), Err(Error::Unsupported(_))));
}
