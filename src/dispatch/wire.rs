//! The requests that a target gets, and a tolerant view of the JSON that it sends back.
//!
//! Answers are not deserialised into a tree: only the members that matter are looked up, in text that stays borrowed.
//! What is skipped is skipped by a loop, so depth costs no stack; numbers are never evaluated; of duplicate keys the last
//! one counts; and memory does not grow with the number of members (lesson U03).

use std::borrow::Cow;
use std::fmt;

use serde::Serialize;
use serde::de::{Deserializer as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::domain::{Json, sanitize};

/// A JSON-RPC envelope of A2A 0.3. An absent `A2A-Version` header means 0.3 to every server (a2a.md §1).
#[derive(Serialize)]
struct Request<'a, P> {
    jsonrpc: &'static str,
    id: &'a str,
    method: &'static str,
    params: P,
}

impl<'a, P: Serialize> Request<'a, P> {
    fn bytes(id: &'a str, method: &'static str, params: P) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(&Self {
            jsonrpc: "2.0",
            id,
            method,
            params,
        })
    }
}

#[derive(Serialize)]
struct Sending<'a> {
    message: Message<'a>,
    configuration: Configuration,
}

#[derive(Serialize)]
struct Message<'a> {
    kind: &'static str,
    role: &'static str,
    #[serde(rename = "messageId")]
    id: &'a str,
    #[serde(rename = "taskId", skip_serializing_if = "Option::is_none")]
    task_id: Option<&'a str>,
    parts: [TextPart<'a>; 1],
    metadata: Metadata<'a>,
}

#[derive(Serialize)]
struct TextPart<'a> {
    kind: &'static str,
    text: &'a str,
}

#[derive(Serialize)]
struct Metadata<'a> {
    delegation_id: &'a str,
}

/// 0.3 servers differ in their default, so it is always said (a2a.md §4, 9). Blocking, because an agent that knows
/// nothing of Baton reports its result nowhere else than in this answer.
#[derive(Serialize)]
struct Configuration {
    blocking: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Asking<'a> {
    id: &'a str,
    history_length: u32,
}

#[derive(Serialize)]
struct Cancelling<'a> {
    id: &'a str,
}

/// What a message says.
pub(super) struct Words<'a> {
    pub(super) delegation_id: &'a str,
    /// The same on every attempt.
    pub(super) message_id: &'a str,
    /// The agent's task that it goes on with, if it is not the first message.
    pub(super) task_id: Option<&'a str>,
    pub(super) text: &'a str,
}

/// The body of a `message/send`. `request_id` is another on every attempt (lesson Q07).
pub(super) fn send_message(
    request_id: &str,
    words: &Words<'_>,
) -> Result<Vec<u8>, serde_json::Error> {
    let message = Message {
        kind: "message",
        role: "user",
        id: words.message_id,
        task_id: words.task_id,
        parts: [TextPart {
            kind: "text",
            text: words.text,
        }],
        metadata: Metadata {
            delegation_id: words.delegation_id,
        },
    };
    let configuration = Configuration { blocking: true };
    let params = Sending {
        message,
        configuration,
    };
    Request::bytes(request_id, "message/send", params)
}

/// The request as a poll-mode target finds it in its inbox: what it would have been sent.
#[must_use]
pub fn request_envelope(delegation_id: &str, task: &str) -> Json {
    let words = Words {
        delegation_id,
        message_id: delegation_id,
        task_id: None,
        text: task,
    };
    // A request of strings can always be written.
    let bytes = send_message(delegation_id, &words).unwrap_or_default();
    Json::from_text(&String::from_utf8_lossy(&bytes))
}

/// The body of a `tasks/get`. The history is not read, but to some servers a length of 0 means all of it.
pub(super) fn get_task(request_id: &str, task_id: &str) -> Result<Vec<u8>, serde_json::Error> {
    let params = Asking {
        id: task_id,
        history_length: 1,
    };
    Request::bytes(request_id, "tasks/get", params)
}

/// The body of a `tasks/cancel`.
pub(super) fn cancel_task(request_id: &str, task_id: &str) -> Result<Vec<u8>, serde_json::Error> {
    Request::bytes(request_id, "tasks/cancel", Cancelling { id: task_id })
}

/// The W3C trace context to pass on: the trace and its flags stay, `span` becomes the parent. `None` for text that is no
/// trace context, which is then not passed on at all.
pub(super) fn child_traceparent(traceparent: &str, span: u64) -> Option<String> {
    let mut fields = traceparent.trim().split('-');
    let (version, trace, parent, flags) = (
        fields.next()?,
        fields.next()?,
        fields.next()?,
        fields.next()?,
    );
    let hex = |text: &str, length: usize| {
        text.len() == length
            && text
                .bytes()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let zero = |text: &str| text.bytes().all(|byte| byte == b'0');
    let readable = hex(version, 2) && hex(trace, 32) && hex(parent, 16) && hex(flags, 2);
    // Version 00 has four fields; a later one may have more, and is answered in 00.
    let known = version != "ff" && (version != "00" || fields.next().is_none());
    (readable && known && !zero(trace) && !zero(parent))
        .then(|| format!("00-{trace}-{:016x}-{flags}", span.max(1)))
}

/// The members of the object `text` that are `wanted`, in that order; JSON `null` counts as absent.
pub(super) fn pick<'a, const N: usize>(
    text: &'a str,
    wanted: [&str; N],
) -> Result<[Option<&'a RawValue>; N], serde_json::Error> {
    let mut reader = serde_json::Deserializer::from_str(text);
    let found = reader.deserialize_map(Pick(wanted))?;
    reader.end()?;
    Ok(found.map(|value| value.filter(|raw| raw.get() != "null")))
}

