//! [`StackSpec`]: a stack chosen at run time, from text.
//!
//! ```text
//! managed | pool(initial=1GiB) | limit(80%) | statistics | prefetch
//! ```
//!
//! A leaf first, then adaptors, the last outermost. The order rules are those of the types, and are told in the
//! same words, at the word that breaks them.
//!
//! | word | arguments |
//! |---|---|
//! | `device` | |
//! | `async` | `default` (the device's default pool instead of an own one), `threshold=SIZE` |
//! | `virtual` | |
//! | `managed` | |
//! | `pinned` | |
//! | `host` | |
//! | `pool` | `initial=SIZE`, `maximum=SIZE`, `step=SIZE`, `release=SIZE`, `slack=SIZE`, `up_to=SIZE`, `divisions=NUMBER`, `grow_first` |
//! | `limit` | `SIZE` |
//! | `statistics` | |
//! | `tagged` | a name, for a ledger: [`StackSpec::build_with_ledger`] |
//! | `pressure` | `trim=SIZE`, `refuse=SIZE`, `slack=SIZE`, `ask=SIZE` |
//! | `spill` | the stack to spill to: `spill(managed)` |
//! | `auto_prefetch` | `budget=SIZE`, `ahead=USES`; `pass_through` |
//! | `prefetch` | `host`, or a device's number; `pass_through`, `always` |
//!
//! A [`SIZE`](crate::Size) is `1GiB`, `256MB`, `80%` of the device's memory.
//!
//! Of memory that may come from either side of a `spill`, a stack from text knows only that devices reach it: it cannot
//! be prefetched, and `host` memory has no part in it. What takes a function, such as [`Pressure::trimming`], has no
//! word.
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

/// The description of a stack. See the [module](self) for the grammar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StackSpec {
    text: String,
    layers: Layers,
    outermost: Option<Word<Outermost>>,
}

/// All of a stack that may be an upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Layers {
    leaf: Word<Leaf>,
    adaptors: Vec<Word<Adaptor>>,
}

/// A part of the text, and where it stands.
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

/// What may only be applied last: prefetch.
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
    /// Reads a description.
    ///
    /// # Errors
    ///
    /// [`SpecError`] points at the word that is wrong.
    pub fn parse(text: &str) -> Result<Self, SpecError> {
        parse::parse(text)
    }

    /// The same stack with `limit` directly over the leaf: so much, and no more, is had from the driver. What it
    /// spills to has no part in that.
    pub fn with_leaf_limit(mut self, limit: Size) -> Self {
        let span = self.layers.leaf.span.clone();
        self.layers.adaptors.insert(0, Word { span, value: Adaptor::Limit(limit) });
        self
    }

    /// The same stack with `statistics` over each layer that has none, to see what each hands out. Prefetch stays
    /// outermost: it hands on what is beneath it.
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

    /// The same stack with `statistics` directly over the leaf, which then count what the leaf hands out
    /// ("reserved"): the innermost of [`find_all::<Counters>()`](cumem::LayerExt::find_all).
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
