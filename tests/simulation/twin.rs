//! The model of the store is the real one: the same writes, drawn at random, mean the same to both.

use std::sync::Arc;
use std::time::Duration;

use baton::domain::*;
use baton::store::*;
use diesel::connection::SimpleConnection as _;
use diesel::{Connection as _, SqliteConnection};

use crate::Flaw;
use crate::dice::Dice;
use crate::store::ModelStore;

const SEQUENCES: u64 = 300;
const BATCHES: u64 = 8;

/// Both stores, and what was written so far in one sequence.
struct Twins {
    dice: Dice,
    real: Store,
    writer: Box<dyn Writer>,
    model: ModelStore,
    node: NodeId,
    runtime: tokio::runtime::Runtime,
    /// Beside the real writer, for the trigger that refuses.
    connection: SqliteConnection,
    now: Timestamp,
    caller: WorkspaceId,
    known: Vec<NewDelegation>,
    written: Vec<Write>,
    _directory: tempfile::TempDir,
}

impl Twins {
    fn open() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("baton.db");
        let url = format!("sqlite://{}", path.display());
        let (real, lease, writer) = open(&url);
        let mut model = ModelStore::new(Flaw::None);
        let node = lease.node();
        model.join(node, Timestamp(0), Duration::MAX);
        Self {
            dice: Dice::new(7),
            real,
            writer,
            model,
            node,
            runtime: tokio::runtime::Runtime::new().unwrap(),
            connection: SqliteConnection::establish(&path.display().to_string()).unwrap(),
            now: crate::world::START,
            caller: WorkspaceId::mint(),
            known: Vec::new(),
            written: Vec::new(),
            _directory: directory,
        }
    }

    /// Somebody else calls: with a workspace, for the audit passes over callers that were purged.
    fn begin_sequence(&mut self) {
        let at = self.tick();
        let id = WorkspaceId::mint();
        let workspace = Workspace {
            id,
            name: "caller".to_owned(),
            role: None,
            tier: 1,
            status: WorkspaceStatus::Online,
            agent_card: None,
            url: None,
            credentials: None,
            parent: None,
            runtime: "external".to_owned(),
            delivery_mode: DeliveryMode::Push,
            max_concurrent_tasks: 1,
            can_delegate: true,
            last_heartbeat_at: None,
            last_error_rate: 0.0,
            last_sample_error: None,
            active_tasks: 0,
            uptime_seconds: 0,
            current_task: None,
            monthly_spend: 0,
            x: 0.0,
            y: 0.0,
            collapsed: false,
            last_outbound_at: None,
            created_at: at,
            updated_at: at,
        };
        let (workspace, token, events) = (Box::new(workspace), None, Vec::new());
        let write = Write::CreateWorkspace {
            workspace,
            token,
            events,
        };
        self.writer.commit(&[write]).unwrap();
        self.caller = id;
        self.known.clear();
        self.written.clear();
    }

    fn tick(&mut self) -> Timestamp {
        self.now = self.now.plus(Duration::from_millis(1));
        self.now
    }

    fn new_delegation(&mut self) -> NewDelegation {
        let created_at = self.tick();
        let key = self.dice.pick(&[None, Some("a"), Some("a"), Some("b")]);
        let fingerprint = self.dice.pick(&[1, 1, 1, 2]);
        let delegation = NewDelegation {
            terms: Terms {
                key: DelegationKey {
                    caller: self.caller,
                    id: DelegationId::mint(),
                },
                target: Some(WorkspaceId::mint()),
                origin: self
                    .dice
                    .pick(&[Origin::Delegated, Origin::Recorded, Origin::Adopted]),
                redelivery: Redelivery::default(),
                priority: Priority::default(),
                deadline: created_at.plus(Duration::from_hours(1)),
                created_at,
                traceparent: None,
            },
            task: "the task".into(),
            idempotency: key.map(|key| Idempotency {
                key: key.into(),
                fingerprint: [fingerprint; 32],
            }),
            state: State::Pending,
            retry_of: self.dice.chance(10).then(DelegationId::mint),
            parent: None,
            envelope: None,
        };
        self.known.push(delegation.clone());
        delegation
    }

    fn some_known(&mut self) -> Option<NewDelegation> {
        let place = self.dice.place(self.known.len());
        self.known.get(place).cloned()
    }

    fn some_write(&mut self) -> Write {
        match self.dice.below(10) {
            0 => begin(self.new_delegation()),
            1 => {
                let delegation = self.new_delegation();
                begin_sent(delegation, self.tick())
            }
            2 if let Some(mut again) = self.some_known() => {
                if self.dice.chance(30) {
                    again.terms.deadline = again.terms.deadline.plus(Duration::from_secs(1));
                }
                begin(again)
            }
            3 if !self.written.is_empty() => {
                let place = self.dice.place(self.written.len());
                self.written[place].clone()
            }
            4 => {
                let above = self.dice.below(20);
                let last = self.model.last.0 - 10;
                let upto = Position(last.saturating_add_unsigned(above));
                Write::Acknowledge {
                    workspace: self.caller,
                    upto,
                }
            }
            5 if let Some(NewDelegation { terms, .. }) = self.some_known() => {
                let ending = Ending::Completed {
                    text: "owed".into(),
                };
                let reply = Box::new(reply_row(&terms, &ending, self.now));
                Write::DeliverOwed {
                    key: terms.key,
                    reply,
                }
            }
            _ => match self.some_known() {
                Some(delegation) => self.advance(&delegation.terms),
                None => begin(self.new_delegation()),
            },
        }
    }

    /// Mostly the change that is due; else one by somebody whose knowledge is old, or from the future.
    fn advance(&mut self, terms: &Terms) -> Write {
        let at = self.tick();
        let stored = self.model.delegations.get(&terms.key);
        let revision = stored.map_or(Revision(1), |stored| stored.revision);
        let incarnation = stored.map_or(Incarnation(0), |stored| stored.incarnation);
        let off = self.dice.pick(&[0, 0, 0, 0, -1, 1]);
        let life = self.some_life(at);
        let advance = Arc::new(Advance {
            key: terms.key.clone(),
            revision: Revision(revision.0 + 1 + off),
            incarnation: Incarnation(incarnation.0.saturating_add(self.dice.pick(&[0, 0, 0, 1])))
                .min(Incarnation(incarnation.0 + 1)),
            // What a careless actor would show.
            feed: advanced_feed(terms, &Life::new(State::Pending), &life, true, at),
            life,
            at,
            raw_reply: None,
            told: true,
        });
        if self.dice.chance(20) {
            Write::Visit(advance)
        } else {
            Write::Advance(advance)
        }
    }

    fn some_life(&mut self, at: Timestamp) -> Life {
        let ended = |ending| {
            State::Ended(Box::new(Ended {
                ending,
                at,
                late: None,
            }))
        };
        let state = match self.dice.below(6) {
            0 => State::Working(Working::dispatched(at)),
            1 => {
                let (waiting_for, until, trouble) = (WaitingFor::Busy, at, None);
                State::Queued(Wait {
                    waiting_for,
                    until,
                    trouble,
                })
            }
            2 => ended(Ending::Completed {
                text: "done".into(),
            }),
            3 | 4 => {
                let (class, detail) = (ErrorClass::Refused, "no".into());
                ended(Ending::Failed { class, detail })
            }
            _ => ended(Ending::Cancelled {
                reason: "enough".into(),
            }),
        };
        let attempt = Attempt(u32::try_from(self.dice.below(3)).unwrap_or(0));
        Life { attempt, state }
    }

    /// Now and then the database refuses rows of a kind, or takes them again.
    fn turn_refusal(&mut self) {
        let kinds = [
            None,
            Some(ActivityType::A2aReceive),
            Some(ActivityType::Delegation),
        ];
        self.model.refuses = self.dice.pick(&kinds);
        let refusal = self.model.refuses.map_or_else(String::new, |kind| {
            format!(
                "CREATE TRIGGER refusal BEFORE INSERT ON activity_logs WHEN NEW.activity_type = '{}' \
                 BEGIN SELECT RAISE(ABORT, 'a trigger said no'); END",
                kind.as_str()
            )
        });
        let sql = format!("DROP TRIGGER IF EXISTS refusal; {refusal}");
        self.connection.batch_execute(&sql).unwrap();
    }

    fn commit_some(&mut self) -> usize {
        let writes: Vec<Write> = (0..=self.dice.below(4))
            .map(|_| self.some_write())
            .collect();
        let real = self.writer.commit(&writes).unwrap();
        let now = self.now;
        let model = self
            .model
            .commit(self.node, now, None, &writes, None)
            .unwrap();
        let words = |written: &[Written]| written.iter().map(word).collect::<Vec<_>>();
        assert_eq!(words(&real.written), words(&model), "{writes:#?}");
        let telling = model
            .iter()
            .filter(|written| !matches!(written, Written::Done))
            .count();
        self.written.extend(writes);
        telling
    }

    fn read<T: Send + 'static>(
        &self,
        body: impl FnOnce(&mut dyn Reader) -> Result<T, Error> + Send + 'static,
    ) -> T {
        self.runtime.block_on(self.real.read(body)).unwrap()
    }

    fn compare(&self) {
        for NewDelegation { terms, .. } in &self.known {
            let key = terms.key.clone();
            let real = self.read(move |reader| reader.load(&key));
            let real = real.map(|real| (real.life, real.revision, real.incarnation));
            let model = self.model.delegations.get(&terms.key);
            let model = model.map(|model| (model.life.clone(), model.revision, model.incarnation));
            assert_eq!(real, model, "{}", terms.key);
        }
        let workspace = self.caller;
        let filter = ActivityFilter {
            workspace,
            activity_type: None,
            source: None,
            peer: None,
            since: None,
            before: None,
            after_position: Some(Position(0)),
            before_position: None,
            limit: 10_000,
        };
        let real = self.read(move |reader| reader.activity(&filter));
        let real: Vec<_> = real
            .iter()
            .map(|row| {
                let (method, response) = (row.method.as_deref(), row.response_body.as_ref());
                (row.position, row.id, method, response)
            })
            .collect();
        let model = self.model.feed_of(workspace, Position(0));
        let model: Vec<_> = model
            .map(|(position, row)| {
                let placed = ActivityId::of(position, row.created_at);
                let (method, response) = (row.method.as_deref(), row.response_body.as_ref());
                (position, row.id.unwrap_or(placed), method, response)
            })
            .collect();
        assert_eq!(real, model);
        let acknowledged = self.model.acknowledged.get(&workspace).copied();
        let real = self.read(move |reader| reader.acknowledged(workspace));
        assert_eq!(real, acknowledged.unwrap_or_default());
        assert_eq!(self.read(|reader| reader.last_position()), self.model.last);
    }

    fn compare_audits(&self) {
        let never = Timestamp(0);
        let limits = AuditLimits {
            overdue_before: never,
            pruned_before: never,
        };
        let audited = self.read(move |reader| reader.audit(None, 100_000, limits));
        let mut real = audited.rows;
        real.sort_by(|one, other| one.key.cmp(&other.key));
        assert_eq!(real, self.model.audited(never));
        assert!(real.len() > 100, "{}", real.len());
    }
}

