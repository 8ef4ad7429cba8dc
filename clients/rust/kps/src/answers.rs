//! What the answers to questions are for a program.

use kps_core::{Answer, Error, Json, Presence, Result, Status};

use crate::message::Past;

pub(crate) fn done(_: Answer) -> Result<()> {
    Ok(())
}

pub(crate) fn delivered(answer: Answer) -> Result<Option<u64>> {
    match answer {
        Answer::Delivered(count) => Ok(count),
        _ => Err(unexpected()),
    }
}

pub(crate) fn result(answer: Answer) -> Result<Json> {
    match answer {
        Answer::Result(result) => Ok(result),
        _ => Err(unexpected()),
    }
}

pub(crate) fn status(answer: Answer) -> Result<Status> {
    match answer {
        Answer::Status(status) => Ok(status),
        _ => Err(unexpected()),
    }
}

pub(crate) fn past(answer: Answer) -> Result<Past> {
    match answer {
        Answer::Past(past) => Ok(Past::of(past)),
        _ => Err(unexpected()),
    }
}

pub(crate) fn presence(answer: Answer) -> Result<Presence> {
    match answer {
        Answer::Presence(presence) => Ok(presence),
        _ => Err(unexpected()),
    }
}

fn unexpected() -> Error {
    Error::RequestTimeout("the server has answered something else".to_owned())
}
