//! Every error that a program can meet.

use std::collections::BTreeMap;
use std::fmt;

/// What went wrong.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Error {
    /// An argument is not valid. Nothing was sent.
    InvalidArgument(String),
    /// The message is larger than the server takes. Nothing was sent.
    MessageTooLarge(String),
    /// The call needs a connection, and there is none at the moment.
    NotConnected,
    /// The client has ended: the program closed it, or the server did so for good.
    ClientClosed,
    /// No connection could be made.
    ConnectFailed {
        /// Why not.
        reason: String,
        /// The HTTP status with which the server refused the request, if it did.
        status: Option<u16>,
    },
    /// The connection ended while something waited for its answer. Nobody knows whether the server
    /// has handled it.
    ConnectionLost {
        /// Why it ended.
        reason: String,
        /// The close code of the WebSocket, 1006 if there was none.
        code: u16,
    },
    /// The answer did not come in time.
    RequestTimeout(String),
    /// Something bounded has no room for more. Nothing was sent.
    QueueFull(&'static str),
    /// The server lacks a feature of the protocol, which is named. Nothing was sent.
    Unsupported(String),
    /// The server has refused something.
    Server(Box<ServerError>),
    /// A request has reached nobody.
    NobodyThere(String),
    /// All who were asked by a request have failed.
    RequestFailed {
        /// The error of one of them.
        reason: String,
        /// The errors of all, by client id, or by `GROUP of TOPIC`.
        errors: BTreeMap<String, String>,
    },
}

/// A refusal of the server. Programs rely on `code`; on level 1 only `text` is there.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ServerError {
    /// For people and logs.
    pub text: String,
    /// One of the codes of the specification, 12.6.
    pub code: String,
    /// The action that was refused.
    pub request: String,
    /// Its topic.
    pub topic: String,
    /// Its pattern.
    pub pattern: String,
    /// Its group.
    pub group: String,
    /// The id to which it was to go.
    pub to: String,
}

impl ServerError {
    /// Tells whether the same request may succeed later.
    pub fn is_temporary(&self) -> bool {
        matches!(self.code.as_str(), "rate_limited" | "limit_reached" | "unavailable")
    }
}

impl Error {
    /// The kind of the error in a word that is the same in every language.
    pub fn kind(&self) -> &'static str {
        match self {
            Error::InvalidArgument(_) => "invalid_argument",
            Error::MessageTooLarge(_) => "message_too_large",
            Error::NotConnected => "not_connected",
            Error::ClientClosed => "client_closed",
            Error::ConnectFailed { .. } => "connect_failed",
            Error::ConnectionLost { .. } => "connection_lost",
            Error::RequestTimeout(_) => "request_timeout",
            Error::QueueFull(_) => "queue_full",
            Error::Unsupported(_) => "unsupported",
            Error::Server(_) => "server_error",
            Error::NobodyThere(_) => "nobody_there",
            Error::RequestFailed { .. } => "request_failed",
        }
    }

    pub(crate) fn invalid(text: impl Into<String>) -> Error {
        Error::InvalidArgument(text.into())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::InvalidArgument(text) | Error::MessageTooLarge(text) => f.write_str(text),
            Error::NotConnected => f.write_str("there is no connection at the moment"),
            Error::ClientClosed => f.write_str("the client was closed"),
            Error::ConnectFailed { reason, .. } => write!(f, "cannot connect: {reason}"),
            Error::ConnectionLost { reason, code } => {
                write!(f, "the connection ended: {reason} (code {code})")
            }
            Error::RequestTimeout(text) => f.write_str(text),
            Error::QueueFull(text) => f.write_str(text),
            Error::Unsupported(feature) => write!(f, "the server does not have {feature}"),
            Error::Server(error) => f.write_str(&error.text),
            Error::NobodyThere(target) => write!(f, "nobody takes requests to {target:?}"),
            Error::RequestFailed { reason, .. } => f.write_str(reason),
        }
    }
}

impl std::error::Error for Error {}

/// A result with an [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;
