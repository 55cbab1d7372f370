//! Tells receivers by HTTP what happens: at least once, in order for each, and never in a task's path.
//!
//! There is no row for each event. Events are in the log, and a receiver is a row with a place in it: everything up to there
//! it was told (docs/adr/0013). The node that `lease_owner` names tells it; whoever takes over from that node takes it too.
//!
//! - `desk` hands events from the log out to the receivers of this node, through bounded queues;
//! - `telling` tells one receiver after the other event, and notes how far it came;
//! - `post` is what is sent: headers, signature, and what an answer means.

mod desk;
mod post;
mod telling;

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore};

use crate::clock;
use crate::dispatch::{A2aClient, ClientConfig, GuardError, TargetGuard};
use crate::domain::{
    Course, DelegationId, DelegationKey, Position, Receiver, ReceiverId, ReceiverState, WorkspaceId,
};
use crate::events::{EventHub, Shown};
use crate::persistence::{self, Persistence};
use crate::secrets::{self, Secrets};
use crate::store::{self, Reader, ReceiverChange, Store, Write, Written};

use desk::{Desks, Head};
pub use post::mint_signing_secret;
use post::{Keys, TIME};

/// How many receivers a delegation may have, and how many a workspace besides.
pub const RECEIVERS: usize = 8;
/// How many are told at once, and how many of them of one workspace: those that are slow keep nobody else waiting.
const AT_ONCE: usize = 64;
const OF_ONE_WORKSPACE: usize = 8;
/// How much of an answer is taken in, to be thrown away.
const ANSWER_BYTES: usize = 64 * 1024;
/// The longest name of a receiver, in bytes.
const NAME_BYTES: usize = 256;
/// How many receivers are read at once.
const PAGE: i64 = 1000;
/// How often it is looked for receivers that nobody tells.
const LOOK: Duration = Duration::from_mins(5);
/// The wait after the database did not answer.
const AGAIN: Duration = Duration::from_secs(1);

/// The bodies of what a receiver is told of one event, in order.
pub type Rendering<'a> =
    Pin<Box<dyn Future<Output = Result<Vec<Bytes>, store::Error>> + Send + 'a>>;

/// What is made of a new receiver before it is stored: its name, and its secrets if it has any.
type Prepared = (Box<str>, Option<Box<[u8]>>);

/// Says what receivers are told.
pub trait Render: Send + Sync + 'static {
    /// What to tell this receiver of this event; nothing, if that is no news for it.
    fn render<'a>(&'a self, receiver: &'a Receiver, event: &'a Shown) -> Rendering<'a>;
}

