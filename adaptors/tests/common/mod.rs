//! Shared by the tests of this crate: simulated devices, and a safe `deallocate`.

#![allow(dead_code)] // each test binary uses only a part

use cumem::sim::Profile;
use cumem::{Block, DeallocError, Device, MemoryResource, Stream};

/// Creates a simulated device that no other test has, and a stream on it.
pub(crate) fn sim() -> (Device, Stream) {
    sim_with(Profile::default())
}

/// Creates a simulated device with a profile, and a stream on it.
pub(crate) fn sim_with(profile: Profile) -> (Device, Stream) {
    let device = Device::simulated(profile).unwrap();
    let stream = Stream::new(&device).unwrap();
    (device, stream)
}

/// Deallocates a block that no work uses any more.
pub(crate) fn free(resource: &impl MemoryResource, stream: &Stream, block: Block) -> Result<(), DeallocError> {
    // SAFETY: these tests enqueue no work that uses a block after they free it.
    unsafe { resource.deallocate(stream, block) }
}
