//! Frames: what a client writes, which is masked, and what it reads, which is not.

const FIN: u8 = 0x80;
const MASKED: u8 = 0x80;

const CONTINUATION: u8 = 0;
pub const TEXT: u8 = 1;
const BINARY: u8 = 2;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;
pub const PONG: u8 = 10;

const LONGEST_CONTROL: usize = 125;

/// Writes one whole message, or one control frame.
pub fn write(out: &mut Vec<u8>, opcode: u8, payload: &[u8], mask: [u8; 4]) {
    out.push(FIN | opcode);
    match payload.len() {
        size @ 0..=125 => out.push(MASKED | size as u8),
        size @ 126..=0xffff => {
            out.push(MASKED | 126);
            out.extend_from_slice(&(size as u16).to_be_bytes());
        }
        size => {
            out.push(MASKED | 127);
            out.extend_from_slice(&(size as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&mask);
    let begin = out.len();
    out.extend_from_slice(payload);
    for four in out[begin..].chunks_mut(4) {
        for (byte, key) in four.iter_mut().zip(mask) {
            *byte ^= key;
        }
    }
}

/// What the server has sent.
#[derive(Debug, PartialEq)]
pub enum Incoming {
    Message(String),
    Ping(Vec<u8>),
    Pong,
    /// A close code, 1005 if there was none, and a reason.
    Close(u16, String),
}

/// How the server broke a rule: the close code, and why.
#[derive(Debug, PartialEq)]
pub struct Fault(pub u16, pub &'static str);

const fn broken(reason: &'static str) -> Fault {
    Fault(1002, reason)
}

const TOO_BIG: Fault = Fault(1009, "message too big");

/// Reads frames, and puts messages together.
pub struct Decoder {
    buffer: Vec<u8>,
    /// How much of the buffer has been read.
    begin: usize,
    /// The payloads of the fragments so far, if a message has begun.
    fragments: Option<Vec<u8>>,
    max_message: usize,
}

struct Head {
    is_final: bool,
    opcode: u8,
    begin: usize,
    size: usize,
}

impl Decoder {
    pub fn new(max_message: usize) -> Decoder {
        Decoder { buffer: Vec::new(), begin: 0, fragments: None, max_message }
    }

    pub fn feed(&mut self, data: &[u8]) {
        self.buffer.drain(..self.begin);
        self.begin = 0;
        self.buffer.extend_from_slice(data);
    }

    /// Returns what comes next, or nothing until there are more bytes.
    pub fn next(&mut self) -> Result<Option<Incoming>, Fault> {
        while let Some(head) = self.head()? {
            let end = head.begin + head.size;
            if self.buffer.len() < end {
                return Ok(None);
            }
            self.begin = end;
            if let Some(incoming) = self.take(head)? {
                return Ok(Some(incoming));
            }
        }
        Ok(None)
    }

    /// Reads the head of the next frame, and judges it before its payload has come.
    fn head(&self) -> Result<Option<Head>, Fault> {
        let bytes = &self.buffer[self.begin..];
        let &[first, second, ref rest @ ..] = bytes else {
            return Ok(None);
        };
        if first & 0x70 != 0 {
            return Err(broken("a reserved bit is set"));
        }
        if second & MASKED != 0 {
            return Err(broken("a server masks no frames"));
        }
        let (size, length) = match second {
            126 => match rest.first_chunk::<2>() {
                Some(bytes) => (u64::from(u16::from_be_bytes(*bytes)), 2),
                None => return Ok(None),
            },
            127 => match rest.first_chunk::<8>() {
                Some(bytes) => (u64::from_be_bytes(*bytes), 8),
                None => return Ok(None),
            },
            size => (u64::from(size), 0),
        };
        if (length == 2 && size < 126) || (length == 8 && size <= 0xffff) || size >> 63 != 0 {
            return Err(broken("a length is written in the wrong way"));
        }
        let (is_final, opcode) = (first & FIN != 0, first & 0x0f);
        let so_far = self.fragments.as_ref().map_or(0, Vec::len);
        match opcode {
            CLOSE | PING | PONG if is_final && size <= LONGEST_CONTROL as u64 => (),
            CLOSE | PING | PONG => return Err(broken("a control frame is too long, or not whole")),
            TEXT | BINARY if self.fragments.is_none() => (),
            TEXT | BINARY => return Err(broken("a message begins within another one")),
            CONTINUATION if self.fragments.is_some() => (),
            CONTINUATION => return Err(broken("nothing is continued")),
            _ => return Err(broken("a reserved opcode")),
        }
        if opcode < CLOSE && size > (self.max_message - so_far) as u64 {
            return Err(TOO_BIG);
        }
        let begin = self.begin + 2 + length;
        Ok(Some(Head { is_final, opcode, begin, size: size as usize }))
    }

    fn take(&mut self, head: Head) -> Result<Option<Incoming>, Fault> {
        let payload = &self.buffer[head.begin..head.begin + head.size];
        match head.opcode {
            PING => return Ok(Some(Incoming::Ping(payload.to_vec()))),
            PONG => return Ok(Some(Incoming::Pong)),
            CLOSE => return read_close(payload).map(Some),
            _ => (),
        }
        let message = match (&mut self.fragments, head.is_final) {
            (None, true) => payload.to_vec(),
            (None, false) => {
                self.fragments = Some(payload.to_vec());
                return Ok(None);
            }
            (Some(fragments), is_final) => {
                fragments.extend_from_slice(payload);
                if !is_final {
                    return Ok(None);
                }
                self.fragments.take().unwrap_or_default()
            }
        };
        match String::from_utf8(message) {
            Ok(text) => Ok(Some(Incoming::Message(text))),
            Err(_) => Err(Fault(1007, "a message is not UTF-8")),
        }
    }
}

fn read_close(payload: &[u8]) -> Result<Incoming, Fault> {
    let Some((code, reason)) = payload.split_first_chunk::<2>() else {
        return match payload {
            [] => Ok(Incoming::Close(1005, String::new())),
            _ => Err(broken("half of a close code")),
        };
    };
    let code = u16::from_be_bytes(*code);
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(broken("this close code is not sent"));
    }
    match std::str::from_utf8(reason) {
        Ok(reason) => Ok(Incoming::Close(code, reason.to_owned())),
        Err(_) => Err(Fault(1007, "the reason of a close frame is not UTF-8")),
    }
}

/// The payload of a close frame.
pub fn close_payload(code: u16, reason: &str) -> Vec<u8> {
    if code == 1005 {
        return Vec::new();
    }
    let mut end = reason.len().min(LONGEST_CONTROL - 2);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    [&code.to_be_bytes(), &reason.as_bytes()[..end]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut written = Vec::new();
        write(&mut written, 0, payload, [0; 4]);
        let masked_at = written.len() - payload.len() - 4;
        written.drain(masked_at..masked_at + 4);
        written[0] = first;
        written[1] &= 0x7f;
        written
    }

    fn all(bytes: &[u8], piece: usize) -> Result<Vec<Incoming>, Fault> {
        let mut decoder = Decoder::new(70_000);
        let mut read = Vec::new();
        for part in bytes.chunks(piece) {
            decoder.feed(part);
            while let Some(incoming) = decoder.next()? {
                read.push(incoming);
            }
        }
        Ok(read)
    }

    #[test]
    fn frames_are_masked() {
        let mut written = Vec::new();
        write(&mut written, TEXT, b"Hello", [0x37, 0xfa, 0x21, 0x3d]);
        // The example of RFC 6455, 5.7.
        assert_eq!(written, [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58]);
    }

    #[test]
    fn messages_come_in_any_pieces() {
        let long = "x".repeat(66_000);
        let mut bytes = frame(0x81, b"one");
        bytes.extend(frame(0x01, "ä".as_bytes().split_at(1).0));
        bytes.extend(frame(0x89, b"p"));
        bytes.extend(frame(0x80, "ä".as_bytes().split_at(1).1));
        bytes.extend(frame(0x82, &long.as_bytes()[..200]));
        bytes.extend(frame(0x81, long.as_bytes()));
        bytes.extend(frame(0x88, b"\x03\xe8bye"));
        let expected = [
            Incoming::Message("one".into()),
            Incoming::Ping(b"p".into()),
            Incoming::Message("ä".into()),
            Incoming::Message(long[..200].into()),
            Incoming::Message(long.clone()),
            Incoming::Close(1000, "bye".into()),
        ];
        for piece in [1, 7, 100_000] {
            assert_eq!(all(&bytes, piece).unwrap(), expected);
        }
    }

    #[test]
    fn faults_have_codes() {
        for (bytes, code) in [
            (&b"\xc1\x00"[..], 1002),
            (b"\x83\x00", 1002),
            (b"\x80\x00", 1002),
            (b"\x01\x00\x81\x00", 1002),
            (b"\x81\x80\0\0\0\0", 1002),
            (b"\x09\x00", 1002),
            (b"\x89\x7e\0\x7e", 1002),
            (b"\x81\x7e\0\x05", 1002),
            (b"\x81\x7f\xff\0\0\0\0\0\0\0", 1002),
            (b"\x81\x7f\0\0\0\0\0\x02\0\0", 1009),
            (b"\x81\x01\xff", 1007),
            (b"\x88\x01\x03", 1002),
            (b"\x88\x02\x03\xed", 1002),
            (b"\x88\x03\x03\xe8\xff", 1007),
        ] {
            assert_eq!(all(bytes, 100).unwrap_err().0, code, "{bytes:?}");
        }
    }

    #[test]
    fn fragments_count_together() {
        let mut bytes = frame(0x01, &[b'x'; 40_000]);
        bytes.extend(frame(0x80, &[b'x'; 40_000]));
        assert_eq!(all(&bytes, 100_000), Err(TOO_BIG));
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let payload = close_payload(1008, &"ä".repeat(100));
        assert_eq!(payload.len(), 2 + 122);
        assert_eq!(read_close(&payload), Ok(Incoming::Close(1008, "ä".repeat(61))));
        assert_eq!(read_close(&close_payload(1005, "x")), Ok(Incoming::Close(1005, "".into())));
    }
}
