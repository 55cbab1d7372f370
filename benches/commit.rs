//! Both ways into the database, in batches of several sizes: delegations that begin, and delegations that end.
//! `cargo bench --bench commit`; with `BATON_TEST_POSTGRES_URL`, on PostgreSQL too.

#![expect(missing_docs, reason = "criterion's macro makes undocumented items")]
#![expect(
    clippy::unwrap_used,
    reason = "a measurement that meets something unexpected has nothing better to do than to stop"
)]

use std::time::Duration;

use baton::store::{Lease, Store, StoreOptions, Write, Writer};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

#[path = "kit/writes.rs"]
mod writes;

use writes::{accept, accepts, ending};

const BATCHES: [u16; 4] = [1, 32, 128, 512];

struct Open {
    // The lease is held as long as it lives.
    _lease: Lease,
    _store: Store,
    writer: Box<dyn Writer>,
}

fn open(url: &str) -> Open {
    let store = Store::open(&StoreOptions {
        url: url.to_owned(),
        read_connections: 1,
        read_budget: Duration::from_secs(3),
    });
    let store = store.unwrap();
    let lease = store.join(Duration::from_mins(10)).unwrap();
    Open {
        writer: store.writer(&lease).unwrap(),
        _lease: lease,
        _store: store,
    }
}

fn measure(criterion: &mut Criterion, name: &str, url: &str) {
    let mut open = open(url);
    for (what, ends) in [("accept", false), ("advance", true)] {
        let mut group = criterion.benchmark_group(format!("{name}: {what}"));
        for batch in BATCHES {
            group.throughput(Throughput::Elements(batch.into()));
            group.bench_function(format!("{batch} in a commit"), |bencher| {
                let writer = std::cell::RefCell::new(&mut open.writer);
                let prepare = || {
                    let begun = accepts(batch.into());
                    let beginnings: Vec<Write> = begun.iter().map(accept).collect();
                    if !ends {
                        return beginnings;
                    }
                    writer.borrow_mut().commit(&beginnings).unwrap();
                    begun.iter().map(ending).collect()
                };
                bencher.iter_batched(
                    prepare,
                    |writes| writer.borrow_mut().commit(&writes).unwrap(),
                    BatchSize::PerIteration,
                );
            });
        }
        group.finish();
    }
}

fn commit(criterion: &mut Criterion) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bench.db");
    measure(criterion, "sqlite", &format!("sqlite://{}", path.display()));
    if let Ok(admin) = std::env::var("BATON_TEST_POSTGRES_URL") {
        let name = format!("baton_commit_{}", std::process::id());
        let mut url = url::Url::parse(&admin).unwrap();
        url.set_path(&name);
        execute(&admin, &format!("CREATE DATABASE {name}"));
        measure(criterion, "postgres", url.as_str());
        execute(&admin, &format!("DROP DATABASE {name} WITH (FORCE)"));
    }
}

fn execute(url: &str, statement: &str) {
    use diesel::{Connection as _, RunQueryDsl as _};
    let mut connection = diesel::PgConnection::establish(url).unwrap();
    diesel::sql_query(statement)
        .execute(&mut connection)
        .unwrap();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).measurement_time(Duration::from_secs(3));
    targets = commit
}
criterion_main!(benches);
