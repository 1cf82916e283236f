//! [`TrackedBlock`] and [`TrackingReport`]: the live blocks as data and as text.
#![forbid(unsafe_code)]

use cumem::error::{HumanBytes, Plural};
use std::backtrace::Backtrace;
use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The number of blocks that the text of a report lists, the largest ones.
const LISTED: usize = 20;

/// A live block.
///
/// # Examples
///
/// ```
/// # use cumem::sim::Profile;
/// # use cumem::{CudaResource, Device, Buffer, Stream};
/// # use cumem_adaptors::{ResourceExt, TrackingOptions};
/// # let device = Device::simulated(Profile::default())?;
/// # let stream = Stream::new(&device)?;
/// let stack = CudaResource::new(&device).tracking(TrackingOptions::new());
/// let _buffer = Buffer::<u8, _>::zeroed(1000, &stream, &stack)?;
/// assert!(stack.state().live()[0].to_string().starts_with("1000 bytes at 0x"));
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct TrackedBlock {
    /// The number of the allocation. No two blocks of one adaptor have the same number.
    pub id: u64,
    /// The address of the first byte.
    pub addr: u64,
    /// Bytes as requested.
    pub size: usize,
    /// The time since the allocation.
    pub age: Duration,
    /// The driver's handle of the stream of the allocation.
    pub stream: u64,
    /// The thread that allocated, as the system counts threads.
    pub thread: u32,
    /// The name of that thread, if it has one.
    pub thread_name: Option<Arc<str>>,
    /// The [tag](crate::tags) that the thread had.
    pub tag: Option<Arc<str>>,
    /// The stack trace of the allocation, if [traces are taken](crate::TrackingOptions::traces_from). Its text needs
    /// debug information.
    pub trace: Option<Arc<Backtrace>>,
}

/// One line, for example `1 MiB at 0x7f0000000000, tag weights, thread 4711 (main), stream 0x2, 1.2 s old`. With `{:#}`
/// the stack trace follows.
impl fmt::Display for TrackedBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {:#x}", HumanBytes(self.size), self.addr)?;
        if let Some(tag) = &self.tag {
            write!(f, ", tag {tag}")?;
        }
        write!(f, ", thread {}", self.thread)?;
        if let Some(name) = &self.thread_name {
            write!(f, " ({name})")?;
        }
        write!(f, ", stream {:#x}, {:.1?} old", self.stream, self.age)?;
        match &self.trace {
            Some(trace) if f.alternate() => write!(f, "\n{trace}"),
            _ => Ok(()),
        }
    }
}

/// All live blocks of a [`Tracking`](crate::Tracking) at one time.
///
/// The text lists the bytes by tag and the twenty largest blocks. With `{:#}` it lists all blocks, with their stack
/// traces.
///
/// # Examples
///
/// ```
/// use cumem::sim::Profile;
/// use cumem::{Buffer, CudaResource, Device, Stream};
/// use cumem_adaptors::tags::tag;
/// use cumem_adaptors::{ResourceExt, TrackingOptions};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::simulated(Profile::default())?;
/// let stream = Stream::new(&device)?;
/// let stack = CudaResource::new(&device).tracking(TrackingOptions::new());
/// let _weights = {
///     let _tag = tag("weights");
///     Buffer::<u8, _>::zeroed(4096, &stream, &stack)?
/// };
/// let _other = Buffer::<u8, _>::zeroed(1024, &stream, &stack)?;
/// let text = stack.state().report().to_string();
/// assert!(text.starts_with("5 KiB in 2 blocks are live\n  weights: 4 KiB in 1 block\n  no tag: 1 KiB in 1 block\n"));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct TrackingReport {
    /// Bytes of all blocks, as requested.
    pub bytes: usize,
    /// The blocks, oldest first.
    pub blocks: Vec<TrackedBlock>,
}

impl TrackingReport {
    pub(super) fn new(blocks: Vec<TrackedBlock>) -> Self {
        Self { bytes: blocks.iter().map(|block| block.size).sum(), blocks }
    }

    /// Returns what has changed since an earlier report of the same adaptor.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, Stream};
    /// # use cumem_adaptors::{ResourceExt, TrackingOptions};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let stack = CudaResource::new(&device).tracking(TrackingOptions::new());
    /// let early = Buffer::<u8, _>::zeroed(1000, &stream, &stack)?;
    /// let before = stack.state().report();
    /// let late = Buffer::<u8, _>::zeroed(4096, &stream, &stack)?;
    /// drop(early);
    /// let diff = stack.state().report().diff(&before);
    /// assert_eq!((diff.allocated.len(), diff.freed.len(), diff.bytes()), (1, 1, 3096));
    /// assert!(diff.to_string().starts_with("3 KiB more in 0 blocks more\n+ 4 KiB at 0x"), "{diff}");
    /// # drop(late);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn diff(&self, earlier: &Self) -> TrackingDiff {
        let only_in = |one: &Self, other: &Self| {
            let known: HashSet<u64> = other.blocks.iter().map(|block| block.id).collect();
            one.blocks.iter().filter(|block| !known.contains(&block.id)).cloned().collect()
        };
        TrackingDiff { allocated: only_in(self, earlier), freed: only_in(earlier, self) }
    }

    /// Returns the bytes and the number of blocks of each tag, the largest first. `None` is the blocks without a tag.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, Stream};
    /// # use cumem_adaptors::{ResourceExt, TrackingOptions};
    /// # let device = Device::simulated(Profile::default())?;
    /// let stack = CudaResource::new(&device).tracking(TrackingOptions::new());
    /// let _buffer = Buffer::<u8, _>::zeroed(4096, &Stream::new(&device)?, &stack)?;
    /// assert_eq!(stack.state().report().by_tag(), [(None, 4096, 1)]);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn by_tag(&self) -> Vec<(Option<Arc<str>>, usize, usize)> {
        let mut tags = BTreeMap::<Option<Arc<str>>, (usize, usize)>::new();
        for block in &self.blocks {
            let (bytes, blocks) = tags.entry(block.tag.clone()).or_default();
            *bytes += block.size;
            *blocks += 1;
        }
        let mut tags: Vec<_> = tags.into_iter().map(|(tag, (bytes, blocks))| (tag, bytes, blocks)).collect();
        tags.sort_by_key(|&(_, bytes, _)| std::cmp::Reverse(bytes));
        tags
    }
}

