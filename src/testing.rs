//! Tools for tests on a simulated device: assertions about memory, and failures of each driver call in turn.

pub mod assertions;
pub mod faults;

use crate::block::Block;
use crate::device::Device;
use crate::device::stream::Stream;
use cumem_driver::{BlockEvent, DetectorListener};
use std::sync::Weak;

/// Records for the race detector that a block is usable on a stream from now on. Buffers do this themselves; the
/// function is for programs that use blocks. Does nothing on a GPU.
///
/// # Examples
///
/// ```
/// # use cumem::sim::Profile;
/// # use cumem::{CudaResource, Device, MemoryResource, Stream, layout};
/// # let device = Device::simulated(Profile::default())?;
/// # let stream = Stream::new(&device)?;
/// use cumem::sim::{declare_allocation, declare_free};
///
/// let memory = CudaResource::new(&device);
/// let block = memory.allocate(&stream, layout::bytes(1000)?)?;
/// declare_allocation(&block, &stream);
/// // enqueue work on `stream` that uses the block
/// declare_free(&block, &stream);
/// // SAFETY: all work that uses the block is on `stream`.
/// unsafe { memory.deallocate(&stream, block) }?;
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
pub fn declare_allocation(block: &Block, stream: &Stream) {
    block.declare(stream, BlockEvent::Allocated);
}

/// Records for the race detector that a block is about to be freed on a stream. Buffers do this themselves; the
/// function is for programs that use blocks. Does nothing on a GPU.
///
/// # Examples
///
/// ```
/// # use cumem::sim::Profile;
/// # use cumem::{CudaResource, Device, MemoryResource, Stream, layout};
/// # let device = Device::simulated(Profile::default())?;
/// # let stream = Stream::new(&device)?;
/// use cumem::sim::declare_free;
///
/// let memory = CudaResource::new(&device);
/// let block = memory.allocate(&stream, layout::bytes(1000)?)?;
/// declare_free(&block, &stream);
/// // SAFETY: no work uses the block.
/// unsafe { memory.deallocate(&stream, block) }?;
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
pub fn declare_free(block: &Block, stream: &Stream) {
    block.declare(stream, BlockEvent::Freed);
}

/// Records for the race detector that a pool hands a block out on a stream. From then on, a use that begins in the block
/// must stay within it. Does nothing on a GPU.
///
/// An adaptor that keeps the memory of freed blocks calls this function, [`declare_kept`] and [`declare_released`] while
/// the detector is on ([`watch_race_detector`]). The driver does not know which of that memory is free.
///
/// # Examples
///
/// ```
/// use cumem::kernel::HostKernel;
/// use cumem::sim::{Profile, RaceKind, declare_handed_out, declare_kept, declare_released};
/// use cumem::{CudaResource, Device, MemoryResource, Stream, layout};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::simulated(Profile::default())?;
/// let sim = device.simulator().ok_or("a simulated device")?;
/// sim.detect_races(true);
/// let stream = Stream::new(&device)?;
/// let memory = CudaResource::new(&device);
/// let block = memory.allocate(&stream, layout::bytes(1000)?)?;
/// declare_handed_out(&block, &stream);
/// declare_kept(&block, &stream); // a pool would keep the block for the next request
///
/// let late = HostKernel::new("late", |_| ()).writes(block.addr(), 1000);
/// // SAFETY: the closure uses no memory.
/// unsafe { stream.launch_host(late) }?;
/// assert_eq!(sim.take_races()[0].kind, RaceKind::UseAfterFree);
///
/// declare_released(&block, &stream);
/// // SAFETY: all work that uses the block is on `stream`.
/// unsafe { memory.deallocate(&stream, block) }?;
/// # Ok(())
/// # }
/// ```
pub fn declare_handed_out(block: &Block, stream: &Stream) {
    block.declare(stream, BlockEvent::HandedOut);
}

/// Records for the race detector that a block was freed on a stream, and that a pool keeps its memory. A use before the
/// pool hands the memory out again is a use after free, whatever the order. See [`declare_handed_out`] for an example.
/// Does nothing on a GPU.
pub fn declare_kept(block: &Block, stream: &Stream) {
    block.declare(stream, BlockEvent::Kept);
}

/// Records for the race detector that a block's memory leaves the pool that kept it. A pool declares this for its own
/// chunk, before it frees the chunk. See [`declare_handed_out`] for an example. Does nothing on a GPU.
pub fn declare_released(block: &Block, stream: &Stream) {
    block.declare(stream, BlockEvent::Released);
}

/// Notifies `listener` of each switch of the race detector of a simulated device's machine, and returns whether the
/// detector is on. Returns false on a GPU, which has none.
///
/// # Examples
///
/// ```
/// use cumem::Device;
/// use cumem::sim::{DetectorListener, Profile, watch_race_detector};
/// use std::sync::atomic::{AtomicBool, Ordering};
/// use std::sync::{Arc, Weak};
///
/// #[derive(Debug, Default)]
/// struct IsOn(AtomicBool);
///
/// impl DetectorListener for IsOn {
///     fn switched(&self, on: bool) {
///         self.0.store(on, Ordering::Relaxed);
///     }
/// }
///
/// let device = Device::simulated(Profile::default())?;
/// let is_on = Arc::new(IsOn::default());
/// let listener: Weak<IsOn> = Arc::downgrade(&is_on);
/// assert!(!watch_race_detector(&device, listener));
/// device.simulator().unwrap().detect_races(true);
/// assert!(is_on.0.load(Ordering::Relaxed));
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
pub fn watch_race_detector(device: &Device, listener: Weak<dyn DetectorListener>) -> bool {
    let Some(model) = device.model() else { return false };
    model.watch_detector(listener);
    model.detects_races()
}
