//! [`PoolOptions`].

use crate::size::Size;
use std::fmt;

/// The options of a [`Pool`](super::Pool): how the pool allocates from its upstream, and when it frees memory to its
/// upstream.
///
/// A percentage such as `80%` is a share of the device's total memory, except in [`slack`](Self::slack), and `50% free`
/// is a share of what is free when the pool is created.
///
/// # Examples
///
/// ```
/// use cumem_adaptors::{PoolOptions, Size};
///
/// let options = PoolOptions::new().initial(1 << 30).maximum(Size::Percent(80));
/// assert_eq!(options.get_initial(), Some(Size::Bytes(1 << 30)));
/// assert_eq!(options.to_string(), "(initial=1GiB, maximum=80%)"); // as in a stack's text
/// ```
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
    /// The race detector is not told which memory is free.
    pub(super) undeclared: bool,
}

/// The choice for a stream if the only free memory that fits is still in use by work of other streams.
///
/// # Examples
///
/// ```
/// use cumem_adaptors::{Crossing, PoolOptions};
///
/// assert_eq!(PoolOptions::new().get_crossing(), Crossing::WaitFirst);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Crossing {
    /// The stream waits for that work, on the device. A stream that has waited a few times makes the pool grow
    /// instead, so that streams do not wait for each other at every kernel.
    #[default]
    WaitFirst,
    /// The pool grows, and the stream waits only if the pool cannot grow. Streams then wait for each other as rarely as
    /// possible.
    GrowFirst,
}

impl PoolOptions {
    /// Does not declare blocks to the race detector of a simulated device. For memory that captured work uses after it was
    /// freed.
    pub(crate) fn undeclared(mut self) -> Self {
        self.undeclared = true;
        self
    }

