//! How a target is spoken to, and what it tells while it works.

use std::sync::Arc;
use std::time::Duration;

use super::Told;
use super::effects::{READ_RETRY, Route, Runtime};
use crate::dispatch::{AskCall, Manner, Message, News};
use crate::domain::{Attempt, Event, Outcome, RemoteTaskId, Said, Terms};

/// How long a question after a task, or word that it is not wanted any more, may take.
const ASK_LIMIT: Duration = Duration::from_secs(30);

/// The message that begins a task: passed on as it is, if it came as one.
pub(super) fn first(task: Said) -> Message {
    match task.message {
        Some(message) => Message::Whole {
            message: message.0,
            task: None,
        },
        None => Message::Task(task.text),
    }
}

/// The message that goes on with the target's `task`, under an id of its own.
pub(super) fn further(
    terms: &Terms,
    attempt: Attempt,
    task: Option<RemoteTaskId>,
    answer: Said,
) -> Message {
    match answer.message {
        Some(message) => Message::Whole {
            message: message.0,
            task,
        },
        None => Message::Input {
            id: format!("{}:{}", terms.key.id, attempt.0).into(),
            task,
            text: answer.text,
        },
    }
}

impl Runtime {
    /// How the target is spoken to.
    pub(super) async fn manner(&self, route: &Route) -> Arc<Manner> {
        self.client.manner(&route.url, route.card.as_deref()).await
    }

    /// Whether the target declared that it drops a repeated messageId.
    pub(super) async fn target_deduplicates(&self, terms: &Terms) -> bool {
        let Some(target) = self.target(terms).await else {
            return false;
        };
        if target.deduplicates {
            return true;
        }
        match Route::to(&target, &self.secrets) {
            Ok(route) => self.manner(&route).await.deduplicates,
            Err(_unready) => false,
        }
    }

    /// Speaks of a task that the target has.
    pub(super) async fn about(&self, terms: &Terms, route: &Route, task: RemoteTaskId) -> AskCall {
        AskCall {
            url: Arc::clone(&route.url),
            manner: self.manner(route).await,
            credential: route.credential.clone(),
            task,
            traceparent: terms.traceparent.clone(),
            deadline_in: ASK_LIMIT,
        }
    }

    /// Hands on what the target tells while a call goes on, and waits until that is committed: so there is never more than
    /// one such thing of a delegation under way. `ended`: nobody needs to know any more.
    pub(super) async fn hear(&self, terms: &Terms, attempt: Attempt, news: News, ended: &mut bool) {
        let (Some(delegations), false) = (self.delegations.get(), *ended) else {
            return;
        };
        let event = match news {
            News::Stands(task, phase) => Event::Called {
                attempt,
                outcome: Outcome::NonFinal { task, phase },
            },
            News::Says(message) => Event::Progressed {
                attempt,
                message: Some(message),
            },
            News::Lives => Event::Progressed {
                attempt,
                message: None,
            },
            News::Made(artifact) => Event::Produced { attempt, artifact },
        };
        loop {
            match delegations.tell(&terms.key, &event, None).await {
                Ok(Some(Told::Committed(_))) => return,
                Ok(Some(Told::Ignored(status))) => {
                    *ended = status.is_terminal();
                    return;
                }
                Ok(Some(Told::Settled(_)) | None) => {
                    *ended = true;
                    return;
                }
                Err(error) => {
                    tracing::debug!(delegation.id = %terms.key, attempt = attempt.0, %error, "what the target tells must wait");
                    tokio::time::sleep(READ_RETRY).await;
                }
            }
        }
    }
}
