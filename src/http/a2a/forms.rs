//! The two forms in which A2A says the same: 1.0, in which everything here is kept, and 0.3, which is translated at the
//! door (A2A 1.0 Appendix A; a2a.md §1).

use serde_json::{Map, Value, json};

/// The name of a member in 1.0 and in 0.3.
type Renamed = (&'static str, &'static str);

/// Files of 0.3: its own names for what 1.0 has in the part itself.
const FILE: [Renamed; 4] = [
    ("raw", "bytes"),
    ("url", "uri"),
    ("mediaType", "mimeType"),
    ("filename", "name"),
];

/// A part in the form of 1.0, whichever it comes in.
pub(super) fn part(part: &Value) -> Value {
    let kind = ["kind", "type"].into_iter().find_map(|name| part.get(name));
    let Some(kind) = kind.and_then(Value::as_str) else {
        return part.clone();
    };
    let mut made = Map::new();
    match (kind, part.get("file")) {
        ("file", Some(file)) => {
            for (name, old) in FILE {
                insert(&mut made, name, file.get(old));
            }
        }
        (name, _) => insert(&mut made, name, part.get(name)),
    }
    insert(&mut made, "metadata", part.get("metadata"));
    Value::Object(made)
}

/// A part in the form of 0.3.
fn old_part(part: &Value) -> Value {
    let mut made = Map::new();
    if let Some(text) = part.get("text") {
        made.insert("kind".to_owned(), json!("text"));
        made.insert("text".to_owned(), text.clone());
    } else if let Some(data) = part.get("data") {
        made.insert("kind".to_owned(), json!("data"));
        made.insert("data".to_owned(), data.clone());
    } else {
        let mut file = Map::new();
        for (name, old) in FILE {
            insert(&mut file, old, part.get(name));
        }
        made.insert("kind".to_owned(), json!("file"));
        made.insert("file".to_owned(), Value::Object(file));
    }
    insert(&mut made, "metadata", part.get("metadata"));
    Value::Object(made)
}

/// A message in the form of 1.0.
pub(super) fn message(message: &Value) -> Value {
    let mut made = with_parts(message, part);
    made.remove("kind");
    if let Some(role) = message.get("role").and_then(Value::as_str) {
        let word = role.to_ascii_uppercase();
        let word = word.strip_prefix("ROLE_").unwrap_or(&word).to_owned();
        made.insert("role".to_owned(), format!("ROLE_{word}").into());
    }
    Value::Object(made)
}

/// A message in the form of 0.3.
pub(super) fn old_message(message: &Value) -> Value {
    let mut made = with_parts(message, old_part);
    let role = message.get("role").and_then(Value::as_str);
    let role = if role == Some("ROLE_AGENT") {
        "agent"
    } else {
        "user"
    };
    made.insert("role".to_owned(), role.into());
    made.insert("kind".to_owned(), "message".into());
    Value::Object(made)
}

/// An artifact in the form of 1.0.
pub(super) fn artifact(artifact: &Value) -> Value {
    Value::Object(with_parts(artifact, part))
}

/// An artifact in the form of 0.3.
fn old_artifact(artifact: &Value) -> Value {
    Value::Object(with_parts(artifact, old_part))
}

fn with_parts(whole: &Value, change: impl Fn(&Value) -> Value) -> Map<String, Value> {
    let mut made = whole.as_object().cloned().unwrap_or_default();
    if let Some(parts) = whole.get("parts").and_then(Value::as_array) {
        made.insert("parts".to_owned(), parts.iter().map(change).collect());
    }
    made
}

/// A task in the form of 0.3.
pub(super) fn old_task(task: &Value) -> Value {
    let mut made = task.as_object().cloned().unwrap_or_default();
    made.insert("kind".to_owned(), "task".into());
    each(&mut made, "artifacts", old_artifact);
    each(&mut made, "history", old_message);
    if let Some(status) = task.get("status") {
        made.insert("status".to_owned(), old_status(status));
    }
    Value::Object(made)
}

fn each(made: &mut Map<String, Value>, name: &str, change: impl Fn(&Value) -> Value) {
    if let Some(Value::Array(all)) = made.get_mut(name) {
        *all = all.iter().map(change).collect();
    }
}

