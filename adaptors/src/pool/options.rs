//! [`PoolOptions`].

use crate::size::Size;
use std::fmt;

/// How a [`Pool`](super::Pool) takes memory from its upstream and when it gives it back.
///
/// Shares (`80%`) are of the memory of the upstream's device, but for [`slack`](Self::slack).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PoolOptions {
    pub(super) initial: Option<Size>,
    pub(super) maximum: Option<Size>,
    pub(super) step: Option<Size>,
    pub(super) release_threshold: Option<Size>,
    pub(super) slack: Option<Size>,
    pub(super) divisions: Option<u32>,
    pub(super) up_to: Option<Size>,
    pub(super) crossing: Crossing,
}

/// What a stream does when only memory that other streams still work on would fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Crossing {
    /// It waits for that work, on the device: the pool stays as small as it can.
    #[default]
    WaitFirst,
    /// The pool grows, and waits only where it cannot: streams stay as independent as they can.
    GrowFirst,
}

impl PoolOptions {
    /// Nothing at first, no maximum, growth by what is needed and at least an eighth of what is reserved (2 MiB to 256
    /// MiB), or as much again where the rest takes no memory (unified memory on a device with concurrent managed
    /// access, whose figure is [`touched`](super::PoolStats::touched)), nothing given back before
    /// [`trim`](super::Pool::trim), waiting before growth.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes to take at construction.
    #[must_use]
    pub fn initial(mut self, bytes: impl Into<Size>) -> Self {
        self.initial = Some(bytes.into());
        self
    }

    /// Bytes that the pool never has more of from its upstream; over mapped memory, as many whole granules as they hold.
    #[must_use]
    pub fn maximum(mut self, bytes: impl Into<Size>) -> Self {
        self.maximum = Some(bytes.into());
        self
    }

    /// Bytes to grow by, if the request needs no more. Where the upstream refuses, half of it is tried, and
    /// half of that, down to what is needed. Page-locked memory is the slowest to get
    /// ([`PinnedResource`](cumem::PinnedResource)), so larger slabs than the pool would take by itself can be worth it there.
    #[must_use]
    pub fn step(mut self, bytes: impl Into<Size>) -> Self {
        self.step = Some(bytes.into());
        self
    }

    /// Gives chunks back as soon as all their blocks have been freed, while more than this is reserved.
    /// Without it only [`trim`](super::Pool::trim), want of memory and drop give chunks back.
    #[must_use]
    pub fn release_threshold(mut self, bytes: impl Into<Size>) -> Self {
        self.release_threshold = Some(bytes.into());
        self
    }

    /// Over memory that is mapped into one range of addresses
    /// ([`CudaVirtualResource`](cumem::CudaVirtualResource)): by how much more may be reserved than is live, bytes or a
    /// share of what is live, before free memory from several places is mapped end to end and used as one
    /// ([`map_alias`](cumem::CudaVirtualResource::map_alias)) instead of the pool growing. At the
    /// [maximum](Self::maximum), and where the device has no more, that is done in any case.
    ///
    /// A third if it is not set. Less keeps the pool smaller where streams break memory up, and costs calls of the
    /// driver and a walk over all that is free each time, which is milliseconds where that is thousands of pieces:
    /// `benches/README.md` has figures of a trace with four streams for several values.
    ///
    /// Over unified memory: by how much more may be [`touched`](super::PoolStats::touched) than is live before streams
    /// wait for each other's memory. Two thirds if it is not set: on a trace with four streams that come and go
    /// (`benches/README.md`), a third takes 1.40 times what was requested instead of 1.61, and more time.
    #[must_use]
    pub fn slack(mut self, slack: impl Into<Size>) -> Self {
        self.slack = Some(slack.into());
        self
    }

    /// Cuts blocks to `divisions` sizes from each power of two to the next, a power of two of them, instead of to any
    /// multiple of 256 bytes: with 4, those of more than 1 MiB have 1.25, 1.5, 1.75 or 2 MiB. PyTorch's
    /// [`roundup_power2_divisions`](https://docs.pytorch.org/docs/stable/notes/cuda.html). Where sizes differ from one
    /// step of a program to the next, what was freed fits again; what is added counts as internal fragmentation. Of
    /// four traces of real programs (`benches/README.md`), 16 divisions made two 4 % smaller over the chunks of
    /// `device`, and all of them larger over mapped memory.
    #[must_use]
    pub fn divisions(mut self, divisions: u32) -> Self {
        self.divisions = Some(divisions);
        self
    }

    /// Pools requests of up to so many bytes, rounded down to a multiple of 256. What is larger is allocated from the
    /// upstream, whose block it is.
    ///
    /// Over another pool this is one for small blocks, which are cut from slabs of their own ([`step`](Self::step), 2
    /// MiB and more) and leave the memory of large ones whole: `device | pool | pool(up_to=64KiB)`. A stream takes 2
    /// MiB at a time for small blocks without that too, and of four traces of real programs (`benches/README.md`) two
    /// came out up to 0.8 % smaller, two up to 0.5 % larger: where small blocks stay while large ones come and go,
    /// slabs are the better.
    #[must_use]
    pub fn up_to(mut self, bytes: impl Into<Size>) -> Self {
        self.up_to = Some(bytes.into());
        self
    }

    /// Whether streams wait for each other before the pool grows, or after.
    #[must_use]
    pub fn crossing(mut self, crossing: Crossing) -> Self {
        self.crossing = crossing;
        self
    }
}

/// In the words of the stack grammar: `(initial=1GiB, maximum=80%)`; nothing where all are the defaults.
impl fmt::Display for PoolOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sizes = [
            ("initial", self.initial),
            ("maximum", self.maximum),
            ("step", self.step),
            ("release", self.release_threshold),
            ("slack", self.slack),
            ("up_to", self.up_to),
        ];
        let mut words: Vec<String> =
            sizes.iter().filter_map(|(name, size)| Some(format!("{name}={}", (*size)?))).collect();
        words.extend(self.divisions.map(|divisions| format!("divisions={divisions}")));
        if self.crossing == Crossing::GrowFirst {
            words.push("grow_first".into());
        }
        if words.is_empty() { Ok(()) } else { write!(f, "({})", words.join(", ")) }
    }
}
