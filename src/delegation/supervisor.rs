//! The supervisor: admits delegations, finds and rebuilds their actors, and gives up on what keeps killing them.
//!
//! Own supervision, because actix's does not survive a panic (docs/adr). Whatever happened to an actor, the next one is
//! rebuilt from the store, never from memory.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use actix::prelude::*;
use tokio::sync::{Semaphore, oneshot};

use super::actor::{DelegationActor, Start};
use super::effects::Runtime;
use super::lines::Lines;
use super::messages::{ActorDown, Begin, Begun, Finished, Recover, Retire, Revive, TakeUp};
use super::{ActorNumber, Delegations, Error, Live, Registry};
use crate::clock;
use crate::dispatch::A2aClient;
use crate::domain::{
    Accept, DelegationKey, Incarnation, Life, NewDelegation, Policy, Revision, Timestamp,
    accepted_feed,
};
use crate::faults::{Faults, Vital};
use crate::persistence::{Patience, Persistence};
use crate::store::{self, Acceptance, Loaded, Store, Write, Written};
use crate::telemetry::{Effect, Progress, count};

/// Deaths of one delegation's actor within [`DEATH_WINDOW`] before it is given up.
const DEATHS_ALLOWED: usize = 3;
/// The window that deaths are counted in.
const DEATH_WINDOW: Duration = Duration::from_mins(1);
/// How many delegations are read at a time when taking over what an earlier process left.
const RECOVERY_PAGE: i64 = 1_000;
/// The wait before a delegation that could not be read is tried again.
const RELOAD_DELAY: Duration = Duration::from_millis(500);

/// What a delegation is told that is given up.
const GIVEN_UP: &str = "Baton failed repeatedly while it took care of this delegation";

/// What the supervisor and its actors work with.
pub struct SupervisorSettings {
    /// The rules of waiting.
    pub policy: Policy,
    /// Whether replies are written (rule 3).
    pub push_replies: bool,
    /// The deadline of a delegation that is adopted.
    pub default_deadline: Duration,
    /// Most live delegations.
    pub max_live: usize,
    /// Most calls in flight.
    pub max_outbound: usize,
    /// Threads for actors.
    pub arbiters: usize,
    /// Where to write.
    pub persistence: Persistence,
    /// Where to read.
    pub store: Store,
    /// How to call targets.
    pub client: A2aClient,
    /// For tests.
    pub faults: Arc<Faults>,
}

/// Admits, routes, rebuilds.
pub struct Supervisor {
    runtime: Arc<Runtime>,
    registry: Arc<Registry>,
    arbiters: Vec<ArbiterHandle>,
    max_live: usize,
    /// The last actor that was started.
    newest: ActorNumber,
    /// Accepted by this node, not committed yet.
    beginning: usize,
    deaths: HashMap<DelegationKey, Vec<Timestamp>>,
    /// Those who wait for an actor that is being rebuilt.
    reviving: HashMap<DelegationKey, Vec<Waiter>>,
    _vital: Vital,
}

type Waiter = oneshot::Sender<Result<Option<Addr<DelegationActor>>, Error>>;

impl Supervisor {
    /// Starts it, on an arbiter of its own.
    #[must_use]
    pub fn launch(settings: SupervisorSettings) -> Delegations {
        let registry = Arc::new(Registry::default());
        let (store, persistence) = (settings.store.clone(), settings.persistence.clone());
        let lines = Lines::new(settings.policy.retry);
        let runtime = Arc::new(Runtime {
            lines: Arc::clone(&lines),
            started_at: clock::now(),
            policy: settings.policy,
            push_replies: settings.push_replies,
            persistence: settings.persistence,
            store: settings.store,
            client: settings.client,
            outbound: Arc::new(Semaphore::new(settings.max_outbound)),
            registry: Arc::clone(&registry),
            faults: settings.faults,
            delegations: OnceLock::new(),
        });
        let supervisor = Self {
            runtime: Arc::clone(&runtime),
            registry: Arc::clone(&registry),
            arbiters: (0..settings.arbiters.max(1))
                .map(|_| Arbiter::new().handle())
                .collect(),
            max_live: settings.max_live,
            newest: ActorNumber::default(),
            beginning: 0,
            deaths: HashMap::new(),
            reviving: HashMap::new(),
            _vital: Vital,
        };
        let supervisor =
            <Self as Actor>::start_in_arbiter(&Arbiter::new().handle(), |_| supervisor);
        let delegations = Delegations {
            registry,
            supervisor,
            lines,
            store,
            persistence,
            default_deadline: settings.default_deadline,
        };
        runtime.delegations.get_or_init(|| delegations.clone());
        delegations
    }