fn old_status(status: &Value) -> Value {
    let mut made = status.as_object().cloned().unwrap_or_default();
    let state = status.get("state").and_then(Value::as_str);
    made.insert(
        "state".to_owned(),
        old_state(state.unwrap_or_default()).into(),
    );
    if let Some(message) = status.get("message") {
        made.insert("message".to_owned(), old_message(message));
    }
    Value::Object(made)
}

/// `TASK_STATE_INPUT_REQUIRED` is `input-required`.
fn old_state(state: &str) -> String {
    let word = state.strip_prefix("TASK_STATE_").unwrap_or(state);
    word.to_ascii_lowercase().replace('_', "-")
}

/// What answers a message, or comes in a stream, in the form of 0.3. `is_last`: nothing follows it.
pub(super) fn old_response(response: &Value, is_last: bool) -> Value {
    if let Some(task) = response.get("task") {
        return old_task(task);
    }
    if let Some(message) = response.get("message") {
        return old_message(message);
    }
    let (kind, update) = match (response.get("statusUpdate"), response.get("artifactUpdate")) {
        (Some(update), _) => ("status-update", update),
        (None, Some(update)) => ("artifact-update", update),
        (None, None) => return response.clone(),
    };
    let mut made = update.as_object().cloned().unwrap_or_default();
    made.insert("kind".to_owned(), kind.into());
    if let Some(status) = update.get("status") {
        made.insert("status".to_owned(), old_status(status));
        made.insert("final".to_owned(), is_last.into());
    }
    if let Some(artifact) = update.get("artifact") {
        made.insert("artifact".to_owned(), old_artifact(artifact));
    }
    Value::Object(made)
}

/// Parameters by the names that JSON gives them: those of the protocol's own definition are as good (`ProtoJSON`).
pub(super) fn named(params: &Value) -> Value {
    let Some(members) = params.as_object() else {
        return params.clone();
    };
    let named = members.iter().map(|(name, value)| {
        let value = match name.as_str() {
            "message" | "configuration" | "taskPushNotificationConfig" => named(value),
            _ => value.clone(),
        };
        (camel(name), value)
    });
    Value::Object(named.collect())
}

/// `history_length` is `historyLength`.
fn camel(name: &str) -> String {
    let mut words = name.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |name, word| {
        let (head, rest) = word.split_at(word.ceil_char_boundary(1));
        name + &head.to_uppercase() + rest
    })
}

/// The parameters of a method of 0.3 as those of its twin in 1.0.
pub(super) fn params(method: &str, params: &Value) -> Value {
    let mut made = params.as_object().cloned().unwrap_or_default();
    if let Some(said) = params.get("message").filter(|said| said.is_object()) {
        made.insert("message".to_owned(), message(said));
    }
    if let Some(old) = params.get("configuration").and_then(Value::as_object) {
        let mut configuration = old.clone();
        if let Some(blocking) = configuration.remove("blocking").and_then(|is| is.as_bool()) {
            configuration.insert("returnImmediately".to_owned(), (!blocking).into());
        }
        if let Some(push) = configuration.remove("pushNotificationConfig") {
            configuration.insert("taskPushNotificationConfig".to_owned(), push_config(&push));
        }
        made.insert("configuration".to_owned(), configuration.into());
    }
    if method.starts_with("tasks/pushNotificationConfig/") {
        return push_params(&made);
    }
    Value::Object(made)
}

/// 0.3 calls the task `taskId` beside a nested configuration, or `id` beside the configuration's own id.
fn push_params(old: &Map<String, Value>) -> Value {
    if let Some(nested) = old.get("pushNotificationConfig") {
        let mut made = push_config(nested).as_object().cloned().unwrap_or_default();
        insert(&mut made, "taskId", old.get("taskId"));
        return Value::Object(made);
    }
    let mut made = Map::new();
    insert(&mut made, "taskId", old.get("id"));
    insert(&mut made, "id", old.get("pushNotificationConfigId"));
    Value::Object(made)
}

