//! The supervisor: admits delegations and starts their actors; `rebuild` finds and rebuilds them.
//!
//! Own supervision, because actix's does not survive a panic (docs/adr). Whatever happened to an actor, the next one is
//! rebuilt from the store, never from memory.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use actix::prelude::*;
use metrics::Counter;
use tokio::sync::{Semaphore, oneshot};

use super::actor::{DelegationActor, Fresh, Start};
use super::beginning::Beginning;
use super::effects::Runtime;
use super::lines::Lines;
use super::messages::{Begin, Begun, Finished, Retire};
use super::{ActorNumber, Delegations, Error, Live, Registry};
use crate::dispatch::{A2aClient, PushOffer};
use crate::domain::{DelegationKey, Incarnation, NewDelegation, Policy, Timestamp};
use crate::faults::{Faults, Vital};
use crate::limits::Arbiters;
use crate::persistence::{self, Patience, Persistence};
use crate::secrets::Secrets;
use crate::store::{Acceptance, Loaded, Store, Write, Written};
use crate::telemetry::{Effect, Progress, TOTALS, count};

/// Most questions after tasks at once.
const ASKING: usize = 256;

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
    /// Where actors run; the supervisor on the first.
    pub arbiters: Arbiters,
    /// Where to write.
    pub persistence: Persistence,
    /// Where to read.
    pub store: Store,
    /// How to call targets.
    pub client: A2aClient,
    /// Opens what targets want to see.
    pub secrets: Secrets,
    /// What targets are offered that tell of their tasks.
    pub push: PushOffer,
    /// For tests.
    pub faults: Arc<Faults>,
}

/// Admits, routes, rebuilds.
pub struct Supervisor {
    pub(super) runtime: Arc<Runtime>,
    pub(super) registry: Arc<Registry>,
    arbiters: Arbiters,
    max_live: usize,
    /// The last actor that was started.
    newest: ActorNumber,
    /// Accepted by this node, not committed yet.
    beginning: usize,
    accepted: Counter,
    /// Those of them that are sent as soon as they are: until then whoever reads them would think that they were.
    pub(super) unsent: HashSet<DelegationKey>,
    /// Those of which nobody knows whether they were committed, until their deadlines: they were not sent.
    pub(super) in_doubt: HashMap<DelegationKey, Timestamp>,
    pub(super) deaths: HashMap<DelegationKey, Vec<Timestamp>>,
    /// Those who wait for an actor that is being rebuilt.
    pub(super) reviving: HashMap<DelegationKey, Vec<Waiter>>,
    _vital: Vital,
}

pub(super) type Waiter = oneshot::Sender<Result<Option<Addr<DelegationActor>>, Error>>;

