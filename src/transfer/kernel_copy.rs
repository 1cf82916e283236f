//! [`Teller`]: small transfers between page-locked and unified memory, by kernels that say when they are done.

use super::device_staging::Stage;
use super::enqueue::{enqueue_copy, settle};
use super::path::SLOT_BYTES;
use super::path::STAGING_SLOT;
use super::request::Direction;
use super::request::Ends;
use super::request::Transfer;
use crate::device::error::DeviceError;
use crate::device::stream::Stream;
use cumem_driver::owned::{OwnedDeviceMemory, OwnedModule, OwnedPinnedMemory, RawDevice};
use cumem_driver::{DriverError, RawFunction};
use cumem_driver::{KernelArg, LaunchConfig};
use smallvec::{SmallVec, smallvec};
use std::hint;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Made by `examples/kernels/build.py`.
const PTX: &str = include_str!("copy.ptx");
const THREADS: u32 = 1024;
/// What a block moves before it waits for the link.
const BLOCK_BYTES: usize = 64 << 10;
/// More do not make the link faster ...
const BLOCKS: usize = 16;
/// ... but they do so with what lies on the device.
const GATHERING: usize = 64;
/// So many fetch what a copy engine does not bring.
const OVER_LINK: usize = 8;
/// Up to here a copy engine brings only so many bytes: these fetch the rest while those come and are gathered.
const OVER_LINK_UNTIL: usize = 1 << 20;
const BY_ENGINE: usize = 384 << 10;
/// After so many looks the stream is asked whether anything is still to come.
const LOOKS: u32 = 1 << 14;

/// A few KiB of page-locked memory, two words of the device's, and the kernels.
pub(super) struct Teller {
    /// The slot, and behind it the word that a kernel writes.
    memory: OwnedPinnedMemory,
    /// How many blocks have arrived, and what a copy engine's stream writes.
    words: OwnedDeviceMemory,
    kernels: Arc<Kernels>,
    door: RawDevice,
    told: u32,
    gathers: bool,
}

/// The kernels of all of them.
pub(super) struct Kernels {
    copy: RawFunction,
    gather: RawFunction,
    _module: OwnedModule,
}

impl Kernels {
    /// A device before Volta has none, nor has one that runs no PTX.
    pub(super) fn load(door: &RawDevice) -> Result<Self, DriverError> {
        let module = OwnedModule::load(door, PTX)?;
        let (copy, gather) = (module.function("copy_and_tell")?, module.function("gather_and_tell")?);
        Ok(Self { copy, gather, _module: module })
    }
}

impl Teller {
    pub(super) fn new(door: &RawDevice, kernels: Arc<Kernels>, stream: &Stream) -> Result<Self, DeviceError> {
        let (device, raw) = (stream.device(), stream.raw()?);
        let memory = OwnedPinnedMemory::new(door, SLOT_BYTES + size_of::<u32>())?;
        // SAFETY: the memory is that long, and its start is aligned to pages.
        unsafe { memory.at(SLOT_BYTES).cast::<u32>().write(0) };
        let words = OwnedDeviceMemory::new(door, 2 * size_of::<u32>())?;
        // SAFETY: the memory is that long, and nothing else uses it.
        device.enqueue(|| unsafe {
            door.driver().fill_async(door.ordinal(), words.at(0), 0, 2 * size_of::<u32>(), raw)
        })?;
        let second = words.at(size_of::<u32>()).cast();
        // SAFETY: the word is the last of the memory.
        let written = device.enqueue(|| unsafe { door.driver().write_value(door.ordinal(), second, 0, raw) });
        settle(stream)?;
        Ok(Self { memory, words, kernels, door: door.clone(), told: 0, gathers: written.is_ok() })
    }

    /// Whether [`gather`](Self::gather) works with this driver.
    pub(super) fn gathers(&self) -> bool {
        self.gathers
    }

    /// Copies between the device and the slot, and between the slot and the host's end.
    ///
    /// # Safety
    ///
    /// That of [`Transfers::carry`](super::Transfers::carry), and the bytes fit into the slot.
    pub(super) unsafe fn through_slot(&mut self, transfer: Transfer, stream: &Stream) -> Result<(), DeviceError> {
        let (slot, bytes) = (self.memory.at(0), transfer.bytes);
        if transfer.direction == Direction::ToDevice {
            // SAFETY: the caller vouches for the host's end; the slot is this object's, which is borrowed mutably.
            unsafe { Ends { to: slot, from: transfer.host, bytes }.stream() };
        }
        // SAFETY: by this function's contract; the slot is page-locked.
        unsafe { self.directly(Transfer { host: slot, ..transfer }, stream) }?;
        if transfer.direction == Direction::ToHost {
            // SAFETY: as above, and the kernel has written the slot.
            unsafe { ptr::copy_nonoverlapping(slot, transfer.host, bytes) };
        }
        Ok(())
    }

