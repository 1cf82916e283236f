//! Safe code that claims too much about memory: the driver refuses, and the host dereferences nothing.

use cumem::buffer::TransferPath;
use cumem::error::{AllocError, DeallocError, TrimError};
use cumem::kind::{DeviceAccessible, Migratable};
use cumem::layer::Beneath;
use cumem::sim::Profile;
use cumem::unified::{HintOutcome, SkipReason};
use cumem::{
    Block, Buffer, CudaResource, Device, Layer, Location, ManagedResource, MemoryKind, MemoryResource, Stream,
    UnifiedBuffer,
};
use std::alloc::Layout;
use std::any::Any;
use std::fmt;

/// Device memory that a user claims to migrate.
enum Claimed {}

impl MemoryKind for Claimed {
    const NAME: &'static str = "claimed";
}

// SAFETY: every block is one of a `CudaResource`.
unsafe impl DeviceAccessible for Claimed {}

/// A false claim in safe code.
impl Migratable for Claimed {}

struct ClaimedResource(CudaResource);

impl Layer for ClaimedResource {
    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("claimed")
    }
    fn beneath(&self) -> Beneath<'_> {
        Beneath::Layer(&self.0)
    }
    fn state(&self) -> &dyn Any {
        &()
    }
    fn trim_layer(&self, _keep: usize) -> Result<usize, TrimError> {
        Ok(0)
    }
}

// SAFETY: both methods forward to the leaf and pass blocks on unchanged. The kind promises only access by the device.
unsafe impl MemoryResource for ClaimedResource {
    type Kind = Claimed;

    fn allocate(&self, stream: &Stream, layout: Layout) -> Result<Block, AllocError> {
        self.0.allocate(stream, layout)
    }

    unsafe fn deallocate(&self, stream: &Stream, block: Block) -> Result<(), DeallocError> {
        // SAFETY: the caller upholds the contract of the leaf, which is the same.
        unsafe { self.0.deallocate(stream, block) }
    }
}

#[test]
fn device_memory_that_is_claimed_to_migrate_is_copied_and_never_dereferenced() {
    for profile in [Profile::default(), Profile::wsl()] {
        let device = Device::simulated(profile).unwrap();
        let stream = Stream::new(&device).unwrap();
        let resource = ClaimedResource(CudaResource::new(&device));
        let mut buffer = Buffer::<u32, _>::zeroed(1 << 20, &stream, resource).unwrap();
        assert!(!buffer.prefetch(Location::Host).is_ok_and(HintOutcome::is_applied));
        buffer.copy_from_slice(&vec![7; 1 << 20]).unwrap();
        assert!(!buffer.prefetch(Location::Host).is_ok_and(HintOutcome::is_applied));
        assert!(buffer.to_vec().unwrap().iter().all(|n| *n == 7));
    }
}

#[test]
fn a_skipped_prefetch_changes_no_belief() {
    let device = Device::simulated(Profile::wsl()).unwrap();
    let stream = Stream::new(&device).unwrap();
    let resource = ManagedResource::new(&device).unwrap();
    let buffer = UnifiedBuffer::from_slice(&[7_u32; 1000], &stream, resource).unwrap();
    let skipped = HintOutcome::Skipped(SkipReason::NoConcurrentManagedAccess(device.id()));
    assert_eq!(buffer.prefetch(Location::Host), Ok(skipped));
    let mut data = [0; 1000];
    assert_ne!(buffer.download(&mut data), Ok(TransferPath::HostPages));
    assert_eq!(data, [7; 1000]);
}

#[test]
fn a_prefetch_of_no_elements_changes_no_belief() {
    let device = Device::simulated(Profile::default()).unwrap();
    let stream = Stream::new(&device).unwrap();
    let resource = ManagedResource::new(&device).unwrap();
    let buffer = UnifiedBuffer::from_slice(&[7_u32; 1000], &stream, resource).unwrap();
    assert_eq!(buffer.prefetch(Location::Host), Ok(HintOutcome::Applied));
    assert_eq!(buffer.prefetch_range(0..0, device.id()), Ok(HintOutcome::Skipped(SkipReason::EmptyRange)));
    assert_eq!(buffer.download(&mut [0; 1000]), Ok(TransferPath::HostPages));
}
