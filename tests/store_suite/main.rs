//! One suite, two engines: every case runs on a real SQLite file and in a database of its own on a real PostgreSQL.
//!
//! `BATON_TEST_POSTGRES_URL` names a server where databases may be made, `postgres://postgres@127.0.0.1:5432/postgres`
//! for instance. Without it the PostgreSQL half fails, unless `BATON_TEST_SKIP_POSTGRES=1` says that this is meant.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "clippy takes the helpers of an integration test for production code"
)]

mod canvas;
mod delegations;
mod feed;
mod lists;
mod nodes;
mod plans;
mod receivers;
mod retention;
mod support;
mod trouble;
mod workspaces;

use support::{Engine, TestStore};

fn run(engine: Engine, case: fn(&TestStore)) {
    if let Some(store) = TestStore::open(engine) {
        case(&store);
    }
}

macro_rules! suite {
    ($($module:ident { $($case:ident),+ $(,)? })+) => {
        mod sqlite {
            $($(#[test] fn $case() { super::run(super::Engine::Sqlite, super::$module::$case); })+)+
        }
        mod postgres {
            $($(#[test] fn $case() { super::run(super::Engine::Postgres, super::$module::$case); })+)+
        }
    };
}

suite! {
    canvas {
        lists_are_looked_through_without_loss,
        a_text_is_looked_for_in_all_that_is_said,
        an_id_of_many_is_found_by_each,
        faces_are_the_newest_workspaces,
        what_lives_is_shown_newest_first,
        what_a_workspace_was_given_is_found,
        families_are_found,
        what_was_begun_again_is_not_begun_again,
        what_a_feed_holds_of_an_ending_is_found,
    }
    delegations {
        acceptance_is_stored_whole,
        a_key_is_used_once,
        a_failed_key_is_given_back,
        one_key_twice_in_a_batch,
        one_key_from_many_writers,
        a_repeated_commit_changes_nothing,
        every_state_reads_back,
        history_is_kept_and_bounded,
        an_ending_is_written_once,
    }
    lists {
        lists_page_without_loss,
        a_party_finds_its_delegations,
        strange_text_is_stored,
        the_audit_finds_what_is_wrong,
    }
    feed {
        rows_of_one_instant_page_without_loss,
        filters_hold_together,
        a_row_is_found_by_its_place,
        the_delegate_row_shows_where_the_delegation_stands,
        positions_follow_commits,
        acknowledgements_only_grow,
        events_are_read_in_order,
    }
    nodes {
        a_fenced_node_writes_nothing,
        an_expired_lease_that_nobody_took_is_renewed,
        everything_of_a_dead_node_is_taken_over,
        a_node_that_left_is_taken_over_without_waiting,
        what_is_being_written_is_not_taken_over,
        what_was_taken_over_is_written_no_more,
        a_transaction_that_freezes_with_its_process_is_ended,
        nodes_without_anything_live_are_forgotten,
        what_others_commit_is_heard_of,
        a_place_that_another_node_took_breaks_the_row,
    }
    plans {
        each_read_goes_by_an_index,
        a_repeat_is_found_by_what_it_repeats,
        the_feed_of_a_new_database_finds_delegations_by_id,
        each_write_finds_its_rows_by_an_index,
        what_is_said_often_is_prepared_once,
    }
    receivers {
        a_receiver_is_put_found_and_dropped,
        a_name_is_used_once_and_there_are_only_so_many,
        whoever_makes_room_leaves_what_it_was_not_told,
        how_far_a_receiver_was_told_is_noted_by_its_node_alone,
        a_dead_receiver_is_kept_replayed_and_forgotten,
        a_dead_nodes_receivers_are_taken_over,
    }
    retention {
        what_is_old_goes_and_what_nobody_read_stays,
        a_pruned_ending_is_neither_missed_nor_written_again,
        one_round_goes_through_every_feed,
    }
    trouble {
        migrations_run_once,
        a_migration_keeps_what_is_there,
        a_refused_reply_is_owed,
        a_poisoned_write_stands_alone,
        a_raising_trigger_fails_one_write,
        a_lost_connection_is_unavailable,
        an_unreadable_delegation_stops_no_others,
        a_panic_in_a_read_is_an_error,
        all_connections_taken_is_unavailable,
        a_locked_or_read_only_database_is_unavailable,
    }
    workspaces {
        a_workspace_reads_back,
        a_family_is_found,
        tokens_are_counted_and_revoked,
        uses_of_tokens_are_noted,
        a_removed_workspace_has_no_tokens,
        a_purge_keeps_delegations,
        a_purged_caller_may_register_again,
        a_registration_makes_or_updates,
        credentials_are_kept_until_they_are_changed,
    }
}

#[test]
fn remote_postgres_in_the_clear_is_refused() {
    let open = |url: &str| baton::store::Store::open(&support::options(url)).map(|_| ());
    if !cfg!(feature = "pg-tls") {
        for url in [
            "postgres://u@db.example.com/x",
            "postgresql://127.0.0.1,10.0.0.1/x",
            "postgres:///x?host=10.0.0.1",
        ] {
            let error = open(url).unwrap_err();
            assert!(error.to_string().contains("pg-tls"), "{url}: {error}");
        }
    }
    assert!(matches!(
        open("mysql://x"),
        Err(baton::store::Error::Refused(_))
    ));
    assert!(matches!(
        open("sqlite://:memory:"),
        Err(baton::store::Error::Refused(_))
    ));
    let closed = open("postgres://nobody@127.0.0.1:1/x?sslmode=disable&connect_timeout=2");
    assert!(
        matches!(closed, Err(baton::store::Error::Unavailable(_))),
        "{closed:?}"
    );
}

/// Names of tables and columns, and indexes with their conditions, in order.
fn outline(sql: &str) -> Vec<String> {
    let mut outline = Vec::new();
    // Types, checks, how full pages are, and who replicates, are each database's own.
    let own = ["ALTER COLUMN", "CONSTRAINT", " SET (", "REPLICA"];
    let own = |line: &&str| own.iter().any(|word| line.contains(word));
    let said = |line: &&str| !line.trim_start().starts_with("--");
    for line in sql.lines().filter(|line| said(line) && !own(line)) {
        let mut words = line.split_whitespace();
        if line.contains("INDEX") || line.trim_start().starts_with("WHERE") {
            outline.push(words.collect::<Vec<_>>().join(" "));
        } else if let Some(first) = words.next().filter(|word| !word.starts_with(')')) {
            outline.push(format!(
                "{first} {}",
                words.find(|word| word.ends_with('(')).unwrap_or("")
            ));
        }
    }
    outline
}

#[test]
fn the_twin_migrations_agree() {
    let twins = |step: &str, file: &str| {
        ["sqlite", "postgres"].map(|engine| {
            let path = format!("migrations/{engine}/{step}/{file}");
            outline(&std::fs::read_to_string(path).unwrap())
        })
    };
    let mut steps: Vec<_> = std::fs::read_dir("migrations/sqlite")
        .unwrap()
        .map(|step| step.unwrap().file_name().into_string().unwrap())
        .collect();
    steps.sort();
    assert!(steps.len() > 1);
    for step in steps {
        for file in ["up.sql", "down.sql"] {
            let [sqlite, postgres] = twins(&step, file);
            assert_eq!(sqlite, postgres, "{step}/{file}");
            assert!(sqlite.len() > 2, "{step}/{file}");
        }
    }
}
