use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::dispatch::reply::{read_reply, read_rest};
use crate::domain::{ErrorClass, Outcome};

const ID: &str = "r-1";

fn telling() -> Telling {
    Telling::new(Binding::JsonRpc, ID.to_owned(), false)
}

fn event(result: &Value) -> Vec<u8> {
    json!({"jsonrpc": "2.0", "id": ID, "result": result})
        .to_string()
        .into_bytes()
}

/// All that is new in these results.
fn hear(telling: &mut Telling, results: impl IntoIterator<Item = Value>) -> Vec<News> {
    let all = results.into_iter();
    all.flat_map(|result| telling.hear(&event(&result)))
        .collect()
}

fn stands(phase: WorkPhase) -> News {
    News::Stands(Some(RemoteTaskId("t".into())), phase)
}

fn made(artifact: &Value, append: bool, last_chunk: bool) -> News {
    News::Made(Product {
        artifact: Json::from(artifact),
        append,
        last_chunk,
    })
}

fn says(text: &str) -> News {
    News::Says(text.into())
}

/// What it came to, and the answer that says so.
fn outcome(telling: Telling) -> (Outcome, Value) {
    let Told::Answer(answer) = telling.ended("the end") else {
        panic!("it is open")
    };
    let outcome = read_reply(200, None, &answer, ID);
    (outcome, serde_json::from_slice(&answer).unwrap())
}

fn answered(text: &str) -> Outcome {
    Outcome::Answered { text: text.into() }
}

fn status(state: &str) -> Value {
    json!({"statusUpdate": {"taskId": "t", "contextId": "c", "status": {"state": state}}})
}

fn piece(id: &str, text: &str, append: bool) -> Value {
    let artifact = json!({"artifactId": id, "parts": [{"text": text}]});
    json!({"artifactUpdate": {"taskId": "t", "artifact": artifact, "append": append}})
}

#[test]
fn what_is_told_is_folded_into_the_answer_that_would_have_been_given() {
    let mut telling = telling();
    let task =
        json!({"task": {"id": "t", "contextId": "c", "status": {"state": "TASK_STATE_SUBMITTED"}}});
    let mut working = status("TASK_STATE_WORKING");
    working["statusUpdate"]["status"]["message"] =
        json!({"role": "ROLE_AGENT", "messageId": "m", "parts": [{"text": "half way"}]});
    let news = hear(
        &mut telling,
        [
            task,
            working,
            status("TASK_STATE_WORKING"),
            piece("a", "1", false),
            piece("b", "x", true),
            piece("a", "2", true),
            piece("b", "y", false),
        ],
    );
    let part = |id: &str, text: &str| json!({"artifactId": id, "parts": [{"text": text}]});
    let expected = [
        stands(WorkPhase::Submitted),
        stands(WorkPhase::Working),
        says("half way"),
        News::Lives,
        made(&part("a", "1"), false, false),
        made(&part("b", "x"), false, false),
        made(&part("a", "2"), true, false),
        made(&part("b", "y"), false, false),
    ];
    assert_eq!(news, expected);
    assert!(!telling.is_over());
    let end = hear(&mut telling, [status("TASK_STATE_COMPLETED")]);
    assert!(end.is_empty() && telling.is_over());
    let (outcome, answer) = outcome(telling);
    assert_eq!(outcome, answered("1\n2\ny"));
    let artifacts = json!([
        {"artifactId": "a", "parts": [{"text": "1"}, {"text": "2"}]}, {"artifactId": "b", "parts": [{"text": "y"}]},
    ]);
    let task = json!({
        "id": "t", "contextId": "c", "status": {"state": "TASK_STATE_COMPLETED"}, "artifacts": artifacts,
    });
    assert_eq!(
        answer,
        json!({"jsonrpc": "2.0", "id": ID, "result": {"task": task}})
    );
}

