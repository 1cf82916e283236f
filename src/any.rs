//! Stacks whose type was forgotten: [`AnyResource`] is finished, [`AnyUpstream`] may be wrapped again.
//!
//! Both keep the kind, so the type rules hold through erasure: no adaptor goes over an `AnyResource`,
//! and `Prefetch` only over an `AnyUpstream<Managed>`.

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

        // SAFETY: every block is the erased resource's, handed on unchanged.
        unsafe impl<K: MemoryKind> MemoryResource for $name<K> {
            type Kind = K;

            #[inline]
            fn allocate(&self, stream: &Stream, layout: Layout) -> Result<Block, AllocError> {
                self.0.allocate(stream, layout)
            }

            #[inline]
            unsafe fn deallocate(&self, stream: &Stream, block: Block) -> Result<(), DeallocError> {
                // SAFETY: this method's contract is the erased resource's.
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
    /// A finished stack of any type over memory of kind `K`.
    AnyResource, MemoryResource
}

erased! {
    /// A stack of any type over memory of kind `K` that an adaptor may wrap.
    AnyUpstream, Upstream
}

// The constructors are not in the macro, so that an error in their use is told without it.
impl<K: MemoryKind> AnyResource<K> {
    /// Forgets the type of `resource`. Clones of the result share it.
    pub fn new<R>(resource: R) -> Self
    where
        R: MemoryResource<Kind = K> + Send + Sync + 'static,
    {
        Self(Arc::new(resource))
    }
}

impl<K: MemoryKind> Upstream for AnyUpstream<K> {}

impl<K: MemoryKind> AnyUpstream<K> {
    /// Forgets the type of `resource`, which may be wrapped again. Clones of the result share it.
    pub fn new<R>(resource: R) -> Self
    where
        R: Upstream<Kind = K> + Send + Sync + 'static,
    {
        Self(Arc::new(resource))
    }

    /// The same stack, finished: nothing may wrap it any more.
    pub fn finish(self) -> AnyResource<K> {
        AnyResource(self.0)
    }
}

impl AnyResource<Erased> {
    /// Forgets the kind of `resource` too, keeping only that devices can reach its memory.
    pub fn erase_kind<R>(resource: R) -> Self
    where
        R: MemoryResource<Kind: DeviceAccessible> + Send + Sync + 'static,
    {
        Self::new(EraseKind(resource))
    }
}

impl AnyUpstream<Erased> {
    /// Forgets the kind of `resource` too, keeping only that devices can reach its memory.
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

// SAFETY: every block is the inner resource's, handed on unchanged; `Erased` claims nothing but
// device access, which the bound on `R` grants.
unsafe impl<R: MemoryResource<Kind: DeviceAccessible>> MemoryResource for EraseKind<R> {
    type Kind = Erased;

    fn allocate(&self, stream: &Stream, layout: Layout) -> Result<Block, AllocError> {
        self.0.allocate(stream, layout)
    }

    unsafe fn deallocate(&self, stream: &Stream, block: Block) -> Result<(), DeallocError> {
        // SAFETY: this method's contract is the inner resource's.
        unsafe { self.0.deallocate(stream, block) }
    }
}

impl<R: Upstream<Kind: DeviceAccessible>> Upstream for EraseKind<R> {}
