//! `Pressure`: how often the device is queried. `tests/stacks/memory_pressure.rs` of cumem has the rest.

use crate::common::{free, sim_with};
use cumem::sim::Profile;
use cumem::{CudaResource, MemoryResource, layout};
use cumem_adaptors::{PressureOptions, ResourceExt};

const MIB: usize = 1 << 20;
/// The smallest allocation of the simulated device.
const PAGE: usize = 2 * MIB;

/// The bytes of all threads count together, wherever they are counted.
#[test]
fn the_device_is_queried_when_all_threads_together_have_allocated_enough() {
    let (device, stream) = sim_with(Profile::tiny(64 * MIB as u64));
    let options = PressureOptions::default().ask_after(8 * PAGE);
    let stack = CudaResource::new(&device).pressure(options).unwrap();
    // Each thread allocates one page. Every eighth thread finds the query due, before it allocates its own page.
    let used: Vec<usize> = (0..17)
        .map(|_| {
            std::thread::scope(|threads| {
                let allocate = || stack.allocate(&stream, layout::bytes(PAGE).unwrap()).unwrap().size();
                assert_eq!(threads.spawn(allocate).join().unwrap(), PAGE);
                stack.state().used() / PAGE
            })
        })
        .collect();
    assert_eq!(used, [0, 0, 0, 0, 0, 0, 0, 7, 7, 7, 7, 7, 7, 7, 7, 15, 15]);
}

#[test]
fn with_a_query_interval_of_zero_each_allocation_queries_the_device() {
    let (device, stream) = sim_with(Profile::tiny(64 * MIB as u64));
    let stack = CudaResource::new(&device).pressure(PressureOptions::default().ask_after(0)).unwrap();
    let block = stack.allocate(&stream, layout::bytes(PAGE).unwrap()).unwrap();
    let empty = stack.allocate(&stream, layout::bytes(0).unwrap()).unwrap();
    assert_eq!(stack.state().used(), PAGE);
    [block, empty].into_iter().for_each(|block| free(&stack, &stream, block).unwrap());
}

/// Zero bytes use no memory.
#[test]
fn zero_bytes_are_never_refused() {
    let (device, stream) = sim_with(Profile::tiny(64 * MIB as u64));
    let options = PressureOptions::default().trim_at(16 * MIB).refuse_at(32 * MIB).slack(0).ask_after(0);
    let stack = CudaResource::new(&device).pressure(options).unwrap();
    let full = stack.allocate(&stream, layout::bytes(32 * MIB).unwrap()).unwrap();
    assert!(stack.allocate(&stream, layout::bytes(1).unwrap()).is_err());
    let empty = stack.allocate(&stream, layout::bytes(0).unwrap()).unwrap();
    assert_eq!(stack.state().refusals(), 1);
    [full, empty].into_iter().for_each(|block| free(&stack, &stream, block).unwrap());
}
