//! Addresses of servers, as programs give them.

use crate::error::{Error, Result};

const DEFAULT_PORT: u16 = 9313;
const DEFAULT_PATH: &str = "/ws/bus";

/// Where a server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// A name or an IP address, without brackets.
    pub host: String,
    /// The TCP port.
    pub port: u16,
    /// Whether to use TLS.
    pub secure: bool,
    /// Path and query of the WebSocket.
    pub target: String,
}

impl Address {
    /// Reads `host`, `host:port`, or a URL with `ws://` or `wss://`, of which path and query are
    /// optional.
    pub fn parse(text: &str) -> Result<Address> {
        let fault = |hint: &str| {
            let shown = text.split(['?', '@']).next().unwrap_or_default();
            Error::invalid(format!("not a server address: {shown:?}; {hint}"))
        };
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(fault("it is ASCII without spaces"));
        }
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) => (Some(scheme.to_ascii_lowercase()), rest),
            None => (None, text),
        };
        let secure = match scheme.as_deref() {
            None | Some("ws" | "http") => false,
            Some("wss" | "https") => true,
            Some(_) => return Err(fault("it takes host:port or ws://host:port")),
        };
        let default_port = match scheme {
            None => DEFAULT_PORT,
            Some(_) if secure => 443,
            Some(_) => 80,
        };
        let (netloc, target) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        if netloc.contains('@') {
            return Err(fault("it has no user and no password; a client shows a token"));
        }
        if target.contains('#') {
            return Err(fault("it has no fragment"));
        }
        let (host, port) = match netloc.strip_prefix('[') {
            Some(rest) => {
                let (host, behind) = rest.split_once(']').ok_or_else(|| fault("a ] is missing"))?;
                let port = match behind.strip_prefix(':') {
                    Some(port) => Some(port),
                    None if behind.is_empty() => None,
                    None => return Err(fault("a port follows the ]")),
                };
                if host.parse::<std::net::Ipv6Addr>().is_err() {
                    return Err(fault("between brackets is an IPv6 address"));
                }
                (host, port)
            }
            None => match netloc.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (netloc, None),
            },
        };
        let port = match port {
            None => default_port,
            Some(port) => match port.parse() {
                Ok(number) if number > 0 && port.bytes().all(|byte| byte.is_ascii_digit()) => {
                    number
                }
                _ => return Err(fault("a port is a number from 1 to 65535")),
            },
        };
        if host.is_empty() {
            return Err(fault("it takes host:port or ws://host:port"));
        }
        let target = match target {
            "" => DEFAULT_PATH.to_owned(),
            query if query.starts_with('?') => format!("{DEFAULT_PATH}{query}"),
            path => path.to_owned(),
        };
        Ok(Address { host: host.to_owned(), port, secure, target })
    }

    /// `host:port`, with brackets around an IPv6 address.
    pub fn authority(&self) -> String {
        let Address { host, port, .. } = self;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }

    /// The field `Host` of a request: without the port of the scheme, as browsers write it.
    pub(crate) fn host_field(&self) -> String {
        let authority = self.authority();
        let own = if self.secure { ":443" } else { ":80" };
        authority.strip_suffix(own).map_or(authority.clone(), str::to_owned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        for (text, authority, secure, target) in [
            ("localhost", "localhost:9313", false, "/ws/bus"),
            ("localhost:80", "localhost:80", false, "/ws/bus"),
            ("ws://a.example", "a.example:80", false, "/ws/bus"),
            ("WSS://a.example/x?y=1", "a.example:443", true, "/x?y=1"),
            ("wss://a.example:9?t=1", "a.example:9", true, "/ws/bus?t=1"),
            ("[::1]:9313", "[::1]:9313", false, "/ws/bus"),
            ("ws://[::1]/", "[::1]:80", false, "/"),
        ] {
            let address = Address::parse(text).unwrap();
            assert_eq!(address.authority(), authority, "{text}");
            assert_eq!((address.secure, address.target.as_str()), (secure, target), "{text}");
        }
        assert_eq!(Address::parse("wss://a").unwrap().host_field(), "a");
        assert_eq!(Address::parse("a:443").unwrap().host_field(), "a:443");
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            ":1",
            "a:0",
            "a:65536",
            "a:+1",
            "a:b",
            "ftp://a",
            "ws://u:p@a",
            "a b",
            "ws://a/#x",
            "::1",
            "[::1",
            "[a]:1",
            "[::1]1",
            "ws://",
        ] {
            assert!(Address::parse(text).is_err(), "{text}");
        }
        let error = Address::parse("ws://a:x?token=secret").unwrap_err().to_string();
        assert!(!error.contains("secret"));
    }
}
