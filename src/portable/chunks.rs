//! [`PortableBuffer::for_each_chunk`]: work on a buffer in chunks, so that transfers and kernels overlap.

use super::buffer::{Memory, PortableBuffer};
use super::shadowed::Shadowed;
use crate::buffer::{Buffer, Element, UnifiedBuffer};
use crate::device::error::DeviceError;
use crate::device::event::Event;
use crate::device::stream::Stream;
use crate::error::AllocError;
use crate::transfer::{self, Ends};
use crate::unified::hints;
use cumem_driver::drop_error::record_drop_error;
use std::ops::Range;

/// Some elements of a [`PortableBuffer`]. They are on the device while the work runs that was enqueued for them on
/// [`stream`](Self::stream).
///
/// # Examples
///
/// ```
/// # use cumem::sim::Profile;
/// # use cumem::{Device, Stream};
/// # let device = Device::simulated(Profile::default())?;
/// # let stream = Stream::new(&device)?;
/// use cumem::AllocError;
/// use cumem::portable::{Chunk, PortableBuffer, unified_or_pinned};
///
/// let mut buffer = PortableBuffer::<u32>::zeroed(1000, &stream, &unified_or_pinned(&device)?)?;
/// let mut chunks = Vec::new();
/// buffer.for_each_chunk(400, |chunk: Chunk<'_>| {
///     chunks.push(chunk.elements()); // launch a kernel with `chunk.device_address()` on `chunk.stream()`
///     Ok::<_, AllocError>(())
/// })?;
/// assert_eq!(chunks, [0..400, 400..800, 800..1000]);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Chunk<'a> {
    address: u64,
    elements: Range<usize>,
    stream: &'a Stream,
}

impl Chunk<'_> {
    /// Returns the address of the first element of the chunk.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// use cumem::AllocError;
    /// use cumem::portable::{PortableBuffer, unified_or_pinned};
    ///
    /// let mut buffer = PortableBuffer::<u32>::zeroed(1000, &stream, &unified_or_pinned(&device)?)?;
    /// let mut addresses = Vec::new();
    /// buffer.for_each_chunk(500, |chunk| {
    ///     addresses.push(chunk.device_address());
    ///     Ok::<_, AllocError>(())
    /// })?;
    /// assert_eq!(addresses[1] - addresses[0], 2000);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn device_address(&self) -> u64 {
        self.address
    }

    /// Returns the positions of the chunk's elements in the buffer.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// use cumem::AllocError;
    /// use cumem::portable::{PortableBuffer, unified_or_pinned};
    ///
    /// let mut buffer = PortableBuffer::<u32>::zeroed(10, &stream, &unified_or_pinned(&device)?)?;
    /// let mut last = 0..0;
    /// buffer.for_each_chunk(4, |chunk| {
    ///     last = chunk.elements();
    ///     Ok::<_, AllocError>(())
    /// })?;
    /// assert_eq!(last, 8..10);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn elements(&self) -> Range<usize> {
        self.elements.clone()
    }

    /// Returns the stream on which the work on the chunk must be enqueued.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// use cumem::AllocError;
    /// use cumem::portable::{PortableBuffer, unified_or_pinned};
    ///
    /// let mut buffer = PortableBuffer::<u32>::zeroed(10, &stream, &unified_or_pinned(&device)?)?;
    /// buffer.for_each_chunk(4, |chunk| {
    ///     assert_eq!(chunk.stream().id(), stream.id());
    ///     Ok::<_, AllocError>(())
    /// })?;
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn stream(&self) -> &Stream {
        self.stream
    }
}

/// Waits for its streams when it is dropped, also after an error or a panic, because no work may use the buffers
/// afterwards.
struct Wait<'a>(&'a [&'a Stream]);

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        for stream in self.0 {
            record_drop_error("a buffer's chunks", transfer::wait_for_stream(stream));
        }
    }
}

impl<T: Element> PortableBuffer<T> {
    /// Divides the elements into chunks of `size` elements, and calls `work` for each, in order. The last chunk may be
    /// smaller. `work` enqueues work on the chunk's stream. All of that work is complete on return.
    ///
    /// While the work on one chunk runs, the next chunk is prefetched or copied to the device. In pinned memory, the
    /// chunk before is copied back at the same time. In pinned memory this takes device memory for two chunks, whatever
    /// the size of the buffer.
    ///
    /// # Errors
    ///
    /// Returns [`DeviceError::OutOfRange`] if `size` is 0, the errors of `work`, the driver's errors, and an allocation
    /// error if device memory cannot be allocated. After an error, the chunks that `work` was called for may have been
    /// changed, and later chunks have not.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::AllocError;
    /// use cumem::kernel::HostKernel;
    /// use cumem::portable::{PortableBuffer, unified_or_pinned};
    /// # use cumem::sim::Profile;
    /// # use cumem::{Device, Stream};
    ///
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let mut numbers = PortableBuffer::<u32>::zeroed(1000, &stream, &unified_or_pinned(&device)?)?;
    /// numbers.for_each_chunk(300, |chunk| {
    ///     let (address, bytes) = (chunk.device_address(), 4 * chunk.elements().len());
    ///     let fill = HostKernel::new("fill", |memory| memory.write::<u32>(0).fill(7)).writes(address, bytes);
    ///     // SAFETY: the kernel writes this chunk only, and the chunk is on the device while the kernel runs.
    ///     unsafe { chunk.stream().launch_host(fill) }?;
    ///     Ok::<_, AllocError>(())
    /// })?;
    /// assert!(numbers.host_read()?.iter().all(|number| *number == 7));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn for_each_chunk<E: From<AllocError>>(
        &mut self,
        size: usize,
        work: impl FnMut(Chunk<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        if size == 0 {
            return Err(AllocError::from(DeviceError::OutOfRange { start: 0, end: 0, size: self.len() }).into());
        }
        match &mut self.memory {
            Memory::Unified(buffer) => prefetched(buffer, size, work),
            Memory::Pinned(memory) => double_buffered(memory, size, work),
        }
    }
}

