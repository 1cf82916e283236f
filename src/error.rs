//! Errors. An error of a memory resource contains the request, the figures at that moment, and the layer that refused.
//!
//! In all crates of this project an error displays one sentence, and [`source`](std::error::Error::source) returns its
//! cause. [`ErrorReport`] joins the chain where only one line is printed.
//!
//! The examples of some items name `cumem_driver`. In a program that depends on `cumem`, write `cumem::error` instead.
//!
//! | error | origin |
//! |---|---|
//! | [`DriverError`] | a call to the driver or to a simulator |
//! | [`DeviceError`] | an operation on a device, a stream or memory, refused by this library or by the driver |
//! | [`AllocError`], [`DeallocError`], [`TrimError`] | memory resources |
//! | [`ProfileError`] | profiles of simulated devices |

use crate::block::Block;
use std::borrow::Cow;
use std::error::Error;
use std::fmt;

pub use crate::custom_error::CustomError;
pub use crate::device::error::DeviceError;
pub use crate::human_bytes::HumanBytes;
pub use crate::layout::InvalidLayout;
pub use crate::report::ErrorReport;
pub use crate::unreported::{is_reported, unreported};
pub use crate::usage::{SizeClass, StreamStats, Usage};
pub use cumem_driver::Plural;
pub use cumem_driver::drop_error::{DropError, catch_drop_panic, record_drop_error, take_drop_errors};
pub use cumem_driver::panics::panic_message;
pub use cumem_driver::{CudaErrorCode, DeviceId, DriverError};
pub use cumem_sim::ProfileError;

/// The error of an allocation. Nothing was allocated, and no counter has changed.
///
/// # Examples
///
/// ```
/// use cumem::sim::Profile;
/// use cumem::{layout, AllocError, CudaResource, Device, MemoryResource, Stream};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::simulated(Profile::tiny(64 << 20))?; // 64 MiB of memory
/// let stream = Stream::new(&device)?;
/// let error = CudaResource::new(&device).allocate(&stream, layout::bytes(1 << 30)?).unwrap_err();
/// assert!(error.is_out_of_memory());
/// assert!(matches!(error, AllocError::OutOfMemory { layer: "device", requested, .. } if requested == 1 << 30));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum AllocError {
    /// A leaf is out of memory.
    OutOfMemory {
        /// The leaf that failed.
        layer: &'static str,
        /// Bytes requested.
        requested: usize,
        /// Free bytes of the device just after the failure, or of the host for host memory. 0 if the driver does not
        /// report them.
        free: usize,
        /// All bytes of the device, or of the host for host memory.
        total: usize,
        /// The device.
        device: DeviceId,
    },
    /// A suballocator, such as a pool, has no free block that is large enough. The suballocator has reached its
    /// maximum, or its upstream returned an error.
    Exhausted {
        /// The suballocator.
        layer: &'static str,
        /// Bytes requested.
        requested: usize,
        /// The memory of the suballocator at that moment. `{:#}` also displays the live blocks by size and by stream.
        held: Box<Usage>,
        /// The error of the upstream, or `None` if the suballocator did not call its upstream.
        upstream: Option<Box<AllocError>>,
    },
    /// The request would exceed a limit.
    LimitExceeded {
        /// The layer that refused, for example `limit` or `pressure`. A limit with a name has it too: ``limit `tenant` ``.
        layer: Cow<'static, str>,
        /// Bytes requested.
        requested: usize,
        /// Bytes counted against the limit before the request.
        allocated: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// No memory can have this size and alignment.
    InvalidLayout(InvalidLayout),
    /// The resource does not support this alignment.
    UnsupportedAlignment {
        /// The resource.
        layer: &'static str,
        /// The alignment requested, in bytes.
        alignment: usize,
        /// The largest supported alignment, in bytes.
        maximum: usize,
    },
    /// The block was allocated but could not be prefetched, so it was freed again.
    PrefetchFailed {
        /// Bytes requested.
        requested: usize,
        /// The error of the prefetch.
        source: DeviceError,
    },
    /// A resource outside of this library refused for a reason of its own.
    Custom {
        /// The resource that refused.
        layer: Cow<'static, str>,
        /// Bytes requested.
        requested: usize,
        /// Whether the reason is a lack of memory, so that adaptors may trim, spill or try again.
        out_of_memory: bool,
        /// The reason.
        source: CustomError,
    },
    /// The block was allocated, but an adaptor could not do its work on it, so it was freed again. For example, the block
    /// could not be cleared.
    NotPrepared {
        /// The adaptor.
        layer: &'static str,
        /// Bytes requested.
        requested: usize,
        /// The error of that work. Boxed, so that the type stays small.
        source: Box<DeviceError>,
    },
    /// An operation on a device or a stream failed for another reason than a lack of memory.
    Device(DeviceError),
}

