//! [`Ledger`]: counts requests and migrations.

use super::pattern::{AccessPattern, Step};
use super::report::{Cause, LedgerReport, LedgerRow, Moved, MovedRow};
use super::tags::{Tagged, Tags};
use crate::device::Device;
use crate::device::notice::{Interest, Listener, Notice};
use cumem_driver::{AccessMode, DeviceId, Location, Movement, Watcher};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

/// A count of the requests and migrations of a machine, from its creation until it is dropped. Several ledgers may
/// count at the same time.
///
/// # Examples
///
/// ```
/// # use cumem::sim::Profile;
/// # use cumem::{Device, ManagedResource, Stream, UnifiedBuffer};
/// # let device = Device::simulated(Profile::default())?;
/// # let stream = Stream::new(&device)?;
/// use cumem::unified::accounting::{Cause, Ledger};
///
/// let buffer = UnifiedBuffer::<u8, _>::zeroed(1 << 20, &stream, ManagedResource::new(&device)?)?;
/// let ledger = Ledger::new(&device);
/// let _tag = ledger.tag(buffer.block().addr(), buffer.size_bytes(), "weights");
/// drop(buffer.host_read()?);
/// let report = ledger.report();
/// assert_eq!((report.rows[0].tag.as_str(), report.rows[0].cause), ("weights", Cause::HostRead));
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Ledger {
    device: Device,
    accounts: Arc<Accounts>,
}

/// The figures of a ledger. They hold no device, because the simulator notifies them of movements while it is locked.
#[derive(Debug, Default)]
struct Accounts {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    rows: BTreeMap<Key, Figures>,
    tags: Tags,
    phases: Vec<(u64, Arc<str>)>,
    next_phase: u64,
    /// The movements, by tag and phase.
    moved: BTreeMap<(Arc<str>, Arc<str>), Moved>,
    recording: Option<Recording>,
}

/// Tag, phase, cause and target of a row.
type Key = (Arc<str>, Arc<str>, Cause, Location);

#[derive(Debug, Default)]
struct Figures {
    calls: u64,
    bytes: u64,
    time: Option<Duration>,
}

/// A pattern that is being recorded, and the most steps that it may have.
#[derive(Debug)]
struct Recording {
    pattern: AccessPattern,
    most: usize,
}

impl Ledger {
    /// Creates a ledger that counts on all devices of this device's machine.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Device, ManagedResource, Stream, UnifiedBuffer};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// use cumem::unified::accounting::Ledger;
    ///
    /// let ledger = Ledger::new(&device);
    /// assert!(ledger.report().rows.is_empty());
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(device: &Device) -> Self {
        let accounts = Arc::<Accounts>::default();
        if let Some(model) = device.model() {
            let watcher: Weak<Accounts> = Arc::downgrade(&accounts);
            model.watch(watcher);
        }
        let listener: Weak<Accounts> = Arc::downgrade(&accounts);
        device.machine().listen(listener);
        Self { device: device.clone(), accounts }
    }

