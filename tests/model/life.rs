//! The life of one delegation: the real `transition`, told everything that the world can say, in every order.
//!
//! Time, attempts and calls are few. The world is honest: what was refused was not taken, what answers was. Only the
//! hearing of it is not: outcomes get lost with the process, and are heard twice.

use std::sync::Arc;
use std::time::Duration;

use baton::domain::*;

use crate::checker::{Model, Move};

const START: Timestamp = Timestamp(1_000_000_000);
const TICK: Duration = Duration::from_secs(40);
/// The deadline, in ticks.
const END: u8 = 2;

/// What was agreed, and what the target is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Scenario {
    /// A target that does not deduplicate.
    Plain,
    /// One that does.
    Deduplicates,
    /// One that does, and must not be given it again all the same.
    Never,
    /// A plain one that may be given it again.
    Always,
}

impl Scenario {
    pub(crate) const ALL: [Self; 4] = [Self::Plain, Self::Deduplicates, Self::Never, Self::Always];

    const fn redelivery(self) -> Redelivery {
        match self {
            Self::Plain | Self::Deduplicates => Redelivery::IfIdempotent,
            Self::Never => Redelivery::Never,
            Self::Always => Redelivery::Always,
        }
    }

    const fn deduplicates(self) -> bool {
        matches!(self, Self::Deduplicates | Self::Never)
    }

    /// One more than it takes to break the promise; where the target may be given it again, each makes many more.
    const fn attempts(self) -> u32 {
        if self.once() { 3 } else { 2 }
    }

    const fn once(self) -> bool {
        matches!(self, Self::Plain | Self::Never)
    }
}

/// A rule that is left out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Broken {
    Nothing,
    LastEndingWins,
    AcknowledgementCompletes,
    ResendsBlindly,
    /// What is heard again, of a call that is over, counts as news.
    EchoesCount,
    NoDeadline,
}

/// A request on its way, and what came of it.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Call {
    attempt: Attempt,
    is_input: bool,
    taken: bool,
    /// The outcome, once it was heard.
    heard: Option<&'static str>,
}

#[derive(Clone, PartialEq, Debug)]
pub(crate) struct World {
    life: Life,
    ticks: u8,
    calls: Vec<Call>,
    /// How often the target took the task, 2 for more.
    taken: u8,
}

pub(crate) struct Lives {
    pub(crate) scenario: Scenario,
    pub(crate) broken: Broken,
}

fn text(text: &str) -> Arc<str> {
    text.into()
}

const OUTCOMES: [&str; 9] = [
    "answered",
    "refused",
    "not delivered",
    "unknown",
    "busy",
    "queued",
    "working",
    "asks",
    "asks without a task",
];

impl Lives {
    fn outcome(&self, name: &str) -> Outcome {
        let task = Some(RemoteTaskId("t".into()));
        let asks = || WorkPhase::InputRequired { text: text("?") };
        match name {
            "answered" => Outcome::Answered { text: text("done") },
            "refused" => {
                let (class, detail) = (ErrorClass::Refused, text("no"));
                Outcome::Refused { class, detail }
            }
            "not delivered" => Outcome::NotDelivered {
                detail: text("refused"),
            },
            "busy" => Outcome::Busy { retry_after: None },
            "queued" => Outcome::TargetQueued,
            "working" => Outcome::NonFinal {
                task,
                phase: WorkPhase::Working,
            },
            "asks" => Outcome::NonFinal {
                task,
                phase: asks(),
            },
            "asks without a task" => Outcome::NonFinal {
                task: None,
                phase: asks(),
            },
            _ => Outcome::DeliveredUnknown {
                class: ErrorClass::OutcomeUnknown,
                detail: text("cut"),
                target_deduplicates: self.believes_in_deduplication(),
            },
        }
    }

    fn believes_in_deduplication(&self) -> bool {
        self.scenario.deduplicates() || self.broken == Broken::ResendsBlindly
    }

    fn terms() -> Terms {
        Terms {
            key: DelegationKey {
                caller: WorkspaceId(uuid::Uuid::nil()),
                id: DelegationId::Text("d".into()),
            },
            target: Some(WorkspaceId(uuid::Uuid::nil())),
            origin: Origin::Delegated,
            redelivery: Redelivery::IfIdempotent,
            priority: Priority::default(),
            deadline: START.plus(TICK * u32::from(END)),
            created_at: START,
            traceparent: None,
        }
    }

    fn policy() -> Policy {
        Policy {
            retry: RetryPolicy::default(),
            give_up_after: Duration::from_mins(1),
            stuck_after: Duration::from_secs(30),
        }
    }

