//! The pool on several streams: blocks are written and verified by work on the device, in the order of their streams,
//! and freed on other streams. The race detector sees every use.

#![no_main]

use arbitrary::Arbitrary;
use cumem::{Device, Stream, sim::Profile};
use cumem_adaptors::Pool;
use cumem_conformance::{Contents, Ledger, Op, Program};
use cumem_fuzz::{Leaf, Options};
use libfuzzer_sys::fuzz_target;

const STREAMS: usize = 4;

#[derive(Debug, Arbitrary)]
struct Input {
    leaf: Leaf,
    options: Options,
    steps: Vec<Step>,
}

#[derive(Debug, Arbitrary)]
enum Step {
    Small { bytes: u16, align: u8, stream: u8 },
    Large { bytes: u32, stream: u8 },
    Free { victim: u16, stream: u8 },
    Synchronize { stream: u8 },
}

impl Step {
    fn op(&self) -> Op {
        let index = |stream: u8| usize::from(stream) % STREAMS;
        match *self {
            Self::Small { bytes, align, stream } => {
                Op::Allocate { size: bytes.into(), align: 1 << (align % 14), stream: index(stream) }
            }
            Self::Large { bytes, stream } => {
                Op::Allocate { size: bytes as usize % (6 << 20), align: 256, stream: index(stream) }
            }
            Self::Free { victim, stream } => Op::Deallocate { victim: victim.into(), stream: index(stream) },
            Self::Synchronize { stream } => Op::Synchronize { stream: index(stream) },
        }
    }
}

fuzz_target!(|input: Input| {
    let device = Device::simulated(Profile::tiny(64 << 20)).unwrap();
    let simulator = device.simulator().expect("the device is simulated");
    simulator.detect_races(true);
    let streams: Vec<_> = (0..STREAMS).map(|_| Stream::new(&device).unwrap()).collect();
    let beneath = Ledger::new(input.leaf.on(&device));
    let below = beneath.book();
    let pool = Ledger::new(Pool::new(beneath, input.options.of_pool()).unwrap());
    let contents = Contents::through_device(&device).unwrap();
    let check = |model: &cumem_conformance::Model| assert!(pool.upstream().stats().requested == model.bytes);
    let model = Program::run_ops(input.steps.iter().map(Step::op), &pool, &streams, &contents, check).unwrap();
    assert_eq!((model.blocks, model.bytes), (0, 0));
    assert!(simulator.take_races().is_empty());
    pool.book().settle().unwrap();
    pool.upstream().trim().unwrap();
    assert_eq!(pool.upstream().stats().reserved, 0, "everything is joined to whole chunks again");
    drop(pool);
    below.settle().unwrap();
});
