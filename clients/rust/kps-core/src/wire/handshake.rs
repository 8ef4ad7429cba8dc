//! The opening handshake of a client (RFC 6455, section 4.1).

use crate::address::Address;

/// Bytes of the head of an answer.
const LONGEST_HEAD: usize = 16 * 1024;

const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// What became of the request.
#[derive(Debug, PartialEq)]
pub enum Answer {
    /// The server has not answered in full.
    Partial,
    /// The WebSocket is open; these bytes follow the head.
    Accepted(Vec<u8>),
    /// It is not: the HTTP status, if the answer is one, and why.
    Refused(Option<u16>, String),
}

/// A handshake that is under way.
pub struct Handshake {
    accept: String,
    received: Vec<u8>,
}

impl Handshake {
    /// Writes the request; `key` is unpredictable.
    pub fn begin(
        address: &Address,
        headers: &[(String, String)],
        token: Option<&str>,
        key: [u8; 16],
    ) -> (Handshake, Vec<u8>) {
        let key = base64(&key);
        let mut request = format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n",
            address.target,
            address.host_field(),
        );
        for (name, value) in headers {
            request += &format!("{name}: {value}\r\n");
        }
        if let Some(token) = token {
            request += &format!("Authorization: Bearer {token}\r\n");
        }
        request += "\r\n";
        let accept = base64(&sha1(&[key.as_bytes(), GUID].concat()));
        (Handshake { accept, received: Vec::new() }, request.into_bytes())
    }

    /// Takes bytes of the answer.
    pub fn feed(&mut self, data: &[u8]) -> Answer {
        self.received.extend_from_slice(data);
        let head = &self.received[..self.received.len().min(LONGEST_HEAD)];
        let Some(end) = head.windows(4).position(|four| four == b"\r\n\r\n") else {
            return match head.len() < LONGEST_HEAD {
                true => Answer::Partial,
                false => refused(None, "the head of the answer is too large"),
            };
        };
        let rest = self.received.split_off(end + 4);
        self.received.truncate(end);
        let head = std::mem::take(&mut self.received);
        match std::str::from_utf8(&head) {
            Ok(head) => self.judge(head, rest),
            Err(_) => refused(None, "its answer is not HTTP"),
        }
    }

    fn judge(&self, head: &str, rest: Vec<u8>) -> Answer {
        let mut lines = head.split("\r\n");
        let status = match lines.next().and_then(status_of) {
            Some(101) => 101,
            Some(status) => {
                return Answer::Refused(Some(status), format!("refused with HTTP status {status}"));
            }
            None => return refused(None, "its answer is not HTTP"),
        };
        let mut fields: Vec<(String, &str)> = Vec::new();
        for line in lines {
            let Some((name, value)) = line.split_once(':') else {
                return refused(Some(status), "its answer has a line that is no header");
            };
            fields.push((name.to_ascii_lowercase(), value.trim_matches([' ', '\t'])));
        }
        let values = |name: &str| -> Vec<&str> {
            let found = fields.iter().filter(|(known, _)| known == name);
            found.flat_map(|(_, value)| value.split(',').map(str::trim)).collect()
        };
        if !values("connection").iter().any(|one| one.eq_ignore_ascii_case("upgrade")) {
            return refused(Some(status), "its answer has no Connection: Upgrade");
        }
        if !matches!(values("upgrade")[..], [one] if one.eq_ignore_ascii_case("websocket")) {
            return refused(Some(status), "its answer has no Upgrade: websocket");
        }
        if values("sec-websocket-accept") != [self.accept.as_str()] {
            return refused(Some(status), "its Sec-WebSocket-Accept is wrong");
        }
        for name in ["sec-websocket-extensions", "sec-websocket-protocol"] {
            if !values(name).is_empty() {
                return refused(Some(status), "it wants an extension or a protocol unasked");
            }
        }
        Answer::Accepted(rest)
    }
}

fn refused(status: Option<u16>, fault: &str) -> Answer {
    // A status of 101 with a fault is no refusal by a status.
    Answer::Refused(
        status.filter(|status| *status != 101),
        format!("not a WebSocket server: {fault}"),
    )
}

fn status_of(line: &str) -> Option<u16> {
    let (version, rest) = line.split_once(' ')?;
    let digits = rest.split(' ').next()?;
    let is_http = version.strip_prefix("HTTP/").is_some_and(|v| v.len() == 3);
    let is_status = digits.len() == 3 && digits.bytes().all(|byte| byte.is_ascii_digit());
    if is_http && is_status { digits.parse().ok().filter(|status| *status >= 100) } else { None }
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let bits = three.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte));
        let bits = bits << (8 * (3 - three.len()));
        for place in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * place)) as usize & 63];
            text.push(if place <= three.len() { digit as char } else { '=' });
        }
    }
    text
}

