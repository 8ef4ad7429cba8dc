//! Who is subscribed to a topic (spec, section 17).

mod server;

use std::collections::BTreeMap;

use kps_core::{Answer, Event, Key, Members, Presence, Scope, SubscriptionId, Wish};
use serde_json::json;
use server::*;

fn observing() -> Wish {
    Wish { observes: true, ..Wish::default() }
}

fn info(value: serde_json::Value) -> Wish {
    Wish { info: Some(of(value)), ..Wish::default() }
}

fn ids(members: &Members) -> Vec<&str> {
    members.keys().map(String::as_str).collect()
}

fn reasons(left: &BTreeMap<String, String>) -> Vec<(&str, &str)> {
    left.iter().map(|(id, reason)| (id.as_str(), reason.as_str())).collect()
}

impl World {
    fn wish(&mut self, key: impl Into<Key>, wish: Wish) -> SubscriptionId {
        let id = self.session.subscribe(key.into(), wish, self.now).unwrap();
        self.pump();
        id
    }

    /// A client that observes `a`, on which it is alone with `bob`.
    fn observed(&mut self) -> SubscriptionId {
        let id = self.wish("a", observing());
        self.confirm();
        (self.got, self.events) = (Vec::new(), Vec::new());
        self.session.take_presence(id).expect("it is told at first");
        id
    }

    fn confirm(&mut self) {
        self.send(json!({"action": "subscribed", "topic": "a", "presence": {
            "count": 2, "version": 1, "members": [{"id": "me"}, {"id": "bob", "info": {"n": 1}}],
        }}));
    }

    fn told(&mut self, id: SubscriptionId) -> Presence {
        assert_eq!(self.take_events(), [Event::PresenceChanged(id)]);
        self.session.take_presence(id).expect("it is told something")
    }
}

#[test]
fn an_observer_is_told_who_is_there_and_what_changes() {
    let mut world = World::ready();
    let id = world.wish("a", observing());
    assert_eq!(world.take_got(), [json!({"action": "subscribe", "topic": "a", "presence": true})]);
    world.confirm();
    assert_eq!(world.take_events(), [Event::Subscribed(id, Ok(())), Event::PresenceChanged(id)]);
    let told = world.session.take_presence(id).unwrap();
    assert_eq!((ids(told.members.as_ref().unwrap()), told.count), (vec!["bob", "me"], 2));
    assert_eq!((told.topic.as_str(), told.version), ("a", Some(1)));
    assert_eq!(
        (ids(&told.joined), told.joined["bob"].clone()),
        (vec!["bob", "me"], Some(of(json!({"n": 1}))))
    );
    assert_eq!(world.session.take_presence(id), None);

    world.send(json!({
        "action": "presence", "topic": "a", "count": 3, "version": 2,
        "joined": [{"id": "carol"}, {"id": "me", "info": {}}, {"id": "dave"}],
        "left": [{"id": "bob", "reason": "closed"}, {"id": "eve", "reason": "lost"}],
    }));
    let told = world.told(id);
    assert_eq!(ids(told.members.as_ref().unwrap()), ["carol", "dave", "me"]);
    assert_eq!((ids(&told.joined), ids(&told.updated)), (vec!["carol", "dave"], vec!["me"]));
    assert_eq!(reasons(&told.left), [("bob", "closed")]);
}

#[test]
fn a_slow_program_is_told_once_what_has_changed_meanwhile() {
    let mut world = World::ready();
    let id = world.observed();
    for (joined, left) in [
        (json!([{"id": "carol"}]), json!([{"id": "bob", "reason": "closed"}])),
        (json!([{"id": "bob"}]), json!([{"id": "carol", "reason": "lost"}])),
        (json!([]), json!([{"id": "me", "reason": "a new one"}])),
        (json!([{"id": "dave"}]), json!([{"id": "bob"}])),
    ] {
        let change =
            json!({"action": "presence", "topic": "a", "count": 1, "joined": joined, "left": left});
        world.send(change);
    }
    let told = world.told(id);
    assert_eq!(
        (ids(told.members.as_ref().unwrap()), ids(&told.joined)),
        (vec!["dave"], vec!["dave"])
    );
    assert_eq!(reasons(&told.left), [("bob", "unknown"), ("me", "a new one")]);
    assert!(told.updated.is_empty());
}

#[test]
fn only_the_number_is_told_while_there_are_too_many() {
    let mut world = World::ready();
    let id = world.observed();
    world.send(json!({"action": "presence", "topic": "a", "count": 2000, "version": 2}));
    let told = world.told(id);
    assert_eq!((told.members, told.count, told.left.len()), (None, 2000, 0));
    world.send(
        json!({"action": "presence", "topic": "a", "count": 2001, "joined": [{"id": "eve"}]}),
    );
    assert_eq!(world.told(id).members, None);
    world.send(json!({"action": "presence", "topic": "a", "count": 1, "members": [{"id": "me"}]}));
    let told = world.told(id);
    assert_eq!((ids(&told.joined), told.left.len()), (vec!["me"], 0));
}

