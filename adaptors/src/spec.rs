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
//! | `fixed_size` | `SIZE` of the blocks; `keep=NUMBER` of free blocks |
//! | `binning` | the sizes, or `from=SIZE` and `to=SIZE` for powers of two; `keep=NUMBER` |
//! | `aligned` | `SIZE`; `threshold=SIZE` |
//! | `advise` | `read_mostly`, `prefer=PLACE`, `accessed_by=PLACE`, where a place is `own`, `host` or a device's number; `threshold=SIZE`, `pass_through` |
//! | `scrub` | `pattern=NUMBER`; `at=free`, `at=allocate` or `at=both` |
//! | `limit` | `SIZE`; `name=NAME`, which errors carry; `rounding=SIZE` |
//! | `statistics` | |
//! | `log` | a file, without which `RMM_LOG_FILE` names one; `flush` after each row |
//! | `tracking` | `traces` for a stack trace of each allocation |
//! | `events` | |
//! | `graph_pools` | `detect` for captures that the stack is not told of |
//! | `tagged` | a name in a ledger: [`StackSpec::build_with_ledger`] |
//! | `pressure` | `trim=SIZE`, `refuse=SIZE`, `slack=SIZE`, `ask=SIZE` |
//! | `spill` | the second stack: `spill(managed)` |
//! | `on_failure` | `trim`: trims the stack when memory runs out, and tries again; `attempts=NUMBER` |
//! | `auto_prefetch` | `budget=SIZE`, `ahead=USES`; `pass_through` |
//! | `prefetch` | `host`, or a device's number; `pass_through`, `always` |
//!
//! A [`SIZE`](crate::Size) is for example `1GiB`, `256MB`, `80%` of the device's memory, or `50% free`, a share of the
//! memory that is free when the stack is built. A number of bytes below 1 MiB needs its unit: `limit(80)` is an error,
//! `limit(80B)` is 80 bytes. A description has at most 64 layers, and at most 16 levels of parentheses.
//!
//! The memory of a stack over a `spill` comes from either of two stacks, so the kind of the memory is known only as
//! device-accessible. Such a stack cannot be prefetched, and neither of the two stacks may be of `host` memory. Options
//! that take a function, such as [`Pressure::trimming`], cannot be written as text.
//!
//! [`Pressure::trimming`]: crate::Pressure::trimming

mod build;
mod error;
mod options;
mod parse;
mod stack;
mod suggest;
mod text;
mod values;
mod words;

use error::one_line;

pub use error::SpecError;
pub use stack::{AnyStack, NotDeviceAccessible};

use crate::Size;
use std::fmt;
use std::str::FromStr;
use words::{Adaptor, Layers, Outermost, Word};

/// A parsed description of a stack. See the [module](self) for the grammar.
///
/// # Examples
///
/// From text to a buffer in device memory:
///
/// ```
/// use cumem::sim::Profile;
/// use cumem::{Buffer, Device, LayerExt, Stream};
/// use cumem_adaptors::{StackSpec, StatisticsState};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::simulated(Profile::default())?;
/// let stream = Stream::new(&device)?;
/// let spec: StackSpec = "device | pool(initial=64MiB) | limit(80%) | statistics".parse()?;
/// let stack = spec.build(&device)?.into_device_accessible()?;
/// let squares = Buffer::from_slice(&[1_u32, 4, 9], &stream, &stack)?;
/// assert_eq!(squares.to_vec()?, [1, 4, 9]);
/// assert_eq!(stack.find::<StatisticsState>().unwrap().counts().current_bytes, 12);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StackSpec {
    /// The caller's text, to which all ranges refer.
    text: String,
    layers: Layers,
    outermost: Option<Word<Outermost>>,
}

impl StackSpec {
    /// Parses a description.
    ///
    /// # Errors
    ///
    /// Returns a [`SpecError`] that points at the wrong word.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem_adaptors::StackSpec;
    ///
    /// assert!(StackSpec::parse("managed | pool | limit(80%) | prefetch").is_ok());
    /// let error = StackSpec::parse("managed | limit(80)").unwrap_err(); // 80 bytes
    /// assert_eq!(error.span(), 16..18);
    /// assert!(StackSpec::parse("managed | limit(80B)").is_ok());
    /// ```
    pub fn parse(text: &str) -> Result<Self, SpecError> {
        // `Display` prints no space at the end, and a printed description must equal the one that it was printed from.
        let text = text.trim_end();
        let (layers, outermost) = parse::description(text)?;
        Ok(Self { text: text.into(), layers, outermost })
    }

    /// Returns the same stack with a limiter of `limit` directly over the leaf, which bounds the memory that the stack
    /// takes from the driver. The second stack of a `spill` is not limited.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::Device;
    /// use cumem::sim::Profile;
    /// use cumem_adaptors::{Size, StackSpec};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// let spec = StackSpec::parse("device | pool")?.with_leaf_limit(Size::Percent(50));
    /// assert!(spec.build(&device)?.to_string().starts_with("pool over limit(50%) over device"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn with_leaf_limit(mut self, limit: Size) -> Self {
        let span = self.layers.leaf.span.clone();
        self.layers
            .adaptors
            .insert(0, Word { span, value: Adaptor::Limit { size: limit, name: None, rounding: None } });
        self
    }

    /// Returns the same stack with `statistics` over each layer that has none yet, so that what each layer allocates
    /// can be read. `prefetch` gets none: it stays outermost and passes on the blocks of its upstream.
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
    /// let spec = StackSpec::parse("device | pool")?.with_statistics_between();
    /// assert!(spec.build(&device)?.to_string().starts_with("statistics over pool over statistics over device"));
    /// # Ok(())
    /// # }
    /// ```
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
        self.layers.spilled_to().for_each(Layers::count_leaf);
        self
    }

    /// Returns the same stack with `statistics` directly over each leaf, also over the leaf of a stack that it spills to.
    /// These statistics count the allocations of the leaves ("reserved"). [`leaf_statistics`](crate::statistics::leaf_statistics) finds
    /// these statistics.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::sim::Profile;
    /// use cumem::Device;
    /// use cumem_adaptors::StackSpec;
    /// use cumem_adaptors::statistics::leaf_statistics;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// let text = "device | pool(initial=1MiB) | spill(managed)";
    /// let stack = StackSpec::parse(text)?.with_leaf_statistics().build(&device)?;
    /// let reserved: Vec<_> = leaf_statistics(&stack).iter().map(|leaf| leaf.counts().current_bytes).collect();
    /// assert_eq!(reserved, [1 << 20, 0]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn with_leaf_statistics(mut self) -> Self {
        self.layers.count_leaf();
        self
    }
}

impl FromStr for StackSpec {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        Self::parse(text)
    }
}

/// Writes the caller's text in one line.
impl fmt::Display for StackSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(one_line(&self.text).trim_end())
    }
}
