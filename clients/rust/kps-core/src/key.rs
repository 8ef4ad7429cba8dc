//! What a program subscribes to, and the language of patterns (spec, 14.1).

use std::fmt;

use crate::error::{Error, Result};

/// Characters of a topic or an id that a program may give. The server has its own, smaller limit.
const LONGEST: usize = 65_536;

/// A topic, or all topics of a pattern.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// One topic.
    Topic(String),
    /// The topics that match: `*` stands for any characters but `/`, `**` for any characters.
    Pattern(String),
}

impl Scope {
    /// A pattern.
    pub fn pattern(text: impl Into<String>) -> Scope {
        Scope::Pattern(text.into())
    }

    /// The topic, or the text of the pattern.
    pub fn text(&self) -> &str {
        match self {
            Scope::Topic(text) | Scope::Pattern(text) => text,
        }
    }

    /// Tells whether it has a topic.
    pub fn has(&self, topic: &str) -> bool {
        match self {
            Scope::Topic(own) => own == topic,
            Scope::Pattern(pattern) => selects(pattern, topic),
        }
    }

    pub(crate) fn is_pattern(&self) -> bool {
        matches!(self, Scope::Pattern(_))
    }
}

impl From<&str> for Scope {
    fn from(topic: &str) -> Scope {
        Scope::Topic(topic.to_owned())
    }
}

impl From<&String> for Scope {
    fn from(topic: &String) -> Scope {
        Scope::Topic(topic.clone())
    }
}

impl From<String> for Scope {
    fn from(topic: String) -> Scope {
        Scope::Topic(topic)
    }
}

/// What one subscription is to: a scope, by itself or as a member of a group.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// The topic or pattern.
    pub scope: Scope,
    /// The name of the group; empty: none.
    pub group: String,
}

impl Key {
    pub(crate) fn check(&self) -> Result<()> {
        check_text("a topic", self.scope.text())?;
        if self.group.is_empty() { Ok(()) } else { check_text("a group", &self.group) }
    }

    /// The topic, if it is one, and in no group.
    pub(crate) fn as_topic(&self) -> Option<&str> {
        match &self.scope {
            Scope::Topic(topic) if self.group.is_empty() => Some(topic),
            _ => None,
        }
    }

    /// The features of a server that it needs.
    pub(crate) fn needs(&self) -> impl Iterator<Item = &'static str> {
        let groups = (!self.group.is_empty()).then_some("groups");
        groups.into_iter().chain(self.scope.is_pattern().then_some("patterns"))
    }

    /// Tells whether some topic may come to both, where neither is in a group.
    pub(crate) fn overlaps(&self, other: &Key) -> bool {
        if !self.group.is_empty() || !other.group.is_empty() {
            return false;
        }
        match (&self.scope, &other.scope) {
            (Scope::Topic(topic), _) => other.scope.has(topic),
            (_, Scope::Topic(topic)) => self.scope.has(topic),
            (one, two) => one == two,
        }
    }
}

impl<T: Into<Scope>> From<T> for Key {
    /// Not in a group.
    fn from(scope: T) -> Key {
        Key { scope: scope.into(), group: String::new() }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.group.is_empty() {
            f.write_str(self.scope.text())
        } else {
            write!(f, "{} of {}", self.group, self.scope.text())
        }
    }
}

/// Refuses what no server takes as a topic, an id or the like.
pub(crate) fn check_text(what: &str, text: &str) -> Result<()> {
    if text.is_empty() {
        Err(Error::invalid(format!("{what} is a text that is not empty")))
    } else if text.len() > LONGEST && text.chars().count() > LONGEST {
        Err(Error::invalid(format!("{what} has more than {LONGEST} characters")))
    } else if text.chars().any(char::is_control) {
        Err(Error::invalid(format!("{what} has a control character in it")))
    } else {
        Ok(())
    }
}

/// Tells whether a pattern has a topic. Those that begin with `__` must be asked for (spec, 14.2).
fn selects(pattern: &str, topic: &str) -> bool {
    if topic.starts_with("__") {
        let end = topic.find('/').map_or(topic.len(), |slash| slash + 1);
        if !pattern.starts_with(&topic[..end]) {
            return false;
        }
    }
    matches(pattern.as_bytes(), topic.as_bytes())
}

