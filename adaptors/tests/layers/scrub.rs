//! No owner of memory reads the bytes of another.

use crate::common::{free, sim};
use cumem::error::{CudaErrorCode, DeallocReason};
use cumem::sim::FaultCall;
use cumem::{
    AllocError, Buffer, CudaResource, LayerExt, ManagedResource, MemoryResource, PinnedResource, Stream, layout,
};
use cumem_adaptors::{BinError, PoolError, PoolOptions, ResourceExt, ScrubState, ScrubTime, StackSpec};

const MIB: usize = 1 << 20;

fn pool(device: &cumem::Device) -> impl cumem::Upstream<Kind = cumem::kind::Device> {
    CudaResource::new(device).pool(PoolOptions::new().step(2 * MIB)).unwrap()
}

/// Returns the bytes of a new buffer, which were not written.
fn unwritten(stack: &impl MemoryResource<Kind = cumem::kind::Device>, stream: &Stream, len: usize) -> (Vec<u8>, u64) {
    // SAFETY: the memory of a simulated device always has a value.
    let buffer = unsafe { Buffer::<u8, _>::uninit(len, stream, stack) }.unwrap();
    (buffer.to_vec().unwrap(), buffer.device_address())
}

#[test]
fn a_tenant_never_reads_the_bytes_of_another() {
    let (device, stream) = sim();
    let other = Stream::new(&device).unwrap();
    let pool = pool(&device);
    let stack = (&pool).scrub();
    for (round, stream) in [&stream, &other, &stream].into_iter().enumerate() {
        let secret = Buffer::from_slice(&[0xab_u8; 5000], stream, &stack).unwrap();
        let address = secret.device_address();
        drop(secret);
        for len in [5000, 100] {
            let (bytes, at) = unwritten(&stack, stream, len);
            assert_eq!(at, address, "the pool hands out the same memory");
            assert_eq!(bytes, vec![0; len], "round {round}");
        }
    }
    assert_eq!((stack.state().fills(), stack.state().bytes()), (9, 3 * (5000 + 5000 + 100)));
    // Without the adaptor, the same program reads the secret.
    drop(Buffer::from_slice(&[0xab_u8; 5000], &stream, &pool).unwrap());
    assert_eq!(unwritten(&&pool, &stream, 5000).0, vec![0xab; 5000]);
}

#[test]
fn memory_that_others_left_is_cleared_at_the_allocation() {
    let (device, stream) = sim();
    let pool = pool(&device);
    drop(Buffer::from_slice(&[0xab_u8; 5000], &stream, &pool).unwrap());
    let stack = (&pool).scrub().pattern(0x11).at(ScrubTime::Allocate);
    assert_eq!(unwritten(&stack, &stream, 5000).0, vec![0x11; 5000]);
    assert_eq!(stack.state().fills(), 1);
    let stack = (&pool).scrub().at(ScrubTime::Both);
    assert_eq!(unwritten(&stack, &stream, 5000).0, vec![0; 5000]);
    assert_eq!(stack.state().fills(), 2);
}

#[test]
fn a_block_that_cannot_be_cleared_is_not_freed() {
    let (device, stream) = sim();
    let pool = pool(&device);
    let stack = (&pool).statistics().scrub();
    let block = stack.allocate(&stream, layout::bytes(5000).unwrap()).unwrap();
    device.simulator().unwrap().fail_nth(FaultCall::Fill, 1, CudaErrorCode::UNKNOWN);
    let error = free(&stack, &stream, block).unwrap_err();
    assert!(matches!(error.reason, DeallocReason::Device(_)), "{}", error.report());
    assert_eq!(stack.upstream().state().counts().current_blocks, 1, "no other owner gets the memory");
    free(&stack, &stream, error.block).unwrap();
    assert_eq!((stack.upstream().state().counts().current_blocks, stack.state().fills()), (0, 1));
}

