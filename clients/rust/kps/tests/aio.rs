//! The asynchronous client with a real server.

#![cfg(feature = "tokio")]

mod server;

use std::time::Duration;

use kps::aio::Client;
use kps::{Ask, Backoff, Error, Event, Observer, Options, Scope, SubscribeOptions};
use server::{Server, Wire, python};
use tokio::sync::mpsc::unbounded_channel;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(20);

async fn connect(server: &Server, id: &str) -> Client {
    Client::connect_with(Options::new(&server.address).id(id)).await.unwrap()
}

#[tokio::test]
async fn publishing_and_subscribing() {
    let Some(server) = Server::start(&[]) else { return };
    let (alice, bob) = (connect(&server, "alice").await, connect(&server, "bob").await);
    assert_eq!((alice.id(), alice.level(), alice.is_connected()), ("alice".into(), 2, true));
    let mut messages = bob.messages(Scope::pattern("numbers/*")).await.unwrap();
    let publisher = tokio::spawn(async move {
        for n in 0..10_000 {
            alice.publish("numbers/x", &n).await.unwrap();
        }
        alice
    });
    for n in 0..10_000 {
        let message = timeout(PATIENCE, messages.next()).await.unwrap().unwrap().unwrap();
        assert_eq!(message.read::<i32>().unwrap(), n);
    }
    let alice = publisher.await.unwrap();
    drop(messages);
    bob.flush().await.unwrap();
    assert_eq!(
        alice.publish_with_receipt("numbers/x", &1, &Ask::default()).await.unwrap(),
        Some(0)
    );
    bob.close().await;
    assert!(matches!(bob.publish("a", &1).await, Err(Error::ClientClosed)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acks_requests_and_direct_messages() {
    let Some(server) = Server::start(&[]) else { return };
    let (alice, bob) = (connect(&server, "alice").await, connect(&server, "bob").await);
    let mut questions = bob.messages("sum").await.unwrap();
    let mut direct = bob.direct_messages().unwrap();
    tokio::spawn(async move {
        while let Some(Ok(question)) = questions.next().await {
            match question.read::<(i64, i64)>() {
                Ok((a, b)) => question.reply(&(a + b)).unwrap(),
                Err(error) => question.fail(error),
            }
        }
    });
    let ask = Ask::default();
    let asked = (alice.request("sum", &(1, 2), &ask), alice.request("sum", &(3, 4), &ask));
    let (one, two) = tokio::join!(asked.0, asked.1);
    assert_eq!((one.unwrap().as_str(), two.unwrap().as_str()), ("3", "7"));
    let failed = alice.request("sum", "x", &ask).await.unwrap_err();
    assert_eq!(failed.kind(), "request_failed");

    let mut ack = alice.publish_to_id_with_ack("bob", &1, &ask).unwrap();
    let message = direct.next().await.unwrap().unwrap();
    assert_eq!(ack.status().await.unwrap(), [("bob".to_owned(), false)].into());
    drop(message);
    assert!(ack.next().await.unwrap().unwrap().success);
    assert!(ack.next().await.is_none() && ack.next().await.is_none());
    assert!(ack.status().await.unwrap().is_empty());

    // Who does not wait any more cancels the request.
    let late = timeout(Duration::from_millis(50), alice.request_to_id("bob", &1, &ask)).await;
    assert!(late.is_err());
    let mut ack = alice.publish_with_ack("nobody", &1, &ask).unwrap();
    assert!(ack.wait().await.unwrap().is_empty());
    let mut ack = alice.publish_to_id_with_ack("bob", &1, &ask).unwrap();
    ack.cancel();
    assert!(ack.wait().await.unwrap().is_empty());
}

#[tokio::test]
async fn who_is_subscribed() {
    let Some(server) = Server::start(&[]) else { return };
    let (alice, bob) = (connect(&server, "alice").await, connect(&server, "bob").await);
    let (sender, mut told) = unbounded_channel();
    let observer = Observer::new(move |presence| drop(sender.send(presence)));
    let options = SubscribeOptions { presence: Some(observer), ..Default::default() };
    let mut messages = alice.messages_with("room", options).await.unwrap();
    tokio::spawn(async move { while messages.next().await.is_some() {} });
    assert_eq!(told.recv().await.unwrap().count, 1);
    let mut others = bob.messages("room").await.unwrap();
    let joined = told.recv().await.unwrap();
    assert_eq!((joined.joined.keys().next().unwrap().as_str(), joined.count), ("bob", 2));
    assert_eq!(bob.presence("room").await.unwrap().members.unwrap().len(), 2);
    let mut ack = bob.publish_with_ack("room", &1, &Ask::default()).unwrap();
    drop(others.next().await);
    assert_eq!(ack.wait().await.unwrap().len(), 2);
    assert_eq!(ack.presence(), joined.version);
}

#[tokio::test]
async fn a_client_comes_back_and_resumes() {
    let Some(server) = Server::start(&[]) else { return };
    let wire = Wire::to(&server);
    let (sender, mut events) = unbounded_channel();
    let options = Options::new(&wire.address)
        .reconnect(Backoff::every(Duration::from_millis(50)))
        .on_event(move |event| drop(sender.send(event)));
    let alice = Client::connect_with(options).await.unwrap();
    let bob = connect(&server, "bob").await;
    let last = SubscribeOptions { last: 1, ..Default::default() };
    let mut kept = alice.messages_with("kept/async", last).await.unwrap();
    bob.publish("kept/async", &1).await.unwrap();
    assert_eq!(kept.next().await.unwrap().unwrap().data.as_str(), "1");
    wire.cut();
    while !matches!(events.recv().await, Some(Event::Disconnected { .. })) {}
    bob.publish_with_receipt("kept/async", &2, &Ask::default()).await.unwrap();
    assert_eq!(kept.next().await.unwrap().unwrap().data.as_str(), "2");
    let past = bob.history("kept/async", None, 10).await.unwrap();
    assert_eq!(past.messages.len(), 2);
    drop(alice);
    assert!(kept.next().await.is_none());
    while !matches!(events.recv().await, Some(Event::Closed(None))) {}
}

#[tokio::test]
async fn refusals() {
    let Some(server) = Server::start(&[]) else { return };
    let refused = Client::connect(server.address.replace("/ws/bus", "/elsewhere")).await;
    assert!(matches!(refused.err(), Some(Error::ConnectFailed { status: Some(404), .. })));
    let unreachable = Client::connect_with(Options::new("127.0.0.1:1").reconnect(None)).await;
    assert_eq!(unreachable.err().unwrap().kind(), "connect_failed");
    let client = connect(&server, "alice").await;
    let long = client.messages("x".repeat(300)).await.unwrap_err();
    assert_eq!(long.kind(), "server_error");
    let mut plain = client.messages("plain").await.unwrap();
    let _other = connect(&server, "alice").await;
    assert!(matches!(plain.next().await, Some(Err(Error::ConnectionLost { code: 4001, .. }))));
    assert!(plain.next().await.is_none());
    client.close().await;
}

#[cfg(feature = "tls")]
#[tokio::test]
async fn tls() {
    use std::process::Command;
    let Some(python) = python() else { return };
    let folder = std::env::temp_dir().join(format!("kps-rust-tls-async-{}", std::process::id()));
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
    let authority = std::fs::read(folder.join("client.pem")).unwrap();
    let client = Client::connect_with(Options::new(&url).trust(authority)).await.unwrap();
    let mut messages = client.messages("large").await.unwrap();
    let large = "x".repeat(900_000);
    for _ in 0..5 {
        client.publish("large", &large).await.unwrap();
        assert_eq!(messages.next().await.unwrap().unwrap().data.as_str().len(), 900_002);
    }
    client.close().await;
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn without_a_python_there_is_nothing_to_test() {
    let _ = python();
}
