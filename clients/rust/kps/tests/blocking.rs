//! The blocking client with a real server.

mod server;

use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use kps::{
    Ask, Backoff, Client, Error, Event, Json, Observer, Options, Presence, Scope, SubscribeOptions,
};
use server::{Server, Wire, python};

const PATIENCE: Duration = Duration::from_secs(20);

fn connect(server: &Server, id: &str) -> Client {
    Options::new(&server.address).id(id).connect().unwrap()
}

fn with_events(options: Options) -> (Options, Receiver<Event>) {
    let (events, told) = channel();
    (options.on_event(move |event| drop(events.send(event))), told)
}

/// Waits for an event.
fn until(events: &Receiver<Event>, is_it: impl Fn(&Event) -> bool) -> Event {
    loop {
        let event = events.recv_timeout(PATIENCE).expect("the event comes");
        if is_it(&event) {
            return event;
        }
    }
}

#[test]
fn publishing_and_subscribing() {
    let Some(server) = Server::start(&[]) else { return };
    let (alice, bob) = (connect(&server, "alice"), connect(&server, "bob"));
    assert_eq!((alice.id(), alice.level(), alice.is_connected()), ("alice".into(), 2, true));
    let (sender, got) = channel();
    let topic = sender.clone();
    let subscription = bob.subscribe("news", move |message| drop(topic.send(message))).unwrap();
    bob.subscribe(Scope::pattern("sensors/*"), move |message| drop(sender.send(message))).unwrap();
    alice.publish("news", &[1.5]).unwrap();
    alice.publish_with_headers("sensors/7", "warm", &vec![("kind".into(), "t".into())]).unwrap();
    let first = got.recv_timeout(PATIENCE).unwrap();
    assert_eq!(
        (first.topic.as_str(), first.data.as_str(), first.from.as_str()),
        ("news", "[1.5]", "alice")
    );
    let second = got.recv_timeout(PATIENCE).unwrap();
    assert_eq!((second.topic.as_str(), second.header("kind")), ("sensors/7", Some("t")));
    assert_eq!(second.read::<String>().unwrap(), "warm");

    assert_eq!(
        alice.publish_with_receipt("news", &1, &Ask::default()).unwrap().wait().unwrap(),
        Some(1)
    );
    subscription.unsubscribe();
    bob.flush().unwrap().wait().unwrap();
    assert_eq!(
        alice.publish_with_receipt("news", &1, &Ask::default()).unwrap().wait().unwrap(),
        Some(0)
    );
}

#[test]
fn an_iterator_ends_its_subscription_and_ends_with_the_client() {
    let Some(server) = Server::start(&[]) else { return };
    let client = connect(&server, "alice");
    let many: Vec<u32> = (0..10_000).collect();
    let publisher = client.clone();
    let mut messages = client.messages("numbers").unwrap();
    let sent = many.clone();
    std::thread::spawn(move || sent.iter().for_each(|n| publisher.publish("numbers", n).unwrap()));
    let got: Vec<u32> =
        messages.by_ref().take(10_000).map(|m| m.unwrap().read().unwrap()).collect();
    assert_eq!(got, many);
    let late = messages.wait_for(Duration::from_millis(1));
    assert!(matches!(late, Some(Err(Error::RequestTimeout(_)))));
    drop(messages);
    client.flush().unwrap().wait().unwrap();
    let receipt = client.publish_with_receipt("numbers", &0, &Ask::default()).unwrap();
    assert_eq!(receipt.wait().unwrap(), Some(0));

    let messages = client.messages("numbers").unwrap();
    let waiting = std::thread::spawn(move || messages.wait().is_none());
    client.close();
    assert!(waiting.join().unwrap());
    assert!(matches!(client.publish("numbers", &1), Err(Error::ClientClosed)));
    client.close();
}

