//! Exhaustive checks of two protocols, each with every rule broken in turn: the life of a delegation, which is the real
//! `transition`, and the leases that say which node may write.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "clippy takes the helpers of an integration test for production code"
)]

mod checker;
mod lease;
mod life;

use checker::explore;
use lease::Protocol;
use life::{Lives, Scenario};

fn refuted(found: Result<usize, String>, reason: &str) {
    let refutation = found.expect_err("the broken rule went unnoticed");
    assert!(refutation.contains(reason), "{refutation}");
}

#[test]
fn leases_let_one_node_write() {
    let states = explore(&Protocol(lease::Broken::Nothing)).unwrap();
    println!("{states} states");
    assert!(states > 100_000, "{states}");
    for (broken, reason) in [
        (lease::Broken::Proof, "wrote"),
        (lease::Broken::Lock, "wrote"),
        (lease::Broken::Revision, "two endings"),
        (lease::Broken::Expiry, "had not run out"),
        (lease::Broken::Takeover, "no end in reach"),
    ] {
        refuted(explore(&Protocol(broken)), reason);
    }
}

#[test]
fn a_life_keeps_the_rules_in_every_order_of_events() {
    for scenario in Scenario::ALL {
        let states = explore(&Lives {
            scenario,
            broken: life::Broken::Nothing,
        });
        let states = states.unwrap_or_else(|refutation| panic!("{scenario:?}: {refutation}"));
        println!("{scenario:?}: {states} states");
        assert!(states > 500, "{states}");
    }
}

#[test]
fn every_broken_rule_of_a_life_is_refuted() {
    for (broken, reason) in [
        (
            life::Broken::LastEndingWins,
            "the first ending was replaced",
        ),
        (
            life::Broken::AcknowledgementCompletes,
            "completed without an answer",
        ),
        (life::Broken::ResendsBlindly, "given to the target twice"),
        (life::Broken::EchoesCount, "given to the target twice"),
        (life::Broken::NoDeadline, "no end in reach"),
    ] {
        refuted(
            explore(&Lives {
                scenario: Scenario::Plain,
                broken,
            }),
            reason,
        );
    }
}