impl fmt::Display for TrackingReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (bytes, count) = (HumanBytes(self.bytes), self.blocks.len());
        write!(f, "{bytes} in {} {} live", Plural(count, "block"), if count == 1 { "is" } else { "are" })?;
        let tags = self.by_tag();
        if tags.iter().any(|(tag, ..)| tag.is_some()) {
            for (tag, bytes, blocks) in tags {
                let name = tag.as_deref().unwrap_or("no tag");
                write!(f, "\n  {name}: {} in {}", HumanBytes(bytes), Plural(blocks, "block"))?;
            }
        }
        if f.alternate() {
            return self.blocks.iter().try_for_each(|block| write!(f, "\n  {block:#}"));
        }
        let mut largest: Vec<&TrackedBlock> = self.blocks.iter().collect();
        largest.sort_by_key(|block| std::cmp::Reverse(block.size));
        largest.iter().take(LISTED).try_for_each(|block| write!(f, "\n  {block}"))?;
        match count.saturating_sub(LISTED) {
            0 => Ok(()),
            more => write!(f, "\n  and {more} more"),
        }
    }
}

/// The difference of two reports. [`TrackingReport::diff`] returns it. Blocks that were allocated and freed between the
/// two are in neither list.
///
/// # Examples
///
/// ```
/// # use cumem::sim::Profile;
/// # use cumem::{CudaResource, Device, Buffer, Stream};
/// # use cumem_adaptors::{ResourceExt, TrackingOptions};
/// # let device = Device::simulated(Profile::default())?;
/// # let stream = Stream::new(&device)?;
/// let stack = CudaResource::new(&device).tracking(TrackingOptions::new());
/// let before = stack.state().report();
/// let _buffer = Buffer::<u8, _>::zeroed(1000, &stream, &stack)?;
/// let diff = stack.state().report().diff(&before);
/// assert!(diff.to_string().starts_with("1000 bytes more in 1 block more\n+ 1000 bytes at 0x"), "{diff}");
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct TrackingDiff {
    /// Blocks that are live in the later report only, oldest first.
    pub allocated: Vec<TrackedBlock>,
    /// Blocks that are live in the earlier report only, oldest first.
    pub freed: Vec<TrackedBlock>,
}

impl TrackingDiff {
    /// Returns the change of the live bytes, negative if more was freed than allocated.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{CudaResource, Device};
    /// # use cumem_adaptors::{ResourceExt, TrackingOptions};
    /// # let device = Device::simulated(Profile::default())?;
    /// let stack = CudaResource::new(&device).tracking(TrackingOptions::new());
    /// let report = stack.state().report();
    /// assert_eq!(report.diff(&report).bytes(), 0);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn bytes(&self) -> i64 {
        let sum = |blocks: &[TrackedBlock]| blocks.iter().map(|block| block.size as i64).sum::<i64>();
        sum(&self.allocated) - sum(&self.freed)
    }

    /// Reports whether both reports list the same blocks.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{CudaResource, Device};
    /// # use cumem_adaptors::{ResourceExt, TrackingOptions};
    /// # let device = Device::simulated(Profile::default())?;
    /// let stack = CudaResource::new(&device).tracking(TrackingOptions::new());
    /// let report = stack.state().report();
    /// assert!(report.diff(&report).is_empty()); // for example at the end of each step of a program
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn is_empty(&self) -> bool {
        self.allocated.is_empty() && self.freed.is_empty()
    }
}

/// The change of bytes and blocks, then a line with `+` for each new block and one with `-` for each freed block.
impl fmt::Display for TrackingDiff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let direction = |change: i64| if change < 0 { "fewer" } else { "more" };
        let (bytes, blocks) = (self.bytes(), self.allocated.len() as i64 - self.freed.len() as i64);
        let of_bytes = if bytes < 0 { "less" } else { "more" };
        let human = HumanBytes(bytes.unsigned_abs() as usize);
        let count = Plural(blocks.unsigned_abs(), "block");
        write!(f, "{human} {of_bytes} in {count} {}", direction(blocks))?;
        self.allocated.iter().try_for_each(|block| write!(f, "\n+ {block}"))?;
        self.freed.iter().try_for_each(|block| write!(f, "\n- {block}"))
    }
}
