//! A small explicit-state model checker: every state that can be reached, breadth first, so that a refutation is short.
//!
//! Of our own, because it also checks that an end stays within reach from every state, which `stateright` does not
//! offer, and comes without the web server that `stateright` brings along.

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::Hash;

/// More than any of the models has.
const STATES_MAX: usize = 400_000;

/// A step that is possible: its name, where it leads, and whether it comes about without anybody's goodwill.
pub(crate) struct Move<S> {
    pub(crate) name: String,
    pub(crate) to: S,
    pub(crate) inevitable: bool,
}

pub(crate) trait Model {
    type State: Clone + Debug;
    /// What tells states apart.
    type Key: Eq + Hash;

    fn key(&self, state: &Self::State) -> Self::Key;
    fn initial(&self) -> Self::State;
    fn moves(&self, state: &Self::State) -> Vec<Move<Self::State>>;
    /// What must hold of each step; the reason if it does not.
    fn check(&self, from: &Self::State, by: &Move<Self::State>) -> Result<(), String>;
    /// Where inevitable steps must always be able to lead.
    fn is_goal(&self, state: &Self::State) -> bool;
}

/// How many states there are, or the shortest way to what must not be.
pub(crate) fn explore<M: Model>(model: &M) -> Result<usize, String> {
    let first = model.initial();
    let mut numbers = HashMap::from([(model.key(&first), 0)]);
    let mut states = vec![first];
    let mut came: Vec<Option<(usize, String)>> = vec![None];
    let mut inevitable: Vec<(usize, usize)> = Vec::new();
    let mut next = 0;
    while let Some(state) = states.get(next).cloned() {
        for step in model.moves(&state) {
            if let Err(reason) = model.check(&state, &step) {
                let way = path(&came, next);
                return Err(format!(
                    "{reason}, after:\n{way}{}\n{:?}",
                    step.name, step.to
                ));
            }
            let number = *numbers.entry(model.key(&step.to)).or_insert_with(|| {
                states.push(step.to.clone());
                came.push(Some((next, step.name.clone())));
                states.len() - 1
            });
            if step.inevitable {
                inevitable.push((next, number));
            }
        }
        next += 1;
        if next > STATES_MAX {
            return Err(format!("more than {STATES_MAX} states"));
        }
    }
    let goals = states.iter().map(|state| model.is_goal(state)).collect();
    match lost(goals, &inevitable) {
        None => Ok(states.len()),
        Some(lost) => Err(format!(
            "no end in reach, after:\n{}{:?}",
            path(&came, lost),
            states[lost]
        )),
    }
}

/// The first state from which no goal can be reached.
fn lost(mut reaches: Vec<bool>, steps: &[(usize, usize)]) -> Option<usize> {
    loop {
        let mut grew = false;
        for &(from, to) in steps.iter().rev() {
            if reaches[to] && !reaches[from] {
                reaches[from] = true;
                grew = true;
            }
        }
        if !grew {
            return reaches.iter().position(|reaches| !reaches);
        }
    }
}

fn path(came: &[Option<(usize, String)>], mut at: usize) -> String {
    let mut names = Vec::new();
    while let Some((before, name)) = &came[at] {
        names.push(format!("{name}\n"));
        at = *before;
    }
    names.into_iter().rev().collect()
}
