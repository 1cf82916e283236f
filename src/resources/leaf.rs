//! [`Leaf`]: the checks and errors that all leaves have in common.

use crate::block::{Block, MakerId};
use crate::device::Device;
use crate::device::error::DeviceError;
use crate::device::notice::LeafMemory;
use crate::device::spare::SparePlace;
use crate::device::stream::Stream;
use crate::error::{AllocError, DeallocError};
use crate::layout::CUDA_ALLOCATION_ALIGNMENT;
use cumem_driver::{CudaErrorCode, MemoryInfo};
use std::alloc::Layout;
use std::ptr::NonNull;

/// The name, the device and the maker id of a leaf.
#[derive(Debug)]
pub(super) struct Leaf {
    pub(super) name: &'static str,
    pub(super) device: Device,
    place: Place,
    pub(super) maker: MakerId,
}

/// The memory that a leaf allocates.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place {
    Device,
    Managed,
    Host,
}

impl Place {
    /// Returns the place of spare memory that can make room for this memory.
    fn spare(self) -> SparePlace {
        match self {
            Self::Device | Self::Managed => SparePlace::Device,
            Self::Host => SparePlace::Host,
        }
    }

    /// Returns the kind of memory to count and announce, or `None` for host memory.
    fn taken(self) -> Option<LeafMemory> {
        match self {
            Self::Device => Some(LeafMemory::Plain),
            Self::Managed => Some(LeafMemory::Managed),
            Self::Host => None,
        }
    }
}

/// Whether the work that uses a block has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Finished {
    Now,
    /// The closure of a kernel frees the block, and cannot wait. The simulated device frees the memory after the work.
    Later,
}

fn is_within_kernel(error: &DeviceError) -> bool {
    matches!(error, DeviceError::Driver(error) if error.code() == Some(CudaErrorCode::NOT_PERMITTED))
}

impl Leaf {
    pub(super) fn new(name: &'static str, place: Place, device: &Device) -> Self {
        Self::made_by(MakerId::unique(), name, place, device)
    }

    pub(super) fn made_by(maker: MakerId, name: &'static str, place: Place, device: &Device) -> Self {
        Self { name, device: device.clone(), place, maker }
    }

    /// Checks the request and calls `allocate`, which calls the driver. If the driver is out of memory, and spare memory
    /// of this library can make room, that memory is freed, and `allocate` is called once more. The error contains the
    /// request and the free memory. Requests for zero bytes do not reach the driver.
    pub(super) fn allocate<E: Into<DeviceError>>(
        &self,
        stream: &Stream,
        layout: Layout,
        allocate: impl Fn(usize) -> Result<NonNull<u8>, E>,
    ) -> Result<Block, AllocError> {
        self.allocate_aligned(stream, layout, CUDA_ALLOCATION_ALIGNMENT, allocate)
    }

    /// Like [`allocate`](Self::allocate), for memory that is aligned to `maximum` bytes.
    pub(super) fn allocate_aligned<E: Into<DeviceError>>(
        &self,
        stream: &Stream,
        layout: Layout,
        maximum: usize,
        allocate: impl Fn(usize) -> Result<NonNull<u8>, E>,
    ) -> Result<Block, AllocError> {
        if layout.align() > maximum {
            let (layer, alignment) = (self.name, layout.align());
            return Err(AllocError::UnsupportedAlignment { layer, alignment, maximum });
        }
        self.allocate_any_alignment(stream, layout, allocate)
    }

