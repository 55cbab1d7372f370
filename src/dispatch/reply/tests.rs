use super::*;
use crate::domain::{RemoteTaskId, WorkPhase};

const ID: &str = "r-1";

fn read(status: u16, body: &str) -> Outcome {
    read_reply(status, None, body.as_bytes(), ID)
}

fn read_result(result: &str) -> Outcome {
    read(
        200,
        &format!(r#"{{"jsonrpc":"2.0","id":"r-1","result":{result}}}"#),
    )
}

fn answered(text: &str) -> Outcome {
    Outcome::Answered { text: text.into() }
}

fn refusal(class: ErrorClass, detail: &str) -> Outcome {
    let detail = detail.into();
    Outcome::Refused { class, detail }
}

fn task_in(task: &str, phase: WorkPhase) -> Outcome {
    let task = Some(RemoteTaskId(task.into()));
    Outcome::NonFinal { task, phase }
}

/// A task in a state that is given as JSON.
fn state(state: &str) -> Outcome {
    read_result(&format!(
        r#"{{"kind":"task","id":"t:1","status":{{"state":{state}}}}}"#
    ))
}

/// A task in a state that is given as a word, with a status message.
fn saying(word: &str) -> Outcome {
    let message = r#"{"parts":[{"kind":"text","text":"which?"}]}"#;
    read_result(&format!(
        r#"{{"id":"t:1","status":{{"state":"{word}","message":{message}}}}}"#
    ))
}

fn assert_malformed(outcome: &Outcome, expected: ErrorClass, what: &str) {
    match outcome {
        Outcome::Malformed { class, detail } if *class == expected => {
            assert!(!detail.is_empty(), "{what}");
        }
        other => panic!("{what}: {other:?}"),
    }
}

/// Lesson L08: the corpus of envelopes.
#[test]
fn all_text_of_an_answer_is_taken_in_order_from_every_dialect() {
    let done = |rest: &str| {
        format!(r#"{{"kind":"task","id":"t","status":{{"state":"completed"}}{rest}}}"#)
    };
    let table = [
        (r#"{"kind":"message","role":"agent","parts":[{"kind":"text","text":" exact\ttext\r\n"}]}"#.to_owned(), " exact\ttext\r\n"),
        (r#"{"kind":"message","role":"agent","parts":[{"kind":"text","text":"a"},{"kind":"text","text":"b"}]}"#.to_owned(), "a\nb"),
        (r#"{"role":"agent","parts":[{"type":"text","text":"v0.2"}]}"#.to_owned(), "v0.2"),
        (r#"{"parts":[{"kind":"text","text":"bare"}]}"#.to_owned(), "bare"),
        (r#"{"role":"agent","content":"v0.2 content"}"#.to_owned(), "v0.2 content"),
        (r#"{"message":{"role":"ROLE_AGENT","messageId":"m","parts":[{"text":"1.0"},{"data":{"x":1}},{"text":"!","mediaType":"text/plain"}]}}"#.to_owned(), "1.0\n!"),
        (r#"{"task":{"id":"t","status":{"state":"TASK_STATE_COMPLETED"},"artifacts":[{"artifactId":"a","parts":[{"text":"1.0"}]}]}}"#.to_owned(), "1.0"),
        (done(r#","artifacts":[{"parts":[{"kind":"text","text":"a1"},{"kind":"text","text":"a2"}]},{"parts":[{"kind":"text","text":"b"}]}]"#), "a1\na2\nb"),
        (r#"{"kind":"task","id":"t","status":{"state":"completed","message":{"role":"agent","parts":[{"kind":"text","text":"in status"}]}}}"#.to_owned(), "in status"),
        (r#"{"kind":"task","id":"t","status":{"state":"completed","message":{"parts":[{"kind":"text","text":"last"}]}},"artifacts":[{"parts":[{"kind":"text","text":"first"}]}]}"#.to_owned(), "first\nlast"),
        (r#"{"kind":"status-update","taskId":"t","final":true,"status":{"state":"completed","message":{"parts":[{"kind":"text","text":"upd"}]}}}"#.to_owned(), "upd"),
        (done(r#","artifacts":[{"parts":[{"kind":"file","file":{"uri":"u"}}, {"kind":"data","data":{"n":1e400}}]}]"#), r#"[{"kind":"file","file":{"uri":"u"}},{"kind":"data","data":{"n":1e400}}]"#),
        (done(r#","artifacts":[{"artifactId":"a"}]"#), r#"[{"artifactId":"a"}]"#),
        (r#"{"kind":"message","parts":[{"kind":"text","text":""}]}"#.to_owned(), ""),
        (r#"{"kind":"message","parts":[{"kind":"text","text":"a\u0000b\ud800c\ud83e\udd80"}]}"#.to_owned(), "a\u{fffd}b\u{fffd}c🦀"),
        (r#"{"kind":"message","parts":null,"parts":[{"kind":"text","text":"x","text":"last of two"}]}"#.to_owned(), "last of two"),
    ];
    for (result, text) in table {
        assert_eq!(read_result(&result), answered(text), "{result}");
    }
}

#[test]
fn nothing_but_an_answer_to_our_own_request_completes() {
    let message =
        r#"{"kind":"message","role":"agent","parts":[{"kind":"text","text":"boot turn"}]}"#;
    for id in [
        r#""r-2""#,
        "1",
        "null",
        "true",
        r#"["r-1"]"#,
        r#""R-1""#,
        r#""r-1 ""#,
    ] {
        let body = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{message}}}"#);
        assert_malformed(&read(200, &body), ErrorClass::ForeignResponse, &body);
    }
    let body = format!(r#"{{"jsonrpc":"2.0","result":{message}}}"#);
    assert_malformed(&read(200, &body), ErrorClass::ForeignResponse, &body);
    for result in [
        r#""text""#,
        "1",
        "[]",
        "{}",
        r#"{"parts":null}"#,
        r#"{"role":"user","parts":[{"text":"mine"}]}"#,
    ] {
        assert_malformed(&read_result(result), ErrorClass::MalformedResponse, result);
    }
    for result in [
        r#"{"kind":"message","parts":[]}"#,
        r#"{"role":"agent"}"#,
        r#"{"kind":"task","id":"t","status":{"state":"completed"}}"#,
        r#"{"kind":"task","id":"t","status":{"state":"completed","message":null},"artifacts":[]}"#,
    ] {
        assert_malformed(&read_result(result), ErrorClass::EmptyResponse, result);
    }
}

#[test]
fn a_task_that_is_not_over_is_followed() {
    for word in [
        r#""submitted""#,
        r#""TASK_STATE_SUBMITTED""#,
        r#""TASK_STATE_UNSPECIFIED""#,
        "null",
    ] {
        assert_eq!(state(word), task_in("t:1", WorkPhase::Submitted), "{word}");
    }
    for word in [
        r#""working""#,
        r#""TASK_STATE_WORKING""#,
        r#""unknown""#,
        r#""brand-new""#,
        "7",
    ] {
        assert_eq!(state(word), task_in("t:1", WorkPhase::Working), "{word}");
    }
    for word in [
        "input-required",
        "TASK_STATE_INPUT_REQUIRED",
        "auth-required",
        "TASK_STATE_AUTH_REQUIRED",
    ] {
        let text = "which?".into();
        assert_eq!(
            saying(word),
            task_in("t:1", WorkPhase::InputRequired { text }),
            "{word}"
        );
    }
    let text = "the agent asks for authentication".into();
    assert_eq!(
        state(r#""auth-required""#),
        task_in("t:1", WorkPhase::InputRequired { text })
    );
}

#[test]
fn a_task_that_ended_without_completing_is_refused_with_its_reason() {
    let failed = "the agent ended its task as failed";
    let cancelled = "the agent cancelled its task";
    for (word, class, otherwise) in [
        ("failed", ErrorClass::Refused, failed),
        ("TASK_STATE_FAILED", ErrorClass::Refused, failed),
        (
            "rejected",
            ErrorClass::Rejected,
            "the agent rejected the task",
        ),
        ("canceled", ErrorClass::CancelledByTarget, cancelled),
        (
            "TASK_STATE_CANCELED",
            ErrorClass::CancelledByTarget,
            cancelled,
        ),
    ] {
        assert_eq!(saying(word), refusal(class, "which?"), "{word}");
        assert_eq!(
            state(&format!("\"{word}\"")),
            refusal(class, otherwise),
            "{word}"
        );
    }
}

#[test]
fn errors_are_refusals_with_code_and_message_on_one_clean_line() {
    for (body, detail) in [
        (
            r#"{"jsonrpc":"2.0","id":"r-1","error":{"code":-32603,"message":"boom"}}"#,
            "JSON-RPC error -32603: boom",
        ),
        (
            r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"bad"}}"#,
            "JSON-RPC error -32700: bad",
        ),
        (
            r#"{"id":"r-1","result":null,"error":{"code":-32001}}"#,
            "JSON-RPC error -32001",
        ),
        (
            r#"{"id":"r-1","result":{"parts":[]},"error":{"message":"a\u001b[1m\r\nb"}}"#,
            "JSON-RPC error: a [1m b",
        ),
        (r#"{"error":"no such tool"}"#, "no such tool"),
        (r#"{"error":{}}"#, "JSON-RPC error without a message"),
        (
            r#"{"error":{"code":1e400,"message":" "}}"#,
            "JSON-RPC error without a message",
        ),
        ("{\"error\":\"\u{200b}\"}", "no readable reason was given"),
    ] {
        assert_eq!(
            read(200, body),
            refusal(ErrorClass::Refused, detail),
            "{body}"
        );
    }
    let foreign = r#"{"id":"r-2","error":{"code":1,"message":"x"}}"#;
    assert_malformed(&read(200, foreign), ErrorClass::ForeignResponse, foreign);
    for (status, body, detail) in [
        (500, r#"{"error":"boom"}"#, "HTTP 500: boom"),
        (
            500,
            r#"{"error":{"code":-32603,"message":"boom"}}"#,
            "HTTP 500: JSON-RPC error -32603: boom",
        ),
        (404, "<html>", "HTTP 404: Not Found"),
        (403, r#"{"error":""}"#, "HTTP 403: Forbidden"),
        (599, "", "HTTP 599"),
        (503, r#"{"restarting":true,"error":"x"}"#, "HTTP 503: x"),
        (302, "", "HTTP 302: redirects are not followed"),
        (
            307,
            r#"{"id":"r-1","result":{"parts":[{"text":"x"}]}}"#,
            "HTTP 307: redirects are not followed",
        ),
    ] {
        assert_eq!(
            read(status, body),
            refusal(ErrorClass::Refused, detail),
            "{status} {body}"
        );
    }
}

#[test]
fn what_a_gateway_says_of_an_agent_leaves_open_what_became_of_the_request() {
    for (status, body, said) in [
        (502, r#"{"error":"no agent"}"#, "HTTP 502: no agent"),
        (504, "", "HTTP 504: Gateway Timeout"),
    ] {
        let Outcome::DeliveredUnknown { class, detail, .. } = read(status, body) else {
            panic!("{status} is no refusal")
        };
        assert_eq!((class, &*detail), (ErrorClass::OutcomeUnknown, said));
    }
}

#[test]
fn busy_and_queued_are_what_they_say() {
    let busy = |seconds: Option<u64>| Outcome::Busy {
        retry_after: seconds.map(Duration::from_secs),
    };
    assert_eq!(
        read(503, r#"{"busy":true,"retry_after":30}"#),
        busy(Some(30))
    );
    assert_eq!(
        read(503, r#"{"busy":true,"retry_after":"7"}"#),
        busy(Some(7))
    );
    assert_eq!(read(503, r#"{"busy":true,"retry_after":-1}"#), busy(None));
    assert_eq!(
        read(503, r#"{"busy":true,"retry_after":1e400}"#),
        busy(None)
    );
    assert_eq!(read(429, "slow down"), busy(None));
    let header = read_reply(
        429,
        Some(Duration::from_secs(5)),
        br#"{"retry_after":9}"#,
        ID,
    );
    assert_eq!(header, busy(Some(5)));
    for (status, body) in [
        (
            202,
            r#"{"queued":true,"queue_id":"q","queue_depth":1,"message":"agent busy"}"#,
        ),
        (200, r#"{"queued":true}"#),
        (
            200,
            r#"{"status":"queued","delivery_mode":"poll","method":"message/send"}"#,
        ),
        (202, r#"{"queued":true,"error":{"message":"busy"}}"#),
    ] {
        assert_eq!(read(status, body), Outcome::TargetQueued, "{body}");
    }
    for body in [
        r#"{"queued":false}"#,
        r#"{"queued":"true"}"#,
        r#"{"status":"ok"}"#,
        r#"{"busy":true}"#,
    ] {
        assert_malformed(&read(202, body), ErrorClass::MalformedResponse, body);
    }
}

#[test]
fn retry_after_is_seconds_or_a_date_measured_against_the_answers_own() {
    let now = Some("Wed, 21 Oct 2015 07:28:00 GMT");
    for (value, date, seconds) in [
        ("120", None, Some(120)),
        (" 0 ", None, Some(0)),
        ("Wed, 21 Oct 2015 07:28:30 GMT", now, Some(30)),
        ("Wed, 21 Oct 2015 07:00:00 GMT", now, Some(0)),
        ("Wed, 21 Oct 2015 07:28:30 GMT", None, None),
        ("soon", now, None),
        ("-1", now, None),
        ("99999999999999999999999", now, None),
    ] {
        assert_eq!(
            parse_retry_after(value, date),
            seconds.map(Duration::from_secs),
            "{value}"
        );
    }
}

mod odd;
