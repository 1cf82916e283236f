//! [`TrackingState`]: the records of the live blocks.
#![forbid(unsafe_code)]

use super::options::TrackingOptions;
use super::report::{TrackedBlock, TrackingReport};
use super::tag_counts::{TagCounts, tag_hash};
use crate::at_exit::{AtExit, at_exit};
use crate::parts::Parts;
use crate::per_thread::{PARTS, thread_number};
use crate::profile::ProfileReport;
use crate::tags;
use crate::thread_id::{thread_id, thread_name};
use cumem::error::{DropError, catch_drop_panic, record_drop_error};
use cumem::resource::MakerId;
use cumem::{Block, DeviceId, Stream};
use std::backtrace::Backtrace;
use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};
use std::io::{Write as _, stderr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

/// Two blocks of different makers may have one address, for example on two simulated devices.
pub(super) type Key = (u64, MakerId);

/// What is known of a live block.
pub(super) struct Record {
    id: u64,
    size: usize,
    since: Instant,
    stream: u64,
    thread: u32,
    thread_name: Option<Arc<str>>,
    tag: Option<Arc<str>>,
    trace: Option<Arc<Backtrace>>,
}

/// A hash of addresses, which are different already. The default hash takes longer than the rest of a look-up.
#[derive(Default)]
struct AddressHasher(u64);

impl Hasher for AddressHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_u64(byte.into()));
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(number.into());
    }

    fn write_u64(&mut self, number: u64) {
        // The low bits of an address are zero, and the map uses the low and the high bits of the hash.
        let product = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = product ^ (product >> 32);
    }
}

type Records = HashMap<Key, Record, BuildHasherDefault<AddressHasher>>;

struct Shared {
    /// The records, in parts by address.
    records: Parts<Records>,
    next_id: Parts<u64>,
    /// The figures of each tag, in parts by tag.
    tags: Parts<HashMap<Arc<str>, TagCounts>>,
    unknown_frees: AtomicU64,
    options: TrackingOptions,
    device: DeviceId,
}

/// The live blocks of a [`Tracking`](super::Tracking).
///
/// # Examples
///
/// ```
/// use cumem::sim::Profile;
/// use cumem::{AnyResource, Buffer, CudaResource, Device, LayerExt, Stream};
/// use cumem_adaptors::{ResourceExt, TrackingOptions, TrackingState};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::simulated(Profile::default())?;
/// let stack = AnyResource::new(CudaResource::new(&device).tracking(TrackingOptions::new()));
/// let buffer = Buffer::<u8, _>::zeroed(1000, &Stream::new(&device)?, &stack)?;
/// let live = stack.find::<TrackingState>().unwrap().live();
/// assert_eq!((live.len(), live[0].size, live[0].addr), (1, 1000, buffer.device_address()));
/// # Ok(())
/// # }
/// ```
pub struct TrackingState {
    shared: Arc<Shared>,
    /// False once the adaptor was removed. Its blocks are then the upstream's.
    reports: bool,
}

impl TrackingState {
    pub(super) fn new(device: DeviceId, options: TrackingOptions) -> Self {
        let shared = Shared {
            records: Parts::default(),
            next_id: Parts::default(),
            tags: Parts::default(),
            unknown_frees: AtomicU64::new(0),
            options,
            device,
        };
        let shared = Arc::new(shared);
        at_exit(Arc::downgrade(&shared) as _);
        Self { shared, reports: true }
    }

    /// Makes the drop report nothing.
    pub(super) fn removed(&mut self) {
        self.reports = false;
    }

    /// Returns the live blocks, oldest first. Blocks of zero bytes have no memory and are not tracked. Blocks that other
    /// threads allocate or free at the same time may be missing or may be free already.
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
    /// for block in stack.state().live() {
    ///     assert_eq!((block.size, block.stream), (1000, stream.as_raw()));
    /// }
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn live(&self) -> Vec<TrackedBlock> {
        self.shared.live()
    }

    /// Returns the live blocks as a report, whose text lists them.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{CudaResource, Device};
    /// # use cumem_adaptors::{ResourceExt, TrackingOptions};
    /// # let device = Device::simulated(Profile::default())?;
    /// let stack = CudaResource::new(&device).tracking(TrackingOptions::new());
    /// assert_eq!(stack.state().report().to_string(), "0 bytes in 0 blocks are live");
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn report(&self) -> TrackingReport {
        TrackingReport::new(self.live())
    }

