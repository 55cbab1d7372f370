//! What must be true at every commit, and what must be true once all faults have ceased and time has run on.

use std::collections::BTreeSet;
use std::time::Duration;

use baton::domain::*;

use crate::store::Stored;
use crate::target::Heard;
use crate::world::{START, TROUBLED, World};
use crate::writer::short;

/// From the end of the faults, or from a deadline, to the ending that is stored: a lease that must run out, a look, a
/// sweep, and some commits.
const PATIENCE: Duration = Duration::from_mins(2);

/// From an answer's arrival to its being stored.
const UNDER_WAY: Duration = Duration::from_secs(20);

impl World {
    /// A change was stored.
    pub(crate) fn watch(&mut self, advance: &Advance) {
        let State::Ended(ended) = &advance.life.state else {
            return;
        };
        let answer = match &ended.ending {
            Ending::Completed { text } => Some(text),
            Ending::Failed { .. } | Ending::Cancelled { .. } => None,
        };
        let late = ended.late.as_ref().map(|late| &late.text);
        let key = &advance.key;
        let invented: Vec<String> = answer
            .into_iter()
            .chain(late)
            .filter(|text| !self.given.contains(&(key.clone(), text.to_string())))
            .map(|text| format!("{}: nobody ever answered {text:?}", short(key)))
            .collect();
        for what in invented {
            self.violation(what);
        }
    }

    pub(crate) fn judge(&mut self) {
        let mut wrong: Vec<String> = self
            .store
            .audited(self.now)
            .iter()
            .flat_map(audit)
            .map(|violation| format!("{}: {}", violation.rule, violation.found))
            .collect();
        wrong.extend(
            self.store
                .delegations
                .values()
                .filter_map(|stored| self.unfinished(stored)),
        );
        let lost = self.promised.iter();
        let lost = lost.filter(|key| !self.store.delegations.contains_key(key));
        wrong.extend(lost.map(|key| format!("{} was acknowledged and is lost", short(key))));
        wrong.extend(self.unread());
        wrong.extend(
            self.heard
                .iter()
                .filter_map(|(key, heard)| self.unheard(key, heard)),
        );
        for what in wrong {
            self.violation(what);
        }
    }

    fn unfinished(&self, stored: &Stored) -> Option<String> {
        let key = short(&stored.terms.key);
        let latest = stored
            .terms
            .deadline
            .max(START.plus(TROUBLED))
            .plus(PATIENCE);
        match &stored.life.state {
            State::Ended(ended) if ended.at > latest => Some(format!("{key} ended too late")),
            State::Ended(_)
                if self.push_replies && stored.reply != crate::store::Reply::Written =>
            {
                Some(format!("{key} has ended and its reply was not written"))
            }
            State::Ended(_) => None,
            _ => Some(format!("{key} never ended: {:?}", stored.life.state)),
        }
    }

    /// An answer to the latest attempt is recorded, unless the node that got it died of something else. What a guest
    /// sent, its owner may give up: it knows nothing of a call that is in flight elsewhere.
    fn unheard(&self, key: &DelegationKey, heard: &Heard) -> Option<String> {
        let stored = self.store.delegations.get(key)?;
        let died = self.nodes[heard.node].boot != heard.boot || heard.at.plus(UNDER_WAY) > self.now;
        let State::Ended(ended) = &stored.life.state else {
            return None;
        };
        let recorded = match &ended.ending {
            Ending::Completed { text } => **text == *heard.text,
            Ending::Failed { .. } | Ending::Cancelled { .. } => false,
        };
        let kept = recorded || ended.late.is_some();
        let guest = !self.nodes[heard.node].owned.contains(&stored.owner);
        let stale = guest || stored.life.attempt != heard.attempt;
        (!died && !kept && !stale).then(|| {
            let (key, at) = (short(key), heard.at.since(START));
            format!("the answer to {key} that came after {at:?} was dropped")
        })
    }

    /// Each reply was read once by whoever goes on from the last position, and at least once by whoever goes on from the
    /// last acknowledgement.
    fn unread(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for reader in &self.readers {
            let rows = self.store.feed_of(reader.workspace, Position(0));
            let rows = rows.filter(|(_, row)| row.activity_type == ActivityType::A2aReceive);
            let replies: BTreeSet<&DelegationId> = rows
                .filter_map(|(_, row)| row.delegation.as_ref())
                .collect();
            for id in &replies {
                if reader.seen.get(id) != Some(&1) {
                    let times = reader.seen.get(id).copied().unwrap_or(0);
                    wrong.push(format!("the reply to {id} was read {times} times"));
                }
                if !reader.shown.contains_key(*id) {
                    wrong.push(format!("the reply to {id} was never in the inbox"));
                }
            }
            if reader.seen.len() > replies.len() {
                wrong.push("something was read that is not there".to_owned());
            }
        }
        wrong
    }
}
