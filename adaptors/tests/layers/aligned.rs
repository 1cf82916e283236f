//! Larger alignments: by the upstream where it can, and by padding where it cannot.

use crate::common::{free, sim};
use cumem::error::{CudaErrorCode, DeallocReason};
use cumem::sim::FaultCall;
use cumem::{AllocError, CudaResource, HostResource, MemoryResource, layout};
use cumem_adaptors::{PoolOptions, ResourceExt};

const MIB: usize = 1 << 20;

#[test]
fn each_power_of_two_is_kept_over_a_leaf_that_gives_256() {
    let (device, stream) = sim();
    for shift in 9..22 {
        let stack = CudaResource::new(&device).statistics().aligned(1 << shift).unwrap();
        let blocks: Vec<_> = [1, 1000, MIB + 1]
            .map(|size| stack.allocate(&stream, layout::bytes(size).unwrap()).unwrap())
            .into_iter()
            .collect();
        for block in &blocks {
            assert!(block.addr().is_multiple_of(1 << shift), "{:#x} for {}", block.addr(), 1 << shift);
            assert_eq!(block.layout().align(), 256, "the layout is the requested one");
        }
        let padding = 3 * ((1 << shift) - 256);
        assert_eq!((stack.state().blocks(), stack.state().padding()), (3, padding));
        let counts = stack.upstream().state().counts();
        // The leaf is asked for the alignment once, and its refusal is remembered.
        assert_eq!((counts.current_bytes as usize, counts.failures), (1 + 1000 + MIB + 1 + padding, 1));
        blocks.into_iter().for_each(|block| free(&stack, &stream, block).unwrap());
        assert_eq!((stack.state().blocks(), stack.state().padding()), (0, 0));
    }
}

#[test]
fn a_request_for_more_keeps_its_own_alignment() {
    let (device, stream) = sim();
    let stack = CudaResource::new(&device).aligned(4096).unwrap().threshold(1 << 20);
    for (size, asked, given) in [(100, 256, 256), (100, 8192, 8192), (MIB, 256, 4096), (MIB, 1 << 16, 1 << 16)] {
        let block = stack.allocate(&stream, layout::aligned(size, asked).unwrap()).unwrap();
        assert!(block.addr().is_multiple_of(given), "{size} bytes aligned to {asked}");
        assert_eq!(stack.state().blocks(), usize::from(given > 256));
        free(&stack, &stream, block).unwrap();
    }
}

#[test]
fn host_memory_is_aligned_too() {
    let (device, stream) = sim();
    let stack = HostResource::new(&device).aligned(1 << 16).unwrap();
    let block = stack.allocate(&stream, layout::aligned(100, 1).unwrap()).unwrap();
    assert!(block.addr().is_multiple_of(1 << 16));
    free(&stack, &stream, block).unwrap();
}

#[test]
fn a_pool_is_asked_for_the_alignment_and_wastes_nothing() {
    let (device, stream) = sim();
    let stack = CudaResource::new(&device).pool(PoolOptions::new()).unwrap().statistics().aligned(1 << 16).unwrap();
    let block = stack.allocate(&stream, layout::bytes(1000).unwrap()).unwrap();
    assert!(block.addr().is_multiple_of(1 << 16));
    assert_eq!((stack.state().blocks(), stack.state().padding()), (1, 0));
    assert_eq!(stack.upstream().state().counts().current_bytes, 1000);
    free(&stack, &stream, block).unwrap();
}

#[test]
fn no_number_changes_when_the_upstream_fails() {
    let (device, stream) = sim();
    let stack = CudaResource::new(&device).limit(MIB).aligned(4096).unwrap();
    let block = stack.allocate(&stream, layout::bytes(MIB - 8192).unwrap()).unwrap();
    let before = (stack.state().blocks(), stack.state().padding(), stack.upstream().state().allocated());
    let error = stack.allocate(&stream, layout::bytes(8192).unwrap()).unwrap_err();
    assert!(matches!(error, AllocError::LimitExceeded { requested, .. } if requested == 8192 + 4096 - 256), "{error}");
    device.simulator().unwrap().fail_nth(FaultCall::Free, 1, CudaErrorCode::UNKNOWN);
    let (addr, error) = (block.addr(), free(&stack, &stream, block).unwrap_err());
    assert!(matches!(error.reason, DeallocReason::Device(_)) && error.block.addr() == addr);
    assert_eq!((stack.state().blocks(), stack.state().padding(), stack.upstream().state().allocated()), before);
    free(&stack, &stream, error.block).unwrap();
    assert!(device.simulator().unwrap().live_allocations().no_memory());
    let stack = stack.into_upstream().map_err(drop).unwrap();
    assert_eq!(stack.state().allocated(), 0);
}

#[test]
fn sizes_that_cannot_be_aligned_are_refused_with_numbers() {
    let (device, stream) = sim();
    let stack = CudaResource::new(&device).aligned(1 << 62).unwrap();
    let error = stack.allocate(&stream, layout::bytes(isize::MAX as usize - 255).unwrap()).unwrap_err();
    assert!(matches!(error, AllocError::InvalidLayout(_)), "{error}");
    for value in [0, 3, 1000, usize::MAX, 1 << 63] {
        assert_eq!(CudaResource::new(&device).aligned(value).unwrap_err().value, value);
        assert_eq!(CudaResource::new(&device).limit_rounded(1 << 30, value).unwrap_err().value, value);
    }
}

#[test]
fn a_block_of_another_aligned_adaptor_is_refused() {
    let (device, stream) = sim();
    let leaf = CudaResource::new(&device);
    let [first, second] = [(), ()].map(|()| (&leaf).aligned(4096).unwrap());
    let block = first.allocate(&stream, layout::bytes(1000).unwrap()).unwrap();
    // Unlike a block that passes through, it must not reach the leaf, which knows another address.
    let error = free(&second, &stream, block).unwrap_err();
    assert_eq!(error.reason, DeallocReason::Foreign { layer: "device" });
    free(&first, &stream, error.block).unwrap();
}

#[test]
fn the_largest_batch_leaves_room_for_padding() {
    let (device, stream) = sim();
    let stack = CudaResource::new(&device).limit(MIB).aligned(4096).unwrap();
    let fit = cumem_adaptors::fit_batch(&stack, 1, 0, usize::MAX).unwrap();
    assert_eq!(fit.items, MIB - 4096 + 256);
    let block = stack.allocate(&stream, layout::bytes(fit.bytes).unwrap()).unwrap();
    free(&stack, &stream, block).unwrap();
}
