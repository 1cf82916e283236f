//! [`AnyStack`]: a finished stack whose kind is known at run time.

use cumem::kind::{Device, Erased, Host, Managed, Pinned, Unknown};
use cumem::{AllocError, AnyResource, Beneath, Block, DeallocError, Layer, MemoryResource, Stream, TrimError};
use std::alloc::Layout;
use std::any::Any;
use std::fmt;

/// A finished stack, over whichever kind of memory its description named.
///
/// It is a [`MemoryResource`] itself, of which nothing is [known](Unknown) before run time; the variants, and
/// [`into_device_accessible`](Self::into_device_accessible), give it back with what can be done with its memory.
#[derive(Debug, Clone)]
pub enum AnyStack {
    /// Over device memory.
    OverDevice(AnyResource<Device>),
    /// Over unified memory.
    OverManaged(AnyResource<Managed>),
    /// Over page-locked host memory.
    OverPinned(AnyResource<Pinned>),
    /// Over ordinary host memory.
    OverHost(AnyResource<Host>),
    /// Over memory of several kinds, one stack spilling to another; devices reach all of it.
    OverEither(AnyResource<Erased>),
}

macro_rules! each {
    ($self:expr, $stack:ident => $do:expr) => {
        match $self {
            AnyStack::OverDevice($stack) => $do,
            AnyStack::OverManaged($stack) => $do,
            AnyStack::OverPinned($stack) => $do,
            AnyStack::OverHost($stack) => $do,
            AnyStack::OverEither($stack) => $do,
        }
    };
}

impl AnyStack {
    /// The stack, if devices can reach its memory.
    ///
    /// # Errors
    ///
    /// The stack itself, if it stands on ordinary host memory.
    pub fn into_device_accessible(self) -> Result<AnyResource<Erased>, Self> {
        match self {
            Self::OverDevice(stack) => Ok(AnyResource::erase_kind(stack)),
            Self::OverManaged(stack) => Ok(AnyResource::erase_kind(stack)),
            Self::OverPinned(stack) => Ok(AnyResource::erase_kind(stack)),
            Self::OverEither(stack) => Ok(stack),
            Self::OverHost(_) => Err(self),
        }
    }
}

impl Layer for AnyStack {
    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        each!(self, stack => stack.describe(f))
    }
    fn beneath(&self) -> Beneath<'_> {
        each!(self, stack => stack.beneath())
    }
    fn state(&self) -> &dyn Any {
        each!(self, stack => stack.state())
    }
    fn trim_layer(&self, keep: usize) -> Result<usize, TrimError> {
        each!(self, stack => stack.trim_layer(keep))
    }
}

// SAFETY: every block is the stack's, handed on unchanged; `Unknown` claims nothing.
unsafe impl MemoryResource for AnyStack {
    type Kind = Unknown;

    #[inline]
    fn allocate(&self, stream: &Stream, layout: Layout) -> Result<Block, AllocError> {
        each!(self, stack => stack.allocate(stream, layout))
    }

    #[inline]
    unsafe fn deallocate(&self, stream: &Stream, block: Block) -> Result<(), DeallocError> {
        // SAFETY: this method's contract is the stack's.
        each!(self, stack => unsafe { stack.deallocate(stream, block) })
    }
}

impl fmt::Display for AnyStack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        each!(self, stack => stack.fmt(f))
    }
}
