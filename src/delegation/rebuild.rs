//! Finding and rebuilding actors, and giving up on what keeps killing them.
//!
//! What another node has in charge gets a guest here: an actor that takes an event, commits it, and goes.

use std::time::Duration;

use actix::prelude::*;

use super::Error;
use super::actor::{DelegationActor, Start};
use super::beginning::Beginning;
use super::messages::{ActorDown, Moved, Recover, Reload, Retire, Revive, TakeUp};
use super::supervisor::Supervisor;
use crate::clock;
use crate::domain::{DelegationKey, State};
use crate::store::{self, Loaded};

/// Deaths of one delegation's actor within [`DEATH_WINDOW`] before it is given up.
const DEATHS_ALLOWED: usize = 3;
/// The window that deaths are counted in.
const DEATH_WINDOW: Duration = Duration::from_mins(1);
/// The wait before a delegation that could not be read is tried again.
const RELOAD_DELAY: Duration = Duration::from_millis(500);

/// What a delegation is told that is given up.
const GIVEN_UP: &str = "Baton failed repeatedly while it took care of this delegation";

impl Supervisor {
    /// Sees to it that a delegation has an actor, if this node has it in charge.
    pub(super) fn take_up(
        &mut self,
        key: DelegationKey,
        start: Start,
        context: &mut Context<Self>,
    ) {
        let lives = self.registry.actors.contains_key(&key) || self.unsent.contains(&key);
        if !lives && !self.reviving.contains_key(&key) {
            self.reviving.insert(key.clone(), Vec::new());
            self.rebuild(key, start, context);
        }
    }

    /// The beginning of a delegation came to something: whoever asked for it meanwhile is answered.
    pub(super) fn catch_up(&mut self, key: DelegationKey, context: &mut Context<Self>) {
        if !self.reviving.contains_key(&key) {
            return;
        }
        let Some(actor) = self.in_charge(&key) else {
            return self.rebuild(key, Start::Restored, context);
        };
        for waiter in self.reviving.remove(&key).unwrap_or_default() {
            drop(waiter.send(Ok(Some(actor.clone()))));
        }
    }

    /// Reads a delegation and starts its next incarnation, for whoever waits for it.
    fn rebuild(&mut self, key: DelegationKey, start: Start, context: &mut Context<Self>) {
        let store = self.runtime.store.clone();
        let wanted = key.clone();
        let load = async move { store.read(move |reader| reader.load(&wanted)).await };
        context.spawn(
            load.into_actor(self)
                .map(move |loaded, supervisor, context| {
                    supervisor.rebuilt(&key, loaded, start, context);
                }),
        );
    }

    fn rebuilt(
        &mut self,
        key: &DelegationKey,
        loaded: Result<Option<Loaded>, store::Error>,
        start: Start,
        context: &mut Context<Self>,
    ) {
        let waiters = self.reviving.remove(key).unwrap_or_default();
        let found = match loaded {
            // It was accepted while it was read: that actor holds the task and knows what it sent.
            Ok(Some(_)) if let Some(actor) = self.in_charge(key) => Ok(Some(actor)),
            Ok(Some(loaded)) => {
                let has_a_say = !waiters.is_empty();
                Ok(self.start_rebuilt(loaded, start, has_a_say, context.address()))
            }
            Ok(None) => Ok(None),
            Err(error) => {
                tracing::warn!(delegation.id = %key, %error, "a delegation could not be read; trying again");
                let again = key.clone();
                // What cannot be read today cannot be read tomorrow.
                if error.is_unavailable() {
                    context.run_later(RELOAD_DELAY, |supervisor, context| {
                        supervisor.take_up(again, start, context);
                    });
                }
                Err(Error::UNAVAILABLE)
            }
        };
        for waiter in waiters {
            drop(waiter.send(found.clone()));
        }
    }