#[test]
fn what_nobody_observes_is_ignored() {
    let mut world = World::ready();
    let id = world.subscribed("a");
    world.send(json!({"action": "presence", "topic": "a", "count": 1, "joined": [{"id": "eve"}]}));
    world.send(json!({"action": "subscribed", "topic": "a", "presence": {"count": 1}}));
    world.send(json!({"action": "presence", "topic": "other", "members": []}));
    assert_eq!((world.take_events(), world.session.take_presence(id)), (Vec::new(), None));
}

#[test]
fn further_subscriptions_ask_only_for_what_is_new() {
    let mut world = World::ready();
    let plain = world.subscribed("a");
    let first = world.wish("a", observing());
    let second = world.wish("a", info(json!({"n": 7})));
    assert_eq!(
        world.take_got(),
        [
            json!({"action": "subscribe", "topic": "a", "presence": true}),
            json!({"action": "subscribe", "topic": "a", "info": {"n": 7}}),
        ]
    );
    world.confirm();
    assert_eq!(world.take_events(), [Event::PresenceChanged(first)]);
    world.send(json!({"action": "subscribed", "topic": "a"}));
    assert_eq!(
        world.take_events(),
        [Event::Subscribed(first, Ok(())), Event::Subscribed(second, Ok(()))]
    );

    // After a reconnect, everything is asked for at once.
    world.drop_connection();
    world.wait(1.0);
    world.accept();
    world.got.clear();
    world.pong();
    let all = json!({"action": "subscribe", "topic": "a", "info": {"n": 7}, "presence": true});
    assert_eq!(world.take_got(), [all]);

    // The last observer leaves, and the others go on.
    world.confirm();
    world.session.unsubscribe(first, world.now);
    assert_eq!(world.take_got(), [json!({"action": "subscribe", "topic": "a", "presence": false})]);
    world.send(json!({"action": "subscribed", "topic": "a"}));
    world.events.clear();
    world.send(json!({"action": "presence", "topic": "a", "count": 1, "members": []}));
    assert_eq!(world.take_events(), []);
    world.session.unsubscribe(second, world.now);
    world.session.unsubscribe(plain, world.now);
    assert_eq!(world.take_got(), [json!({"action": "unsubscribe", "topic": "a"})]);
}

#[test]
fn a_refusal_of_presence_ends_only_what_has_asked_for_it() {
    let refusal = json!({
        "action": "error", "error": "no", "code": "forbidden", "request": "subscribe", "topic": "a",
    });
    let mut world = World::ready();
    let first = world.wish("a", info(json!({"n": 1})));
    world.send(json!({"action": "subscribed", "topic": "a"}));
    let second = world.wish("a", Wish { observes: true, ..info(json!({"n": 2})) });
    world.events.clear();
    world.send(refusal.clone());
    assert!(matches!(&world.take_events()[..], [Event::Subscribed(id, Err(_))] if *id == second));
    world.session.unsubscribe(second, world.now);
    world.got.clear();
    world.send(json!({"action": "publish", "topic": "a", "from": "x", "data": 1}));
    assert!(world.session.take(first).is_some() && world.session.take(second).is_none());
    world.drop_connection();
    world.wait(1.0);
    world.accept();
    world.got.clear();
    world.pong();
    assert_eq!(world.take_got(), [json!({"action": "subscribe", "topic": "a", "info": {"n": 1}})]);

    // If the others have left meanwhile, the client leaves the topic.
    world.send(json!({"action": "subscribed", "topic": "a"}));
    world.wish("a", observing());
    world.session.unsubscribe(first, world.now);
    world.got.clear();
    world.send(refusal);
    assert_eq!(world.take_got(), [json!({"action": "unsubscribe", "topic": "a"})]);
}

