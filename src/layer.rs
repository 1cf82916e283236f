//! [`Layer`]: what a stack can be asked without allocating from it.
//!
//! Every resource is a layer. Walking from the outermost inwards gives its name, its device, and the
//! state of each adaptor in it, through any erasure: `stack.find::<Counters>()` reaches the statistics
//! of an [`AnyResource`](crate::AnyResource).

use crate::device::Device;
use crate::error::DeallocReason;
use std::any::Any;
use std::fmt;

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

    /// The other layer that this one draws from, if there are two: where it spills to. Questions to a stack, such as
    /// [`LayerExt::find`], go [beneath](Self::beneath).
    ///
    /// Provided, since nearly every layer stands on one. What stands in for another layer hands it on.
    fn beside(&self) -> Option<&dyn Layer> {
        None
    }

    /// What this layer lets itself be asked, for [`LayerExt::find`]; `&()` where there is nothing.
    /// A type without the upstream in it, so that it can be named through an erased stack.
    fn state(&self) -> &dyn Any;

    /// Gives back what this layer itself keeps unused, for as long as it has more than `keep` bytes: the bytes that it
    /// gave to what is beneath it. For all layers of a stack there is [`LayerExt::trim_stack`].
    ///
    /// Provided, since nearly every layer keeps nothing. What stands in for another layer, in that it hands on its
    /// [`state`](Self::state), hands this on too.
    ///
    /// # Errors
    ///
    /// Why something could not be given back. The layer still has it.
    fn trim_layer(&self, keep: usize) -> Result<usize, DeallocReason> {
        let _ = keep;
        Ok(0)
    }
}

/// What a layer stands on.
#[derive(Clone, Copy)]
pub enum Beneath<'a> {
    /// Another layer.
    Layer(&'a dyn Layer),
    /// A device: the layer is a leaf.
    Device(&'a Device),
}

impl fmt::Debug for Beneath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Layer(layer) => write!(f, "Layer({})", DisplayStack(*layer)),
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
                Beneath::Layer(layer) => beneath = layer.beneath(),
                Beneath::Device(device) => return device,
            }
        }
    }

    /// The state of type `T` of the outermost layer that has one: `find::<Counters>()` reaches the
    /// statistics of a stack, `find::<Limit>()` its limiter. Each adaptor's page says what it answers to.
    fn find<T: Any>(&self) -> Option<&T> {
        let mut beneath = self.beneath();
        let mut state = self.state();
        loop {
            if let Some(found) = state.downcast_ref() {
                return Some(found);
            }
            let Beneath::Layer(layer) = beneath else { return None };
            state = layer.state();
            beneath = layer.beneath();
        }
    }

    /// All states of type `T`, outermost first.
    fn find_all<T: Any>(&self) -> Vec<&T> {
        let mut found = Vec::from_iter(self.state().downcast_ref());
        let mut beneath = self.beneath();
        while let Beneath::Layer(layer) = beneath {
            found.extend(layer.state().downcast_ref::<T>());
            beneath = layer.beneath();
        }
        found
    }

    /// Has each layer give back what it keeps unused, for as long as it has more than `keep` bytes, from the outermost
    /// inwards: a pool, the driver's pool, what spills. `trim_stack(0)` gives back all that is unused.
    ///
    /// The sum of what they gave; with a pool over a pool, what went through both counts twice.
    ///
    /// # Errors
    ///
    /// The first layer's reason, where one could not give something back. All of them are asked, and nothing is lost.
    fn trim_stack(&self, keep: usize) -> Result<usize, DeallocReason> {
        let mut trimmed = self.trim_layer(keep);
        let mut beneath = self.beneath();
        while let Beneath::Layer(layer) = beneath {
            let more = layer.trim_layer(keep);
            trimmed = trimmed.and_then(|bytes| Ok(bytes + more?));
            beneath = layer.beneath();
        }
        trimmed
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
            Beneath::Layer(layer) => {
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
