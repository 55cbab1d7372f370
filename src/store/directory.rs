//! What requests ask for again and again: whose a token is, what a workspace is, whether an inbox is empty. Remembered
//! for as long as every change of it is heard of: the own ones before they are acknowledged, those of other nodes by
//! their word.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::inbox::Inbox;
use super::memory::Memory;
use super::stale::Stale;
use super::{Commit, Error, Heard, Lease, TokenUse, Write, Writer};
use crate::domain::{Seat, Timestamp, WorkspaceId};

/// How many tokens, workspaces and inboxes are remembered, of each.
const LIMIT: usize = 65_536;
/// A workspace with a longer address is not remembered.
const URL_BYTES: usize = 1_024;
/// For how long after the last proof that other nodes are heard it counts.
const HEARD_FOR: Duration = Duration::from_secs(2);

/// What is remembered of the database.
#[derive(Debug)]
pub(super) struct Directory {
    pub(super) tokens: Memory<[u8; 32], Option<Arc<Token>>>,
    seats: Memory<WorkspaceId, Option<Arc<Seat>>>,
    pub(super) inboxes: Memory<WorkspaceId, Inbox>,
    /// How many commits may or may not have happened, or may happen yet,
    broken: AtomicU64,
    /// and how many of these are over.
    cleared: AtomicU64,
    hearing: Hearing,
}

/// A live token.
#[derive(Debug)]
pub(super) struct Token {
    pub(super) owner: WorkspaceId,
    /// When it was last used, in microseconds; zero once that is noted.
    used_at: AtomicI64,
}

impl Token {
    pub(super) const fn of(owner: WorkspaceId) -> Self {
        Self {
            owner,
            used_at: AtomicI64::new(0),
        }
    }

    pub(super) fn used(&self, now: Timestamp) {
        self.used_at.store(now.0, Ordering::Relaxed);
    }
}

/// Whether every change is heard of.
#[derive(Debug)]
enum Hearing {
    /// There is nobody else.
    Alone,
    /// As of then, if at all.
    Others(Mutex<Option<Instant>>),
}

impl Directory {
    /// Of a database that this process has to itself, or shares with others.
    pub(super) fn new(is_alone: bool) -> Self {
        Self {
            tokens: Memory::new(LIMIT),
            seats: Memory::new(LIMIT),
            inboxes: Memory::new(LIMIT),
            broken: AtomicU64::new(0),
            cleared: AtomicU64::new(0),
            hearing: if is_alone {
                Hearing::Alone
            } else {
                Hearing::Others(Mutex::default())
            },
        }
    }

    /// Whether what is remembered is true.
    pub(super) fn is_true(&self) -> bool {
        if self.cleared.load(Ordering::Acquire) < self.broken.load(Ordering::Acquire) {
            return false;
        }
        match &self.hearing {
            Hearing::Alone => true,
            Hearing::Others(heard) => {
                let heard = *heard.lock().unwrap_or_else(PoisonError::into_inner);
                heard.is_some_and(|heard| heard.elapsed() < HEARD_FOR)
            }
        }
    }

    /// Everything that was committed before then is heard of; or it is not known any more what is.
    pub(super) fn hears(&self, since: Option<Instant>) {
        if let Hearing::Others(heard) = &self.hearing {
            *heard.lock().unwrap_or_else(PoisonError::into_inner) = since;
        }
    }

    /// A workspace as remembered; otherwise as `read` finds it, which is remembered.
    pub(super) fn seat(
        &self,
        id: WorkspaceId,
        read: impl FnOnce() -> Result<Option<Seat>, Error>,
    ) -> Result<Option<Arc<Seat>>, Error> {
        let slot = self.seats.slot(&id);
        if let Some(seat) = &*slot.hold() {
            return Ok(Some(Arc::clone(seat)));
        }
        let seat = read().map(|seat| seat.map(Arc::new));
        match &seat {
            Ok(Some(seat)) if seat.url.as_ref().is_none_or(|url| url.len() <= URL_BYTES) => {
                *slot.hold() = Some(Arc::clone(seat));
            }
            _ => self.seats.forget(&id),
        }
        seat
    }

