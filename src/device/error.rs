//! [`DeviceError`]: the error of an operation on a device, a stream or memory.
#![forbid(unsafe_code)]

use crate::report::ErrorReport;
use cumem_driver::drop_error::DropError;
use cumem_driver::{CudaErrorCode, DeviceId, DriverError, MemoryType};
use cumem_sim::ProfileError;

/// The error of an operation on a device, a stream or memory. This library refused the operation, or the driver did.
///
/// # Examples
///
/// ```
/// use cumem::sim::Profile;
/// use cumem::{Buffer, CudaResource, Device, DeviceError, Stream};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::simulated(Profile::default())?;
/// let stream = Stream::new(&device)?;
/// let mut buffer = Buffer::<u32, _>::zeroed(3, &stream, CudaResource::new(&device))?;
/// let error = buffer.copy_from_slice(&[1, 2]).unwrap_err();
/// assert_eq!(error, DeviceError::WrongLength { expected: 3, found: 2 });
/// assert_eq!(error.to_string(), "2 elements were given, but the buffer has 3");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// The driver returned an error.
    #[error(transparent)]
    Driver(#[from] DriverError),
    /// A simulated device could not be created, because its profile contradicts itself.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// An object of one device was used with another device, for example a stream with memory of another GPU.
    #[error("{what} belongs to {found}, but {expected} is needed here")]
    WrongDevice {
        /// The object, for example `the stream`.
        what: &'static str,
        /// The device that the object belongs to.
        found: DeviceId,
        /// The device that the object was used with.
        expected: DeviceId,
    },
    /// A thread used the per-thread default stream of another thread.
    #[error("a per-thread default stream of {device} was used by another thread than its own")]
    WrongThread {
        /// The stream's device.
        device: DeviceId,
    },
    /// A host guard over managed memory is open, and the device has no concurrent managed access. No work may be
    /// enqueued until the guard is dropped.
    #[error("{device} has no concurrent managed access, and {guards} host guards over managed memory are open")]
    HostAccess {
        /// The device.
        device: DeviceId,
        /// The number of open guards.
        guards: usize,
    },
    /// The host cannot access the memory of a buffer whose kind is known only at run time.
    #[error("the buffer has {memory} memory of {device}, which the host cannot access")]
    NotHostAccessible {
        /// The type of the memory.
        memory: MemoryType,
        /// The device.
        device: DeviceId,
    },
    /// Memory of another library has another type than the buffer over it.
    #[error("the memory at {addr:#x} is {found} memory of {device}, and {expected} memory is needed here")]
    OtherMemory {
        /// The address of the first byte.
        addr: u64,
        /// The kind of memory that is needed.
        expected: &'static str,
        /// The type of the memory.
        found: MemoryType,
        /// The device that the memory was allocated on.
        device: DeviceId,
    },
    /// A [`StreamPool`](crate::StreamPool) of no streams was requested.
    #[error("a pool of streams of {device} needs at least one stream")]
    NoStreams {
        /// The device.
        device: DeviceId,
    },
    /// A range exceeds the memory that it was applied to.
    #[error("range {start}..{end} is not within {size} bytes or elements")]
    OutOfRange {
        /// The start of the range.
        start: usize,
        /// The end of the range, exclusive.
        end: usize,
        /// The length of the memory, in the unit of the range.
        size: usize,
    },
    /// A slice or a buffer has a different number of elements than the buffer that it was used with.
    #[error("{found} elements were given, but the buffer has {expected}")]
    WrongLength {
        /// The number of elements of the buffer.
        expected: usize,
        /// The number of elements given.
        found: usize,
    },
    /// The bytes of an element on the device are not a value of its type. For example, a kernel wrote 2 to a `bool`.
    #[error("the bytes of element {index} are not a value of `{element}`")]
    InvalidElement {
        /// The index of the element in the range that was read.
        index: usize,
        /// The type of the elements.
        element: &'static str,
    },
    /// Memory was given another type of element, but it is not a whole number of such elements, or not aligned for them.
    #[error("{bytes} bytes at {addr:#x} are not a whole number of elements of {size} bytes aligned to {alignment}")]
    Misfit {
        /// The length of the memory in bytes.
        bytes: usize,
        /// The address of the first byte.
        addr: u64,
        /// The size of an element in bytes.
        size: usize,
        /// The alignment of an element in bytes.
        alignment: usize,
    },
    /// The source and the target of a copy overlap. The driver does not define the result of such a copy.
    #[error("the source and the target of a copy overlap: {len} elements from {from} and from {to} on")]
    Overlap {
        /// The start of the source.
        from: usize,
        /// The start of the target.
        to: usize,
        /// The number of elements to copy.
        len: usize,
    },
    /// `AppliedHints::undo` was called with another block than the block of the hints.
    #[error("the hints were given about the block at {expected:#x}, not about the one at {found:#x}")]
    OtherBlock {
        /// The address of the block of the hints.
        expected: u64,
        /// The address of the block that `undo` was called with.
        found: u64,
    },
    /// The operation would end the capture of a stream with an error, so the library did not try it. For example, a pool
    /// cannot wait for the work of a captured stream.
    #[error("a stream of {device} is being captured, and {what} would make the capture fail")]
    Captured {
        /// The device.
        device: DeviceId,
        /// The operation, for example `recording an event on the device`.
        what: &'static str,
    },
    /// User code that runs inside a call of an object called the object again, or the closure of a kernel called an
    /// object that another thread uses. For example, the upstream of a pool allocated from that pool.
    #[error("{what} was called from within a call of {what}, or from a kernel while another thread holds its lock")]
    Reentered {
        /// The object, for example "a pool".
        what: &'static str,
    },
}

