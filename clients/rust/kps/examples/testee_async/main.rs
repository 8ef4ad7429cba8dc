//! The testee of the asynchronous client: see `testee`.

#[path = "../testee/spelling.rs"]
mod spelling;

use std::collections::HashMap;
use std::time::Duration;

use kps::aio::{Ack, Client, Messages};
use kps::{Error, Options, Reply, Result};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, yield_now};

use spelling::*;

/// Turns of the runtime in which a call that needs no network comes to its end.
const TURNS: usize = 20;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    println!("{}", json!({"testee": "kps, Rust, async", "needs": NEEDS}));
    let mut program: Option<Program> = None;
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await.expect("the input is text") {
        let line: Value = serde_json::from_str(&line).expect("it is JSON");
        if line.get("vector").is_some() {
            program = Some(Program::new(&line["url"], &line["options"]));
        } else if let Some(number) = line.get("sync") {
            settle().await;
            println!("{}", json!({"synced": number}));
        } else if line.get("end").is_some() {
            if let Some(program) = program.take() {
                program.end().await;
            }
            println!("{}", json!({"ended": true}));
        } else if let Some(program) = &mut program {
            program.begin(line).await;
            settle().await;
        }
    }
}

async fn settle() {
    for _ in 0..TURNS {
        yield_now().await;
    }
}

/// The program of one vector.
struct Program {
    teller: Teller,
    options: Option<Options>,
    reports_direct: bool,
    client: Option<Client>,
    subscriptions: HashMap<String, oneshot::Sender<()>>,
    answers: HashMap<String, UnboundedSender<Value>>,
    acks: HashMap<String, UnboundedSender<Order>>,
    tasks: Vec<JoinHandle<()>>,
}

/// What a task that has an ack is told to do with it.
enum Order {
    Cancel,
    /// Ask for the status, on behalf of a call.
    Status(Value),
}

impl Program {
    fn new(url: &Value, options: &Value) -> Program {
        let teller = Teller::default();
        let tell = teller.clone();
        Program {
            options: Some(options_in(url, options).on_event(move |event| tell.event(event))),
            reports_direct: options["reports_direct"] == true,
            teller,
            client: None,
            subscriptions: HashMap::new(),
            answers: HashMap::new(),
            acks: HashMap::new(),
            tasks: Vec::new(),
        }
    }

    async fn end(self) {
        self.teller.end();
        if let Some(client) = self.client {
            client.close_within(Some(Duration::from_millis(100))).await;
        }
        self.tasks.iter().for_each(JoinHandle::abort);
    }

    async fn begin(&mut self, step: Value) {
        let name = step.get("as").unwrap_or(&step["do"]).clone();
        if let Err(error) = self.carry_out(&name, step).await {
            self.teller.failed(&name, &error);
        }
    }

    async fn carry_out(&mut self, name: &Value, step: Value) -> Result<()> {
        if step["do"] == "connect" {
            return self.connect();
        }
        let client = self.client.clone().ok_or(Error::NotConnected)?;
        let key = text(&step, "as");
        match step["do"].as_str().unwrap_or_default() {
            "close" => client.close().await,
            "subscribe" => self.subscribe(&client, name, step).await?,
            "answer" => {
                if let Some(answers) = self.answers.get(&key) {
                    let _ = answers.send(step);
                }
            }
            "unsubscribe" => drop(self.subscriptions.remove(&key)),
            "publish" => {
                let headers = headers_in(&step);
                client.publish_with_headers(&text(&step, "topic"), &step["data"], &headers).await?;
            }
            "publish_to_id" => {
                let headers = headers_in(&step);
                client
                    .publish_to_id_with_headers(&text(&step, "to"), &step["data"], &headers)
                    .await?;
            }
            "publish_with_ack" => {
                let (data, ask) = (&step["data"], ask_in(&step));
                let ack = match step.get("to") {
                    None => client.publish_with_ack(&text(&step, "topic"), data, &ask)?,
                    Some(_) => client.publish_to_id_with_ack(&text(&step, "to"), data, &ask)?,
                };
                let (orders, told) = unbounded_channel();
                self.acks.insert(key, orders);
                self.spawn(gather(self.teller.clone(), name.clone(), ack, told));
            }
            "cancel" => drop(self.acks[&key].send(Order::Cancel)),
            "status" => drop(self.acks[&text(&step, "of")].send(Order::Status(name.clone()))),
            _ => self.spawn(ask(self.teller.clone(), client, name.clone(), step)),
        }
        Ok(())
    }