    fn start_actor(
        &mut self,
        loaded: Loaded,
        start: Start,
        supervisor: Addr<Self>,
    ) -> Option<Addr<DelegationActor>> {
        let key = loaded.terms.key.clone();
        self.newest = ActorNumber(self.newest.0.saturating_add(1));
        let number = self.newest;
        // Spread evenly without a counter: ids end in random bits.
        let place = key.id.to_string().bytes().fold(0usize, |sum, byte| {
            sum.wrapping_mul(31).wrapping_add(byte.into())
        });
        let arbiter = self.arbiters.get(place.checked_rem(self.arbiters.len())?)?;
        let runtime = Arc::clone(&self.runtime);
        let actor = DelegationActor::new(runtime, supervisor, number, loaded, start);
        let address = DelegationActor::start_in_arbiter(arbiter, |_| actor);
        self.registry.actors.insert(
            key,
            Live {
                actor: address.clone(),
                number,
            },
        );
        Some(address)
    }

    /// The actor that has charge of a delegation.
    fn in_charge(&self, key: &DelegationKey) -> Option<Addr<DelegationActor>> {
        let live = self.registry.actors.get(key)?;
        Some(live.actor.clone()).filter(Addr::connected)
    }

    /// Sees to it that a delegation has an actor.
    fn take_up(&mut self, key: DelegationKey, start: Start, context: &mut Context<Self>) {
        if !self.registry.actors.contains_key(&key) && !self.reviving.contains_key(&key) {
            self.reviving.insert(key.clone(), Vec::new());
            self.rebuild(key, start, context);
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
        let found = match loaded {
            // It was accepted while it was read: that actor holds the task and knows what it sent.
            Ok(Some(_)) if let Some(actor) = self.in_charge(key) => Ok(Some(actor)),
            Ok(Some(mut loaded)) => {
                loaded.incarnation = loaded.incarnation.next();
                Ok(self.start_actor(loaded, start, context.address()))
            }
            Ok(None) => Ok(None),
            Err(error) => {
                tracing::warn!(delegation.id = %key, %error, "a delegation could not be read; trying again");
                let again = key.clone();
                context.run_later(RELOAD_DELAY, |supervisor, context| {
                    supervisor.take_up(again, start, context);
                });
                Err(Error::UNAVAILABLE)
            }
        };
        for waiter in self.reviving.remove(key).unwrap_or_default() {
            drop(waiter.send(found.clone()));
        }
    }

    /// How many times its actor died lately, this time included.
    fn count_death(&mut self, key: &DelegationKey) -> usize {
        let now = clock::now();
        let deaths = self.deaths.entry(key.clone()).or_default();
        deaths.retain(|death| now.since(*death) < DEATH_WINDOW);
        deaths.push(now);
        deaths.len()
    }

    fn begun(
        &mut self,
        delegation: NewDelegation,
        written: Written,
        context: &mut Context<Self>,
    ) -> Result<Acceptance, Error> {
        let Written::Accepted(acceptance) = written else {
            return Err(Error::UNAVAILABLE);
        };
        let NewDelegation {
            terms, task, state, ..
        } = delegation;
        match &acceptance {
            Acceptance::Created { .. } => {
                metrics::counter!("baton_delegations_accepted_total").increment(1);
                // Whoever was quick enough to ask for it had it read from the store.
                if self.in_charge(&terms.key).is_none() {
                    let loaded = Loaded {
                        terms,
                        life: Life::new(state),
                        revision: Revision(1),
                        incarnation: Incarnation::default(),
                    };
                    self.start_actor(loaded, Start::Fresh(task), context.address());
                }
            }
            // The first time it may have been accepted without anybody knowing.
            Acceptance::Replayed { id, status } if !status.is_terminal() => {
                let (caller, id) = (terms.key.caller, id.clone());
                self.take_up(DelegationKey { caller, id }, Start::Restored, context);
            }
            Acceptance::Replayed { .. } | Acceptance::KeyMismatch | Acceptance::IdTaken => {}
        }
        Ok(acceptance)
    }
}

impl Actor for Supervisor {
    type Context = Context<Self>;
}

impl Handler<Begin> for Supervisor {
    type Result = ();

