//! [`Limiter`] refuses allocations past a limit.

use crate::headroom::{Headroom, Shortage, Side};
use crate::size::Size;
use crate::unfreed::Unfreed;
use cumem::error::DeallocReason;
use cumem::layout::CUDA_ALLOCATION_ALIGNMENT;
use cumem::{AllocError, Block, DeallocError, DeviceId, LayerExt, MemoryResource, Stream, Upstream, layout};
use std::alloc::Layout;
use std::borrow::Cow;

/// An adaptor that refuses an allocation if the bytes allocated through it would exceed a limit.
///
/// The limiter counts each block rounded up to 256 bytes, as RMM's limiting adaptor does by default. Under a pool the
/// limit applies to the pool's chunks, and over a pool to the users' blocks. Blocks that other code allocates directly
/// from the same upstream do not count. A request of zero bytes is never refused.
///
/// The limit is exact with any number of threads: the limit is never exceeded, and a request is refused only if it does
/// not fit at one moment. Each thread has a share of the bytes that are left. Threads wait for each other only when a
/// thread has used up its share. Near the limit this happens at every call.
///
/// `find::<LimiterState>()` returns its [`LimiterState`] from any stack.
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
/// let _half = Buffer::<u8, _>::zeroed(512 << 10, &stream, &memory)?;
/// let error = Buffer::<u8, _>::zeroed(1 << 20, &stream, &memory).unwrap_err();
/// assert!(error.is_out_of_memory());
/// memory.state().set_bytes(2 << 20);
/// let _more = Buffer::<u8, _>::zeroed(1 << 20, &stream, &memory)?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Limiter<U> {
    state: LimiterState,
    upstream: U,
}

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
    given: (Size, usize),
    device: DeviceId,
    name: Option<Box<str>>,
    /// False once the adaptor was removed. Its blocks are then the upstream's.
    reports: bool,
    counted: Headroom<1>,
}

impl<U> Limiter<U> {
    /// Creates a limiter that lets at most `limit` be allocated at a time: bytes, or a share of the memory of the
    /// upstream's device.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::sim::Profile;
    /// use cumem::{CudaResource, Device};
    /// use cumem_adaptors::{Limiter, Size};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// let memory = Limiter::new(CudaResource::new(&device), Size::Percent(80));
    /// assert!(memory.to_string().starts_with("limit(80%) over device"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn new(upstream: U, limit: impl Into<Size>) -> Self
    where
        U: Upstream,
    {
        let size = limit.into().saturated();
        // If the driver does not report the free memory, none of it may be allocated.
        let bytes = size.bytes_on(upstream.device()).unwrap_or(0);
        let counted = Headroom::new([bytes as u64], Shortage::Refuses);
        let state =
            LimiterState { given: (size, bytes), device: upstream.device().id(), name: None, reports: true, counted };
        Self { state, upstream }
    }

    /// Gives the limit a name, which its refusals carry. This tells limits apart, for example those of several tenants
    /// over one shared limit.
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
    /// let all = CudaResource::new(&device).limit(1 << 30);
    /// let tenant = (&all).limit(1 << 20).named("search");
    /// let error = Buffer::<u8, _>::zeroed(2 << 20, &stream, &tenant).unwrap_err();
    /// assert_eq!(
    ///     error.to_string(),
    ///     "limit reached: limit `search` was asked for 2 MiB, and 0 bytes of 1 MiB are in use"
    /// );
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.state.name = Some(name.into().into());
        self
    }

    /// Returns the upstream.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{CudaResource, Device};
    /// # use cumem_adaptors::{ResourceExt};
    /// # let device = Device::simulated(Profile::default())?;
    /// let stack = CudaResource::new(&device).statistics().limit(1 << 30);
    /// assert_eq!(stack.upstream().state().counts().total_blocks, 0); // the statistics
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn upstream(&self) -> &U {
        &self.upstream
    }

    /// Removes this adaptor and returns the upstream. Live blocks stay valid, because the upstream made them:
    /// deallocate them through the upstream. The limit no longer applies.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::sim::Profile;
    /// use cumem::{CudaResource, Device};
    /// use cumem_adaptors::ResourceExt;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// let memory: CudaResource = CudaResource::new(&device).limit(1 << 20).into_upstream();
    /// # let _ = memory;
    /// # Ok(())
    /// # }
    /// ```
    pub fn into_upstream(mut self) -> U {
        self.state.reports = false;
        self.upstream
    }

    /// Returns the limit, to read it or to change it.
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
    /// assert_eq!(memory.state().bytes(), 1 << 20);
    /// # Ok(())
    /// # }
    /// ```
    pub fn state(&self) -> &LimiterState {
        &self.state
    }
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

    /// Returns the [name](Limiter::named) of the limit, if it has one.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    #[cold]
    fn layer(&self) -> Cow<'static, str> {
        self.name().map_or("limit".into(), |name| format!("limit `{name}`").into())
    }

    /// Returns the allocated bytes, each block rounded up to 256. The call reads all threads' counts at one moment, and
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
    fn reserve(&self, counted: u64, requested: usize) -> Result<(), AllocError> {
        self.counted.mine().allocate([counted], |()| ()).map_err(|totals| {
            let (allocated, limit) = (totals.allocated[0] as usize, totals.ceiling[0] as usize);
            AllocError::LimitExceeded { layer: self.layer(), requested, allocated, limit }
        })
    }

    /// Undoes `reserve`. The count stops at 0, because the upstream may have accepted a block that this limiter never
    /// counted.
    #[cold]
    fn release(&self, counted: u64) {
        let mut rest = counted;
        while let Err(totals) = self.counted.mine().free([rest]) {
            rest = totals.outstanding[0];
        }
    }
}

