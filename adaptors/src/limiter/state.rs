//! [`LimiterState`]: the limit, and the bytes that are counted against it.
#![forbid(unsafe_code)]

use crate::headroom::Headroom;
use crate::size::Size;
use crate::unfreed::Unfreed;
use cumem::{AllocError, DeviceId, layout};
use std::borrow::Cow;

/// A limit, and the bytes that count against it.
///
/// # Examples
///
/// ```
/// use cumem::sim::Profile;
/// use cumem::{AnyResource, CudaResource, Device, LayerExt};
/// use cumem_adaptors::{LimiterState, ResourceExt, Size};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::simulated(Profile::default())?;
/// let stack = AnyResource::new(CudaResource::new(&device).limit(Size::Percent(50)));
/// let limit = stack.find::<LimiterState>().unwrap();
/// assert_eq!(limit.remaining(), device.attributes().total_memory / 2);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct LimiterState {
    pub(super) given: (Size, usize),
    pub(super) device: DeviceId,
    pub(super) name: Option<Box<str>>,
    /// False once the adaptor was removed. Its blocks are then the upstream's.
    pub(super) reports: bool,
    /// Each block counts as a multiple of this power of two.
    pub(super) rounding: usize,
    pub(super) counted: Headroom<1>,
}

impl Drop for LimiterState {
    fn drop(&mut self) {
        if self.reports {
            Unfreed { device: self.device, blocks: None, bytes: self.allocated() as u64 }.report("a limit");
        }
    }
}

impl LimiterState {
    /// Returns the limit: the most bytes that may be allocated at a time.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{CudaResource, Device};
    /// # use cumem_adaptors::{ResourceExt};
    /// # let device = Device::simulated(Profile::default())?;
    /// let stack = CudaResource::new(&device).limit(1 << 30);
    /// assert_eq!(stack.state().bytes(), 1 << 30);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn bytes(&self) -> usize {
        self.counted.ceiling()[0] as usize
    }

    /// Returns the [name](super::Limiter::named) of the limit, if it has one.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    #[cold]
    pub(super) fn layer(&self) -> Cow<'static, str> {
        self.name().map_or("limit".into(), |name| format!("limit `{name}`").into())
    }

    /// Returns the power of two to a multiple of which each block is rounded up, in bytes: 256, if
    /// [`with_rounding`](super::Limiter::with_rounding) did not set another.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{CudaResource, Device};
    /// # use cumem_adaptors::{ResourceExt};
    /// # let device = Device::simulated(Profile::default())?;
    /// assert_eq!(CudaResource::new(&device).limit(1 << 30).state().rounding(), 256);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn rounding(&self) -> usize {
        self.rounding
    }

    /// Returns the most bytes that a block may have now.
    pub(crate) fn largest_block(&self) -> usize {
        layout::align_down(self.remaining(), self.rounding)
    }

    /// Returns the bytes that a block of `size` bytes counts as.
    #[inline]
    pub(super) fn rounded(&self, size: usize) -> u64 {
        // A layout's size is at most `isize::MAX`, so rounding it up cannot overflow.
        layout::align_up(size, self.rounding).unwrap_or(usize::MAX) as u64
    }

    /// Returns the allocated bytes, each block rounded up to the [rounding](Self::rounding). The call reads all threads' counts at one moment, and
    /// stops all threads that use this limiter for that moment.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::sim::Profile;
    /// use cumem::{Buffer, CudaResource, Device, Stream};
    /// use cumem_adaptors::ResourceExt;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// let stream = Stream::new(&device)?;
    /// let memory = CudaResource::new(&device).limit(1 << 20);
    /// let _buffer = Buffer::<u8, _>::zeroed(1000, &stream, &memory)?;
    /// assert_eq!(memory.state().allocated(), 1024);
    /// # Ok(())
    /// # }
    /// ```
    pub fn allocated(&self) -> usize {
        self.counted.read(|()| ()).allocated[0] as usize
    }

    /// Returns the bytes that may still be allocated. Like [`allocated`](Self::allocated), the call reads all counts at
    /// one moment.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::sim::Profile;
    /// use cumem::{Buffer, CudaResource, Device, Stream};
    /// use cumem_adaptors::ResourceExt;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// let stream = Stream::new(&device)?;
    /// let memory = CudaResource::new(&device).limit(1 << 20);
    /// let _buffer = Buffer::<u8, _>::zeroed(1000, &stream, &memory)?;
    /// assert_eq!(memory.state().remaining(), (1 << 20) - 1024);
    /// # Ok(())
    /// # }
    /// ```
    pub fn remaining(&self) -> usize {
        let totals = self.counted.read(|()| ());
        totals.ceiling[0].saturating_sub(totals.allocated[0]) as usize
    }

    /// Changes the limit. If more is already allocated, blocks stay valid, and allocations of more than zero bytes fail
    /// until enough is freed.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::sim::Profile;
    /// use cumem::{Buffer, CudaResource, Device, Stream};
    /// use cumem_adaptors::ResourceExt;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// let stream = Stream::new(&device)?;
    /// let memory = CudaResource::new(&device).limit(1 << 20);
    /// let _buffer = Buffer::<u8, _>::zeroed(1000, &stream, &memory)?;
    /// memory.state().set_bytes(512);
    /// assert_eq!(memory.state().remaining(), 0);
    /// assert!(memory.to_string().starts_with("limit(512B)"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn set_bytes(&self, bytes: usize) {
        self.counted.set_ceiling([bytes as u64]);
    }

    /// Counts `counted` bytes if they fit. If they do not fit, the count does not change, so other threads never see
    /// the refused request.
    #[inline]
    pub(super) fn reserve(&self, counted: u64, requested: usize) -> Result<(), AllocError> {
        self.counted.mine().allocate([counted], |()| ()).map_err(|totals| {
            let (allocated, limit) = (totals.allocated[0] as usize, totals.ceiling[0] as usize);
            AllocError::LimitExceeded { layer: self.layer(), requested, allocated, limit }
        })
    }

    /// Adds the name of this limit to the refusal of a limit beneath it, which several named limits may share.
    #[cold]
    pub(super) fn of_tenant(&self, mut error: AllocError) -> AllocError {
        if let (Some(name), AllocError::LimitExceeded { layer, .. }) = (self.name(), &mut error) {
            *layer = format!("{layer} for `{name}`").into();
        }
        error
    }

    /// Undoes `reserve`. The count stops at 0, because the upstream may have accepted a block that this limiter never
    /// counted.
    #[cold]
    pub(super) fn release(&self, counted: u64) {
        let mut rest = counted;
        while let Err(totals) = self.counted.mine().free([rest]) {
            rest = totals.outstanding[0];
        }
    }
}
