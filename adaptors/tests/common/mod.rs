//! What the tests of this crate share.

#![allow(dead_code)] // each test binary uses a part

use cumem::sim::Profile;
use cumem::{Block, DeallocError, Device, MemoryResource, Stream};

/// A simulated device of its own, and a stream of it.
pub(crate) fn sim() -> (Device, Stream) {
    sim_with(Profile::default())
}

/// A simulated device of a profile, and a stream of it.
pub(crate) fn sim_with(profile: Profile) -> (Device, Stream) {
    let device = Device::simulated(profile).unwrap();
    let stream = Stream::new(&device).unwrap();
    (device, stream)
}

/// Gives back a block that no work uses any more.
pub(crate) fn free(resource: &impl MemoryResource, stream: &Stream, block: Block) -> Result<(), DeallocError> {
    // SAFETY: these tests enqueue nothing that uses their blocks after this.
    unsafe { resource.deallocate(stream, block) }
}
