//! [`AnyResource`] and [`AnyUpstream`]: stacks behind a pointer, without the type of the stack.
//!
//! Both keep the kind of the memory, so the compiler still checks the order of a stack. It rejects every adaptor over
//! an `AnyResource`, and `Prefetch` over any `AnyUpstream` other than `AnyUpstream<Managed>`.

use crate::block::Block;
use crate::device::stream::Stream;
use crate::error::{AllocError, DeallocError};
use crate::kind::{DeviceAccessible, Erased, MemoryKind};
use crate::layer::{Layer, fmt_stack, forward_layer};
use crate::resource::{MemoryResource, Upstream};
use std::alloc::Layout;
use std::fmt;
use std::sync::Arc;

macro_rules! erased {
    ($(#[$doc:meta])* $name:ident, $bound:ident) => {
        $(#[$doc])*
        pub struct $name<K: MemoryKind>(Arc<dyn $bound<Kind = K> + Send + Sync>);

        impl<K: MemoryKind> Clone for $name<K> {
            fn clone(&self) -> Self {
                Self(Arc::clone(&self.0))
            }
        }

        impl<K: MemoryKind> Layer for $name<K> {
            forward_layer!(self => self.0);
        }

        // SAFETY: both methods forward to the erased resource and pass blocks on unchanged.
        unsafe impl<K: MemoryKind> MemoryResource for $name<K> {
            type Kind = K;

            #[inline]
            fn allocate(&self, stream: &Stream, layout: Layout) -> Result<Block, AllocError> {
                self.0.allocate(stream, layout)
            }

            #[inline]
            unsafe fn deallocate(&self, stream: &Stream, block: Block) -> Result<(), DeallocError> {
                // SAFETY: the caller upholds the contract of the erased resource, which is the same.
                unsafe { self.0.deallocate(stream, block) }
            }
        }

        impl<K: MemoryKind> fmt::Display for $name<K> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt_stack(self, f)
            }
        }

        impl<K: MemoryKind> fmt::Debug for $name<K> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }
    };
}

erased! {
    /// A stack of any type over memory of kind `K` that no adaptor may wrap.
    ///
    /// The type is a shared handle, so clones allocate from the same stack.
    ///
    /// # Examples
    ///
    /// One type for stacks that are chosen at run time:
    ///
    /// ```
    /// use cumem::sim::Profile;
    /// use cumem::{AnyResource, Buffer, CudaAsyncResource, CudaResource, Device, Stream, kind};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// let stream = Stream::new(&device)?;
    /// let resource: AnyResource<kind::Device> = if device.attributes().memory_pools {
    ///     AnyResource::new(CudaAsyncResource::new(&device)?)
    /// } else {
    ///     AnyResource::new(CudaResource::new(&device))
    /// };
    /// let numbers = Buffer::from_slice(&[1, 2, 3], &stream, resource)?;
    /// assert_eq!(numbers.resource().to_string(), format!("async on {}", device.id()));
    /// # Ok(())
    /// # }
    /// ```
    AnyResource, MemoryResource
}

erased! {
    /// A stack of any type over memory of kind `K` that an adaptor may wrap.
    ///
    /// The type is a shared handle, so clones allocate from the same stack.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::sim::Profile;
    /// use cumem::{AnyUpstream, Device, LayerExt, ManagedResource, Upstream, kind};
    ///
    /// fn wrap<U: Upstream<Kind = kind::Managed>>(upstream: U) -> String {
    ///     format!("an adaptor over {}", upstream.device().attributes().name)
    /// }
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// let upstream = AnyUpstream::new(ManagedResource::new(&device)?);
    /// assert_eq!(wrap(upstream), "an adaptor over h100-pcie5");
    /// # Ok(())
    /// # }
    /// ```
    AnyUpstream, Upstream
}

