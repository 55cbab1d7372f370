use serde_json::{Value, json};

use super::*;

fn manner(version: Protocol, binding: Binding, delivery: Delivery) -> Manner {
    Manner {
        version,
        binding,
        delivery,
        ..Manner::default()
    }
}

fn written(manner: &Manner, operation: Operation<'_>) -> (String, Value) {
    let written = write(manner, "http://a/x/", "r-1", operation).unwrap();
    let body = written
        .body
        .map(|body| serde_json::from_slice(&body).unwrap());
    (written.url.into_owned(), body.unwrap_or_default())
}

fn sent(manner: &Manner, message: &Message) -> (String, Value) {
    let delegation = "d-1";
    written(
        manner,
        Operation::Send {
            delegation,
            message,
            push: None,
        },
    )
}

fn task() -> RemoteTaskId {
    RemoteTaskId("t:1/2".into())
}

fn input() -> Message {
    Message::Input {
        id: "m-2".into(),
        task: Some(task()),
        text: "blue".into(),
    }
}

/// A message with everything that one can have.
fn whole(task: Option<RemoteTaskId>) -> Message {
    let message = json!({
        "messageId": "m-1", "contextId": "c-1", "taskId": "ours", "role": "ROLE_USER",
        "parts": [
            {"text": "look"},
            {"raw": "AAEC", "filename": "f", "mediaType": "a/b"},
            {"url": "http://f/", "mediaType": "a/b"},
            {"data": {"n": 1}, "metadata": {"k": 1}},
        ],
        "metadata": {"mine": [1], "delegation_id": "forged"}, "extensions": ["urn:x"], "referenceTaskIds": ["ours"],
    });
    Message::Whole {
        message: message.to_string().into(),
        task,
    }
}

#[test]
fn without_a_card_the_requests_are_a2a_0_3() {
    let plain = Manner::default();
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
    let (url, body) = sent(&plain, &Message::Task("say \"hi\"\n".into()));
    assert_eq!((&*url, &body), ("http://a/x/", &expected));
    let message = &mut expected["params"]["message"];
    message["messageId"] = json!("m-2");
    message["taskId"] = json!("t:1/2");
    message["parts"][0]["text"] = json!("blue");
    assert_eq!(sent(&plain, &input()).1, expected);
    assert_eq!(
        written(&plain, Operation::Get(&task())).1,
        json!({"jsonrpc": "2.0", "id": "r-1", "method": "tasks/get", "params": {"id": "t:1/2", "historyLength": 1}})
    );
    assert_eq!(
        written(&plain, Operation::Cancel(&task())).1,
        json!({"jsonrpc": "2.0", "id": "r-1", "method": "tasks/cancel", "params": {"id": "t:1/2"}})
    );
}

#[test]
fn each_delivery_has_its_words() {
    use Delivery::{Blocking, NonBlocking, Streaming};
    let configured = |version, delivery| {
        let manner = manner(version, Binding::JsonRpc, delivery);
        let (_, body) = sent(&manner, &input());
        (
            body["method"].clone(),
            body["params"]["configuration"].clone(),
        )
    };
    for (version, delivery, method, configuration) in [
        (
            Protocol::V03,
            Blocking,
            "message/send",
            json!({"blocking": true}),
        ),
        (
            Protocol::V03,
            NonBlocking,
            "message/send",
            json!({"blocking": false}),
        ),
        (Protocol::V03, Streaming, "message/stream", Value::Null),
        (
            Protocol::V10,
            Blocking,
            "SendMessage",
            json!({"returnImmediately": false}),
        ),
        (
            Protocol::V10,
            NonBlocking,
            "SendMessage",
            json!({"returnImmediately": true}),
        ),
        (
            Protocol::V10,
            Streaming,
            "SendStreamingMessage",
            Value::Null,
        ),
    ] {
        assert_eq!(
            configured(version, delivery),
            (json!(method), configuration)
        );
    }
}

#[test]
fn over_http_each_operation_has_its_place() {
    let mut rest = manner(Protocol::V10, Binding::Rest, Delivery::Streaming);
    assert_eq!(sent(&rest, &input()).0, "http://a/x/message:stream");
    rest.delivery = Delivery::NonBlocking;
    rest.tenant = Some("t/&1".into());
    let (url, body) = sent(&rest, &input());
    assert_eq!(
        (&*url, &body["tenant"]),
        ("http://a/x/message:send", &json!("t/&1"))
    );
    let (url, body) = written(&rest, Operation::Get(&task()));
    assert_eq!(
        (&*url, body),
        (
            "http://a/x/tasks/t:1%2F2?historyLength=1&tenant=t%2F%261",
            Value::Null
        )
    );
    let (url, body) = written(&rest, Operation::Cancel(&task()));
    assert_eq!(url, "http://a/x/tasks/t:1%2F2:cancel");
    assert_eq!(body, json!({"id": "t:1/2", "tenant": "t/&1"}));
    rest.url = Some("http://a/y?z".into());
    assert_eq!(sent(&rest, &input()).0, "http://a/y/message:send?z");
}