    /// Creates the default options: no initial memory, no maximum, no release before [`trim`](super::Pool::trim), and
    /// streams wait before the pool grows.
    ///
    /// By default the pool grows by about an eighth of the reserved bytes (2 MiB to 512 MiB), rounded to a whole number
    /// of blocks like the requested one. A block of 50 MiB and more has a chunk of its own, unless rounding to 2 MiB
    /// would add more than a sixtieth. If the upstream has no more than that, the pool grows by the requested block only.
    ///
    /// A wholly free chunk is kept for blocks of at least 1/256 of the size that the chunk was allocated for, because a
    /// small block would make the chunk useless for a large one. If the pool cannot grow, it cuts the chunk.
    ///
    /// Over unified (managed) memory on a device with concurrent managed access, the pool grows by as much as is reserved
    /// already, because unused memory occupies no pages there ([`touched`](super::PoolStats::touched) counts the used
    /// memory).
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::sim::Profile;
    /// use cumem::{CudaResource, Device};
    /// use cumem_adaptors::{PoolOptions, ResourceExt};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// let pool = CudaResource::new(&device).pool(PoolOptions::new())?;
    /// assert_eq!(pool.stats().reserved, 0);
    /// # Ok(())
    /// # }
    /// ```
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the bytes that the pool allocates at construction. If other programs use most of the device's memory, set a
    /// share of the free memory: [`Size::PercentOfFree`].
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::sim::Profile;
    /// use cumem::{CudaResource, Device};
    /// use cumem_adaptors::{PoolOptions, ResourceExt};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// let pool = CudaResource::new(&device).pool(PoolOptions::new().initial(64 << 20))?;
    /// assert_eq!((pool.stats().reserved, pool.stats().free), (64 << 20, 64 << 20));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn initial(mut self, bytes: impl Into<Size>) -> Self {
        self.initial = Some(bytes.into().saturated());
        self
    }

    /// Sets the most bytes that the pool ever holds from its upstream. Over mapped memory, the maximum is rounded down
    /// to whole granules.
    ///
    /// Several chunks can each leave a hole that no block fits into. If all blocks of such a pool have been freed, and
    /// its options have no [`step`](Self::step), the next block therefore replaces the chunks by one. Its size is the
    /// maximum, a half of it, or a half of that, and so on.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::sim::Profile;
    /// use cumem::{Buffer, CudaResource, Device, Stream};
    /// use cumem_adaptors::{PoolOptions, ResourceExt};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// let stream = Stream::new(&device)?;
    /// let pool = CudaResource::new(&device).pool(PoolOptions::new().maximum(4 << 20))?;
    /// let error = Buffer::<u8, _>::zeroed(8 << 20, &stream, &pool).unwrap_err();
    /// assert!(error.is_out_of_memory());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn maximum(mut self, bytes: impl Into<Size>) -> Self {
        self.maximum = Some(bytes.into().saturated());
        self
    }

    /// Sets the bytes to grow by, if the request needs no more. If the upstream refuses, the pool tries half of that,
    /// and half again, down to the bytes that the request needs. The pool does not fit such a chunk to the request: with
    /// a step of 64 MiB, a block of 40 MiB leaves 24 MiB for smaller blocks.
    ///
    /// Pinned memory takes the longest to allocate ([`PinnedResource`](cumem::PinnedResource)), so a larger step than
    /// the default can pay off there.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::sim::Profile;
    /// use cumem::{Buffer, CudaResource, Device, Stream};
    /// use cumem_adaptors::{PoolOptions, ResourceExt};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// let stream = Stream::new(&device)?;
    /// let pool = CudaResource::new(&device).pool(PoolOptions::new().step(64 << 20))?;
    /// let _small = Buffer::<u8, _>::zeroed(1000, &stream, &pool)?;
    /// assert_eq!(pool.stats().reserved, 64 << 20);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn step(mut self, bytes: impl Into<Size>) -> Self {
        self.step = Some(bytes.into().saturated());
        self
    }

    /// Frees chunks as soon as all their blocks have been freed, while more than this is reserved. Without a threshold,
    /// the pool frees chunks only in [`trim`](super::Pool::trim), when it is out of memory, and when it is dropped.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::sim::Profile;
    /// use cumem::{Buffer, CudaResource, Device, Stream};
    /// use cumem_adaptors::{PoolOptions, ResourceExt};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// let stream = Stream::new(&device)?;
    /// let pool = CudaResource::new(&device).pool(PoolOptions::new().step(2 << 20).release_threshold(0))?;
    /// drop(Buffer::<u8, _>::zeroed(1000, &stream, &pool)?);
    /// assert_eq!(pool.stats().reserved, 0); // without the threshold, the pool keeps the 2 MiB
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn release_threshold(mut self, bytes: impl Into<Size>) -> Self {
        self.release_threshold = Some(bytes.into().saturated());
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
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::sim::Profile;
    /// use cumem::{CudaVirtualResource, Device};
    /// use cumem_adaptors::{PoolOptions, ResourceExt, Size};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// let options = PoolOptions::new().slack(Size::Percent(10));
    /// let pool = CudaVirtualResource::new(&device)?.pool(options)?;
    /// assert!(pool.to_string().starts_with("pool(slack=10%) over virtual"));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn slack(mut self, slack: impl Into<Size>) -> Self {
        self.slack = Some(slack.into().saturated());
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
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::sim::Profile;
    /// use cumem::{Buffer, CudaResource, Device, Stream};
    /// use cumem_adaptors::{PoolOptions, ResourceExt};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// let stream = Stream::new(&device)?;
    /// let pool = CudaResource::new(&device).pool(PoolOptions::new().divisions(4))?;
    /// let _block = Buffer::<u8, _>::zeroed(1_100_000, &stream, &pool)?; // 1.05 MiB
    /// assert_eq!(pool.stats().allocated, 1_310_720); // 1.25 MiB
    /// # Ok(())
    /// # }
    /// ```
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
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::sim::Profile;
    /// use cumem::{Buffer, CudaResource, Device, Stream};
    /// use cumem_adaptors::{PoolOptions, ResourceExt};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// let stream = Stream::new(&device)?;
    /// let pool = CudaResource::new(&device).pool(PoolOptions::new().up_to(64 << 10))?;
    /// let _large = Buffer::<u8, _>::zeroed(1 << 20, &stream, &pool)?; // from the leaf
    /// assert_eq!(pool.stats().reserved, 0);
    /// let _small = Buffer::<u8, _>::zeroed(1000, &stream, &pool)?;
    /// assert_eq!(pool.stats().allocated, 1024);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn up_to(mut self, bytes: impl Into<Size>) -> Self {
        self.up_to = Some(bytes.into().saturated());
        self
    }

    /// Sets whether streams wait for each other before the pool grows, or after.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem_adaptors::{Crossing, PoolOptions};
    ///
    /// let options = PoolOptions::new().crossing(Crossing::GrowFirst);
    /// assert_eq!(options.to_string(), "(grow_first)");
    /// ```
    #[must_use]
    pub fn crossing(mut self, crossing: Crossing) -> Self {
        self.crossing = crossing;
        self
    }

    /// Returns the bytes that the pool allocates at construction, if [set](Self::initial).
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem_adaptors::{PoolOptions, Size};
    /// assert_eq!(PoolOptions::new().initial(1 << 30).get_initial(), Some(Size::Bytes(1 << 30)));
    /// assert_eq!(PoolOptions::new().get_initial(), None);
    /// ```
    pub fn get_initial(&self) -> Option<Size> {
        self.initial
    }

    /// Returns the most bytes that the pool ever holds, if [set](Self::maximum).
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem_adaptors::{PoolOptions, Size};
    /// assert_eq!(PoolOptions::new().maximum(Size::Percent(80)).get_maximum(), Some(Size::Percent(80)));
    /// assert_eq!(PoolOptions::new().get_maximum(), None);
    /// ```
    pub fn get_maximum(&self) -> Option<Size> {
        self.maximum
    }

    /// Returns the bytes to grow by, if [set](Self::step).
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem_adaptors::{PoolOptions, Size};
    /// assert_eq!(PoolOptions::new().step(64 << 20).get_step(), Some(Size::Bytes(64 << 20)));
    /// assert_eq!(PoolOptions::new().get_step(), None);
    /// ```
    pub fn get_step(&self) -> Option<Size> {
        self.step
    }

    /// Returns the reserved bytes above which the pool frees chunks early, if [set](Self::release_threshold).
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem_adaptors::{PoolOptions, Size};
    /// assert_eq!(PoolOptions::new().release_threshold(1 << 30).get_release_threshold(), Some(Size::Bytes(1 << 30)));
    /// assert_eq!(PoolOptions::new().get_release_threshold(), None);
    /// ```
    pub fn get_release_threshold(&self) -> Option<Size> {
        self.release_threshold
    }

    /// Returns how much more than the live bytes the pool may hold, if [set](Self::slack).
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem_adaptors::{PoolOptions, Size};
    /// assert_eq!(PoolOptions::new().slack(Size::Percent(10)).get_slack(), Some(Size::Percent(10)));
    /// assert_eq!(PoolOptions::new().get_slack(), None);
    /// ```
    pub fn get_slack(&self) -> Option<Size> {
        self.slack
    }

    /// Returns the number of sizes between two powers of two, if [set](Self::divisions).
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem_adaptors::PoolOptions;
    /// assert_eq!(PoolOptions::new().divisions(8).get_divisions(), Some(8));
    /// ```
    pub fn get_divisions(&self) -> Option<u32> {
        self.divisions
    }

    /// Returns the largest request that the pool serves itself, if [set](Self::up_to).
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem_adaptors::{PoolOptions, Size};
    /// assert_eq!(PoolOptions::new().up_to(1 << 20).get_up_to(), Some(Size::Bytes(1 << 20)));
    /// assert_eq!(PoolOptions::new().get_up_to(), None);
    /// ```
    pub fn get_up_to(&self) -> Option<Size> {
        self.up_to
    }

    /// Returns whether streams wait for each other before the pool grows, or after.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem_adaptors::{Crossing, PoolOptions};
    /// assert_eq!(PoolOptions::new().crossing(Crossing::GrowFirst).get_crossing(), Crossing::GrowFirst);
    /// ```
    pub fn get_crossing(&self) -> Crossing {
        self.crossing
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
