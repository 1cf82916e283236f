//! [`DeviceArray`]: what buffers of all kinds of memory have in common, for functions that take any of them.

use super::array::Buffer;
use super::element::Element;
use super::part::Part;
use super::view_mut::BufferViewMut;
use crate::device::error::DeviceError;
use crate::device::stream::Stream;
use crate::error::AllocError;
use crate::kind::{self, DeviceAccessible, MemoryKind};
use crate::resource::MemoryResource;
use crate::unified::hints;
use std::any::TypeId;
use std::slice;

/// An array that host and device use in turns, in any memory: a [`Buffer`], a
/// [`PortableBuffer`](crate::portable::PortableBuffer), or a part of a buffer ([`BufferViewMut`]). A function takes
/// `&mut dyn DeviceArray<T>`, so it is compiled once for all of them.
///
/// Before each launch of a kernel, the program calls [`device_read`](Self::device_read) or
/// [`device_write`](Self::device_write) and passes the returned address to the kernel. That call enqueues what the
/// kernel needs:
///
/// | array | `device_read`, `device_write` |
/// |---|---|
/// | buffer of device or pinned memory | nothing |
/// | buffer of managed memory, or of memory that may be managed | a prefetch to the device, unless the pages are assumed to be there |
/// | `PortableBuffer` in managed memory | the same prefetch |
/// | `PortableBuffer` in pinned memory | a copy to device memory, if the host's elements are newer |
///
/// # Examples
///
/// ```
/// use cumem::buffer::DeviceArray;
/// use cumem::kernel::HostKernel;
/// use cumem::portable::{PortableBuffer, unified_or_pinned};
/// # use cumem::sim::Profile;
/// # use cumem::{AllocError, Buffer, CudaResource, Device, ManagedResource, Stream};
///
/// /// Doubles all numbers on the device.
/// fn double(numbers: &mut dyn DeviceArray<u32>) -> Result<(), AllocError> {
///     let (address, bytes) = (numbers.device_write()?, numbers.size_bytes());
///     let kernel = HostKernel::new("double", |memory| memory.write::<u32>(0).iter_mut().for_each(|x| *x *= 2));
///     // SAFETY: the kernel uses the elements only, and the array's later operations come after it.
///     unsafe { numbers.stream().launch_host(kernel.writes(address, bytes)) }?;
///     Ok(())
/// }
///
/// # let device = Device::simulated(Profile::default())?;
/// # let stream = Stream::new(&device)?;
/// let mut plain = Buffer::from_slice(&[1, 2, 3], &stream, CudaResource::new(&device))?;
/// let mut managed = Buffer::from_slice(&[4, 5], &stream, ManagedResource::new(&device)?)?;
/// let mut portable = PortableBuffer::from_slice(&[6], &stream, &unified_or_pinned(&device)?)?;
/// let mut part = plain.slice_mut(1..)?;
/// let arrays: [&mut dyn DeviceArray<u32>; 3] = [&mut part, &mut managed, &mut portable];
/// for array in arrays {
///     double(array)?;
/// }
/// assert_eq!((plain.to_vec()?, managed.to_vec()?, portable.to_vec()?), (vec![1, 4, 6], vec![8, 10], vec![12]));
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
pub trait DeviceArray<T: Element> {
    /// Returns the number of elements.
    fn len(&self) -> usize;

    /// Reports whether the array has no elements.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the size of the elements, in bytes.
    fn size_bytes(&self) -> usize {
        self.len() * size_of::<T>()
    }

    /// Returns the stream of the array. Kernels that use the array are launched there.
    fn stream(&self) -> &Stream;

    /// Returns the address for a kernel that only reads the elements, and enqueues what the kernel needs.
    ///
    /// # Errors
    ///
    /// Returns the driver's error if it rejects the prefetch or the copy, and an allocation error if device memory for
    /// the copy cannot be allocated.
    fn device_read(&mut self) -> Result<u64, AllocError>;

    /// Does the same as [`device_read`](Self::device_read) for a kernel that may write the elements.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`device_read`](Self::device_read).
    fn device_write(&mut self) -> Result<u64, AllocError>;

    /// Copies `data` over the elements from `start` on. The copy is complete on return.
    ///
    /// # Errors
    ///
    /// Returns [`DeviceError::OutOfRange`] if these elements are not within the length, and the driver's error if the
    /// copy fails.
    fn copy_from_slice_at(&mut self, start: usize, data: &[T]) -> Result<(), DeviceError>;

    /// Copies the elements from `start` on to `data`. The copy is complete on return.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`copy_from_slice_at`](Self::copy_from_slice_at), and [`DeviceError::InvalidElement`] if
    /// the bytes of an element are not a value of `T`.
    fn copy_to_slice_at(&mut self, start: usize, data: &mut [T]) -> Result<(), DeviceError>;

    /// Enqueues a fill that sets every element to `value`. The host does not wait for it.
    ///
    /// # Errors
    ///
    /// Returns the driver's error if it rejects the fill.
    fn fill(&mut self, value: T) -> Result<(), DeviceError>;