#[test]
fn acks_and_requests() {
    let Some(server) = Server::start(&[]) else { return };
    let (alice, bob, carol) =
        (connect(&server, "alice"), connect(&server, "bob"), connect(&server, "carol"));
    bob.subscribe("sum", |message| {
        let (a, b): (i64, i64) = message.read()?;
        if a < 0 { Err(Error::NotConnected) } else { Ok(a + b) }
    })
    .unwrap();
    let ask = Ask::default();
    let sum: i64 = alice.request("sum", &(1, 2), &ask).unwrap().wait().unwrap().read().unwrap();
    assert_eq!(sum, 3);
    let failed = alice.request("sum", &(-1, 2), &ask).unwrap().wait().unwrap_err();
    assert!(
        matches!(&failed, Error::RequestFailed { errors, .. } if errors.contains_key("bob")),
        "{failed}"
    );
    let nobody = alice.request("nothing", &1, &ask).unwrap().wait().unwrap_err();
    assert!(matches!(nobody, Error::NobodyThere(_)));

    carol.subscribe("sum", |message| message.fail("no")).unwrap();
    let ack = alice.publish_with_ack("sum", &(2, 2), &ask).unwrap();
    let mut outcomes = ack.wait().unwrap();
    outcomes.sort_by_key(|outcome| outcome.client_id.clone());
    let told: Vec<_> = outcomes.iter().map(|one| (one.client_id.as_str(), one.success)).collect();
    assert_eq!(told, [("bob", true), ("carol", false)]);
    assert_eq!(ack.outcomes().count(), 2);
    assert!(ack.is_complete().unwrap());

    let direct = bob.on_direct(|message| message.read::<String>().map(|text| text.to_uppercase()));
    direct.unwrap().confirmed().unwrap();
    let answer = alice.request_to_id("bob", "hi", &ask).unwrap().wait().unwrap();
    assert_eq!(answer.as_str(), "\"HI\"");
    let outcomes = alice.publish_to_id_with_ack("nobody", &1, &ask).unwrap().wait().unwrap();
    assert!(outcomes.is_empty());

    // One that is kept is handled when the program says so.
    let (sender, kept) = channel();
    carol.subscribe("later", move |message| drop(sender.send(message))).unwrap();
    let ack = alice.publish_with_ack("later", &1, &ask).unwrap();
    let message = kept.recv_timeout(PATIENCE).unwrap();
    assert_eq!(ack.status().unwrap(), [("carol".to_owned(), false)].into());
    drop(message);
    assert!(ack.wait_any().unwrap().unwrap().success);
    let ack = alice.publish_with_ack("later", &1, &ask).unwrap();
    kept.recv_timeout(PATIENCE).unwrap().reply("done").unwrap();
    assert_eq!(ack.wait_any().unwrap().unwrap().result.unwrap().as_str(), "\"done\"");
    let ack = alice.publish_with_ack("later", &1, &ask).unwrap();
    ack.cancel();
    assert!(ack.wait().unwrap().is_empty());
}

#[test]
fn a_callback_may_call_the_client_and_may_panic() {
    let Some(server) = Server::start(&[]) else { return };
    let (alice, bob) = (connect(&server, "alice"), connect(&server, "bob"));
    bob.subscribe("half", |message| message.read::<i64>().map(|n| n / 2)).unwrap();
    let inner = alice.clone();
    alice
        .subscribe("quarter", move |message| -> Result<i64, Error> {
            let half = inner.request("half", &message.data, &Ask::default())?.wait()?;
            inner.request("half", &half, &Ask::default())?.wait()?.read()
        })
        .unwrap();
    let quarter = bob.request("quarter", &8, &Ask::default()).unwrap().wait().unwrap();
    assert_eq!(quarter.as_str(), "2");

    alice.subscribe("bug", |message| -> () { panic!("on purpose: {}", message.data) }).unwrap();
    let error = bob.request("bug", &1, &Ask::default()).unwrap().wait().unwrap_err();
    assert_eq!(error.to_string(), "the program has panicked");
    assert!(bob.request("quarter", &8, &Ask::default()).unwrap().wait().is_ok());
    alice.close(); // one of its callbacks has a clone
}

