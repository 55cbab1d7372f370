//! What each workload asks of a server, and how its answers count.

mod mixed;
mod recorded;

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::time::Instant;
use uuid::Uuid;

use super::http::{Answer, Call, Connection, member};
use super::load::{Extent, Load, Pace, Source, Tally, Task, drive};
use super::rig::{EVERYTHING, Rig, Seat};
use super::sight::{Seen, Sight, watch};
use crate::config::{AgentKind, BenchOptions, Reader, WorkloadName};
use mixed::Mixed;
use recorded::{Recorded, Records, Updates};

/// A workload on one server.
pub(super) enum Workload {
    Update(Recorded),
    Record(Recorded),
    Delegate(Delegating),
    Ask(Asking),
    Mixed(Box<Mixed>),
}

impl Workload {
    pub(super) async fn begin(
        name: WorkloadName,
        rig: Rc<Rig>,
        sight: &Rc<Sight>,
        options: &BenchOptions,
    ) -> anyhow::Result<Self> {
        let watched = Some(Rc::clone(sight));
        let listeners = options.sockets.div_ceil(options.workspaces).max(1);
        match name {
            WorkloadName::Delegate | WorkloadName::Mixed | WorkloadName::Overload => {
                watch(&rig, sight, options.reader, 1).await?;
            }
            WorkloadName::Longpoll => watch(&rig, sight, Reader::Inbox, 1).await?,
            WorkloadName::Sockets => watch(&rig, sight, Reader::Events, listeners).await?,
            _ => {}
        }
        Ok(match name {
            WorkloadName::Record => Self::Record(Recorded::new(rig, None)),
            WorkloadName::Longpoll | WorkloadName::Sockets => {
                Self::Update(Recorded::new(rig, watched))
            }
            WorkloadName::Delegate | WorkloadName::Overload => {
                let answers = options.agent != AgentKind::Silent;
                Self::Delegate(Delegating::new(rig, Rc::clone(sight), answers))
            }
            WorkloadName::Waiting | WorkloadName::Queued => {
                Self::Delegate(Delegating::new(rig, Rc::clone(sight), false))
            }
            WorkloadName::Poll => Self::Ask(Asking::of_feeds(rig).await?),
            WorkloadName::Inbox => Self::Ask(Asking::of_inboxes(rig).await?),
            WorkloadName::Mixed => {
                let answers = options.agent != AgentKind::Silent;
                Self::Mixed(Box::new(Mixed::new(&rig, sight, answers).await?))
            }
            WorkloadName::Update | WorkloadName::Watchers | WorkloadName::Idle => {
                Self::Update(Recorded::new(rig, None))
            }
        })
    }

    /// Does what has to be done before a run like this, unmeasured.
    pub(super) async fn prepare(&self, load: Load) -> anyhow::Result<()> {
        match self {
            Self::Update(recorded) => recorded.stock_up(load).await,
            _ => Ok(()),
        }
    }

    pub(super) async fn run(&self, load: Load) -> anyhow::Result<Tally> {
        match self {
            Self::Update(recorded) => drive(&Updates(recorded), load).await,
            Self::Record(recorded) => drive(&Records(recorded), load).await,
            Self::Delegate(delegating) => drive(delegating, load).await,
            Self::Ask(asking) => drive(asking, load).await,
            Self::Mixed(mixed) => drive(&**mixed, load).await,
        }
    }

    /// Waits for what the run set off; belongs to what is measured.
    pub(super) async fn settle(&self) -> anyhow::Result<Option<Seen>> {
        let sight = match self {
            Self::Update(recorded) => recorded.sight.as_ref(),
            Self::Delegate(delegating) => delegating.awaited(),
            Self::Mixed(mixed) => mixed.delegating.awaited(),
            Self::Record(_) | Self::Ask(_) => None,
        };
        match sight {
            Some(sight) => sight.settled().await.map(Some),
            None => Ok(None),
        }
    }

    /// Leaves nothing live behind, unmeasured.
    pub(super) async fn clear(&self) -> anyhow::Result<()> {
        match self {
            Self::Record(recorded) | Self::Update(recorded) => recorded.end_all().await,
            Self::Mixed(mixed) => mixed.recorded.end_all().await,
            Self::Delegate(_) | Self::Ask(_) => Ok(()),
        }
    }
}

/// Delegations from request to visible reply.
pub(super) struct Delegating {
    rig: Rc<Rig>,
    sight: Rc<Sight>,
    answers: bool,
    turn: Cell<usize>,
    bodies: Vec<Bytes>,
}

impl Delegating {
    fn new(rig: Rc<Rig>, sight: Rc<Sight>, answers: bool) -> Self {
        let text = "x".repeat(200);
        let body = |target: &String| {
            json!({"target_id": target, "task": text})
                .to_string()
                .into()
        };
        Self {
            bodies: rig.targets.iter().map(body).collect(),
            rig,
            sight,
            answers,
            turn: Cell::new(0),
        }
    }
}

impl Delegating {
    /// Where replies are seen, if there are to be any.
    fn awaited(&self) -> Option<&Rc<Sight>> {
        self.answers.then_some(&self.sight)
    }
}

impl Source for Delegating {
    type Tag = usize;