    /// Copies between the device and the host's end.
    ///
    /// # Safety
    ///
    /// That of [`Transfers::carry`](super::Transfers::carry), and the host's end is page-locked.
    pub(super) unsafe fn directly(&mut self, transfer: Transfer, stream: &Stream) -> Result<(), DeviceError> {
        let blocks = transfer.bytes.div_ceil(BLOCK_BYTES).min(BLOCKS);
        // SAFETY: by this function's contract.
        unsafe { self.launch(self.kernels.copy, blocks, transfer, [], stream) }?;
        self.wait(stream)
    }

    /// Copies to the device: a copy engine brings the bytes to the stage, at the full speed of the link, where the
    /// kernel waits for them. What comes before them on the stream does not hold them up.
    ///
    /// # Safety
    ///
    /// That of [`directly`](Self::directly), and the bytes fit into a slot of the stage.
    pub(super) unsafe fn gather(
        &mut self,
        transfer: Transfer,
        stage: &Stage,
        stream: &Stream,
    ) -> Result<(), DeviceError> {
        debug_assert!(transfer.direction == Direction::ToDevice && transfer.bytes <= STAGING_SLOT);
        let by_engine = if transfer.bytes > OVER_LINK_UNTIL { transfer.bytes } else { transfer.bytes.min(BY_ENGINE) };
        let over_link = if by_engine < transfer.bytes { OVER_LINK } else { 0 };
        let gathering = by_engine.div_ceil(BLOCK_BYTES).min(GATHERING);
        let (staged, ready) = (stage.start(), self.words.at(size_of::<u32>()));
        let more = [
            KernelArg::new(staged.expose_provenance() as u64),
            KernelArg::new(by_engine as u64),
            KernelArg::new(ready.expose_provenance() as u64),
            KernelArg::new(over_link as u32),
        ];
        let mut gathered = || {
            // SAFETY: by this function's contract; nothing else uses the stage, which is waited for below.
            unsafe { enqueue_copy(Ends { to: staged, from: transfer.host, bytes: by_engine }, stage.link(), stream) }?;
            // SAFETY: the word is this object's.
            unsafe {
                self.door.driver().write_value(
                    self.door.ordinal(),
                    ready.cast(),
                    self.told.wrapping_add(1),
                    stage.link(),
                )
            }?;
            // SAFETY: by this function's contract; the rest is this object's and the stage's.
            unsafe { self.launch(self.kernels.gather, gathering + over_link, transfer, more, stream) }?;
            self.wait(stream)
        };
        // Once the kernel has told, nothing is under way any more.
        gathered().or_else(|error| stage.settle(Err(error), transfer.direction, stream))
    }

    /// Launches a kernel with the arguments that both take, and `more`.
    ///
    /// # Safety
    ///
    /// That of [`directly`](Self::directly); `more` are the kernel's further arguments (copy.cu), and what they name is
    /// not used otherwise until it has ended.
    unsafe fn launch<const MORE: usize>(
        &mut self,
        function: RawFunction,
        blocks: usize,
        transfer: Transfer,
        more: [KernelArg; MORE],
        stream: &Stream,
    ) -> Result<(), DeviceError> {
        let Ends { to, from, bytes } = transfer.ends();
        self.told = self.told.wrapping_add(1);
        let config = LaunchConfig::new((blocks as u32, 1, 1), (THREADS, 1, 1));
        let mut arguments: SmallVec<[KernelArg; 10]> = smallvec![
            KernelArg::new(to.expose_provenance() as u64),
            KernelArg::new(from.expose_provenance() as u64),
            KernelArg::new(bytes as u64),
            KernelArg::new(self.memory.at(SLOT_BYTES).expose_provenance() as u64),
            KernelArg::new(self.told),
            KernelArg::new(self.words.at(0).expose_provenance() as u64),
        ];
        arguments.extend(more);
        let (raw, door) = (stream.raw()?, &self.door);
        let launch = || {
            // SAFETY: the arguments are the kernel's (copy.cu); the caller vouches for both ends, and the rest is this
            // object's, which is borrowed until the kernel has ended.
            unsafe { door.driver().launch(door.ordinal(), function, config, &arguments, raw) }
        };
        stream.device().enqueue(launch)
    }

    /// Waits for the kernel, which has been launched.
    fn wait(&self, stream: &Stream) -> Result<(), DeviceError> {
        // SAFETY: the word is aligned, lives as long as `self`, and is only written by the kernel, as one word.
        let word = unsafe { AtomicU32::from_ptr(self.memory.at(SLOT_BYTES).cast()) };
        loop {
            for _ in 0..LOOKS {
                if word.load(Ordering::Acquire) == self.told {
                    return Ok(());
                }
                hint::spin_loop();
            }
            // Where earlier work has failed the word never comes.
            match stream.is_idle() {
                Ok(false) => {}
                Ok(true) | Err(_) => return settle(stream),
            }
        }
    }
}
