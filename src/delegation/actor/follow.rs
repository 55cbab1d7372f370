//! Following what the target works on: asking after its task, and looking whether it is silent.

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;

use super::DelegationActor;
use crate::clock;
use crate::domain::{Event, Origin, RemoteTaskId, State, Timestamp};

/// The longest wait between two questions after a task.
const ASK_CAP: Duration = Duration::from_secs(30);

/// The longest that an alarm sleeps: the clock on the wall, which deadlines go by, may be set forward meanwhile.
const LOOK_AHEAD: Duration = Duration::from_mins(1);

/// The questions after one task, since something was last learned.
#[derive(Debug)]
pub(super) struct Follow {
    task: RemoteTaskId,
    /// How many were asked.
    asked: u32,
    /// The next one, or the one under way.
    next: SpawnHandle,
    is_asking: bool,
    /// Whether there was news while it was asked.
    is_hinted: bool,
    /// When it was asked last, or learned of.
    at: Timestamp,
}

impl DelegationActor {
    /// Asks after the target's task, now and then, as long as it works. While a call tells of it, only when that has been
    /// silent for long.
    pub(super) fn follow(&mut self, context: &mut Context<Self>) {
        let wanted = match &self.life.state {
            State::Working(_) | State::Stuck(_) | State::InputRequired(_)
                if self.terms.origin == Origin::Delegated && !self.is_guest =>
            {
                self.life.task().cloned()
            }
            State::Pending
            | State::Queued(_)
            | State::Working(_)
            | State::Stuck(_)
            | State::InputRequired(_)
            | State::Ended(_) => None,
        };
        let current = self.follow.as_ref().map(|follow| &follow.task);
        if current == wanted.as_ref() {
            return;
        }
        if let Some(follow) = self.follow.take() {
            context.cancel_future(follow.next);
        }
        if let Some(task) = wanted {
            // What was left behind may have long been over.
            let delay = if self.took_over {
                self.runtime.policy.retry.base.mul_f64(rand::random())
            } else {
                self.ask_delay(1)
            };
            let next = ask_in(delay, context);
            self.follow = Some(Follow {
                task,
                asked: 0,
                next,
                is_asking: false,
                is_hinted: false,
                at: clock::now(),
            });
        }
    }

    fn ask_delay(&self, asked: u32) -> Duration {
        let delay = self.runtime.policy.retry.delay(asked, rand::random());
        // A question is for a person: nobody hurries.
        if let State::InputRequired(_) = self.life.state {
            ASK_CAP
        } else {
            delay.min(ASK_CAP)
        }
    }

    fn ask(&mut self, context: &mut Context<Self>) {
        let Some(follow) = &mut self.follow else {
            return;
        };
        follow.asked = follow.asked.saturating_add(1);
        let (task, attempt) = (follow.task.clone(), self.life.attempt);
        if self.is_told() {
            return self.ask_again(None, context);
        }
        let (runtime, terms) = (Arc::clone(&self.runtime), Arc::clone(&self.terms));
        let asking = async move { runtime.ask(&terms, task).await };
        let asking = asking.into_actor(self).map(move |asked, actor, context| {
            actor.ask_again(asked.retry_after, context);
            let event = Event::Asked {
                attempt,
                outcome: asked.outcome,
                target_deduplicates: asked.target_deduplicates,
            };
            actor.learn_from(event, asked.raw, context);
        });
        let under_way = context.spawn(asking);
        if let Some(follow) = &mut self.follow {
            follow.next = under_way;
            follow.is_asking = true;
            follow.at = clock::now();
        }
    }

    /// The target says that there is news: it is asked now, or once more when it has answered. However often it says so,
    /// there is one question at a time.
    pub(super) fn hinted(&mut self, context: &mut Context<Self>) {
        let Some(follow) = &mut self.follow else {
            return;
        };
        if follow.is_asking {
            follow.is_hinted = true;
        } else {
            follow.asked = 0;
            context.cancel_future(follow.next);
            self.ask(context);
        }
    }

    /// Whether a call tells of the task, and it was heard of lately; or is on its way with the caller's answer.
    fn is_told(&self) -> bool {
        let (heard_at, answers) = match &self.life.state {
            State::Working(working) | State::Stuck(working) => {
                (working.heard_at, working.input.is_some())
            }
            State::Pending | State::Queued(_) | State::InputRequired(_) | State::Ended(_) => {
                (Timestamp::default(), false)
            }
        };
        let asked_at = self.follow.as_ref().map(|follow| follow.at);
        let heard_at = heard_at.max(asked_at.unwrap_or_default());
        let lately = clock::now() < heard_at.plus(ASK_CAP);
        (lately || answers) && self.runtime.is_calling(&self.terms.key, self.life.attempt)
    }

    /// A call that told of the task is over, and the task is not: it is asked after as if it had just been learned of.
    pub(super) fn follow_anew(&mut self, context: &mut Context<Self>) {
        match &mut self.follow {
            // A question that is under way is as good.
            Some(follow) if follow.is_asking => follow.asked = 0,
            _ => {
                if let Some(follow) = self.follow.take() {
                    context.cancel_future(follow.next);
                }
                self.follow(context);
            }
        }
    }

    fn ask_again(&mut self, retry_after: Option<Duration>, context: &mut Context<Self>) {
        let asked = self.follow.as_ref().map_or(1, |follow| follow.asked);
        let delay = self.ask_delay(asked.saturating_add(1));
        // A target that names a time is given it, within bounds.
        let delay = retry_after.map_or(delay, |asked_for| {
            delay.max(asked_for.min(ASK_CAP.saturating_mul(10)))
        });
        let Some(follow) = &mut self.follow else {
            return;
        };
        follow.is_asking = false;
        let is_hinted = std::mem::take(&mut follow.is_hinted);
        let delay = if is_hinted { Duration::ZERO } else { delay };
        follow.next = ask_in(delay, context);
    }

    /// Its silence may be over, or may have lasted too long: the target's own workspace may have heard of it since.
    pub(super) fn look_at_silence(&mut self, context: &mut Context<Self>) {
        let (runtime, terms) = (Arc::clone(&self.runtime), Arc::clone(&self.terms));
        let look = async move { runtime.target_heard_at(&terms).await };
        context.spawn(
            look.into_actor(self)
                .map(|target_heard_at, actor, context| {
                    actor.learn(Event::Elapsed { target_heard_at }, context);
                }),
        );
    }

    /// One alarm for whatever time alone changes.
    pub(super) fn arm(&mut self, context: &mut Context<Self>) {
        let due = if self.is_guest { None } else { self.next_due() };
        if self.alarm.as_ref().map(|(at, _)| *at) == due {
            return;
        }
        if let Some((_, alarm)) = self.alarm.take() {
            context.cancel_future(alarm);
        }
        let Some(at) = due else { return };
        let delay = at.since(clock::now()).min(LOOK_AHEAD);
        let alarm = context.run_later(delay, Self::alarmed);
        self.alarm = Some((at, alarm));
    }

    fn alarmed(&mut self, context: &mut Context<Self>) {
        if let Some((at, _)) = self.alarm.take()
            && at > clock::now()
        {
            return self.arm(context);
        }
        if clock::now() < self.terms.deadline && self.terms.target.is_some() {
            return self.look_at_silence(context);
        }
        let target_heard_at: Option<Timestamp> = None;
        self.learn(Event::Elapsed { target_heard_at }, context);
    }
}

fn ask_in(delay: Duration, context: &mut Context<DelegationActor>) -> SpawnHandle {
    context.run_later(delay, DelegationActor::ask)
}