    fn handle(&mut self, begin: Begin, context: &mut Self::Context) {
        let Begin {
            delegation,
            target_as_sent,
            reply,
        } = begin;
        if self.registry.actors.len().saturating_add(self.beginning) >= self.max_live {
            metrics::counter!("baton_delegations_refused_total", "limit" => "max_live")
                .increment(1);
            let refusal = Error::Overloaded {
                limit: "BATON_MAX_LIVE",
                retry_after: Duration::from_secs(5),
            };
            return drop(reply.send(Err(refusal)));
        }
        self.beginning = self.beginning.saturating_add(1);
        count(Effect::Acceptance, Progress::Attempted, 1);
        let feed = accepted_feed(&delegation, &target_as_sent);
        let write = Write::Accept(Box::new(Accept {
            delegation: delegation.clone(),
            feed,
        }));
        let supervisor = context.address();
        let acknowledge = move |result| {
            supervisor.do_send(Begun {
                delegation,
                result,
                reply,
            });
        };
        self.runtime
            .persistence
            .submit(write, Patience::Command, Box::new(acknowledge));
    }
}

impl Handler<Begun> for Supervisor {
    type Result = ();

    fn handle(&mut self, begun: Begun, context: &mut Self::Context) {
        self.beginning = self.beginning.saturating_sub(1);
        let Begun {
            delegation,
            result,
            reply,
        } = begun;
        let answer = match result {
            Ok(written) => self.begun(delegation, written, context),
            Err(error) => Err(error.into()),
        };
        let result = if answer.is_ok() {
            Progress::Succeeded
        } else {
            Progress::Failed
        };
        count(Effect::Acceptance, result, 1);
        // The caller may have hung up: what was accepted goes on.
        drop(reply.send(answer));
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
        self.rebuild(key, Start::Restored, context);
    }
}

impl Handler<Recover> for Supervisor {
    type Result = ();

    fn handle(&mut self, Recover(delegations, _held): Recover, context: &mut Self::Context) {
        for mut loaded in delegations {
            if !self.registry.actors.contains_key(&loaded.terms.key)
                && !self.reviving.contains_key(&loaded.terms.key)
            {
                loaded.incarnation = loaded.incarnation.next();
                self.start_actor(loaded, Start::Restored, context.address());
            }
        }
    }
}

impl Handler<TakeUp> for Supervisor {
    type Result = ();

    fn handle(&mut self, TakeUp(keys): TakeUp, context: &mut Self::Context) {
        for key in keys {
            self.take_up(key, Start::Restored, context);
        }
    }
}

impl Handler<Finished> for Supervisor {
    type Result = ();

    /// First out of reach, then told to go: whoever found the actor before has its message in the mailbox already, or
    /// sees it dropped and comes again.
    fn handle(&mut self, finished: Finished, _: &mut Self::Context) {
        let Finished { key, number } = finished;
        let removed = self
            .registry
            .actors
            .remove_if(&key, |_, live| live.number == number);
        if let Some((_, live)) = removed {
            self.deaths.remove(&key);
            live.actor.do_send(Retire);
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

/// Takes charge of every live delegation in the store, a page at a time. Ends when all are supervised.
pub async fn recover(delegations: &Delegations) -> usize {
    let mut count = 0usize;
    let held = Arc::new(delegations.lines.hold());
    for_each_page(delegations, |page| {
        count = count.saturating_add(page.len());
        delegations
            .supervisor
            .do_send(Recover(page, Arc::clone(&held)));
    })
    .await;
    count
}

/// Looks again and again for live delegations without an actor, and takes charge of them: the commit that began one may
/// have been answered by nothing but a broken connection. `tick` tells that it is alive.
pub async fn sweep(delegations: &Delegations, interval: Duration, tick: impl Fn()) {
    loop {
        tokio::time::sleep(interval).await;
        tick();
        for_each_page(delegations, |page| {
            let keys = page.into_iter().map(|loaded| loaded.terms.key);
            let left: Vec<DelegationKey> = keys
                .filter(|key| !delegations.registry.actors.contains_key(key))
                .collect();
            if !left.is_empty() {
                tracing::warn!(
                    delegations = left.len(),
                    "taking charge of what has no actor"
                );
                delegations.supervisor.do_send(TakeUp(left));
            }
        })
        .await;
    }
}

/// Hands out what is live in the store.
async fn for_each_page(delegations: &Delegations, mut take: impl FnMut(Vec<Loaded>)) {
    let mut after: Option<DelegationKey> = None;
    loop {
        let from = after.clone();
        let read = delegations
            .store
            .read(move |reader| reader.live(from.as_ref(), RECOVERY_PAGE));
        match read.await {
            Ok(page) => {
                let Some(last) = page.last() else { return };
                after = Some(last.terms.key.clone());
                take(page);
            }
            Err(error) => {
                tracing::warn!(%error, "taking charge of what is live waits for the database");
                tokio::time::sleep(RELOAD_DELAY).await;
            }
        }
    }
}
