//! What is built for a batch before the database sees it: the writes of a hundred beginnings and endings, and JSON.

#![expect(missing_docs, reason = "criterion's macro makes undocumented items")]

use baton::dispatch::{Message, request_envelope};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

#[path = "kit/writes.rs"]
mod writes;

use writes::{accept, accepts, ending};

const BATCH: usize = 128;

fn fold(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("fold, a batch of 128");
    group.throughput(Throughput::Elements(128));
    group.bench_function("beginnings", |bencher| {
        bencher.iter(|| accepts(BATCH).iter().map(accept).collect::<Vec<_>>());
    });
    let begun = accepts(BATCH);
    group.bench_function("endings", |bencher| {
        bencher.iter(|| begun.iter().map(ending).collect::<Vec<_>>());
    });
    group.finish();
}

fn serialisation(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("serialisation, the request to a target");
    for length in [200, 10_000_u32] {
        let task = "x".repeat(length.try_into().unwrap_or(usize::MAX));
        group.throughput(Throughput::Bytes(length.into()));
        group.bench_function(format!("{length} bytes"), |bencher| {
            let task = Message::Task((*task).into());
            bencher.iter(|| request_envelope("01980000-0000-7000-8000-000000000000", &task));
        });
    }
    group.finish();
}

criterion_group!(benches, fold, serialisation);
criterion_main!(benches);
