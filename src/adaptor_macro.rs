//! [`adaptor_layer!`](crate::adaptor_layer): the part of an adaptor that is the same in nearly all adaptors.

/// Implements [`Layer`](crate::Layer), [`Display`](std::fmt::Display) and, if listed, [`Upstream`](crate::Upstream) for
/// an adaptor over one upstream. Only [`MemoryResource`](crate::MemoryResource) is left to write.
///
/// ```
/// use cumem::sim::Profile;
/// use cumem::{AllocError, Block, CudaResource, DeallocError, Device, LayerExt, MemoryResource, Stream, Upstream};
/// use std::alloc::Layout;
/// use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
///
/// /// Counts allocations.
/// struct Counted<U> {
///     calls: AtomicU64,
///     upstream: U,
/// }
///
/// cumem::adaptor_layer! {
///     impl[U] Layer, Upstream for Counted<U> {
///         upstream: U = upstream;
///         describe = "counted";
///         state = calls;
///     }
/// }
///
/// // SAFETY: every block is the upstream's and is passed on unchanged.
/// unsafe impl<U: Upstream> MemoryResource for Counted<U> {
///     type Kind = U::Kind;
///
///     fn allocate(&self, stream: &Stream, layout: Layout) -> Result<Block, AllocError> {
///         self.calls.fetch_add(1, Relaxed);
///         self.upstream.allocate(stream, layout)
///     }
///
///     unsafe fn deallocate(&self, stream: &Stream, block: Block) -> Result<(), DeallocError> {
///         // SAFETY: the caller upholds the contract of this method, which is the upstream's.
///         unsafe { self.upstream.deallocate(stream, block) }
///     }
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::simulated(Profile::default())?;
/// let stack = Counted { calls: AtomicU64::new(0), upstream: CudaResource::new(&device) };
/// assert_eq!(stack.to_string(), format!("counted over device on {}", device.id()));
/// assert_eq!(stack.find::<AtomicU64>().map(|calls| calls.load(Relaxed)), Some(0));
/// # Ok(())
/// # }
/// ```
///
/// # Parts
///
/// The parts are written in this order, and each ends with a `;`.
///
/// | part | effect |
/// |---|---|
/// | `impl[U, F: Fn() -> bool]` | the generic parameters, in brackets, with the bounds of all three implementations |
/// | `Layer, Upstream for`, or `Layer for` | without `Upstream`, no other adaptor can wrap this one: it is outermost |
/// | `upstream: U = field;` | the type parameter and the field of the upstream |
/// | `describe = "word";` or `describe = \|this, f\| write!(f, ...);` | [`Layer::describe`](crate::Layer::describe) |
/// | `state = field;` | [`Layer::state`](crate::Layer::state); `&()` if left out |
/// | `trim_layer = \|this, keep\| ...;` | [`Layer::trim_layer`](crate::Layer::trim_layer); `Ok(0)` if left out |
///
/// `Layer` and `Display` are implemented for `U: Layer`, `Upstream` for `U: Upstream`. An adaptor that needs more of its
/// upstream leaves `Upstream` out of the list and implements it by hand, for example
/// `impl<U: Upstream<Kind: Migratable>> Upstream for MyAdaptor<U> {}`.
#[macro_export]
macro_rules! adaptor_layer {
    (
        impl[$($generics:tt)*] Layer $(, $upstream_trait:ident)? for $adaptor:ty {
            upstream: $parameter:ident = $upstream:ident;
            $(describe = $word:literal;)?
            $(describe = |$this:pat_param, $f:pat_param| $describe:expr;)?
            $(state = $state:ident;)?
            $(trim_layer = |$trimmed:pat_param, $keep:pat_param| $trim:expr;)?
        }
    ) => {
        impl<$($generics)*> $crate::Layer for $adaptor
        where
            $parameter: $crate::Layer,
        {
            $(
                fn describe(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                    f.write_str($word)
                }
            )?
            $(
                fn describe(&self, $f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                    let $this = self;
                    $describe
                }
            )?
            fn beneath(&self) -> $crate::layer::Beneath<'_> {
                $crate::layer::Beneath::Layer(&self.$upstream)
            }
            fn state(&self) -> &dyn ::std::any::Any {
                &$crate::adaptor_layer!(@state self $($state)?)
            }
            $crate::adaptor_layer!(@trim_layer $(|$trimmed, $keep| $trim)?);
        }

        impl<$($generics)*> ::std::fmt::Display for $adaptor
        where
            $parameter: $crate::Layer,
        {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                $crate::layer::fmt_stack(self, f)
            }
        }

        $crate::adaptor_layer!(@upstream [$($generics)*] $adaptor, $parameter $(, $upstream_trait)?);
    };
    (@upstream $generics:tt $adaptor:ty, $parameter:ident) => {};
    (@upstream [$($generics:tt)*] $adaptor:ty, $parameter:ident, Upstream) => {
        impl<$($generics)*> $crate::Upstream for $adaptor where $parameter: $crate::Upstream {}
    };
    (@state $self:ident) => { () };
    (@state $self:ident $state:ident) => { $self.$state };
    (@trim_layer) => {
        fn trim_layer(&self, _keep: usize) -> ::std::result::Result<usize, $crate::error::TrimError> {
            ::std::result::Result::Ok(0)
        }
    };
    (@trim_layer |$trimmed:pat_param, $keep:pat_param| $trim:expr) => {
        fn trim_layer(&self, $keep: usize) -> ::std::result::Result<usize, $crate::error::TrimError> {
            let $trimmed = self;
            $trim
        }
    };
}
