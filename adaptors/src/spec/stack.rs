//! [`AnyStack`]: a finished stack whose kind is known at run time.

use cumem::error::TrimError;
use cumem::kind::{Device, Erased, Host, Managed, Pinned, Unknown};
use cumem::layer::Beneath;
use cumem::{AllocError, AnyResource, Block, DeallocError, Layer, MemoryResource, Stream};
use std::alloc::Layout;
use std::any::Any;
use std::fmt;

/// A finished stack over the kind of memory that its description named.
///
/// The stack is a [`MemoryResource`] of [`Unknown`] kind, so the type permits neither device nor host access. Match on
/// the variants, or call [`into_device_accessible`](Self::into_device_accessible), to get a resource with a known kind.
///
/// # Examples
///
/// ```
/// use cumem::sim::Profile;
/// use cumem::{Buffer, Device, Stream};
/// use cumem_adaptors::{AnyStack, StackSpec};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::simulated(Profile::default())?;
/// let stream = Stream::new(&device)?;
/// // The variant keeps the kind, for example for host access to managed memory.
/// let AnyStack::OverManaged(managed) = StackSpec::parse("managed | pool")?.build(&device)? else { panic!() };
/// let numbers = Buffer::from_slice(&[1, 2, 3], &stream, &managed)?;
/// assert_eq!(*numbers.host_read()?, [1, 2, 3]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub enum AnyStack {
    /// Over device memory.
    OverDevice(AnyResource<Device>),
    /// Over managed memory.
    OverManaged(AnyResource<Managed>),
    /// Over pinned memory.
    OverPinned(AnyResource<Pinned>),
    /// Over ordinary host memory.
    OverHost(AnyResource<Host>),
    /// Over memory of several kinds, because one stack spills to another. All of it is device-accessible.
    OverEither(AnyResource<Erased>),
}

/// The error of [`AnyStack::into_device_accessible`] for a stack over ordinary host memory. The error holds the stack.
///
/// # Examples
///
/// ```
/// use cumem::Device;
/// use cumem::sim::Profile;
/// use cumem_adaptors::StackSpec;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::simulated(Profile::default())?;
/// let error = StackSpec::parse("host | statistics")?.build(&device)?.into_device_accessible().unwrap_err();
/// assert!(error.to_string().starts_with("the memory of the stack `statistics over host"));
/// let stack = error.into_stack();
/// # drop(stack);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, thiserror::Error)]
#[error("the memory of the stack `{stack}` is host memory, which devices cannot access")]
pub struct NotDeviceAccessible {
    stack: AnyStack,
}

impl NotDeviceAccessible {
    /// Returns the stack.
    pub fn into_stack(self) -> AnyStack {
        self.stack
    }
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
    /// Returns the stack as a device-accessible resource.
    ///
    /// # Errors
    ///
    /// Returns [`NotDeviceAccessible`], which holds the stack, if its leaf is ordinary host memory.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::sim::Profile;
    /// use cumem::{Buffer, Device, Stream};
    /// use cumem_adaptors::StackSpec;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// let stack = StackSpec::parse("pinned | pool")?.build(&device)?.into_device_accessible()?;
    /// let numbers = Buffer::from_slice(&[1, 2, 3], &Stream::new(&device)?, &stack)?;
    /// assert_eq!(numbers.to_vec()?, [1, 2, 3]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn into_device_accessible(self) -> Result<AnyResource<Erased>, NotDeviceAccessible> {
        match self {
            Self::OverDevice(stack) => Ok(AnyResource::erase_kind(stack)),
            Self::OverManaged(stack) => Ok(AnyResource::erase_kind(stack)),
            Self::OverPinned(stack) => Ok(AnyResource::erase_kind(stack)),
            Self::OverEither(stack) => Ok(stack),
            Self::OverHost(_) => Err(NotDeviceAccessible { stack: self }),
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

// SAFETY: every block is the stack's and is passed on unchanged; the kind `Unknown` promises no access.
unsafe impl MemoryResource for AnyStack {
    type Kind = Unknown;

    #[inline]
    fn allocate(&self, stream: &Stream, layout: Layout) -> Result<Block, AllocError> {
        each!(self, stack => stack.allocate(stream, layout))
    }

    #[inline]
    unsafe fn deallocate(&self, stream: &Stream, block: Block) -> Result<(), DeallocError> {
        // SAFETY: the caller upholds the contract of this method, which is the stack's.
        each!(self, stack => unsafe { stack.deallocate(stream, block) })
    }
}

impl fmt::Display for AnyStack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        each!(self, stack => stack.fmt(f))
    }
}
