//! A message that a client sends (A2A §4.1.4), read strictly: what it says is passed on as it is.

use serde_json::{Map, Value, json};

use super::problem::{Kind, Problem};
use crate::domain::sanitize;

/// The longest id that a client may choose, in bytes.
const ID_BYTES: usize = 512;
/// What of a message is passed on.
const MEMBERS: [&str; 8] = [
    "messageId",
    "contextId",
    "taskId",
    "role",
    "parts",
    "metadata",
    "extensions",
    "referenceTaskIds",
];
/// What a part may be, one of them.
const CONTENTS: [&str; 4] = ["text", "raw", "url", "data"];

/// A message as it was sent.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Message {
    members: Map<String, Value>,
}

impl Message {
    /// Reads the member `message` of some parameters, in the form of 1.0.
    pub(super) fn read(params: &Value) -> Result<Self, Problem> {
        let message = params.get("message").and_then(Value::as_object);
        let Some(message) = message else {
            return Err(Problem::of("message", "is required and must be an object"));
        };
        let present = MEMBERS.iter().filter_map(|name| {
            let value = message.get(*name).filter(|value| !value.is_null())?;
            Some(((*name).to_owned(), value.clone()))
        });
        let message = Self {
            members: present.collect(),
        };
        message.check()?;
        Ok(message)
    }

    fn check(&self) -> Result<(), Problem> {
        if self.id("messageId")?.is_none() {
            return Err(Problem::of("message.messageId", "is required"));
        }
        self.id("taskId")?;
        self.id("contextId")?;
        let is_array = |name: &str| self.members.get(name).is_none_or(Value::is_array);
        if !self.members.get("metadata").is_none_or(Value::is_object) {
            return Err(Problem::of("message.metadata", "must be an object"));
        }
        for name in ["extensions", "referenceTaskIds"] {
            if !is_array(name) {
                return Err(Problem::of(format!("message.{name}"), "must be an array"));
            }
        }
        let parts = self.members.get("parts").and_then(Value::as_array);
        let parts = parts
            .ok_or_else(|| Problem::of("message.parts", "is required and must be an array"))?;
        if parts.is_empty() {
            return Err(Problem::of("message.parts", "must have a part"));
        }
        let mut placed = parts.iter().enumerate();
        placed.try_for_each(|(place, part)| check_part(place, part))?;
        match self.members.get("role").and_then(Value::as_str) {
            Some("ROLE_USER") => Ok(()),
            _ => Err(Problem::of("message.role", "must be ROLE_USER")),
        }
    }

    /// An id that the message names, if it does.
    fn id(&self, name: &str) -> Result<Option<&str>, Problem> {
        let Some(value) = self.members.get(name) else {
            return Ok(None);
        };
        match value.as_str() {
            Some("") => Ok(None),
            Some(id) if id.len() <= ID_BYTES => Ok(Some(id)),
            _ => Err(Problem::of(
                format!("message.{name}"),
                format!("must be a string of at most {ID_BYTES} bytes"),
            )),
        }
    }

    /// The task that it goes on with.
    pub(super) fn task(&self) -> Option<&str> {
        self.id("taskId").ok().flatten()
    }

    /// The context that it is said in.
    pub(super) fn context(&self) -> Option<&str> {
        self.id("contextId").ok().flatten()
    }

    /// Its own id.
    pub(super) fn message_id(&self) -> Option<&str> {
        self.id("messageId").ok().flatten()
    }

    /// All that it says, for telling it from another.
    pub(super) fn said(&self) -> String {
        Value::from(self.parts()).to_string()
    }

    fn parts(&self) -> &[Value] {
        let parts = self.members.get("parts").and_then(Value::as_array);
        parts.map(Vec::as_slice).unwrap_or_default()
    }

    /// The media types that it names.
    pub(super) fn media_types(&self) -> impl Iterator<Item = &str> {
        let parts = self.parts().iter();
        parts.filter_map(|part| part.get("mediaType")?.as_str())
    }