#[test]
fn groups_share_the_work() {
    let Some(server) = Server::start(&[]) else { return };
    let (alice, bob) = (connect(&server, "alice"), connect(&server, "bob"));
    let group = || SubscribeOptions { group: "g".into(), concurrency: 2, ..Default::default() };
    for client in [&alice, &bob] {
        let id = client.id();
        client.subscribe_with("jobs", group(), move |_| Ok::<_, Error>(id.clone())).unwrap();
    }
    let twice = alice.subscribe_with("jobs", group(), |_| ()).unwrap_err();
    assert_eq!(twice.kind(), "invalid_argument");
    let asked: Vec<_> =
        (0..10).map(|_| alice.request("jobs", &1, &Ask::default()).unwrap()).collect();
    let workers: Vec<String> =
        asked.into_iter().map(|pending| pending.wait().unwrap().read().unwrap()).collect();
    assert!(workers.contains(&"alice".to_owned()) && workers.contains(&"bob".to_owned()));
}

fn observing(info: Option<Json>) -> (SubscribeOptions, Receiver<Presence>) {
    let (sender, told) = channel();
    let observer = Observer::new(move |presence| drop(sender.send(presence)));
    (SubscribeOptions { info, presence: Some(observer), ..Default::default() }, told)
}

#[test]
fn who_is_subscribed() {
    let Some(server) = Server::start(&[]) else { return };
    let (alice, bob) = (connect(&server, "alice"), connect(&server, "bob"));
    let info = Json::from_text(r#"{"name":"A"}"#).unwrap();
    let (options, told) = observing(Some(info.clone()));
    alice.subscribe_with("room", options, |_| ()).unwrap();
    let first = told.recv_timeout(PATIENCE).unwrap();
    let alone = [("alice".to_owned(), Some(info.clone()))].into();
    assert_eq!((first.members.as_ref(), first.count), (Some(&alone), 1));

    // A loop over messages tells it in between.
    let (options, told_bob) = observing(None);
    let messages = bob.messages_with("room", options).unwrap();
    let ack = alice.publish_with_ack("room", &1, &Ask::default()).unwrap();
    assert!(messages.wait().unwrap().is_ok());
    assert_eq!(ack.wait().unwrap().len(), 2);
    let first = told_bob.recv_timeout(PATIENCE).unwrap();
    assert_eq!((ack.presence(), first.joined.len()), (first.version, 2));
    let joined = told.recv_timeout(PATIENCE).unwrap();
    assert_eq!((joined.joined.keys().next().unwrap().as_str(), joined.count), ("bob", 2));

    let asked = bob.presence("room").unwrap().wait().unwrap();
    assert_eq!((asked.count, &asked.members.unwrap()["alice"]), (2, &Some(info)));
    drop(messages);
    let left = told.recv_timeout(PATIENCE).unwrap().left;
    assert_eq!(left, [("bob".to_owned(), "unsubscribed".to_owned())].into());
}

#[test]
fn a_message_goes_to_another_server() {
    let Some(other) = Server::start(&[]) else { return };
    let server = Server::start(&["--relay-to", &other.authority()]).unwrap();
    let (options, events) = with_events(Options::new(&server.address));
    let (alice, bob) = (options.connect().unwrap(), connect(&other, "bob"));
    let messages = bob.messages("news").unwrap();
    let news = serde_json::json!({"topic": "news", "data": [1]});
    alice.publish_to_server(&other.authority(), &news, false).unwrap();
    assert_eq!(messages.wait().unwrap().unwrap().data.as_str(), "[1]");
    alice.publish_to_server("127.0.0.1:1", &news, false).unwrap();
    let refused = until(&events, |event| matches!(event, Event::Error(_)));
    assert!(matches!(refused, Event::Error(Error::Server(error)) if error.to == "127.0.0.1:1"));
}

#[test]
fn history() {
    let Some(server) = Server::start(&[]) else { return };
    let client = connect(&server, "alice");
    for number in 1..=7 {
        client.publish("kept/a", &number).unwrap();
    }
    let past = client.history("kept/a", None, 3).unwrap().wait().unwrap();
    let numbers: Vec<i64> = past.messages.iter().map(|message| message.read().unwrap()).collect();
    assert_eq!((numbers, past.position.offset, past.complete), (vec![5, 6, 7], 7, true));
    let none = client.history("other", None, 3).unwrap().wait().unwrap_err();
    assert!(matches!(none, Error::Server(error) if error.code == "no_history"));
    let last = SubscribeOptions { last: 2, ..Default::default() };
    let messages = client.messages_with("kept/a", last).unwrap();
    assert_eq!(messages.wait().unwrap().unwrap().data.as_str(), "6");
}

#[test]
fn a_client_comes_back_and_resumes() {
    let Some(server) = Server::start(&[]) else { return };
    let wire = Wire::to(&server);
    let soon = Backoff::every(Duration::from_millis(50));
    let (options, events) = with_events(Options::new(&wire.address).id("alice").reconnect(soon));
    let alice = options.connect().unwrap();
    let bob = connect(&server, "bob");
    let kept = alice.messages("kept/b").unwrap();
    let plain = alice.messages("plain").unwrap();
    bob.publish("kept/b", &1).unwrap();
    assert_eq!(kept.wait().unwrap().unwrap().data.as_str(), "1");

    let asked = alice.publish_with_ack("plain", &0, &Ask::default()).unwrap();
    assert!(plain.wait().unwrap().is_ok_and(|message| message.wants_ack()));
    asked.wait().unwrap();

    wire.cut();
    let event = until(&events, |event| matches!(event, Event::Disconnected { .. }));
    assert!(matches!(event, Event::Disconnected { code: 1006, retry_in: Some(_), .. }));
    bob.publish_with_receipt("kept/b", &2, &Ask::default()).unwrap().wait().unwrap();
    until(&events, |event| matches!(event, Event::Connected { again: true, .. }));
    assert_eq!(kept.wait().unwrap().unwrap().data.as_str(), "2");
    until(&events, |event| matches!(event, Event::Recovered { .. } | Event::Lost { .. }));
    bob.publish("plain", &3).unwrap();
    assert_eq!(plain.wait().unwrap().unwrap().data.as_str(), "3");
}

#[test]
fn a_message_with_an_id_is_handled_once() {
    let Some(server) = Server::start(&[]) else { return };
    let wire = Wire::to(&server);
    let soon = Backoff::every(Duration::from_millis(50));
    let alice = Options::new(&wire.address).id("alice").reconnect(soon).connect().unwrap();
    let bob = connect(&server, "bob");
    let jobs = bob.messages("jobs").unwrap();
    let ask = Ask { message_id: "m1".into(), ..Ask::within(15.0) };
    let asked = alice.request("jobs", &1, &ask).unwrap();
    let job = jobs.wait().unwrap().unwrap();
    wire.cut();
    alice.wait_connected().unwrap();
    job.reply("done").unwrap();
    drop(job);
    assert_eq!(asked.wait().unwrap().as_str(), "\"done\"");
    assert!(matches!(jobs.wait_for(Duration::ZERO), Some(Err(Error::RequestTimeout(_)))));
}

#[test]
fn what_waits_ends_with_the_connection() {
    let Some(server) = Server::start(&[]) else { return };
    let wire = Wire::to(&server);
    let alice = Options::new(&wire.address).reconnect(None).connect().unwrap();
    let held = alice.messages("held").unwrap();
    let asked = alice.request("held", &1, &Ask::default()).unwrap();
    let message = held.wait().unwrap().unwrap();
    wire.cut();
    assert!(matches!(asked.wait(), Err(Error::ConnectionLost { code: 1006, .. })));
    drop(message);
    assert!(matches!(held.wait(), Some(Err(Error::ConnectionLost { .. }))));
    assert!(held.wait().is_none());
}

#[test]
fn refusals_and_mistakes() {
    let Some(server) = Server::start(&[]) else { return };
    let path = server.address.replace("/ws/bus", "/elsewhere");
    let error = Client::connect(path).err().unwrap();
    assert!(matches!(error, Error::ConnectFailed { status: Some(404), .. }), "{error}");
    let error = Client::connect("ftp://x").err().unwrap();
    assert_eq!(error.kind(), "invalid_argument");
    let error = Options::new("127.0.0.1:1").reconnect(None).connect().err().unwrap();
    assert_eq!(error.kind(), "connect_failed");

    let (options, events) = with_events(Options::new(&server.address).id("alice"));
    let client = options.connect().unwrap();
    let error = client.subscribe("x".repeat(300), |_| ()).unwrap_err();
    assert!(matches!(error, Error::Server(error) if error.code == "bad_request"));
    client.publish_to_id("nobody", &1).unwrap();
    let event = until(&events, |event| matches!(event, Event::Error(_)));
    assert!(matches!(event, Event::Error(Error::Server(error)) if error.to == "nobody"));
    let other = connect(&server, "alice");
    let last = until(&events, |event| matches!(event, Event::Closed(_)));
    assert!(matches!(last, Event::Closed(Some(Error::ConnectionLost { code: 4001, .. }))));
    drop(other);
}

#[test]
fn what_was_published_goes_out_before_the_end() {
    let Some(server) = Server::start(&[]) else { return };
    let bob = connect(&server, "bob");
    let messages = bob.messages("last words").unwrap();
    let text = "x".repeat(100_000);
    let alice = connect(&server, "alice");
    for _ in 0..50 {
        alice.publish("last words", &text).unwrap();
    }
    drop(alice);
    for _ in 0..50 {
        assert_eq!(messages.wait().unwrap().unwrap().data.as_str().len(), 100_002);
    }
}

#[test]
fn a_slow_program_loses_nothing() {
    let Some(server) = Server::start(&[]) else { return };
    let (alice, bob) = (connect(&server, "alice"), connect(&server, "bob"));
    let messages = bob.messages("flood").unwrap();
    let text = "x".repeat(10_000);
    for _ in 0..600 {
        alice.publish("flood", &text).unwrap();
    }
    alice.flush().unwrap().wait().unwrap();
    for _ in 0..600 {
        messages.wait().unwrap().unwrap();
    }
}

#[test]
fn tokens() {
    let folder = std::env::temp_dir().join(format!("kps-rust-tokens-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("tokens.toml");
    std::fs::write(&file, "[alice]\ntoken = \"secret-of-alice-0123456789\"\n").unwrap();
    let Some(server) = Server::start(&["--tokens", file.to_str().unwrap()]) else { return };
    let error = Options::new(&server.address).token("not one").connect().err().unwrap();
    assert_eq!(error.kind(), "invalid_argument");
    let error = Options::new(&server.address).token("wrong").connect().err().unwrap();
    assert!(matches!(error, Error::ConnectFailed { status: Some(401), .. }), "{error}");
    let mut tokens = vec!["secret-of-alice-0123456789", "wrong"];
    let renewed = Options::new(&server.address)
        .reconnect(Backoff::every(Duration::from_millis(10)))
        .token_with(move || tokens.pop().map(str::to_owned).ok_or("no token is left"));
    assert!(renewed.connect().unwrap().is_connected());
    std::fs::remove_dir_all(folder).unwrap();
}

#[cfg(feature = "tls")]
#[test]
fn tls() {
    use std::process::Command;
    let Some(python) = python() else { return };
    let folder = std::env::temp_dir().join(format!("kps-rust-tls-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let made =
        Command::new(python).args(["-m", "trustme", "-q", "-d"]).arg(&folder).status().unwrap();
    if !made.success() {
        eprintln!("skipped: the Python has no trustme");
        return;
    }
    let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let arguments = ["--tls-cert", &path("server.pem"), "--tls-key", &path("server.key")];
    let server = Server::start(&arguments).unwrap();
    let url = format!("wss://localhost:{}/ws/bus", server.authority().rsplit(':').next().unwrap());
    let error = Options::new(&url).reconnect(None).connect().err().unwrap();
    assert!(error.to_string().contains("TLS"), "{error}");
    let authority = std::fs::read(folder.join("client.pem")).unwrap();
    let client = Options::new(&url).trust(authority).connect().unwrap();
    let messages = client.messages("large").unwrap();
    let large = "x".repeat(900_000);
    for _ in 0..5 {
        client.publish("large", &large).unwrap();
        assert_eq!(messages.wait().unwrap().unwrap().data.as_str().len(), 900_002);
    }
    client.close();
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn without_tls_a_secure_address_is_refused() {
    let _ = python();
    if !cfg!(feature = "tls") {
        assert_eq!(Client::connect("wss://localhost").err().unwrap().kind(), "invalid_argument");
    }
}
