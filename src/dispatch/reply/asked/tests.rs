use super::*;
use crate::domain::WorkPhase;

fn read(status: u16, body: &str) -> AskOutcome {
    let task = RemoteTaskId("t:1".into());
    let answer = read_asked(status, None, body.as_bytes(), "r-1", &task);
    match &answer {
        AskOutcome::NoSuchTask { detail }
        | AskOutcome::Unsupported { detail }
        | AskOutcome::Later { detail, .. } => assert!(!detail.is_empty(), "{status} {body}"),
        AskOutcome::Told(_) => {}
    }
    answer
}

fn result(result: &str) -> AskOutcome {
    read(
        200,
        &format!(r#"{{"jsonrpc":"2.0","id":"r-1","result":{result}}}"#),
    )
}

fn is_later(answer: &AskOutcome, seconds: Option<u64>) -> bool {
    matches!(answer, AskOutcome::Later { retry_after, .. } if *retry_after == seconds.map(Duration::from_secs))
}

#[test]
fn a_task_is_read_as_in_an_answer_to_a_message() {
    let message = r#""message":{"role":"agent","parts":[{"kind":"text","text":"said"}]}"#;
    let refused = |class| Outcome::Refused {
        class,
        detail: "said".into(),
    };
    let non_final = |phase| Outcome::NonFinal {
        task: Some(RemoteTaskId("t:1".into())),
        phase,
    };
    let text = || "said".into();
    for (state, outcome) in [
        ("completed", Outcome::Answered { text: text() }),
        ("TASK_STATE_COMPLETED", Outcome::Answered { text: text() }),
        ("failed", refused(ErrorClass::Refused)),
        ("TASK_STATE_REJECTED", refused(ErrorClass::Rejected)),
        ("canceled", refused(ErrorClass::CancelledByTarget)),
        ("submitted", non_final(WorkPhase::Submitted)),
        ("TASK_STATE_WORKING", non_final(WorkPhase::Working)),
        ("pondering", non_final(WorkPhase::Working)),
        (
            "input-required",
            non_final(WorkPhase::InputRequired { text: text() }),
        ),
    ] {
        let status = format!(r#""status":{{"state":"{state}",{message}}}"#);
        for task in [
            format!(r#"{{"kind":"task","id":"t:1","contextId":"c",{status}}}"#),
            format!(r#"{{"id":"t:1",{status}}}"#),
            format!(r#"{{"task":{{"id":"t:1",{status}}}}}"#),
            format!(r#"{{"kind":"status-update","taskId":"t:1",{status}}}"#),
        ] {
            assert_eq!(result(&task), AskOutcome::Told(outcome.clone()), "{task}");
        }
    }
    let empty = result(r#"{"kind":"task","id":"t:1","status":{"state":"completed"}}"#);
    assert!(
        matches!(
            empty,
            AskOutcome::Told(Outcome::Malformed {
                class: ErrorClass::EmptyResponse,
                ..
            })
        ),
        "{empty:?}"
    );
}

#[test]
fn what_does_not_speak_of_the_task_says_nothing_of_it() {
    let status =
        r#""status":{"state":"completed","message":{"parts":[{"kind":"text","text":"x"}]}}"#;
    for other in [
        format!(r#"{{"kind":"task","id":"t:2",{status}}}"#),
        format!(r#"{{"kind":"task",{status}}}"#),
        format!(r#"{{"kind":"task","id":1,{status}}}"#),
        r#"{"kind":"message","role":"agent","parts":[{"kind":"text","text":"hello"}]}"#.to_owned(),
        r#""done""#.to_owned(),
        "{}".to_owned(),
    ] {
        assert!(is_later(&result(&other), None), "{other}");
    }
    let task = format!(r#"{{"kind":"task","id":"t:1",{status}}}"#);
    for (status, body) in [
        (200, format!(r#"{{"id":"r-2","result":{task}}}"#)),
        (200, format!(r#"{{"id":null,"result":{task}}}"#)),
        (200, format!(r#"{{"result":{task}}}"#)),
        (200, format!(r#"{{"id":"r-1","result":{task}"#)),
        (200, task.clone()),
        (500, format!(r#"{{"id":"r-1","result":{task}}}"#)),
        (307, format!(r#"{{"id":"r-1","result":{task}}}"#)),
        (200, String::new()),
        (204, String::new()),
        (200, "<html>".to_owned()),
        (202, r#"{"queued":true}"#.to_owned()),
        (200, r#"{"id":"r-1","error":{"code":-32603}}"#.to_owned()),
        (200, r#"{"id":"r-2","error":{"code":-32001}}"#.to_owned()),
        (404, r#"{"id":"r-1","error":{"code":-32603}}"#.to_owned()),
        (200, r#"{"error":"no such task"}"#.to_owned()),
        (400, String::new()),
        (401, String::new()),
        (502, String::new()),
    ] {
        assert!(is_later(&read(status, &body), None), "{status} {body}");
    }
    assert!(is_later(&read(429, r#"{"retry_after":9}"#), Some(9)));
    assert!(is_later(
        &read(503, r#"{"busy":true,"retry_after":2}"#),
        Some(2)
    ));
    let said = read_asked(
        503,
        Some(Duration::from_secs(4)),
        b"",
        "r-1",
        &RemoteTaskId("t:1".into()),
    );
    assert!(is_later(&said, Some(4)), "{said:?}");
}

#[test]
fn a_task_that_is_lost_and_an_agent_that_cannot_be_asked_say_so() {
    for (status, id) in [
        (200, r#""r-1""#),
        (200, "null"),
        (404, r#""r-1""#),
        (500, r#""r-1""#),
    ] {
        let error = |code: i64| {
            format!(
                r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":{code},"message":"Task\nnot found"}}}}"#
            )
        };
        let detail = "JSON-RPC error -32001: Task not found".into();
        assert_eq!(
            read(status, &error(-32001)),
            AskOutcome::NoSuchTask { detail }
        );
        for code in [-32601, -32004] {
            let answer = read(status, &error(code));
            assert!(
                matches!(answer, AskOutcome::Unsupported { .. }),
                "{answer:?}"
            );
        }
    }
    for (status, body) in [
        (404, ""),
        (404, r#"{"detail":"Not Found"}"#),
        (404, r#"{"error":{"message":"no code"}}"#),
        (405, "<html>"),
        (501, ""),
    ] {
        let answer = read(status, body);
        assert!(
            matches!(answer, AskOutcome::Unsupported { .. }),
            "{answer:?}"
        );
    }
}
