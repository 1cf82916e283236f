//! [`MemoryResource`], the central trait of this library, and [`Upstream`], a resource that an adaptor may wrap.
//!
//! # Terms
//!
//! All contracts of this library use these terms:
//!
//! - A block is *live* from the `allocate` that returned it until the `deallocate` that accepted it.
//! - A block is *ready* on the stream of its allocation: work that is enqueued there from then on may use it. On
//!   another stream, the block is ready after that stream was made to wait for the first with an
//!   [`Event`](crate::Event), or after the host has synchronized with the first.
//! - A use is *enqueued before* a point of a stream if the use was enqueued on that stream earlier. The same holds for
//!   a use on another stream that the first was made to wait for, and for a use by the host that has ended.
//! - A block *belongs to* a resource if the `allocate` of that resource returned it, or the `allocate` of a resource
//!   that shares its state.
//!
//! # Writing a leaf
//!
//! A leaf is a resource without an upstream. `examples/write_a_leaf.rs` is a complete one. Its duties, besides those that
//! [`MemoryResource`] names under "Safety":
//!
//! - `allocate` and `deallocate` refuse a stream of another device, with
//!   [`Device::check_device`](crate::Device::check_device). The order of another device's work means nothing for the
//!   leaf's memory. Adaptors need no check, because their upstream has it.
//! - `allocate` returns [`Block::empty`] for zero bytes, and
//!   [`UnsupportedAlignment`](AllocError::UnsupportedAlignment) for an alignment that the leaf cannot give.
//! - `deallocate` returns [`DeallocError::foreign`] for a block with another [`MakerId`], and [`DeallocError::new`] with
//!   the block for each block that it does not free.
//! - Memory that is not freed in stream order, for example host memory, is freed only after the work of the stream is
//!   done: `deallocate` calls [`Stream::synchronize`] first.
//! - [`Layer::beneath`] returns the device, which any layer of the stack then has.
//!
//! `cumem-conformance` checks these duties on simulated devices and on GPUs.
//!
//! # Examples
//!
//! A custom adaptor forwards to its upstream and counts the allocations:
//!
//! ```
//! use cumem::error::{AllocError, DeallocError, TrimError};
//! use cumem::layer::Beneath;
//! use cumem::sim::Profile;
//! use cumem::{Block, Buffer, CudaResource, Device, Layer, MemoryResource, Stream, Upstream};
//! use std::alloc::Layout;
//! use std::any::Any;
//! use std::fmt;
//! use std::sync::atomic::{AtomicUsize, Ordering};
//!
//! struct Counted<U> {
//!     upstream: U,
//!     allocations: AtomicUsize,
//! }
//!
//! // SAFETY: both methods forward to the upstream and pass blocks on unchanged.
//! unsafe impl<U: Upstream> MemoryResource for Counted<U> {
//!     type Kind = U::Kind;
//!
//!     fn allocate(&self, stream: &Stream, layout: Layout) -> Result<Block, AllocError> {
//!         let block = self.upstream.allocate(stream, layout)?;
//!         self.allocations.fetch_add(1, Ordering::Relaxed);
//!         Ok(block)
//!     }
//!
//!     unsafe fn deallocate(&self, stream: &Stream, block: Block) -> Result<(), DeallocError> {
//!         // SAFETY: the caller upholds the contract of the upstream, which is the same.
//!         unsafe { self.upstream.deallocate(stream, block) }
//!     }
//! }
//!
//! impl<U: Upstream> Layer for Counted<U> {
//!     fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
//!         f.write_str("counted")
//!     }
//!     fn beneath(&self) -> Beneath<'_> {
//!         Beneath::Layer(&self.upstream)
//!     }
//!     fn state(&self) -> &dyn Any {
//!         &self.allocations
//!     }
//!     fn trim_layer(&self, _keep: usize) -> Result<usize, TrimError> {
//!         Ok(0)
//!     }
//! }
//!
//! impl<U: Upstream> Upstream for Counted<U> {} // adaptors may wrap it
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let device = Device::simulated(Profile::default())?;
//! let stream = Stream::new(&device)?;
//! let counted = Counted { upstream: CudaResource::new(&device), allocations: AtomicUsize::new(0) };
//! let numbers = Buffer::from_slice(&[1, 2, 3], &stream, &counted)?;
//! assert_eq!(counted.allocations.load(Ordering::Relaxed), 1);
//! # drop(numbers);
//! # Ok(())
//! # }
//! ```