    /// Starts a phase, which lasts until the result is dropped. Phases may be nested; rows carry the name of the
    /// innermost one. A phase covers the requests of all threads.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Device, ManagedResource, Stream, UnifiedBuffer};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// use cumem::unified::accounting::Ledger;
    ///
    /// let buffer = UnifiedBuffer::<u8, _>::zeroed(1 << 20, &stream, ManagedResource::new(&device)?)?;
    /// let ledger = Ledger::new(&device);
    /// let reading = ledger.phase("reading");
    /// drop(buffer.host_read()?);
    /// drop(reading);
    /// assert_eq!(ledger.report().rows[0].phase, "reading");
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn phase(&self, name: impl AsRef<str>) -> Phase<'_> {
        // Before the lock, because `as_ref` is user code.
        let name = name.as_ref().into();
        let mut state = self.accounts.lock();
        let id = state.next_phase;
        state.next_phase += 1;
        state.phases.push((id, name));
        Phase { ledger: self, id }
    }

    /// Tags `bytes` bytes at `addr` with a name until the result is dropped. Rows for these bytes carry the name. If
    /// tags overlap, the latest one counts. The tag may outlive the ledger.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Device, ManagedResource, Stream, UnifiedBuffer};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// use cumem::unified::accounting::Ledger;
    ///
    /// let buffer = UnifiedBuffer::<u8, _>::zeroed(1 << 20, &stream, ManagedResource::new(&device)?)?;
    /// let ledger = Ledger::new(&device);
    /// let tag = ledger.tag(buffer.block().addr(), buffer.size_bytes(), "weights");
    /// drop(buffer.host_read()?);
    /// drop(tag);
    /// assert_eq!(ledger.report().rows[0].tag, "weights");
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn tag(&self, addr: u64, bytes: usize, name: impl AsRef<str>) -> Tag {
        // Before the lock, because `as_ref` is user code.
        let name: Arc<str> = name.as_ref().into();
        let mut state = self.accounts.lock();
        let memory = state.recording.as_mut().map(|recording| recording.pattern.memory(&*name, bytes));
        let id = state.tags.add(Tagged { bytes: addr..addr.saturating_add(bytes as u64), name, memory });
        Tag { accounts: Arc::clone(&self.accounts), id }
    }

    /// Starts to record a [pattern](Self::pattern) of at most `most` steps. It contains the accesses to memory that is
    /// tagged from now on. A pattern that was recorded before is discarded.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Device, ManagedResource, Stream, UnifiedBuffer};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// use cumem::unified::accounting::Ledger;
    ///
    /// let buffer = UnifiedBuffer::<u8, _>::zeroed(1 << 20, &stream, ManagedResource::new(&device)?)?;
    /// let ledger = Ledger::new(&device);
    /// ledger.write_down(1000);
    /// let tag = ledger.tag(buffer.block().addr(), buffer.size_bytes(), "weights");
    /// drop(buffer.host_read()?);
    /// assert_eq!(ledger.pattern().steps().len(), 1);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn write_down(&self, most: usize) {
        let mut state = self.accounts.lock();
        state.tags.clear_indices();
        state.recording = Some(Recording { pattern: AccessPattern::new(), most });
    }

    /// Returns the pattern recorded so far. The pattern is empty before [`write_down`](Self::write_down).
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Device, ManagedResource, Stream, UnifiedBuffer};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// use cumem::unified::accounting::{Ledger, Processor, Step};
    ///
    /// let buffer = UnifiedBuffer::<u8, _>::zeroed(1 << 20, &stream, ManagedResource::new(&device)?)?;
    /// let ledger = Ledger::new(&device);
    /// ledger.write_down(1000);
    /// let tag = ledger.tag(buffer.block().addr(), buffer.size_bytes(), "weights");
    /// drop(buffer.host_read()?);
    /// let pattern = ledger.pattern();
    /// assert_eq!(pattern.memories()[0].name, "weights");
    /// assert!(matches!(pattern.steps()[0], Step::Used { by: Processor::Host, .. }));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn pattern(&self) -> AccessPattern {
        self.accounts.lock().recording.as_ref().map(|recording| recording.pattern.clone()).unwrap_or_default()
    }

    /// Returns the figures counted so far.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Device, ManagedResource, Stream, UnifiedBuffer};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// use cumem::unified::accounting::Ledger;
    ///
    /// let buffer = UnifiedBuffer::<u8, _>::zeroed(1 << 20, &stream, ManagedResource::new(&device)?)?;
    /// let ledger = Ledger::new(&device);
    /// drop(buffer.host_read()?);
    /// drop(buffer.host_read()?);
    /// let row = &ledger.report().rows[0];
    /// assert_eq!((row.calls, row.bytes), (2, 2 << 20));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn report(&self) -> LedgerReport {
        let state = self.accounts.lock();
        let row = |((tag, phase, cause, to), figures): (&Key, &Figures)| LedgerRow {
            tag: tag.to_string(),
            phase: phase.to_string(),
            cause: *cause,
            to: *to,
            calls: figures.calls,
            bytes: figures.bytes,
            time: figures.time,
        };
        let rows = state.rows.iter().map(row).collect();
        let moved_row = |((tag, phase), moved): (&(Arc<str>, Arc<str>), &Moved)| MovedRow {
            tag: tag.to_string(),
            phase: phase.to_string(),
            moved: *moved,
        };
        let moved = || state.moved.iter().map(moved_row).collect();
        LedgerReport { rows, moved: self.device.is_simulated().then(moved) }
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        let listener: Weak<dyn Listener> = Arc::downgrade(&self.accounts) as Weak<dyn Listener>;
        self.device.machine().stop_listening(&listener);
    }
}

/// A request for bytes at a location.
#[derive(Debug, Clone, Copy)]
struct Request {
    cause: Cause,
    /// The location where the bytes are needed.
    to: Location,
    addr: u64,
    bytes: usize,
}

impl Listener for Accounts {
    fn interest(&self) -> Interest {
        Interest::PREFETCHED | Interest::HOST_ACCESS | Interest::DEVICE_USE | Interest::LAUNCHED | Interest::COPIED
    }

    fn hear(&self, device: DeviceId, notice: &Notice<'_>) {
        let mut state = self.lock();
        match *notice {
            Notice::Prefetched { addr, bytes, to } => {
                state.record(device, Request { cause: Cause::Prefetched, to, addr, bytes }, None);
            }
            Notice::HostAccess { addr, bytes, write } => {
                let cause = if write { Cause::HostWrite } else { Cause::HostRead };
                state.record(device, Request { cause, to: Location::Host, addr, bytes }, None);
            }
            Notice::DeviceUse { addr, bytes } => {
                state.record(device, Request { cause: Cause::DeviceUse, to: device.into(), addr, bytes }, None);
            }
            Notice::Launched { accesses } => {
                for access in accesses {
                    let write = access.mode == AccessMode::Write;
                    let cause = if write { Cause::KernelWrite } else { Cause::KernelRead };
                    state.record(
                        device,
                        Request { cause, to: device.into(), addr: access.addr, bytes: access.bytes },
                        None,
                    );
                }
            }
            Notice::Copied { addr, bytes, to, took } => {
                let cause = if let Location::Device(_) = to { Cause::Upload } else { Cause::Download };
                state.record(device, Request { cause, to, addr, bytes }, Some(took));
            }
            Notice::Allocated | Notice::Freed { .. } | Notice::Advised { .. } => {}
        }
    }
}

