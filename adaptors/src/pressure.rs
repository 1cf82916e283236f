//! [`Pressure`] trims its upstream, and then refuses allocations, as the device's memory fills up.

mod options;
mod state;

pub use options::{PressureError, PressureOptions};
pub use state::{PressureLevel, PressureState};

use cumem::device::deferral::after_locks;
use cumem::error::TrimError;
use cumem::{AllocError, Block, DeallocError, Layer, LayerExt, MemoryResource, Stream, Upstream};
use std::alloc::Layout;
use std::error::Error;
use std::fmt;

/// An adaptor that watches how full the device's memory is and acts in steps. It first trims memory that the upstream
/// keeps unused, and then refuses allocations. Memory of all programs on the device counts.
///
/// | level | entered at | left below | what happens |
/// |---|---|---|---|
/// | normal | | | |
/// | trim | `trim_at` bytes in use | `trim_at` less the slack | the upstream's memory is trimmed, once on entering |
/// | refuse | `refuse_at` bytes in use | `refuse_at` less the slack | after another trim, allocations of more than zero bytes fail with [`AllocError::LimitExceeded`] |
///
/// A [`Spill`](crate::Spill) over this adaptor turns refused allocations into blocks of another kind of memory.
///
/// The adaptor queries the device's free memory (`cuMemGetInfo`) each time that [`PressureOptions::ask_after`] bytes
/// have been allocated, and at every allocation while it refuses. If the upstream runs out of memory, the adaptor trims
/// the upstream at any level. If the trim freed memory, the adaptor queries the device and tries the allocation once
/// more. Each change of level, each trim and each series of refusals is a `tracing` event with its numbers.
///
/// `find::<PressureState>()` returns its [`PressureState`] from any stack.
///
/// # Examples
///
/// ```
/// use cumem::sim::Profile;
/// use cumem::{Buffer, CudaResource, Device, Stream};
/// use cumem_adaptors::{PressureLevel, PressureOptions, ResourceExt};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::simulated(Profile::tiny(64 << 20))?;
/// let stream = Stream::new(&device)?;
/// let options = PressureOptions::default().trim_at(32 << 20_usize).refuse_at(48 << 20_usize).ask_after(0);
/// let memory = CudaResource::new(&device).pressure(options)?;
/// let _most = Buffer::<u8, _>::zeroed(50 << 20, &stream, &memory)?;
/// assert!(Buffer::<u8, _>::zeroed(1 << 20, &stream, &memory).unwrap_err().is_out_of_memory());
/// assert_eq!(memory.state().level(), PressureLevel::Refuse);
/// # Ok(())
/// # }
/// ```
pub struct Pressure<U> {
    state: PressureState,
    trim: Option<Trim<U>>,
    upstream: U,
}

/// A function that frees unused memory of `U` and returns the freed bytes.
type Trim<U> = Box<dyn Fn(&U) -> Result<usize, Box<dyn Error + Send + Sync>> + Send + Sync>;

impl<U> Pressure<U> {
    /// Creates the adaptor. It watches the upstream's device, and trims all layers beneath it
    /// ([`LayerExt::trim_stack`]).
    ///
    /// # Errors
    ///
    /// - Returns [`PressureError::Levels`] if the levels are not in order.
    /// - Returns [`PressureError::Driver`] if the query for free memory fails.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{CudaResource, Device};
    /// # use cumem_adaptors::{Pressure, PressureLevel, PressureOptions};
    /// # let device = Device::simulated(Profile::default())?;
    /// let stack = Pressure::new(CudaResource::new(&device), PressureOptions::default())?;
    /// assert_eq!(stack.state().level(), PressureLevel::Normal);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(upstream: U, options: PressureOptions) -> Result<Self, PressureError>
    where
        U: Upstream,
    {
        let state = PressureState::new(upstream.device(), options)?;
        Ok(Self { state, trim: None, upstream })
    }

