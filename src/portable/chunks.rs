//! [`PortableBuffer::for_each_chunk`]: work on a buffer in chunks, so that the link and the multiprocessors are busy at once.

use super::buffer::{Memory, PortableBuffer, Shadowed};
use crate::buffer::{Buffer, UnifiedBuffer};
use crate::device::error::DeviceError;
use crate::device::event::Event;
use crate::device::stream::Stream;
use crate::error::AllocError;
use crate::transfer::{self, Ends};
use crate::unified::hints;
use bytemuck::Pod;
use cumem_driver::drop_error::record_drop_error;
use std::ops::Range;

/// Elements that are on the device while the work that was enqueued on [`stream`](Self::stream) for them runs.
#[derive(Debug)]
pub struct Chunk<'a> {
    address: u64,
    elements: Range<usize>,
    stream: &'a Stream,
}

impl Chunk<'_> {
    /// The address of the first of them.
    pub fn device_address(&self) -> u64 {
        self.address
    }

    /// Which they are, of the buffer's elements.
    pub fn elements(&self) -> Range<usize> {
        self.elements.clone()
    }

    /// Where the work on them is to be enqueued.
    pub fn stream(&self) -> &Stream {
        self.stream
    }
}

/// Waits for its streams when it goes, however that comes about: nothing may use the buffers any more.
struct Wait<'a>(&'a [&'a Stream]);

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        for stream in self.0 {
            record_drop_error("a buffer's chunks", transfer::wait_for_stream(stream));
        }
    }
}

impl<T: Pod> PortableBuffer<T> {
    /// Has `work` enqueue work for `size` elements after the other, the last time for what is left. Complete on return:
    /// the elements are as the work has left them.
    ///
    /// While the work on one chunk runs, the next one is on its way to the device, and over page-locked memory the one
    /// before on its way back. That takes device memory for two chunks, however large the buffer is.
    ///
    /// # Errors
    ///
    /// [`DeviceError::OutOfRange`] if `size` is 0, those of `work`, what the driver answers, or want of device memory.
    /// Chunks that `work` was called for may have been worked on then, and later ones have not.
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

/// Pages are prefetched on a stream of their own, one chunk ahead.
fn prefetched<T: Pod, E: From<AllocError>>(
    buffer: &UnifiedBuffer<T>,
    size: usize,
    mut work: impl FnMut(Chunk<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let stream = buffer.stream();
    let ahead = Stream::new(buffer.device()).map_err(AllocError::from)?;
    ahead.wait_for(stream).map_err(AllocError::from)?;
    let bring = |elements: &Range<usize>| {
        let bytes = elements.start * size_of::<T>()..elements.end * size_of::<T>();
        hints::prefetch_if_needed(buffer.block(), bytes, buffer.device().id(), &ahead).map_err(AllocError::from)
    };
    let all: Vec<_> = chunks(buffer.len(), size).collect();
    let streams = [&ahead, stream];
    let wait = Wait(&streams);
    if let Some(first) = all.first() {
        let _there = bring(first)?;
    }
    for (i, elements) in all.iter().enumerate() {
        // The work waits for its own chunk, and not for the next one.
        stream.wait_for(&ahead).map_err(AllocError::from)?;
        let address = buffer.device_address() + (elements.start * size_of::<T>()) as u64;
        work(Chunk { address, elements: elements.clone(), stream })?;
        if let Some(next) = all.get(i + 1) {
            let _there = bring(next)?;
        }
    }
    drop(wait);
    // Errors of the work itself.
    stream.synchronize().map_err(AllocError::from)?;
    Ok(())
}

/// Two chunks of device memory, filled, worked on and emptied by a stream each.
fn double_buffered<T: Pod, E: From<AllocError>>(
    memory: &mut Shadowed<T>,
    size: usize,
    mut work: impl FnMut(Chunk<'_>) -> Result<(), E>,
) -> Result<(), E> {
    memory.take_back().map_err(AllocError::from)?;
    memory.host_is_newer();
    let host = &memory.host;
    let stream = host.stream();
    let new = || Stream::new(host.device()).map_err(AllocError::from);
    let (fill, empty) = (new()?, new()?);
    let slot = || {
        // SAFETY: each chunk is written before the work on it may read it.
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
        let bring = || {
            fill.wait(emptied)?;
            // SAFETY: both ends hold a chunk; `wait` keeps them until the copy is done.
            unsafe { copy(&fill, Ends { to: slot.as_ptr(), from: at_host, bytes }) }?;
            stream.wait_for(&fill)
        };
        bring().map_err(AllocError::from)?;
        work(Chunk { address: slot.addr(), elements: elements.clone(), stream })?;
        let take = || {
            empty.wait_for(stream)?;
            // SAFETY: as above.
            unsafe { copy(&empty, Ends { to: at_host, from: slot.as_ptr(), bytes }) }?;
            emptied.record(&empty)
        };
        take().map_err(AllocError::from)?;
    }
    drop(wait);
    stream.synchronize().map_err(AllocError::from)?;
    Ok(())
}

/// # Safety
///
/// Both ends are valid, and used by nothing in conflict, until the stream has passed the copy.
unsafe fn copy(stream: &Stream, ends: Ends) -> Result<(), DeviceError> {
    let raw = stream.raw()?;
    if ends.bytes == 0 {
        return Ok(());
    }
    // SAFETY: by this function's contract.
    unsafe { transfer::enqueue_copy(ends, raw, stream) }
}
