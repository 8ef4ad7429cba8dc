//! A server of KPS for tests, and a wire in front of it that can be cut.

#![allow(dead_code)] // each test uses a part of it

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

/// A server that ends with the test.
pub struct Server {
    process: Child,
    pub address: String,
}

/// The Python that has KPS: `KPS_PYTHON`, or that of the project. Without one a test has nothing to do.
pub fn python() -> Option<PathBuf> {
    let own = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../.venv/bin/python");
    let python = std::env::var_os("KPS_PYTHON").map_or(PathBuf::from(own), PathBuf::from);
    let has_kps = Command::new(&python).args(["-c", "import kps"]).output();
    match has_kps {
        Ok(output) if output.status.success() => Some(python),
        _ => {
            eprintln!("skipped: {} has no KPS; set KPS_PYTHON", python.display());
            None
        }
    }
}

impl Server {
    pub fn start(arguments: &[&str]) -> Option<Server> {
        let mut process = Command::new(python()?)
            .args(["-m", "kps", "serve", "--address", "127.0.0.1:0", "--history", "kept/**=5"])
            .args(["--log-level", "error"])
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .expect("a server starts");
        let mut line = String::new();
        let output = process.stdout.take().expect("it is piped");
        BufReader::new(output).read_line(&mut line).expect("the server says where it is");
        let url = line.split_whitespace().last().expect("a URL").to_owned();
        Some(Server { process, address: url })
    }

    /// `host:port`.
    pub fn authority(&self) -> String {
        let rest = self.address.split_once("://").expect("a URL").1;
        rest.split('/').next().expect("an authority").to_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A wire to a server.
pub struct Wire {
    pub address: String,
    ends: Arc<Mutex<Vec<TcpStream>>>,
}

impl Wire {
    pub fn to(server: &Server) -> Wire {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it has one").to_string();
        let ends: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
        let (held, server) = (ends.clone(), server.authority());
        thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let far = TcpStream::connect(&server).expect("the server is there");
                for (from, to) in [(&near, &far), (&far, &near)] {
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    thread::spawn(move || copy(from, to));
                }
                held.lock().unwrap().extend([near, far]);
            }
        });
        Wire { address, ends }
    }

    /// Ends all connections, without a word to either end.
    pub fn cut(&self) {
        for end in self.ends.lock().unwrap().drain(..) {
            let _ = end.shutdown(Shutdown::Both);
        }
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}
