//! [`PoolOptions`].

use crate::size::Size;
use std::fmt;

/// How a [`Pool`](super::Pool) takes memory from its upstream, and when it frees that memory.
///
/// A percentage such as `80%` is a share of the device's total memory, except in [`slack`](Self::slack).
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

/// What a stream does if only memory that other streams still work on would fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Crossing {
    /// The stream waits for that work, on the device. The pool stays as small as possible.
    #[default]
    WaitFirst,
    /// The pool grows, and the stream waits only if the pool cannot grow. Streams stay as independent as possible.
    GrowFirst,
}

impl PoolOptions {
    /// Creates the default options: no initial memory, no maximum, no release before [`trim`](super::Pool::trim), and
    /// streams wait before the pool grows.
    ///
    /// By default the pool grows by the missing bytes, and at least by an eighth of the reserved bytes (2 MiB to 256
    /// MiB). Over unified (managed) memory on a device with concurrent managed access it grows by as much as is
    /// reserved already, because unused memory occupies no pages there ([`touched`](super::PoolStats::touched) counts
    /// the used memory).
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the bytes that the pool allocates at construction.
    #[must_use]
    pub fn initial(mut self, bytes: impl Into<Size>) -> Self {
        self.initial = Some(bytes.into());
        self
    }

    /// Sets the most bytes that the pool ever holds from its upstream. Over mapped memory, the maximum is rounded down
    /// to whole granules.
    #[must_use]
    pub fn maximum(mut self, bytes: impl Into<Size>) -> Self {
        self.maximum = Some(bytes.into());
        self
    }

    /// Sets the bytes to grow by, if the request needs no more. If the upstream refuses, the pool tries half of that,
    /// and half again, down to the bytes that the request needs.
    ///
    /// Pinned memory takes the longest to allocate ([`PinnedResource`](cumem::PinnedResource)), so a larger step than
    /// the default can pay off there.
    #[must_use]
    pub fn step(mut self, bytes: impl Into<Size>) -> Self {
        self.step = Some(bytes.into());
        self
    }

    /// Frees chunks as soon as all their blocks have been freed, while more than this is reserved. Without a threshold,
    /// the pool frees chunks only in [`trim`](super::Pool::trim), when it is out of memory, and when it is dropped.
    #[must_use]
    pub fn release_threshold(mut self, bytes: impl Into<Size>) -> Self {
        self.release_threshold = Some(bytes.into());
        self
    }

    /// Sets how much more than the live bytes the pool may hold: bytes, or a share of the live bytes.
    ///
    /// Over memory that is mapped into one range of addresses ([`CudaVirtualResource`](cumem::CudaVirtualResource)),
    /// the slack limits the reserved bytes. Instead of growing past it, the pool maps free memory from several places
    /// end to end and uses it as one piece ([`map_alias`](cumem::CudaVirtualResource::map_alias)). The pool does the
    /// same at its [maximum](Self::maximum), and when the device is out of memory, whatever the slack is. The default
    /// is a third. A smaller slack keeps the pool smaller if streams fragment the memory. Each such mapping costs
    /// driver calls and a walk over all free pieces, which takes milliseconds for thousands of pieces:
    /// `benches/README.md` has figures of a trace with four streams for several values.
    ///
    /// Over unified (managed) memory, the slack limits the [`touched`](super::PoolStats::touched) bytes. Streams wait
    /// for each other's memory before the pool touches more. The default is two thirds: on a trace with four streams
    /// that come and go (`benches/README.md`), a third takes 1.40 times the requested bytes instead of 1.61, and more
    /// time.
    #[must_use]
    pub fn slack(mut self, slack: impl Into<Size>) -> Self {
        self.slack = Some(slack.into());
        self
    }

    /// Rounds blocks up to one of `divisions` sizes between each power of two and the next, instead of a multiple of
    /// 256 bytes. `divisions` must be a power of two. For example, with 4 divisions, blocks of more than 1 MiB have
    /// 1.25, 1.5, 1.75 or 2 MiB. PyTorch calls this
    /// [`roundup_power2_divisions`](https://docs.pytorch.org/docs/stable/notes/cuda.html).
    ///
    /// If sizes differ from one step of a program to the next, freed blocks fit again. The added bytes count as
    /// internal fragmentation. Of four traces of real programs (`benches/README.md`), 16 divisions made two 4 % smaller
    /// over the chunks of `device`, and all four larger over mapped memory.
    #[must_use]
    pub fn divisions(mut self, divisions: u32) -> Self {
        self.divisions = Some(divisions);
        self
    }

    /// Limits pooling to requests of up to `bytes`, rounded down to a multiple of 256. Larger requests are passed on to
    /// the upstream, which makes the block.
    ///
    /// Over another pool, such a pool cuts small blocks from slabs of their own ([`step`](Self::step), 2 MiB and more),
    /// and leaves memory for large blocks whole: `device | pool | pool(up_to=64KiB)`. Without it, a stream also takes 2
    /// MiB at a time for small blocks. Of four traces of real programs (`benches/README.md`), two became up to 0.8 %
    /// smaller and two up to 0.5 % larger with slabs. Slabs are better if small blocks stay live while large ones come
    /// and go.
    #[must_use]
    pub fn up_to(mut self, bytes: impl Into<Size>) -> Self {
        self.up_to = Some(bytes.into());
        self
    }

    /// Sets whether streams wait for each other before the pool grows, or after.
    #[must_use]
    pub fn crossing(mut self, crossing: Crossing) -> Self {
        self.crossing = crossing;
        self
    }
}

/// Writes the options in the stack grammar, for example `(initial=1GiB, maximum=80%)`; nothing if all are defaults.
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
