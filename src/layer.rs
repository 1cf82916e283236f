//! [`Layer`]: what a stack can be asked without allocating from it.
//!
//! Every resource is a layer. Walking from the outermost inwards gives its name, its device, and the
//! state of each adaptor in it, through any erasure: `stack.find::<Counters>()` reaches the statistics
//! of an [`AnyResource`](crate::AnyResource).

use crate::device::Device;
use crate::error::TrimError;
use std::any::Any;
use std::{fmt, iter};

/// One layer of a stack. Required of every [`MemoryResource`](crate::MemoryResource).
pub trait Layer {
    /// Writes this layer alone, in the words of the stack grammar: `limit(80%)`.
    ///
    /// # Errors
    ///
    /// Those of the formatter.
    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result;

    /// What this layer stands on.
    fn beneath(&self) -> Beneath<'_>;

    /// What this layer lets itself be asked, for [`LayerExt::find`]; `&()` where there is nothing.
    /// A type without the upstream in it, so that it can be named through an erased stack.
    fn state(&self) -> &dyn Any;

    /// Gives back what this layer itself keeps unused, for as long as it has more than `keep` bytes: the bytes that it
    /// gave to what is beneath it. For all layers of a stack there is [`LayerExt::trim_stack`].
    ///
    /// `Ok(0)` from a layer that keeps nothing.
    ///
    /// # Errors
    ///
    /// [`TrimError`] if something could not be given back. The layer still has it.
    fn trim_layer(&self, keep: usize) -> Result<usize, TrimError>;
}

/// All methods of a [`Layer`] that only stands for another.
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

/// What a layer stands on.
#[derive(Clone, Copy)]
pub enum Beneath<'a> {
    /// Another layer.
    Layer(&'a dyn Layer),
    /// Two: a block is of the first, or else of the second.
    Two(&'a dyn Layer, &'a dyn Layer),
    /// A device: the layer is a leaf.
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

/// Questions to a whole stack.
pub trait LayerExt: Layer {
    /// The device at the bottom of the stack.
    fn device(&self) -> &Device {
        let mut beneath = self.beneath();
        loop {
            match beneath {
                Beneath::Layer(layer) | Beneath::Two(layer, _) => beneath = layer.beneath(),
                Beneath::Device(device) => return device,
            }
        }
    }

    /// All layers beneath this one, from the outermost inwards; where there are two, the first with all under it comes
    /// before the second.
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

    /// The state of type `T` of the outermost layer that has one: `find::<Counters>()` reaches the
    /// statistics of a stack, `find::<Limit>()` its limiter. Each adaptor's page says what it answers to.
    fn find<T: Any>(&self) -> Option<&T> {
        let own = self.state().downcast_ref();
        own.or_else(|| self.layers_beneath().find_map(|layer| layer.state().downcast_ref()))
    }

    /// All states of type `T`, outermost first.
    fn find_all<T: Any>(&self) -> Vec<&T> {
        let states = iter::once(self.state()).chain(self.layers_beneath().map(|layer| layer.state()));
        states.filter_map(|state| state.downcast_ref()).collect()
    }

    /// Has each layer give back what it keeps unused, for as long as it has more than `keep` bytes, from the outermost
    /// inwards: a pool, the driver's pool. `trim_stack(0)` gives back all that is unused.
    ///
    /// The sum of what they gave; with a pool over a pool, what went through both counts twice.
    ///
    /// # Errors
    ///
    /// [`TrimError`] with that sum and the first reason, where a layer could not give something back. All of them are
    /// asked, and nothing is lost.
    fn trim_stack(&self, keep: usize) -> Result<usize, TrimError> {
        let (mut trimmed, mut refused) = (0, None);
        let mut count = |given: Result<usize, TrimError>| match given {
            Ok(bytes) => trimmed += bytes,
            Err(error) => {
                trimmed += error.trimmed;
                refused.get_or_insert(error.reason);
            }
        };
        count(self.trim_layer(keep));
        self.layers_beneath().for_each(|layer| count(layer.trim_layer(keep)));
        refused.map_or(Ok(trimmed), |reason| Err(TrimError::new(trimmed, reason)))
    }
}

impl<L: Layer + ?Sized> LayerExt for L {}

/// A layer's own word: `limit(1GiB)`.
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

/// Writes a layer and everything under it, outermost first: `statistics over pool over managed on sim:0`.
///
/// What every resource's `Display` calls.
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
