//! Messages of the server, read no further than they are needed; and messages to it.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::json::{Json, deeper_than};

/// Levels that a message may have: those of a payload, and some around it.
const DEEPEST: usize = 140;

/// The largest integer that every language reads.
const LARGEST: u64 = (1 << 53) - 1;

/// Fields that must be texts in every message (spec, 3.3).
const TEXTS: [&str; 7] = ["action", "topic", "from", "to", "id", "error", "ack_id"];

/// An object whose members are not parsed yet. Of members with one name the last one counts.
pub(crate) struct Fields<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Fields<'a> {
    /// Reads an object.
    pub fn of(raw: &'a RawValue) -> Option<Fields<'a>> {
        serde_json::from_str(raw.get()).ok()
    }

    /// Reads a message; the error is the text of what is wrong with it.
    pub fn message(raw: &'a RawValue) -> Result<Fields<'a>, String> {
        let fields = Fields::of(raw).ok_or("message is not a JSON object")?;
        for (name, value) in &fields.0 {
            let is_text = value.get().starts_with('"') || value.get() == "null";
            if !is_text && TEXTS.contains(&name.as_ref()) {
                return Err(format!("field {name} must be a string"));
            }
        }
        Ok(fields)
    }

    /// What a field has; nothing for one that is missing or `null`.
    pub fn get(&self, name: &str) -> Option<&'a RawValue> {
        let found = self.0.iter().rev().find(|(known, _)| known == name)?.1;
        (found.get() != "null").then_some(found)
    }

    /// A text; empty if it is missing or something else.
    pub fn text(&self, name: &str) -> String {
        self.text_or_none(name).unwrap_or_default()
    }

    pub fn text_or_none(&self, name: &str) -> Option<String> {
        self.read(name)
    }

    /// A whole number that every language reads.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.read(name).filter(|number| *number <= LARGEST)
    }

    pub fn seconds(&self, name: &str) -> Option<f64> {
        self.read(name)
    }

    pub fn boolean(&self, name: &str) -> Option<bool> {
        self.read(name)
    }

    /// A payload; `null` if it is missing.
    pub fn payload(&self, name: &str) -> Json {
        self.get(name).map_or_else(Json::null, Json::received)
    }

    pub fn object(&self, name: &str) -> Option<Fields<'a>> {
        self.get(name).and_then(Fields::of)
    }

    pub fn array(&self, name: &str) -> Option<Vec<&'a RawValue>> {
        self.read(name)
    }

    /// The objects of an array.
    pub fn objects(&self, name: &str) -> Vec<Fields<'a>> {
        let parts = self.array(name).unwrap_or_default();
        parts.into_iter().filter_map(Fields::of).collect()
    }

    /// The texts of an array.
    pub fn texts(&self, name: &str) -> Vec<String> {
        let parts = self.array(name).unwrap_or_default();
        let read = |part: &RawValue| serde_json::from_str(part.get()).ok();
        parts.into_iter().filter_map(read).collect()
    }

    /// All members, in order.
    pub fn members(&self) -> impl Iterator<Item = (&str, &'a RawValue)> {
        self.0.iter().map(|(name, value)| (name.as_ref(), *value))
    }

    fn read<T: Deserialize<'a>>(&self, name: &str) -> Option<T> {
        serde_json::from_str(self.get(name)?.get()).ok()
    }
}

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::with_capacity(6);
                while let Some((Name(name), value)) = map.next_entry()? {
                    fields.push((name, value));
                }
                Ok(Fields(fields))
            }
        }

        deserializer.deserialize_map(Members)
    }
}

/// The name of a field, which is not copied unless it has escapes.
struct Name<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl<'de> Visitor<'de> for Text {
            type Value = Name<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Owned(text.to_owned())))
            }
        }

        deserializer.deserialize_str(Text)
    }
}

