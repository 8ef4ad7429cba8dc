//! The outcomes of ack requests (spec, 6.5, 12.5 and 18.3).

use crate::error::Error;
use crate::fields::Fields;
use crate::json::Json;
use crate::key::Key;
use crate::message::key_in;

/// The outcome of an ack request for one receiver.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Outcome {
    /// The id of the client; of a group, that of the member which had the message last.
    pub client_id: String,
    /// Whether the receiver has handled the message.
    pub success: bool,
    /// Why not; `disconnected` and `timeout` among others.
    pub error: Option<String>,
    /// What handling it resulted in.
    pub result: Option<Json>,
    /// If the receiver is a group: more about it.
    pub group: Option<GroupOutcome>,
}

/// What is told of a group besides.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupOutcome {
    /// The name of the group, and of what it is one.
    pub key: Key,
    /// How often a member had the message.
    pub attempts: u64,
    /// The member and the error of each attempt that was not final.
    pub failures: Vec<(String, String)>,
}

impl Outcome {
    /// By what a program finds it: the client's id, or `GROUP of TOPIC`.
    pub fn name(&self) -> String {
        match &self.group {
            Some(group) => group.key.to_string(),
            None => self.client_id.clone(),
        }
    }

    /// Tells whether nobody was there to handle the message.
    pub(crate) fn has_asked_nobody(&self) -> bool {
        let attempts = self.group.as_ref().map_or(0, |group| group.attempts);
        let error = self.error.as_deref();
        attempts == 0 && matches!(error, Some("no subscriber for topic" | "no member"))
    }

    fn timed_out(client_id: String) -> Outcome {
        Outcome { client_id, error: Some("timeout".into()), ..Outcome::default() }
    }

    fn read(client_id: String, fields: &Fields) -> Outcome {
        Outcome {
            client_id,
            success: fields.boolean("success") == Some(true),
            error: fields.text_or_none("error"),
            result: fields.get("result").map(Json::received),
            group: None,
        }
    }

    fn read_group(fields: &Fields) -> Outcome {
        let failures = fields.objects("failures");
        let group = GroupOutcome {
            key: key_in(fields),
            attempts: fields.number("attempts").unwrap_or_default(),
            failures: failures.iter().map(|one| (one.text("member"), one.text("error"))).collect(),
        };
        Outcome { group: Some(group), ..Outcome::read(fields.text("member"), fields) }
    }

    /// What it takes in memory, with a name of a length.
    pub(crate) fn size(&self, name: usize) -> usize {
        let result = self.result.as_ref().map_or(0, |result| result.as_str().len());
        2 * name + result + self.error.as_ref().map_or(0, String::len) + 200
    }
}

/// Reads the outcomes that a message brings, each with a name that no other receiver has.
pub(crate) fn outcomes_in(fields: &Fields) -> Vec<(String, Outcome)> {
    let mut outcomes = Vec::new();
    if let Some(responses) = fields.object("responses") {
        for (client_id, response) in responses.members() {
            if let Some(response) = Fields::of(response) {
                let outcome = Outcome::read(client_id.to_owned(), &response);
                outcomes.push((format!("c{client_id}"), outcome));
            }
        }
    }
    for group in fields.objects("groups") {
        let outcome = Outcome::read_group(&group);
        let name = outcome.group.as_ref().map(|group| format!("g{:?}", group.key));
        outcomes.push((name.unwrap_or_default(), outcome));
    }
    for client_id in fields.texts("missing") {
        outcomes.push((format!("c{client_id}"), Outcome::timed_out(client_id)));
    }
    outcomes
}

/// The error of a request to which nobody has given a result (spec, 16.1).
pub(crate) fn failure_of(target: &str, failures: &[(String, String)]) -> Error {
    if failures.is_empty() {
        return Error::NobodyThere(target.to_owned());
    }
    if failures.iter().all(|(_, error)| error == "timeout") {
        return Error::RequestTimeout(format!("no answer to the request to {:?} in time", target));
    }
    let is_told = |error: &str| !matches!(error, "timeout" | "disconnected");
    let told = failures.iter().find(|(_, error)| is_told(error)).unwrap_or(&failures[0]);
    let reason = match told.1.is_empty() {
        true => format!("the request to {:?} failed", target),
        false => told.1.clone(),
    };
    Error::RequestFailed { reason, errors: failures.iter().cloned().collect() }
}
