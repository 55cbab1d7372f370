//! What an agent answers, over a real connection.

use super::*;

/// An agent that reads the request and sends `response` as it is.
async fn scripted(response: String) -> Agent {
    Agent::start(move |mut peer| {
        let response = response.clone();
        async move {
            peer.request().await;
            peer.write(&response).await;
        }
    })
    .await
}

/// An agent that answers 200 with the body that `body` makes of the request's id.
async fn replying(body: fn(&serde_json::Value) -> String) -> Agent {
    Agent::start(move |mut peer| async move {
        let (_, request) = peer.request().await;
        peer.respond("200 OK", &body(&request["id"])).await;
    })
    .await
}

#[tokio::test]
async fn every_answer_is_read_as_the_table_says() {
    let foreign = replying(|_| answer(&"another".into(), "for someone else")).await;
    let foreign = foreign.outcome(1).await;
    let class = ErrorClass::ForeignResponse;
    assert!(
        matches!(foreign, Outcome::Malformed { class: found, .. } if found == class),
        "{foreign:?}"
    );

    let working = replying(|id| {
        let task = serde_json::json!({"id": "t", "status": {"state": "TASK_STATE_WORKING"}});
        serde_json::json!({"id": id, "result": {"task": task}}).to_string()
    });
    let working = working.await.outcome(1).await;
    assert!(
        matches!(
            working,
            Outcome::NonFinal {
                phase: WorkPhase::Working,
                ..
            }
        ),
        "{working:?}"
    );

    let queued = "HTTP/1.1 202 Accepted\r\nContent-Length: 15\r\n\r\n{\"queued\":true}";
    let queued = scripted(queued.to_owned()).await;
    assert_eq!(queued.outcome(1).await, Outcome::TargetQueued);

    let dates = "Retry-After: Wed, 21 Oct 2015 07:28:30 GMT\r\nDate: Wed, 21 Oct 2015 07:28:00 GMT";
    let busy = format!("HTTP/1.1 429 Slow\r\n{dates}\r\nContent-Length: 0\r\n\r\n");
    let retry_after = Some(Duration::from_secs(30));
    assert_eq!(
        scripted(busy).await.outcome(1).await,
        Outcome::Busy { retry_after }
    );

    let empty = scripted("HTTP/1.1 204 No Content\r\n\r\n".to_owned()).await;
    let empty = empty.outcome(1).await;
    let class = ErrorClass::EmptyResponse;
    assert!(
        matches!(empty, Outcome::Malformed { class: found, .. } if found == class),
        "{empty:?}"
    );

    let half = scripted("HTTP/1.1 200 OK\r\n\r\n{\"id\":".to_owned()).await;
    let half = half.outcome(1).await;
    assert!(is_unknown(&half, ErrorClass::Truncated), "{half:?}");
}

/// Lesson A03: the guard saw this address, and not the next.
#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = Agent::start(|mut peer| async move {
        peer.request().await;
    })
    .await;
    for status in [
        "301 Moved",
        "302 Found",
        "307 Temporary Redirect",
        "308 Permanent Redirect",
    ] {
        let location = &elsewhere.url;
        let moved =
            format!("HTTP/1.1 {status}\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n");
        let outcome = scripted(moved).await.outcome(1).await;
        let class = ErrorClass::Refused;
        assert!(
            matches!(outcome, Outcome::Refused { class: found, .. } if found == class),
            "{outcome:?}"
        );
    }
    assert_eq!(elsewhere.connections.load(Ordering::SeqCst), 0);
}