    /// Like [`allocate`](Self::allocate), for memory of any alignment.
    pub(super) fn allocate_any_alignment<E: Into<DeviceError>>(
        &self,
        stream: &Stream,
        layout: Layout,
        allocate: impl Fn(usize) -> Result<NonNull<u8>, E>,
    ) -> Result<Block, AllocError> {
        self.device.check_device("the stream", stream.device_id())?;
        if layout.size() == 0 {
            return Ok(Block::empty(self.maker, layout));
        }
        let mut allocated = allocate(layout.size()).map_err(Into::into);
        if matches!(&allocated, Err(error) if error.is_out_of_memory()) && self.makes_room(layout.size()) {
            allocated = allocate(layout.size()).map_err(Into::into);
        }
        match allocated {
            Ok(ptr) => {
                if let Some(what) = self.place.taken() {
                    self.device.tell_allocated(what, layout.size());
                }
                Ok(Block::new(self.maker, ptr, layout, 0))
            }
            Err(error) if error.is_out_of_memory() => Err(self.out_of_memory(layout.size())),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits until no work of the stream uses a block, before it is freed. If the driver refuses to wait for the stream,
    /// the host waits for the device, because the block would otherwise be lost.
    pub(super) fn finish(&self, stream: &Stream) -> Result<Finished, DeviceError> {
        match stream.finish().or_else(|_| Ok(self.device.synchronize()?)) {
            Ok(()) => Ok(Finished::Now),
            Err(error) if self.device.is_simulated() && is_within_kernel(&error) => Ok(Finished::Later),
            Err(error) => Err(error),
        }
    }

    /// Frees spare memory, if the request may then fit. Returns whether any was freed.
    #[cold]
    fn makes_room(&self, requested: usize) -> bool {
        let (spare, place) = (self.device.spare(), self.place.spare());
        let bytes = spare.bytes(place);
        // A pool also requests more than a block needs. Such a request does not cost the spare memory if it is refused
        // in any case.
        bytes > 0 && self.memory_info().free.saturating_add(bytes) >= requested && spare.free(place) > 0
    }

    fn memory_info(&self) -> MemoryInfo {
        let (device, driver) = (&self.device, self.device.driver());
        let info = match self.place.spare() {
            SparePlace::Device => driver.memory_info(device.ordinal()),
            SparePlace::Host => driver.host_memory_info(device.ordinal()),
        };
        // A request is out of memory even if the driver does not report the free bytes.
        info.unwrap_or_else(|_| MemoryInfo::new(0, device.attributes().total_memory))
    }

    #[cold]
    fn out_of_memory(&self, requested: usize) -> AllocError {
        let device = &self.device;
        let MemoryInfo { free, total, .. } = self.memory_info();
        AllocError::OutOfMemory { layer: self.name, requested, free, total, device: device.id() }
    }

    /// Checks that this leaf made the block, and frees its memory with `free`, unless the block has no bytes.
    pub(super) fn deallocate<E: Into<DeviceError>>(
        &self,
        stream: &Stream,
        block: Block,
        free: impl FnOnce(&Block) -> Result<(), E>,
    ) -> Result<(), DeallocError> {
        if block.maker() != self.maker {
            return Err(DeallocError::foreign(self.name, block));
        }
        let freed = self.device.check_device("the stream", stream.device_id()).and_then(|()| match block.size() {
            0 => Ok(()),
            _ => free(&block).map_err(Into::into),
        });
        match freed {
            Ok(()) => {
                if let Some(what) = self.place.taken() {
                    self.device.tell_freed(what, block.addr(), block.size());
                }
                Ok(())
            }
            Err(error) => Err(DeallocError::new(block, error)),
        }
    }
}

/// The implementations of `Layer`, `Display` and `Upstream` for a leaf. A leaf with parameters has no state that could be
/// found, because its type may borrow.
macro_rules! leaf_layer {
    (impl [$($parameters:ident),+] $resource:ty where [$($bounds:tt)+]) => {
        impl<$($parameters),+> crate::layer::Layer for $resource where $($bounds)+ {
            fn describe(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.leaf.name)
            }
            fn beneath(&self) -> crate::layer::Beneath<'_> {
                crate::layer::Beneath::Device(&self.leaf.device)
            }
            fn state(&self) -> &dyn std::any::Any {
                &()
            }
            fn trim_layer(&self, _keep: usize) -> Result<usize, crate::error::TrimError> {
                Ok(0)
            }
        }

        impl<$($parameters),+> std::fmt::Display for $resource where $($bounds)+ {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                crate::layer::fmt_stack(self, f)
            }
        }

        impl<$($parameters),+> crate::resource::Upstream for $resource where $($bounds)+ {}
    };
    ($resource:ty) => {
        leaf_layer! {
            $resource,
            fn trim_layer(&self, _keep: usize) -> Result<usize, crate::error::TrimError> {
                Ok(0)
            }
        }
    };
    ($resource:ty, $($trim_layer:tt)+) => {
        impl crate::layer::Layer for $resource {
            fn describe(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.leaf.name)
            }
            fn beneath(&self) -> crate::layer::Beneath<'_> {
                crate::layer::Beneath::Device(&self.leaf.device)
            }
            fn state(&self) -> &dyn std::any::Any {
                self
            }
            $($trim_layer)+
        }

        impl std::fmt::Display for $resource {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                crate::layer::fmt_stack(self, f)
            }
        }

        impl crate::resource::Upstream for $resource {}
    };
}
pub(super) use leaf_layer;