#[test]
fn a_block_that_cannot_be_cleared_at_its_allocation_goes_back() {
    let (device, stream) = sim();
    let stack = CudaResource::new(&device).limit(MIB).scrub().at(ScrubTime::Allocate);
    device.simulator().unwrap().fail_nth(FaultCall::Fill, 1, CudaErrorCode::UNKNOWN);
    let error = stack.allocate(&stream, layout::bytes(MIB).unwrap()).unwrap_err();
    assert!(matches!(error, AllocError::NotPrepared { layer: "scrub", requested: MIB, .. }), "{error}");
    assert_eq!(stack.upstream().state().allocated(), 0);
    assert!(device.simulator().unwrap().live_allocations().no_memory());
}

/// A foreign block is not overwritten, because it is live.
#[test]
fn a_foreign_block_is_refused_before_the_fill() {
    let (device, stream) = sim();
    let leaf = PinnedResource::new(&device);
    let stack = (&leaf).scrub();
    let block = leaf.allocate(&stream, layout::bytes(1000).unwrap()).unwrap();
    // SAFETY: the host may access pinned memory, and no work uses it.
    unsafe { block.as_ptr().write_bytes(7, 1000) };
    let own = stack.allocate(&stream, layout::bytes(1000).unwrap()).unwrap();
    let error = free(&stack, &stream, block).unwrap_err();
    assert_eq!(error.reason, DeallocReason::Foreign { layer: "scrub" });
    stream.synchronize().unwrap();
    let last = error.block.as_ptr().wrapping_add(999);
    // SAFETY: as above; the byte is the last of the block.
    assert_eq!(unsafe { last.read() }, 7);
    free(&leaf, &stream, error.block).unwrap();
    free(&stack, &stream, own).unwrap();
}

#[test]
fn nothing_that_keeps_memory_stands_over_it() {
    let (device, _stream) = sim();
    let scrub = CudaResource::new(&device).scrub();
    assert_eq!((&scrub).limit(MIB).pool(PoolOptions::new()).unwrap_err(), PoolError::OverScrub);
    assert_eq!((&scrub).fixed_size(MIB).unwrap_err(), BinError::OverScrub { layer: "fixed_size" });
    assert_eq!((&scrub).binning([MIB]).unwrap_err(), BinError::OverScrub { layer: "binning" });
    let spill = CudaResource::new(&device).spill_to(ManagedResource::new(&device).unwrap().scrub()).unwrap();
    assert_eq!(spill.pool(PoolOptions::new()).unwrap_err(), PoolError::OverScrub);
    for text in
        ["device | scrub | pool", "device | scrub | limit(1GiB) | binning(1MiB)", "device | scrub | fixed_size(1MiB)"]
    {
        let error = StackSpec::parse(text).unwrap_err();
        assert_eq!(&text[error.span()], "scrub", "{error}");
    }
    assert!(StackSpec::parse("device | spill(managed | scrub) | pool").unwrap().build(&device).is_err());
    let stack = StackSpec::parse("device | pool | scrub(pattern=165, at=both)").unwrap().build(&device).unwrap();
    let state = stack.find::<ScrubState>().unwrap();
    assert_eq!((state.pattern(), state.time()), (165, ScrubTime::Both));
    assert!(StackSpec::parse("host | scrub").is_err());
}

/// The fill comes after the uses of the block and before the next owner's, on every stream.
#[test]
fn the_fill_is_in_stream_order() {
    let (device, stream) = sim();
    let simulator = device.simulator().unwrap();
    simulator.detect_races(true);
    let other = Stream::new(&device).unwrap();
    let pool = pool(&device);
    let stack = (&pool).scrub();
    for round in 0..20 {
        let (owner, next) = if round % 2 == 0 { (&stream, &other) } else { (&other, &stream) };
        drop(Buffer::from_slice(&[round as u8 + 1; 3000], owner, &stack).unwrap());
        // The detector gives memory that a pool keeps another pattern, so only the order is checked.
        drop(Buffer::from_slice(&[round as u8 + 1; 3000], next, &stack).unwrap());
    }
    assert_eq!(stack.state().fills(), 40);
    assert_eq!(simulator.take_races(), []);
}
