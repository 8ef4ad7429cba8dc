//! Payloads: JSON that stays as it was written, so that numbers keep their digits and objects the
//! order of their keys.

use std::fmt;
use std::sync::Arc;

use serde::de::{Deserialize, DeserializeOwned, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, Serializer};
use serde_json::value::RawValue;

use crate::error::{Error, Result};

/// Levels of arrays and objects that a payload may have (spec, 3.6).
const DEEPEST: usize = 128;

/// A JSON value as text. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Json(Arc<str>);

impl Json {
    /// Writes a value.
    ///
    /// Fails with [`Error::InvalidArgument`] if it cannot be JSON, or is nested more than 128 levels
    /// deep.
    pub fn of<T: Serialize + ?Sized>(value: &T) -> Result<Json> {
        let written = serde_json::to_string(value)
            .map_err(|error| Error::invalid(format!("cannot be written as JSON: {error}")))?;
        Json::from_text(&written)
    }

    /// Takes a text that is JSON already.
    ///
    /// A server refuses all of a WebSocket message for the fault of one payload in it, so this
    /// refuses everything that a server would.
    pub fn from_text(text: &str) -> Result<Json> {
        let text = text.trim_ascii();
        if deeper_than(text.as_bytes(), DEEPEST) {
            let text = format!("a payload is nested {DEEPEST} levels deep at most");
            return Err(Error::InvalidArgument(text));
        }
        let mut reader = serde_json::Deserializer::from_str(text);
        reader.disable_recursion_limit();
        Checked::deserialize(&mut reader)
            .and_then(|_| reader.end())
            .map_err(|error| Error::invalid(format!("not JSON: {error}")))?;
        Ok(Json(text.into()))
    }

    /// Takes what came in a message, which has been parsed.
    pub(crate) fn received(raw: &RawValue) -> Json {
        Json(raw.get().into())
    }

    pub(crate) fn null() -> Json {
        Json("null".into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Tells whether it is `null`.
    pub fn is_null(&self) -> bool {
        &*self.0 == "null"
    }

    /// Reads the value. Fails with [`Error::InvalidArgument`] if it is another one.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T> {
        let mut reader = serde_json::Deserializer::from_str(&self.0);
        reader.disable_recursion_limit(); // what comes in is not too deep
        T::deserialize(&mut reader)
            .map_err(|error| Error::invalid(format!("the payload is something else: {error}")))
    }
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let raw: &RawValue = serde_json::from_str(&self.0).map_err(serde::ser::Error::custom)?;
        raw.serialize(serializer)
    }
}

/// Tells whether JSON has more than `most` levels of arrays and objects.
pub(crate) fn deeper_than(text: &[u8], most: usize) -> bool {
    if text.len() < 2 * most {
        return false; // each level takes two bytes
    }
    let (mut depth, mut in_text, mut escaped) = (0usize, false, false);
    for &byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = in_text,
            b'"' => in_text = !in_text,
            _ if in_text => (),
            b'[' | b'{' => {
                depth += 1;
                if depth > most {
                    return true;
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => (),
        }
    }
    false
}

/// Reads any JSON and keeps nothing. Numbers and texts are read in full: what is skipped would not
/// be checked for numbers that are too large, nor for halves of characters.
struct Checked;

impl<'de> Deserialize<'de> for Checked {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Checked, D::Error> {
        deserializer.deserialize_any(Checked)
    }
}

impl<'de> Visitor<'de> for Checked {
    type Value = Checked;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Checked, E> {
        Ok(Checked)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Checked, E> {
        Ok(Checked)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Checked, E> {
        Ok(Checked)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Checked, E> {
        Ok(Checked)
    }

    fn visit_str<E>(self, _: &str) -> Result<Checked, E> {
        Ok(Checked)
    }

    fn visit_unit<E>(self) -> Result<Checked, E> {
        Ok(Checked)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Checked, A::Error> {
        while parts.next_element::<Checked>()?.is_some() {}
        Ok(Checked)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut parts: A) -> Result<Checked, A::Error> {
        while parts.next_entry::<Checked, Checked>()?.is_some() {}
        Ok(Checked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_stays_as_it_is() {
        let text = r#"{"b":1.50,"a":12345678901234567890,"b":"\u00e9"}"#;
        assert_eq!(Json::from_text(&format!(" {text}\n")).unwrap().as_str(), text);
    }

    #[test]
    fn what_servers_refuse_is_refused() {
        for text in ["", "1 2", "{", "[1,]", "1e400", r#""\ud800""#, r#"{"\ud800":1}"#, "NaN"] {
            assert_eq!(Json::from_text(text).unwrap_err().kind(), "invalid_argument", "{text}");
        }
    }

    #[test]
    fn a_payload_may_have_128_levels() {
        let nested = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
        let json = Json::from_text(&nested(128)).unwrap();
        assert!(json.read::<serde_json::Value>().is_ok());
        assert!(Json::from_text(&nested(129)).is_err());
        assert!(Json::from_text(&format!("{:?}", "[".repeat(300))).is_ok());
    }

    #[test]
    fn values_are_written_and_read() {
        assert_eq!(Json::of(&(1, "a")).unwrap().as_str(), r#"[1,"a"]"#);
        assert_eq!(Json::of(&[7]).unwrap().read::<Vec<u8>>().unwrap(), [7]);
        assert!(Json::of(&"a").unwrap().read::<u8>().is_err());
        let within = Json::of(&[Json::from_text("1.0").unwrap()]).unwrap();
        assert_eq!(within.as_str(), "[1.0]");
    }
}
