//! [`Layer`]: one layer of a stack, with its description, its state and its unused memory.
//!
//! Every memory resource is a layer. [`LayerExt`] walks the layers of a stack from the outermost to the leaf. It
//! returns the device and the state of each layer, also through an [`AnyResource`](crate::AnyResource). For example,
//! `stack.find::<StatisticsState>()` returns the statistics of a stack (`cumem-adaptors`).

use crate::device::Device;
use crate::device::spare::SparePlace;
use crate::error::{DeallocReason, TrimError};
use std::any::Any;
use std::{fmt, iter};

/// One layer of a stack. Every [`MemoryResource`](crate::MemoryResource) implements this trait.
///
/// # Examples
///
/// A custom adaptor describes itself and returns a state:
///
/// ```
/// use cumem::error::TrimError;
/// use cumem::layer::{Beneath, fmt_stack};
/// use cumem::sim::Profile;
/// use cumem::{CudaResource, Device, Layer, LayerExt};
/// use std::{any::Any, fmt};
///
/// /// An adaptor with a label.
/// struct Labelled<U> {
///     upstream: U,
///     label: String,
/// }
///
/// impl<U: Layer> Layer for Labelled<U> {
///     fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
///         write!(f, "labelled({})", self.label)
///     }
///     fn beneath(&self) -> Beneath<'_> {
///         Beneath::Layer(&self.upstream)
///     }
///     fn state(&self) -> &dyn Any {
///         &self.label
///     }
///     fn trim_layer(&self, _keep: usize) -> Result<usize, TrimError> {
///         Ok(0)
///     }
/// }
///
/// impl<U: Layer> fmt::Display for Labelled<U> {
///     fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
///         fmt_stack(self, f)
///     }
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::simulated(Profile::default())?;
/// let stack = Labelled { upstream: CudaResource::new(&device), label: "weights".into() };
/// assert_eq!(stack.to_string(), format!("labelled(weights) over device on {}", device.id()));
/// assert_eq!(stack.find::<String>().map(String::as_str), Some("weights"));
/// # Ok(())
/// # }
/// ```
pub trait Layer {
    /// Writes this layer without the layers beneath it, in the stack grammar. For example, the output of a limiter is
    /// `limit(80%)`.
    ///
    /// # Errors
    ///
    /// Returns the errors of the formatter.
    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result;

    /// Returns the upstream of this layer, or the device of a leaf.
    fn beneath(&self) -> Beneath<'_>;

    /// Returns the value that [`LayerExt::find`] finds for this layer, or `&()` if the layer has none. The type of the
    /// value must not mention the upstream, so that callers can name the type on an erased stack.
    fn state(&self) -> &dyn Any;

    /// Frees unused memory of this layer to its upstream while the layer holds more than `keep` bytes, and returns the
    /// freed bytes. A layer that holds no unused memory returns 0. [`LayerExt::trim_stack`] trims all layers of a
    /// stack.
    ///
    /// # Errors
    ///
    /// Returns [`TrimError`] if memory could not be freed. The layer then still holds that memory.
    fn trim_layer(&self, keep: usize) -> Result<usize, TrimError>;
}

/// All methods of a [`Layer`] that forwards to another layer, such as a pointer to it.
macro_rules! forward_layer {
    ($self:ident => $layer:expr) => {
        fn describe(&$self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            $layer.describe(f)
        }
        fn beneath(&$self) -> crate::layer::Beneath<'_> {
            $layer.beneath()
        }
        fn state(&$self) -> &dyn std::any::Any {
            $layer.state()
        }
        fn trim_layer(&$self, keep: usize) -> Result<usize, crate::error::TrimError> {
            $layer.trim_layer(keep)
        }
    };
}
pub(crate) use forward_layer;

/// The upstream of a layer, or the device of a leaf.
///
/// # Examples
///
/// ```
/// use cumem::layer::Beneath;
/// use cumem::sim::Profile;
/// use cumem::{CudaResource, Device, Layer};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::simulated(Profile::default())?;
/// let leaf = CudaResource::new(&device);
/// assert!(matches!(leaf.beneath(), Beneath::Device(found) if *found == device));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy)]
pub enum Beneath<'a> {
    /// The layer has one upstream.
    Layer(&'a dyn Layer),
    /// The layer has two upstreams. Each block comes from one of them.
    Two(&'a dyn Layer, &'a dyn Layer),
    /// The layer is a leaf of this device.
    Device(&'a Device),
}

impl fmt::Debug for Beneath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Layer(layer) => write!(f, "Layer({})", DisplayStack(*layer)),
            Self::Two(first, second) => write!(f, "Two({}, {})", DisplayStack(*first), DisplayStack(*second)),
            Self::Device(device) => write!(f, "Device({})", device.id()),
        }
    }
}

