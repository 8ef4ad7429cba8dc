//! Any bytes in place of the server's, from the beginning.
//!
//! `cargo +nightly fuzz run bytes` in `kps-core`.

#![no_main]

use std::time::Duration;

use kps_core::{Address, Options, Session};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let address = Address::parse("localhost:1").unwrap();
    let mut session = Session::new(Options::new(address, "me"), |bytes| bytes.fill(0)).unwrap();
    let (mut now, mut out) = (Duration::ZERO, Vec::new());
    session.connected(None, now);
    // The first byte says how large the pieces are.
    let piece = data.first().map_or(1, |byte| usize::from(*byte).max(1));
    for part in data.get(1..).unwrap_or_default().chunks(piece) {
        session.receive(part, now);
        now += Duration::from_millis(100);
        session.handle_timeout(now);
        out.clear();
        session.data_to_send(&mut out, 1 << 20, now);
        while session.poll().is_some() {}
    }
    session.close(None, now);
});