/// [`pick`] where anything but an object has no members.
pub(super) fn members<'a, const N: usize>(
    value: &'a RawValue,
    wanted: [&str; N],
) -> [Option<&'a RawValue>; N] {
    pick(value.get(), wanted).unwrap_or([None; N])
}

/// Calls `visit` for each element of `list`, and for none if it is no array.
pub(super) fn each<'a>(list: &'a RawValue, visit: impl FnMut(&'a RawValue)) {
    let mut reader = serde_json::Deserializer::from_str(list.get());
    // The syntax was checked when the list was found, so the only error is that it is no array.
    reader.deserialize_seq(Each(visit)).unwrap_or_default();
}

/// The text of a JSON string, without NUL.
pub(super) fn string(value: &RawValue) -> Option<String> {
    let text: String = serde_json::from_str(value.get()).ok()?;
    Some(match sanitize(&text) {
        Cow::Borrowed(_) => text,
        Cow::Owned(repaired) => repaired,
    })
}

struct Pick<'w, const N: usize>([&'w str; N]);

impl<'de, const N: usize> Visitor<'de> for Pick<'_, N> {
    type Value = [Option<&'de RawValue>; N];

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = [None; N];
        while let Some(key) = map.next_key::<String>()? {
            let slot = self
                .0
                .iter()
                .zip(found.iter_mut())
                .find(|(wanted, _)| **wanted == key);
            match slot {
                Some((_, slot)) => *slot = Some(map.next_value()?),
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(found)
    }
}

struct Each<F>(F);

impl<'de, F: FnMut(&'de RawValue)> Visitor<'de> for Each<F> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<(), A::Error> {
        while let Some(element) = list.next_element()? {
            (self.0)(element);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn the_requests_are_a2a_0_3() {
        let words = Words {
            delegation_id: "d-1",
            message_id: "d-1",
            task_id: None,
            text: "say \"hi\"\n",
        };
        let mut expected = json!({
            "jsonrpc": "2.0", "id": "r-1", "method": "message/send",
            "params": {
                "message": {
                    "kind": "message", "role": "user", "messageId": "d-1",
                    "parts": [{"kind": "text", "text": "say \"hi\"\n"}],
                    "metadata": {"delegation_id": "d-1"},
                },
                "configuration": {"blocking": true},
            },
        });
        let value = |body: Vec<u8>| serde_json::from_slice::<Value>(&body).unwrap();
        assert_eq!(value(send_message("r-1", &words).unwrap()), expected);
        let going_on = Words {
            message_id: "m-2",
            task_id: Some("t:1"),
            ..words
        };
        expected["params"]["message"]["messageId"] = json!("m-2");
        expected["params"]["message"]["taskId"] = json!("t:1");
        assert_eq!(value(send_message("r-1", &going_on).unwrap()), expected);
        assert_eq!(
            value(get_task("r-1", "t:1").unwrap()),
            json!({"jsonrpc": "2.0", "id": "r-1", "method": "tasks/get", "params": {"id": "t:1", "historyLength": 1}})
        );
        assert_eq!(
            value(cancel_task("r-1", "t:1").unwrap()),
            json!({"jsonrpc": "2.0", "id": "r-1", "method": "tasks/cancel", "params": {"id": "t:1"}})
        );
    }

    #[test]
    fn a_trace_keeps_its_id_and_gets_a_new_parent() {
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        let child = |text: &str| child_traceparent(text, 0xab);
        let expected = Some(format!("00-{trace}-00000000000000ab-01"));
        assert_eq!(child(&format!("00-{trace}-00f067aa0ba902b7-01")), expected);
        assert_eq!(
            child(&format!("cc-{trace}-00f067aa0ba902b7-01-later")),
            expected
        );
        for wrong in [
            String::new(),
            "00-abc-def-01".to_owned(),
            format!("00-{trace}-00f067aa0ba902b7-01-more"),
            format!("ff-{trace}-00f067aa0ba902b7-01"),
            format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)),
            format!("00-{trace}-{}-01", "0".repeat(16)),
            format!("00-{}-00f067aa0ba902b7-01", trace.to_uppercase()),
            format!("00-{trace}-00f067aa0ba902b7-01\r\nX: y"),
        ] {
            assert_eq!(child(&wrong), None, "{wrong}");
        }
    }

    #[test]
    fn members_are_found_and_everything_else_is_skipped() {
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        let text = format!(r#"{{"a":1,"x":{deep},"\u0061":1e400,"b":null,"c":{deep}}}"#);
        let [a, b, c] = pick(&text, ["a", "b", "c"]).unwrap();
        assert_eq!(a.unwrap().get(), "1e400");
        assert!(b.is_none());
        assert_eq!(c.unwrap().get(), deep);
        assert!(pick(&deep, ["a"]).is_err());
        assert!(pick(r#"{"a":1} x"#, ["a"]).is_err());
    }
}