/// Why somebody cannot be told, or why it is not known whether it will be.
#[derive(thiserror::Error, Debug)]
pub enum Error {
    /// It may not be called.
    #[error(transparent)]
    Url(#[from] GuardError),
    /// This part of it cannot be sent in a header, or is too long.
    #[error("{0} cannot be sent")]
    Unfit(&'static str),
    /// It would be one too many.
    #[error("there are {RECEIVERS} already")]
    TooMany,
    /// There is no such workspace.
    #[error("no such workspace")]
    NoWorkspace,
    /// Its secrets cannot be stored.
    #[error(transparent)]
    Secret(#[from] secrets::Error),
    /// The database did not answer.
    #[error(transparent)]
    Read(#[from] store::Error),
    /// It was not committed.
    #[error(transparent)]
    Write(#[from] persistence::Error),
}

/// Somebody to tell. What is secret in it is never shown again.
#[derive(Clone, Default)]
pub struct NewReceiver {
    /// Its name, unique within its delegation; one of the same name makes room. None for a new one.
    pub config: Option<String>,
    /// Where it listens.
    pub url: String,
    /// Shown to it as `X-A2A-Notification-Token` and `A2A-Notification-Token`.
    pub token: Option<String>,
    /// Shown to it as `Authorization`: the scheme, and what follows it.
    pub authentication: Option<(String, String)>,
    /// What it is told is signed with this (Standard Webhooks).
    pub signing_secret: Option<String>,
    /// It is told what comes after this place; none for now.
    pub after: Option<Position>,
    /// It understands A2A 0.3 alone.
    pub old_form: bool,
}

impl NewReceiver {
    /// Its name, and what is to be sealed, if all of it can be sent.
    fn checked(&self) -> Result<(Box<str>, Keys), Error> {
        let config = match &self.config {
            Some(name) if name.len() > NAME_BYTES => return Err(Error::Unfit("id")),
            Some(name) => name.as_str().into(),
            None => uuid::Uuid::new_v4().to_string().into(),
        };
        Ok((config, Keys::of(self)?))
    }
}

/// What the outbox works with.
pub struct OutboxSettings {
    /// Where to read.
    pub store: Store,
    /// Where to write.
    pub persistence: Persistence,
    /// Who says that there is news.
    pub hub: EventHub,
    /// Which addresses may be called.
    pub guard: TargetGuard,
    /// Seals what receivers want to see.
    pub secrets: Secrets,
    /// Says what they are told.
    pub render: Box<dyn Render>,
    /// After how long a receiver that fails is told no more.
    pub give_up_after: Duration,
}

/// Who is told by HTTP. Cheap to clone.
#[derive(Clone)]
pub struct Outbox(Arc<Inner>);

struct Inner {
    settings: OutboxSettings,
    client: A2aClient,
    desks: Desks,
    /// Places to tell somebody.
    places: Semaphore,
    /// One reads at a time: requests need the same connections.
    reading: Semaphore,
    /// Where all of it runs, whoever asks for it.
    runtime: Handle,
    again: Notify,
}

impl fmt::Debug for Outbox {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Outbox")
    }
}

impl Outbox {
    /// Everything runs in the runtime of whoever calls this.
    #[must_use]
    pub fn launch(settings: OutboxSettings) -> Self {
        let client = A2aClient::new(ClientConfig {
            guard: settings.guard.clone(),
            connect_timeout: TIME,
            first_byte_timeout: None,
            idle_timeout: TIME,
            max_reply_bytes: ANSWER_BYTES,
            faults: Arc::default(),
        });
        Self(Arc::new(Inner {
            settings,
            client,
            desks: Desks::default(),
            places: Semaphore::new(AT_ONCE),
            reading: Semaphore::new(1),
            runtime: Handle::current(),
            again: Notify::new(),
        }))
    }

    /// Takes on whom this node is to tell, for ever: at once, when [`Outbox::look_again`] says so, when the database is
    /// back, and now and then. `tick` tells that it is alive.
    pub async fn take_on_regularly(self, tick: impl Fn()) {
        let Self(inner) = self;
        loop {
            tick();
            match inner.live().await {
                Ok(heads) => inner.take_on(heads),
                Err(error) => tracing::warn!(%error, "receivers cannot be looked for now"),
            }
            tokio::select! {
                () = inner.again.notified() => {}
                () = tokio::time::sleep(LOOK) => {}
                () = inner.settings.persistence.recovered() => {}
            }
        }
    }

    /// This node may have more to tell than it knows: it took over from another.
    pub fn look_again(&self) {
        self.0.again.notify_one();
    }

    /// The place up to which everything is recorded now.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn place(&self) -> Result<Position, store::Error> {
        let store = &self.0.settings.store;
        store.read(|reader| reader.last_position()).await
    }

    /// Tells somebody of a delegation, or with `None` of all endings, from now on or from a place on. Whoever is to be
    /// told of everything takes the place before the delegation begins.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn create(
        &self,
        workspace: WorkspaceId,
        delegation: Option<DelegationId>,
        new: NewReceiver,
    ) -> Result<Receiver, Error> {
        let settings = &self.0.settings;
        let id = ReceiverId::mint();
        let (config, sealed) = self.prepared(&new, id).await?;
        let mut course = Course::from(match new.after {
            Some(place) => place,
            None => self.place().await?,
        });
        // The place comes first: what ends in between is told.
        if new.after.is_none() && self.has_ended(workspace, delegation.as_ref()).await? {
            course.state = ReceiverState::Done;
        }
        let mut receiver = Receiver {
            id,
            workspace,
            delegation,
            config,
            url: new.url.into(),
            scheme: new.authentication.map(|(scheme, _)| scheme.into()),
            old_form: new.old_form,
            sealed,
            course,
            node: settings.persistence.node(),
            created_at: clock::now(),
        };
        let put = ReceiverChange::Put {
            receiver: receiver.clone(),
            limit: RECEIVERS,
        };
        match self.change(put).await? {
            Written::Put {
                position,
                state,
                before,
            } => {
                receiver.course.position = position;
                receiver.course.state = state;
                if let Some(before) = before {
                    self.0.desks.forget(&Head::of(&receiver).named(before));
                }
            }
            Written::TooMany => return Err(Error::TooMany),
            _missing => return Err(Error::NoWorkspace),
        }
        if receiver.course.state == ReceiverState::Live {
            self.0.take_on(vec![Head::of(&receiver)]);
        }
        Ok(receiver)
    }

    /// Refuses whom [`Outbox::create`] would refuse for its own sake, before anything is done that it is to be told of.
    /// Nothing is written.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn examine(&self, new: &NewReceiver) -> Result<(), Error> {
        self.prepared(new, ReceiverId::mint()).await.map(drop)
    }

    /// Its name, and its secrets as they are stored.
    async fn prepared(&self, new: &NewReceiver, id: ReceiverId) -> Result<Prepared, Error> {
        let (config, keys) = new.checked()?;
        self.admit(&new.url).await?;
        let sealed = keys.seal(&self.0.settings.secrets, id)?;
        Ok((config, sealed))
    }

    /// Whether somebody may listen there. A name that has no address now may have one when there is something to tell: it
    /// is looked at again then.
    ///
    /// # Errors
    /// What stands in the way.
    pub async fn admit(&self, url: &str) -> Result<(), GuardError> {
        match self.0.settings.guard.check(url).await {
            Ok(_) | Err(GuardError::Unresolvable { .. }) => Ok(()),
            Err(blocked) => Err(blocked),
        }
    }

    async fn has_ended(
        &self,
        caller: WorkspaceId,
        delegation: Option<&DelegationId>,
    ) -> Result<bool, store::Error> {
        let Some(id) = delegation.cloned() else {
            return Ok(false);
        };
        let key = DelegationKey { caller, id };
        let read = self.0.settings.store.read(move |reader| reader.load(&key));
        let found = read.await?;
        Ok(found.is_some_and(|found| found.life.status().is_terminal()))
    }

    /// Whoever is told of a delegation, or with `None` of all endings, oldest first.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn list(
        &self,
        workspace: WorkspaceId,
        delegation: Option<DelegationId>,
    ) -> Result<Vec<Receiver>, Error> {
        let store = &self.0.settings.store;
        let read = store.read(move |reader| reader.receivers_of(workspace, delegation.as_ref()));
        Ok(read.await?)
    }