    /// A workspace, if it is remembered.
    pub(super) fn known_seat(&self, id: WorkspaceId) -> Option<Arc<Seat>> {
        self.seats.get(&id).flatten()
    }

    /// Which tokens were used since this was last asked. Those that are not remembered any more are left out.
    pub(super) fn take_uses(&self) -> Vec<TokenUse> {
        let tokens = self.tokens.values();
        let uses = tokens.filter_map(|(hash, token)| {
            let at = token?.used_at.swap(0, Ordering::Relaxed);
            (at != 0).then_some(TokenUse {
                hash,
                at: Timestamp(at),
            })
        });
        uses.collect()
    }

    pub(super) fn forget_all(&self) {
        self.tokens.forget_all();
        self.seats.forget_all();
        self.inboxes.forget_all();
    }

    /// Forgets what is not true any more.
    pub(super) fn forget(&self, stale: &Stale) {
        if stale.everything {
            return self.forget_all();
        }
        for id in &stale.changed {
            self.seats.forget(&WorkspaceId(*id));
        }
        for id in &stale.inboxes {
            self.inboxes.forget(&WorkspaceId(*id));
        }
        if !stale.revoked.is_empty() {
            // Whose a token is that is being read is not known yet.
            self.tokens.retain(|token| {
                let token = token.as_ref();
                token.is_some_and(|token| !stale.revoked.contains(&token.owner.0))
            });
        }
    }

    /// Another node committed something.
    pub(super) fn heard(&self, heard: &Heard, stale: &Stale) {
        self.forget(stale);
        if heard.all {
            self.inboxes.forget_all();
        }
        for id in &heard.workspaces {
            self.inboxes.forget(id);
        }
    }
}

/// A writer that keeps the directory true: what its commit makes stale is forgotten before anybody is told of it.
pub(super) struct Keeping<W> {
    pub(super) writer: W,
    pub(super) lease: Lease,
    pub(super) directory: Arc<Directory>,
    /// How many commits were broken when it was opened.
    broken: u64,
}

impl<W> Keeping<W> {
    pub(super) fn new(writer: W, lease: Lease, directory: Arc<Directory>) -> Self {
        Self {
            broken: directory.broken.load(Ordering::Acquire),
            writer,
            lease,
            directory,
        }
    }
}

impl<W: Writer> Writer for Keeping<W> {
    fn commit_watched(
        &mut self,
        writes: &[Write],
        written: Option<&dyn Fn()>,
    ) -> Result<Commit, Error> {
        let mut doubt = Doubt {
            is_cleared: false,
            lease: &self.lease,
            directory: &self.directory,
        };
        let commit = self.writer.commit_watched(writes, written)?;
        doubt.is_cleared = true;
        // It renewed the lease, and waited for the lock of those that were in doubt when it was opened: they are over.
        if self.directory.cleared.load(Ordering::Acquire) < self.broken {
            self.directory.forget_all();
            self.directory
                .cleared
                .fetch_max(self.broken, Ordering::AcqRel);
        }
        let stale = Stale::by(writes, &commit.written).with_growth(&commit.published);
        self.directory.forget(&stale);
        Ok(commit)
    }
}

/// A commit that nobody knows the outcome of, by an error or a panic: nothing counts any more, and what its connection
/// still tells is listened to.
struct Doubt<'a> {
    is_cleared: bool,
    lease: &'a Lease,
    directory: &'a Directory,
}