#[test]
fn every_dialect_says_the_same() {
    let old = |state: &str| json!({"kind": "status-update", "taskId": "t", "status": {"state": state}, "final": true});
    let artifact = json!({"artifactId": "a", "parts": [{"kind": "text", "text": "done"}]});
    for results in [
        // 0.3, and the same with the words of 1.0, and without naming anything.
        vec![
            json!({"kind": "task", "id": "t", "status": {"state": "working"}}),
            json!({"kind": "artifact-update", "taskId": "t", "artifact": artifact, "lastChunk": true}),
            old("completed"),
        ],
        vec![
            json!({"task": {"id": "t", "status": {"state": "TASK_STATE_WORKING"}}}),
            json!({"kind": "artifact-update", "taskId": "t", "artifact": artifact, "lastChunk": true}),
            old("TASK_STATE_COMPLETED"),
        ],
        vec![
            json!({"id": "t", "status": {"state": "working"}}),
            json!({"taskId": "t", "artifact": artifact, "lastChunk": true}),
            json!({"taskId": "t", "status": {"state": "completed"}}),
        ],
    ] {
        let mut telling = telling();
        let news = hear(&mut telling, results);
        let part = json!({"artifactId": "a", "parts": [{"text": "done"}]});
        assert_eq!(news, [stands(WorkPhase::Working), made(&part, false, true)]);
        assert_eq!(outcome(telling).0, answered("done"));
    }
    // A single message, or the whole task at once.
    for result in [
        json!({"kind": "message", "role": "agent", "parts": [{"kind": "text", "text": "done"}]}),
        json!({"message": {"role": "ROLE_AGENT", "parts": [{"text": "done"}]}}),
        json!({"task": {"id": "t", "status": {"state": "TASK_STATE_COMPLETED"}, "artifacts": [artifact]}}),
    ] {
        let mut telling = telling();
        assert!(hear(&mut telling, [result]).is_empty());
        assert_eq!(outcome(telling).0, answered("done"));
    }
}

#[test]
fn what_is_not_about_our_task_says_nothing() {
    let mut telling = telling();
    let ours = json!({"task": {"id": "t", "status": {"state": "TASK_STATE_WORKING"}}});
    hear(&mut telling, [ours]);
    let mut other = status("TASK_STATE_COMPLETED");
    other["statusUpdate"]["taskId"] = json!("u");
    let user = json!({"message": {"role": "ROLE_USER", "parts": [{"text": "ours"}]}});
    for odd in [
        other,
        user,
        json!({}),
        json!("x"),
        json!({"artifactUpdate": {"artifact": 7}}),
    ] {
        assert!(hear(&mut telling, [odd]).is_empty());
    }
    let completed = json!({"result": status("TASK_STATE_COMPLETED")});
    let mut foreign = completed.clone();
    foreign["id"] = json!("r-2");
    for data in [
        completed.to_string(),
        foreign.to_string(),
        "{".to_owned(),
        String::new(),
    ] {
        assert!(telling.hear(data.as_bytes()).is_empty());
    }
    assert!(!telling.is_over());
    // Words beside the task are no answer.
    let message = json!({"message": {"role": "ROLE_AGENT", "parts": [{"text": "by the way"}]}});
    assert_eq!(hear(&mut telling, [message]), [says("by the way")]);
    assert!(matches!(telling.ended("cut"), Told::Open(why) if why.ends_with("cut")));
}

#[test]
fn an_error_is_an_answer_only_where_no_task_is_known() {
    let error =
        json!({"jsonrpc": "2.0", "id": ID, "error": {"code": -32603, "message": "no"}}).to_string();
    let mut telling = telling();
    telling.hear(error.as_bytes());
    let (refused, _) = outcome(telling);
    assert!(matches!(
        refused,
        Outcome::Refused {
            class: ErrorClass::Refused,
            ..
        }
    ));

    let mut telling = self::telling();
    hear(&mut telling, [status("TASK_STATE_WORKING")]);
    telling.hear(error.as_bytes());
    assert!(telling.is_over());
    assert!(matches!(telling.ended(""), Told::Open(why) if why.contains("-32603")));
}

#[test]
fn work_without_a_name_gives_only_signs_of_life_until_it_has_one() {
    let mut nameless = status("TASK_STATE_WORKING");
    nameless["statusUpdate"]["taskId"].take();
    let mut asks = nameless.clone();
    asks["statusUpdate"]["status"]["state"] = json!("TASK_STATE_INPUT_REQUIRED");
    asks["statusUpdate"]["status"]["message"] = json!({"parts": [{"text": "which?"}]});
    let mut telling = telling();
    let news = hear(&mut telling, [nameless.clone(), nameless, asks]);
    let text = "which?".into();
    let question = News::Stands(None, WorkPhase::InputRequired { text });
    assert_eq!(news, [News::Lives, News::Lives, question]);
    let news = hear(&mut telling, [status("TASK_STATE_WORKING")]);
    assert_eq!(news, [stands(WorkPhase::Working)]);
    assert!(matches!(telling.ended("cut"), Told::Open(_)));
}

