//! Unified memory where a device migrates well, page-locked memory with explicit copies where it does not, behind one
//! buffer.
//!
//! [`unified_or_pinned`] decides by the device's attributes and says so, loudly. A [`PortableBuffer`] then does with
//! either what the program asks:
//!
//! | asked for | unified | page-locked |
//! |---|---|---|
//! | [`host_read`](PortableBuffer::host_read), [`host_write`](PortableBuffer::host_write) | the pages come | the newer copy comes back first |
//! | [`device_read`](PortableBuffer::device_read), [`device_write`](PortableBuffer::device_write) | a prefetch | a copy to a shadow in device memory |
//! | [`for_each_chunk`](PortableBuffer::for_each_chunk) | the next chunk is prefetched meanwhile | two chunks of device memory, in turns |

mod buffer;
mod choice;
mod chunks;

pub use buffer::PortableBuffer;
pub use choice::{PinnedReason, UnifiedOrPinned, unified_or_pinned};
pub use chunks::Chunk;