    fn connect(&mut self) -> Result<()> {
        let Some(options) = self.options.take() else {
            return Ok(());
        };
        let client = Client::start(options)?;
        if self.reports_direct {
            let (teller, mut messages) = (self.teller.clone(), client.direct_messages()?);
            self.spawn(async move {
                while let Some(Ok(message)) = messages.next().await {
                    teller.tell("direct", of_direct(&message));
                }
            });
        }
        self.client = Some(client);
        Ok(())
    }

    async fn subscribe(&mut self, client: &Client, name: &Value, step: Value) -> Result<()> {
        let options = subscribe_options_in(&step, &self.teller);
        let messages = client.messages_with(scope_in(&step), options).await?;
        let (leave, left) = oneshot::channel();
        self.subscriptions.insert(text(&step, "as"), leave);
        let (answers, held) = unbounded_channel();
        self.answers.insert(text(&step, "as"), answers);
        let answer = step["answer"].clone();
        self.spawn(handle(self.teller.clone(), name.clone(), messages, answer, held, left));
        Ok(())
    }

    fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.push(tokio::spawn(task));
    }
}

/// Handles the messages of a subscription, one after the other.
async fn handle(
    teller: Teller,
    name: Value,
    mut messages: Messages,
    answer: Value,
    mut held: UnboundedReceiver<Value>,
    mut left: oneshot::Receiver<()>,
) {
    match messages.confirmed().await {
        Ok(()) => teller.done(&name, Value::Null),
        Err(error) => return teller.failed(&name, &error),
    }
    loop {
        let message = tokio::select! {
            _ = &mut left => return,
            message = messages.next() => message,
        };
        let Some(Ok(message)) = message else {
            return;
        };
        let mut told = of_message(&message);
        told["as"] = name.clone();
        teller.tell("message", told);
        if answer.get("hold").is_none() {
            answered(&answer).answer(&message);
            continue;
        }
        tokio::select! {
            _ = &mut left => {
                drop(messages);
                if let Some(answer) = held.recv().await {
                    answered(&answer).answer(&message);
                }
                return;
            }
            answer = held.recv() => answered(&answer.unwrap_or_default()).answer(&message),
        }
    }
}

/// Tells the outcomes of a message.
async fn gather(teller: Teller, name: Value, mut ack: Ack, mut orders: UnboundedReceiver<Order>) {
    loop {
        tokio::select! {
            outcome = ack.next() => match outcome {
                Some(Ok(outcome)) => teller.tell("outcome", of_outcome(&name, &outcome)),
                Some(Err(error)) => return teller.failed(&name, &error),
                None => return teller.done(&name, Value::Null),
            },
            Some(order) = orders.recv() => match order {
                Order::Cancel => ack.cancel(),
                Order::Status(name) => match ack.status().await {
                    Ok(status) => teller.done(&name, json!(status)),
                    Err(error) => teller.failed(&name, &error),
                },
            },
        }
    }
}

/// Asks the server, and tells the answer.
async fn ask(teller: Teller, client: Client, name: Value, step: Value) {
    let (topic, data, ask) = (text(&step, "topic"), &step["data"], ask_in(&step));
    let result = match step["do"].as_str().unwrap_or_default() {
        "publish_with_receipt" => {
            client.publish_with_receipt(&topic, data, &ask).await.map(|count| json!(count))
        }
        "request" => {
            let result = match step.get("to") {
                None => client.request(&topic, data, &ask).await,
                Some(_) => client.request_to_id(&text(&step, "to"), data, &ask).await,
            };
            result.and_then(|result| result.read())
        }
        "history" => {
            let limit = step["last"].as_u64().unwrap_or(100);
            let past = client.history(&topic, position_in(&step), limit).await;
            past.map(|past| of_past(&past))
        }
        "presence" => client.presence(&topic).await.map(|presence| of_presence(&presence)),
        "flush" => client.flush().await.map(|()| Value::Null),
        _ => Err(Error::Unsupported("this verb".to_owned())),
    };
    match result {
        Ok(result) => teller.done(&name, result),
        Err(error) => teller.failed(&name, &error),
    }
}