impl Drop for Doubt<'_> {
    fn drop(&mut self) {
        if !self.is_cleared {
            self.lease.broke_off();
            self.directory.broken.fetch_add(1, Ordering::AcqRel);
            self.directory.forget_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{DeliveryMode, NodeId, Position, TokenId, WorkspaceStatus};
    use crate::store::Written;

    fn seat(id: WorkspaceId) -> Seat {
        Seat {
            id,
            status: WorkspaceStatus::Online,
            parent: None,
            can_delegate: true,
            delivery_mode: DeliveryMode::Push,
            url: Some("http://agent".into()),
            credentials: None,
            max_concurrent_tasks: 1,
            deduplicates: false,
            card: None,
        }
    }

    /// One thing of each kind, of this workspace.
    fn knowing(directory: &Directory, id: WorkspaceId) {
        let found = directory.seat(id, || Ok(Some(seat(id)))).unwrap();
        assert_eq!(found.as_deref(), Some(&seat(id)));
        *directory.tokens.slot(&hash(id)).hold() = Some(Arc::new(Token::of(id)));
        directory.inboxes.slot(&id).hold().acknowledged = Some(Position(1));
    }

    fn hash(id: WorkspaceId) -> [u8; 32] {
        let mut hash = [0; 32];
        hash[..16].copy_from_slice(id.0.as_bytes());
        hash
    }

    /// Whether the seat, the token and the inbox are known.
    fn known(directory: &Directory, id: WorkspaceId) -> [bool; 3] {
        [
            directory.known_seat(id).is_some(),
            directory.tokens.get(&hash(id)).is_some(),
            directory.inboxes.get(&id).is_some(),
        ]
    }

    /// A database whose commits end as it is told.
    struct Scripted<F>(F);

    impl<F: FnMut(&[Write]) -> Result<Commit, Error> + Send> Writer for Scripted<F> {
        fn commit_watched(
            &mut self,
            writes: &[Write],
            _: Option<&dyn Fn()>,
        ) -> Result<Commit, Error> {
            (self.0)(writes)
        }
    }

    fn keeping<F>(directory: &Arc<Directory>, commit: F) -> Keeping<Scripted<F>> {
        let lease = Lease {
            node: NodeId::mint(),
            length: Duration::from_mins(1),
            _claim: None,
            progress: Arc::default(),
            broken: Arc::default(),
        };
        Keeping::new(Scripted(commit), lease, Arc::clone(directory))
    }

    /// As if all of it succeeded.
    fn commit(directory: &Arc<Directory>, writes: &[Write]) {
        let succeeds = |writes: &[Write]| {
            Ok(Commit {
                written: writes.iter().map(|_| Written::Done).collect(),
                ..Commit::default()
            })
        };
        keeping(directory, succeeds).commit(writes).unwrap();
    }

    fn revoke(workspace: WorkspaceId) -> Write {
        Write::RevokeToken {
            workspace,
            token: TokenId::mint(),
            at: Timestamp(0),
        }
    }

    #[test]
    fn a_commit_takes_away_what_it_makes_untrue_and_leaves_the_rest() {
        let directory = Arc::new(Directory::new(true));
        let [one, other] = [WorkspaceId::mint(), WorkspaceId::mint()];
        let removal = Write::RemoveWorkspaces {
            ids: vec![one],
            purge: false,
            events: vec![],
            at: Timestamp(0),
        };
        let acknowledgement = Write::Acknowledge {
            workspace: one,
            upto: Position(1),
        };
        let patch = |patch| Write::PatchWorkspace {
            id: one,
            patch: Box::new(patch),
            events: vec![],
            at: Timestamp(0),
        };
        let sign = patch(crate::store::WorkspacePatch {
            heartbeat: Some(crate::store::Heartbeat::default()),
            ..Default::default()
        });
        let change = patch(crate::store::WorkspacePatch {
            can_delegate: Some(false),
            ..Default::default()
        });
        for (write, left) in [
            (removal, [false, false, false]),
            (acknowledgement, [true, true, false]),
            (revoke(one), [true, false, true]),
            (sign, [true, true, true]),
            (change, [false, true, true]),
        ] {
            knowing(&directory, one);
            knowing(&directory, other);
            commit(&directory, &[write]);
            assert_eq!(known(&directory, one), left);
            assert_eq!(known(&directory, other), [true; 3]);
        }
    }

    #[test]
    fn a_read_that_spans_a_commit_is_not_remembered() {
        let directory = Arc::new(Directory::new(true));
        let id = WorkspaceId::mint();
        // The token is read before the commit, and put away after it.
        let slot = directory.tokens.slot(&hash(id));
        commit(&directory, &[revoke(id)]);
        *slot.hold() = Some(Arc::new(Token::of(id)));
        assert!(directory.tokens.get(&hash(id)).is_none());
        // The workspace is patched while it is read.
        let patch = Write::PatchWorkspace {
            id,
            patch: Box::new(crate::store::WorkspacePatch {
                can_delegate: Some(false),
                ..Default::default()
            }),
            events: vec![],
            at: Timestamp(0),
        };
        let read = directory.seat(id, || {
            commit(&directory, std::slice::from_ref(&patch));
            Ok(Some(seat(id)))
        });
        assert!(read.unwrap().is_some(), "who asked before is answered");
        assert!(directory.known_seat(id).is_none());
    }

    #[test]
    fn a_commit_of_unknown_outcome_leaves_nothing_and_its_word_is_heard() {
        let directory = Arc::new(Directory::new(true));
        let id = WorkspaceId::mint();
        knowing(&directory, id);
        let mut broken = keeping(&directory, |_: &[Write]| {
            Err(Error::Unavailable("it broke off".to_owned()))
        });
        let session = broken.lease.session();
        broken.commit(&[revoke(id)]).unwrap_err();
        assert_eq!(known(&directory, id), [false; 3]);
        assert_ne!(broken.lease.session(), session);
        knowing(&directory, id);
        let mut panicking = keeping(&directory, |_: &[Write]| panic!("a fault of the test"));
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            drop(panicking.commit(&[]));
        }));
        assert!(panicked.is_err());
        assert_eq!(known(&directory, id), [false; 3]);
    }

    #[test]
    fn what_others_tell_is_forgotten() {
        let directory = Directory::new(false);
        let [one, other] = [WorkspaceId::mint(), WorkspaceId::mint()];
        let heard = |heard: &Heard, stale: &Stale, of_one, of_other| {
            knowing(&directory, one);
            knowing(&directory, other);
            directory.heard(heard, stale);
            assert_eq!(
                (known(&directory, one), known(&directory, other)),
                (of_one, of_other)
            );
        };
        let grown = Heard {
            workspaces: vec![one],
            ..Heard::default()
        };
        let all = Heard {
            all: true,
            ..Heard::default()
        };
        let everything = Stale {
            everything: true,
            ..Stale::default()
        };
        heard(&grown, &Stale::default(), [true, true, false], [true; 3]);
        heard(
            &all,
            &Stale::default(),
            [true, true, false],
            [true, true, false],
        );
        heard(&Heard::default(), &everything, [false; 3], [false; 3]);
    }

    #[test]
    fn nothing_counts_that_is_not_known_to_be_heard_of() {
        assert!(Directory::new(true).is_true());
        let directory = Directory::new(false);
        assert!(!directory.is_true());
        directory.hears(Some(Instant::now()));
        assert!(directory.is_true());
        directory.hears(Instant::now().checked_sub(HEARD_FOR));
        assert!(!directory.is_true(), "the last proof is too old");
        directory.hears(Some(Instant::now()));
        directory.hears(None);
        assert!(!directory.is_true());
    }

    #[test]
    fn what_does_not_exist_or_is_too_long_is_not_remembered() {
        let directory = Directory::new(true);
        let id = WorkspaceId::mint();
        assert!(directory.seat(id, || Ok(None)).unwrap().is_none());
        let failed = directory.seat(id, || Err(Error::Unavailable(String::new())));
        failed.unwrap_err();
        let long = Seat {
            url: Some("x".repeat(URL_BYTES + 1).into()),
            ..seat(id)
        };
        directory.seat(id, || Ok(Some(long))).unwrap();
        assert!(directory.known_seat(id).is_none());
    }

    #[test]
    fn each_use_is_noted_once() {
        let directory = Directory::new(true);
        let id = WorkspaceId::mint();
        knowing(&directory, id);
        assert_eq!(directory.take_uses(), []);
        let token = directory.tokens.get(&hash(id)).flatten().unwrap();
        token.used(Timestamp(1));
        token.used(Timestamp(2));
        let at = Timestamp(2);
        assert_eq!(directory.take_uses(), [TokenUse { hash: hash(id), at }]);
        assert_eq!(directory.take_uses(), []);
    }
}
