//! One buffer for all devices: in unified (managed) memory if the device migrates pages well, and otherwise in pinned
//! memory with explicit copies.
//!
//! [`unified_or_pinned`] chooses the memory by the device's attributes, and logs the choice through `tracing`. The
//! methods of a [`PortableBuffer`] then do the following:
//!
//! | method | in unified memory | in pinned memory |
//! |---|---|---|
//! | [`host_read`](PortableBuffer::host_read), [`host_write`](PortableBuffer::host_write) | pages fault in on the host | the device's copy is copied back if it is newer |
//! | [`device_read`](PortableBuffer::device_read), [`device_write`](PortableBuffer::device_write) | a prefetch | a copy to device memory if the host's copy is newer |
//! | [`for_each_chunk`](PortableBuffer::for_each_chunk) | prefetches the next chunk | copies through two chunks of device memory in turns |

mod access;
mod buffer;
mod choice;
mod chunks;
mod device_array;
mod shadowed;

pub use buffer::PortableBuffer;
pub use choice::{PinnedReason, UnifiedOrPinned, unified_or_pinned};
pub use chunks::Chunk;