impl fmt::Display for AllocError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let human = |bytes: &usize| HumanBytes(*bytes);
        match self {
            Self::OutOfMemory { layer, requested, free, total, device } => {
                let [requested, free, total] = [requested, free, total].map(human);
                write!(
                    f,
                    "out of memory: {layer} was asked for {requested}, and {free} of {total} are free on {device}"
                )
            }
            Self::Exhausted { layer, requested, held, .. } => {
                write!(f, "out of memory: {layer} was asked for {}; {held}", human(requested))
            }
            Self::LimitExceeded { layer, requested, allocated, limit } => {
                let [requested, allocated, limit] = [requested, allocated, limit].map(human);
                write!(f, "limit reached: {layer} was asked for {requested}, and {allocated} of {limit} are in use")
            }
            Self::InvalidLayout(error) => error.fmt(f),
            Self::Custom { layer, requested, out_of_memory: true, .. } => {
                write!(f, "out of memory: {layer} was asked for {}", human(requested))
            }
            Self::Custom { layer, requested, .. } => {
                write!(f, "{layer} was asked for {}, and refused", human(requested))
            }
            Self::UnsupportedAlignment { layer, alignment, maximum } => {
                write!(f, "{layer} aligns to at most {maximum} bytes, and {alignment} were requested")
            }
            Self::PrefetchFailed { requested, .. } => {
                let requested = human(requested);
                write!(f, "{requested} were allocated and freed again, because they could not be prefetched")
            }
            Self::NotPrepared { layer, requested, .. } => {
                write!(f, "{} were allocated and freed again, because {layer} could not prepare them", human(requested))
            }
            Self::Device(error) => error.fmt(f),
        }
    }
}

// Not derived: a derived `source` would return the `Box` of an upstream's error, which cannot be downcast to `AllocError`.
impl Error for AllocError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Exhausted { upstream: Some(upstream), .. } => Some(&**upstream),
            Self::PrefetchFailed { source, .. } => Some(source),
            Self::Custom { source, .. } => Some(&**source),
            Self::NotPrepared { source, .. } => Some(&**source),
            Self::InvalidLayout(error) => error.source(),
            Self::Device(error) => error.source(),
            _ => None,
        }
    }
}

impl From<InvalidLayout> for AllocError {
    fn from(error: InvalidLayout) -> Self {
        Self::InvalidLayout(error)
    }
}

impl From<DeviceError> for AllocError {
    fn from(error: DeviceError) -> Self {
        Self::Device(error)
    }
}

impl From<DriverError> for AllocError {
    fn from(error: DriverError) -> Self {
        Self::Device(error.into())
    }
}

impl From<ProfileError> for AllocError {
    fn from(error: ProfileError) -> Self {
        Self::Device(error.into())
    }
}

impl AllocError {
    /// Creates the error of a resource outside of this library, which refused for another reason than a lack of memory.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::AllocError;
    /// use std::error::Error;
    /// use std::io;
    ///
    /// let error = AllocError::custom("tape", 1 << 20, io::Error::from(io::ErrorKind::PermissionDenied));
    /// assert_eq!(error.report().to_string(), "tape was asked for 1 MiB, and refused: permission denied");
    /// assert!(error.source().unwrap().is::<io::Error>() && !error.is_out_of_memory());
    /// ```
    #[cold]
    pub fn custom(
        layer: impl Into<Cow<'static, str>>,
        requested: usize,
        error: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        Self::Custom { layer: layer.into(), requested, out_of_memory: false, source: CustomError::new(error) }
    }

