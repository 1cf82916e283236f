//! The staging memory of copies makes no request fail: it is freed before a leaf reports that it is out of memory.

use crate::common::free;
use cumem::buffer::TransferPath;
use cumem::sim::{FaultCall, Profile};
use cumem::{Buffer, Device, LayerExt, ManagedResource, MemoryResource, PinnedResource, Stream, layout};
use cumem_adaptors::{AnyStack, SpillState, StackSpec};

const MIB: usize = 1 << 20;
/// Device memory that one copy of pinned memory uses.
const STAGING: usize = 24 * MIB;

/// Returns a device of 256 MiB that keeps the staging memory of a copy, and nothing else.
fn staged() -> (Device, Stream) {
    let device = Device::simulated(Profile::default().with_capacity(256 << 20)).unwrap();
    let stream = Stream::new(&device).unwrap();
    upload(&stream);
    assert_eq!(used(&device), STAGING);
    (device, stream)
}

fn upload(stream: &Stream) {
    let pinned = Buffer::<u8, _>::zeroed(64 * MIB, stream, PinnedResource::new(stream.device())).unwrap();
    let mut buffer = Buffer::zeroed(64 * MIB, stream, ManagedResource::new(stream.device()).unwrap()).unwrap();
    assert_eq!(buffer.upload(&pinned.host_read().unwrap()), Ok(TransferPath::Staged));
}

/// Returns the bytes of the device that are in use.
fn used(device: &Device) -> usize {
    let info = device.memory_info().unwrap();
    info.total - info.free
}

fn stack(text: &str, device: &Device) -> AnyStack {
    StackSpec::parse(text).unwrap().build(device).unwrap()
}

#[test]
fn staging_memory_makes_room_for_a_request() {
    for text in [
        "device",
        "virtual",
        "async",
        "device | pool",
        "virtual | pool",
        "async | pool",
        "device | pool | pressure",
        "device | pool | pressure(trim=100%, refuse=100%)",
        "device | pool | limit(100%) | statistics",
        "device | pool(step=240MiB)",
        "device | pool | pool(up_to=1MiB)",
        "device | pool | spill(managed)",
    ] {
        let (device, stream) = staged();
        let stack = stack(text, &device);
        let block = stack.allocate(&stream, layout::bytes(240 * MIB).unwrap());
        let block = block.unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(stack.find::<SpillState>().map_or(0, SpillState::total_blocks), 0, "{text}");
        free(&stack, &stream, block).unwrap();
    }
}

/// A pool also requests more than a block needs. The staging memory stays where it would not help.
#[test]
fn staging_memory_stays_if_the_request_does_not_fit_in_any_case() {
    let (device, stream) = staged();
    let stack = stack("device | pool", &device);
    assert!(stack.allocate(&stream, layout::bytes(257 * MIB).unwrap()).is_err());
    assert_eq!(used(&device), STAGING);
    let before = device.simulator().unwrap().calls(FaultCall::AllocateDevice);
    upload(&stream);
    assert_eq!(device.simulator().unwrap().calls(FaultCall::AllocateDevice), before, "the copy used the same memory");
}

#[test]
fn a_trim_frees_staging_memory() {
    for text in ["device", "device | pool", "async | pool", "device | limit(1MiB) | spill(managed | pool)"] {
        let (device, _) = staged();
        let stack = stack(text, &device);
        assert_eq!((stack.trim_stack(STAGING), used(&device)), (Ok(0), STAGING), "{text}");
        assert_eq!((stack.trim_stack(STAGING - 1), used(&device)), (Ok(STAGING), 0), "{text}");
    }
    let (device, stream) = staged();
    let stack = stack("device | pool", &device);
    free(&stack, &stream, stack.allocate(&stream, layout::bytes(64 * MIB).unwrap()).unwrap()).unwrap();
    assert_eq!((stack.trim_stack(0), used(&device)), (Ok(64 * MIB + STAGING), 0), "beside the memory of the pool");
}

/// Copies of pageable memory are staged in pinned memory.
#[test]
fn pinned_staging_memory_makes_room_for_pinned_blocks() {
    let mut profile = Profile::default();
    profile.host_memory.value = 64.0 * MIB as f64;
    let device = Device::simulated(profile).unwrap();
    let stream = Stream::new(&device).unwrap();
    let mut buffer = Buffer::zeroed(32 * MIB, &stream, ManagedResource::new(&device).unwrap()).unwrap();
    assert_eq!(buffer.upload(&vec![1_u8; 32 * MIB]), Ok(TransferPath::Ring));
    let pinned = PinnedResource::new(&device);
    let block = pinned.allocate(&stream, layout::bytes(60 * MIB).unwrap()).unwrap();
    free(&pinned, &stream, block).unwrap();
}