impl Accounts {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn record(&mut self, device: DeviceId, request: Request, took: Option<Duration>) {
        let Request { cause, to, addr, bytes } = request;
        let tagged = self.tags.at(addr);
        // If only a part of the range is tagged, the pattern gets that part.
        let place = tagged.map(|Tagged { bytes: tagged, memory, .. }| {
            let end = addr.saturating_add(bytes as u64).min(tagged.end);
            (*memory, (addr - tagged.start) as usize..(end - tagged.start) as usize)
        });
        let tag = name_of(tagged);
        let phase = self.phase();
        let figures = self.rows.entry((tag, phase, cause, to)).or_default();
        figures.calls += 1;
        figures.bytes += bytes as u64;
        if let Some(took) = took {
            *figures.time.get_or_insert_default() += took;
        }
        // Kernels of a simulated device list their accesses, so the declared use would count them twice.
        let listed = cause == Cause::DeviceUse && device.is_simulated();
        if let (Some((Some(memory), range)), Some(recording), false) = (place, &mut self.recording, listed)
            && recording.pattern.steps().len() < recording.most
        {
            Step::of(cause, to, memory, range).into_iter().for_each(|step| recording.pattern.push(step));
        }
    }

    fn phase(&self) -> Arc<str> {
        self.phases.last().map_or_else(|| "".into(), |(_, name)| Arc::clone(name))
    }

    /// Counts a movement under its tags and the current phase. Each tag counts its own bytes. A fault or an eviction
    /// counts once, under the first tag.
    fn count(&mut self, movement: &Movement) {
        let (mut at, end) = movement.range();
        if matches!(movement, Movement::Fault { .. } | Movement::Evicted { .. }) {
            let tag = name_of(self.tags.within(at..end));
            *self.moved_of(tag).figure(movement) += 1;
            return;
        }
        while at < end {
            let (tagged, until) = self.tags.run(at..end);
            let tag = name_of(tagged);
            *self.moved_of(tag).figure(movement) += until - at;
            at = until;
        }
    }

    fn moved_of(&mut self, tag: Arc<str>) -> &mut Moved {
        let phase = self.phase();
        self.moved.entry((tag, phase)).or_default()
    }
}

impl Watcher for Accounts {
    fn notify(&self, movements: &[Movement]) {
        let mut state = self.lock();
        movements.iter().for_each(|movement| state.count(movement));
    }
}

fn name_of(tagged: Option<&Tagged>) -> Arc<str> {
    tagged.map_or_else(|| "".into(), |tagged| Arc::clone(&tagged.name))
}

/// A phase of a [`Ledger`], which lasts until this value is dropped.
///
/// # Examples
///
/// ```
/// # use cumem::sim::Profile;
/// # use cumem::{Device, ManagedResource, Stream, UnifiedBuffer};
/// # let device = Device::simulated(Profile::default())?;
/// # let stream = Stream::new(&device)?;
/// use cumem::unified::accounting::Ledger;
///
/// let buffer = UnifiedBuffer::<u8, _>::zeroed(1 << 20, &stream, ManagedResource::new(&device)?)?;
/// let ledger = Ledger::new(&device);
/// let step = ledger.phase("step");
/// let reading = ledger.phase("reading"); // within "step"
/// drop(buffer.host_read()?);
/// assert_eq!(ledger.report().rows[0].phase, "reading");
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "a phase lasts until it is dropped"]
pub struct Phase<'a> {
    ledger: &'a Ledger,
    id: u64,
}

impl Drop for Phase<'_> {
    fn drop(&mut self) {
        let mut state = self.ledger.accounts.lock();
        state.phases.retain(|(id, _)| *id != self.id);
    }
}

/// A name for memory in the rows of a [`Ledger`], which lasts until this value is dropped.
///
/// # Examples
///
/// ```
/// # use cumem::sim::Profile;
/// # use cumem::{Device, ManagedResource, Stream, UnifiedBuffer};
/// # let device = Device::simulated(Profile::default())?;
/// # let stream = Stream::new(&device)?;
/// use cumem::unified::accounting::Ledger;
///
/// let buffer = UnifiedBuffer::<u8, _>::zeroed(1 << 20, &stream, ManagedResource::new(&device)?)?;
/// let ledger = Ledger::new(&device);
/// drop(ledger.tag(buffer.block().addr(), buffer.size_bytes(), "weights"));
/// drop(buffer.host_read()?);
/// assert_eq!(ledger.report().rows[0].tag, ""); // the tag was dropped before
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "a tag lasts until it is dropped"]
pub struct Tag {
    accounts: Arc<Accounts>,
    id: u64,
}

impl Drop for Tag {
    fn drop(&mut self) {
        self.accounts.lock().tags.remove(self.id);
    }
}