impl Supervisor {
    /// Starts it, on an arbiter of its own.
    #[must_use]
    pub fn launch(settings: SupervisorSettings) -> Delegations {
        let registry = Arc::new(Registry::default());
        registry.owned.insert(settings.persistence.node());
        let (store, persistence) = (settings.store.clone(), settings.persistence.clone());
        let lines = Lines::new(settings.policy.retry);
        let runtime = Arc::new(Runtime {
            lines: Arc::clone(&lines),
            policy: settings.policy,
            push_replies: settings.push_replies,
            persistence: settings.persistence,
            store: settings.store,
            client: settings.client,
            secrets: settings.secrets,
            push: settings.push,
            outbound: Arc::new(Semaphore::new(settings.max_outbound)),
            asking: Arc::new(Semaphore::new(ASKING)),
            registry: Arc::clone(&registry),
            faults: settings.faults,
            delegations: OnceLock::new(),
        });
        let supervisor = Self {
            runtime: Arc::clone(&runtime),
            registry: Arc::clone(&registry),
            arbiters: settings.arbiters.clone(),
            max_live: settings.max_live,
            newest: ActorNumber::default(),
            beginning: 0,
            accepted: metrics::counter!("baton_delegations_accepted_total"),
            unsent: HashSet::new(),
            in_doubt: HashMap::new(),
            deaths: HashMap::new(),
            reviving: HashMap::new(),
            _vital: Vital,
        };
        let own = settings.arbiters.first();
        let supervisor = <Self as Actor>::start_in_arbiter(own, |_| supervisor);
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

    pub(super) fn start_actor(
        &mut self,
        loaded: Loaded,
        start: Start,
        supervisor: Addr<Self>,
    ) -> Addr<DelegationActor> {
        let key = loaded.terms.key.clone();
        self.newest = ActorNumber(self.newest.0.saturating_add(1));
        let number = self.newest;
        let guest = matches!(start, Start::Guest);
        let arbiter = self.arbiters.at(number.0);
        let runtime = Arc::clone(&self.runtime);
        let actor = DelegationActor::new(runtime, supervisor, number, loaded, start);
        let address = DelegationActor::start_in_arbiter(arbiter, |_| actor);
        self.registry.actors.insert(
            key,
            Live {
                actor: address.clone(),
                number,
                guest,
            },
        );
        address
    }

    /// The actor that has charge of a delegation.
    pub(super) fn in_charge(&self, key: &DelegationKey) -> Option<Addr<DelegationActor>> {
        let live = self.registry.actors.get(key)?;
        Some(live.actor.clone()).filter(Addr::connected)
    }

    fn begun(
        &mut self,
        delegation: NewDelegation,
        beginning: Beginning,
        written: Written,
        context: &mut Context<Self>,
    ) -> Result<Acceptance, Error> {
        let Written::Accepted(acceptance) = written else {
            return Err(Error::UNAVAILABLE);
        };
        let task = Box::new(delegation.said());
        let NewDelegation { terms, state, .. } = delegation;
        match &acceptance {
            Acceptance::Created { .. } => {
                self.accepted.increment(1);
                TOTALS.accepted();
                // Whoever was quick enough to ask for it had it read from the store.
                if self.in_charge(&terms.key).is_none() {
                    let (life, revision) = beginning.stored(state);
                    let loaded = Loaded {
                        terms,
                        life,
                        revision,
                        incarnation: Incarnation::default(),
                        owner: self.runtime.persistence.node(),
                    };
                    let fresh = Box::new(Fresh { task, beginning });
                    self.start_actor(loaded, Start::Fresh(fresh), context.address());
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
        let Begin { mut accept, reply } = begin;
        if self.registry.actors.len().saturating_add(self.beginning) >= self.max_live {
            metrics::counter!("baton_delegations_refused_total", "limit" => "max_live")
                .increment(1);
            TOTALS.shed();
            let refusal = Error::Overloaded {
                limit: "BATON_MAX_LIVE",
                retry_after: Duration::from_secs(5),
            };
            return drop(reply.send(Err(refusal)));
        }
        self.beginning = self.beginning.saturating_add(1);
        count(Effect::Acceptance, Progress::Attempted, 1);
        let beginning = self.runtime.prepare(&mut accept);
        let delegation = accept.delegation.clone();
        if beginning.sending.is_some() {
            self.unsent.insert(delegation.terms.key.clone());
        }
        let write = Write::Accept(accept);
        let supervisor = context.address();
        let acknowledge = move |result| {
            supervisor.do_send(Begun {
                delegation,
                beginning,
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
            beginning,
            result,
            reply,
        } = begun;
        let unsent = self.unsent.take(&delegation.terms.key);
        let answer = match result {
            Ok(written) => self.begun(delegation, beginning, written, context),
            Err(error) => {
                drop(beginning);
                if let (Some(key), persistence::Error::Unavailable { .. }) = (&unsent, &error) {
                    let deadline = delegation.terms.deadline;
                    self.in_doubt.insert(key.clone(), deadline);
                }
                Err(error.into())
            }
        };
        if let Some(key) = unsent {
            self.catch_up(key, context);
        }
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
