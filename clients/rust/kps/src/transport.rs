//! One TCP connection, with TLS or without.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use kps_core::Address;

/// How long a write may block before the driver looks at the time again.
const PATIENCE: Duration = Duration::from_millis(200);

/// A connection that one thread reads, and another one writes.
pub(crate) struct Transport {
    tcp: TcpStream,
    #[cfg(feature = "tls")]
    tls: Option<std::sync::Mutex<crate::tls::Tls>>,
}

/// What a connection needs to know of TLS.
#[cfg(feature = "tls")]
pub(crate) use crate::tls::Trust;
#[cfg(not(feature = "tls"))]
pub(crate) type Trust = ();

impl Transport {
    /// Connects to the first address of a server that answers.
    pub fn open(address: &Address, trust: &Trust, timeout: Duration) -> Result<Transport, String> {
        let begun = Instant::now();
        let found = (address.host.as_str(), address.port).to_socket_addrs();
        let mut fault = "its name has no address".to_owned();
        for socket in found.map_err(|error| error.to_string())? {
            let left = timeout.saturating_sub(begun.elapsed());
            if left.is_zero() {
                return Err("it does not answer in time".to_owned());
            }
            match TcpStream::connect_timeout(&socket, left) {
                Ok(tcp) => return Transport::over(tcp, address, trust),
                Err(error) => fault = error.to_string(),
            }
        }
        Err(fault)
    }

    fn over(tcp: TcpStream, address: &Address, trust: &Trust) -> Result<Transport, String> {
        let set = tcp.set_nodelay(true).and_then(|()| tcp.set_write_timeout(Some(PATIENCE)));
        set.map_err(|error| error.to_string())?;
        #[cfg(feature = "tls")]
        let tls = match address.secure {
            true => Some(crate::tls::Tls::new(trust, &address.host)?.into()),
            false => None,
        };
        #[cfg(not(feature = "tls"))]
        let _ = (address, trust);
        Ok(Transport {
            tcp,
            #[cfg(feature = "tls")]
            tls,
        })
    }

    /// Waits for bytes, and puts them into a buffer; there are none when the connection has ended.
    pub fn read<'b>(&self, buffer: &'b mut Vec<u8>) -> Result<&'b [u8], String> {
        buffer.resize(64 * 1024, 0);
        let count = loop {
            match (&self.tcp).read(buffer) {
                Ok(0) => return Err("the server has ended the connection".to_owned()),
                Ok(count) => break count,
                Err(error) if error.kind() == ErrorKind::Interrupted => (),
                Err(error) => return Err(error.to_string()),
            }
        };
        #[cfg(feature = "tls")]
        if let Some(tls) = self.tls() {
            let plain = { tls }.incoming(&buffer[..count])?;
            *buffer = plain;
            return Ok(buffer);
        }
        Ok(&buffer[..count])
    }

    /// Turns bytes of the program into those of the network.
    pub fn encode(&self, plain: Vec<u8>) -> Vec<u8> {
        #[cfg(feature = "tls")]
        if let Some(tls) = self.tls() {
            return { tls }.outgoing(&plain);
        }
        plain
    }

    /// Whether there is something to write, whatever the program has.
    pub fn wants_write(&self) -> bool {
        #[cfg(feature = "tls")]
        if let Some(tls) = self.tls() {
            return tls.wants_write();
        }
        false
    }

    /// Writes some bytes; 0 if the network takes none for a moment.
    pub fn write(&self, data: &[u8]) -> std::io::Result<usize> {
        match (&self.tcp).write(data) {
            Ok(0) => Err(ErrorKind::WriteZero.into()),
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => Ok(0),
                _ => Err(error),
            },
            written => written,
        }
    }

    /// Ends the sending side.
    pub fn finish(&self) {
        #[cfg(feature = "tls")]
        if let Some(tls) = self.tls() {
            let last = { tls }.finish();
            let _ = self.write(&last); // a few bytes, which the server can do without
        }
        let _ = self.tcp.shutdown(Shutdown::Write);
    }

    /// Ends both sides, and wakes who reads or writes.
    pub fn abort(&self) {
        let _ = self.tcp.shutdown(Shutdown::Both);
    }

    #[cfg(feature = "tls")]
    fn tls(&self) -> Option<std::sync::MutexGuard<'_, crate::tls::Tls>> {
        let tls = self.tls.as_ref()?;
        Some(tls.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}
