//! Host guards: access of the host to a buffer whose kind of memory allows it.

use super::array::Buffer;
use super::element::{self, Element};
use super::part::Part;
use super::view::BufferView;
use super::view_mut::BufferViewMut;
use crate::device::error::DeviceError;
use crate::device::host_gate::Closed;
use crate::device::notice::Notice;
use crate::kind::HostAccessible;
use crate::resource::MemoryResource;
use cumem_driver::Model;
use cumem_driver::call_site::CallSite;
use std::ops::{Deref, DerefMut};
use std::slice;

/// A guard through which the host reads the elements of a buffer. It borrows the buffer, so safe code cannot change the
/// elements meanwhile.
///
/// # Examples
///
/// ```
/// # use cumem::sim::Profile;
/// # use cumem::{Device, ManagedResource, Stream, UnifiedBuffer};
/// # let device = Device::simulated(Profile::default())?;
/// # let stream = Stream::new(&device)?;
/// let buffer = UnifiedBuffer::from_slice(&[1_u32, 2, 3], &stream, ManagedResource::new(&device)?)?;
/// let guard = buffer.host_read()?;
/// assert_eq!(guard.iter().sum::<u32>(), 6);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct HostRead<'a, T> {
    elements: &'a [T],
    _access: HostAccess<'a>,
}

/// A guard through which the host reads and writes the elements of a buffer.
///
/// # Examples
///
/// ```
/// # use cumem::sim::Profile;
/// # use cumem::{Device, ManagedResource, Stream, UnifiedBuffer};
/// # let device = Device::simulated(Profile::default())?;
/// # let stream = Stream::new(&device)?;
/// let mut buffer = UnifiedBuffer::from_slice(&[1_u32, 2, 3], &stream, ManagedResource::new(&device)?)?;
/// buffer.host_write()?.reverse();
/// assert_eq!(buffer.to_vec()?, [3, 2, 1]);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct HostWrite<'a, T> {
    elements: &'a mut [T],
    _access: HostAccess<'a>,
}

/// An access of the host to memory, which ends when this value is dropped.
#[derive(Debug)]
struct HostAccess<'a> {
    /// The model of a simulated device, which is notified when the access ends.
    model: Option<&'a dyn Model>,
    /// The model's number of the access.
    number: u64,
    /// Lets other work run again. Dropped after the model has been notified.
    _gate: Option<Closed<'a>>,
}

impl Drop for HostAccess<'_> {
    fn drop(&mut self) {
        if let Some(model) = self.model {
            model.end_host_access(self.number);
        }
    }
}

impl<T: Element, R: MemoryResource> Buffer<T, R> {
    /// Waits for the buffer's stream, and returns a guard through which the host reads the elements.
    ///
    /// While the guard exists, no kernel that writes the buffer may be launched on any stream. A launch is `unsafe`,
    /// and this is one of the conditions that the launching code must ensure.
    ///
    /// On a device without concurrent managed access, the host may access managed memory only while the device is idle.
    /// There the call waits for all such devices of the machine if the buffer has managed memory. Work that is enqueued
    /// on them through this library while the guard exists fails with [`DeviceError::HostAccess`]. A guard over pinned
    /// memory keeps no work away, so its elements can be copied to a buffer of device memory.
    ///
    /// # Errors
    ///
    /// Returns the driver's error from the wait, which may be an error of earlier work. Returns
    /// [`DeviceError::InvalidElement`] if the bytes of an element are not a value of `T`.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Device, ManagedResource, Stream, UnifiedBuffer};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let buffer = UnifiedBuffer::from_slice(&[1_u32, 2, 3], &stream, ManagedResource::new(&device)?)?;
    /// assert_eq!(buffer.host_read()?[..], [1, 2, 3]);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn host_read(&self) -> Result<HostRead<'_, T>, DeviceError>
    where
        R: MemoryResource<Kind: HostAccessible>,
    {
        let _site = CallSite::here();
        HostRead::over(self.part(), self.len)
    }

    /// Waits for the buffer's stream, and returns a guard through which the host reads and writes the elements. While
    /// the guard exists, no kernel that uses the buffer may be launched; see [`host_read`](Self::host_read) for the
    /// other conditions.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`host_read`](Self::host_read).
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Device, ManagedResource, Stream, UnifiedBuffer};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let mut buffer = UnifiedBuffer::<u32, _>::zeroed(3, &stream, ManagedResource::new(&device)?)?;
    /// buffer.host_write()?[1] = 7;
    /// assert_eq!(buffer.host_read()?[..], [0, 7, 0]);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn host_write(&mut self) -> Result<HostWrite<'_, T>, DeviceError>
    where
        R: MemoryResource<Kind: HostAccessible>,
    {
        let _site = CallSite::here();
        HostWrite::over(self.part(), self.len)
    }
}

