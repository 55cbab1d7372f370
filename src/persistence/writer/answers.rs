//! Whom a commit is told to: subscribers, whoever counts, and those who asked for it.

use super::{Answer, PersistenceActor};
use crate::domain::Position;
use crate::events::{Message as HubMessage, Place};
use crate::persistence::Error;
use crate::persistence::order::Flight;
use crate::store::{Commit, Published, Written};
use crate::telemetry::{Effect, Progress, count};

impl PersistenceActor {
    /// Tells what is committed, once all that comes before it is told; `behind` were under way when it came.
    pub(super) fn came_back(&mut self, commit: Commit, answers: Vec<Answer>, behind: Vec<Flight>) {
        match commit.span {
            Some(span) => self.ordered.add((commit, answers), span, behind),
            None => self.answer(commit, answers, Position(0)),
        }
        self.tell();
    }

    pub(super) fn tell(&mut self) {
        while let Some(((commit, answers), unbroken_since)) = self.ordered.next() {
            self.answer(commit, answers, unbroken_since);
        }
    }

    fn answer(&self, commit: Commit, answers: Vec<Answer>, unbroken_since: Position) {
        for published in commit.published {
            let shown = show(published, unbroken_since);
            self.settings.hub.publish(shown);
        }
        count_replies(commit.replies_written, commit.replies_owed);
        if commit.replies_owed > 0 {
            self.settings.reply_owed.notify_one();
        }
        for ((patience, acknowledge), written) in answers.into_iter().zip(commit.written) {
            self.release(patience);
            acknowledge(match written {
                Written::Failed(reason) => {
                    metrics::counter!("baton_writes_refused_total").increment(1);
                    tracing::error!(%reason, "the database refused one write of a batch");
                    Err(Error::Refused(reason))
                }
                other => Ok(other),
            });
        }
    }
}

fn count_replies(written: u64, owed: u64) {
    count(
        Effect::Reply,
        Progress::Attempted,
        written.saturating_add(owed),
    );
    count(Effect::Reply, Progress::Succeeded, written);
    count(Effect::Reply, Progress::Failed, owed);
}

fn show(published: Published, unbroken_since: Position) -> HubMessage {
    match published {
        Published::Event { position, event } => HubMessage::Event {
            place: Some(Place {
                position,
                unbroken_since,
            }),
            name: event.name,
            workspace: event.workspace,
            payload: event.payload,
            at: event.created_at,
        },
        Published::Row {
            position,
            workspace,
            activity_type,
        } => HubMessage::Feed {
            position,
            workspace,
            activity_type,
        },
    }
}
