//! A chat room in the terminal, in which the writer sees who has got each line.
//!
//! ```sh
//! kps serve
//! cargo run --example chat alice   # in one terminal
//! cargo run --example chat bob     # in another; then type lines
//! ```
//!
//! Arguments: your name, then optionally the server's address and the room.

use std::io::{self, Write};

use kps::{Ask, Options};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().ok_or("usage: chat NAME [ADDRESS] [ROOM]")?;
    let address = arguments.next().unwrap_or_else(|| "localhost:9313".to_owned());
    let room = arguments.next().unwrap_or_else(|| "lobby".to_owned());

    let client = Options::new(address).id(&name).connect()?;
    let me = name.clone();
    client.subscribe(&room, move |message| {
        if message.from != me {
            let text = message.read().unwrap_or_else(|_| message.data.to_string());
            say(&format!("{}: {text}", message.from));
        }
    })?;
    say(&format!("you are {name} in {room}"));
    let mut line = String::new();
    while io::stdin().read_line(&mut line)? > 0 {
        let text = line.trim_end_matches('\n');
        let ack = client.publish_with_ack(&room, text, &Ask::within(5.0))?;
        let seen = ack.wait()?.into_iter().filter(|outcome| outcome.success);
        let mut seen: Vec<String> = seen.map(|outcome| outcome.name()).collect();
        seen.retain(|who| *who != name);
        seen.sort();
        let all = if seen.is_empty() { "nobody".to_owned() } else { seen.join(", ") };
        say(&format!("  seen by {all}"));
        line.clear();
    }
    Ok(())
}

fn say(line: &str) {
    println!("{line}");
    io::stdout().flush().expect("somebody reads it");
}
