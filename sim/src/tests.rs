//! Tests of the simulator through the `Driver` trait. They check its state: bytes, residency, clocks.

mod capture;
mod failures;
mod memory;
mod order;
mod patterns;
mod pools;
mod races;
mod unified;
mod virtual_memory;

use super::{Profile, Simulator};
use cumem_driver::{Driver, DriverError, HostKernel, RawStream};
use std::ptr::NonNull;

const MIB: usize = 1 << 20;

/// A machine with one device and one stream, and short forms of the driver calls.
struct Rig {
    sim: Simulator,
    stream: RawStream,
}

impl Rig {
    fn new(profile: Profile) -> Self {
        let sim = Simulator::new([profile]).expect("the profile is sound");
        let stream = sim.create_stream(0, false).expect("a stream");
        Self { sim, stream }
    }

    fn h100() -> Self {
        Self::new(Profile::default())
    }

    fn second_stream(&self) -> RawStream {
        self.sim.create_stream(0, false).expect("a stream")
    }

    fn device(&self, bytes: usize) -> NonNull<u8> {
        self.sim.allocate_device(0, bytes).expect("device memory")
    }

    fn managed(&self, bytes: usize) -> NonNull<u8> {
        self.sim.allocate_managed(0, bytes).expect("unified memory")
    }

    fn pinned(&self, bytes: usize) -> &'static mut [u8] {
        let memory = self.sim.allocate_pinned(0, bytes).expect("pinned memory");
        // SAFETY: the allocation is live, initialized with poison, and leaked by the test.
        unsafe { std::slice::from_raw_parts_mut(memory.as_ptr(), bytes) }
    }

    fn copy(&self, dst: *mut u8, src: *const u8, bytes: usize, stream: RawStream) -> Result<(), DriverError> {
        // SAFETY: the tests keep the memory that they copy. Where a test frees it on purpose, only bytes are affected.
        unsafe { self.sim.copy_async(0, dst, src, bytes, stream) }
    }

    fn fill(&self, dst: NonNull<u8>, value: u8, bytes: usize) {
        // SAFETY: only the test uses the memory.
        unsafe { self.sim.fill_async(0, dst.as_ptr(), value, bytes, self.stream) }.expect("a fill");
    }

    fn launch(&self, kernel: HostKernel, stream: RawStream) -> Result<(), DriverError> {
        // SAFETY: the tests keep the memory that their kernels use.
        unsafe { self.sim.launch_host(0, kernel, stream) }
    }

    fn sync(&self, stream: RawStream) -> Result<(), DriverError> {
        // SAFETY: the stream is live.
        unsafe { self.sim.synchronize_stream(0, stream) }
    }

    fn free(&self, ptr: NonNull<u8>) -> Result<(), DriverError> {
        // SAFETY: the tests use memory after its free only in calls that are rejected.
        unsafe { self.sim.free(0, ptr) }
    }

    /// Returns the contents of device memory, through a copy on the rig's stream.
    fn bytes(&self, src: NonNull<u8>, bytes: usize) -> Vec<u8> {
        let mut out = vec![0; bytes];
        self.copy(out.as_mut_ptr(), src.as_ptr(), bytes, self.stream).expect("a copy");
        out
    }

    fn nanos(&self) -> u64 {
        self.sim.clock().as_nanos() as u64
    }

    /// Returns the virtual time that `what` takes, in nanoseconds.
    fn time(&self, what: impl FnOnce()) -> u64 {
        let before = self.nanos();
        what();
        self.nanos() - before
    }
}