pub use crate::block::MakerId;

use crate::block::Block;
use crate::device::stream::Stream;
use crate::error::{AllocError, DeallocError};
use crate::kind::MemoryKind;
use crate::layer::{Layer, forward_layer};
use std::alloc::Layout;
use std::rc::Rc;
use std::sync::Arc;

/// A resource that allocates and deallocates blocks of memory in stream order.
///
/// No method has a default implementation, so a wrapper cannot forget to forward one. The [module](self) lists the
/// duties of a leaf, and has an example of an adaptor.
///
/// # Examples
///
/// ```
/// use cumem::sim::Profile;
/// use cumem::{CudaResource, Device, MemoryResource, Stream, layout};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::simulated(Profile::default())?;
/// let stream = Stream::new(&device)?;
/// let resource = CudaResource::new(&device);
/// let block = resource.allocate(&stream, layout::array::<f32>(1000)?)?;
/// assert_eq!(block.size(), 4000);
/// // SAFETY: the resource returned the block, and nothing has used it.
/// unsafe { resource.deallocate(&stream, block) }?;
/// # Ok(())
/// # }
/// ```
///
/// # Safety
///
/// Every block that `allocate` returns must satisfy the following:
///
/// - The block covers `layout.size()` bytes of memory of the kind [`Self::Kind`], aligned to `layout.align()` and, if
///   the kind is device accessible, to [`CUDA_ALLOCATION_ALIGNMENT`](crate::layout::CUDA_ALLOCATION_ALIGNMENT).
/// - None of its bytes belongs to another [live](self#terms) block. All uses of these bytes through earlier blocks were
///   [enqueued before](self#terms) the point of the stream at which the block is ready.
/// - The block stays valid until its deallocation, even if the resource is moved.
pub unsafe trait MemoryResource: Layer {
    /// The kind of the memory.
    type Kind: MemoryKind;

    /// Allocates a block that is [ready](self#terms) on `stream`.
    ///
    /// The block is aligned to `layout.align()` or 256 bytes, whichever is larger. Its contents are unspecified. A
    /// request for zero bytes returns a block without memory, which must be deallocated like any other.
    ///
    /// # Errors
    ///
    /// Returns [`AllocError`] with the layer that refused, and its figures. Nothing was allocated then, and no counter
    /// of the stack has changed.
    fn allocate(&self, stream: &Stream, layout: Layout) -> Result<Block, AllocError>;

    /// Deallocates a block. Work that is enqueued on `stream` from now on may reuse the memory.
    ///
    /// # Errors
    ///
    /// Returns [`DeallocError`] with the block, which is still live, if the block [does not belong](self#terms) to this
    /// resource and the resource can detect that, or if the driver returns an error. Nothing was freed then, and no
    /// counter of the stack has changed.
    ///
    /// # Safety
    ///
    /// The caller must ensure that
    /// - the `allocate` of a resource returned `block`, which was not created with [`Block::new`],
    /// - every use of the block was [enqueued before](self#terms) this point of `stream`,
    /// - nothing refers to the memory of the block any more.
    unsafe fn deallocate(&self, stream: &Stream, block: Block) -> Result<(), DeallocError>;
}

/// A memory resource that an adaptor may wrap.
///
/// Adaptors require `U: Upstream`. Leaves and almost all adaptors implement this trait. An adaptor that must be
/// outermost, such as `Prefetch`, implements only [`MemoryResource`], so the compiler rejects an adaptor over
/// `Prefetch`. The trait is safe, because a wrong implementation only permits a useless order of adaptors. The
/// [module](self) has an example.
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
        // SAFETY: both methods forward to the pointee and pass blocks on unchanged.
        unsafe impl<R: MemoryResource + ?Sized> MemoryResource for $pointer {
            type Kind = R::Kind;

            #[inline]
            fn allocate(&self, stream: &Stream, layout: Layout) -> Result<Block, AllocError> {
                (**self).allocate(stream, layout)
            }

            #[inline]
            unsafe fn deallocate(&self, stream: &Stream, block: Block) -> Result<(), DeallocError> {
                // SAFETY: the caller upholds the contract of the pointee, which is the same.
                unsafe { (**self).deallocate(stream, block) }
            }
        }

        #[diagnostic::do_not_recommend]
        impl<R: Upstream + ?Sized> Upstream for $pointer {}
    )+};
}

forward_to_pointee!(&R, Box<R>, Rc<R>, Arc<R>);