    /// Copies `data` over all elements. The copy is complete on return.
    ///
    /// # Errors
    ///
    /// Returns [`DeviceError::WrongLength`] if `data` has another number of elements, and the driver's error if the
    /// copy fails.
    fn copy_from_slice(&mut self, data: &[T]) -> Result<(), DeviceError> {
        expect_len(self.len(), data.len())?;
        self.copy_from_slice_at(0, data)
    }

    /// Copies all elements to `data`. The copy is complete on return.
    ///
    /// # Errors
    ///
    /// Returns [`DeviceError::WrongLength`] if `data` has another number of elements, and the errors of
    /// [`copy_to_slice_at`](Self::copy_to_slice_at).
    fn copy_to_slice(&mut self, data: &mut [T]) -> Result<(), DeviceError> {
        expect_len(self.len(), data.len())?;
        self.copy_to_slice_at(0, data)
    }

    /// Copies all elements to a new vector.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`copy_to_slice_at`](Self::copy_to_slice_at).
    fn to_vec(&mut self) -> Result<Vec<T>, DeviceError>;

    /// Returns a copy of one element. The host waits for it.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`copy_to_slice_at`](Self::copy_to_slice_at).
    fn get(&mut self, index: usize) -> Result<T, DeviceError>;

    /// Copies `value` over one element. The copy is complete on return.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`copy_from_slice_at`](Self::copy_from_slice_at).
    fn set(&mut self, index: usize, value: T) -> Result<(), DeviceError> {
        self.copy_from_slice_at(index, slice::from_ref(&value))
    }
}

fn expect_len(expected: usize, found: usize) -> Result<(), DeviceError> {
    if found == expected { Ok(()) } else { Err(DeviceError::WrongLength { expected, found }) }
}

impl<T: Element, K: DeviceAccessible> DeviceArray<T> for BufferViewMut<'_, T, K> {
    fn len(&self) -> usize {
        self.len()
    }

    fn stream(&self) -> &Stream {
        self.stream()
    }

    fn device_read(&mut self) -> Result<u64, AllocError> {
        Ok(self.part.to_device::<K>()?)
    }

    fn device_write(&mut self) -> Result<u64, AllocError> {
        self.device_read()
    }

    fn copy_from_slice_at(&mut self, start: usize, data: &[T]) -> Result<(), DeviceError> {
        self.slice_mut(start..start.saturating_add(data.len()))?.copy_from_slice(data)
    }

    fn copy_to_slice_at(&mut self, start: usize, data: &mut [T]) -> Result<(), DeviceError> {
        self.as_view().slice(start..start.saturating_add(data.len()))?.copy_to_slice(data)
    }

    fn fill(&mut self, value: T) -> Result<(), DeviceError> {
        self.fill(value)
    }

    fn to_vec(&mut self) -> Result<Vec<T>, DeviceError> {
        self.as_view().to_vec()
    }

    fn get(&mut self, index: usize) -> Result<T, DeviceError> {
        self.as_view().get(index)
    }
}

impl<T: Element, R: MemoryResource<Kind: DeviceAccessible>> DeviceArray<T> for Buffer<T, R> {
    fn len(&self) -> usize {
        self.len()
    }

    fn stream(&self) -> &Stream {
        self.stream()
    }

    fn device_read(&mut self) -> Result<u64, AllocError> {
        self.as_view_mut().device_read()
    }

    fn device_write(&mut self) -> Result<u64, AllocError> {
        self.as_view_mut().device_write()
    }

    fn copy_from_slice_at(&mut self, start: usize, data: &[T]) -> Result<(), DeviceError> {
        self.as_view_mut().copy_from_slice_at(start, data)
    }

    fn copy_to_slice_at(&mut self, start: usize, data: &mut [T]) -> Result<(), DeviceError> {
        self.as_view_mut().copy_to_slice_at(start, data)
    }

    fn fill(&mut self, value: T) -> Result<(), DeviceError> {
        self.fill(value)
    }

    fn to_vec(&mut self) -> Result<Vec<T>, DeviceError> {
        self.as_view().to_vec()
    }

    fn get(&mut self, index: usize) -> Result<T, DeviceError> {
        self.as_view().get(index)
    }
}

impl Part<'_> {
    /// Returns the address for a kernel, and enqueues the prefetch that memory which may migrate needs.
    fn to_device<K: MemoryKind>(self) -> Result<u64, DeviceError> {
        let stays = [TypeId::of::<kind::Device>(), TypeId::of::<kind::Pinned>()].contains(&TypeId::of::<K>());
        if !stays && self.bytes > 0 {
            // If the device cannot take the pages, the hint is skipped, and the kernel works without it.
            let _outcome = hints::prefetch_if_needed(self.block, self.range(), self.device().id(), self.stream)?;
        }
        // The kernel may change the elements, so a copy of the host must not read outdated pages.
        self.note_on_host(false);
        Ok(self.addr())
    }
}
