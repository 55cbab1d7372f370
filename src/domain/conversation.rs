//! What is said in the course of a delegation, as events by which it is found later (A2A §4.1.1, `Task.history`).

use serde::Serialize;
use serde_json::value::RawValue;

use super::{
    DelegationId, EventName, FeedEvent, Json, Life, State, Terms, Timestamp, Working, sanitize,
};

/// An event that tells of one message.
#[derive(Serialize)]
struct Body<'a> {
    delegation_id: &'a DelegationId,
    target_id: Option<String>,
    message: &'a RawValue,
}

/// A message of A2A 1.0.
#[derive(Serialize)]
struct Message<'a> {
    #[serde(rename = "messageId")]
    id: String,
    role: &'static str,
    parts: [Part<'a>; 1],
}

#[derive(Serialize)]
struct Part<'a> {
    text: &'a str,
}

/// The event of what the change from `before` to `after` said: the target's question, or the caller's answer to it.
pub(super) fn said(terms: &Terms, before: &Life, after: &Life, at: Timestamp) -> Option<FeedEvent> {
    let message = match (&before.state, &after.state) {
        (State::InputRequired(_), State::InputRequired(_)) => return None,
        (_, State::InputRequired(question)) => in_words(
            format!("{}:{}:question", terms.key.id, after.attempt.0),
            "ROLE_AGENT",
            &question.text,
        ),
        (
            State::InputRequired(_),
            State::Working(Working {
                input: Some(input), ..
            }),
        ) => match &input.answer.message {
            Some(message) => message.clone(),
            None => in_words(
                format!("{}:{}", terms.key.id, after.attempt.0),
                "ROLE_USER",
                &input.answer.text,
            ),
        },
        _ => return None,
    };
    event(terms, &message, at)
}

fn in_words(id: String, role: &'static str, text: &str) -> Json {
    Json::of(&Message {
        id,
        role,
        parts: [Part {
            text: &sanitize(text),
        }],
    })
}

fn event(terms: &Terms, message: &Json, at: Timestamp) -> Option<FeedEvent> {
    let payload = Json::of(&Body {
        delegation_id: &terms.key.id,
        target_id: terms.target.map(|id| id.to_string()),
        message: serde_json::from_str(&message.0).ok()?,
    });
    Some(FeedEvent {
        name: EventName::TaskMessage,
        workspace: terms.key.caller,
        payload,
        created_at: at,
        course_of: Some(terms.key.id.clone()),
    })
}
