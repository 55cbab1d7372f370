//! Reads that are answered from memory when they can be, else by the database, and remembered.

use std::sync::Arc;

use super::directory::{Directory, Token};
use super::{ActivityFilter, ActivityView, Error, Store, TokenUse};
use crate::domain::{ActivityId, Position, Seat, Timestamp, WorkspaceId};

/// How long a line from a workspace up to its root may be.
const LINE: usize = 32;

/// Finds a workspace, removed ones included.
pub type Find<'a> = dyn FnMut(WorkspaceId) -> Result<Option<Arc<Seat>>, Error> + 'a;

/// A workspace's line: itself, its parent, … up to its root, at most 32 long; empty when it does not exist.
pub fn line(find: &mut Find<'_>, id: WorkspaceId) -> Result<Vec<WorkspaceId>, Error> {
    let (mut line, mut next) = (Vec::new(), Some(id));
    while let Some(id) = next.filter(|_| line.len() < LINE) {
        next = None;
        if let Some(seat) = find(id)? {
            line.push(id);
            next = seat.parent;
        }
    }
    Ok(line)
}

impl Store {
    /// What is remembered, while it is known to be true, and the database to answer.
    fn remembered(&self) -> Option<&Directory> {
        let directory = self.directory();
        (directory.is_true() && !self.is_away()).then_some(&**directory)
    }

    /// The workspace that a live token of this SHA-256 belongs to; none when revoked, unknown, or the workspace removed.
    pub async fn token_owner(
        &self,
        hash: [u8; 32],
        now: Timestamp,
    ) -> Result<Option<WorkspaceId>, Error> {
        let read = self.read(move |reader| reader.token_owner(&hash));
        let Some(directory) = self.remembered() else {
            return read.await;
        };
        let slot = directory.tokens.slot(&hash);
        let known = slot.hold().clone();
        if let Some(token) = known {
            token.used(now);
            return Ok(Some(token.owner));
        }
        let owner = read.await;
        if let Ok(Some(owner)) = owner {
            let token = Token::of(owner);
            token.used(now);
            *slot.hold() = Some(Arc::new(token));
        } else {
            // Made-up tokens take no place from others.
            directory.tokens.forget(&hash);
        }
        owner
    }

    /// Answers a question about workspaces, which may be put twice: from memory if all that it asks for is there, else
    /// with one turn at the database.
    pub async fn look<T: Send + 'static>(
        &self,
        question: impl Fn(&mut Find<'_>) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        if let Some(directory) = self.remembered() {
            let mut is_known = true;
            let answer = question(&mut |id| {
                let seat = directory.known_seat(id);
                is_known &= seat.is_some();
                seat.map(Some)
                    .ok_or_else(|| Error::Unavailable("it is not remembered".to_owned()))
            });
            if is_known {
                return answer;
            }
        }
        let store = self.clone();
        self.read(move |reader| {
            question(&mut |id| {
                let mut read = || Ok(reader.workspace(id)?.map(Seat::from));
                match store.remembered() {
                    Some(directory) => directory.seat(id, read),
                    None => Ok(read()?.map(Arc::new)),
                }
            })
        })
        .await
    }

    /// One workspace, removed ones included.
    pub async fn seat(&self, id: WorkspaceId) -> Result<Option<Arc<Seat>>, Error> {
        self.look(move |find| find(id)).await
    }

    /// The same, if it is remembered and nothing has to be asked for it.
    #[must_use]
    pub fn known_seat(&self, id: WorkspaceId) -> Option<Arc<Seat>> {
        self.remembered()?.known_seat(id)
    }

    /// Feed rows.
    pub async fn activity(&self, filter: ActivityFilter) -> Result<Vec<ActivityView>, Error> {
        let workspace = filter.workspace;
        let known = self.remembered().map(|known| known.inboxes.get(&workspace));
        if known
            .flatten()
            .is_some_and(|inbox| inbox.has_nothing_for(&filter))
        {
            return Ok(Vec::new());
        }
        let store = self.clone();
        self.read(move |reader| {
            let slot = store
                .remembered()
                .map(|known| known.inboxes.slot(&workspace));
            let rows = reader.activity(&filter)?;
            if let Some(slot) = slot {
                slot.hold().read(&filter, &rows);
            }
            Ok(rows)
        })
        .await
    }

    /// The place of a row in a workspace's feed; none when it is not in that feed.
    pub async fn activity_position(
        &self,
        workspace: WorkspaceId,
        row: ActivityId,
    ) -> Result<Option<Position>, Error> {
        let known = self.remembered().map(|known| known.inboxes.get(&workspace));
        if let Some(place) = known.flatten().and_then(|inbox| inbox.place(row)) {
            return Ok(Some(place));
        }
        let store = self.clone();
        self.read(move |reader| {
            let slot = store
                .remembered()
                .map(|known| known.inboxes.slot(&workspace));
            let place = reader.activity_position(workspace, row)?;
            if let Some((slot, place)) = slot.zip(place) {
                slot.hold().found(row, place);
            }
            Ok(place)
        })
        .await
    }

    /// The acknowledged place of a workspace's inbox, and the oldest messages after it.
    pub async fn inbox(
        &self,
        workspace: WorkspaceId,
        limit: i64,
    ) -> Result<(Position, Vec<ActivityView>), Error> {
        let after =
            move |acknowledged| ActivityFilter::messages_after(workspace, acknowledged, limit);
        let known = self.remembered().map(|known| known.inboxes.get(&workspace));
        if let Some(inbox) = known.flatten()
            && let Some(acknowledged) = inbox.acknowledged
            && inbox.has_nothing_for(&after(acknowledged))
        {
            return Ok((acknowledged, Vec::new()));
        }
        let store = self.clone();
        self.read(move |reader| {
            let slot = store
                .remembered()
                .map(|known| known.inboxes.slot(&workspace));
            let acknowledged = reader.acknowledged(workspace)?;
            let filter = after(acknowledged);
            let rows = reader.activity(&filter)?;
            if let Some(slot) = slot {
                let mut inbox = slot.hold();
                inbox.acknowledged = Some(acknowledged);
                inbox.read(&filter, &rows);
            }
            Ok((acknowledged, rows))
        })
        .await
    }

    /// Which tokens were used since this was last asked.
    #[must_use]
    pub fn take_token_uses(&self) -> Vec<TokenUse> {
        self.directory().take_uses()
    }
}