#[test]
fn of_several_wishes_the_server_does_in_the_end_what_those_want_that_are_left() {
    let refusal = |code: &str| {
        json!({
            "action": "error", "error": "no", "code": code, "request": "subscribe", "topic": "a",
        })
    };
    let nobody_observes = [json!({"action": "subscribe", "topic": "a", "presence": false})];

    // Refused before the answer to one that has ended: nobody observes.
    let mut world = World::ready();
    world.wish("a", Wish::default());
    world.send(json!({"action": "subscribed", "topic": "a"}));
    world.wish("a", Wish { observes: true, ..info(json!({"n": 1})) });
    let second = world.wish("a", observing());
    world.got.clear();
    world.session.unsubscribe(second, world.now);
    assert_eq!(world.take_got(), [json!(null); 0]);
    world.send(refusal("forbidden"));
    world.confirm();
    assert_eq!(world.take_got(), nobody_observes);

    // The first question is refused for good, and the server agrees to another one.
    let mut world = World::ready();
    world.wish("a", observing());
    world.wish("a", info(json!({"n": 1})));
    world.got.clear();
    world.send(refusal("forbidden"));
    assert_eq!(world.take_got(), [json!({"action": "unsubscribe", "topic": "a"})]);

    // It is asked again once what was asked besides has its answer, and tells that nobody observes.
    let mut world = World::ready();
    let plain = world.wish("a", Wish::default());
    let other = world.wish("a", info(json!({"n": 1})));
    let third = world.wish("a", observing());
    (world.got, world.events) = (Vec::new(), Vec::new());
    world.send(refusal("unavailable"));
    world.wait(2.0);
    assert_eq!(world.take_got(), [json!(null); 0]);
    world.send(refusal("forbidden"));
    world.confirm();
    world.session.unsubscribe(third, world.now);
    world.wait(5.0);
    assert_eq!(world.take_got(), nobody_observes);
    world.send(json!({"action": "subscribed", "topic": "a"}));
    let events = world.take_events();
    let ended = |event: &Event| matches!(event, Event::Subscribed(id, Err(_)) if *id == other);
    assert!(events.iter().any(ended) && events.contains(&Event::Subscribed(plain, Ok(()))));
}

#[test]
fn the_members_are_taken_anew_after_a_reconnect() {
    let mut world = World::ready();
    let id = world.observed();
    world.drop_connection();
    world.wait(1.0);
    world.accept();
    world.pong();
    world.events.clear();
    world.send(json!({"action": "subscribed", "topic": "a", "presence": {
        "count": 2, "members": [{"id": "me"}, {"id": "carol"}],
    }}));
    let told = world.told(id);
    assert_eq!((ids(&told.joined), reasons(&told.left)), (vec!["carol"], vec![("bob", "unknown")]));

    // A server without the feature: the subscription goes on, and the program is told so.
    world.drop_connection();
    world.wait(1.0);
    world.accept();
    world.got.clear();
    world.events.clear();
    world.send(json!({"action": "pong", "id": "me", "proto": 2, "features": []}));
    assert_eq!(world.take_got(), [json!({"action": "subscribe", "topic": "a"})]);
    assert_eq!(error_kinds(&world.take_events()), ["unsupported"]);
}

#[test]
fn a_client_asks_who_is_there() {
    let mut world = World::ready();
    let asked = world.session.presence("a", world.now).unwrap();
    let got = world.take_got();
    let nonce = got[0]["nonce"].clone();
    assert_eq!(got, [json!({"action": "presence", "topic": "a", "nonce": nonce})]);
    world.send(json!({"action": "presence", "topic": "a", "nonce": "presence_99", "count": 9}));
    let members = json!([{"id": "bob", "info": {"n": 1}}, {"id": "eve"}, {"info": 1}, 5]);
    world.send(json!({"action": "presence", "topic": "a", "nonce": nonce, "members": members}));
    let events = world.take_events();
    let [Event::Answered(id, Ok(Answer::Presence(told)))] = &events[..] else {
        panic!("{events:?}")
    };
    assert_eq!((*id, told.count, told.version), (asked, 2, None));
    assert_eq!(told.members.as_ref().unwrap()["bob"], Some(of(json!({"n": 1}))));

    let asked = world.session.presence("a", world.now).unwrap();
    let nonce = world.take_got()[0]["nonce"].clone();
    world.send(json!({
        "action": "error", "error": "no", "code": "forbidden", "request": "presence", "topic": "a",
        "nonce": nonce,
    }));
    assert!(matches!(&world.take_events()[..], [Event::Answered(id, Err(_))] if *id == asked));
}

#[test]
fn what_presence_is_not_for_is_refused() {
    let mut world = World::ready();
    let pattern = Key::from(Scope::pattern("a/*"));
    let group = Key { group: "g".into(), ..Key::from("a") };
    let mut kind =
        |key: Key, wish| world.session.subscribe(key, wish, world.now).unwrap_err().kind();
    assert_eq!(kind(pattern.clone(), observing()), "invalid_argument");
    assert_eq!(kind(pattern, info(json!({}))), "invalid_argument");
    assert_eq!(kind(group, observing()), "invalid_argument");
    assert_eq!(kind(Key::from("a"), info(json!([]))), "invalid_argument");
    assert_eq!(world.take_got(), nothing());

    let mut world = World::new(options());
    world.accept();
    world.send(json!({"action": "pong", "id": "me"}));
    world.got.clear();
    let error = world.session.subscribe(Key::from("a"), observing(), world.now).unwrap_err();
    assert_eq!(error.kind(), "unsupported");
    assert_eq!(world.session.presence("a", world.now).unwrap_err().kind(), "unsupported");
    assert_eq!(world.take_got(), nothing());
}
