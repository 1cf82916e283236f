use super::leaf::{Leaf, Place, leaf_layer};
use super::pinned_options::PinnedOptions;
use crate::block::Block;
use crate::device::Device;
use crate::device::error::DeviceError;
use crate::device::stream::Stream;
use crate::error::{AllocError, DeallocError};
use crate::kind;
use crate::resource::MemoryResource;
use cumem_driver::DriverError;
use std::alloc::Layout;

/// A leaf of pinned (page-locked) host memory (`cuMemAllocHost`). Copies to and from it run at the speed of the link
/// between host and device. Kernels can also use it, over the link.
///
/// An allocation and its deallocation take about 0.8 ms together (`benches/README.md`, an H100's host). Use a pool over
/// this leaf.
///
/// # Examples
///
/// ```
/// use cumem::sim::Profile;
/// use cumem::{Buffer, Device, PinnedResource, Stream};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::simulated(Profile::default())?;
/// let stream = Stream::new(&device)?;
/// let mut numbers = Buffer::from_slice(&[1, 2, 3], &stream, PinnedResource::new(&device))?;
/// numbers.host_write()?[1] = 20;
/// assert_eq!(*numbers.host_read()?, [1, 20, 3]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct PinnedResource {
    options: PinnedOptions,
    leaf: Leaf,
}

impl PinnedResource {
    /// Creates a resource of pinned memory, which is allocated in the context of `device`.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, PinnedResource, Device, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let memory = PinnedResource::new(&device);
    /// let numbers = Buffer::from_slice(&[1, 2, 3], &stream, &memory)?;
    /// assert_eq!(numbers.to_vec()?, [1, 2, 3]);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(device: &Device) -> Self {
        Self { options: PinnedOptions::new(), leaf: Leaf::new("pinned", Place::Host, device) }
    }

    /// Creates a resource of pinned memory of one NUMA node, or of huge pages. The system allocates the memory, and the
    /// driver registers it. For an example, see [`PinnedOptions`].
    ///
    /// # Errors
    ///
    /// Returns [`DriverError::NotSupported`] if the options are not empty, and the device cannot access registered memory
    /// at its address. A node that does not exist is an error of each allocation.
    pub fn with_options(device: &Device, options: PinnedOptions) -> Result<Self, DriverError> {
        if options != PinnedOptions::new() && !device.attributes().host_register {
            let what = "access to registered host memory";
            return Err(DriverError::NotSupported { what, device: device.id() });
        }
        Ok(Self { options, ..Self::new(device) })
    }
}

leaf_layer!(PinnedResource);

// SAFETY: cuMemAllocHost, or mmap and cuMemHostRegister, return whole pages that no other allocation has and that host and
// devices can use. They are valid until cuMemFreeHost, or cuMemHostUnregister and munmap.
unsafe impl MemoryResource for PinnedResource {
    type Kind = kind::Pinned;

    fn allocate(&self, stream: &Stream, layout: Layout) -> Result<Block, AllocError> {
        let device = &self.leaf.device;
        let (driver, d, options) = (device.driver(), device.ordinal(), self.options);
        self.leaf.allocate(stream, layout, |bytes| match options.is_usual() {
            true => driver.allocate_pinned(d, bytes),
            false => driver.allocate_pinned_pages(d, bytes, options.properties()),
        })
    }

    unsafe fn deallocate(&self, stream: &Stream, block: Block) -> Result<(), DeallocError> {
        let device = &self.leaf.device;
        self.leaf.deallocate(stream, block, |block| {
            // The driver does not wait for the copies that use the memory before it frees host memory.
            self.leaf.finish(stream)?;
            let (driver, d, start) = (device.driver(), device.ordinal(), block.as_non_null());
            match self.options.is_usual() {
                // SAFETY: this leaf made the block, and the work that uses it has ended.
                true => unsafe { driver.free_pinned(d, start) }?,
                // SAFETY: as above. The leaf's options do not change.
                false => unsafe { driver.free_pinned_pages(d, start, block.size(), self.options.properties()) }?,
            }
            Ok::<_, DeviceError>(())
        })
    }
}
