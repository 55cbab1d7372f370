//! The database kit does what the other cases take for granted.

use crate::support::database::Database;

crate::on_both_databases!(
    rows_can_be_written_counted_and_read,
    a_fault_bites_until_it_is_healed,
    a_write_block_holds_writers_only,
);

async fn rows_can_be_written_counted_and_read(database: Database) {
    database.execute("CREATE TABLE t (x text); INSERT INTO t VALUES ('b'), ('a'), (NULL)");
    assert_eq!(database.count("SELECT count(*) FROM t"), 3);
    let texts = database.texts("SELECT x FROM t WHERE x IS NOT NULL");
    assert_eq!(texts, [Some("b".to_owned()), Some("a".to_owned())]);
}

async fn a_fault_bites_until_it_is_healed(database: Database) {
    database.execute("CREATE TABLE t (x text)");
    let insert = |text: &str| {
        let sql = format!("INSERT INTO t VALUES ('{text}')");
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| database.execute(&sql)))
    };
    let fault = database.fail_on("INSERT", "t", "NEW.x = 'bad'");
    assert!(insert("bad").is_err(), "the fault bites");
    assert!(insert("good").is_ok(), "and only where it should");
    fault.heal();
    assert!(insert("bad").is_ok(), "healed");
    assert_eq!(database.count("SELECT count(*) FROM t"), 2);
}

async fn a_write_block_holds_writers_only(database: Database) {
    database.execute("CREATE TABLE t (x text)");
    if database.is_sqlite() {
        database.execute("PRAGMA journal_mode = WAL");
    }
    let block = database.block_writes("t");
    assert_eq!(database.count("SELECT count(*) FROM t"), 0, "readers pass");
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| database.execute("INSERT INTO t VALUES ('x')"));
        assert_eq!(database.count("SELECT count(*) FROM t"), 0);
        assert!(!writer.is_finished(), "a writer waits");
        drop(block);
    });
    assert_eq!(database.count("SELECT count(*) FROM t"), 1);
}
