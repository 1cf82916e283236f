//! [`KernelCopy`]: small transfers between pinned and unified memory, by kernels that write a word to pinned memory
//! when they are done.

use super::device_staging::DeviceStaging;
use super::enqueue::{enqueue_copy, wait_for_stream};
use super::request::{Direction, Ends, Transfer};
use super::sizes::{KERNEL_SLOT, STAGING_SLOT};
use crate::device::error::DeviceError;
use crate::device::stream::Stream;
use cumem_driver::owned::{OwnedDeviceMemory, OwnedModule, OwnedPinnedMemory, RawDevice};
use cumem_driver::{DriverError, KernelArg, LaunchConfig, RawFunction};
use smallvec::{SmallVec, smallvec};
use std::hint;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// The kernels of `copy.cu`, compiled by `examples/kernels/build.py`.
const PTX: &str = include_str!("copy.ptx");
const THREADS: u32 = 1024;
/// Bytes that a block reads before it waits for the first of them: four words of 16 bytes in each thread.
const BLOCK_BYTES: usize = 64 << 10;
/// Largest number of blocks that copy over the link. More blocks do not make the link faster.
const LINK_BLOCKS_MAX: usize = 16;
/// Largest number of blocks that copy from device memory, where more blocks are faster.
const GATHER_BLOCKS_MAX: usize = 64;
/// Largest copy to the device that a copy engine shares with blocks. The engine brings [`ENGINE_BYTES`]. At the same
/// time [`FETCH_BLOCKS`] blocks fetch the other bytes over the link, and the other blocks copy the engine's bytes.
const SHARED_MAX: usize = 1 << 20;
const ENGINE_BYTES: usize = 384 << 10;
const FETCH_BLOCKS: usize = 8;
/// Polls of the word that a kernel writes, between two queries of the stream.
const POLLS: u32 = 1 << 14;

/// Kernels that copy, with 8 KiB of pinned memory for a slot.
pub(super) struct KernelCopy {
    /// The slot, and behind it the word `done`, to which a kernel writes the number of its launch.
    pinned: OwnedPinnedMemory,
    /// The word `arrived`, which counts finished blocks, and the word `ready`, which the copy engine's stream writes.
    words: OwnedDeviceMemory,
    kernels: Arc<Kernels>,
    device: RawDevice,
    /// The number of the last launch.
    launches: u32,
    can_gather: bool,
}

/// The two kernels of a device, which all its [`KernelCopy`]s share.
pub(super) struct Kernels {
    copy: RawFunction,
    gather: RawFunction,
    _module: OwnedModule,
}

impl Kernels {
    /// Loads the kernels. This fails on devices before Volta, and on devices that run no PTX.
    pub(super) fn load(device: &RawDevice) -> Result<Self, DriverError> {
        let module = OwnedModule::load(device, PTX)?;
        let (copy, gather) = (module.function("copy_and_tell")?, module.function("gather_and_tell")?);
        Ok(Self { copy, gather, _module: module })
    }
}

impl KernelCopy {
    pub(super) fn new(device: &RawDevice, kernels: Arc<Kernels>, stream: &Stream) -> Result<Self, DeviceError> {
        let raw = stream.raw()?;
        let pinned = OwnedPinnedMemory::new(device, KERNEL_SLOT + size_of::<u32>())?;
        // SAFETY: the memory ends with this word, which is aligned because the memory starts at a page.
        unsafe { pinned.at(KERNEL_SLOT).cast::<u32>().write(0) };
        let words = OwnedDeviceMemory::new(device, 2 * size_of::<u32>())?;
        // SAFETY: the memory has this length, and nothing else uses it.
        stream.device().enqueue(|| unsafe {
            device.driver().fill_async(device.ordinal(), words.at(0), 0, 2 * size_of::<u32>(), raw)
        })?;
        let ready = words.at(size_of::<u32>()).cast();
        // SAFETY: the word is the second of the two, and nothing else uses it.
        let write = || unsafe { device.driver().write_value(device.ordinal(), ready, 0, raw) };
        let written = stream.device().enqueue(write);
        wait_for_stream(stream)?;
        Ok(Self { pinned, words, kernels, device: device.clone(), launches: 0, can_gather: written.is_ok() })
    }

    /// Reports whether [`run_gather`](Self::run_gather) works: it needs a driver that can write a word in stream order.
    pub(super) fn can_gather(&self) -> bool {
        self.can_gather
    }

    /// Runs the transfer through the slot. The kernel copies between the device's end and the slot, and this thread
    /// copies between the slot and the host's end.
    ///
    /// # Safety
    ///
    /// - The contract of [`Transfer`].
    /// - The bytes fit into the slot, and the device's end is aligned to 16 bytes.
    pub(super) unsafe fn run_through_slot(&mut self, transfer: Transfer, stream: &Stream) -> Result<(), DeviceError> {
        let (slot, bytes) = (self.pinned.at(0), transfer.bytes);
        if transfer.direction == Direction::ToDevice {
            // SAFETY: the caller ensures that the host's end is valid. The slot is large enough, and this object, which
            // owns it, is borrowed mutably.
            unsafe { Ends { to: slot, from: transfer.host, bytes }.copy_past_caches() };
        }
        // SAFETY: the caller keeps the contract for the device's end; the slot is pinned and aligned.
        unsafe { self.run(Transfer { host: slot, ..transfer }, stream) }?;
        if transfer.direction == Direction::ToHost {
            // SAFETY: as for the other direction, and the kernel has written the slot.
            unsafe { ptr::copy_nonoverlapping(slot, transfer.host, bytes) };
        }
        Ok(())
    }