/// Bytes counted before the upstream is called. Dropping the reservation subtracts them again, because the upstream may
/// fail or panic.
struct Reservation<'a> {
    limit: &'a LimiterState,
    counted: u64,
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        self.limit.release(self.counted);
    }
}

/// Bytes of a block that the upstream frees. The value is dropped only if the upstream panics. The block is then no longer
/// the limiter's, so its bytes make room for other blocks.
struct Lost<'a> {
    limit: &'a LimiterState,
    counted: u64,
}

impl Drop for Lost<'_> {
    #[cold]
    fn drop(&mut self) {
        self.limit.counted.mine().put(Side::Room, [self.counted]);
    }
}

#[inline]
fn counted(size: usize) -> u64 {
    // A layout's size is at most `isize::MAX`, so rounding it up cannot overflow.
    layout::align_up(size, CUDA_ALLOCATION_ALIGNMENT).unwrap_or(usize::MAX) as u64
}

cumem::adaptor_layer! {
    impl[U] Layer, Upstream for Limiter<U> {
        upstream: U = upstream;
        describe = |limiter, f| {
            let (given, bytes) = limiter.state.given;
            let now = limiter.state.bytes();
            write!(f, "limit({})", if now == bytes { given } else { Size::Bytes(now) })
        };
        state = state;
    }
}

// SAFETY: every block is the upstream's and is passed on unchanged.
unsafe impl<U: Upstream> MemoryResource for Limiter<U> {
    type Kind = U::Kind;

    #[inline]
    fn allocate(&self, stream: &Stream, layout: Layout) -> Result<Block, AllocError> {
        let counted = counted(layout.size());
        self.state.reserve(counted, layout.size())?;
        let reservation = Reservation { limit: &self.state, counted };
        let block = self.upstream.allocate(stream, layout)?;
        std::mem::forget(reservation);
        Ok(block)
    }

    #[inline]
    unsafe fn deallocate(&self, stream: &Stream, block: Block) -> Result<(), DeallocError> {
        let (counted, mine) = (counted(block.size()), self.state.counted.mine());
        // A block of this limiter stays counted until the upstream accepts it back. A block larger than the count is
        // therefore foreign.
        if let Err(totals) = mine.take(Side::Out, [counted]) {
            let (outstanding, returned) = (totals.outstanding[0] as usize, counted as usize);
            return Err(DeallocError::new(
                block,
                DeallocReason::NotOutstanding { layer: "limit", outstanding, returned },
            ));
        }
        let lost = Lost { limit: &self.state, counted };
        // SAFETY: the caller upholds the contract of this method, which is the upstream's.
        let freed = unsafe { self.upstream.deallocate(stream, block) };
        std::mem::forget(lost);
        if let Err(error) = freed {
            mine.put(Side::Out, [counted]);
            return Err(error);
        }
        // The bytes fit again only after the upstream accepted the block. Until then its memory is allocated, and other
        // threads must not get its share of the limit.
        mine.put(Side::Room, [counted]);
        Ok(())
    }
}
