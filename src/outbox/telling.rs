//! Telling one receiver, event by event, and noting how far it was told.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::desk::Attended;
use super::post::{Keys, Refusal, TIME, after_refusal, message_id, verdict};
use super::{AGAIN, Inner};
use crate::clock;
use crate::dispatch::Notice;
use crate::domain::{Course, EventName, Position, Receiver, ReceiverId, ReceiverState};
use crate::events::Shown;
use crate::store::{ReceiverChange, Write, Written};

/// How many events are read from the log at once.
const PAGE: usize = 256;
/// After how many bytes of them no further one is kept for later: those who are slow keep them for long.
const PAGE_BYTES: usize = 1024 * 1024;
/// How many may be told before it is noted, as long as more wait: after a kill, these are told again.
const UNNOTED: u32 = 16;

/// What comes after a receiver was told.
enum Then {
    /// There is nothing more to tell.
    Rest,
    /// It is tried again.
    Wait(Duration),
    /// It is not told by this node any more.
    Over,
}

/// What was read from the log and not told yet.
struct Reading {
    /// Everything up to here was read.
    upto: Position,
    backlog: VecDeque<Shown>,
}

impl Inner {
    /// Tells a receiver all that there is.
    pub(super) async fn attend(self: Arc<Self>, mut desk: Attended) {
        loop {
            let then = match self.receiver(desk.head().id).await {
                Some(receiver) => Box::pin(self.tell(&desk, receiver)).await,
                None => Then::Over,
            };
            match then {
                Then::Rest => match desk.rest() {
                    None => return,
                    Some(again) => desk = again,
                },
                Then::Wait(pause) => tokio::time::sleep(pause).await,
                Then::Over => return self.desks.forget(desk.head()),
            }
        }
    }

    /// The receiver as it is now, if this node tells it.
    async fn receiver(&self, id: ReceiverId) -> Option<Receiver> {
        let node = self.settings.persistence.node();
        loop {
            match self.read(move |reader| reader.receiver(id)).await {
                Ok(found) => {
                    return found.filter(|found| {
                        found.node == node && found.course.state == ReceiverState::Live
                    });
                }
                Err(_away) => tokio::time::sleep(AGAIN).await,
            }
        }
    }

    async fn tell(&self, desk: &Attended, receiver: Receiver) -> Then {
        let mut course = receiver.course.clone();
        if let Some(pause) = until_due(&course) {
            return Then::Wait(pause);
        }
        let mut reading = Reading {
            upto: course.position,
            backlog: VecDeque::new(),
        };
        let mut unnoted = 0;
        loop {
            let Some((place, event)) = self.next(desk, &mut reading).await else {
                if unnoted == 0 {
                    return Then::Rest;
                }
                unnoted = 0;
                if !self.note(receiver.id, &course).await {
                    return Then::Over;
                }
                continue;
            };
            let said = self.post(desk, &receiver, place, &event).await;
            if desk.is_shut() {
                return Then::Over;
            }
            course = match said {
                Ok(()) => told(&receiver, place, &event),
                Err(refusal) => self.refused(&receiver, &course, refusal),
            };
            unnoted += 1;
            let goes_on = course.state == ReceiverState::Live && course.failures == 0;
            if goes_on && unnoted < UNNOTED {
                continue;
            }
            unnoted = 0;
            if !self.note(receiver.id, &course).await || course.state != ReceiverState::Live {
                return Then::Over;
            }
            if let Some(pause) = until_due(&course) {
                // What it was to be told is read again.
                desk.fall_behind();
                return Then::Wait(pause);
            }
        }
    }

    /// The next event that it is to be told of.
    async fn next(&self, desk: &Attended, reading: &mut Reading) -> Option<(Position, Shown)> {
        loop {
            if let Some(event) = reading.backlog.pop_front() {
                return event.position.map(|place| (place, event));
            }
            if let Some(event) = desk.next() {
                if let Some(place) = event.position.filter(|place| *place > reading.upto) {
                    reading.upto = place;
                    return Some((place, Shown::clone(&event)));
                }
                continue;
            }
            if !desk.catches_up() {
                return None;
            }
            self.read_on(desk, reading).await;
        }
    }