impl<T: Element, K: HostAccessible> BufferView<'_, T, K> {
    /// Does the same as [`Buffer::host_read`] for the elements of this view. The host waits for the view's stream, and
    /// for the buffer's.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Buffer::host_read`].
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Device, ManagedResource, Stream, UnifiedBuffer};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let buffer = UnifiedBuffer::from_slice(&[1_u32, 2, 3], &stream, ManagedResource::new(&device)?)?;
    /// assert_eq!(buffer.slice(1..)?.host_read()?[..], [2, 3]);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn host_read(&self) -> Result<HostRead<'_, T>, DeviceError> {
        let _site = CallSite::here();
        HostRead::over(self.part, self.len())
    }
}

impl<T: Element, K: HostAccessible> BufferViewMut<'_, T, K> {
    /// Does the same as [`Buffer::host_write`] for the elements of this view. The host waits for the view's stream, and
    /// for the buffer's.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Buffer::host_read`].
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Device, ManagedResource, Stream, UnifiedBuffer};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let mut buffer = UnifiedBuffer::from_slice(&[1_u32, 2, 3], &stream, ManagedResource::new(&device)?)?;
    /// buffer.slice_mut(1..)?.host_write()?.reverse();
    /// assert_eq!(buffer.to_vec()?, [1, 3, 2]);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn host_write(&mut self) -> Result<HostWrite<'_, T>, DeviceError> {
        let _site = CallSite::here();
        HostWrite::over(self.part, self.len())
    }
}

impl<'a, T: Element> HostRead<'a, T> {
    /// Creates a guard over all of `part`, which is host-accessible memory of `len` elements.
    pub(super) fn over(part: Part<'a>, len: usize) -> Result<Self, DeviceError> {
        let access = part.begin_host_access(false)?;
        check::<T>(&part, len)?;
        // SAFETY: `HostAccessible` promises readable initialized bytes. The work that writes the bytes has ended, they
        // were checked, and the address is aligned for `T`.
        let elements = unsafe { slice::from_raw_parts(part.ptr().cast(), len) };
        Ok(Self { elements, _access: access })
    }
}

impl<'a, T: Element> HostWrite<'a, T> {
    /// Creates a guard over all of `part`, which is host-accessible memory of `len` elements that is borrowed
    /// exclusively.
    pub(super) fn over(part: Part<'a>, len: usize) -> Result<Self, DeviceError> {
        let access = part.begin_host_access(true)?;
        check::<T>(&part, len)?;
        // SAFETY: as in `HostRead::over`; in addition, the elements are borrowed exclusively.
        let elements = unsafe { slice::from_raw_parts_mut(part.ptr().cast(), len) };
        Ok(Self { elements, _access: access })
    }
}

/// Checks that the bytes are values of `T`. The host may read them.
fn check<T: Element>(part: &Part<'_>, len: usize) -> Result<(), DeviceError> {
    // SAFETY: the callers ensure that the host may read the bytes, which are initialized. Any bytes are bits.
    element::check::<T>(unsafe { slice::from_raw_parts(part.ptr().cast(), len) })
}

impl<'a> Part<'a> {
    /// Waits until the host may use the memory, and announces the access.
    fn begin_host_access(&self, write: bool) -> Result<HostAccess<'a>, DeviceError> {
        let device = self.device();
        if self.stream.id() != self.owner.id() {
            self.owner.finish()?;
        }
        let gate = self.stream.host_access(self.block.as_ptr())?;
        let (addr, bytes) = (self.addr(), self.bytes);
        if bytes > 0 {
            self.notify_observer(&Notice::HostAccess { addr, bytes, write });
            device.driver().host_access(device.ordinal(), self.ptr(), bytes, write)?;
            device.tell(&Notice::HostAccess { addr, bytes, write });
        }
        let model = device.model();
        let number = model.map_or(0, |model| model.begin_host_access(addr, bytes as u64, write));
        Ok(HostAccess { model, number, _gate: gate })
    }
}

impl<T> Deref for HostRead<'_, T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        self.elements
    }
}

impl<T> Deref for HostWrite<'_, T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        self.elements
    }
}

impl<T> DerefMut for HostWrite<'_, T> {
    fn deref_mut(&mut self) -> &mut [T] {
        self.elements
    }
}
