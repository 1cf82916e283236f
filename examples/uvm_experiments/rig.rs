//! A simulated device, and the operations of the experiments.

use cumem::kernel::{AccessMode, HostKernel, Pattern};
use cumem::sim::{DeviceStatistics, Profile};
use cumem::unified::Advice;
use cumem::{Buffer, CudaResource, Device, Location, ManagedResource, PinnedResource, Stream};
use std::error::Error;
use std::ops::Range;
use std::time::Duration;

pub(crate) type Outcome<T> = Result<T, Box<dyn Error>>;
pub(crate) type Unified = Buffer<u8, ManagedResource>;

pub(crate) const KIB: usize = 1 << 10;
pub(crate) const MIB: usize = 1 << 20;
pub(crate) const PAGE: usize = 4 << 10;
pub(crate) const BLOCK: usize = 2 << 20;

pub(crate) struct Rig {
    pub(crate) device: Device,
    pub(crate) stream: Stream,
}

impl Rig {
    pub(crate) fn new(profile: Profile) -> Outcome<Self> {
        Self::on(Device::simulated(profile)?)
    }

    pub(crate) fn on(device: Device) -> Outcome<Self> {
        Ok(Self { stream: Stream::new(&device)?, device })
    }

    pub(crate) fn simulator(&self) -> &cumem::sim::Simulator {
        self.device.simulator().expect("the device is simulated")
    }

    pub(crate) fn here(&self) -> Location {
        Location::Device(self.device.id())
    }

    pub(crate) fn unified(&self, bytes: usize) -> Outcome<Unified> {
        Ok(Buffer::with_capacity(bytes, &self.stream, ManagedResource::new(&self.device)?)?)
    }

    pub(crate) fn plain(&self, bytes: usize) -> Outcome<Buffer<u8, CudaResource>> {
        Ok(Buffer::with_capacity(bytes, &self.stream, CudaResource::new(&self.device))?)
    }

    /// The host touches each page of a range, ascending.
    pub(crate) fn host(&self, buffer: &Unified, range: Range<usize>, mode: AccessMode) -> Outcome<()> {
        let start = buffer.as_ptr().wrapping_add(range.start);
        Ok(self.simulator().access_from_host(start, range.len(), mode)?)
    }

    /// Touches the pages of a range from one thread of the device.
    pub(crate) fn device(&self, buffer: &Unified, range: Range<usize>, mode: AccessMode) -> Outcome<()> {
        self.run(touching(HostKernel::new("touch", |_| ()), buffer, range, mode))
    }

    /// Runs a kernel that declares accesses and reads no byte.
    pub(crate) fn run(&self, kernel: HostKernel) -> Outcome<()> {
        // SAFETY: the buffers of an experiment live until its end, and the kernel accesses no byte.
        unsafe { self.stream.launch_host(kernel) }?;
        Ok(self.stream.synchronize()?)
    }

    pub(crate) fn prefetch(&self, buffer: &Unified, range: Range<usize>, to: Location) -> Outcome<()> {
        let _ = cumem::unified::hints::prefetch(buffer.block(), range, to, &self.stream)?;
        Ok(self.stream.synchronize()?)
    }

    pub(crate) fn advise(&self, buffer: &Unified, advice: Advice) -> Outcome<()> {
        let _ = cumem::unified::hints::advise(buffer.block(), 0..buffer.capacity(), advice, &self.stream)?;
        Ok(())
    }

    /// Returns the bytes of a range that are at a location.
    pub(crate) fn at(&self, buffer: &Unified, range: Range<usize>, location: Location) -> u64 {
        let start = buffer.as_ptr().wrapping_add(range.start);
        self.simulator().residency(start, range.len()).map_or(0, |residency| residency.on(location))
    }

    pub(crate) fn statistics(&self) -> DeviceStatistics {
        self.simulator().statistics(self.device.id()).expect("the device is the simulator's")
    }

    /// Returns the virtual microseconds that `what` takes.
    pub(crate) fn micros(&self, what: impl FnOnce() -> Outcome<()>) -> Outcome<f64> {
        let before = self.simulator().clock();
        what()?;
        Ok((self.simulator().clock() - before).as_nanos() as f64 / 1e3)
    }

    /// Waits long enough that no access counts as thrashing.
    pub(crate) fn rest(&self) {
        self.simulator().pass_time(Duration::from_millis(1));
    }

    /// Virtual microseconds of a copy from pinned memory to the device and, if `back`, of one back.
    pub(crate) fn explicit(&self, bytes: usize, back: bool) -> Outcome<f64> {
        let mut device = Buffer::<u8, _>::zeroed(bytes, &self.stream, CudaResource::new(&self.device))?;
        let mut pinned = Buffer::<u8, _>::zeroed(bytes, &self.stream, PinnedResource::new(&self.device))?;
        self.stream.synchronize()?;
        self.micros(|| {
            device.copy_from_buffer(&pinned)?;
            if back {
                pinned.copy_from_buffer(&device)?;
            }
            Ok(self.stream.synchronize()?)
        })
    }
}

/// A kernel that touches a further range of a buffer.
pub(crate) fn touching(kernel: HostKernel, buffer: &Unified, range: Range<usize>, mode: AccessMode) -> HostKernel {
    let addr = buffer.device_address() + range.start as u64;
    match mode {
        AccessMode::Read => kernel.reads(addr, range.len()),
        AccessMode::Write => kernel.writes(addr, range.len()),
    }
}

/// A kernel of many threads over a whole buffer.
pub(crate) fn walk(buffer: &Unified, pattern: Pattern, in_flight: usize) -> HostKernel {
    let kernel = HostKernel::new("walk", |_| ()).in_flight(in_flight);
    touching(kernel, buffer, 0..buffer.capacity(), AccessMode::Write).in_order(pattern)
}

/// Reports whether the driver was out of memory.
pub(crate) fn out_of_memory<T>(result: Outcome<T>) -> bool {
    let error = result.err();
    error.and_then(|error| error.downcast::<cumem::AllocError>().ok()).is_some_and(|error| error.is_out_of_memory())
}