fn begin(delegation: NewDelegation) -> Write {
    let feed = accepted_feed(&delegation, "target");
    Write::Accept(Box::new(Accept {
        delegation,
        feed,
        sent: None,
    }))
}

/// The same, of one that is sent at once.
fn begin_sent(delegation: NewDelegation, at: Timestamp) -> Write {
    let terms = &delegation.terms;
    let life = Life {
        attempt: Attempt(1),
        state: State::Working(Working::dispatched(at)),
    };
    let sent = Advance {
        key: terms.key.clone(),
        revision: Revision(2),
        incarnation: Incarnation(0),
        feed: advanced_feed(terms, &Life::new(State::Pending), &life, true, at),
        life,
        at,
        raw_reply: None,
        told: true,
    };
    let feed = accepted_feed(&delegation, "target");
    let sent = Some(sent);
    Write::Accept(Box::new(Accept {
        delegation,
        feed,
        sent,
    }))
}

fn open(url: &str) -> (Store, Lease, Box<dyn Writer>) {
    let store = Store::open(&StoreOptions {
        url: url.to_owned(),
        read_connections: 1,
        read_budget: Duration::from_secs(30),
    });
    let store = store.unwrap();
    let lease = store.join(Duration::from_hours(1)).unwrap();
    let writer = store.writer(&lease).unwrap();
    (store, lease, writer)
}

/// The reason of a refusal is the database's own.
fn word(written: &Written) -> String {
    match written {
        Written::Failed(_) => "failed".to_owned(),
        other => format!("{other:?}"),
    }
}

#[test]
fn the_model_of_the_store_is_the_store() {
    let mut twins = Twins::open();
    let mut told = 0;
    for _ in 0..SEQUENCES {
        twins.begin_sequence();
        for _ in 0..BATCHES {
            if twins.dice.chance(20) {
                twins.turn_refusal();
            }
            told += twins.commit_some();
        }
        twins.compare();
    }
    twins.compare_audits();
    assert!(told > 1_000, "{told} writes came to something");
}