/// Takes a WebSocket message apart into messages, which need not be valid yet.
pub(crate) fn messages_in(text: &str) -> Result<Vec<&RawValue>, String> {
    if deeper_than(text.as_bytes(), DEEPEST) {
        return Err("message nested too deeply".into());
    }
    let whole: &RawValue =
        serde_json::from_str(text).map_err(|_| "message is not valid JSON".to_owned())?;
    if !whole.get().starts_with('[') {
        return Ok(vec![whole]);
    }
    serde_json::from_str(whole.get()).map_err(|_| "message is not valid JSON".to_owned())
}

/// Writes one message, or another object.
pub(crate) struct Object(Vec<u8>);

impl Object {
    pub fn new() -> Object {
        Object(b"{".to_vec())
    }

    pub fn action(name: &str) -> Object {
        Object::new().text("action", name)
    }

    pub fn text(self, name: &str, value: &str) -> Object {
        self.member(name, |text| write_text(text, value))
    }

    /// A text, unless it is empty.
    pub fn text_if(self, name: &str, value: &str) -> Object {
        if value.is_empty() { self } else { self.text(name, value) }
    }

    pub fn number(self, name: &str, value: impl fmt::Display) -> Object {
        self.raw(name, value.to_string().as_bytes())
    }

    pub fn boolean(self, name: &str, value: bool) -> Object {
        self.raw(name, if value { b"true" } else { b"false" })
    }

    pub fn json(self, name: &str, value: &Json) -> Object {
        self.raw(name, value.as_str().as_bytes())
    }

    pub fn object(self, name: &str, value: Object) -> Object {
        self.raw(name, &value.done())
    }

    pub fn raw(self, name: &str, value: &[u8]) -> Object {
        self.member(name, |text| text.extend_from_slice(value))
    }

    pub fn done(mut self) -> Vec<u8> {
        self.0.push(b'}');
        self.0
    }

    fn member(mut self, name: &str, write: impl FnOnce(&mut Vec<u8>)) -> Object {
        if self.0.len() > 1 {
            self.0.push(b',');
        }
        write_text(&mut self.0, name);
        self.0.push(b':');
        write(&mut self.0);
        self
    }
}

fn write_text(text: &mut Vec<u8>, value: &str) {
    serde_json::to_writer(text, value).expect("a text can be written to memory");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(text: &str) -> Fields<'_> {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn the_last_member_counts_and_null_is_missing() {
        let read = fields(r#"{"topic":"a","topic":"b","to":null,"n":3,"w":-1,"\u0061":true}"#);
        assert_eq!(read.text("topic"), "b");
        assert_eq!(read.text_or_none("to"), None);
        assert_eq!((read.number("n"), read.number("w"), read.number("x")), (Some(3), None, None));
        assert_eq!(read.boolean("a"), Some(true));
    }

    #[test]
    fn payloads_are_not_parsed() {
        let read = fields(r#"{"data": {"b":1.50, "a":[1e2]} }"#);
        assert_eq!(read.payload("data").as_str(), r#"{"b":1.50, "a":[1e2]}"#);
        assert_eq!(read.payload("other").as_str(), "null");
    }

    #[test]
    fn a_websocket_message_has_one_message_or_an_array() {
        assert_eq!(messages_in(r#" {"a":1} "#).unwrap().len(), 1);
        assert_eq!(messages_in(r#"[{"a":1},2]"#).unwrap().len(), 2);
        assert_eq!(messages_in("[]").unwrap().len(), 0);
        assert!(messages_in("[1").is_err());
        assert!(messages_in(&"[".repeat(100_000)).is_err());
    }

    #[test]
    fn known_fields_are_texts() {
        let check = |text: &str| Fields::message(serde_json::from_str(text).unwrap()).err();
        assert_eq!(check(r#"{"action":"pong","id":null,"data":1}"#), None);
        assert_eq!(check(r#"{"topic":1}"#).unwrap(), "field topic must be a string");
        assert_eq!(check("1").unwrap(), "message is not a JSON object");
    }

    #[test]
    fn objects_are_written() {
        let written = Object::action("a\"b").text_if("x", "").number("n", 1.5).boolean("b", false);
        let written = written.object("o", Object::new().json("j", &Json::null())).done();
        assert_eq!(written, br#"{"action":"a\"b","n":1.5,"b":false,"o":{"j":null}}"#);
    }
}