impl DeviceError {
    /// Returns the driver's error, or `None` if this library refused the operation.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::{DeviceError, DeviceId, DriverError};
    ///
    /// let failed = DriverError::NotSupported { what: "managed memory", device: DeviceId::cuda(0) };
    /// assert_eq!(DeviceError::from(failed.clone()).driver(), Some(&failed));
    /// let refused = DeviceError::WrongThread { device: DeviceId::cuda(0) };
    /// assert_eq!(refused.driver(), None); // this library refused the operation
    /// ```
    pub fn driver(&self) -> Option<&DriverError> {
        match self {
            Self::Driver(error) => Some(error),
            _ => None,
        }
    }

    /// Returns the driver's error code, or `None` if no driver returned one.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::error::CudaErrorCode;
    /// use cumem::{DeviceError, DeviceId, DriverError};
    ///
    /// let error = DeviceError::from(DriverError::host_out_of_memory(DeviceId::cuda(0)));
    /// assert_eq!(error.code(), Some(CudaErrorCode::OUT_OF_MEMORY));
    /// assert!(error.is_out_of_memory());
    /// ```
    pub fn code(&self) -> Option<CudaErrorCode> {
        self.driver()?.code()
    }

    /// Returns the device that the error is about, or `None` if it is about none.
    pub fn device(&self) -> Option<DeviceId> {
        match self {
            Self::Driver(error) => error.device(),
            Self::WrongDevice { expected: device, .. }
            | Self::WrongThread { device }
            | Self::HostAccess { device, .. }
            | Self::Captured { device, .. }
            | Self::NoStreams { device }
            | Self::OtherMemory { device, .. }
            | Self::NotHostAccessible { device, .. } => Some(*device),
            Self::Profile(_) | Self::OutOfRange { .. } | Self::WrongLength { .. } => None,
            Self::InvalidElement { .. } | Self::Misfit { .. } | Self::Overlap { .. } => None,
            Self::OtherBlock { .. } | Self::Reentered { .. } => None,
        }
    }

    /// Reports whether the driver ran out of memory.
    pub fn is_out_of_memory(&self) -> bool {
        self.driver().is_some_and(DriverError::is_out_of_memory)
    }

    /// Returns the error with all its causes in one line.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::{DeviceError, DeviceId};
    ///
    /// let error = DeviceError::WrongThread { device: DeviceId::cuda(0) };
    /// assert_eq!(error.report().to_string(), error.to_string()); // the error has no further cause
    /// ```
    pub fn report(&self) -> ErrorReport<'_> {
        ErrorReport::of(self)
    }
}

impl DropError for DeviceError {
    fn is_driver_shut_down(&self) -> bool {
        self.driver().is_some_and(DropError::is_driver_shut_down)
    }

    fn device(&self) -> Option<DeviceId> {
        Self::device(self)
    }
}