    /// What it says in words: its text parts, one on a line; its parts as they are when none of them is text.
    pub(super) fn text(&self) -> String {
        let texts: Vec<&str> = self
            .parts()
            .iter()
            .filter_map(|part| part.get("text")?.as_str())
            .collect();
        if texts.is_empty() {
            Value::from(self.parts()).to_string()
        } else {
            sanitize(&texts.join("\n")).into_owned()
        }
    }

    /// The message as it is stored and passed on, said in this context.
    pub(super) fn within(&self, context: &str) -> Value {
        let mut members = self.members.clone();
        members.insert("contextId".to_owned(), context.into());
        members.insert("role".to_owned(), "ROLE_USER".into());
        // Ours means nothing to the target, whose own is put in when it is sent.
        members.remove("taskId");
        Value::Object(members)
    }
}

fn check_part(place: usize, part: &Value) -> Result<(), Problem> {
    let field = || format!("message.parts[{place}]");
    let contents = CONTENTS.iter().filter(|name| part.get(**name).is_some());
    if contents.count() != 1 {
        let reason = "must have exactly one of text, raw, url and data";
        return Err(Problem::of(field(), reason));
    }
    for name in ["text", "raw", "url", "mediaType", "filename"] {
        if part.get(name).is_some_and(|value| !value.is_string()) {
            return Err(Problem::of(
                format!("{}.{name}", field()),
                "must be a string",
            ));
        }
    }
    if part.get("metadata").is_some_and(|value| !value.is_object()) {
        return Err(Problem::of(
            format!("{}.metadata", field()),
            "must be an object",
        ));
    }
    Ok(())
}

/// How a client wants to be answered (A2A §3.2.2).
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Wishes {
    pub(super) at_once: bool,
    pub(super) history: Option<usize>,
    pub(super) push: Option<Value>,
}

impl Wishes {
    /// Reads the member `configuration` of some parameters, in the form of 1.0.
    pub(super) fn read(params: &Value) -> Result<Self, Problem> {
        let Some(configuration) = params.get("configuration").filter(|said| !said.is_null()) else {
            return Ok(Self::default());
        };
        if !configuration.is_object() {
            return Err(Problem::of("configuration", "must be an object"));
        }
        let at_once = configuration.get("returnImmediately");
        let push = configuration.get("taskPushNotificationConfig");
        Ok(Self {
            at_once: at_once.and_then(Value::as_bool).unwrap_or(false),
            history: history_length(configuration)?,
            push: push.filter(|config| !config.is_null()).cloned(),
        })
    }
}

/// How many messages of its history a task is to be shown with; none for all.
pub(super) fn history_length(params: &Value) -> Result<Option<usize>, Problem> {
    let Some(said) = params.get("historyLength").filter(|said| !said.is_null()) else {
        return Ok(None);
    };
    let number = said.as_u64().or_else(|| said.as_str()?.parse().ok());
    let number = number.and_then(|number| usize::try_from(number).ok());
    let problem = || Problem::of("historyLength", "must be a whole number of at least 0");
    number.map(Some).ok_or_else(problem)
}

/// Refuses what the agent does not take, if it said what it takes (A2A §3.1.1).
pub(super) fn must_be_taken(message: &Message, modes: &[String]) -> Result<(), Problem> {
    let takes = |media: &str| {
        modes.iter().any(|mode| match mode.split_once('/') {
            _ if mode == "*/*" => true,
            Some((kind, "*")) => media.split_once('/').is_some_and(|(own, _)| own == kind),
            _ => {
                let plain = media.split(';').next().unwrap_or(media);
                mode.eq_ignore_ascii_case(plain.trim())
            }
        })
    };
    match message.media_types().find(|media| !takes(media)) {
        None => Ok(()),
        Some(_) if modes.is_empty() => Ok(()),
        Some(media) => Err(Problem::new(
            Kind::ContentTypeNotSupported,
            format!(
                "the agent does not take {media}; it takes {}",
                modes.join(", ")
            ),
        )),
    }
}

