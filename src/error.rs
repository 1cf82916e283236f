//! Errors: the request, the numbers that it met, and the layer that refused.
//!
//! In all crates of this project an error says one sentence, and [`source`](std::error::Error::source) returns its
//! cause. [`ErrorReport`] joins the chain where only one line is printed.
//!
//! | error | origin |
//! |---|---|
//! | [`DriverError`] | a call that the driver, or the simulator in its place, did not carry out |
//! | [`DeviceError`] | an operation on a device, a stream or memory: refused by this library, or by the driver |
//! | [`AllocError`], [`DeallocError`], [`TrimError`] | memory resources |
//! | [`ProfileError`] | profiles of simulated devices |

use crate::block::Block;

pub use crate::device::error::DeviceError;
pub use crate::human_bytes::HumanBytes;
pub use crate::layout::InvalidLayout;
pub use crate::report::ErrorReport;
pub use crate::usage::{SizeClass, StreamStats, Usage};
pub use cumem_driver::drop_error::{DropError, record_drop_error, take_drop_errors};
pub use cumem_driver::{CudaErrorCode, DeviceId, DriverError};
pub use cumem_sim::ProfileError;

/// A block that could not be allocated. Nothing was allocated, and no counter changed.
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
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AllocError {
    /// The memory that a leaf allocates from has run out.
    #[error(
        "out of memory: {layer} was asked for {}, and {} of {} are free on {device}",
        HumanBytes(*requested), HumanBytes(*free), HumanBytes(*total)
    )]
    OutOfMemory {
        /// The leaf that failed.
        layer: &'static str,
        /// Bytes requested.
        requested: usize,
        /// Bytes free on the device (of the host, for host memory) just after the failure; 0 if the driver did not say.
        free: usize,
        /// Bytes that the device (the host) has.
        total: usize,
        /// The device.
        device: DeviceId,
    },
    /// A suballocator has no free block that is large enough, and may not grow, or its upstream refused to let it grow.
    #[error("out of memory: {layer} was asked for {}; {held}", HumanBytes(*requested))]
    Exhausted {
        /// The suballocator.
        layer: &'static str,
        /// Bytes requested.
        requested: usize,
        /// The memory of the suballocator at that moment. `{:#}` displays the whole account: blocks by size and by
        /// stream.
        held: Box<Usage>,
        /// The upstream's error, if the upstream was asked.
        #[source]
        upstream: Option<Box<AllocError>>,
    },
    /// The request would exceed a limit.
    #[error(
        "limit reached: {} were requested, and {} of {} are in use",
        HumanBytes(*requested), HumanBytes(*allocated), HumanBytes(*limit)
    )]
    LimitExceeded {
        /// Bytes requested.
        requested: usize,
        /// Bytes counted against the limit before the request.
        allocated: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// No memory can have this size and alignment.
    #[error(transparent)]
    InvalidLayout(#[from] InvalidLayout),
    /// The resource cannot give this alignment.
    #[error("{layer} aligns to at most {maximum} bytes, and {alignment} were requested")]
    UnsupportedAlignment {
        /// The resource.
        layer: &'static str,
        /// The alignment requested, in bytes.
        alignment: usize,
        /// The largest alignment that the resource can give, in bytes.
        maximum: usize,
    },
    /// The block was allocated but could not be prefetched, so it was freed again.
    #[error("{} were allocated and freed again, because they could not be prefetched", HumanBytes(*requested))]
    PrefetchFailed {
        /// Bytes requested.
        requested: usize,
        /// The error of the prefetch.
        source: DeviceError,
    },
    /// The device, its stream or the driver refused for another reason than a lack of memory.
    #[error(transparent)]
    Device(#[from] DeviceError),
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
    /// Reports whether memory ran out, or a limit or maximum was reached, so that a smaller request could succeed.
    pub fn is_out_of_memory(&self) -> bool {
        match self {
            Self::OutOfMemory { .. } | Self::Exhausted { .. } | Self::LimitExceeded { .. } => true,
            Self::Device(error) => error.is_out_of_memory(),
            _ => false,
        }
    }

    /// Returns the error with all its causes in one line.
    pub fn report(&self) -> ErrorReport<'_> {
        ErrorReport::of(self)
    }
}

/// A block that was not accepted back. The block is still live, and in this error.
#[derive(Debug, thiserror::Error)]
#[error("the block of {} at {:#x} was not accepted back", HumanBytes(block.size()), block.addr())]
#[non_exhaustive]
pub struct DeallocError {
    /// The block that was passed to `deallocate`.
    pub block: Block,
    /// Why the block was not accepted.
    #[source]
    pub reason: DeallocReason,
}

/// Why a block was not accepted back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeallocReason {
    /// The resource did not make the block.
    #[error("{layer} did not make this block")]
    Foreign {
        /// The resource that was asked.
        layer: &'static str,
    },
    /// More would be returned than the adaptor counts as allocated.
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
    /// The device, its stream or the driver refused.
    #[error(transparent)]
    Device(#[from] DeviceError),
}

impl From<DriverError> for DeallocReason {
    fn from(error: DriverError) -> Self {
        Self::Device(error.into())
    }
}

/// A layer could not free all of its unused memory. It still has the rest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} were freed, and then memory could not be freed", HumanBytes(*trimmed))]
#[non_exhaustive]
pub struct TrimError {
    /// Bytes that were freed all the same.
    pub trimmed: usize,
    /// Why no more were freed: the first reason.
    #[source]
    pub reason: DeallocReason,
}

impl TrimError {
    /// Creates the error of a trim that freed `trimmed` bytes, and no more for `reason`.
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
    /// Creates the error of `block`, which was not accepted for `reason`.
    #[cold]
    pub fn new(block: Block, reason: impl Into<DeallocReason>) -> Self {
        Self { block, reason: reason.into() }
    }

    /// Creates the error of `block`, which `layer` did not make.
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
    fn driver_is_gone(&self) -> bool {
        matches!(&self.reason, DeallocReason::Device(error) if error.driver_is_gone())
    }

    fn device(&self) -> Option<DeviceId> {
        match &self.reason {
            DeallocReason::Device(error) => error.device(),
            _ => None,
        }
    }
}
