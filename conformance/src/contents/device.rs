//! The probe that works on the device: kernels on a GPU, host closures on a simulated device.

use super::pattern::{pattern, windows};
use super::probe::Probe;
use crate::broken::{Broken, Outcome};
use crate::kernels::Kernels;
use cumem::kernel::{HostKernel, KernelArg, LaunchConfig};
use cumem::{AllocError, Block, Device, DeviceError, DriverError, MemoryResource, PinnedResource, Stream, layout};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Creates the probe that matches the device: a GPU or a simulated one.
pub(super) fn probe(device: &Device) -> Result<Box<dyn Probe>, DeviceError> {
    if device.is_simulated() { Ok(Box::<SimulatedProbe>::default()) } else { Ok(Box::new(GpuProbe::new(device)?)) }
}

fn answer(found: u64) -> Outcome {
    match found {
        0 => Ok(()),
        serial => {
            Err(Broken::new(format!("the contents of block {serial} (counted from 1) changed while it was live")))
        }
    }
}

/// Runs host closures in stream order.
#[derive(Default)]
struct SimulatedProbe {
    /// The serial of a block whose contents had changed; 0 if there is none.
    found: Arc<AtomicU64>,
}

impl Probe for SimulatedProbe {
    unsafe fn write(&self, stream: &Stream, block: &Block, serial: u64) -> Outcome {
        for (offset, len) in windows(block.size()) {
            let kernel = HostKernel::new("fill", move |memory| {
                let bytes = memory.write::<u8>(0);
                bytes.iter_mut().enumerate().for_each(|(i, byte)| *byte = pattern(serial, offset + i));
            });
            // SAFETY: the caller vouches for the block, and `windows` stays within it.
            unsafe { stream.launch_host(kernel.writes(block.addr() + offset as u64, len)) }?;
        }
        Ok(())
    }

    unsafe fn verify(&self, stream: &Stream, block: &Block, serial: u64) -> Outcome {
        for (offset, len) in windows(block.size()) {
            let found = Arc::clone(&self.found);
            let kernel = HostKernel::new("verify", move |memory| {
                if (offset..).zip(memory.read::<u8>(0)).any(|(i, &byte)| byte != pattern(serial, i)) {
                    found.store(serial, Ordering::Relaxed);
                }
            });
            // SAFETY: the caller vouches for the block, and `windows` stays within it.
            unsafe { stream.launch_host(kernel.reads(block.addr() + offset as u64, len)) }?;
        }
        Ok(())
    }

    fn settle(&self) -> Outcome {
        answer(self.found.swap(0, Ordering::Relaxed))
    }
}

/// Runs kernels in stream order. They store their result in pinned memory, which the host reads.
struct GpuProbe {
    kernels: Kernels,
    stream: Stream,
    pinned: PinnedResource,
    found: Option<Block>,
}

impl GpuProbe {
    fn new(device: &Device) -> Result<Self, DeviceError> {
        let (stream, pinned) = (Stream::new(device)?, PinnedResource::new(device));
        let block = layout::array::<u64>(1).map_err(AllocError::from).and_then(|it| pinned.allocate(&stream, it));
        let found = block.map_err(|error| match error {
            AllocError::Device(error) => error,
            _ => DriverError::NotSupported { what: "8 bytes of pinned memory", device: device.id() }.into(),
        })?;
        let this = Self { kernels: Kernels::load(device)?, stream, pinned, found: Some(found) };
        this.take();
        Ok(this)
    }

    fn addr(&self) -> u64 {
        self.found.as_ref().map_or(0, Block::addr)
    }

    /// Reads the result and clears it.
    fn take(&self) -> u64 {
        let Some(found) = &self.found else { return 0 };
        // SAFETY: the block is eight aligned bytes of pinned memory that live as long as `self`;
        // kernels only store to them.
        let cell = unsafe { AtomicU64::from_ptr(found.as_ptr().cast()) };
        cell.swap(0, Ordering::Relaxed)
    }
}

const ONE_BLOCK: LaunchConfig = LaunchConfig::new((1, 1, 1), (256, 1, 1));

impl Probe for GpuProbe {
    unsafe fn write(&self, stream: &Stream, block: &Block, serial: u64) -> Outcome {
        for (offset, len) in windows(block.size()) {
            let args = [
                KernelArg::new(block.addr() + offset as u64),
                KernelArg::new(len as u64),
                KernelArg::new(offset as u64),
                KernelArg::new(u32::from(pattern(serial, 0))),
            ];
            // SAFETY: the arguments match `fill`; the caller vouches for the block, and `windows` stays within it.
            unsafe { stream.launch_kernel(&self.kernels.fill, ONE_BLOCK, &args) }?;
        }
        Ok(())
    }

    unsafe fn verify(&self, stream: &Stream, block: &Block, serial: u64) -> Outcome {
        for (offset, len) in windows(block.size()) {
            let args = [
                KernelArg::new(block.addr() + offset as u64),
                KernelArg::new(len as u64),
                KernelArg::new(offset as u64),
                KernelArg::new(u32::from(pattern(serial, 0))),
                KernelArg::new(serial),
                KernelArg::new(self.addr()),
            ];
            // SAFETY: the arguments match `verify`; the caller vouches for the block, and `windows` stays within it.
            unsafe { stream.launch_kernel(&self.kernels.verify, ONE_BLOCK, &args) }?;
        }
        Ok(())
    }

    fn settle(&self) -> Outcome {
        answer(self.take())
    }
}

impl Drop for GpuProbe {
    fn drop(&mut self) {
        let Some(found) = self.found.take() else { return };
        let idle = self.stream.device().synchronize();
        // SAFETY: the device has finished all work that uses the result, and only this probe knows its address.
        let freed = unsafe { self.pinned.deallocate(&self.stream, found) };
        cumem::error::record_drop_error("the cell of a probe", idle);
        cumem::error::record_drop_error("the cell of a probe", freed);
    }
}