    /// Runs the transfer with a kernel that copies between the two ends.
    ///
    /// # Safety
    ///
    /// - The contract of [`Transfer`].
    /// - The host's end is pinned memory, and both ends are aligned to 16 bytes.
    pub(super) unsafe fn run(&mut self, transfer: Transfer, stream: &Stream) -> Result<(), DeviceError> {
        let blocks = transfer.bytes.div_ceil(BLOCK_BYTES).min(LINK_BLOCKS_MAX);
        // SAFETY: the caller keeps the contract; this kernel has no further arguments.
        unsafe { self.launch(self.kernels.copy, blocks, transfer, [], stream) }?;
        self.wait_for_kernel(stream)
    }

    /// Runs a transfer to the device. A copy engine brings the bytes to the staging memory, at the full speed of the
    /// link. The kernel waits there for them. The engine does not wait for earlier work on the stream, only the kernel
    /// does.
    ///
    /// # Safety
    ///
    /// - The contract of [`run`](Self::run).
    /// - The bytes fit into a slot of `staging`, and no other transfer uses it.
    pub(super) unsafe fn run_gather(
        &mut self,
        transfer: Transfer,
        staging: &DeviceStaging,
        stream: &Stream,
    ) -> Result<(), DeviceError> {
        debug_assert!(transfer.direction == Direction::ToDevice && transfer.bytes <= STAGING_SLOT);
        let by_engine = if transfer.bytes > SHARED_MAX { transfer.bytes } else { transfer.bytes.min(ENGINE_BYTES) };
        let fetch_blocks = if by_engine < transfer.bytes { FETCH_BLOCKS } else { 0 };
        let gather_blocks = by_engine.div_ceil(BLOCK_BYTES).min(GATHER_BLOCKS_MAX);
        let (staged, ready) = (staging.start(), self.words.at(size_of::<u32>()));
        let more = [
            KernelArg::new(staged.expose_provenance() as u64),
            KernelArg::new(by_engine as u64),
            KernelArg::new(ready.expose_provenance() as u64),
            KernelArg::new(fetch_blocks as u32),
        ];
        let mut copy = || {
            let ends = Ends { to: staged, from: transfer.host, bytes: by_engine };
            // SAFETY: the caller ensures that the host's end is valid. No other transfer uses the staging memory, and
            // the waits below end this copy.
            unsafe { enqueue_copy(ends, staging.link(), stream) }?;
            // SAFETY: this object owns the word, and the link is a live stream of this device.
            unsafe {
                self.device.driver().write_value(
                    self.device.ordinal(),
                    ready.cast(),
                    self.launches.wrapping_add(1),
                    staging.link(),
                )
            }?;
            // SAFETY: the caller keeps the contract. `more` are this kernel's arguments; they name the word and the
            // staging memory, which nothing else uses until the waits below.
            unsafe { self.launch(self.kernels.gather, gather_blocks + fetch_blocks, transfer, more, stream) }?;
            self.wait_for_kernel(stream)
        };
        // If the kernel is done, so is the engine's copy, for which it has waited. After an error, wait for the device.
        copy().or_else(|error| staging.wait(Err(error), transfer.direction, stream))
    }

    /// Launches a kernel with the arguments that both kernels take, followed by `more`.
    ///
    /// # Safety
    ///
    /// - The contract of [`run`](Self::run), until the kernel has ended.
    /// - `more` are the further arguments of `function` (`copy.cu`). Nothing else uses the memory that they name until
    ///   the kernel has ended.
    unsafe fn launch<const MORE: usize>(
        &mut self,
        function: RawFunction,
        blocks: usize,
        transfer: Transfer,
        more: [KernelArg; MORE],
        stream: &Stream,
    ) -> Result<(), DeviceError> {
        let Ends { to, from, bytes } = transfer.ends();
        self.launches = self.launches.wrapping_add(1);
        let config = LaunchConfig::new((blocks as u32, 1, 1), (THREADS, 1, 1));
        let mut arguments: SmallVec<[KernelArg; 10]> = smallvec![
            KernelArg::new(to.expose_provenance() as u64),
            KernelArg::new(from.expose_provenance() as u64),
            KernelArg::new(bytes as u64),
            KernelArg::new(self.pinned.at(KERNEL_SLOT).expose_provenance() as u64),
            KernelArg::new(self.launches),
            KernelArg::new(self.words.at(0).expose_provenance() as u64),
        ];
        arguments.extend(more);
        let (raw, device) = (stream.raw()?, &self.device);
        let launch = || {
            // SAFETY: the arguments are those of the kernel (`copy.cu`). The caller ensures that both ends, and the
            // memory that `more` names, stay valid. This object owns the rest, and is borrowed until the kernel has
            // ended.
            unsafe { device.driver().launch(device.ordinal(), function, config, &arguments, raw) }
        };
        stream.device().enqueue(launch)
    }

    /// Waits for the kernel that was launched last.
    fn wait_for_kernel(&self, stream: &Stream) -> Result<(), DeviceError> {
        // SAFETY: the word is aligned and lives as long as `self`. Only the kernel writes it, with one store.
        let done = unsafe { AtomicU32::from_ptr(self.pinned.at(KERNEL_SLOT).cast()) };
        loop {
            for _ in 0..POLLS {
                if done.load(Ordering::Acquire) == self.launches {
                    return Ok(());
                }
                hint::spin_loop();
            }
            // If earlier work has failed, the kernel does not run and never writes the word.
            match stream.is_idle() {
                Ok(false) => {}
                Ok(true) | Err(_) => return wait_for_stream(stream),
            }
        }
    }
}
