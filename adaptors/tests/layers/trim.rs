//! Trims while frees are pending: what a trim counts is what the device gets back.

use crate::common::{free, sim_with};
use cumem::kernel::HostKernel;
use cumem::sim::{FaultCall, Profile};
use cumem::{CudaResource, Device, LayerExt, MemoryResource, Stream, layout};
use cumem_adaptors::{AnyStack, StackSpec};

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