/// The parameters of a method, which may be none.
pub(super) fn object(params: Option<&Value>) -> Result<Value, Problem> {
    match params {
        None | Some(Value::Null) => Ok(json!({})),
        Some(params) if params.is_object() => Ok(params.clone()),
        Some(_) => Err(Problem::of("params", "must be an object")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(message: &Value) -> Result<Message, Problem> {
        Message::read(&json!({"message": message}))
    }

    #[test]
    fn a_message_is_read_and_passed_on_as_it_is() {
        let message = read(&json!({
            "messageId": "m", "role": "ROLE_USER", "unknown": 1, "taskId": "t", "contextId": "",
            "parts": [{"text": "one"}, {"data": {"x": 1}}, {"text": "two"}], "metadata": {"a": 1},
        }))
        .unwrap();
        assert_eq!(message.text(), "one\ntwo");
        assert_eq!((message.task(), message.context()), (Some("t"), None));
        assert_eq!(
            message.within("c"),
            json!({
                "messageId": "m", "role": "ROLE_USER", "contextId": "c", "metadata": {"a": 1},
                "parts": [{"text": "one"}, {"data": {"x": 1}}, {"text": "two"}],
            })
        );
        let data =
            read(&json!({"messageId": "m", "role": "ROLE_USER", "parts": [{"data": {"x": 1}}]}))
                .unwrap();
        assert_eq!(data.text(), r#"[{"data":{"x":1}}]"#);
    }

    #[test]
    fn what_is_wrong_with_a_message_is_named() {
        for (message, said) in [
            (json!(null), "message is required and must be an object"),
            (
                json!({"parts": [{"text": "x"}]}),
                "message.messageId is required",
            ),
            (
                json!({"messageId": 1, "parts": [{"text": "x"}]}),
                "message.messageId must be a string",
            ),
            (json!({"messageId": "m"}), "message.parts is required"),
            (
                json!({"messageId": "m", "parts": []}),
                "message.parts must have a part",
            ),
            (
                json!({"messageId": "m", "parts": [{}]}),
                "message.parts[0] must have exactly one",
            ),
            (
                json!({"messageId": "m", "parts": [{"text": "x"}, {"text": "x", "url": "y"}]}),
                "message.parts[1]",
            ),
            (
                json!({"messageId": "m", "parts": [{"text": 7}]}),
                "message.parts[0].text must be a string",
            ),
            (
                json!({"messageId": "m", "role": "ROLE_AGENT", "parts": [{"text": "x"}]}),
                "message.role",
            ),
            (
                json!({"messageId": "m", "metadata": [], "parts": [{"text": "x"}]}),
                "message.metadata",
            ),
        ] {
            let problem = read(&message).unwrap_err();
            let (_, body) = problem.http();
            let text = body["error"]["message"].as_str().unwrap().to_owned();
            assert!(text.starts_with(said), "{message}: {text}");
        }
    }

    #[test]
    fn only_what_the_agent_takes_is_handed_over() {
        let message = |media: &str| {
            read(&json!({"messageId": "m", "role": "ROLE_USER", "parts": [{"raw": "", "mediaType": media}]})).unwrap()
        };
        let modes = ["text/plain".to_owned(), "image/*".to_owned()];
        let takes = |media| must_be_taken(&message(media), &modes).is_ok();
        assert!(takes("text/plain; charset=utf-8") && takes("image/png"));
        assert!(!takes("text/html") && !takes("x"));
    }

    #[test]
    fn wishes_are_read() {
        let read = |said: Value| Wishes::read(&json!({"configuration": said}));
        assert_eq!(read(json!(null)).unwrap(), Wishes::default());
        let wishes = read(json!({"returnImmediately": true, "historyLength": 0})).unwrap();
        assert_eq!((wishes.at_once, wishes.history), (true, Some(0)));
        assert!(read(json!({"historyLength": -1})).is_err());
        assert!(read(json!(7)).is_err());
    }
}
