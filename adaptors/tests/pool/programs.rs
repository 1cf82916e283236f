//! The conformance programs on eight threads and eight streams. Every block is written and verified on the device, and
//! moves between threads and streams. A ledger on both sides of the pool counts the blocks.
//!
//! `CUMEM_EFFORT=1250 cargo test --release -p cumem-adaptors --test pool programs` runs ten million operations of each.

use crate::common::sim;
use crate::source::{islands, joined, unified};
use cumem::kind::DeviceAccessible;
use cumem::{AnyUpstream, Device, Stream};
use cumem_adaptors::{Crossing, Pool, PoolOptions};
use cumem_conformance::effort::{effort, seed};
use cumem_conformance::{BlockLedger, Contents, Load, Program};

const MIB: usize = 1 << 20;
const THREADS: usize = 8;

fn run<K: DeviceAccessible>(operations: usize, options: PoolOptions, leaf: fn(&Device) -> AnyUpstream<K>) {
    let (device, _) = sim();
    let streams: Vec<_> = (0..THREADS).map(|_| Stream::new(&device).unwrap()).collect();
    let beneath = BlockLedger::new(leaf(&device));
    let below = beneath.book();
    let pool = BlockLedger::new(Pool::new(beneath, options).unwrap());
    let contents = Contents::through_device(&device).unwrap();
    let program = Program::new(seed()).operations(operations / THREADS).max_live(64).max_align(4096);
    let model = Load::new(program, THREADS).run(&pool, &streams, &contents).unwrap();
    assert!(model.total_blocks > operations / 4, "{model:?}");
    pool.book().settle().unwrap();
    let stats = pool.upstream().stats();
    assert_eq!((stats.blocks, stats.requested, stats.allocated), (0, 0, 0));
    assert_eq!((stats.free, stats.reserved), (stats.reserved, below.outstanding_bytes()));
    pool.upstream().trim().unwrap();
    assert_eq!(pool.upstream().stats().reserved, 0, "everything is joined to whole chunks again");
    drop(pool);
    below.settle().unwrap();
}

/// With so little memory, the programs take every path by which memory moves between streams. The pool stitches free
/// memory whenever it can.
fn short() -> PoolOptions {
    PoolOptions::new().maximum(96 * MIB).step(2 * MIB).slack(0)
}

#[test]
fn eight_threads_with_memory_enough() {
    run(8_000 * effort(), PoolOptions::new().crossing(Crossing::GrowFirst), islands);
}

#[test]
fn eight_threads_where_memory_is_short() {
    run(8_000 * effort(), short(), islands);
}

#[test]
fn eight_threads_with_joined_chunks() {
    run(8_000 * effort(), PoolOptions::new(), joined);
}

#[test]
fn eight_threads_with_joined_chunks_where_memory_is_short() {
    run(8_000 * effort(), short(), joined);
}

#[test]
fn eight_threads_with_unified_memory() {
    run(8_000 * effort(), PoolOptions::new(), unified);
}

#[test]
fn eight_threads_with_unified_memory_where_memory_is_short() {
    run(8_000 * effort(), short().step(16 * MIB), unified);
}