    /// Creates the error of a resource outside of this library that has run out of memory. Adaptors may then trim, spill or
    /// try again.
    ///
    /// # Examples
    ///
    /// ```
    /// let error = cumem::AllocError::custom_out_of_memory("tape", 1 << 20, "7 of 8 tapes are full");
    /// assert_eq!(error.report().to_string(), "out of memory: tape was asked for 1 MiB: 7 of 8 tapes are full");
    /// assert!(error.is_out_of_memory());
    /// ```
    #[cold]
    pub fn custom_out_of_memory(
        layer: impl Into<Cow<'static, str>>,
        requested: usize,
        error: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        Self::Custom { layer: layer.into(), requested, out_of_memory: true, source: CustomError::new(error) }
    }

    /// Reports whether the memory, a limit or a maximum was exceeded, so that a smaller request could succeed.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::sim::Profile;
    /// use cumem::{Buffer, CudaResource, Device, Stream};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// let stream = Stream::new(&device)?;
    /// let bytes = device.attributes().total_memory + 1;
    /// let error = Buffer::<u8, _>::zeroed(bytes, &stream, CudaResource::new(&device)).unwrap_err();
    /// assert!(error.is_out_of_memory()); // a program can now free memory, or try a smaller size
    /// # Ok(())
    /// # }
    /// ```
    pub fn is_out_of_memory(&self) -> bool {
        match self {
            Self::OutOfMemory { .. } | Self::Exhausted { .. } | Self::LimitExceeded { .. } => true,
            Self::Custom { out_of_memory, .. } => *out_of_memory,
            Self::Device(error) => error.is_out_of_memory(),
            _ => false,
        }
    }

    /// Returns the error with all its causes in one line.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::sim::Profile;
    /// use cumem::{Buffer, CudaResource, Device, Stream};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// let stream = Stream::new(&device)?;
    /// let bytes = device.attributes().total_memory + 1;
    /// let error = Buffer::<u8, _>::zeroed(bytes, &stream, CudaResource::new(&device)).unwrap_err();
    /// assert!(error.report().to_string().starts_with("out of memory: device was asked for"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn report(&self) -> ErrorReport<'_> {
        ErrorReport::of(self)
    }
}

/// The error of a deallocation. The block is still live, and this error contains it.
///
/// # Examples
///
/// ```
/// use cumem::sim::Profile;
/// use cumem::{CudaResource, Device, MemoryResource, Stream, layout};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::simulated(Profile::default())?;
/// let stream = Stream::new(&device)?;
/// let (owner, other) = (CudaResource::new(&device), CudaResource::new(&device));
/// let block = owner.allocate(&stream, layout::bytes(1000)?)?;
/// // SAFETY: a resource returned the block, and nothing has used it.
/// let error = unsafe { other.deallocate(&stream, block) }.unwrap_err();
/// assert_eq!(error.reason.to_string(), "device did not make this block");
/// // SAFETY: as above.
/// unsafe { owner.deallocate(&stream, error.block) }?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, thiserror::Error)]
#[error("the block of {} at {:#x} was not accepted back", HumanBytes(block.size()), block.addr())]
#[non_exhaustive]
pub struct DeallocError {
    /// The block that was passed to `deallocate`.
    pub block: Block,
    /// The reason why the block was refused.
    #[source]
    pub reason: DeallocReason,
}

/// The reason of a [`DeallocError`] or a [`TrimError`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeallocReason {
    /// The resource did not make the block.
    #[error("{layer} did not make this block")]
    Foreign {
        /// The resource that refused the block.
        layer: &'static str,
    },
    /// The block is larger than the sum that the adaptor counts as allocated.
    #[error(
        "{layer} counts {} as allocated, and {} were to be returned",
        HumanBytes(*outstanding), HumanBytes(*returned)
    )]
    NotOutstanding {
        /// The adaptor that counts.
        layer: &'static str,
        /// Bytes that the adaptor counts as allocated.
        outstanding: usize,
        /// Bytes of the block.
        returned: usize,
    },
    /// The resource keeps the memory, because something may still use it. For example, a graph that is not gone.
    #[error("{layer} keeps this memory, because a graph may still use it")]
    Kept {
        /// The resource that refused the block.
        layer: &'static str,
    },
    /// A resource outside of this library refused for a reason of its own.
    #[error("{layer} refused the block")]
    Custom {
        /// The resource that refused the block.
        layer: Cow<'static, str>,
        /// The reason.
        source: CustomError,
    },
    /// An operation on a device or a stream failed.
    #[error(transparent)]
    Device(#[from] DeviceError),
}