#[test]
fn a_whole_message_keeps_its_id_and_its_parts() {
    let new = manner(Protocol::V10, Binding::JsonRpc, Delivery::Blocking);
    let mut expected = json!({
        "messageId": "m-1", "contextId": "c-1", "role": "ROLE_USER",
        "parts": [
            {"text": "look"},
            {"raw": "AAEC", "filename": "f", "mediaType": "a/b"},
            {"url": "http://f/", "mediaType": "a/b"},
            {"data": {"n": 1}, "metadata": {"k": 1}},
        ],
        "metadata": {"mine": [1], "delegation_id": "d-1"}, "extensions": ["urn:x"],
    });
    let (_, body) = sent(&new, &whole(None));
    assert_eq!(body["params"]["message"], expected);
    let (_, body) = sent(&new, &whole(Some(task())));
    expected["taskId"] = json!("t:1/2");
    assert_eq!(body["params"]["message"], expected);

    let (_, body) = sent(&Manner::default(), &whole(Some(task())));
    expected["kind"] = json!("message");
    expected["role"] = json!("user");
    expected["parts"] = json!([
        {"kind": "text", "text": "look"},
        {"kind": "file", "file": {"bytes": "AAEC", "name": "f", "mimeType": "a/b"}},
        {"kind": "file", "file": {"uri": "http://f/", "mimeType": "a/b"}},
        {"kind": "data", "data": {"n": 1}, "metadata": {"k": 1}},
    ]);
    assert_eq!(body["params"]["message"], expected);

    let message = Message::Whole {
        message: "unreadable".into(),
        task: None,
    };
    let (_, body) = sent(&new, &message);
    let said = &body["params"]["message"];
    assert_eq!(
        (&said["messageId"], &said["parts"][0]["text"]),
        (&json!("d-1"), &json!("unreadable"))
    );
}

/// The protocol's own types are the judge of what Baton writes.
#[test]
fn the_official_types_read_what_is_written() {
    let read = |body: Value| -> a2a::SendMessageRequest { serde_json::from_value(body).unwrap() };
    for delivery in [
        Delivery::Blocking,
        Delivery::NonBlocking,
        Delivery::Streaming,
    ] {
        for message in [
            Message::Task("do it".into()),
            input(),
            whole(None),
            whole(Some(task())),
        ] {
            let mut manner = manner(Protocol::V10, Binding::JsonRpc, delivery);
            manner.tenant = Some("t".into());
            let (_, body) = sent(&manner, &message);
            let envelope: a2a::JsonRpcRequest = serde_json::from_value(body).unwrap();
            assert!(a2a::methods::is_valid(&envelope.method));
            let request = read(envelope.params.unwrap());
            manner.binding = Binding::Rest;
            assert_eq!(request, read(sent(&manner, &message).1));
            assert_eq!(request.tenant.as_deref(), Some("t"));
            assert_eq!(request.message.role, a2a::Role::User);
            assert_eq!(request.message.task_id.is_some(), message.goes_on());
            assert_eq!(request.message.metadata.unwrap()["delegation_id"], "d-1");
            let immediately = match delivery {
                Delivery::Blocking => Some(false),
                Delivery::NonBlocking => Some(true),
                Delivery::Streaming => None,
            };
            let configured = request
                .configuration
                .and_then(|said| said.return_immediately);
            assert_eq!(configured, immediately);
        }
    }
    let manner = manner(Protocol::V10, Binding::JsonRpc, Delivery::Blocking);
    let asked = task();
    let params = |operation| written(&manner, operation).1["params"].clone();
    let get: a2a::GetTaskRequest = serde_json::from_value(params(Operation::Get(&asked))).unwrap();
    let cancel: a2a::CancelTaskRequest =
        serde_json::from_value(params(Operation::Cancel(&asked))).unwrap();
    assert_eq!([&*get.id, &*cancel.id], ["t:1/2"; 2]);
}

#[test]
fn who_says_that_it_tells_of_its_tasks_is_offered_to() {
    let push = PushConfig {
        id: "baton-d-1".to_owned(),
        url: "https://baton/x".to_owned(),
        token: "secret".to_owned(),
    };
    let offered = json!({"id": "baton-d-1", "url": "https://baton/x", "token": "secret"});
    for (version, name) in [
        (Protocol::V03, "pushNotificationConfig"),
        (Protocol::V10, "taskPushNotificationConfig"),
    ] {
        for delivery in [Delivery::NonBlocking, Delivery::Streaming] {
            let mut manner = manner(version, Binding::JsonRpc, delivery);
            let configured = |manner: &Manner, message: &Message| {
                let operation = Operation::Send {
                    delegation: "d-1",
                    message,
                    push: Some(&push),
                };
                let (_, body) = written(manner, operation);
                body["params"]["configuration"][name].clone()
            };
            let task = Message::Task("do it".into());
            assert_eq!(configured(&manner, &task), Value::Null);
            manner.push = true;
            assert_eq!(configured(&manner, &task), offered);
            assert_eq!(configured(&manner, &input()), Value::Null);
            if version == Protocol::V10 {
                let config: a2a::TaskPushNotificationConfig =
                    serde_json::from_value(offered.clone()).unwrap();
                assert_eq!(config.token.as_deref(), Some("secret"));
            }
        }
    }
    assert!(!format!("{push:?}").contains("secret"));
}
