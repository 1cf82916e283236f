//! [`OnFailure`] calls a function when the upstream is out of memory, and tries again.

mod state;

pub use state::OnFailureState;

use cumem::device::deferral::is_active;
use cumem::error::TrimError;
use cumem::{AllocError, Block, DeallocError, LayerExt, MemoryResource, Stream, Upstream};
use state::Within;
use std::alloc::Layout;
use std::borrow::Cow;
use std::fmt;

/// The attempts of one request, if [`OnFailure::attempts`] sets no other number.
const ATTEMPTS: u32 = 16;

/// A request that the upstream refused because memory ran out, as the function of an [`OnFailure`] receives it.
#[derive(Debug)]
#[non_exhaustive]
pub struct AllocFailure<'a> {
    /// Bytes requested.
    pub requested: usize,
    /// The attempt that failed, counted from 1.
    pub attempt: u32,
    /// The stream of the request.
    pub stream: &'a Stream,
    /// The error of the upstream.
    pub error: &'a AllocError,
}

impl AllocFailure<'_> {
    /// Returns the layer that refused, for example `pool` or ``limit `search` ``, or `driver` if the error names none.
    pub fn layer(&self) -> Cow<'_, str> {
        match self.error {
            AllocError::OutOfMemory { layer, .. } | AllocError::Exhausted { layer, .. } => Cow::Borrowed(*layer),
            AllocError::LimitExceeded { layer, .. } => Cow::Borrowed(layer),
            _ => Cow::Borrowed("driver"),
        }
    }
}

/// The answer of the function of an [`OnFailure`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reaction {
    /// Memory was freed. The request is tried again.
    Retry,
    /// The request fails with the upstream's error.
    GiveUp,
}