#[test]
fn a_task_that_is_completed_with_nothing_is_left_to_be_asked_after() {
    let done = || status("TASK_STATE_COMPLETED");
    for before in [vec![], vec![status("TASK_STATE_WORKING")]] {
        let mut telling = telling();
        let news = hear(&mut telling, before.into_iter().chain([done()]));
        assert_eq!(news, [stands(WorkPhase::Working)]);
        assert!(telling.is_over() && matches!(telling.ended(""), Told::Open(_)));
    }
    // Without a name nobody can ask; and an answer may be anywhere.
    let mut nameless = done();
    nameless["statusUpdate"]["taskId"].take();
    let mut says = done();
    says["statusUpdate"]["status"]["message"] = json!({"parts": [{"text": "done"}]});
    let empty = |outcome: Outcome| matches!(outcome, Outcome::Malformed { .. });
    for (results, is_empty) in [
        (vec![nameless], true),
        (vec![says], false),
        (vec![piece("a", "done", false), done()], false),
    ] {
        let mut telling = telling();
        hear(&mut telling, results);
        assert_eq!(empty(outcome(telling).0), is_empty);
    }
}

#[test]
fn a_question_is_told_once_and_not_before_its_answer_arrived() {
    let asks = |text: &str| {
        let mut asks = status("TASK_STATE_INPUT_REQUIRED");
        asks["statusUpdate"]["status"]["message"] = json!({"parts": [{"text": text}]});
        asks
    };
    let question = |text: &str| stands(WorkPhase::InputRequired { text: text.into() });
    let mut telling = telling();
    let news = hear(
        &mut telling,
        [asks("which?"), asks("which?"), asks("really?")],
    );
    assert_eq!(news, [question("which?"), News::Lives, question("really?")]);

    let before = json!({"task": {"id": "t", "status": asks("which?")["statusUpdate"]["status"]}});
    let mut telling = Telling::new(Binding::JsonRpc, ID.to_owned(), true);
    let news = hear(&mut telling, [before.clone(), before, asks("and?")]);
    assert_eq!(news, [News::Lives, question("which?"), question("and?")]);
}

#[test]
fn over_http_there_is_no_envelope() {
    let mut telling = Telling::new(Binding::Rest, ID.to_owned(), false);
    let mut hear = |result: Value| telling.hear(result.to_string().as_bytes());
    assert_eq!(
        hear(status("TASK_STATE_WORKING")),
        [stands(WorkPhase::Working)]
    );
    hear(piece("a", "done", false));
    hear(status("TASK_STATE_COMPLETED"));
    let Told::Answer(answer) = telling.ended("") else {
        panic!("it is open")
    };
    assert_eq!(read_rest(200, None, &answer), answered("done"));
}

#[test]
fn what_is_shown_the_official_types_read() {
    let mut telling = telling();
    let odd = json!({
        "parts": [
            {"kind": "text", "text": "a\u{0}"}, {"kind": "file", "file": {"bytes": "AAEC", "name": "n"}}, {"x": 1}, 7,
            {"kind": "file", "file": {"uri": "http://f/", "mimeType": "a/b"}}, {"raw": "!"}, {"kind": "data", "data": [1]},
        ],
        "name": 7, "metadata": [], "extensions": ["urn:x", {}],
    });
    let news = hear(
        &mut telling,
        [json!({"kind": "artifact-update", "artifact": odd})],
    );
    let [News::Made(product)] = &news[..] else {
        panic!("{news:?}")
    };
    let artifact: a2a::Artifact = serde_json::from_str(&product.artifact.0).unwrap();
    assert_eq!(
        (artifact.parts.len(), &*artifact.artifact_id),
        (7, "artifact")
    );
    assert_eq!(artifact.parts[0].as_text(), Some("a\u{fffd}"));
}

proptest! {
    /// Whatever comes, it is heard without harm, and nothing but an answer completes.
    #[test]
    fn any_bytes_are_heard(data in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut telling = telling();
        telling.hear(&data);
        prop_assert!(matches!(telling.ended(""), Told::Open(_)));
    }
}