    /// What has ended, or is another node's, gets an actor only when somebody has something to say to it.
    fn start_rebuilt(
        &mut self,
        mut loaded: Loaded,
        start: Start,
        has_a_say: bool,
        supervisor: Addr<Self>,
    ) -> Option<Addr<DelegationActor>> {
        let owned = self.registry.owned.contains(&loaded.owner);
        let ended = matches!(loaded.life.state, State::Ended(_));
        if !has_a_say {
            if ended || !owned {
                return None;
            }
            tracing::info!(delegation.id = %loaded.terms.key, "starting an actor for what lives without one");
        }
        loaded.incarnation = loaded.incarnation.next();
        let in_doubt = self.in_doubt.remove(&loaded.terms.key).is_some();
        let start = match start {
            _ if !owned => Start::Guest,
            // Nobody moved it on since.
            Start::Restored if in_doubt && loaded.revision == Beginning::SENT => Start::Unsent,
            start => start,
        };
        Some(self.start_actor(loaded, start, supervisor))
    }

    /// How many times its actor died lately, this time included.
    fn count_death(&mut self, key: &DelegationKey) -> usize {
        let now = clock::now();
        let deaths = self.deaths.entry(key.clone()).or_default();
        deaths.retain(|death| now.since(*death) < DEATH_WINDOW);
        deaths.push(now);
        deaths.len()
    }
}

impl Handler<Revive> for Supervisor {
    type Result = ();

    fn handle(&mut self, Revive { key, reply }: Revive, context: &mut Self::Context) {
        let live = self
            .registry
            .actors
            .get(&key)
            .map(|live| live.actor.clone());
        if let Some(actor) = live {
            if actor.connected() {
                return drop(reply.send(Ok(Some(actor))));
            }
            // It died; word of it is on its way, and will rebuild it.
            return self.reviving.entry(key).or_default().push(reply);
        }
        if let Some(waiters) = self.reviving.get_mut(&key) {
            return waiters.push(reply);
        }
        self.reviving.insert(key.clone(), vec![reply]);
        if !self.unsent.contains(&key) {
            self.rebuild(key, Start::Restored, context);
        }
    }
}

impl Handler<Recover> for Supervisor {
    type Result = ();

    /// A guest that came before this node took over gives way; whoever waits for it comes again.
    fn handle(&mut self, Recover(delegations, _held): Recover, context: &mut Self::Context) {
        for mut loaded in delegations {
            let key = &loaded.terms.key;
            let live = self.registry.actors.get(key).map(|live| live.clone());
            let guest = live.as_ref().filter(|live| live.guest);
            if let Some(guest) = guest {
                guest.actor.do_send(Retire);
            } else if live.is_some() || self.reviving.contains_key(key) {
                continue;
            }
            loaded.incarnation = loaded.incarnation.next();
            self.start_actor(loaded, Start::Restored, context.address());
        }
    }
}

impl Handler<TakeUp> for Supervisor {
    type Result = ();

    fn handle(&mut self, TakeUp(keys): TakeUp, context: &mut Self::Context) {
        let now = clock::now();
        self.in_doubt.retain(|_, deadline| *deadline > now);
        for key in keys {
            self.take_up(key, Start::Restored, context);
        }
    }
}

impl Handler<Moved> for Supervisor {
    type Result = ();

    fn handle(&mut self, Moved(keys): Moved, _: &mut Self::Context) {
        for key in keys {
            if let Some(live) = self.registry.actors.get(&key) {
                live.actor.do_send(Reload);
            }
        }
    }
}

impl Handler<ActorDown> for Supervisor {
    type Result = ();

    fn handle(&mut self, down: ActorDown, context: &mut Self::Context) {
        let ActorDown {
            key,
            number,
            panicked,
        } = down;
        if panicked {
            metrics::counter!("baton_actor_panics_total").increment(1);
            tracing::error!(delegation.id = %key, "a delegation's actor panicked");
        }
        let unexpected = self
            .registry
            .actors
            .remove_if(&key, |_, live| live.number == number)
            .is_some();
        if !unexpected {
            return;
        }
        metrics::counter!("baton_actors_rebuilt_total").increment(1);
        self.reviving.entry(key.clone()).or_default();
        let deaths = if panicked { self.count_death(&key) } else { 0 };
        let excess = u32::try_from(deaths.saturating_sub(DEATHS_ALLOWED)).unwrap_or(u32::MAX);
        if excess == 0 {
            return self.rebuild(key, Start::Restored, context);
        }
        // What dies even of being ended must not die in a tight loop.
        context.run_later(
            RELOAD_DELAY.saturating_mul(excess.min(60)),
            |supervisor, context| {
                supervisor.rebuild(key, Start::GivenUp(GIVEN_UP.into()), context);
            },
        );
    }
}
