//! Questions of the program to the server, each of which ends once: with its answer or an error.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::ack::{Ack, Taken};
use crate::asked::{Asked, ask_history, ask_presence, barrier, id_in, name_of};
use crate::error::{Error, Result, ServerError};
use crate::event::{Answer, Event, QuestionId};
use crate::fields::Fields;
use crate::json::Json;
use crate::link::Link;
use crate::message::{Ask, Position, Status, Target};
use crate::outcomes::outcomes_in;
use crate::past::Pages;
use crate::presence::Presence;
use crate::repeat::Repeat;
use crate::wire::Kind as Sort;

/// Questions that may be pending, for a silent server for instance.
const MOST: usize = 65_536;

/// Bytes of messages with ids that wait for their answers.
const MOST_BYTES: usize = 64 << 20;

/// How long after the time limit of an ack request its answer may come.
const GRACE: Duration = Duration::from_secs(1);

/// How long a request may wait to be written, unless its time limit is longer.
const WRITE_TIME: Duration = Duration::from_secs(5);

/// On level 1: an answer without outcomes after this time means that nobody answered.
const SILENCE: Duration = Duration::from_millis(4500);

/// What a question asks for.
enum Kind {
    Flush,
    Receipt,
    Status { of: u64 },
    History(Pages),
    Presence,
    Ack(Ack),
}

struct Question {
    kind: Kind,
    deadline: Option<Duration>,
    repeat: Option<Repeat>,
}

/// All questions that have no answer yet.
pub struct Asking {
    count: u64,
    questions: BTreeMap<u64, Question>,
    deadlines: BTreeSet<(Duration, u64)>,
    /// Ack requests that are not written yet, and their numbers in the stream of messages.
    unwritten: VecDeque<(u64, u64)>,
    /// How many messages with ids there were, and the bytes of those that are pending.
    repeats: u64,
    repeat_bytes: usize,
    timeout: Duration,
    /// How the latest connection has ended.
    lost: Error,
    pub events: Vec<Event>,
}

