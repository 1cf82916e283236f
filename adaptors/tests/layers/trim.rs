//! Trims: each layer frees its unused memory, and a trim counts the bytes that the device gets back.

use crate::common::{free, sim, sim_with};
use cumem::error::{CudaErrorCode, DeallocReason};
use cumem::kernel::HostKernel;
use cumem::sim::{FaultCall, Profile};
use cumem::{AnyUpstream, Block, CudaResource, Device, LayerExt, MemoryResource, PinnedResource, Stream, layout};
use cumem_adaptors::{AnyStack, PoolOptions, PoolState, ResourceExt, StackSpec, StatisticsState};

const MIB: usize = 1 << 20;

fn scene(text: &str) -> (Device, Stream, AnyStack) {
    let (device, stream) = sim_with(Profile::default().with_capacity(64 << 20));
    let stack = StackSpec::parse(text).unwrap().build(&device).unwrap();
    (device, stream, stack)
}

/// Allocates a block, enqueues work that takes a while with it, and frees the block.
fn use_and_free(stack: &AnyStack, stream: &Stream, bytes: usize) {
    let block = stack.allocate(stream, layout::bytes(bytes).unwrap()).unwrap();
    let kernel = HostKernel::new("kernel", |_| ()).operations(1_000_000_000_000).writes(block.addr(), bytes);
    // SAFETY: the block is live and ready on the stream, which frees it after the kernel.
    unsafe { stream.launch_host(kernel) }.unwrap();
    free(stack, stream, block).unwrap();
}

#[test]
fn memory_whose_free_is_pending_returns_to_the_device() {
    for text in [
        "device | pool",
        "virtual | pool",
        "async",
        "async | statistics",
        "async | pool",
        "async | pool(step=2MiB) | pool(step=2MiB)",
        "device | pool(step=2MiB) | pool(step=2MiB)",
        "device | limit(0B) | spill(async)",
        "device | limit(0B) | spill(async | pool) | pool",
    ] {
        let (device, stream, stack) = scene(text);
        use_and_free(&stack, &stream, 40 * MIB);
        assert!(!stream.is_idle().unwrap());
        let before = device.memory_info().unwrap().free;
        assert_eq!(stack.trim_stack(0), Ok(40 * MIB), "{text}");
        assert_eq!(device.memory_info().unwrap().free - before, 40 * MIB, "{text}");
        let leaf = CudaResource::new(&device);
        let all = leaf.allocate(&stream, layout::bytes(64 * MIB).unwrap()).unwrap();
        free(&leaf, &stream, all).unwrap();
        assert_eq!(stack.trim_stack(0), Ok(0), "{text}");
    }
}

/// The host waits only if there is something to wait for.
#[test]
fn a_trim_of_the_drivers_pool_waits_once_for_each_series_of_frees() {
    let (device, stream, stack) = scene("async");
    let waits = || device.simulator().unwrap().calls(FaultCall::Synchronize);
    let live = stack.allocate(&stream, layout::bytes(8 * MIB).unwrap()).unwrap();
    assert_eq!((stack.trim_stack(0), waits()), (Ok(0), 0), "no block was freed");
    use_and_free(&stack, &stream, 8 * MIB);
    use_and_free(&stack, &stream, 16 * MIB);
    assert_eq!((stack.trim_stack(64 * MIB), waits()), (Ok(0), 0), "the pool may keep all");
    stack.trim_stack(0).unwrap();
    assert_eq!(waits(), 1);
    assert_eq!((stack.trim_stack(0), waits()), (Ok(0), 1), "only the live block is left");
    free(&stack, &stream, live).unwrap();
    stream.synchronize().unwrap();
    stack.trim_stack(0).unwrap();
    assert_eq!(waits(), 2, "the first attempt freed all, so that nothing is waited for");
}

#[test]
fn a_refused_wait_is_an_error_and_is_repeated() {
    let (device, stream, stack) = scene("async");
    use_and_free(&stack, &stream, 40 * MIB);
    let code = cumem::error::CudaErrorCode::UNKNOWN;
    device.simulator().unwrap().fail_nth(FaultCall::Synchronize, 1, code);
    let error = stack.trim_stack(0).unwrap_err();
    assert_eq!(error.trimmed, 0);
    assert_eq!(stack.trim_stack(0), Ok(40 * MIB));
}

/// Allocates blocks of 8, 2 and 8 MiB, and frees the first and the third. Returns the second.
fn use_and_keep(stack: &AnyStack, stream: &Stream) -> Block {
    let [large, kept, other] = [8, 2, 8].map(|n| stack.allocate(stream, layout::bytes(n * MIB).unwrap()).unwrap());
    free(stack, stream, large).unwrap();
    free(stack, stream, other).unwrap();
    kept
}

