//! Connecting, registering, coming back (spec, 8).

mod server;

use std::time::Duration;

use kps_core::{Backoff, Error, Event, Json};
use serde_json::{Value, json};
use server::{World, options, topic};

fn null() -> Json {
    Json::of(&()).unwrap()
}

fn connected(again: bool) -> Event {
    Event::Connected { id: "me".into(), again }
}

fn ended_kind(events: &[Event]) -> &'static str {
    match events.last() {
        Some(Event::Ended(Some(error))) => error.kind(),
        Some(Event::Ended(None)) => "closed",
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_client_connects_and_registers() {
    let mut world = World::new(options());
    assert_eq!(world.take_events(), [Event::ConnectNeeded]);
    world.accept();
    assert!(world.requests[0].starts_with("GET /ws/bus HTTP/1.1\r\nHost: localhost:1\r\n"));
    assert_eq!(world.take_got(), [json!({"action": "ping", "from": "me", "proto": 2})]);
    world.send(json!({"action": "pong", "id": "other", "proto": 2}));
    let id = "other".to_owned();
    assert!(world.take_events().contains(&Event::Connected { id, again: false }));
    assert_eq!((world.session.id(), world.session.level()), ("other", 2));
}

#[test]
fn a_token_goes_with_the_request() {
    let mut world = World::new(options());
    world.open(Some("secret"));
    assert!(world.requests[0].contains("\r\nAuthorization: Bearer secret\r\n"));
    let mut world = World::new(options());
    world.open(Some("line\nend"));
    assert!(matches!(world.take_events()[..], [.., Event::ConnectAttemptFailed { .. }]));
}

#[test]
fn a_client_comes_back_and_subscribes_again() {
    let mut world = World::ready();
    world.subscribed("a");
    world.subscribed("b");
    world.drop_connection();
    let events = world.take_events();
    let wait = Duration::from_millis(250);
    assert!(
        matches!(events[..], [Event::Disconnected { code: 1006, retry_in: Some(w), .. }] if w == wait)
    );
    assert!(world.session.publish("a", &null(), &Vec::new()).is_err());
    world.wait(0.24);
    assert_eq!(world.take_events(), []);
    world.wait(0.01);
    assert_eq!(world.take_events(), [Event::ConnectNeeded]);
    world.accept();
    world.pong();
    assert_eq!(world.take_events(), [connected(true)]);
    let subscribe = |topic: &str| json!({"action": "subscribe", "topic": topic});
    assert_eq!(world.take_got()[1..], [subscribe("a"), subscribe("b")]);
}

#[test]
fn waits_grow_with_failed_attempts_and_with_short_connections() {
    let mut world = World::new(options());
    for seconds in [0.25, 0.5, 1.0] {
        world.session.connect_failed("no", world.now);
        let retry_in = Duration::from_secs_f64(seconds);
        let events = world.take_events();
        assert!(
            matches!(events.last(), Some(Event::ConnectAttemptFailed { retry_in: r, .. }) if *r == retry_in)
        );
        world.wait(seconds);
    }
    let mut waits = Vec::new();
    for _ in 0..6 {
        world.accept();
        world.pong();
        world.close(1011);
        for event in world.take_events() {
            if let Event::Disconnected { retry_in: Some(wait), .. } = event {
                waits.push(wait.as_millis());
            }
        }
        world.wait(5.0);
    }
    assert_eq!(waits, [250, 250, 250, 250, 500, 1000]);
}

#[test]
fn some_ends_are_final() {
    for (code, kind) in [(4001, "connection_lost"), (4003, "connection_lost")] {
        let mut world = World::ready();
        world.close(code);
        let events = world.take_events();
        assert!(
            matches!(events[0], Event::Disconnected { code: c, retry_in: None, .. } if c == code)
        );
        assert_eq!(ended_kind(&events), kind);
        assert!(matches!(
            world.session.publish("a", &null(), &Vec::new()),
            Err(Error::ClientClosed)
        ));
    }
    for code in [1000, 1001, 1008, 1009, 1011, 1012, 4002, 4999] {
        let mut world = World::ready();
        world.close(code);
        assert!(matches!(world.take_events()[..], [Event::Disconnected { retry_in: Some(_), .. }]));
        assert_eq!(world.take_got(), [json!({"close": code})]);
    }
}

#[test]
fn refusals_of_the_request() {
    let answer = |world: &mut World, status: u16| {
        world.open(None);
        world.receive(format!("HTTP/1.1 {status} x\r\n\r\n").as_bytes());
        world.take_events()
    };
    for status in [401, 403, 404, 426] {
        let events = answer(&mut World::new(options()), status);
        assert!(
            matches!(&events[..], [.., Event::Ended(Some(Error::ConnectFailed { status: Some(s), .. }))] if *s == status)
        );
    }
    for status in [408, 429, 503] {
        let events = answer(&mut World::new(options()), status);
        assert!(matches!(&events[..], [.., Event::ConnectAttemptFailed { .. }]));
    }

    let mut again = World::ready();
    again.drop_connection();
    again.wait(1.0);
    assert!(matches!(answer(&mut again, 404)[..], [.., Event::ConnectAttemptFailed { .. }]));
    again.wait(1.0);
    assert_eq!(ended_kind(&answer(&mut again, 401)), "connect_failed");

    let mut renews = options();
    renews.renews_token = true;
    let events = answer(&mut World::new(renews), 401);
    assert!(matches!(&events[..], [.., Event::ConnectAttemptFailed { .. }]));
}

#[test]
fn refusals_of_the_first_ping() {
    let refuse = |code: &str| {
        let mut world = World::new(options());
        world.accept();
        world.take_got();
        world.send(json!({"action": "error", "error": "no", "code": code}));
        assert_eq!(world.take_got(), [json!({"close": 1008})]);
        world.take_events()
    };
    assert_eq!(ended_kind(&refuse("id_unavailable")), "server_error");
    assert!(matches!(refuse("rate_limited")[..], [.., Event::ConnectAttemptFailed { .. }]));

    let mut world = World::new(options());
    world.accept();
    world.close(1009);
    assert_eq!(ended_kind(&world.take_events()), "connect_failed");
}

#[test]
fn a_server_that_is_silent_is_given_up() {
    let mut world = World::new(options());
    world.open(None);
    world.wait(11.0);
    assert!(matches!(
        world.take_events()[..],
        [.., Event::ConnectAttemptFailed { .. }, Event::ConnectNeeded]
    ));

    let mut world = World::new(options());
    world.accept();
    world.wait(10.0);
    assert!(world.is_aborted());

    let mut world = World::ready();
    world.wait(24.9);
    assert_eq!(world.take_got(), [] as [Value; 0]);
    world.wait(0.2);
    assert_eq!(world.take_got(), [json!("ping")]);
    world.frame(0x8a, b"");
    world.wait(24.0);
    assert_eq!(world.take_got(), [] as [Value; 0]);
    world.wait(30.0);
    assert!(matches!(world.take_events()[0], Event::Disconnected { code: 1006, .. }));
}

#[test]
fn a_client_that_does_not_read_goes_on_sending_pings() {
    let mut world = World::ready();
    world.session.set_reading(false, world.now);
    world.wait(80.0);
    assert_eq!(world.take_got(), [json!("ping"), json!("ping"), json!("ping")]);
    world.session.set_reading(true, world.now);
    world.wait(24.0);
    assert_eq!(world.take_events(), []);
}

#[test]
fn pings_are_answered_in_order() {
    let mut world = World::ready();
    world.session.publish("a", &null(), &Vec::new()).unwrap();
    world.frame(0x89, b"x");
    assert_eq!(
        world.take_got(),
        [json!({"action": "publish", "topic": "a", "data": null}), json!("pong")]
    );
}

#[test]
fn faults_of_the_server_have_close_codes() {
    for (frame, code) in
        [(&b"\x83\0"[..], 1002), (b"\x81\x01\xff", 1007), (b"\x82\x7f\0\0\0\0\x10\0\0\0", 1009)]
    {
        let mut world = World::ready();
        world.receive(frame);
        assert_eq!(world.take_got(), [json!({"close": code})]);
        assert!(
            matches!(world.take_events()[..], [Event::Disconnected { code: c, .. }] if c == code)
        );
    }
}

#[test]
fn closing_lets_out_what_waits() {
    let mut world = World::ready();
    world.session.publish("a", &null(), &Vec::new()).unwrap();
    world.session.close(None, world.now);
    assert!(!world.session.is_ready());
    let got = world.take_got();
    assert_eq!((got.len(), &got[1]), (2, &json!({"close": 1000})));
    assert_eq!(world.take_events(), []);
    world.close(1000);
    assert_eq!(world.take_events(), [Event::Ended(None)]);

    let mut world = World::ready();
    world.session.close(None, world.now);
    world.wait(5.0);
    assert_eq!(world.take_events(), [Event::Ended(None)]);
    assert!(world.is_aborted());

    let mut world = World::new(options());
    world.accept();
    world.session.close(None, world.now);
    assert_eq!(ended_kind(&world.take_events()), "closed");
}

#[test]
fn publications_are_kept_for_the_next_connection() {
    let mut with = options();
    with.offline = 2;
    with.reconnect = Some(Backoff::every(Duration::from_secs(1)));
    let mut world = World::ready_with(with);
    let publish =
        |world: &mut World, n: u8| world.session.publish("a", &Json::of(&n).unwrap(), &Vec::new());
    publish(&mut world, 1).unwrap(); // not written when the connection ends
    world.session.disconnected("reset", world.now);
    publish(&mut world, 2).unwrap();
    assert!(matches!(publish(&mut world, 3), Err(Error::QueueFull(_))));
    world.wait(1.0);
    world.accept();
    world.take_got();
    world.pong();
    let payloads: Vec<Value> =
        world.take_got().iter().map(|message| message["data"].clone()).collect();
    assert_eq!(payloads, [1, 2]);
}

#[test]
fn kept_publications_are_judged_by_the_new_server() {
    let mut with = options();
    with.offline = 2;
    let mut world = World::new(with);
    let long = Json::of(&"x".repeat(1000)).unwrap();
    world.session.publish("a", &long, &Vec::new()).unwrap();
    world.session.publish("a", &null(), &Vec::new()).unwrap();
    world.accept();
    world.take_events();
    world.take_got();
    world.send(json!({"action": "pong", "id": "me", "proto": 2, "limits": {"max_message": 500}}));
    assert!(
        matches!(&world.take_events()[..], [_, Event::Error(error)] if error.kind() == "message_too_large")
    );
    assert_eq!(world.take_got().len(), 1);
}

#[test]
fn what_a_new_server_lacks_has_ended() {
    let mut world = World::ready();
    let mut key = topic("a");
    key.group = "g".into();
    let id = world.subscribe(key);
    world.send(json!({"action": "subscribed", "topic": "a", "group": "g"}));
    world.drop_connection();
    world.wait(1.0);
    world.accept();
    world.take_got();
    world.take_events();
    world.send(json!({"action": "pong", "id": "me", "proto": 2}));
    let error = Error::Unsupported("groups".into());
    assert_eq!(
        world.take_events()[1..],
        [Event::SubscriptionEnded(id, error.clone()), Event::Error(error)]
    );
    assert_eq!(world.take_got(), [] as [Value; 0]);
}
