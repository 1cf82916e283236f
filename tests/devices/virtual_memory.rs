//! `CudaVirtualResource`: blocks of mapped memory side by side in one range of addresses.

use crate::common;
use cumem::error::take_drop_errors;
use cumem::sim::Profile;
use cumem::{
    AllocError, AnyUpstream, Block, CudaVirtualResource, Device, DriverError, LayerExt, MemoryResource, Stream, layout,
};
use cumem_test_support::own_process;

const GRANULE: usize = 2 << 20;

// This test reads the recorded errors of drops, which the whole process shares.
own_process!(dropping_it_before_a_block_keeps_the_addresses_and_is_recorded);

fn take(leaf: &CudaVirtualResource, stream: &Stream, bytes: usize) -> Block {
    leaf.allocate(stream, layout::bytes(bytes).unwrap()).unwrap()
}

fn give(leaf: &CudaVirtualResource, stream: &Stream, block: Block) {
    // SAFETY: no work uses the block.
    unsafe { leaf.deallocate(stream, block) }.unwrap();
}

on_devices!(blocks_lie_side_by_side_and_fill_holes_from_below);

fn blocks_lie_side_by_side_and_fill_holes_from_below(device: &Device) {
    let (stream, leaf) = (Stream::new(device).unwrap(), CudaVirtualResource::new(device).unwrap());
    let base = leaf.addresses().start;
    // The memory of some devices is no whole number of granules.
    let reserved = layout::align_down(4 * device.attributes().total_memory, GRANULE) as u64;
    assert_eq!((leaf.granularity(), leaf.addresses().end - base), (GRANULE, reserved));
    let [a, b, c] = [1, GRANULE + 1, 3 * GRANULE].map(|bytes| take(&leaf, &stream, bytes));
    let place = |block: &Block| (block.addr() - base) as usize / GRANULE;
    assert_eq!([&a, &b, &c].map(place), [0, 1, 3]);
    give(&leaf, &stream, b);
    let granules = |n: u64| base + n * GRANULE as u64;
    assert_eq!(leaf.gaps(), [granules(1)..granules(3), granules(6)..leaf.addresses().end]);
    let d = take(&leaf, &stream, 3 * GRANULE);
    assert_eq!(place(&d), 6, "the hole is too small");
    leaf.place_next_at(granules(9));
    let [e, f] = [GRANULE, GRANULE].map(|bytes| take(&leaf, &stream, bytes));
    assert_eq!([&e, &f].map(place), [9, 1], "at the requested address once, then at the lowest");
    leaf.place_next_at(granules(1));
    let g = take(&leaf, &stream, GRANULE);
    assert_eq!(place(&g), 2, "a request for a used address is not granted");
    for block in [a, c, d, e, f, g] {
        give(&leaf, &stream, block);
    }
    assert_eq!(leaf.gaps(), [leaf.addresses()]);
}

#[test]
fn it_is_found_through_erasure() {
    let device = common::simulated();
    let erased = AnyUpstream::new(AnyUpstream::new(CudaVirtualResource::new(&device).unwrap()));
    assert_eq!(erased.find::<CudaVirtualResource>().unwrap().granularity(), GRANULE);
}

#[test]
fn a_device_without_virtual_memory_is_refused() {
    let profile = Profile::default().without_virtual_memory();
    let error = CudaVirtualResource::new(&Device::simulated(profile).unwrap()).unwrap_err();
    assert!(matches!(error, DriverError::NotSupported { what: "virtual memory management", .. }), "{error}");
}

#[test]
fn out_of_memory_has_its_numbers_and_moves_nothing() {
    let device = Device::simulated(Profile::tiny(4 * GRANULE as u64)).unwrap();
    let (stream, leaf) = (Stream::new(&device).unwrap(), CudaVirtualResource::new(&device).unwrap());
    let most = take(&leaf, &stream, 3 * GRANULE);
    for bytes in [GRANULE + 1, 100 * GRANULE] {
        let error = leaf.allocate(&stream, layout::bytes(bytes).unwrap()).unwrap_err();
        let AllocError::OutOfMemory { layer: "virtual", requested, free, total, .. } = error else { panic!("{error}") };
        assert_eq!((requested, free, total), (bytes, GRANULE, 4 * GRANULE));
    }
    let rest = take(&leaf, &stream, GRANULE);
    assert_eq!(rest.addr(), most.addr() + 3 * GRANULE as u64);
    give(&leaf, &stream, most);
    give(&leaf, &stream, rest);
}

fn dropping_it_before_a_block_keeps_the_addresses_and_is_recorded() {
    let device = common::simulated();
    let (stream, leaf) = (Stream::new(&device).unwrap(), CudaVirtualResource::new(&device).unwrap());
    let block = take(&leaf, &stream, GRANULE);
    drop(leaf);
    let live = device.simulator().unwrap().live_allocations();
    assert_eq!((live.mapped.blocks, live.reserved.blocks), (1, 1), "the block is unchanged");
    let errors = take_drop_errors();
    assert!(errors.iter().any(|error| error.contains("blocks of 2097152 bytes are still live")), "{errors:?}");
    drop(block);
}