/// SHA-1 (RFC 3174), which the handshake asks for, and which secures nothing here.
fn sha1(message: &[u8]) -> [u8; 20] {
    let mut padded = message.to_vec();
    padded.push(0x80);
    padded.resize(padded.len().next_multiple_of(64), 0);
    if padded.len() - message.len() < 9 {
        padded.resize(padded.len() + 64, 0);
    }
    let end = padded.len() - 8;
    padded[end..].copy_from_slice(&(message.len() as u64 * 8).to_be_bytes());

    let mut state = [0x67452301u32, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0];
    for block in padded.chunks_exact(64) {
        let mut words = [0u32; 80];
        for (word, bytes) in words.iter_mut().zip(block.chunks_exact(4)) {
            *word = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        }
        for t in 16..80 {
            words[t] = (words[t - 3] ^ words[t - 8] ^ words[t - 14] ^ words[t - 16]).rotate_left(1);
        }
        let [mut a, mut b, mut c, mut d, mut e] = state;
        for (t, word) in words.iter().enumerate() {
            let (f, k) = match t / 20 {
                0 => ((b & c) | (!b & d), 0x5a827999),
                1 => (b ^ c ^ d, 0x6ed9eba1),
                2 => ((b & c) | (b & d) | (c & d), 0x8f1bbcdc),
                _ => (b ^ c ^ d, 0xca62c1d6u32),
            };
            let next = a.rotate_left(5).wrapping_add(f).wrapping_add(e).wrapping_add(k);
            (e, d, c, b, a) = (d, c, b.rotate_left(30), a, next.wrapping_add(*word));
        }
        for (sum, part) in state.iter_mut().zip([a, b, c, d, e]) {
            *sum = sum.wrapping_add(part);
        }
    }
    let mut digest = [0; 20];
    for (bytes, word) in digest.chunks_exact_mut(4).zip(state) {
        bytes.copy_from_slice(&word.to_be_bytes());
    }
    digest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begun() -> (Handshake, String) {
        let address = Address::parse("ws://a.example/x?y").unwrap();
        // The key of the example in RFC 6455, 1.3: "the sample nonce".
        let headers = [("X-More".to_owned(), "b".to_owned())];
        let (handshake, request) =
            Handshake::begin(&address, &headers, Some("secret"), *b"the sample nonce");
        (handshake, String::from_utf8(request).unwrap())
    }

    const ACCEPTED: &str = "HTTP/1.1 101 Switching Protocols\r\nupgrade: WebSocket\r\n\
        Connection: keep-alive, Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

    #[test]
    fn the_request_has_all_fields() {
        let request = begun().1;
        assert!(request.starts_with("GET /x?y HTTP/1.1\r\nHost: a.example\r\n"));
        assert!(request.contains("\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"));
        assert!(request.ends_with("\r\nX-More: b\r\nAuthorization: Bearer secret\r\n\r\n"));
    }

    #[test]
    fn the_answer_may_come_in_pieces() {
        let mut handshake = begun().0;
        let answer = format!("{ACCEPTED}\r\n\r\nrest");
        let (one, two) = answer.split_at(30);
        assert_eq!(handshake.feed(one.as_bytes()), Answer::Partial);
        assert_eq!(handshake.feed(two.as_bytes()), Answer::Accepted(b"rest".into()));
    }

    #[test]
    fn other_answers_are_refused() {
        let feed = |head: &str| begun().0.feed(format!("{head}\r\n\r\n").as_bytes());
        let status = |head: &str| match feed(head) {
            Answer::Refused(status, _) => status,
            other => panic!("{head}: {other:?}"),
        };
        assert_eq!(status("HTTP/1.1 403 Forbidden"), Some(403));
        assert_eq!(status("HTTP/1.1 200"), Some(200));
        assert_eq!(status("SSH-2.0"), None);
        assert_eq!(status("HTTP/1.1 099 x"), None);
        assert_eq!(status("HTTP/1.1 101 x"), None);
        assert_eq!(status(&ACCEPTED.replace("s3p", "xxx")), None);
        assert_eq!(status(&ACCEPTED.replace("WebSocket", "h2c")), None);
        assert_eq!(status(&ACCEPTED.replace("keep-alive, Upgrade", "close")), None);
        assert_eq!(status(&format!("{ACCEPTED}\r\nSec-WebSocket-Protocol: x")), None);
        assert_eq!(status(&format!("{ACCEPTED}\r\nno header")), None);
        let long = format!("{ACCEPTED}\r\nX: {}", "x".repeat(LONGEST_HEAD));
        assert_eq!(status(&long), None);
    }

    #[test]
    fn sha1_is_that_of_the_standard() {
        let hex = |text: &[u8]| sha1(text).iter().map(|b| format!("{b:02x}")).collect::<String>();
        assert_eq!(hex(b""), "da39a3ee5e6b4b0d3255bfef95601890afd80709");
        assert_eq!(hex(b"abc"), "a9993e364706816aba3e25717850c26c9cd0d89d");
        assert_eq!(hex(&[b'a'; 1000]), "291e9a6c66994949b57ba5e650361e98fc36b1ba");
        for length in 50..70 {
            sha1(&vec![0; length]); // around the places where the padding needs another block
        }
    }

    #[test]
    fn base64_is_padded() {
        assert_eq!(base64(b"f"), "Zg==");
        assert_eq!(base64(b"fo"), "Zm8=");
        assert_eq!(base64(b"foo"), "Zm9v");
    }
}
