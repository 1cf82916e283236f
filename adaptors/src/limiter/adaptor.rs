//! [`Limiter`]: the adaptor.

use super::state::LimiterState;
use crate::alignment::{AlignmentError, checked};
use crate::headroom::{Headroom, Shortage, Side};
use crate::size::Size;
use cumem::error::DeallocReason;
use cumem::layout::CUDA_ALLOCATION_ALIGNMENT;
use cumem::{AllocError, Block, DeallocError, LayerExt, MemoryResource, Stream, Upstream};
use std::alloc::Layout;

/// An adaptor that refuses an allocation if the bytes allocated through it would exceed a limit.
///
/// The limiter counts each block rounded up to 256 bytes, as RMM's limiting adaptor does by default, or to
/// [another power of two](Self::with_rounding). Under a pool the limit applies to the pool's chunks, and over a pool to the users' blocks. Blocks that other code allocates directly
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
    pub(super) state: LimiterState,
    pub(super) upstream: U,
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
        Self::rounded(upstream, limit.into(), CUDA_ALLOCATION_ALIGNMENT)
    }

    /// Creates a limiter that counts each block rounded up to a multiple of `rounding` bytes. This makes the count equal
    /// to the memory that the upstream takes. For example, `virtual` and the driver take memory from a device in whole
    /// 2 MiB, so a limit over 256 bytes of each of a thousand blocks says little about the device.
    ///
    /// # Errors
    ///
    /// Returns [`AlignmentError`] if `rounding` is not a power of two.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::sim::Profile;
    /// use cumem::{Buffer, CudaVirtualResource, Device, Stream};
    /// use cumem_adaptors::Limiter;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// let stream = Stream::new(&device)?;
    /// let memory = Limiter::with_rounding(CudaVirtualResource::new(&device)?, 8 << 20, 2 << 20)?;
    /// let _byte = Buffer::<u8, _>::zeroed(1, &stream, &memory)?;
    /// assert_eq!(memory.state().allocated(), 2 << 20);
    /// assert!(Limiter::with_rounding(memory.upstream(), 8 << 20, 1000).is_err());
    /// # Ok(())
    /// # }
    /// ```
    pub fn with_rounding(upstream: U, limit: impl Into<Size>, rounding: usize) -> Result<Self, AlignmentError>
    where
        U: Upstream,
    {
        Ok(Self::rounded(upstream, limit.into(), checked(rounding)?))
    }

    fn rounded(upstream: U, limit: Size, rounding: usize) -> Self
    where
        U: Upstream,
    {
        let size = limit.saturated();
        // If the driver does not report the free memory, none of it may be allocated.
        let bytes = size.bytes_on(upstream.device()).unwrap_or(0);
        let counted = Headroom::new([bytes as u64], Shortage::Refuses);
        let device = upstream.device().id();
        let state = LimiterState { given: (size, bytes), device, name: None, reports: true, rounding, counted };
        Self { state, upstream }
    }

    /// Gives the limit a name, which its refusals carry. This tells limits apart, for example those of several tenants
    /// over one shared limit. If the shared limit refuses, its error names the tenant, too.
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
    /// # let _all = Buffer::<u8, _>::zeroed((1 << 30) - 4096, &stream, &all)?;
    /// let error = Buffer::<u8, _>::zeroed(1 << 20, &stream, &tenant).unwrap_err(); // others have used the shared limit
    /// assert!(error.to_string().starts_with("limit reached: limit for `search` was asked for 1 MiB"));
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

cumem::adaptor_layer! {
    impl[U] Layer, Upstream for Limiter<U> {
        upstream: U = upstream;
        describe = |limiter, f| {
            let (given, bytes) = limiter.state.given;
            let now = limiter.state.bytes();
            let now = if now == bytes { given } else { Size::Bytes(now) };
            write!(f, "limit({now}")?;
            if let Some(name) = limiter.state.name() {
                write!(f, ", name={name}")?;
            }
            if limiter.state.rounding != CUDA_ALLOCATION_ALIGNMENT {
                write!(f, ", rounding={}", Size::Bytes(limiter.state.rounding))?;
            }
            f.write_str(")")
        };
        state = state;
    }
}

// SAFETY: every block is the upstream's and is passed on unchanged.
unsafe impl<U: Upstream> MemoryResource for Limiter<U> {
    type Kind = U::Kind;

    #[inline]
    fn allocate(&self, stream: &Stream, layout: Layout) -> Result<Block, AllocError> {
        let counted = self.state.rounded(layout.size());
        self.state.reserve(counted, layout.size())?;
        let reservation = Reservation { limit: &self.state, counted };
        let block = self.upstream.allocate(stream, layout).map_err(|error| self.state.of_tenant(error))?;
        std::mem::forget(reservation);
        Ok(block)
    }

    #[inline]
    unsafe fn deallocate(&self, stream: &Stream, block: Block) -> Result<(), DeallocError> {
        let (counted, mine) = (self.state.rounded(block.size()), self.state.counted.mine());
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
