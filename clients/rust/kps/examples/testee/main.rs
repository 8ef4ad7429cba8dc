//! A testee: plays the program of client vectors on the blocking client (`spec/CLIENTS.md`).
//!
//! ```sh
//! cargo build --release --example testee
//! kps conformance --client target/release/examples/testee
//! ```

mod program;
mod spelling;

use std::io::BufRead;

use program::Program;
use serde_json::{Value, json};

fn main() {
    println!("{}", json!({"testee": "kps, Rust", "needs": spelling::NEEDS}));
    let mut program: Option<Program> = None;
    for line in std::io::stdin().lock().lines() {
        let line: Value =
            serde_json::from_str(&line.expect("the input is text")).expect("it is JSON");
        if line.get("vector").is_some() {
            program = Some(Program::new(&line["url"], &line["options"]));
        } else if let Some(number) = line.get("sync") {
            println!("{}", json!({"synced": number}));
        } else if line.get("end").is_some() {
            if let Some(program) = program.take() {
                program.end();
            }
            println!("{}", json!({"ended": true}));
        } else if let Some(program) = &mut program {
            program.begin(line);
        }
    }
}
