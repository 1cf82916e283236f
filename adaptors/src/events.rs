//! [`Events`] sends each call to the subscriber of `tracing`.

use crate::tags;
use cumem::device::deferral::after_locks;
use cumem::{AllocError, Block, DeallocError, DeviceId, MemoryResource, Stream, Upstream};
use std::alloc::Layout;
use tracing::Level;

/// The target of the events.
const TARGET: &str = "cumem::memory";

/// An adaptor that emits a `tracing` event at level `TRACE` and target `cumem::memory` for each call.
///
/// | event | fields |
/// |---|---|
/// | `allocate` | `addr`, `bytes`, `align`, `stream`, `device`, `tag` |
/// | `free` | `addr`, `bytes`, `stream`, `device` |
/// | `allocate failure` | `bytes`, `align`, `stream`, `device`, `tag`, `error` |
/// | `free failure` | `addr`, `bytes`, `stream`, `device`, `error` |
///
/// `tag` is the [tag](crate::tags) of the thread, or empty. Without a subscriber for these events a call costs one
/// comparison more. A subscriber runs while no lock of the library is held: an event of a call that a pool makes is
/// delivered after the pool has released its mutex. A free is announced before the upstream is called.
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
/// let stack = CudaResource::new(&device).events();
/// // With a subscriber, for example that of the crate tracing-subscriber, this emits `allocate` and `free`.
/// drop(Buffer::<u8, _>::zeroed(1000, &Stream::new(&device)?, &stack)?);
/// assert_eq!(stack.to_string(), format!("events over device on {}", device.id()));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Events<U> {
    upstream: U,
}

impl<U> Events<U> {
    /// Creates the adaptor.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{CudaResource, Device};
    /// # use cumem_adaptors::Events;
    /// # let device = Device::simulated(Profile::default())?;
    /// let stack = Events::new(CudaResource::new(&device)); // or `CudaResource::new(&device).events()`
    /// assert!(stack.to_string().starts_with("events over device"));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(upstream: U) -> Self
    where
        U: Upstream,
    {
        Self { upstream }
    }

    /// Returns the upstream.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{CudaResource, Device};
    /// # use cumem_adaptors::ResourceExt;
    /// # let device = Device::simulated(Profile::default())?;
    /// let stack = CudaResource::new(&device).limit(1 << 30).events();
    /// assert_eq!(stack.upstream().state().bytes(), 1 << 30); // the limit
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn upstream(&self) -> &U {
        &self.upstream
    }

    /// Removes this adaptor and returns the upstream. Live blocks stay valid, because the upstream made them:
    /// deallocate them through the upstream.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{CudaResource, Device};
    /// # use cumem_adaptors::ResourceExt;
    /// # let device = Device::simulated(Profile::default())?;
    /// assert!(CudaResource::new(&device).events().into_upstream().to_string().starts_with("device"));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn into_upstream(self) -> U {
        self.upstream
    }
}

cumem::adaptor_layer! {
    impl[U] Layer, Upstream for Events<U> {
        upstream: U = upstream;
        describe = "events";
    }
}

/// What all events have.
#[derive(Clone, Copy)]
struct Call {
    layout: Layout,
    stream: u64,
    device: DeviceId,
}

impl Call {
    fn new(stream: &Stream, layout: Layout) -> Self {
        Self { layout, stream: stream.as_raw(), device: stream.device_id() }
    }

    #[cold]
    fn allocated(self, result: &Result<Block, AllocError>) {
        let Self { layout, stream, device } = self;
        let (bytes, align, tag) = (layout.size(), layout.align(), tags::current());
        match result.as_ref().map(Block::addr).map_err(ToString::to_string) {
            Ok(addr) => after_locks(move || {
                let tag = tag.as_deref().unwrap_or_default();
                tracing::trace!(target: TARGET, addr, bytes, align, stream, %device, tag, "allocate");
            }),
            Err(error) => after_locks(move || {
                let tag = tag.as_deref().unwrap_or_default();
                tracing::trace!(target: TARGET, bytes, align, stream, %device, tag, error, "allocate failure");
            }),
        }
    }

    #[cold]
    fn frees(self, addr: u64) {
        let Self { layout, stream, device } = self;
        let bytes = layout.size();
        after_locks(move || tracing::trace!(target: TARGET, addr, bytes, stream, %device, "free"));
    }

    #[cold]
    fn not_freed(self, addr: u64, error: &DeallocError) {
        let Self { layout, stream, device } = self;
        let (bytes, error) = (layout.size(), error.reason.to_string());
        after_locks(move || tracing::trace!(target: TARGET, addr, bytes, stream, %device, error, "free failure"));
    }
}

// SAFETY: every block is the upstream's and is passed on unchanged.
unsafe impl<U: Upstream> MemoryResource for Events<U> {
    type Kind = U::Kind;

    #[inline]
    fn allocate(&self, stream: &Stream, layout: Layout) -> Result<Block, AllocError> {
        let result = self.upstream.allocate(stream, layout);
        if tracing::enabled!(target: TARGET, Level::TRACE) {
            Call::new(stream, layout).allocated(&result);
        }
        result
    }

    #[inline]
    unsafe fn deallocate(&self, stream: &Stream, block: Block) -> Result<(), DeallocError> {
        let listened = tracing::enabled!(target: TARGET, Level::TRACE);
        let (call, addr) = (Call::new(stream, block.layout()), block.addr());
        if listened {
            call.frees(addr);
        }
        // SAFETY: the caller upholds the contract of this method, which is the upstream's.
        let freed = unsafe { self.upstream.deallocate(stream, block) };
        if listened && let Err(error) = &freed {
            call.not_freed(addr, error);
        }
        freed
    }
}
