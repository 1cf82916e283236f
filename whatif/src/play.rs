//! Playing a pattern on a simulated device, to see how long it takes.

use super::pattern::{AccessPattern, Processor, Step};
use crate::block::Block;
use crate::device::Device;
use crate::driver::sim::Profile;
use crate::error::{AllocError, DeallocReason, DriverError};
use crate::hints::{self, MigrationPolicy};
use crate::kernel::{AccessMode, HostKernel};
use crate::layout;
use crate::location::{DeviceId, Location};
use crate::resource::MemoryResource;
use crate::resources::ManagedResource;
use crate::stream::Stream;
use std::time::Duration;

/// A simulated device with the pattern's memory.
struct Stage {
    device: Device,
    stream: Stream,
    memory: Vec<Block>,
}

/// Virtual time of the pattern on a device of `profile`, where each memory has its policy; advising is part of it.
/// Without work of kernels, which is the same under every policy.
pub(super) fn play(
    pattern: &AccessPattern,
    profile: &Profile,
    policies: impl FnOnce(DeviceId) -> Vec<MigrationPolicy>,
) -> Result<Duration, AllocError> {
    let device = Device::simulated(profile.clone())?;
    let stream = Stream::new(&device)?;
    let resource = ManagedResource::new(&device)?;
    let allocate = |bytes| resource.allocate(&stream, layout::bytes(bytes)?);
    let memory = pattern.memories().iter().map(|memory| allocate(memory.bytes)).collect::<Result<_, _>>()?;
    let stage = Stage { device: device.clone(), stream: stream.clone(), memory };
    let clock = || device.simulator().map_or(Duration::ZERO, |simulator| simulator.clock());
    let start = clock();
    for (block, policy) in stage.memory.iter().zip(policies(device.id())) {
        let _where_the_device_can = policy.apply(block, 0..block.size(), &stream)?;
    }
    pattern.steps().iter().try_for_each(|step| stage.act(step))?;
    stream.synchronize()?;
    let took = clock() - start;
    for block in stage.memory {
        // SAFETY: the stream's work is done, and nothing refers to the memory.
        unsafe { resource.deallocate(&stream, block) }.map_err(|error| match error.reason {
            DeallocReason::Driver(error) => error,
            reason => DriverError::Simulation { device: device.id(), message: reason.to_string() },
        })?;
    }
    Ok(took)
}

impl Stage {
    fn act(&self, step: &Step) -> Result<(), DriverError> {
        let (block, range) = (&self.memory[step.memory()], step.range());
        if range.is_empty() {
            return Ok(());
        }
        let (addr, bytes) = (block.addr() + range.start as u64, range.len());
        match step {
            Step::Prefetched { to, .. } => {
                let to = match to {
                    Processor::Host => Location::Host,
                    Processor::Device => Location::Device(self.device.id()),
                };
                hints::prefetch(block, range.clone(), to, &self.stream).map(drop)
            }
            Step::Used { by: Processor::Host, mode, .. } => {
                let _gate = self.device.host_access(&self.stream)?;
                let write = *mode == AccessMode::Write;
                self.device.driver().host_access(self.device.ordinal(), addr as *const u8, bytes, write)
            }
            Step::Used { by: Processor::Device, mode, .. } => {
                let kernel = HostKernel::new("replayed", |_| ());
                let kernel = match mode {
                    AccessMode::Read => kernel.reads(addr, bytes),
                    AccessMode::Write => kernel.writes(addr, bytes),
                };
                // SAFETY: the range is within a block that lives until the stream was waited for; its bytes are the
                // simulator's, and nobody else uses them.
                unsafe { self.stream.launch_host(kernel) }
            }
        }
    }
}
