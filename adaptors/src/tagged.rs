//! [`Tagged`] counts the memory that passes through under a name in a ledger.

use cumem::resource::MakerId;
use cumem::unified::accounting::{Ledger, Tag};
use cumem::{AllocError, Block, DeallocError, MemoryResource, Stream, Upstream};
use std::alloc::Layout;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// An adaptor that enters each block in a [`Ledger`] under a name, from its allocation until it is freed.
///
/// `find::<TaggedState>()` returns its [`TaggedState`] from any stack.
///
/// # Examples
///
/// ```
/// use cumem::sim::Profile;
/// use cumem::unified::accounting::Ledger;
/// use cumem::{Buffer, Device, ManagedResource, Stream};
/// use cumem_adaptors::ResourceExt;
/// use std::sync::Arc;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::simulated(Profile::default())?;
/// let stream = Stream::new(&device)?;
/// let ledger = Arc::new(Ledger::new(&device));
/// let memory = ManagedResource::new(&device)?.tagged(&ledger, "weights");
/// let weights = Buffer::<f32, _>::zeroed(1024, &stream, &memory)?;
/// weights.prefetch(device.id())?;
/// assert_eq!(ledger.report().rows[0].tag, "weights"); // the row of that prefetch
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Tagged<U> {
    state: TaggedState,
    ledger: Arc<Ledger>,
    tags: Mutex<HashMap<(u64, MakerId), Tag>>,
    upstream: U,
}

/// The name under which a [`Tagged`] counts memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaggedState(String);

impl TaggedState {
    /// Returns the name.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::unified::accounting::Ledger;
    /// # use cumem::{Device, ManagedResource};
    /// # use cumem_adaptors::ResourceExt;
    /// # use std::sync::Arc;
    /// # let device = Device::simulated(Profile::default())?;
    /// let ledger = Arc::new(Ledger::new(&device));
    /// let stack = ManagedResource::new(&device)?.tagged(&ledger, "weights");
    /// assert_eq!(stack.state().as_str(), "weights");
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<U> Tagged<U> {
    /// Creates the adaptor, which counts the upstream's memory under `name` in `ledger`.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::unified::accounting::Ledger;
    /// # use cumem::{Device, ManagedResource};
    /// # use cumem_adaptors::Tagged;
    /// # use std::sync::Arc;
    /// # let device = Device::simulated(Profile::default())?;
    /// let ledger = Arc::new(Ledger::new(&device));
    /// let stack = Tagged::new(ManagedResource::new(&device)?, &ledger, "weights");
    /// assert!(stack.to_string().starts_with("tagged(weights) over managed"));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(upstream: U, ledger: &Arc<Ledger>, name: impl Into<String>) -> Self
    where
        U: Upstream,
    {
        Self { state: TaggedState(name.into()), ledger: Arc::clone(ledger), tags: Mutex::default(), upstream }
    }

    /// Returns the upstream.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::unified::accounting::Ledger;
    /// # use cumem::{Device, ManagedResource};
    /// # use cumem_adaptors::ResourceExt;
    /// # use std::sync::Arc;
    /// # let device = Device::simulated(Profile::default())?;
    /// let ledger = Arc::new(Ledger::new(&device));
    /// let stack = ManagedResource::new(&device)?.tagged(&ledger, "weights");
    /// assert!(stack.upstream().to_string().starts_with("managed"));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn upstream(&self) -> &U {
        &self.upstream
    }

    /// Removes this adaptor and returns the upstream. Live blocks stay valid, because the upstream made them:
    /// deallocate them through the upstream. The ledger no longer counts them under the name.
    pub fn into_upstream(self) -> U {
        self.upstream
    }

    /// Returns the name.
    pub fn state(&self) -> &TaggedState {
        &self.state
    }

    fn tags(&self) -> MutexGuard<'_, HashMap<(u64, MakerId), Tag>> {
        self.tags.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters the block in the ledger. A block of zero bytes is skipped, because it has no bytes to count.
    fn tag(&self, block: &Block) {
        if block.size() > 0 {
            let tag = self.ledger.tag(block.addr(), block.size(), &self.state.0);
            self.tags().insert((block.addr(), block.maker()), tag);
        }
    }
}

cumem::adaptor_layer! {
    impl[U] Layer, Upstream for Tagged<U> {
        upstream: U = upstream;
        describe = |tagged, f| write!(f, "tagged({})", tagged.state.0);
        state = state;
    }
}

// SAFETY: every block is the upstream's and is passed on unchanged.
unsafe impl<U: Upstream> MemoryResource for Tagged<U> {
    type Kind = U::Kind;

    fn allocate(&self, stream: &Stream, layout: Layout) -> Result<Block, AllocError> {
        self.upstream.allocate(stream, layout).inspect(|block| self.tag(block))
    }

    unsafe fn deallocate(&self, stream: &Stream, block: Block) -> Result<(), DeallocError> {
        // Removed before the upstream is called, because the upstream may give the same memory to another thread at
        // once.
        let tag = self.tags().remove(&(block.addr(), block.maker()));
        let tagged = tag.is_some();
        drop(tag);
        // SAFETY: the caller upholds the contract of this method, which is the upstream's.
        let freed = unsafe { self.upstream.deallocate(stream, block) };
        freed.inspect_err(|error| {
            if tagged {
                self.tag(&error.block);
            }
        })
    }
}
