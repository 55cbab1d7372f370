//! Those who play, and who knows whom.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use actix_web::rt;
use rand::seq::IndexedRandom as _;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::cast::{Part, Task, Temper, organisations};
use super::{endpoint, errands, work};
use crate::demo::api::{Api, Seat};

/// A workspace that plays its part.
pub(super) struct Player {
    pub(super) name: String,
    pub(super) temper: Temper,
    pub(super) seat: Seat,
    pub(super) company: Rc<Company>,
    /// What it waits to be told, by the task's id.
    pub(super) questions: RefCell<HashMap<String, String>>,
    /// Whether it can be reached.
    pub(super) is_open: Cell<bool>,
    tasks: Vec<Task>,
    above: Option<String>,
    at_work: Cell<u32>,
    current: RefCell<String>,
}

impl Player {
    /// One of the things that are asked of it.
    pub(super) fn any_task(&self) -> Option<&Task> {
        self.tasks.choose(&mut rand::rng())
    }

    /// The task of these words; others may ask for something of their own.
    pub(super) fn task(&self, words: &str) -> Option<&Task> {
        self.tasks.iter().find(|task| task.words == words)
    }

    /// How many tasks it works on.
    pub(super) fn at_work(&self) -> u32 {
        self.at_work.get()
    }

    /// Works on something until the guard is dropped.
    pub(super) fn begin(self: &Rc<Self>, task: &str) -> AtWork {
        self.at_work.set(self.at_work.get().saturating_add(1));
        task.clone_into(&mut self.current.borrow_mut());
        AtWork(Rc::clone(self))
    }

    /// How it is, as a heartbeat.
    pub(super) fn condition(&self, error_rate: f64) -> Value {
        json!({
            "workspace_id": self.seat.id, "active_tasks": self.at_work.get(),
            "current_task": &*self.current.borrow(), "error_rate": error_rate,
        })
    }
}

/// Somebody works on something.
pub(super) struct AtWork(Rc<Player>);

impl Drop for AtWork {
    fn drop(&mut self) {
        let left = self.0.at_work.get().saturating_sub(1);
        self.0.at_work.set(left);
        if left == 0 {
            self.0.current.borrow_mut().clear();
        }
    }
}

/// All who play. They play until the process ends.
#[derive(Default)]
pub(super) struct Company(RefCell<Vec<Rc<Player>>>);

impl Company {
    /// Makes everybody's workspace, and opens the doors of their agents.
    pub(super) async fn gather(api: &Api) -> anyhow::Result<Rc<Self>> {
        let company = Rc::new(Self::default());
        let mut parts: Vec<(Part, Option<String>)> = organisations()?
            .into_iter()
            .map(|part| (part, None))
            .collect();
        while let Some((mut part, above)) = parts.pop() {
            let below = std::mem::take(&mut part.below);
            let player = company.engage(api, part, above).await?;
            let above = Some(player.seat.id.clone());
            parts.extend(below.into_iter().map(|part| (part, above.clone())));
        }
        Ok(company)
    }

    async fn engage(
        self: &Rc<Self>,
        api: &Api,
        part: Part,
        above: Option<String>,
    ) -> anyhow::Result<Rc<Player>> {
        let door = TcpListener::bind(("127.0.0.1", 0)).await?;
        let url = format!("http://{}/", door.local_addr()?);
        let body = json!({
            "name": part.name, "role": part.role, "external": true, "parent_id": above,
            "url": part.temper.is_called().then_some(url),
            "delivery_mode": if part.temper == Temper::Polling { "poll" } else { "push" },
            "max_concurrent_tasks": i32::from(part.temper == Temper::Single),
        });
        let player = Rc::new(Player {
            seat: api.create_workspace(&body).await?,
            name: part.name,
            temper: part.temper,
            company: Rc::clone(self),
            questions: RefCell::default(),
            is_open: Cell::new(true),
            tasks: part.tasks,
            above,
            at_work: Cell::new(0),
            current: RefCell::default(),
        });
        if player.temper.is_called() {
            rt::spawn(endpoint::keep_open(door, Rc::clone(&player)));
        }
        self.0.borrow_mut().push(Rc::clone(&player));
        Ok(player)
    }

    /// Everybody begins, and goes on.
    pub(super) fn begin(&self) {
        for player in self.0.borrow().iter() {
            if player.temper != Temper::Silent {
                rt::spawn(work::live(Rc::clone(player)));
            }
            if player.temper == Temper::Polling {
                rt::spawn(work::fetch(Rc::clone(player)));
            } else {
                rt::spawn(errands::read(Rc::clone(player)));
            }
            if let Some((tasks, pause)) = player.temper.appetite() {
                rt::spawn(errands::keep_busy(Rc::clone(player), tasks, pause));
            }
        }
    }

    /// Somebody who may give a task to this one: the one above it, or one beside it.
    pub(super) fn asker_of(&self, player: &Player) -> Option<Rc<Player>> {
        let above = self.pick(|other| Some(&other.seat.id) == player.above.as_ref());
        if rand::random_ratio(2, 3) {
            return above;
        }
        self.beside(player).or(above)
    }

    /// Somebody who may do a part of what this one is to do: one below it, or one beside it.
    pub(super) fn helper_of(&self, player: &Player) -> Option<Rc<Player>> {
        let below = self.pick(|other| other.above.as_ref() == Some(&player.seat.id));
        below.or_else(|| self.beside(player))
    }

    fn beside(&self, player: &Player) -> Option<Rc<Player>> {
        self.pick(|other| {
            other.above == player.above
                && other.seat.id != player.seat.id
                && !matches!(
                    other.temper,
                    Temper::Leading | Temper::Silent | Temper::Polling
                )
        })
    }

    fn pick(&self, fits: impl Fn(&Player) -> bool) -> Option<Rc<Player>> {
        let players = self.0.borrow();
        let fitting: Vec<&Rc<Player>> = players.iter().filter(|player| fits(player)).collect();
        fitting
            .choose(&mut rand::rng())
            .map(|player| Rc::clone(player))
    }
}