#[test]
fn a_stack_from_text_frees_its_unused_memory_on_trim() {
    for text in [
        "device | pool(step=2MiB)",
        "device | pool(step=2MiB) | limit(80%) | statistics",
        "virtual | statistics | pool(step=2MiB)",
        "managed | pool(step=2MiB) | prefetch",
        "pinned | limit(1GiB) | pool(step=2MiB)",
        "host | pool(step=2MiB)",
    ] {
        let (device, stream) = sim();
        let stack = StackSpec::parse(text).unwrap().with_leaf_statistics().build(&device).unwrap();
        let kept = use_and_keep(&stack, &stream);
        let reserved = || stack.find_all::<StatisticsState>().last().unwrap().counts().current_bytes;
        assert_eq!(reserved(), 18 * MIB as i64, "{text}");
        assert_eq!(stack.trim_stack(18 * MIB), Ok(0), "{text}");
        // The pool frees the highest free chunk first, and one chunk is enough.
        let (given, rest) = (stack.trim_stack(17 * MIB).unwrap(), stack.trim_stack(0).unwrap());
        assert!((MIB..=8 * MIB).contains(&given), "{text}: {given}");
        assert_eq!((given + rest, reserved()), (16 * MIB, 2 * MIB as i64), "{text}");
        assert_eq!(stack.find::<PoolState>().unwrap().stats().free, 0, "{text}");
        free(&stack, &stream, kept).unwrap();
        let stack = AnyStack::into_device_accessible(stack);
        let given = stack.map_or_else(|error| error.into_stack().trim_stack(0), |stack| stack.trim_stack(0));
        assert_eq!(given, Ok(2 * MIB), "{text}");
    }
}

#[test]
fn each_layer_frees_its_unused_memory_on_trim() {
    let (device, stream) = sim();
    let build = |text: &str| StackSpec::parse(text).unwrap().build(&device).unwrap();
    let simulator = device.simulator().unwrap();

    // One pool over another: the outer pool frees to the inner one, and the inner one to the driver.
    let stack = build("device | pool(step=2MiB) | pool(step=2MiB)");
    let kept = use_and_keep(&stack, &stream);
    free(&stack, &stream, kept).unwrap();
    assert_eq!(stack.trim_stack(0), Ok(18 * MIB), "counted once");
    assert!(simulator.live_allocations().no_memory());

    // The driver's pool.
    let stack = build("async(threshold=1GiB) | statistics");
    let kept = use_and_keep(&stack, &stream);
    free(&stack, &stream, kept).unwrap();
    stream.synchronize().unwrap();
    let before = device.memory_info().unwrap().free;
    let given = stack.trim_stack(0).unwrap();
    assert!(given >= 18 * MIB, "{given}");
    assert_eq!(device.memory_info().unwrap().free - before, given);

    // The second resource of a spill.
    let first = CudaResource::new(&device).limit(0);
    let second = PinnedResource::new(&device).pool(PoolOptions::new()).unwrap();
    let stack = AnyUpstream::new(first.spill_to(second).unwrap());
    let spilled = stack.allocate(&stream, layout::bytes(2 * MIB).unwrap()).unwrap();
    free(&stack, &stream, spilled).unwrap();
    assert_eq!(stack.trim_stack(0), Ok(2 * MIB));
    assert!(simulator.live_allocations().no_memory());
}

#[test]
fn a_chunk_that_cannot_be_freed_stays_and_the_error_has_the_reason() {
    let (device, stream) = sim();
    let stack = StackSpec::parse("device | pool(step=2MiB) | statistics").unwrap().build(&device).unwrap();
    let kept = use_and_keep(&stack, &stream);
    free(&stack, &stream, kept).unwrap();
    let simulator = device.simulator().unwrap();
    simulator.fail_nth(FaultCall::Free, 1, CudaErrorCode::UNKNOWN);
    let before = stack.find::<PoolState>().unwrap().stats().reserved;
    let refused = stack.trim_stack(0).unwrap_err();
    assert!(
        matches!(&refused.reason, DeallocReason::Device(error) if error.code() == Some(CudaErrorCode::UNKNOWN)),
        "{refused}"
    );
    let reserved = stack.find::<PoolState>().unwrap().stats().reserved;
    assert_eq!(reserved, 8 * MIB, "one chunk was refused");
    assert_eq!(refused.trimmed + reserved, before);
    assert_eq!(stack.trim_stack(0), Ok(reserved));
}
