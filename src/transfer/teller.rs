//! [`Teller`]: small transfers between page-locked and unified memory, by a kernel that says when it is done.

use super::gear::{DeviceMemory, Door, Kernel, PinnedMemory};
use super::host::Ends;
use super::path::{Direction, SLOT_BYTES};
use super::{Transfer, settle};
use crate::error::DriverError;
use crate::kernel::{KernelArg, LaunchConfig};
use crate::stream::Stream;
use std::hint;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Made by `examples/kernels/build.py`.
const PTX: &str = include_str!("copy.ptx");
const THREADS: u32 = 1024;
/// What a block moves before it waits for the link.
const BLOCK_BYTES: usize = 64 << 10;
/// More do not make the link faster.
const BLOCKS: usize = 16;
/// After so many looks, some 50 us, the stream is asked whether anything is still to come.
const LOOKS: u32 = 1 << 14;

/// A few KiB of page-locked memory, and the kernel.
pub(super) struct Teller {
    /// The slot, and behind it the word that the kernel writes.
    memory: PinnedMemory,
    arrived: DeviceMemory,
    kernel: Arc<Kernel>,
    door: Door,
    told: u32,
}

impl Teller {
    /// The kernel of all of them. A device before Volta has none, nor has one that runs no PTX.
    pub(super) fn kernel(door: &Door) -> Result<Arc<Kernel>, DriverError> {
        Kernel::load(door, PTX, "copy_and_tell").map(Arc::new)
    }

    pub(super) fn new(door: &Door, kernel: Arc<Kernel>) -> Result<Self, DriverError> {
        let memory = PinnedMemory::new(door, SLOT_BYTES + size_of::<u32>())?;
        // SAFETY: the memory is that long, and its start is aligned to pages.
        unsafe { memory.at(SLOT_BYTES).cast::<u32>().write(0) };
        let arrived = DeviceMemory::new(door, size_of::<u32>())?;
        let legacy = crate::driver::RawStream::LEGACY;
        // SAFETY: the memory is that long, and nothing else uses it.
        unsafe { door.driver.fill_async(door.d, arrived.at(0), 0, size_of::<u32>(), legacy) }?;
        // SAFETY: the legacy default stream is always there.
        unsafe { door.driver.synchronize_stream(door.d, legacy) }?;
        Ok(Self { memory, arrived, kernel, door: door.clone(), told: 0 })
    }

    /// Copies between the device and the slot, and between the slot and the host's end.
    ///
    /// # Safety
    ///
    /// That of [`Transfers::carry`](super::Transfers::carry), and the bytes fit into the slot.
    pub(super) unsafe fn through_slot(&mut self, transfer: Transfer, stream: &Stream) -> Result<(), DriverError> {
        let (slot, bytes) = (self.memory.at(0), transfer.bytes);
        if transfer.direction == Direction::ToDevice {
            // SAFETY: the caller vouches for the host's end; the slot is this object's, which is borrowed mutably.
            unsafe { ptr::copy_nonoverlapping(transfer.host, slot, bytes) };
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
    pub(super) unsafe fn directly(&mut self, transfer: Transfer, stream: &Stream) -> Result<(), DriverError> {
        let Ends { to, from, bytes } = transfer.ends();
        self.told = self.told.wrapping_add(1);
        let blocks = bytes.div_ceil(BLOCK_BYTES).min(BLOCKS) as u32;
        let config = LaunchConfig { grid: (blocks, 1, 1), block: (THREADS, 1, 1), shared_bytes: 0 };
        let arguments = [
            KernelArg::new(to.expose_provenance() as u64),
            KernelArg::new(from.expose_provenance() as u64),
            KernelArg::new(bytes as u64),
            KernelArg::new(self.memory.at(SLOT_BYTES).expose_provenance() as u64),
            KernelArg::new(self.told),
            KernelArg::new(self.arrived.at(0).expose_provenance() as u64),
        ];
        let (raw, door) = (stream.raw()?, &self.door);
        let launch = || {
            // SAFETY: the arguments are the kernel's (copy.cu); the caller vouches for both ends, and the rest is this
            // object's, which is borrowed until the kernel has ended.
            unsafe { door.driver.launch(door.d, self.kernel.function, config, &arguments, raw) }
        };
        stream.device().enqueue(launch)?;
        self.wait(stream)
    }

    /// Waits for the kernel, which has been launched.
    fn wait(&self, stream: &Stream) -> Result<(), DriverError> {
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
