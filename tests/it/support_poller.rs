//! The poller follows its published rule to the letter.

use serde_json::{Value, json};

use crate::support::poller::{Kind, Poller};

fn texts(rows: &[Value]) -> Vec<String> {
    let messages = Poller::default().take(rows.to_vec());
    messages.into_iter().map(|message| message.text).collect()
}

#[test]
fn the_text_is_taken_from_the_first_place_that_has_some() {
    let message = json!({"params": {"message": {"parts": [{"kind": "text", "text": "a"}, {"type": "text", "text": "b"}]}}});
    let params = json!({"params": {"parts": [{"kind": "text", "text": "c"}]}});
    let bare = json!({"parts": [{"kind": "file"}, {"kind": "text", "text": "d"}]});
    let row =
        |id: u8, body: &Value| json!({"id": id.to_string(), "request_body": body, "summary": "s"});
    let rows = [
        row(5, &json!({"delegation_id": "x"})),
        row(4, &bare),
        row(3, &params),
        row(2, &message),
        json!({"id": "1"}),
    ];
    assert_eq!(texts(&rows), ["(empty A2A message)", "ab", "c", "d", "s"]);
}

#[test]
fn rows_come_newest_first_without_a_cursor_and_oldest_first_with_one() {
    let row = |id: &str| json!({"id": id, "source_id": "peer", "summary": id});
    let mut poller = Poller::default();
    let mut ids = |rows: &[Value]| {
        let messages = poller.take(rows.to_vec());
        messages
            .into_iter()
            .map(|message| message.id)
            .collect::<Vec<_>>()
    };
    assert_eq!(ids(&[row("2"), row("1")]), ["1", "2"]);
    assert_eq!(
        ids(&[row("2"), row("3"), row("4")]),
        ["3", "4"],
        "2 is known"
    );
}

#[test]
fn a_notice_without_a_source_is_skipped_and_a_person_is_no_peer() {
    let mut poller = Poller::default();
    let notice = json!({"id": "1", "method": "notify", "source_id": null, "summary": "n"});
    assert_eq!(poller.take(vec![notice]), []);
    let person = json!({"id": "2", "method": "message/send", "source_id": null, "summary": "p"});
    let messages = poller.take(vec![person]);
    assert_eq!(messages[0].kind, Kind::CanvasUser);
}