// The constructors are outside of the macro, so that compile errors about their use do not mention the macro.
impl<K: MemoryKind> AnyResource<K> {
    /// Erases the type of `resource` and keeps its kind. Clones of the result share `resource`.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::sim::Profile;
    /// use cumem::{AnyResource, CudaResource, Device, kind};
    /// use cumem::resources::CudaVirtualResource;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// // One type for both, although the resources have different types.
    /// let resources: [AnyResource<kind::Device>; 2] = [
    ///     AnyResource::new(CudaResource::new(&device)),
    ///     AnyResource::new(CudaVirtualResource::new(&device)?),
    /// ];
    /// assert_eq!(resources[1].to_string(), format!("virtual on {}", device.id()));
    /// # Ok(())
    /// # }
    /// ```
    pub fn new<R>(resource: R) -> Self
    where
        R: MemoryResource<Kind = K> + Send + Sync + 'static,
    {
        Self(Arc::new(resource))
    }
}

impl<K: MemoryKind> Upstream for AnyUpstream<K> {}

impl<K: MemoryKind> AnyUpstream<K> {
    /// Erases the type of `resource` and keeps its kind. Clones of the result share `resource`.
    pub fn new<R>(resource: R) -> Self
    where
        R: Upstream<Kind = K> + Send + Sync + 'static,
    {
        Self(Arc::new(resource))
    }

    /// Returns the same stack as an [`AnyResource`], which no adaptor may wrap.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::sim::Profile;
    /// use cumem::{AnyResource, AnyUpstream, Device, ManagedResource, kind};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// let finished: AnyResource<kind::Managed> = AnyUpstream::new(ManagedResource::new(&device)?).finish();
    /// assert_eq!(finished.to_string(), format!("managed on {}", device.id()));
    /// # Ok(())
    /// # }
    /// ```
    pub fn finish(self) -> AnyResource<K> {
        AnyResource(self.0)
    }
}

impl AnyResource<Erased> {
    /// Erases the type and the kind of `resource`. The result keeps only that devices can access its memory.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::sim::Profile;
    /// use cumem::{AnyResource, CudaResource, Device, PinnedResource, kind};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// let stacks: [AnyResource<kind::Erased>; 2] = [
    ///     AnyResource::erase_kind(CudaResource::new(&device)),
    ///     AnyResource::erase_kind(PinnedResource::new(&device)),
    /// ];
    /// assert_eq!(stacks[1].to_string(), format!("pinned on {}", device.id()));
    /// # Ok(())
    /// # }
    /// ```
    pub fn erase_kind<R>(resource: R) -> Self
    where
        R: MemoryResource<Kind: DeviceAccessible> + Send + Sync + 'static,
    {
        Self::new(EraseKind(resource))
    }
}

impl AnyUpstream<Erased> {
    /// Erases the type and the kind of `resource`. The result keeps only that devices can access its memory.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::sim::Profile;
    /// use cumem::{AnyUpstream, CudaResource, Device, PinnedResource, kind};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// let stacks: [AnyUpstream<kind::Erased>; 2] = [
    ///     AnyUpstream::erase_kind(CudaResource::new(&device)),
    ///     AnyUpstream::erase_kind(PinnedResource::new(&device)),
    /// ];
    /// assert_eq!(stacks[1].to_string(), format!("pinned on {}", device.id()));
    /// # Ok(())
    /// # }
    /// ```
    pub fn erase_kind<R>(resource: R) -> Self
    where
        R: Upstream<Kind: DeviceAccessible> + Send + Sync + 'static,
    {
        Self::new(EraseKind(resource))
    }
}

struct EraseKind<R>(R);

impl<R: Layer> Layer for EraseKind<R> {
    forward_layer!(self => self.0);
}

// SAFETY: both methods forward to the inner resource and pass blocks on unchanged. `Erased` promises only device
// access, which the bound on `R` ensures.
unsafe impl<R: MemoryResource<Kind: DeviceAccessible>> MemoryResource for EraseKind<R> {
    type Kind = Erased;

    fn allocate(&self, stream: &Stream, layout: Layout) -> Result<Block, AllocError> {
        self.0.allocate(stream, layout)
    }

    unsafe fn deallocate(&self, stream: &Stream, block: Block) -> Result<(), DeallocError> {
        // SAFETY: the caller upholds the contract of the inner resource, which is the same.
        unsafe { self.0.deallocate(stream, block) }
    }
}

impl<R: Upstream<Kind: DeviceAccessible>> Upstream for EraseKind<R> {}
