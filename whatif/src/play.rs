//! Playing a pattern on a simulated device, to see how long it takes.

use cumem::error::{DeallocReason, ErrorReport};
use cumem::kernel::{AccessMode, HostKernel};
use cumem::sim::{Profile, Simulator};
use cumem::unified::accounting::{AccessPattern, Processor, Step};
use cumem::unified::{MigrationPolicy, hints};
use cumem::{
    AllocError, Block, Device, DeviceError, DeviceId, DriverError, Location, ManagedResource, MemoryResource, Stream,
    layout,
};
use std::time::Duration;

/// A simulated device with the pattern's memory.
struct Stage {
    device: Device,
    simulator: Simulator,
    stream: Stream,
    memory: Vec<Block>,
}

/// Virtual time of the pattern on a device of `profile`, where each memory has its policy; advising is part of it.
/// Without work of kernels, which is the same under every policy.
pub(crate) fn play(
    pattern: &AccessPattern,
    profile: &Profile,
    policies: impl FnOnce(DeviceId) -> Vec<MigrationPolicy>,
) -> Result<Duration, AllocError> {
    let simulator = Simulator::new([profile.clone()])?;
    let device = Device::of_simulator(&simulator, 0)?;
    let stream = Stream::new(&device)?;
    let resource = ManagedResource::new(&device)?;
    let allocate = |bytes| resource.allocate(&stream, layout::bytes(bytes)?);
    let memory = pattern.memories().iter().map(|memory| allocate(memory.bytes)).collect::<Result<_, _>>()?;
    let stage = Stage { device: device.clone(), simulator: simulator.clone(), stream: stream.clone(), memory };
    let start = simulator.clock();
    for (block, policy) in stage.memory.iter().zip(policies(device.id())) {
        let _where_the_device_can = policy.apply(block, 0..block.size(), &stream)?;
    }
    pattern.steps().iter().try_for_each(|step| stage.act(step))?;
    stream.synchronize()?;
    let took = simulator.clock() - start;
    for block in stage.memory {
        // SAFETY: the stream's work is done, and nothing refers to the memory.
        unsafe { resource.deallocate(&stream, block) }.map_err(|error| match error.reason {
            DeallocReason::Device(error) => error,
            reason => {
                DriverError::Simulation { device: device.id(), message: ErrorReport::of(&reason).to_string() }.into()
            }
        })?;
    }
    Ok(took)
}

impl Stage {
    fn act(&self, step: &Step) -> Result<(), DeviceError> {
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
                match self.device.attributes().concurrent_managed_access {
                    true => self.stream.synchronize()?,
                    // There the host may use managed memory only while the device does no work at all.
                    false => self.device.synchronize()?,
                }
                Ok(self.simulator.access_from_host(addr as *const u8, bytes, *mode)?)
            }
            Step::Used { by: Processor::Device, mode, .. } => {
                let kernel = HostKernel::new("replayed", |_| ());
                let kernel = match mode {
                    AccessMode::Read => kernel.reads(addr, bytes),
                    AccessMode::Write => kernel.writes(addr, bytes),
                };
                // SAFETY: the range is within a block that lives until the stream was waited for; its bytes are the
                // simulator's, and no other code uses them.
                unsafe { self.stream.launch_host(kernel) }
            }
            _ => Err(DriverError::NotSupported { what: "a step of this sort", device: self.device.id() }.into()),
        }
    }
}
