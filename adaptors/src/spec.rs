//! [`StackSpec`]: a stack that is described by text, for a choice at run time.
//!
//! ```text
//! managed | pool(initial=1GiB) | limit(80%) | statistics | prefetch
//! ```
//!
//! A description is a leaf, then adaptors; the last one is outermost. The order rules are those of the types.
//! An error points at the word that breaks a rule, and uses the words of the compiler's message.
//!
//! | word | arguments |
//! |---|---|
//! | `device` | |
//! | `async` | `default` (the device's default pool instead of a new one), `threshold=SIZE` |
//! | `virtual` | |
//! | `managed` | |
//! | `pinned` | |
//! | `host` | |
//! | `pool` | `initial=SIZE`, `maximum=SIZE`, `step=SIZE`, `release=SIZE`, `slack=SIZE`, `up_to=SIZE`, `divisions=NUMBER`, `grow_first` |
//! | `limit` | `SIZE` |
//! | `statistics` | |
//! | `tagged` | a name in a ledger: [`StackSpec::build_with_ledger`] |
//! | `pressure` | `trim=SIZE`, `refuse=SIZE`, `slack=SIZE`, `ask=SIZE` |
//! | `spill` | the second stack: `spill(managed)` |
//! | `auto_prefetch` | `budget=SIZE`, `ahead=USES`; `pass_through` |
//! | `prefetch` | `host`, or a device's number; `pass_through`, `always` |
//!
//! A [`SIZE`](crate::Size) is for example `1GiB`, `256MB`, or `80%` of the device's memory.
//!
//! A stack over a `spill` is only known to be device-accessible, because its memory comes from either side.
//! It cannot be prefetched, and neither side may be `host` memory. Options that take a function, such as
//! [`Pressure::trimming`], cannot be written as text.
//!
//! [`Pressure::trimming`]: crate::Pressure::trimming

mod build;
mod error;
mod parse;
mod stack;

pub use error::SpecError;
pub use stack::AnyStack;

use crate::{PoolOptions, PressureOptions, Size};
use std::fmt;
use std::ops::Range;
use std::str::FromStr;

/// A parsed description of a stack. See the [module](self) for the grammar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StackSpec {
    text: String,
    layers: Layers,
    outermost: Option<Word<Outermost>>,
}

/// The layers of a stack that may be an upstream: the leaf and all adaptors but `prefetch`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Layers {
    leaf: Word<Leaf>,
    adaptors: Vec<Word<Adaptor>>,
}

/// A parsed word, and its range in the text.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Word<T> {
    span: Range<usize>,
    value: T,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leaf {
    Device,
    Async { default_pool: bool, threshold: Option<Size> },
    Virtual,
    Managed,
    Pinned,
    Host,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Adaptor {
    Pool(PoolOptions),
    Limit(Size),
    Statistics,
    Tagged(String),
    Pressure(PressureOptions),
    Spill(Layers),
    AutoPrefetch { budget: Option<Size>, uses_ahead: Option<usize>, pass_through: bool },
}

/// The adaptor that must be outermost: `prefetch`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Outermost {
    target: Target,
    pass_through: bool,
    always: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    Own,
    Host,
    Device(u32),
}

impl StackSpec {
    /// Parses a description.
    ///
    /// # Errors
    ///
    /// Returns a [`SpecError`] that points at the wrong word.
    pub fn parse(text: &str) -> Result<Self, SpecError> {
        parse::parse(text)
    }

    /// Returns the same stack with a limiter of `limit` directly over the leaf, which bounds what the stack takes from
    /// the driver. The second stack of a `spill` is not limited.
    pub fn with_leaf_limit(mut self, limit: Size) -> Self {
        let span = self.layers.leaf.span.clone();
        self.layers.adaptors.insert(0, Word { span, value: Adaptor::Limit(limit) });
        self
    }

    /// Returns the same stack with `statistics` over each layer that has none yet, so that what each layer allocates
    /// can be read. `prefetch` gets none: it stays outermost and passes on the blocks of its upstream.
    pub fn with_statistics_between(mut self) -> Self {
        let mut beneath = self.layers.leaf.span.clone();
        let mut adaptors = Vec::new();
        for word in self.layers.adaptors {
            let counted = matches!(adaptors.last(), Some(Word { value: Adaptor::Statistics, .. }));
            if word.value != Adaptor::Statistics && !counted {
                adaptors.push(Word { span: beneath, value: Adaptor::Statistics });
            }
            beneath = word.span.clone();
            adaptors.push(word);
        }
        if !matches!(adaptors.last(), Some(Word { value: Adaptor::Statistics, .. })) {
            adaptors.push(Word { span: beneath, value: Adaptor::Statistics });
        }
        self.layers.adaptors = adaptors;
        self
    }

    /// Returns the same stack with `statistics` directly over the leaf. They count what the leaf allocates
    /// ("reserved"), and are the last element of [`find_all::<StatisticsState>()`](cumem::LayerExt::find_all).
    pub fn with_leaf_statistics(mut self) -> Self {
        let span = self.layers.leaf.span.clone();
        self.layers.adaptors.insert(0, Word { span, value: Adaptor::Statistics });
        self
    }
}

impl FromStr for StackSpec {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        Self::parse(text)
    }
}

impl fmt::Display for StackSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