/// `authentication.schemes` became `scheme`.
fn push_config(old: &Value) -> Value {
    let mut made = old.as_object().cloned().unwrap_or_default();
    if let Some(authentication) = old.get("authentication").and_then(Value::as_object) {
        let mut authentication = authentication.clone();
        let schemes = authentication.remove("schemes");
        if let Some(scheme) = schemes.as_ref().and_then(|schemes| schemes.get(0)) {
            authentication.insert("scheme".to_owned(), scheme.clone());
        }
        made.insert("authentication".to_owned(), authentication.into());
    }
    Value::Object(made)
}

/// A push configuration in the form of 0.3.
pub(super) fn old_push_config(config: &Value) -> Value {
    let mut nested = config.as_object().cloned().unwrap_or_default();
    let task = nested.remove("taskId");
    if let Some(Value::Object(authentication)) = nested.get_mut("authentication")
        && let Some(scheme) = authentication.remove("scheme")
    {
        authentication.insert("schemes".to_owned(), json!([scheme]));
    }
    json!({"taskId": task, "pushNotificationConfig": nested})
}

fn insert(made: &mut Map<String, Value>, name: &str, value: Option<&Value>) {
    if let Some(value) = value.filter(|value| !value.is_null()) {
        made.insert(name.to_owned(), value.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_in_one_form_can_be_said_in_the_other() {
        let old = json!({
            "kind": "message", "role": "user", "messageId": "m", "contextId": "c",
            "parts": [
                {"kind": "text", "text": "hi", "metadata": {"a": 1}},
                {"kind": "data", "data": {"x": [1]}},
                {"kind": "file", "file": {"bytes": "aGk=", "mimeType": "text/plain", "name": "a.txt"}},
                {"kind": "file", "file": {"uri": "https://example.com/a"}},
            ],
        });
        let new = json!({
            "role": "ROLE_USER", "messageId": "m", "contextId": "c",
            "parts": [
                {"text": "hi", "metadata": {"a": 1}},
                {"data": {"x": [1]}},
                {"raw": "aGk=", "mediaType": "text/plain", "filename": "a.txt"},
                {"url": "https://example.com/a"},
            ],
        });
        assert_eq!(message(&old), new);
        assert_eq!(old_message(&new), old);
        assert_eq!(message(&new), new, "what is new already stays");
    }

    #[test]
    fn parameters_may_have_the_names_of_the_definition() {
        let given = json!({"history_length": 1, "configuration": {"return_immediately": true}, "metadata": {"my_own": 1}});
        let expected = json!({"historyLength": 1, "configuration": {"returnImmediately": true}, "metadata": {"my_own": 1}});
        assert_eq!(named(&given), expected);
    }

    #[test]
    fn an_update_of_the_old_form_says_whether_it_is_the_last() {
        let update = json!({"statusUpdate": {
            "taskId": "t", "contextId": "c", "status": {"state": "TASK_STATE_INPUT_REQUIRED"},
        }});
        let expected = json!({
            "kind": "status-update", "taskId": "t", "contextId": "c",
            "status": {"state": "input-required"}, "final": true,
        });
        assert_eq!(old_response(&update, true), expected);
    }

    #[test]
    fn parameters_of_the_old_form_are_those_of_the_new() {
        let sent = json!({"message": {"role": "user", "parts": []}, "configuration": {"blocking": false,
            "pushNotificationConfig": {"url": "u", "authentication": {"schemes": ["Bearer"], "credentials": "x"}}}});
        assert_eq!(
            params("message/send", &sent),
            json!({"message": {"role": "ROLE_USER", "parts": []}, "configuration": {"returnImmediately": true,
                "taskPushNotificationConfig": {"url": "u", "authentication": {"scheme": "Bearer", "credentials": "x"}}}})
        );
        let given = json!({"taskId": "t", "pushNotificationConfig": {"id": "c", "url": "u"}});
        let config = json!({"taskId": "t", "id": "c", "url": "u"});
        assert_eq!(params("tasks/pushNotificationConfig/set", &given), config);
        assert_eq!(old_push_config(&config), given);
        let get = json!({"id": "t", "pushNotificationConfigId": "c"});
        let wanted = json!({"taskId": "t", "id": "c"});
        assert_eq!(params("tasks/pushNotificationConfig/get", &get), wanted);
    }
}