    fn decide(&self, world: &World, event: &Event) -> Decision {
        let terms = Terms {
            redelivery: self.scenario.redelivery(),
            ..Self::terms()
        };
        let now = START.plus(TICK * u32::from(world.ticks));
        let moment = Moment {
            now,
            dice: 0.5,
            hearing_since: START,
        };
        let event = match event {
            Event::Called {
                attempt,
                outcome: Outcome::Busy { .. },
            } if self.broken == Broken::AcknowledgementCompletes => {
                let outcome = Outcome::Answered { text: text("busy") };
                &Event::Called {
                    attempt: *attempt,
                    outcome,
                }
            }
            Event::Elapsed { .. } if self.broken == Broken::NoDeadline => {
                return Decision::Ignored(Ignored::NotDue);
            }
            event => event,
        };
        let decision = transition(&Self::policy(), &terms, &world.life, event, moment);
        match (&decision, event) {
            (Decision::Settled(Settled::Contradiction(_)), Event::Reported(_))
                if self.broken == Broken::LastEndingWins =>
            {
                let reborn = Life {
                    state: State::Pending,
                    ..world.life.clone()
                };
                transition(&Self::policy(), &terms, &reborn, event, moment)
            }
            // As it was before the simulation found it.
            (Decision::Ignored(Ignored::NothingNew), Event::Called { .. })
                if self.broken == Broken::EchoesCount =>
            {
                let state = State::Working(Working::dispatched(now));
                let silent = Life {
                    state,
                    ..world.life.clone()
                };
                transition(&Self::policy(), &terms, &silent, event, moment)
            }
            _ => decision,
        }
    }

    /// Where an event leads: a request that is sent is taken, or not.
    fn after(&self, world: &World, event: &Event) -> Vec<World> {
        let Decision::Advance(step) = self.decide(world, event) else {
            return vec![world.clone()];
        };
        let moved = World {
            life: step.life,
            ..world.clone()
        };
        let (attempt, is_input) = match step.effect {
            Some(Effect::Send { attempt }) => (attempt, false),
            Some(Effect::Continue { attempt, .. }) => (attempt, true),
            Some(Effect::CancelRemote { .. }) | None => return vec![moved],
        };
        let sent = |taken: bool| {
            let mut to = moved.clone();
            to.calls.push(Call {
                attempt,
                is_input,
                taken,
                heard: None,
            });
            to.taken = (to.taken + u8::from(taken && !is_input)).min(2);
            to
        };
        vec![sent(true), sent(false)]
    }

    /// What is said of a call: of one that was not taken, that it failed; of one that was, anything but that.
    fn words(call: &Call) -> Vec<&'static str> {
        if let Some(heard) = call.heard {
            return vec![heard];
        }
        let failed = ["not delivered", "unknown", "busy"];
        let outcomes = OUTCOMES.into_iter();
        let outcomes = outcomes
            .filter(|outcome| *outcome == "unknown" || failed.contains(outcome) != call.taken);
        outcomes.collect()
    }

    fn heard(&self, world: &World, moves: &mut Vec<Move<World>>) {
        for (place, call) in world.calls.iter().enumerate() {
            for word in Self::words(call) {
                let outcome = self.outcome(word);
                let event = Event::Called {
                    attempt: call.attempt,
                    outcome,
                };
                let mut from = world.clone();
                from.calls[place].heard = Some(word);
                let name = format!("call {}: {word}", call.attempt);
                for to in self.after(&from, &event) {
                    moves.push(Move {
                        name: name.clone(),
                        to,
                        inevitable: false,
                    });
                }
            }
        }
    }

    /// What anybody may say, by name.
    fn events(&self, world: &World) -> Vec<(&'static str, Event)> {
        let attempt = world.life.attempt;
        let mut events = vec![
            ("target busy", Event::TargetUnready(Unready::Busy)),
            ("target removed", Event::TargetUnready(Unready::Removed)),
            (
                "reported completed",
                Event::Reported(Report::Completed { text: text("done") }),
            ),
            (
                "reported failed",
                Event::Reported(Report::Failed { detail: text("no") }),
            ),
            ("cancelled", Event::Cancelled { reason: text("") }),
            (
                "dropped",
                Event::Dropped {
                    detail: text("stale"),
                },
            ),
            (
                "abandoned",
                Event::Abandoned {
                    detail: text("broken"),
                },
            ),
            ("fetched", Event::Fetched),
            (
                "caller beats",
                Event::Heard {
                    by_target: false,
                    progress: Progress::default(),
                },
            ),
        ];
        if attempt.0 < self.scenario.attempts() {
            events.push(("granted", Event::SlotGranted));
            if world.taken == 0 {
                events.push(("polls", Event::TargetUnready(Unready::Polls)));
            }
        }
        if attempt.0 < 2 {
            let answer = Said::words("this");
            events.push(("input", Event::InputGiven { answer }));
        }
        if world.taken > 0 {
            let progress = Progress::default();
            events.push((
                "target beats",
                Event::Heard {
                    by_target: true,
                    progress,
                },
            ));
        }
        events.extend(self.answers_about_the_task(world));
        events
    }

    /// What the target may say when it is asked for its task.
    fn answers_about_the_task(&self, world: &World) -> Vec<(&'static str, Event)> {
        if world.life.task().is_none() {
            return Vec::new();
        }
        let asked = |outcome| Event::Asked {
            attempt: world.life.attempt,
            outcome,
            target_deduplicates: self.believes_in_deduplication(),
        };
        let told = |name| asked(AskOutcome::Told(self.outcome(name)));
        let detail = text("?");
        vec![
            ("asked: answered", told("answered")),
            ("asked: working", told("working")),
            ("asked: asks", told("asks")),
            (
                "asked: no such task",
                asked(AskOutcome::NoSuchTask { detail }),
            ),
        ]
    }
}