/// Methods that work on a whole stack. Every [`Layer`] has them.
///
/// # Examples
///
/// ```
/// use cumem::sim::Profile;
/// use cumem::{AnyResource, CudaAsyncResource, Device, LayerExt};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::simulated(Profile::default())?;
/// let stack = AnyResource::new(CudaAsyncResource::new(&device)?);
/// assert_eq!(stack.device(), &device);
/// let leaf = stack.find::<CudaAsyncResource>().expect("the leaf of the stack");
/// assert_eq!(leaf.usage()?.used, 0);
/// # Ok(())
/// # }
/// ```
pub trait LayerExt: Layer {
    /// Returns the device of the leaf. If a layer has two upstreams, this is the device of the first.
    fn device(&self) -> &Device {
        let mut beneath = self.beneath();
        loop {
            match beneath {
                Beneath::Layer(layer) | Beneath::Two(layer, _) => beneath = layer.beneath(),
                Beneath::Device(device) => return device,
            }
        }
    }

    /// Returns all layers beneath this one, from the outermost to the leaf. If a layer has two upstreams, the first and
    /// all layers beneath it come before the second.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::layer::Described;
    /// use cumem::sim::Profile;
    /// use cumem::{Device, LayerExt, ManagedResource};
    /// use cumem_adaptors::{PoolOptions, ResourceExt};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// let stack = ManagedResource::new(&device)?.pool(PoolOptions::new())?.limit(1 << 30);
    /// let names: Vec<_> = stack.layers_beneath().map(|layer| Described(layer).to_string()).collect();
    /// assert_eq!(names, ["pool", "managed"]);
    /// # Ok(())
    /// # }
    /// ```
    fn layers_beneath(&self) -> impl Iterator<Item = &dyn Layer> {
        let mut seconds = Vec::new();
        let mut beneath = self.beneath();
        iter::from_fn(move || {
            let layer = match beneath {
                Beneath::Layer(layer) => layer,
                Beneath::Two(first, second) => {
                    seconds.push(second);
                    first
                }
                Beneath::Device(_) => seconds.pop()?,
            };
            beneath = layer.beneath();
            Some(layer)
        })
    }

    /// Returns the state of type `T` of the outermost layer that has one, or `None` if no layer has one. The
    /// documentation of each adaptor names the type of its state. The state of a leaf is the leaf itself.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::sim::Profile;
    /// use cumem::{AnyResource, CudaResource, Device, LayerExt};
    /// use cumem_adaptors::{LimiterState, ResourceExt, StatisticsState};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// let stack = AnyResource::new(CudaResource::new(&device).limit(1 << 30));
    /// assert_eq!(stack.find::<LimiterState>().map(|limiter| limiter.bytes()), Some(1 << 30));
    /// assert!(stack.find::<StatisticsState>().is_none());
    /// # Ok(())
    /// # }
    /// ```
    fn find<T: Any>(&self) -> Option<&T> {
        let own = self.state().downcast_ref();
        own.or_else(|| self.layers_beneath().find_map(|layer| layer.state().downcast_ref()))
    }

    /// Returns the states of type `T` of all layers, outermost first.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::sim::Profile;
    /// use cumem::{CudaResource, Device, LayerExt};
    /// use cumem_adaptors::{LimiterState, ResourceExt};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// let stack = CudaResource::new(&device).limit(2 << 30).limit(1 << 30);
    /// let limits: Vec<_> = stack.find_all::<LimiterState>().iter().map(|limiter| limiter.bytes()).collect();
    /// assert_eq!(limits, [1 << 30, 2 << 30]);
    /// # Ok(())
    /// # }
    /// ```
    fn find_all<T: Any>(&self) -> Vec<&T> {
        let states = iter::once(self.state()).chain(self.layers_beneath().map(|layer| layer.state()));
        states.filter_map(|state| state.downcast_ref()).collect()
    }

