//! [`MemoryResource`], the trait of this library, and [`Upstream`], what an adaptor may draw from.
//!
//! # Terms
//!
//! The contracts below and everywhere else use these words in this sense.
//!
//! - A block is *live* from the `allocate` that returned it until the `deallocate` that accepted it.
//! - A block is *ready* on the stream it was allocated on: work enqueued there from then on may use it.
//!   On another stream it is ready once that stream waits for the first (an [`Event`](crate::Event), or a
//!   synchronisation of the host).
//! - A use is *enqueued before* a point of a stream if it was enqueued on that stream earlier, or on
//!   another stream that the first has been made to wait for, or was made by the host and has ended.
//! - A block *belongs to* a resource if that resource's `allocate` returned it, or that of a resource
//!   which shares its state.

pub use crate::block::MakerId;

use crate::block::Block;
use crate::device::stream::Stream;
use crate::error::{AllocError, DeallocError};
use crate::kind::MemoryKind;
use crate::layer::{Layer, forward_layer};
use std::alloc::Layout;
use std::rc::Rc;
use std::sync::Arc;

/// Hands out blocks of device-usable memory, in stream order.
///
/// No method has a default: a wrapper cannot forget to forward one.
///
/// # Safety
///
/// Implementors promise, for every block that `allocate` returns:
///
/// - it covers `layout.size()` bytes of memory that can do what [`Self::Kind`] says, aligned to `layout.align()` and,
///   if the kind is device accessible, to [`CUDA_ALLOCATION_ALIGNMENT`](crate::layout::CUDA_ALLOCATION_ALIGNMENT);
/// - no byte of it belongs to another block that is [live](self#terms), and any use of the same bytes
///   by an earlier block was [enqueued before](self#terms) the point of the stream at which it is ready;
/// - it stays valid until it is deallocated, also if the resource is moved.
pub unsafe trait MemoryResource: Layer {
    /// What its memory is.
    type Kind: MemoryKind;

    /// Allocates a block that is [ready](self#terms) on `stream`.
    ///
    /// The block is aligned to `layout.align()` or 256 bytes, whichever is more, and its contents are
    /// unspecified. Zero bytes give a block without memory that must be given back like any other.
    ///
    /// # Errors
    ///
    /// [`AllocError`] says which layer refused and with which numbers. Nothing was allocated then, and
    /// every counter of the stack is as it was.
    fn allocate(&self, stream: &Stream, layout: Layout) -> Result<Block, AllocError>;

    /// Gives a block back; its memory may be reused by work enqueued on `stream` from now on.
    ///
    /// # Errors
    ///
    /// [`DeallocError`] returns the block, still live, if it [does not belong](self#terms) to this
    /// resource (where the resource can tell), or if the driver refuses. Nothing was counted or freed.
    ///
    /// # Safety
    ///
    /// - `block` is what the `allocate` of some resource returned, not one put together from its parts.
    /// - Every use of the block was [enqueued before](self#terms) this point of `stream`.
    /// - Nothing refers to its memory any more.
    unsafe fn deallocate(&self, stream: &Stream, block: Block) -> Result<(), DeallocError>;
}

/// A resource that an adaptor may draw from.
///
/// Adaptors ask for `U: Upstream`. Leaves and nearly all adaptors are one; an adaptor that must be
/// outermost, such as `Prefetch`, is a [`MemoryResource`] and no `Upstream`, and the compiler does the
/// rest. Not unsafe: a wrong opt-in costs a useless order, not memory safety.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the upstream of an adaptor",
    label = "not an `Upstream`",
    note = "an adaptor that must be outermost, such as `Prefetch`, is applied last",
    note = "a resource of your own opts in with `impl Upstream for MyResource {{}}`"
)]
pub trait Upstream: MemoryResource {}

macro_rules! forward_to_pointee {
    ($($pointer:ty),+) => {$(
        #[diagnostic::do_not_recommend]
        impl<R: Layer + ?Sized> Layer for $pointer {
            forward_layer!(self => (**self));
        }

        #[diagnostic::do_not_recommend]
        // SAFETY: every block is the pointee's, handed on unchanged.
        unsafe impl<R: MemoryResource + ?Sized> MemoryResource for $pointer {
            type Kind = R::Kind;

            #[inline]
            fn allocate(&self, stream: &Stream, layout: Layout) -> Result<Block, AllocError> {
                (**self).allocate(stream, layout)
            }

            #[inline]
            unsafe fn deallocate(&self, stream: &Stream, block: Block) -> Result<(), DeallocError> {
                // SAFETY: this method's contract is the pointee's.
                unsafe { (**self).deallocate(stream, block) }
            }
        }

        #[diagnostic::do_not_recommend]
        impl<R: Upstream + ?Sized> Upstream for $pointer {}
    )+};
}

forward_to_pointee!(&R, Box<R>, Rc<R>, Arc<R>);