impl Model for Lives {
    type State = World;
    type Key = String;

    /// Of what has ended only the ending matters, and whether an answer is still to come.
    fn key(&self, world: &World) -> String {
        let State::Ended(ended) = &world.life.state else {
            return format!("{world:?}");
        };
        let answer_to_come = world
            .calls
            .iter()
            .any(|call| call.taken && call.heard.is_none());
        let late = ended.late.is_some();
        format!("{:?} {late} {answer_to_come}", ended.ending)
    }

    fn initial(&self) -> World {
        let life = Life::new(State::Pending);
        World {
            life,
            ticks: 0,
            calls: Vec::new(),
            taken: 0,
        }
    }

    fn moves(&self, world: &World) -> Vec<Move<World>> {
        let mut moves = Vec::new();
        if world.ticks < END {
            let mut to = world.clone();
            to.ticks += 1;
            moves.push(Move {
                name: "tick".to_owned(),
                to,
                inevitable: true,
            });
        }
        let elapsed = Event::Elapsed {
            target_heard_at: None,
        };
        let mut tell = |name: &str, from: &World, event: &Event, inevitable: bool| {
            for to in self.after(from, event) {
                moves.push(Move {
                    name: name.to_owned(),
                    to,
                    inevitable,
                });
            }
        };
        tell("elapsed", world, &elapsed, true);
        for (name, event) in self.events(world) {
            tell(name, world, &event, false);
        }
        // The process dies, and all that it waited for; or only an actor does.
        let in_flight = world.calls.iter();
        let call_in_flight = in_flight
            .clone()
            .any(|call| call.heard.is_none() && call.attempt == world.life.attempt);
        let target_deduplicates = self.believes_in_deduplication();
        let reborn = World {
            calls: Vec::new(),
            ..world.clone()
        };
        for (name, from, call_in_flight) in [
            ("process dies", &reborn, false),
            ("actor dies", world, call_in_flight),
        ] {
            let event = Event::Restored {
                call_in_flight,
                target_deduplicates,
            };
            tell(name, from, &event, false);
        }
        self.heard(world, &mut moves);
        moves
    }

    fn check(&self, from: &World, by: &Move<World>) -> Result<(), String> {
        let to = &by.to;
        let ending = |world: &World| match &world.life.state {
            State::Ended(ended) => Some(ended.ending.clone()),
            _ => None,
        };
        let (before, after) = (ending(from), ending(to));
        if before.is_some() && before != after {
            return Err("the first ending was replaced".to_owned());
        }
        let completes = matches!(after, Some(Ending::Completed { .. })) && before.is_none();
        let answered = ["answered", "reported completed"];
        if completes && !answered.iter().any(|word| by.name.ends_with(word)) {
            return Err("completed without an answer".to_owned());
        }
        if to.taken > 1 && self.scenario.once() {
            return Err("given to the target twice".to_owned());
        }
        if to.life.attempt < from.life.attempt {
            return Err("an older attempt came back".to_owned());
        }
        let due = next_due(&Self::policy(), &Self::terms(), &to.life, START);
        if after.is_none() && due.is_none_or(|due| due > Self::terms().deadline) {
            return Err("it waits without an end".to_owned());
        }
        Ok(())
    }

    fn is_goal(&self, world: &World) -> bool {
        matches!(world.life.state, State::Ended(_))
    }
}