    /// Trims each layer, from the outermost to the leaf, and returns the bytes that the device got back. Each layer, such
    /// as a pool or a leaf with a pool of the driver, frees unused memory while it holds more than `keep` bytes.
    /// `trim_stack(0)` frees all unused memory. The host waits for work that still uses the memory. The staging memory
    /// of copies on the stack's device is freed in the same way
    /// ([`Device::trim_staging`](crate::Device::trim_staging)), and counts.
    ///
    /// If one pool stands over another, memory counts once: the result has the bytes that the inner pool freed. If the
    /// inner pool freed none, the result has the bytes that the outer pool freed, although the inner pool then holds
    /// them.
    ///
    /// # Errors
    ///
    /// Returns [`TrimError`] with the sum and the first error if a layer could not free memory. The remaining layers
    /// are trimmed all the same, and each layer keeps the memory that it could not free.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::sim::Profile;
    /// use cumem::{Buffer, CudaResource, Device, LayerExt, Stream};
    /// use cumem_adaptors::{PoolOptions, ResourceExt};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// let stream = Stream::new(&device)?;
    /// let stack = CudaResource::new(&device).pool(PoolOptions::new())?;
    /// drop(Buffer::<u8, _>::zeroed(64 << 20, &stream, &stack)?);
    /// assert_eq!(stack.trim_stack(0)?, 64 << 20); // the pool had kept the memory
    /// assert_eq!(stack.trim_stack(0)?, 0);
    /// # Ok(())
    /// # }
    /// ```
    fn trim_stack(&self, keep: usize) -> Result<usize, TrimError> {
        let mut refused = None;
        let own = freed(self.trim_layer(keep), &mut refused);
        let mut trimmed = trim_beneath(own, self.beneath(), keep, &mut refused);
        let spare = self.device().spare();
        if spare.bytes(SparePlace::Device) > keep {
            trimmed += spare.free(SparePlace::Device);
        }
        refused.map_or(Ok(trimmed), |reason| Err(TrimError::new(trimmed, reason)))
    }
}

/// Returns the bytes that a layer freed, and keeps the first reason why memory was not freed.
fn freed(trimmed: Result<usize, TrimError>, refused: &mut Option<DeallocReason>) -> usize {
    trimmed.unwrap_or_else(|error| {
        refused.get_or_insert(error.reason);
        error.trimmed
    })
}

/// Trims the layers beneath one that has freed `above` bytes to them. Returns the bytes that reached the device.
fn trim_beneath(above: usize, beneath: Beneath<'_>, keep: usize, refused: &mut Option<DeallocReason>) -> usize {
    let (mut trimmed, mut beneath) = (above, beneath);
    loop {
        match beneath {
            Beneath::Device(_) => return trimmed,
            Beneath::Layer(layer) => {
                let own = freed(layer.trim_layer(keep), refused);
                trimmed = if own > 0 { own } else { trimmed };
                beneath = layer.beneath();
            }
            Beneath::Two(first, second) => {
                let both = [first, second].map(|layer| {
                    let own = freed(layer.trim_layer(keep), refused);
                    trim_beneath(own, layer.beneath(), keep, refused)
                });
                return trimmed.max(both[0] + both[1]);
            }
        }
    }
}

impl<L: Layer + ?Sized> LayerExt for L {}

/// Displays one layer without the layers beneath it, for example `limit(1GiB)`.
///
/// # Examples
///
/// ```
/// use cumem::layer::Described;
/// use cumem::sim::Profile;
/// use cumem::{CudaResource, Device};
/// use cumem_adaptors::ResourceExt;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::simulated(Profile::default())?;
/// let stack = CudaResource::new(&device).limit(1 << 30);
/// assert_eq!(Described(&stack).to_string(), "limit(1GiB)");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy)]
pub struct Described<'a>(pub &'a dyn Layer);

impl fmt::Display for Described<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.describe(f)
    }
}

impl fmt::Debug for Described<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Described({self})")
    }
}

/// Writes a layer and all layers beneath it, outermost first, for example `statistics over pool over managed on sim:0`.
/// If a layer has two upstreams, the second is left to that layer's [`describe`](Layer::describe).
///
/// `Display` of every resource calls this function. For an example, see [`Layer`].
pub fn fmt_stack(layer: &dyn Layer, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    layer.describe(f)?;
    let mut beneath = layer.beneath();
    loop {
        match beneath {
            Beneath::Layer(layer) | Beneath::Two(layer, _) => {
                f.write_str(" over ")?;
                layer.describe(f)?;
                beneath = layer.beneath();
            }
            Beneath::Device(device) => return write!(f, " on {}", device.id()),
        }
    }
}

struct DisplayStack<'a>(&'a dyn Layer);

impl fmt::Display for DisplayStack<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt_stack(self.0, f)
    }
}