type Function = Box<dyn Fn(&AllocFailure<'_>) -> Reaction + Send + Sync>;

/// What happens at a failure.
enum Action {
    /// The upstream's unused memory is freed, and the request tried again if there was any.
    Trim,
    Call(Function),
}

/// An adaptor that calls a function when the upstream is out of memory, at its limit or under pressure. The function
/// frees memory, for example by moving buffers to the host, and answers whether to try again. Dask's and cuDF's spilling
/// work in this way over RMM's `failure_callback_resource_adaptor`.
///
/// A request is tried at most [`attempts`](Self::attempts) times, so a function that always answers [`Reaction::Retry`]
/// does not hang the program. The function is called while no lock of the library is held, so it may use the stack: its
/// own requests do not call the function again. Beneath a pool, which calls its upstream under a mutex, the function is
/// therefore not called: place this adaptor over the pool.
///
/// The [crate](crate#when-memory-runs-out) documentation lists what each layer does before this adaptor is reached.
///
/// `find::<OnFailureState>()` returns its [`OnFailureState`] from any stack.
///
/// # Examples
///
/// A cache that is dropped when memory runs out:
///
/// ```
/// use cumem::sim::Profile;
/// use cumem::{Buffer, CudaResource, Device, Stream};
/// use cumem_adaptors::{Reaction, ResourceExt};
/// use std::sync::{Arc, Mutex};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::simulated(Profile::default())?;
/// let stream = Stream::new(&device)?;
/// let limited = Arc::new(CudaResource::new(&device).limit(4 << 20)); // 4 MiB
/// let cached = Buffer::<u8, _>::zeroed(3 << 20, &stream, Arc::clone(&limited))?;
/// let cache = Arc::new(Mutex::new(vec![cached]));
///
/// let in_function = Arc::clone(&cache);
/// let memory = limited.on_failure(move |failure| {
///     println!("{} refused {} bytes", failure.layer(), failure.requested);
///     match in_function.lock().unwrap().pop() {
///         Some(dropped) => { drop(dropped); Reaction::Retry }
///         None => Reaction::GiveUp,
///     }
/// });
/// let large = Buffer::<u8, _>::zeroed(2 << 20, &stream, &memory)?;
/// assert!(cache.lock().unwrap().is_empty());
/// assert_eq!((memory.state().calls(), memory.state().recovered()), (1, 1));
/// # drop(large);
/// # Ok(())
/// # }
/// ```
pub struct OnFailure<U> {
    state: OnFailureState,
    action: Action,
    attempts: u32,
    upstream: U,
}

impl<U> OnFailure<U> {
    /// Creates the adaptor, which calls `function`.
    pub fn new(upstream: U, function: impl Fn(&AllocFailure<'_>) -> Reaction + Send + Sync + 'static) -> Self
    where
        U: Upstream,
    {
        Self::with(upstream, Action::Call(Box::new(function)))
    }

    /// Creates an adaptor that frees the unused memory of all layers beneath it ([`LayerExt::trim_stack`]), and tries
    /// again if there was any.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::sim::Profile;
    /// use cumem::{CudaResource, Device};
    /// use cumem_adaptors::{OnFailure, PoolOptions, ResourceExt};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// let memory = OnFailure::trimming(CudaResource::new(&device).pool(PoolOptions::new())?);
    /// assert!(memory.to_string().starts_with("on_failure(trim) over pool"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn trimming(upstream: U) -> Self
    where
        U: Upstream,
    {
        Self::with(upstream, Action::Trim)
    }

    fn with(upstream: U, action: Action) -> Self {
        Self { state: OnFailureState::default(), action, attempts: ATTEMPTS, upstream }
    }

    /// Sets how often a request is tried at most, at least once. The default is 16.
    #[must_use]
    pub fn attempts(self, attempts: u32) -> Self {
        Self { attempts: attempts.max(1), ..self }
    }

    /// Returns the upstream.
    pub fn upstream(&self) -> &U {
        &self.upstream
    }

    /// Removes this adaptor and returns the upstream. Live blocks stay valid, because the upstream made them:
    /// deallocate them through the upstream. The function is dropped.
    pub fn into_upstream(self) -> U {
        self.upstream
    }

    /// Returns the counts.
    pub fn state(&self) -> &OnFailureState {
        &self.state
    }
}

impl<U: Upstream> OnFailure<U> {
    /// Tries a request again that the upstream has refused.
    #[cold]
    fn recover(&self, stream: &Stream, layout: Layout, first: AllocError) -> Result<Block, AllocError> {
        if is_active() {
            self.state.skipped();
            return Err(first);
        }
        let Some(_within) = Within::enter(&self.state) else { return Err(first) };
        let mut error = first;
        for attempt in 1..self.attempts {
            let failure = AllocFailure { requested: layout.size(), attempt, stream, error: &error };
            self.state.called();
            if self.react(&failure) == Reaction::GiveUp {
                break;
            }
            match self.upstream.allocate(stream, layout) {
                Ok(block) => {
                    self.state.has_recovered();
                    return Ok(block);
                }
                Err(again) if again.is_out_of_memory() => error = again,
                Err(other) => return Err(other),
            }
        }
        self.state.gave_up_one();
        Err(error)
    }

    fn react(&self, failure: &AllocFailure<'_>) -> Reaction {
        let trimmed = match &self.action {
            Action::Call(function) => return function(failure),
            Action::Trim => self.upstream.trim_stack(0),
        };
        // What was freed before an error is free.
        let freed = trimmed.unwrap_or_else(|TrimError { trimmed, .. }| trimmed);
        if freed > 0 { Reaction::Retry } else { Reaction::GiveUp }
    }
}

cumem::adaptor_layer! {
    impl[U] Layer, Upstream for OnFailure<U> {
        upstream: U = upstream;
        describe = |this, f| match (&this.action, this.attempts) {
            (Action::Call(_), _) => f.write_str("on_failure"),
            (Action::Trim, ATTEMPTS) => f.write_str("on_failure(trim)"),
            (Action::Trim, attempts) => write!(f, "on_failure(trim, attempts={attempts})"),
        };
        state = state;
    }
}

// SAFETY: every block is the upstream's and is passed on unchanged.
unsafe impl<U: Upstream> MemoryResource for OnFailure<U> {
    type Kind = U::Kind;

    #[inline]
    fn allocate(&self, stream: &Stream, layout: Layout) -> Result<Block, AllocError> {
        match self.upstream.allocate(stream, layout) {
            Err(error) if error.is_out_of_memory() => self.recover(stream, layout, error),
            allocated => allocated,
        }
    }

    #[inline]
    unsafe fn deallocate(&self, stream: &Stream, block: Block) -> Result<(), DeallocError> {
        // SAFETY: the caller upholds the contract of this method, which is the upstream's.
        unsafe { self.upstream.deallocate(stream, block) }
    }
}

impl<U: fmt::Debug> fmt::Debug for OnFailure<U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnFailure")
            .field("state", &self.state)
            .field("upstream", &self.upstream)
            .finish_non_exhaustive()
    }
}
