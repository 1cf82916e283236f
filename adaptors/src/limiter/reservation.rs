//! [`LimitReservation`]: bytes of a limit that are kept for one purpose.

use super::adaptor::Limiter;
use cumem::{AllocError, Block, DeallocError, MemoryResource, Stream, Upstream};
use std::alloc::Layout;
use std::mem;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Bytes of a limit that other requests cannot take, until the reservation is dropped. [`Limiter::reserve`] returns it.
///
/// A reservation is a memory resource. Its blocks use up the reserved bytes, and a block that is freed returns its bytes
/// to the limit, not to the reservation. Allocations through the limiter itself do not use the reservation. What is left
/// is returned to the limit on drop. Bytes of a limit are a permission and no memory: the upstream may be out of memory
/// all the same.
///
/// # Examples
///
/// Two phases of a job are sure of their memory before the first one starts:
///
/// ```
/// use cumem::sim::Profile;
/// use cumem::{Buffer, CudaResource, Device, Stream};
/// use cumem_adaptors::ResourceExt;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::simulated(Profile::default())?;
/// let stream = Stream::new(&device)?;
/// let memory = CudaResource::new(&device).limit(4 << 20);
/// let mut build = memory.reserve(3 << 20)?;
/// let probe = build.split(1 << 20)?; // of the 3 MiB
/// assert_eq!((build.remaining(), probe.remaining(), memory.state().remaining()), (2 << 20, 1 << 20, 1 << 20));
///
/// let table = Buffer::<u8, _>::zeroed(2 << 20, &stream, &build)?;
/// assert_eq!(build.remaining(), 0);
/// drop(probe); // not needed
/// assert_eq!(memory.state().remaining(), 2 << 20);
/// # drop(table);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "a reservation is returned to the limit as soon as it is dropped"]
pub struct LimitReservation<'a, U> {
    remaining: AtomicU64,
    limiter: &'a Limiter<U>,
}

impl<U> Limiter<U> {
    /// Takes `bytes` of the limit, rounded up as blocks are, for later allocations through the result.
    ///
    /// # Errors
    ///
    /// Returns [`AllocError::LimitExceeded`] with the [name](Self::named) of the limit if fewer bytes remain.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{CudaResource, Device};
    /// # use cumem_adaptors::ResourceExt;
    /// # let device = Device::simulated(Profile::default())?;
    /// let memory = CudaResource::new(&device).limit(1 << 20);
    /// let reservation = memory.reserve(1 << 20)?;
    /// assert!(memory.reserve(1).is_err());
    /// drop(reservation);
    /// assert_eq!(memory.state().remaining(), 1 << 20);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn reserve(&self, bytes: usize) -> Result<LimitReservation<'_, U>, AllocError> {
        let remaining = self.state.rounded(bytes);
        self.state.reserve(remaining, bytes)?;
        Ok(LimitReservation { remaining: AtomicU64::new(remaining), limiter: self })
    }
}

impl<U> LimitReservation<'_, U> {
    /// Returns the reserved bytes that no block uses yet.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{CudaResource, Device, Buffer, Stream};
    /// # use cumem_adaptors::ResourceExt;
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let memory = CudaResource::new(&device).limit(1 << 20);
    /// let reservation = memory.reserve(4096)?;
    /// let _buffer = Buffer::<u8, _>::zeroed(1024, &stream, &reservation)?;
    /// assert_eq!(reservation.remaining(), 3072);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn remaining(&self) -> usize {
        self.remaining.load(Relaxed) as usize
    }

    /// Moves `bytes`, rounded up as blocks are, to a reservation of their own.
    ///
    /// # Errors
    ///
    /// Returns [`AllocError::LimitExceeded`] if fewer bytes remain. The reservation does not change then.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{CudaResource, Device};
    /// # use cumem_adaptors::ResourceExt;
    /// # let device = Device::simulated(Profile::default())?;
    /// let memory = CudaResource::new(&device).limit(1 << 20);
    /// let mut whole = memory.reserve(4096)?;
    /// let part = whole.split(1000)?;
    /// assert_eq!((whole.remaining(), part.remaining()), (3072, 1024)); // rounded up to 256
    /// assert!(whole.split(4096).is_err());
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn split(&mut self, bytes: usize) -> Result<Self, AllocError> {
        let counted = self.limiter.state.rounded(bytes);
        self.take(counted, bytes)?;
        Ok(Self { remaining: AtomicU64::new(counted), limiter: self.limiter })
    }

    /// Moves what remains of another reservation of the same limiter to this one.
    ///
    /// # Errors
    ///
    /// Returns the other reservation if it is one of another limiter.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{CudaResource, Device};
    /// # use cumem_adaptors::ResourceExt;
    /// # let device = Device::simulated(Profile::default())?;
    /// let memory = CudaResource::new(&device).limit(1 << 20);
    /// let mut one = memory.reserve(1024)?;
    /// one.merge(memory.reserve(512)?).expect("both are of one limiter");
    /// assert_eq!(one.remaining(), 1536);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn merge(&mut self, other: Self) -> Result<(), Self> {
        if !std::ptr::eq(self.limiter, other.limiter) {
            return Err(other);
        }
        *self.remaining.get_mut() += mem::take(&mut *mem::ManuallyDrop::new(other).remaining.get_mut());
        Ok(())
    }

    /// Subtracts bytes that a block or another reservation uses from now on.
    fn take(&self, counted: u64, requested: usize) -> Result<(), AllocError> {
        let subtract = |remaining: u64| remaining.checked_sub(counted);
        match self.remaining.fetch_update(Relaxed, Relaxed, subtract) {
            Ok(_) => Ok(()),
            Err(remaining) => Err(AllocError::LimitExceeded {
                layer: format!("a reservation of {}", self.limiter.state.layer()).into(),
                requested,
                allocated: 0,
                limit: remaining as usize,
            }),
        }
    }
}

impl<U> Drop for LimitReservation<'_, U> {
    fn drop(&mut self) {
        self.limiter.state.release(*self.remaining.get_mut());
    }
}

/// Bytes that were taken for a block whose allocation may fail or panic.
struct Taken<'a> {
    remaining: &'a AtomicU64,
    counted: u64,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.remaining.fetch_add(self.counted, Relaxed);
    }
}

cumem::adaptor_layer! {
    impl['a, U] Layer, Upstream for LimitReservation<'a, U> {
        upstream: U = limiter;
        describe = |this, f| write!(f, "reservation({})", crate::Size::Bytes(this.remaining()));
    }
}

// SAFETY: every block is the limiter's upstream's and is passed on unchanged.
unsafe impl<U: Upstream> MemoryResource for LimitReservation<'_, U> {
    type Kind = U::Kind;

    fn allocate(&self, stream: &Stream, layout: Layout) -> Result<Block, AllocError> {
        let counted = self.limiter.state.rounded(layout.size());
        self.take(counted, layout.size())?;
        let taken = Taken { remaining: &self.remaining, counted };
        let block = self.limiter.upstream.allocate(stream, layout)?;
        mem::forget(taken);
        Ok(block)
    }

    unsafe fn deallocate(&self, stream: &Stream, block: Block) -> Result<(), DeallocError> {
        // SAFETY: the caller upholds the contract of this method, which is the limiter's. The block is counted in the
        // limit, as those of the limiter are.
        unsafe { self.limiter.deallocate(stream, block) }
    }
}