/// Tells whether all of a topic matches.
///
/// Where a star has taken too little, the search goes back to it: to the last `*`, and when that
/// would have to take a `/`, to the last `**`. Earlier ones never need to take more.
fn matches(pattern: &[u8], topic: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut narrow = None;
    let mut wide = None;
    loop {
        if p < pattern.len() && pattern[p] == b'*' {
            let begin = p;
            while p < pattern.len() && pattern[p] == b'*' {
                p += 1;
            }
            if p - begin > 1 {
                (wide, narrow) = (Some((p, t)), None);
            } else {
                narrow = Some((p, t));
            }
        } else if p < pattern.len() && t < topic.len() && pattern[p] == topic[t] {
            (p, t) = (p + 1, t + 1);
        } else if p == pattern.len() && t == topic.len() {
            return true;
        } else if let Some((after, taken)) = narrow.filter(|(_, taken)| may_take(topic, *taken)) {
            (p, t) = (after, taken + 1);
            narrow = Some((p, t));
        } else if let Some((after, taken)) = wide.filter(|(_, taken)| *taken < topic.len()) {
            (p, t) = (after, taken + 1);
            (wide, narrow) = (Some((p, t)), None);
        } else {
            return false;
        }
    }
}

fn may_take(topic: &[u8], place: usize) -> bool {
    topic.get(place).is_some_and(|byte| *byte != b'/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_match() {
        for (pattern, topic, expected) in [
            ("sensors/*/temperature", "sensors/7/temperature", true),
            ("sensors/*/temperature", "sensors/7/a/temperature", false),
            ("sensors/**", "sensors/7/a", true),
            ("sensors/**", "sensors/", true),
            ("sensors/**", "sensors", false),
            ("**", "anything/at all", true),
            ("***", "a/b", true),
            ("*", "a", true),
            ("*", "a/b", false),
            ("a*b*c", "aXbYc", true),
            ("a*b*c", "aXbY", false),
            ("**/x/*", "a/x/b/x/c", true),
            ("**a*b", "a/acb", true),
            ("*é", "caffé", true),
            ("news", "news", true),
            ("**", "__kps/stats", false),
            ("__kps/**", "__kps/stats", true),
            ("__*", "__kps/stats", false),
            ("__a*", "__a", true),
        ] {
            assert_eq!(Scope::pattern(pattern).has(topic), expected, "{pattern} {topic}");
        }
    }

    #[test]
    fn a_search_goes_back_to_each_star() {
        // All pairs of short texts, compared with the definition.
        fn defined(pattern: &[u8], topic: &[u8]) -> bool {
            match pattern {
                [] => topic.is_empty(),
                [b'*', rest @ ..] if rest.first() == Some(&b'*') => (0..=topic.len()).any(|n| {
                    defined(rest, &topic[n..]) || {
                        let after: &[u8] = &rest[rest.iter().take_while(|c| **c == b'*').count()..];
                        defined(after, &topic[n..])
                    }
                }),
                [b'*', rest @ ..] => (0..=topic.len())
                    .take_while(|n| !topic[..*n].contains(&b'/'))
                    .any(|n| defined(rest, &topic[n..])),
                [one, rest @ ..] => topic.first() == Some(one) && defined(rest, &topic[1..]),
            }
        }
        let texts = |letters: &[u8], longest: u32| -> Vec<Vec<u8>> {
            let count = letters.len();
            (0..=longest)
                .flat_map(|length| (0..count.pow(length)).map(move |n| (length, n)))
                .map(|(length, n)| (0..length).map(|i| letters[n / count.pow(i) % count]).collect())
                .collect()
        };
        let topics = texts(b"a/", 5);
        for pattern in texts(b"a/*", 5) {
            for topic in &topics {
                let expected = defined(&pattern, topic);
                assert_eq!(matches(&pattern, topic), expected, "{pattern:?} {topic:?}");
            }
        }
    }

    #[test]
    fn keys_overlap() {
        let key = |scope: Scope, group: &str| Key { scope, group: group.into() };
        let topic = key("a/b".into(), "");
        assert!(topic.overlaps(&key(Scope::pattern("a/*"), "")));
        assert!(key(Scope::pattern("a/*"), "").overlaps(&topic));
        assert!(!topic.overlaps(&key("a/b".into(), "g")));
        assert!(!topic.overlaps(&key("a".into(), "")));
        assert_eq!(key("a".into(), "g").to_string(), "g of a");
    }
}