fn chunks(len: usize, size: usize) -> impl Iterator<Item = Range<usize>> {
    (0..len).step_by(size).map(move |start| start..len.min(start.saturating_add(size)))
}

/// Prefetches the pages on a separate stream, one chunk ahead of the work.
fn prefetched<T: Element, E: From<AllocError>>(
    buffer: &UnifiedBuffer<T>,
    size: usize,
    mut work: impl FnMut(Chunk<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let stream = buffer.stream();
    let ahead = Stream::new(buffer.device()).map_err(AllocError::from)?;
    ahead.wait_for(stream).map_err(AllocError::from)?;
    let prefetch = |elements: &Range<usize>| {
        let bytes = elements.start * size_of::<T>()..elements.end * size_of::<T>();
        hints::prefetch_if_needed(buffer.block(), bytes, buffer.device().id(), &ahead).map_err(AllocError::from)
    };
    let all: Vec<_> = chunks(buffer.len(), size).collect();
    let streams = [&ahead, stream];
    let wait = Wait(&streams);
    if let Some(first) = all.first() {
        let _outcome = prefetch(first)?;
    }
    for (i, elements) in all.iter().enumerate() {
        // The work waits for the prefetch of its own chunk. The next chunk's prefetch is enqueued after this wait.
        stream.wait_for(&ahead).map_err(AllocError::from)?;
        let address = buffer.device_address() + (elements.start * size_of::<T>()) as u64;
        work(Chunk { address, elements: elements.clone(), stream })?;
        if let Some(next) = all.get(i + 1) {
            let _outcome = prefetch(next)?;
        }
    }
    drop(wait);
    // Returns errors of the work itself, which `wait` has only recorded.
    stream.synchronize().map_err(AllocError::from)?;
    Ok(())
}

/// Copies each chunk to one of two slots of device memory, in turns. One stream fills the slots, the buffer's stream
/// does the work, and a third stream copies the chunks back.
fn double_buffered<T: Element, E: From<AllocError>>(
    memory: &mut Shadowed<T>,
    size: usize,
    mut work: impl FnMut(Chunk<'_>) -> Result<(), E>,
) -> Result<(), E> {
    memory.copy_from_shadow().map_err(AllocError::from)?;
    memory.host_is_newer();
    let host = &memory.host;
    let stream = host.stream();
    let new = || Stream::new(host.device()).map_err(AllocError::from);
    let (fill, empty) = (new()?, new()?);
    let slot = || {
        // SAFETY: a copy fills each chunk before the work on it, which may read it.
        unsafe { Buffer::<T, _>::uninit(size.min(host.len()), stream, memory.device.clone()) }
    };
    let slots = [slot()?, slot()?];
    let streams = [&fill, stream, &empty];
    let wait = Wait(&streams);
    fill.wait_for(stream).map_err(AllocError::from)?;
    let event = || Event::new(host.device()).map_err(AllocError::from);
    let emptied = [event()?, event()?];
    for (i, elements) in chunks(host.len(), size).enumerate() {
        let (slot, emptied) = (slots[i % 2].block(), &emptied[i % 2]);
        let bytes = elements.len() * size_of::<T>();
        let at_host = host.block().as_ptr().wrapping_add(elements.start * size_of::<T>());
        let copy_in = || {
            fill.wait(emptied)?;
            // SAFETY: both ends hold the chunk, and `wait` keeps them allocated until the copy is done.
            unsafe { copy(&fill, Ends { to: slot.as_ptr(), from: at_host, bytes }) }?;
            stream.wait_for(&fill)
        };
        copy_in().map_err(AllocError::from)?;
        work(Chunk { address: slot.addr(), elements: elements.clone(), stream })?;
        let copy_out = || {
            empty.wait_for(stream)?;
            // SAFETY: as for the copy in the other direction.
            unsafe { copy(&empty, Ends { to: at_host, from: slot.as_ptr(), bytes }) }?;
            emptied.record(&empty)
        };
        copy_out().map_err(AllocError::from)?;
    }
    drop(wait);
    stream.synchronize().map_err(AllocError::from)?;
    Ok(())
}

/// Enqueues a copy on a stream.
///
/// # Safety
///
/// The caller must ensure that both ends stay valid, and that nothing accesses them in a conflicting way, until the
/// copy is done.
unsafe fn copy(stream: &Stream, ends: Ends) -> Result<(), DeviceError> {
    let raw = stream.raw()?;
    if ends.bytes == 0 {
        return Ok(());
    }
    // SAFETY: the contract of this function is the contract of `enqueue_copy`.
    unsafe { transfer::enqueue_copy(ends, raw, stream) }
}