impl DeallocReason {
    /// Creates the reason of a resource outside of this library.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::error::DeallocReason;
    ///
    /// let reason = DeallocReason::custom("tape", "the tape is torn");
    /// assert_eq!(reason.to_string(), "tape refused the block");
    /// assert_eq!(std::error::Error::source(&reason).unwrap().to_string(), "the tape is torn");
    /// ```
    #[cold]
    pub fn custom(layer: impl Into<Cow<'static, str>>, error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Custom { layer: layer.into(), source: CustomError::new(error) }
    }
}

impl From<DriverError> for DeallocReason {
    fn from(error: DriverError) -> Self {
        Self::Device(error.into())
    }
}

/// The error of a layer that could not free all of its unused memory. The layer still holds the rest.
///
/// # Examples
///
/// ```
/// use cumem::error::TrimError;
/// use cumem::{DeviceId, DriverError};
///
/// let reason = DriverError::NotSupported { what: "trimming", device: DeviceId::cuda(0) };
/// let error = TrimError::new(2 << 20, reason);
/// assert_eq!(error.trimmed, 2 << 20);
/// let text = "2 MiB were freed, and then memory could not be freed: cuda:0 does not support trimming";
/// assert_eq!(error.report().to_string(), text);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} were freed, and then memory could not be freed", HumanBytes(*trimmed))]
#[non_exhaustive]
pub struct TrimError {
    /// Bytes that were freed.
    pub trimmed: usize,
    /// The first reason why the rest was not freed.
    #[source]
    pub reason: DeallocReason,
}

impl TrimError {
    /// Creates the error of a trim that freed `trimmed` bytes and could not free the rest because of `reason`.
    #[cold]
    pub fn new(trimmed: usize, reason: impl Into<DeallocReason>) -> Self {
        Self { trimmed, reason: reason.into() }
    }

    /// Returns the error with all its causes in one line.
    pub fn report(&self) -> ErrorReport<'_> {
        ErrorReport::of(self)
    }
}

impl DeallocError {
    /// Creates the error of `block`, which was refused because of `reason`.
    #[cold]
    pub fn new(block: Block, reason: impl Into<DeallocReason>) -> Self {
        Self { block, reason: reason.into() }
    }

    /// Creates the error of `block`, which `layer` did not make. A resource returns it for a foreign block.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::error::{DeallocError, DeallocReason};
    /// use cumem::resource::MakerId;
    /// use cumem::{Block, layout};
    ///
    /// let block = Block::empty(MakerId::unique(), layout::bytes(0)?);
    /// let error = DeallocError::foreign("arena", block);
    /// assert_eq!(error.reason, DeallocReason::Foreign { layer: "arena" });
    /// assert_eq!(error.block.size(), 0); // the error returns the block
    /// # Ok::<_, cumem::AllocError>(())
    /// ```
    #[cold]
    pub fn foreign(layer: &'static str, block: Block) -> Self {
        Self::new(block, DeallocReason::Foreign { layer })
    }

    /// Returns the error with all its causes in one line.
    pub fn report(&self) -> ErrorReport<'_> {
        ErrorReport::of(self)
    }
}

impl DropError for DeallocError {
    fn is_driver_shut_down(&self) -> bool {
        matches!(&self.reason, DeallocReason::Device(error) if error.is_driver_shut_down())
    }

    fn device(&self) -> Option<DeviceId> {
        match &self.reason {
            DeallocReason::Device(error) => error.device(),
            _ => None,
        }
    }
}
