//! [`DeviceResource`]: the type of a default resource.

use crate::any::AnyUpstream;
use crate::block::Block;
use crate::device::stream::Stream;
use crate::error::{AllocError, DeallocError};
use crate::kind::{DeviceAccessible, Erased};
use crate::layer::{Layer, forward_layer};
use crate::resource::{MemoryResource, Upstream};
use std::alloc::Layout;

/// A default resource of a device: any stack whose memory the device can access. The type is a shared handle.
pub type DeviceResource = AnyUpstream<Erased>;

/// Makes a default of `resource`.
pub(super) fn wrap<R>(resource: R) -> DeviceResource
where
    R: MemoryResource<Kind: DeviceAccessible> + Send + Sync + 'static,
{
    AnyUpstream::new(AsDefault(resource))
}

/// A resource that adaptors may wrap although the resource may be one that must be outermost, because the default of a
/// device is one resource to those who use it.
struct AsDefault<R>(R);

impl<R: Layer> Layer for AsDefault<R> {
    forward_layer!(self => self.0);
}

// SAFETY: both methods forward to the inner resource and pass blocks on unchanged. `Erased` promises only device
// access, which the bound on `R` ensures.
unsafe impl<R: MemoryResource<Kind: DeviceAccessible>> MemoryResource for AsDefault<R> {
    type Kind = Erased;

    fn allocate(&self, stream: &Stream, layout: Layout) -> Result<Block, AllocError> {
        self.0.allocate(stream, layout)
    }

    unsafe fn deallocate(&self, stream: &Stream, block: Block) -> Result<(), DeallocError> {
        // SAFETY: the caller upholds the contract of the inner resource, which is the same.
        unsafe { self.0.deallocate(stream, block) }
    }
}

impl<R: MemoryResource<Kind: DeviceAccessible>> Upstream for AsDefault<R> {}