    async fn read_on(&self, desk: &Attended, reading: &mut Reading) {
        let (workspace, upto) = (desk.head().workspace, reading.upto);
        let limit = i64::try_from(PAGE).unwrap_or(i64::MAX);
        let read = self.read(move |reader| reader.events_after(Some(workspace), upto, limit));
        let Ok(page) = read.await else {
            desk.fall_behind();
            return tokio::time::sleep(AGAIN).await;
        };
        if page.len() >= PAGE {
            desk.fall_behind();
        }
        let mut bytes = 0_usize;
        for found in page {
            if bytes >= PAGE_BYTES {
                return desk.fall_behind();
            }
            reading.upto = found.position;
            let event = Shown::from(found);
            if desk.head().is_told_of(&event) {
                bytes += event.payload.as_ref().map_or(0, |json| json.0.len());
                reading.backlog.push_back(event);
            }
        }
    }

    /// Tells it of one event, unless it is to be told no more.
    async fn post(
        &self,
        desk: &Attended,
        receiver: &Receiver,
        place: Position,
        event: &Shown,
    ) -> Result<(), Refusal> {
        let keys = Keys::open(receiver, &self.settings.secrets);
        let keys = keys.map_err(|error| Refusal::Failed(error.to_string()))?;
        let bodies = self.rendered(receiver, event).await;
        for (part, body) in bodies.into_iter().enumerate() {
            // They are never closed. Whoever waits for its workspace's own takes none from others.
            let _own = desk.places().acquire().await;
            let _place = self.places.acquire().await;
            if desk.is_shut() {
                return Ok(());
            }
            let id = message_id(receiver.id, place, part);
            let scheme = receiver.scheme.as_deref();
            let notice = Notice {
                url: receiver.url.clone(),
                headers: keys.headers(scheme, id, clock::now(), &body),
                body,
                deadline_in: TIME,
            };
            let said = verdict(Box::pin(self.client.notify(&notice)).await);
            let result = if said.is_ok() { "delivered" } else { "failed" };
            metrics::counter!("baton_push_total", "result" => result).increment(1);
            said?;
        }
        Ok(())
    }

    async fn rendered(&self, receiver: &Receiver, event: &Shown) -> Vec<Bytes> {
        loop {
            let turn = self.reading.acquire().await;
            match self.settings.render.render(receiver, event).await {
                Ok(bodies) => return bodies,
                Err(_away) => {
                    drop(turn);
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    }

    fn refused(&self, receiver: &Receiver, course: &Course, refusal: Refusal) -> Course {
        let give_up = self.settings.give_up_after;
        let moment = clock::moment(self.settings.persistence.hearing_since());
        let after = after_refusal(course, refusal, moment, give_up);
        let error = after.last_error.as_deref().unwrap_or_default();
        if after.state == ReceiverState::Dead {
            metrics::counter!("baton_push_dead_total").increment(1);
            tracing::warn!(receiver.id = %receiver.id, workspace.id = %receiver.workspace, %error, "a receiver is told no more");
        } else {
            tracing::debug!(receiver.id = %receiver.id, failures = after.failures, %error, "a receiver could not be told");
        }
        after
    }

    /// Notes how far it was told, however long that takes. Whether this node tells it on.
    async fn note(&self, id: ReceiverId, course: &Course) -> bool {
        loop {
            let note = ReceiverChange::Note {
                id,
                course: course.clone(),
            };
            let write = Write::Receiver(Box::new(note));
            match self.settings.persistence.write(write).await {
                Ok(written) => return matches!(written, Written::Done),
                Err(_away) => tokio::time::sleep(AGAIN).await,
            }
        }
    }
}

/// How long it is to be left alone.
fn until_due(course: &Course) -> Option<Duration> {
    let pause = course.next_attempt_at?.since(clock::now());
    (!pause.is_zero()).then_some(pause)
}

/// How it goes on with a receiver that was told of an event.
fn told(receiver: &Receiver, place: Position, event: &Shown) -> Course {
    let is_last = receiver.delegation.is_some() && EventName::is_ending(&event.name);
    Course {
        state: if is_last {
            ReceiverState::Done
        } else {
            ReceiverState::Live
        },
        ..Course::from(place)
    }
}
