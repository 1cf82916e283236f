//! Programs are reproducible, agree with their model, and run on many threads.

use cumem::sim::Profile;
use cumem::{CudaResource, Device, ManagedResource, Stream};
use cumem_conformance::effort::effort;
use cumem_conformance::{BlockLedger, Contents, FailNth, Load, Op, Program};

fn device() -> Device {
    Device::simulated(Profile::default()).unwrap()
}

fn streams(device: &Device, count: usize) -> Vec<Stream> {
    (0..count).map(|_| Stream::new(device).unwrap()).collect()
}

#[test]
fn the_same_seed_gives_the_same_program() {
    let ops = |seed| Vec::from_iter(Program::new(seed).operations(500).ops(4));
    assert_eq!(ops(1), ops(1));
    assert_ne!(ops(1), ops(2));
    assert_eq!(ops(1).len(), 500);
    let allocations = ops(1).iter().filter(|op| matches!(op, Op::Allocate { .. })).count();
    assert!((200..350).contains(&allocations), "{allocations} of 500 operations allocate");
}

#[test]
fn the_model_is_observed_after_every_step() {
    let device = device();
    let ledger = BlockLedger::new(ManagedResource::new(&device).unwrap());
    let (book, mut steps) = (ledger.book(), 0);
    let program = Program::new(3).operations(1000);
    let model = program.run(&ledger, &streams(&device, 3), &Contents::through_host(), |model| {
        steps += 1;
        assert_eq!(book.outstanding_bytes(), model.bytes);
        assert_eq!(book.outstanding().len(), model.blocks);
    });
    let model = model.unwrap();
    assert!(steps >= 1000, "{steps} steps");
    assert_eq!((model.blocks, model.bytes, model.failures), (0, 0, 0));
    assert!(model.peak_blocks > 50 && model.total_blocks > 400, "{model:?}");
    book.settle().unwrap();
}

#[test]
fn a_failed_allocation_changes_only_the_count_of_failures() {
    let device = device();
    let resource = FailNth::new(BlockLedger::new(CudaResource::new(&device)));
    resource.faults().fail_one_allocation_in(10, 1);
    let contents = Contents::through_device(&device).unwrap();
    let model = Program::new(4).operations(1000).run(&resource, &streams(&device, 2), &contents, |_| ()).unwrap();
    assert_eq!(model.failures as u64, resource.faults().fired());
    assert!(model.failures > 20, "{model:?}");
    resource.upstream().book().settle().unwrap();
}

#[test]
fn eight_threads_on_eight_streams() {
    let device = device();
    let ledger = BlockLedger::new(CudaResource::new(&device));
    let program = Program::new(5).operations(250 * effort()).max_live(50);
    let contents = Contents::through_device(&device).unwrap();
    let model = Load::new(program, 8).run(&ledger, &streams(&device, 8), &contents).unwrap();
    assert_eq!((model.blocks, model.bytes), (0, 0));
    assert!(model.total_blocks > 8 * 80, "{model:?}");
    ledger.book().settle().unwrap();
}
