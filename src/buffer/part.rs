//! [`Part`]: bytes of a buffer, with what every operation on them needs. Buffers and views are typed fronts of it.

use crate::block::Block;
use crate::device::Device;
use crate::device::error::DeviceError;
use crate::device::notice::{Listener, Notice};
use crate::device::stream::Stream;
use crate::transfer::{self, Direction, Ends, Transfer, TransferPath, Transfers};
use crate::unified::auto::AutoPrefetch;
use cumem_driver::Location;
use std::borrow::Cow;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

/// Bytes of a buffer, which is borrowed.
#[derive(Clone, Copy)]
pub(super) struct Part<'a> {
    pub(super) block: &'a Block,
    /// Offset in the block, in bytes.
    pub(super) start: usize,
    pub(super) bytes: usize,
    /// Whether these are all bytes of the buffer.
    pub(super) is_whole: bool,
    /// The stream on which operations are enqueued.
    pub(super) stream: &'a Stream,
    /// The buffer's stream. Each operation is ordered after its work so far, and before its later work.
    pub(super) owner: &'a Stream,
    pub(super) on_host: &'a AtomicBool,
    pub(super) auto: Option<&'a AutoPrefetch>,
}

impl<'a> Part<'a> {
    pub(super) fn ptr(&self) -> *mut u8 {
        self.block.as_ptr().wrapping_add(self.start)
    }

    pub(super) fn addr(&self) -> u64 {
        self.block.addr() + self.start as u64
    }

    /// Returns the range of the part in the block, in bytes.
    pub(super) fn range(&self) -> Range<usize> {
        self.start..self.start + self.bytes
    }

    pub(super) fn device(&self) -> &'a Device {
        self.stream.device()
    }

    /// Returns some bytes of this part, which must be within the part.
    pub(super) fn part(self, bytes: Range<usize>) -> Self {
        let is_whole = self.is_whole && bytes.len() == self.bytes;
        Self { start: self.start + bytes.start, bytes: bytes.len(), is_whole, ..self }
    }

    /// Returns the same bytes with another stream of the same device for the operations.
    pub(super) fn on(self, stream: &'a Stream) -> Result<Self, DeviceError> {
        self.stream.device().check_device("the stream", stream.device_id())?;
        Ok(Self { stream, ..self })
    }

    pub(super) fn note_on_host(&self, on_host: bool) {
        self.on_host.store(on_host, Ordering::Relaxed);
    }

    pub(super) fn notify_observer(&self, notice: &Notice<'_>) {
        if let Some(auto) = self.auto {
            auto.hear(self.stream.device_id(), notice);
        }
    }

    /// Returns a stream that the calling thread may use, after the work on the buffer so far.
    pub(super) fn begin(&self) -> Result<Cow<'a, Stream>, DeviceError> {
        let stream = self.stream.usable_here()?;
        if stream.id() != self.owner.id() {
            stream.wait_for(self.owner)?;
        }
        Ok(stream)
    }

    /// Orders the later work on the buffer after the work that was enqueued on `stream`. If the wait cannot be
    /// enqueued, the host waits instead. Otherwise the buffer could be freed too early.
    pub(super) fn end(&self, stream: &Stream) -> Result<(), DeviceError> {
        if stream.id() == self.owner.id() {
            return Ok(());
        }
        self.owner.wait_for(stream).or_else(|error| transfer::wait_for_stream(stream).and(Err(error)))
    }

    /// Calls `enqueue`, which enqueues work on these bytes, with the stream. Does nothing if there are no bytes.
    pub(super) fn enqueue(&self, enqueue: impl FnOnce(&Stream) -> Result<(), DeviceError>) -> Result<(), DeviceError> {
        if self.bytes == 0 {
            return Ok(());
        }
        let stream = self.begin()?;
        self.note_on_host(false);
        let enqueued = enqueue(&stream);
        let ended = self.end(&stream);
        enqueued.and(ended)
    }

    /// Copies all bytes from or to `host`, by the path `by` or, if that is `None`, by the best path. The copy is
    /// complete on return.
    ///
    /// # Safety
    ///
    /// The caller must ensure that:
    /// - `host` is valid for as many bytes as the part has, for reads or, if the copy writes there, for writes;
    /// - no other code accesses that memory in a conflicting way during the call.
    pub(super) unsafe fn transfer(
        &self,
        host: *mut u8,
        direction: Direction,
        unified: bool,
        by: Option<TransferPath>,
    ) -> Result<TransferPath, DeviceError> {
        if self.bytes == 0 {
            return Ok(TransferPath::Nothing);
        }
        self.note_on_host(false);
        let stream = self.begin()?;
        let transfer = Transfer { host, device: self.ptr(), bytes: self.bytes, direction, unified, by };
        let to = match direction {
            Direction::ToDevice => self.device().id().into(),
            Direction::ToHost => Location::Host,
        };
        self.device().tell_copied(self.addr(), self.bytes, to, || {
            // SAFETY: the block holds these bytes, and the caller ensures that `host` is valid.
            unsafe { Transfers::of(self.device()).run(transfer, &stream) }
        })
    }

    /// Enqueues a copy of all bytes of `source`, which has as many, on this part's stream, after the work on both
    /// buffers.
    ///
    /// # Safety
    ///
    /// The caller must ensure that the parts do not overlap, and that nothing uses this part in a conflicting way
    /// during the call.
    pub(super) unsafe fn copy_from(&self, source: &Part<'_>) -> Result<(), DeviceError> {
        self.enqueue(|stream| {
            stream.wait_for(source.owner)?;
            if source.stream.id() != source.owner.id() {
                stream.wait_for(source.stream)?;
            }
            source.note_on_host(false);
            let ends = Ends { to: self.ptr(), from: source.ptr(), bytes: self.bytes };
            // SAFETY: both blocks hold the bytes. The copy is ordered after the work of both buffers, and their later
            // work is ordered after the copy.
            unsafe { transfer::enqueue_copy(ends, stream.raw()?, stream) }?;
            source.end(stream)
        })
    }
}