    /// Returns the number of frees of blocks that were not allocated through this adaptor, for example because they
    /// were allocated before it was added. Such frees are passed to the upstream.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{CudaResource, Device, MemoryResource, Stream, layout};
    /// # use cumem_adaptors::{ResourceExt, TrackingOptions};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let leaf = CudaResource::new(&device);
    /// let early = leaf.allocate(&stream, layout::bytes(1000)?)?;
    /// let stack = leaf.tracking(TrackingOptions::new());
    /// // SAFETY: the leaf of the stack made the block, and nothing uses it.
    /// unsafe { stack.deallocate(&stream, early) }?;
    /// assert_eq!(stack.state().unknown_frees(), 1);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn unknown_frees(&self) -> u64 {
        self.shared.unknown_frees.load(Relaxed)
    }

    pub(super) fn takes_traces(&self) -> bool {
        self.shared.options.traces_from.is_some()
    }

    #[inline]
    pub(super) fn allocated(&self, block: &Block, stream: &Stream) {
        if block.size() == 0 {
            return;
        }
        let traced = self.shared.options.traces_from.is_some_and(|bytes| block.size() >= bytes);
        let record = Record {
            id: self.shared.next_id(),
            size: block.size(),
            since: Instant::now(),
            stream: stream.as_raw(),
            thread: thread_id(),
            thread_name: thread_name(),
            tag: tags::current(),
            trace: traced.then(|| Arc::new(Backtrace::force_capture())),
        };
        self.shared.count(&record, |counts| counts.allocated(block.size() as u64));
        self.put((block.addr(), block.maker()), record);
    }

    /// Returns the figures of each [tag](crate::tags) that a block had: the number of allocations, their bytes, and the
    /// largest sum of bytes that was live at once.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, Stream};
    /// # use cumem_adaptors::{ResourceExt, TrackingOptions};
    /// use cumem_adaptors::tags::tag;
    ///
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let stack = CudaResource::new(&device).tracking(TrackingOptions::new());
    /// for _ in 0..3 {
    ///     let _tag = tag("activations");
    ///     drop(Buffer::<u8, _>::zeroed(4096, &stream, &stack)?);
    /// }
    /// let row = &stack.state().profile().rows[0];
    /// assert_eq!((&*row.name, row.calls, row.total_bytes, row.peak_bytes), ("activations", 3, 3 * 4096, 4096));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn profile(&self) -> ProfileReport {
        let rows = self.shared.tags.each().flat_map(|part| part.iter().map(TagCounts::row).collect::<Vec<_>>());
        ProfileReport::new(rows.collect())
    }

    #[inline]
    fn put(&self, key: Key, record: Record) {
        let replaced = self.shared.records.of(key.0).insert(key, record);
        // After the lock is released, because a trace is large.
        drop(replaced);
    }

    /// Removes the record of a block that is about to be freed.
    #[inline]
    pub(super) fn take(&self, key: Key, size: usize) -> Option<Record> {
        if size == 0 {
            return None;
        }
        let record = self.shared.records.of(key.0).remove(&key);
        match &record {
            Some(record) => self.shared.count(record, |counts| counts.freed(record.size as u64)),
            None => _ = self.shared.unknown_frees.fetch_add(1, Relaxed),
        }
        record
    }

    /// Puts back the record of a block that the upstream did not accept.
    #[cold]
    pub(super) fn not_freed(&self, key: Key, record: Record) {
        self.shared.count(&record, |counts| counts.live_again(record.size as u64));
        self.put(key, record);
    }
}

impl Shared {
    /// Returns a number that no other block has. Threads count separately, so that none waits for another one.
    #[inline]
    fn next_id(&self) -> u64 {
        let mut count = self.next_id.mine();
        *count += 1;
        *count * PARTS as u64 + (thread_number() % PARTS) as u64
    }

    /// Changes the counts of the tag of a block.
    #[inline]
    fn count(&self, record: &Record, change: impl FnOnce(&mut TagCounts)) {
        if let Some(tag) = &record.tag {
            let mut part = self.tags.of(tag_hash(tag));
            change(part.entry(Arc::clone(tag)).or_default());
        }
    }

    fn live(&self) -> Vec<TrackedBlock> {
        let now = Instant::now();
        let mut live = Vec::new();
        for part in self.records.each() {
            live.extend(part.iter().map(|((addr, _), record)| TrackedBlock {
                id: record.id,
                addr: *addr,
                size: record.size,
                age: now.saturating_duration_since(record.since),
                stream: record.stream,
                thread: record.thread,
                thread_name: record.thread_name.clone(),
                tag: record.tag.clone(),
                trace: record.trace.clone(),
            }));
        }
        live.sort_by_key(|block| std::cmp::Reverse(block.age));
        live
    }

    /// Calls the user's function, or else `default`, if any block is live.
    fn report_leaks(&self, default: impl FnOnce(TrackingReport)) {
        let report = TrackingReport::new(self.live());
        if report.blocks.is_empty() {
            return;
        }
        match &self.options.on_leak {
            Some(on_leak) => _ = catch_drop_panic("tracking", Some(self.device), || on_leak(&report)),
            None => default(report),
        }
    }
}

impl AtExit for Shared {
    fn at_exit(&self) {
        self.report_leaks(|report| {
            // Standard error may be closed, and then there is no place for the report.
            let _ = writeln!(stderr(), "at the end of the process, {report}");
        });
    }
}

impl Drop for TrackingState {
    fn drop(&mut self) {
        if self.reports {
            let device = self.shared.device;
            self.shared.report_leaks(|report| record_drop_error("tracking", Err(Leaked { report, device })));
        }
    }
}

impl fmt::Debug for TrackingState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrackingState").field("live", &self.live().len()).finish_non_exhaustive()
    }
}

/// The blocks that were live when their stack was dropped.
struct Leaked {
    report: TrackingReport,
    device: DeviceId,
}

impl fmt::Display for Leaked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.report.fmt(f)
    }
}

impl DropError for Leaked {
    fn device(&self) -> Option<DeviceId> {
        Some(self.device)
    }
}
