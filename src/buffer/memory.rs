//! [`Memory`]: the block of a buffer, its stream and its resource.

use crate::block::Block;
use crate::device::Device;
use crate::device::error::DeviceError;
use crate::device::stream::Stream;
use crate::resource::MemoryResource;
use cumem_driver::BlockEvent;
use cumem_driver::drop_error::{catch_drop_panic, record_drop_error};
use std::borrow::Cow;
use std::mem::ManuallyDrop;
use std::ptr;

/// The block of a buffer, with all that its free needs. The drop frees the block.
pub(super) struct Memory<R: MemoryResource> {
    pub(super) block: ManuallyDrop<Block>,
    /// The stream of the buffer's operations.
    pub(super) stream: Stream,
    /// The stream of the resource's device, while the buffer is on a stream of another device.
    pub(super) home: Option<Stream>,
    pub(super) resource: R,
}

impl<R: MemoryResource> Memory<R> {
    /// Creates the memory of a block that is ready on the stream.
    pub(super) fn new(block: Block, stream: Stream, resource: R) -> Self {
        Self { block: ManuallyDrop::new(block), stream, home: None, resource }
    }

    /// Returns the block, which is not freed, a stream of the resource's device that is ordered after all work of the
    /// buffer, and the resource.
    pub(super) fn into_parts(self) -> Result<(Block, Stream, R), (Self, DeviceError)> {
        let stream = match self.stream_of_memory() {
            Ok(stream) => stream.into_owned(),
            Err(error) => return Err((self, error)),
        };
        let memory = ManuallyDrop::new(self);
        // SAFETY: each field is read once, here or below, and `memory` is never dropped.
        drop(unsafe { ptr::read(&memory.stream) });
        // SAFETY: as above.
        drop(unsafe { ptr::read(&memory.home) });
        // SAFETY: as above.
        let block = unsafe { ptr::read(&*memory.block) };
        // SAFETY: as above.
        Ok((block, stream, unsafe { ptr::read(&memory.resource) }))
    }

    /// Moves the memory to another stream, as `Buffer::set_stream` describes.
    pub(super) fn set_stream(&mut self, stream: &Stream) -> Result<(), DeviceError> {
        let own = self.home.as_ref().unwrap_or(&self.stream);
        let away = stream.device_id() != own.device_id();
        let concurrent = |device: &Device| device.attributes().concurrent_managed_access;
        let reachable =
            stream.device_id().same_machine(own.device_id()) && concurrent(own.device()) && concurrent(stream.device());
        if away && !(reachable && own.device().is_managed(self.block.as_ptr())?) {
            own.device().check_device("the stream", stream.device_id())?;
        }
        stream.wait_for(&self.stream)?;
        let before = std::mem::replace(&mut self.stream, stream.clone());
        self.home = match (away, self.home.take()) {
            (true, None) => Some(before),
            (true, home) => home,
            (false, _) => None,
        };
        Ok(())
    }

    /// Moves the buffer to the calling thread's default stream if its stream is that of another thread.
    #[inline]
    pub(super) fn settle(&mut self) -> Result<(), DeviceError> {
        if let Cow::Owned(stream) = self.stream.usable_here()? {
            self.stream = stream;
        }
        Ok(())
    }

    /// Returns a stream of the resource's device that the calling thread may use, and that is ordered after all work of
    /// the buffer so far.
    pub(super) fn stream_of_memory(&self) -> Result<Cow<'_, Stream>, DeviceError> {
        let Some(home) = &self.home else { return self.stream.usable_here() };
        let home = home.usable_here()?;
        home.wait_for(&self.stream).or_else(|_| self.stream.finish())?;
        Ok(home)
    }

    /// Moves a buffer that is on a stream of another device back to a stream of the resource's device.
    pub(super) fn go_home(&mut self) -> Result<(), DeviceError> {
        if self.home.is_some() {
            self.stream = self.stream_of_memory()?.into_owned();
            self.home = None;
        }
        Ok(())
    }
}

impl<R: MemoryResource> Drop for Memory<R> {
    fn drop(&mut self) {
        // SAFETY: only this drop takes the block, and it runs once.
        let block = unsafe { ManuallyDrop::take(&mut self.block) };
        let stream = self.stream_of_memory();
        // If the driver refuses the wait and the host cannot wait either, the resource tries again, or returns an
        // error.
        let stream = stream.unwrap_or(Cow::Borrowed(self.home.as_ref().unwrap_or(&self.stream)));
        block.declare(&stream, BlockEvent::Freed);
        catch_drop_panic("a buffer", Some(stream.device_id()), || {
            // SAFETY: all work that uses the block is on this stream or ordered before it, and no reference to the
            // block is left.
            let result = unsafe { self.resource.deallocate(&stream, block) };
            record_drop_error("a buffer", result);
        });
    }
}