    /// Trims with the function `trim`, which returns the bytes that it freed. Use it to keep some of the unused memory,
    /// or to free memory that is not beneath this adaptor.
    #[must_use]
    pub fn trimming(
        self,
        trim: impl Fn(&U) -> Result<usize, Box<dyn Error + Send + Sync>> + Send + Sync + 'static,
    ) -> Self {
        Self { trim: Some(Box::new(trim)), ..self }
    }

    /// Returns the upstream.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{CudaResource, Device};
    /// # use cumem_adaptors::{PoolOptions, PressureOptions, ResourceExt};
    /// # let device = Device::simulated(Profile::default())?;
    /// let stack = CudaResource::new(&device).pool(PoolOptions::new())?.pressure(PressureOptions::default())?;
    /// assert_eq!(stack.upstream().stats().reserved, 0); // the pool's figures
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn upstream(&self) -> &U {
        &self.upstream
    }

    /// Removes this adaptor and returns the upstream. Live blocks stay valid, because the upstream made them:
    /// deallocate them through the upstream. The levels no longer apply.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{CudaResource, Device};
    /// # use cumem_adaptors::{PressureOptions, ResourceExt};
    /// # let device = Device::simulated(Profile::default())?;
    /// let leaf = CudaResource::new(&device).pressure(PressureOptions::default())?.into_upstream();
    /// assert!(leaf.to_string().starts_with("device"));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn into_upstream(self) -> U {
        self.upstream
    }

    /// Returns the level and the counts.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{CudaResource, Device};
    /// # use cumem_adaptors::{PressureOptions, ResourceExt};
    /// # let device = Device::simulated(Profile::default())?;
    /// let stack = CudaResource::new(&device).pressure(PressureOptions::default())?;
    /// assert_eq!(stack.state().refusals(), 0);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn state(&self) -> &PressureState {
        &self.state
    }
}

impl<U: Layer> Pressure<U> {
    /// Trims unless this thread is within a trim. A closure of [`trimming`](Self::trimming) that allocates would
    /// otherwise call itself.
    fn trim_alone(&self) -> usize {
        self.state.begin_trim(false).map_or(0, |_trimming| self.trim())
    }

    fn trim(&self) -> usize {
        let trimmed = match &self.trim {
            Some(trim) => trim(&self.upstream),
            None => self.upstream.trim_stack(0).map_err(Into::into),
        };
        // Memory that could not be freed still belongs to the upstream. Part of it may have been freed before the
        // error.
        let bytes = trimmed.unwrap_or_else(|error| {
            let trimmed = error.downcast_ref().map_or(0, |error: &TrimError| error.trimmed);
            let error = error.to_string();
            after_locks(move || tracing::warn!(%error, "memory could not be given back under pressure"));
            trimmed
        });
        if bytes > 0 {
            self.state.trimmed(bytes);
        }
        bytes
    }
}

cumem::adaptor_layer! {
    impl[U] Layer, Upstream for Pressure<U> {
        upstream: U = upstream;
        describe = |pressure, f| pressure.state.describe(f);
        state = state;
    }
}

// SAFETY: every block is the upstream's and is passed on unchanged.
unsafe impl<U: Upstream> MemoryResource for Pressure<U> {
    type Kind = U::Kind;

    fn allocate(&self, stream: &Stream, layout: Layout) -> Result<Block, AllocError> {
        let bytes = layout.size();
        if self.state.is_due(bytes) {
            self.state.measure(|| self.trim())?;
        }
        self.state.admit(bytes)?;
        match self.upstream.allocate(stream, layout) {
            Err(error) if error.is_out_of_memory() && self.trim_alone() > 0 => {
                self.state.measure(|| 0)?;
                self.upstream.allocate(stream, layout)
            }
            allocated => allocated,
        }
    }

    unsafe fn deallocate(&self, stream: &Stream, block: Block) -> Result<(), DeallocError> {
        // SAFETY: the caller upholds the contract of this method, which is the upstream's.
        unsafe { self.upstream.deallocate(stream, block) }
    }
}

impl<U: fmt::Debug> fmt::Debug for Pressure<U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pressure").field("state", &self.state).field("upstream", &self.upstream).finish_non_exhaustive()
    }
}