    fn next(&self) -> anyhow::Result<Option<Task<usize>>> {
        let turn = self.turn.replace(self.turn.get() + 1);
        let (number, seat) = self.rig.seat(turn)?;
        let body = turn
            .checked_rem(self.bodies.len())
            .and_then(|index| self.bodies.get(index));
        let body = body.context("there are targets")?.clone();
        let path = format!("/workspaces/{}/delegate", seat.id);
        Ok(Some(Task {
            call: Call::post(path, &seat.token, body)?,
            tag: number,
        }))
    }

    fn answered(&self, seat: usize, begun: Instant, answer: Option<&Answer>) {
        if !self.answers {
            return;
        }
        self.rig.enter(seat, answer);
        if let Some(answer) = answer.filter(|answer| answer.is_success())
            && let Ok(text) = std::str::from_utf8(&answer.body)
            && let Some(id) = member(text, "\"delegation_id\":")
            && let Ok(id) = Uuid::try_parse(id)
        {
            self.sight.begun(id, begun);
        }
    }
}

/// The same question of each workspace in turn.
pub(super) struct Asking {
    calls: Vec<Call>,
    turn: Cell<usize>,
}

impl Asking {
    /// Feeds with one message, asked for what came after it.
    async fn of_feeds(rig: Rc<Rig>) -> anyhow::Result<Self> {
        let mut calls = Vec::new();
        let mut connection = Connection::to(rig.server.address);
        for (number, seat) in rig.seats.iter().enumerate() {
            end_one(&rig, number, &mut connection).await?;
            let path = format!("/workspaces/{}/activity?type=a2a_receive", seat.id);
            let newest = Call::get(format!("{path}&limit=1"), &seat.token)?;
            let rows = connection.ask(&newest).await?;
            let id = rows.pointer("/0/id").and_then(Value::as_str);
            let id = id.context("a message in the feed")?;
            calls.push(Call::get(format!("{path}&since_id={id}"), &seat.token)?);
        }
        Ok(Self {
            calls,
            turn: Cell::new(0),
        })
    }

    /// The newest delegations.
    fn of_lists(rig: &Rig) -> anyhow::Result<Self> {
        let list = |seat: &Seat| {
            let path = format!("/workspaces/{}/delegations?limit=20", seat.id);
            Call::get(path, &seat.token)
        };
        Ok(Self {
            calls: rig.seats.iter().map(list).collect::<Result<_, _>>()?,
            turn: Cell::new(0),
        })
    }

    /// Inboxes with nothing that is not acknowledged.
    async fn of_inboxes(rig: Rc<Rig>) -> anyhow::Result<Self> {
        let mut calls = Vec::new();
        let mut connection = Connection::to(rig.server.address);
        for (number, seat) in rig.seats.iter().enumerate() {
            end_one(&rig, number, &mut connection).await?;
            let path = format!("/workspaces/{}/activity/ack", seat.id);
            connection
                .ask(&Call::post(path, &seat.token, EVERYTHING)?)
                .await?;
            calls.push(Call::get(
                format!("/workspaces/{}/inbox", seat.id),
                &seat.token,
            )?);
        }
        Ok(Self {
            calls,
            turn: Cell::new(0),
        })
    }
}

/// Puts a reply into an inbox: the ending of a delegation that was never recorded is taken, too.
pub(super) async fn end_one(
    rig: &Rig,
    number: usize,
    connection: &mut Connection,
) -> anyhow::Result<()> {
    let (_, seat) = rig.seat(number)?;
    let path = format!(
        "/workspaces/{}/delegations/{}/update",
        seat.id,
        Uuid::new_v4()
    );
    let body = r#"{"status":"completed","response_preview":"x"}"#;
    let answer = connection
        .send(&Call::post(path, &seat.token, body)?)
        .await?;
    anyhow::ensure!(answer.is_success(), "an update answered {}", answer.status);
    rig.enter(number, Some(&answer));
    Ok(())
}

impl Source for Asking {
    type Tag = ();

    fn next(&self) -> anyhow::Result<Option<Task<()>>> {
        let turn = self.turn.replace(self.turn.get() + 1);
        let call = turn
            .checked_rem(self.calls.len())
            .and_then(|index| self.calls.get(index));
        Ok(call.cloned().map(|call| Task { call, tag: () }))
    }

    fn answered(&self, (): (), _begun: Instant, _answer: Option<&Answer>) {}
}

/// How a run of this load is driven.
pub(super) fn load(rig: &Rig, options: &BenchOptions, extent: Extent) -> Load {
    Load {
        address: rig.server.address,
        clients: options.clients,
        pace: options.rate.map_or(Pace::Closed, Pace::Open),
        extent,
    }
}

/// How long a run lasts.
pub(super) fn extent(options: &BenchOptions) -> Extent {
    match options.count {
        Some(count) => Extent::Count(count.into()),
        None => Extent::For(options.duration),
    }
}

/// How long the load goes on before it is measured: no longer than what is measured, if that is a number of requests.
pub(super) fn warmup(options: &BenchOptions) -> Option<Extent> {
    match options.count {
        _ if options.warmup == Duration::ZERO => None,
        Some(count) => Some(Extent::Count(u64::from(count / 4).max(1))),
        None => Some(Extent::For(options.warmup)),
    }
}