impl Asking {
    pub fn new(timeout: Duration) -> Asking {
        Asking {
            count: 0,
            questions: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            unwritten: VecDeque::new(),
            repeats: 0,
            repeat_bytes: 0,
            timeout,
            lost: Error::NotConnected,
            events: Vec::new(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.questions.is_empty()
    }

    // -- questions

    /// Asks whether the server has handled everything before.
    pub fn flush(&mut self, link: &mut Link, now: Duration) -> Result<QuestionId> {
        let id = self.begin()?;
        let message = barrier(link, &name_of("flush", id));
        link.send_checked(message.done(), Sort::Bound)?;
        Ok(self.add(id, Kind::Flush, now + self.timeout))
    }

    /// Publishes, and asks to how many subscribers the server has passed the message on.
    pub fn publish_with_receipt(
        &mut self,
        topic: &str,
        data: &Json,
        ask: &Ask,
        link: &mut Link,
        now: Duration,
    ) -> Result<QuestionId> {
        let id = self.begin()?;
        let asked =
            Asked::Publication { topic: topic.to_owned(), data: data.clone(), ask: ask.clone() };
        self.send(id, asked, Kind::Receipt, self.timeout, link, now)?;
        if !link.level_2 {
            // Its answer comes behind what the server says to the publication.
            let message = barrier(link, &name_of("receipt", id));
            link.send_checked(message.done(), Sort::Bound)?;
        }
        Ok(QuestionId(id))
    }

    /// Publishes, or sends a direct message, and gathers what becomes of it.
    pub fn ask(
        &mut self,
        target: &Target,
        data: &Json,
        ask: &Ask,
        is_request: bool,
        link: &mut Link,
        now: Duration,
    ) -> Result<QuestionId> {
        ask.check()?;
        let id = self.begin()?;
        if matches!(target, Target::Topic(_)) {
            if !ask.expect.is_empty() {
                link.require("expect")?;
            }
            if !ask.key.is_empty() || ask.retry > 0 || !ask.expect_groups.is_empty() {
                link.require("groups")?;
            }
        }
        let (Target::Topic(name) | Target::Id(name)) = target;
        let timeout = Duration::from_secs_f64(ask.timeout);
        let ack = Ack::new(name, timeout, is_request);
        let asked = Asked::Ack { target: target.clone(), data: data.clone(), ask: ask.clone() };
        self.send(id, asked, Kind::Ack(ack), timeout.max(WRITE_TIME), link, now)?;
        self.unwritten.push_back((link.socket.outbox.put, id));
        Ok(QuestionId(id))
    }

    fn send(
        &mut self,
        id: u64,
        asked: Asked,
        kind: Kind,
        patience: Duration,
        link: &mut Link,
        now: Duration,
    ) -> Result<()> {
        let (Asked::Ack { ask, .. } | Asked::Publication { ask, .. }) = &asked;
        if !ask.headers.is_empty() {
            link.require("headers")?;
        }
        if !ask.message_id.is_empty() {
            link.require("message_ids")?;
        }
        let has_id = !ask.message_id.is_empty();
        let message = asked.written(id, link, ask.timeout, None);
        let size = message.len();
        if has_id && self.repeat_bytes + size > MOST_BYTES {
            return Err(Error::QueueFull(
                "messages with ids that wait for answers take too much memory",
            ));
        }
        link.send_checked(message, Sort::Bound)?;
        self.add(id, kind, now + patience);
        if has_id {
            self.repeats += 1;
            self.repeat_bytes += size;
            let repeat = Repeat::new(asked, size, self.repeats, link, now);
            self.questions.get_mut(&id).expect("it was added").repeat = Some(repeat);
        }
        Ok(())
    }

    /// Asks who has answered an ack request; `None` if it has ended.
    pub fn status(
        &mut self,
        of: QuestionId,
        link: &mut Link,
        now: Duration,
    ) -> Result<Option<QuestionId>> {
        if !self.questions.contains_key(&of.0) {
            return Ok(None);
        }
        let id = self.begin()?;
        let message = link.message("get_ack_status").text("ack_id", &name_of("ack", of.0));
        link.send_checked(message.done(), Sort::Bound)?;
        Ok(Some(self.add(id, Kind::Status { of: of.0 }, now + self.timeout)))
    }

    /// Asks for messages of the past.
    pub fn history(
        &mut self,
        topic: &str,
        since: Option<Position>,
        limit: u64,
        link: &mut Link,
        now: Duration,
    ) -> Result<QuestionId> {
        link.require("history")?;
        let id = self.begin()?;
        link.send_checked(ask_history(id, topic, &since, limit), Sort::Bound)?;
        let kind = Kind::History(Pages::new(topic, &since, limit, id));
        Ok(self.add(id, kind, now + self.timeout))
    }

    /// Asks for the members of a topic.
    pub fn presence(&mut self, topic: &str, link: &mut Link, now: Duration) -> Result<QuestionId> {
        link.require("presence")?;
        let id = self.begin()?;
        link.send_checked(ask_presence(id, topic), Sort::Bound)?;
        Ok(self.add(id, Kind::Presence, now + self.timeout))
    }

    /// Ends an ack request, or stops waiting for another answer.
    pub fn cancel(&mut self, id: QuestionId, link: Option<&mut Link>, now: Duration) {
        self.give_up(id.0, Ok(Answer::Done), link, now);
    }

    fn begin(&mut self) -> Result<u64> {
        if self.questions.len() >= MOST {
            return Err(Error::QueueFull("too many requests wait for the server's answers"));
        }
        self.count += 1;
        Ok(self.count)
    }

    fn add(&mut self, id: u64, kind: Kind, deadline: Duration) -> QuestionId {
        self.questions.insert(id, Question { kind, deadline: None, repeat: None });
        self.schedule(id, deadline);
        QuestionId(id)
    }

    fn schedule(&mut self, id: u64, deadline: Duration) {
        if let Some(question) = self.questions.get_mut(&id) {
            if let Some(before) = question.deadline.replace(deadline) {
                self.deadlines.remove(&(before, id));
            }
            self.deadlines.insert((deadline, id));
        }
    }

    fn end(&mut self, id: u64, answer: Result<Answer>) {
        let Some(question) = self.questions.remove(&id) else {
            return;
        };
        if let Some(deadline) = question.deadline {
            self.deadlines.remove(&(deadline, id));
        }
        if let Some(repeat) = question.repeat {
            self.repeat_bytes -= repeat.size;
        }
        self.events.push(Event::Answered(QuestionId(id), answer));
    }

    /// Ends a question, and tells the server that its answer is not wanted any more.
    fn give_up(&mut self, id: u64, answer: Result<Answer>, link: Option<&mut Link>, now: Duration) {
        let is_ack = self.ack(id).is_some();
        if let Some(link) = link.filter(|_| is_ack) {
            let message = link.message("cancel_ack").text("ack_id", &name_of("ack", id));
            link.send(message, now);
        }
        self.end(id, answer);
    }

    fn ack(&mut self, id: u64) -> Option<&mut Ack> {
        match &mut self.questions.get_mut(&id)?.kind {
            Kind::Ack(ack) => Some(ack),
            _ => None,
        }
    }

    // -- the connection

    /// Notes that messages were taken to be written: the time of ack requests begins.
    pub fn written(&mut self, taken: u64, now: Duration) {
        while let Some((number, id)) = self.unwritten.front().copied() {
            if number > taken {
                break;
            }
            self.unwritten.pop_front();
            if let Some(ack) = self.ack(id).filter(|ack| ack.started.is_none()) {
                ack.started = Some(now);
                let deadline = now + ack.timeout + GRACE;
                self.schedule(id, deadline);
            }
        }
    }

    /// Ends the questions of a connection; those with message ids go on if the client `comes_back`.
    pub fn disconnected(&mut self, error: &Error, comes_back: bool) {
        self.lost = error.clone();
        self.unwritten.clear();
        let stays = |question: &Question| comes_back && question.repeat.is_some();
        let ended = self.questions.iter().filter(|(_, question)| !stays(question));
        for id in ended.map(|(id, _)| *id).collect::<Vec<u64>>() {
            self.end(id, Err(error.clone()));
        }
    }

    /// Asks again what has no answer, where that is safe.
    pub fn connected(&mut self, link: &mut Link, now: Duration) {
        for id in self.questions.keys().copied().collect::<Vec<u64>>() {
            let question = &self.questions[&id];
            let left = match &question.kind {
                Kind::Ack(Ack { started: Some(started), timeout, .. }) => {
                    (*started + *timeout).saturating_sub(now)
                }
                Kind::Ack(Ack { timeout, .. }) => *timeout,
                _ => Duration::MAX,
            };
            let repeat = question.repeat.as_ref();
            let is_safe =
                |repeat: &&Repeat| left > Duration::ZERO && repeat.is_safe(self.repeats, link);
            let Some(repeat) = repeat.filter(is_safe) else {
                self.end(id, Err(self.lost.clone()));
                continue;
            };
            let message = repeat.message.written(id, link, left.as_secs_f64(), Some(repeat.until));
            link.socket.send(message, Sort::Bound);
            self.unwritten.push_back((link.socket.outbox.put, id));
            if let Some(Question { repeat: Some(repeat), .. }) = self.questions.get_mut(&id) {
                repeat.is_again = true;
            }
        }
    }

    // -- answers

    /// Notes that the server has answered a question by its nonce, its receipt, or on level 1 its id.
    pub fn passed(&mut self, name: &str, delivered: Option<u64>) {
        for (kind, answer) in [("flush", Answer::Done), ("receipt", Answer::Delivered(delivered))] {
            if let Some(id) = id_in(kind, name) {
                self.end(id, Ok(answer));
            }
        }
    }

    /// Takes the outcomes of an ack request, and its end if `is_final`.
    pub fn outcomes(&mut self, fields: &Fields, is_final: bool, link: &mut Link, now: Duration) {
        let Some(id) = id_in("ack", &fields.text("ack_id")) else {
            return;
        };
        let outcomes = outcomes_in(fields);
        let is_empty = outcomes.is_empty();
        for (name, outcome) in outcomes {
            let Some(ack) = self.ack(id) else {
                return;
            };
            match ack.take(name, outcome) {
                Taken::Nothing => (),
                Taken::Outcome(outcome) => {
                    self.events.push(Event::Outcome(QuestionId(id), outcome));
                }
                Taken::Result(result) if is_final => {
                    return self.end(id, Ok(Answer::Result(result)));
                }
                Taken::Result(result) => {
                    return self.give_up(id, Ok(Answer::Result(result)), Some(link), now);
                }
                Taken::TooMuch => {
                    let text = "the outcomes of an ack request take too much memory";
                    return self.give_up(id, Err(Error::QueueFull(text)), Some(link), now);
                }
            }
        }
        let Some(ack) = self.ack(id).filter(|_| is_final) else {
            return;
        };
        let started = ack.started.unwrap_or(now);
        let answer = if is_empty && !link.level_2 && now.saturating_sub(started) >= SILENCE {
            let text = "nobody had answered when the server's time was over";
            Err(Error::RequestTimeout(text.to_owned()))
        } else if ack.is_request {
            Err(ack.failure())
        } else {
            Ok(Answer::Acked { presence: fields.number("presence") })
        };
        self.end(id, answer);
    }

    /// Takes the status of an ack request; on level 1 also the answer to a barrier.
    pub fn status_received(&mut self, fields: &Fields) {
        let name = fields.text("ack_id");
        if let Some(id) = id_in("ack", &name).and_then(|of| self.status_of(of)) {
            let known = fields.object("status");
            let members = known.iter().flat_map(Fields::members);
            let status: Status =
                members.map(|(id, value)| (id.to_owned(), value.get() == "true")).collect();
            self.end(id, Ok(Answer::Status(status)));
        }
        self.passed(&name, None);
    }

    /// The oldest question for the status of a request.
    fn status_of(&self, request: u64) -> Option<u64> {
        let asks = |kind: &Kind| matches!(kind, Kind::Status { of } if *of == request);
        self.questions.iter().find(|(_, question)| asks(&question.kind)).map(|(id, _)| *id)
    }

    /// Takes messages of the past, and asks for more if there are.
    pub fn history_received(&mut self, fields: &Fields, link: &mut Link, now: Duration) {
        let Some(id) = self.history_named(fields) else {
            return;
        };
        let Some(Question { kind: Kind::History(pages), .. }) = self.questions.get_mut(&id) else {
            return;
        };
        match pages.take(fields) {
            Some((since, missing)) => {
                self.count += 1;
                pages.page = self.count;
                let message = ask_history(pages.page, &pages.topic, &Some(since), missing);
                link.socket.send(message, Sort::Bound);
                self.schedule(id, now + self.timeout);
            }
            None => {
                let answer = Answer::Past(pages.past());
                self.end(id, Ok(answer));
            }
        }
    }

    /// Takes the members of a topic.
    pub fn presence_received(&mut self, fields: &Fields) {
        if let Some(id) = id_in("presence", &fields.text("nonce")) {
            if matches!(self.questions.get(&id), Some(Question { kind: Kind::Presence, .. })) {
                let presence = Presence::read(&fields.text("topic"), fields);
                self.end(id, Ok(Answer::Presence(presence)));
            }
        }
    }

    /// The question for messages of the past that an answer names.
    fn history_named(&self, fields: &Fields) -> Option<u64> {
        let number = id_in("history", &fields.text("nonce"))?;
        let is_it = |kind: &Kind| matches!(kind, Kind::History(pages) if pages.page == number);
        self.questions.iter().find(|(_, question)| is_it(&question.kind)).map(|(id, _)| *id)
    }

    /// Ends the question that an error names; tells whether it names one.
    pub fn refused(&mut self, fields: &Fields, error: &ServerError) -> bool {
        let ack = id_in("ack", &fields.text("ack_id")).filter(|id| self.ack(*id).is_some());
        let id = match (ack, error.request.as_str()) {
            (Some(id), "publish_with_ack" | "publish_to_id_with_ack") => Some(id),
            (Some(id), "get_ack_status") => self.status_of(id),
            _ => {
                let named = [("nonce", "flush"), ("nonce", "presence"), ("receipt", "receipt")];
                let id = |(field, kind)| id_in(kind, &fields.text(field));
                let named = named.into_iter().find_map(id).or(self.history_named(fields));
                named.filter(|id| self.questions.contains_key(id))
            }
        };
        let Some(id) = id else {
            return false;
        };
        // Of a message that was sent again a refusal says nothing about the first one.
        let repeat = self.questions.get(&id).and_then(|question| question.repeat.as_ref());
        let is_again = repeat.is_some_and(|repeat| repeat.is_again);
        self.end(
            id,
            match is_again && error.code != "outcome_unknown" {
                true => Err(self.lost.clone()),
                false => Err(Error::Server(Box::new(error.clone()))),
            },
        );
        true
    }

    // -- time

    pub fn deadline(&self) -> Option<Duration> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// Ends the questions whose time is over.
    pub fn handle_timeout(&mut self, mut link: Option<&mut Link>, now: Duration) {
        while let Some((deadline, id)) = self.deadlines.first().copied() {
            if now < deadline {
                return;
            }
            let text = match self.ack(id) {
                Some(ack) if ack.started.is_none() => "the network was too slow for the request",
                _ => "the server did not answer in time",
            };
            let error = Error::RequestTimeout(text.to_owned());
            self.give_up(id, Err(error), link.as_deref_mut(), now);
        }
    }
}