    /// One of them, by its name.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn get(
        &self,
        workspace: WorkspaceId,
        delegation: Option<DelegationId>,
        config: &str,
    ) -> Result<Option<Receiver>, Error> {
        let all = self.list(workspace, delegation).await?;
        Ok(all.into_iter().find(|receiver| &*receiver.config == config))
    }

    /// Tells one of them no more; whether there was one.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn delete(
        &self,
        workspace: WorkspaceId,
        delegation: Option<DelegationId>,
        config: &str,
    ) -> Result<bool, Error> {
        let found = self.get(workspace, delegation.clone(), config).await?;
        let drop = ReceiverChange::Drop {
            workspace,
            delegation,
            config: config.into(),
        };
        let dropped = matches!(self.change(drop).await?, Written::Done);
        if let Some(receiver) = found {
            self.0.desks.forget(&Head::of(&receiver));
        }
        Ok(dropped)
    }

    /// Tells nobody any more of these, which were removed.
    pub fn forget(&self, workspaces: &[WorkspaceId]) {
        for workspace in workspaces {
            self.0.desks.forget_all(*workspace);
        }
    }

    /// All receivers, or those in this state, newest first.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn all(
        &self,
        state: Option<ReceiverState>,
        limit: i64,
    ) -> Result<Vec<Receiver>, Error> {
        let store = &self.0.settings.store;
        Ok(store
            .read(move |reader| reader.receivers(state, limit))
            .await?)
    }

    /// Tells a dead one on, from where it stopped; whether there is such a one.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn replay(&self, id: ReceiverId) -> Result<bool, Error> {
        let replayed = self.change(ReceiverChange::Replay(id)).await?;
        let store = &self.0.settings.store;
        if let Written::Done = replayed
            && let Some(receiver) = store.read(move |reader| reader.receiver(id)).await?
        {
            self.0.take_on(vec![Head::of(&receiver)]);
            return Ok(true);
        }
        Ok(false)
    }

    async fn change(&self, change: ReceiverChange) -> Result<Written, Error> {
        let write = Write::Receiver(Box::new(change));
        match self.0.settings.persistence.write(write).await? {
            Written::Failed(why) => Err(persistence::Error::Refused(why).into()),
            written => Ok(written),
        }
    }
}

impl Inner {
    /// Reads, one after the other.
    async fn read<T: Send + 'static>(
        &self,
        body: impl FnOnce(&mut dyn Reader) -> Result<T, store::Error> + Send + 'static,
    ) -> Result<T, store::Error> {
        // It is never closed.
        let _turn = self.reading.acquire().await;
        self.settings.store.read(body).await
    }

    /// Whom this node is to tell.
    async fn live(&self) -> Result<Vec<Head>, store::Error> {
        let (node, mut after) = (self.settings.persistence.node(), None);
        let mut heads = Vec::new();
        loop {
            let store = &self.settings.store;
            let read =
                store.read_patiently(move |reader| reader.receivers_told_by(node, after, PAGE));
            let page = read.await?;
            after = page.last().map(|receiver| receiver.id);
            heads.extend(page.iter().map(Head::of));
            if after.is_none() {
                return Ok(heads);
            }
        }
    }
}

#[cfg(test)]
mod tests;
