//! The pool on several streams: blocks are written and verified by work on the device, in the order of their streams,
//! and freed on other streams. The race detector sees every use.

#![no_main]

use arbitrary::{Arbitrary, Result, Unstructured};
use cumem::sim::Profile;
use cumem::{Device, Stream};
use cumem_adaptors::Pool;
use cumem_conformance::{BlockLedger, Contents, ExpectedCounts, Op, Program};
use cumem_fuzz::{Leaf, Options, steps};
use libfuzzer_sys::fuzz_target;

const STREAMS: usize = 4;

fn op(bytes: &mut Unstructured<'_>) -> Result<Op> {
    let stream = bytes.int_in_range(0..=STREAMS - 1)?;
    Ok(match bytes.int_in_range(0..=99)? {
        0..=44 => Op::Allocate { size: u16::arbitrary(bytes)?.into(), align: 1 << bytes.int_in_range(0..=13)?, stream },
        45..=54 => Op::Allocate { size: bytes.int_in_range(0..=3 << 20)?, align: 256, stream },
        55..=97 => Op::Deallocate { victim: u16::arbitrary(bytes)?.into(), stream },
        _ => Op::Synchronize { stream },
    })
}

fuzz_target!(|bytes: &[u8]| {
    let mut bytes = Unstructured::new(bytes);
    let (Ok(leaf), Ok(options)) = (Leaf::arbitrary(&mut bytes), Options::arbitrary(&mut bytes)) else { return };
    let device = Device::simulated(Profile::tiny(64 << 20)).unwrap();
    let simulator = device.simulator().expect("the device is simulated");
    simulator.detect_races(true);
    let streams: Vec<_> = (0..STREAMS).map(|_| Stream::new(&device).unwrap()).collect();
    let beneath = BlockLedger::new(leaf.on(&device));
    let below = beneath.book();
    let pool = BlockLedger::new(Pool::new(beneath, options.of_pool()).unwrap());
    let contents = Contents::through_device(&device).unwrap();
    let check = |expected: &ExpectedCounts| assert_eq!(pool.upstream().stats().requested, expected.bytes);
    let counts = Program::run_ops(steps(&mut bytes, op), &pool, &streams, &contents, check).unwrap();
    assert_eq!((counts.blocks, counts.bytes), (0, 0));
    assert!(simulator.take_races().is_empty());
    pool.book().settle().unwrap();
    pool.upstream().trim().unwrap();
    assert_eq!(pool.upstream().stats().reserved, 0, "everything is joined to whole chunks again");
    drop(pool);
    below.settle().unwrap();
});
