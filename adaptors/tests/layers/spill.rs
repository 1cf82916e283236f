//! The record that a spill keeps of its blocks.

use crate::common::free;
use cumem::sim::Profile;
use cumem::{
    AllocError, Block, CudaResource, DeallocError, Device, LayerExt, ManagedResource, MemoryResource, Stream, Upstream,
    layout,
};
use cumem_adaptors::{ResourceExt, SpillState, StatisticsState};
use std::alloc::Layout;

fn simulated() -> Device {
    Device::simulated(Profile::default()).unwrap()
}

/// A user's adaptor that refuses every request, also one of zero bytes.
struct Full<U> {
    upstream: U,
}

cumem::adaptor_layer! {
    impl[U] Layer, Upstream for Full<U> {
        upstream: U = upstream;
        describe = "full";
    }
}

// SAFETY: the adaptor returns no block.
unsafe impl<U: Upstream> MemoryResource for Full<U> {
    type Kind = U::Kind;

    fn allocate(&self, _: &Stream, layout: Layout) -> Result<Block, AllocError> {
        let requested = layout.size();
        Err(AllocError::LimitExceeded { layer: "full".into(), requested, allocated: 0, limit: 0 })
    }

    unsafe fn deallocate(&self, stream: &Stream, block: Block) -> Result<(), DeallocError> {
        // SAFETY: the caller upholds the contract of the upstream, which is the same.
        unsafe { self.upstream.deallocate(stream, block) }
    }
}

#[test]
fn blocks_of_zero_bytes_are_told_apart_by_number_and_not_by_address() {
    let device = simulated();
    let stream = Stream::new(&device).unwrap();
    let stack = Full { upstream: CudaResource::new(&device) }
        .spill_to(ManagedResource::new(&device).unwrap())
        .unwrap()
        .statistics();
    let spilled = stack.find::<SpillState>().unwrap();
    let allocate = |bytes| stack.allocate(&stream, layout::bytes(bytes).unwrap()).unwrap();
    let blocks = [0, 0, 1000, 0, 4096].map(allocate);
    assert_eq!((spilled.blocks(), spilled.bytes()), (5, 5096));
    for (freed, block) in blocks.into_iter().enumerate() {
        free(&stack, &stream, block).unwrap();
        assert_eq!(spilled.blocks(), 4 - freed);
    }
    assert_eq!((spilled.blocks(), spilled.bytes()), (0, 0));
    assert_eq!(stack.find::<StatisticsState>().unwrap().counts().current_blocks, 0);
}

#[test]
fn a_spilled_block_of_zero_bytes_that_is_refused_stays_spilled() {
    let device = simulated();
    let [stream, elsewhere] = [&device, &simulated()].map(|device| Stream::new(device).unwrap());
    let stack = Full { upstream: CudaResource::new(&device) }.spill_to(ManagedResource::new(&device).unwrap()).unwrap();
    let blocks = [(); 2].map(|()| stack.allocate(&stream, layout::bytes(0).unwrap()).unwrap());
    for block in blocks {
        let before = stack.state().blocks();
        let refused = free(&stack, &elsewhere, block).unwrap_err();
        assert_eq!(stack.state().blocks(), before);
        free(&stack, &stream, refused.block).unwrap();
    }
    assert_eq!(stack.state().blocks(), 0);
}
