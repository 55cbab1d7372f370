//! Following what happens, through restarts of the server and lost connections.

use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use super::show::{details, member, said};
use super::{Exit, Seat, failure, tell};
use crate::client::{Error, Event, Events};
use crate::domain::Status;

/// Between two tries to reach a server that is away.
const PAUSE: Duration = Duration::from_secs(1);
/// How often one looks, whatever is heard: of what happens to a delegation its target hears nothing.
const LOOK: Duration = Duration::from_secs(5);

/// Follows a delegation until it has ended, and shows how. What happens until then is no result: it is told beside.
pub(super) async fn to_the_end(seat: &Seat, id: &str) -> anyhow::Result<Exit> {
    let mut line = Line::default();
    loop {
        match rest_of(seat, id, &mut line).await {
            Ok(view) => return seat.show.ended(&view),
            Err(error) => line.lost(error).await?,
        }
    }
}

/// What becomes of a delegation.
async fn rest_of(seat: &Seat, id: &str, line: &mut Line) -> anyhow::Result<Value> {
    let path = seat.delegation(id)?;
    // The events come before the look, so that no ending falls between the two.
    let mut events = line.events(seat).await?;
    let (mut told, mut heard) = (String::new(), false);
    loop {
        let view = seat.client.get(&path).await?;
        let status = member(&view, "status");
        if Status::parse(&status).is_some_and(Status::is_terminal) {
            return Ok(view);
        }
        let now = format!("{status}{}", details(&view));
        if now != told && !heard {
            tell(&now);
        }
        (told, heard) = (now, false);
        let again = Instant::now() + LOOK;
        while let Ok(event) = timeout_at(again, line.next(&mut events)).await {
            let event = event?;
            heard = member(&event.data, "delegation_id") == id;
            if heard {
                tell(&said(&event));
                break;
            }
        }
    }
}

/// Shows whatever happens from now on. Nothing that is recorded is shown twice or not at all.
pub(super) async fn everything(seat: &Seat) -> anyhow::Result<Exit> {
    let mut line = Line::default();
    loop {
        let lost = match line.events(seat).await {
            Ok(mut events) => loop {
                match line.next(&mut events).await {
                    Ok(event) => seat.show.event(&event)?,
                    Err(error) => break error,
                };
            },
            Err(error) => error,
        };
        line.lost(lost.into()).await?;
    }
}

/// The place up to which a workspace's events were seen.
#[derive(Default)]
struct Line {
    last: Option<i64>,
    /// Whether there ever was a connection: a server that is away from the beginning is not waited for.
    was_open: bool,
    is_away: bool,
}

impl Line {
    async fn events(&mut self, seat: &Seat) -> Result<Events, Error> {
        let events = seat.client.events(&seat.id, self.last).await?;
        (self.was_open, self.is_away) = (true, false);
        Ok(events)
    }

    async fn next(&mut self, events: &mut Events) -> Result<Event, Error> {
        let event = events.next().await;
        self.last = events.last();
        event?.ok_or_else(|| Error::Away("the stream of events ended".to_owned()))
    }

    /// Waits a moment before the next try; what would be refused again is no matter of waiting.
    async fn lost(&mut self, error: anyhow::Error) -> anyhow::Result<()> {
        if failure(&error) != Exit::Away || !self.was_open {
            return Err(error);
        }
        if !self.is_away {
            tell(&format!("baton: {error:#}; trying again"));
            self.is_away = true;
        }
        tokio::time::sleep(PAUSE).await;
        Ok(())
    }
}
