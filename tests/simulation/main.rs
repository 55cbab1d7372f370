//! A deterministic simulation: nodes, a store, targets, callers and readers in virtual time, with everything going wrong
//! that can. One seed decides everything. What decides is the real thing: `transition`, `next_due`, `advanced_feed` and
//! `Line`; around it stand models of the actor (`src/delegation/actor.rs`), of the writer (`src/persistence`), and of the
//! store, which [`twin`] holds to the real one.
//!
//! `BATON_SIMULATION_SEEDS` sets how many seeds are run, `BATON_SIMULATION_SEED` runs one and prints what happened.

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "clippy takes the helpers of an integration test for production code"
)]

mod actor;
mod dice;
mod line;
mod node;
mod people;
mod store;
mod target;
mod twin;
mod verdict;
mod world;
mod writer;

use std::collections::BTreeMap;

use world::World;

/// A rule that is broken on purpose, so that the simulation shows that it can fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Flaw {
    None,
    /// 202 before the commit.
    AcknowledgesEarly,
    /// The request leaves before the commit.
    SendsEarly,
    /// A node whose work was taken over may go on writing.
    NoFencing,
    /// A change is applied whatever it was decided upon.
    NoRevisionCheck,
    /// What may have arrived is sent again to anybody.
    ResendsBlindly,
    /// A reply that could not be written is forgotten.
    ForgetsOwedReplies,
    /// Positions are taken before the commit.
    TakesPositionsEarly,
    /// What a dead node left stays where it is.
    NeverTakesOver,
    /// An acknowledgement counts as the answer.
    CompletesOnAcknowledgement,
    /// An event is lost with the actor that had it in its mailbox.
    LosesWhatAStaleActorWasTold,
    /// Time passes and nobody looks.
    NoAlarms,
    /// What can be called is sent at once, whoever waits for it.
    Overtakes,
}

const SEEDS: u64 = 10_000;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Runs seeds until one fails: it and what it broke.
fn search(flaw: Flaw, seeds: u64) -> Option<(u64, Vec<String>)> {
    (0..seeds).find_map(|seed| {
        let verdict = World::new(seed, flaw, false).run();
        (!verdict.violations.is_empty()).then_some((seed, verdict.violations))
    })
}

#[test]
fn no_schedule_breaks_a_promise() {
    if let Some(seed) = number("BATON_SIMULATION_SEED") {
        let verdict = World::new(seed, Flaw::None, true).run();
        println!("{}", verdict.trace.join("\n"));
        assert!(
            verdict.violations.is_empty(),
            "seed {seed}: {:#?}",
            verdict.violations
        );
        return;
    }
    let seeds = number("BATON_SIMULATION_SEEDS").unwrap_or(SEEDS);
    let mut census: BTreeMap<&'static str, u64> = BTreeMap::new();
    let mut happenings = 0;
    for seed in 0..seeds {
        let verdict = World::new(seed, Flaw::None, false).run();
        assert!(
            verdict.violations.is_empty(),
            "seed {seed}: {:#?}\nBATON_SIMULATION_SEED={seed} cargo test --test simulation no_schedule -- --nocapture",
            verdict.violations
        );
        happenings += u64::from(verdict.happenings);
        for (what, times) in verdict.census {
            *census.entry(what).or_default() += times;
        }
    }
    println!("{seeds} seeds, {happenings} happenings, {census:?}");
    for what in [
        "taken over",
        "fenced",
        "guest",
        "stale",
        "owed",
        "sent at once",
        "unsent",
        "given again",
        "retries_exhausted",
    ] {
        assert!(
            seeds < 1_000 || census.contains_key(what),
            "nothing was ever {what}"
        );
    }
}

/// Each broken rule must be noticed, and soon, for what it breaks.
#[test]
fn every_broken_rule_is_noticed() {
    for (flaw, breaks) in [
        (
            Flaw::AcknowledgesEarly,
            "was acknowledged before it was stored",
        ),
        (Flaw::SendsEarly, "was sent before that was durable"),
        (Flaw::NoFencing, "wrote after another had taken over"),
        (Flaw::NoRevisionCheck, "had ended, and was changed"),
        (Flaw::ResendsBlindly, "was given"),
        (Flaw::ForgetsOwedReplies, "its reply was not written"),
        (Flaw::TakesPositionsEarly, "was read 0 times"),
        (Flaw::NeverTakesOver, "never ended"),
        (Flaw::CompletesOnAcknowledgement, "nobody ever answered"),
        (Flaw::LosesWhatAStaleActorWasTold, "was dropped"),
        (Flaw::NoAlarms, "never ended"),
        (Flaw::Overtakes, "was overtaken"),
    ] {
        let (seed, violations) = search(flaw, 5_000).unwrap_or_default();
        let noticed = violations
            .iter()
            .any(|violation| violation.contains(breaks));
        assert!(noticed, "{flaw:?}, seed {seed}: {violations:#?}");
    }
}
