//! [`Ledger`]: counts what is asked and what moves.

use super::pattern::{AccessPattern, Step};
use super::report::{Cause, LedgerReport, LedgerRow, Moved, MovedRow};
use super::tags::{Tagged, Tags};
use crate::device::Device;
use crate::device::notice::{Interest, Listener, Notice};
use cumem_driver::{AccessMode, DeviceId, Location};
use cumem_driver::{Movement, Watcher};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

/// Counts from when it is made until it is dropped. Several may count at once.
#[derive(Debug)]
pub struct Ledger {
    device: Device,
    books: Arc<Books>,
}

/// Without the device: the simulator, which is locked meanwhile, tells it what moved.
#[derive(Debug, Default)]
struct Books {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    rows: BTreeMap<Key, Figures>,
    tags: Tags,
    phases: Vec<(u64, Arc<str>)>,
    next_phase: u64,
    /// What moved, by tag and phase.
    moved: BTreeMap<(Arc<str>, Arc<str>), Moved>,
    written: Option<Written>,
}

/// Tag, phase, cause, target.
type Key = (Arc<str>, Arc<str>, Cause, Location);

#[derive(Debug, Default)]
struct Figures {
    calls: u64,
    bytes: u64,
    time: Option<Duration>,
}

#[derive(Debug)]
struct Written {
    pattern: AccessPattern,
    most: usize,
}

impl Ledger {
    /// Counts what is asked of memory on the devices of this one's machine.
    pub fn new(device: &Device) -> Self {
        let books = Arc::<Books>::default();
        if let Some(model) = device.model() {
            let watcher: Weak<Books> = Arc::downgrade(&books);
            model.watch(watcher);
        }
        let listener: Weak<Books> = Arc::downgrade(&books);
        device.machine().listen(listener);
        Self { device: device.clone(), books }
    }

    /// Counts under this name until the result goes. Phases nest: the innermost counts. They are those of all threads.
    pub fn phase(&self, name: impl AsRef<str>) -> Phase<'_> {
        let mut state = self.books.lock();
        let id = state.next_phase;
        state.next_phase += 1;
        state.phases.push((id, name.as_ref().into()));
        Phase { ledger: self, id }
    }

    /// Counts what is asked of these bytes, and what moves of them, under a name until the result goes. Where tags lie
    /// over each other, the latest counts. The result keeps the ledger's books, and need not go before the ledger.
    pub fn tag(&self, addr: u64, bytes: usize, name: impl AsRef<str>) -> Tag {
        let mut state = self.books.lock();
        let name: Arc<str> = name.as_ref().into();
        let memory = state.written.as_mut().map(|written| written.pattern.memory(&*name, bytes));
        let id = state.tags.add(Tagged { bytes: addr..addr.saturating_add(bytes as u64), name, memory });
        Tag { books: Arc::clone(&self.books), id }
    }

    /// Writes down, for [`pattern`](Self::pattern), what is done to memory that is tagged from now on: at most `most`
    /// steps.
    pub fn write_down(&self, most: usize) {
        let mut state = self.books.lock();
        state.tags.forget_numbers();
        state.written = Some(Written { pattern: AccessPattern::new(), most });
    }

    /// What was written down so far.
    pub fn pattern(&self) -> AccessPattern {
        self.books.lock().written.as_ref().map(|written| written.pattern.clone()).unwrap_or_default()
    }

    /// What was counted so far.
    pub fn report(&self) -> LedgerReport {
        let state = self.books.lock();
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
        let listener: Weak<dyn Listener> = Arc::downgrade(&self.books) as Weak<dyn Listener>;
        self.device.machine().stop_listening(&listener);
    }
}

/// What was asked of memory.
#[derive(Debug, Clone, Copy)]
struct Asked {
    cause: Cause,
    /// Where the bytes were to go, or be used.
    to: Location,
    addr: u64,
    bytes: usize,
}

impl Listener for Books {
    fn interest(&self) -> Interest {
        Interest::PREFETCHED | Interest::HOST_ACCESS | Interest::DEVICE_USE | Interest::LAUNCHED | Interest::COPIED
    }

    fn hear(&self, device: DeviceId, notice: &Notice<'_>) {
        let mut state = self.lock();
        match *notice {
            Notice::Prefetched { addr, bytes, to } => {
                state.note(device, Asked { cause: Cause::Prefetched, to, addr, bytes }, None);
            }
            Notice::HostAccess { addr, bytes, write } => {
                let cause = if write { Cause::HostWrite } else { Cause::HostRead };
                state.note(device, Asked { cause, to: Location::Host, addr, bytes }, None);
            }
            Notice::DeviceUse { addr, bytes } => {
                state.note(device, Asked { cause: Cause::DeviceUse, to: device.into(), addr, bytes }, None);
            }
            Notice::Launched { accesses } => {
                for access in accesses {
                    let write = access.mode == AccessMode::Write;
                    let cause = if write { Cause::KernelWrite } else { Cause::KernelRead };
                    state.note(
                        device,
                        Asked { cause, to: device.into(), addr: access.addr, bytes: access.bytes },
                        None,
                    );
                }
            }
            Notice::Copied { addr, bytes, to, took } => {
                let cause = if let Location::Device(_) = to { Cause::Upload } else { Cause::Download };
                state.note(device, Asked { cause, to, addr, bytes }, Some(took));
            }
            Notice::Allocated | Notice::Freed { .. } | Notice::Advised { .. } => {}
        }
    }
}

impl Books {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn note(&mut self, device: DeviceId, asked: Asked, took: Option<Duration>) {
        let Asked { cause, to, addr, bytes } = asked;
        let tagged = self.tags.at(addr);
        // What is tagged in part is written down in part.
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
        // The kernels of a simulated device say more than the uses that were declared for them.
        let known = cause == Cause::DeviceUse && device.is_simulated();
        if let (Some((Some(memory), range)), Some(written), false) = (place, &mut self.written, known)
            && written.pattern.steps().len() < written.most
        {
            Step::of(cause, to, memory, range).into_iter().for_each(|step| written.pattern.push(step));
        }
    }

    fn phase(&self) -> Arc<str> {
        self.phases.last().map_or_else(|| "".into(), |(_, name)| Arc::clone(name))
    }

    /// Counts what moved under its tags and the present phase. What is tagged in part counts in part, but occurrences
    /// count once.
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

impl Watcher for Books {
    fn saw(&self, movements: &[Movement]) {
        let mut state = self.lock();
        movements.iter().for_each(|movement| state.count(movement));
    }
}

fn name_of(tagged: Option<&Tagged>) -> Arc<str> {
    tagged.map_or_else(|| "".into(), |tagged| Arc::clone(&tagged.name))
}

/// A phase of a [`Ledger`], until it goes.
#[derive(Debug)]
#[must_use = "a phase lasts until it goes"]
pub struct Phase<'a> {
    ledger: &'a Ledger,
    id: u64,
}

impl Drop for Phase<'_> {
    fn drop(&mut self) {
        let mut state = self.ledger.books.lock();
        state.phases.retain(|(id, _)| *id != self.id);
    }
}

/// Memory that a [`Ledger`] counts under a name, until it goes.
#[derive(Debug)]
#[must_use = "a tag lasts until it goes"]
pub struct Tag {
    books: Arc<Books>,
    id: u64,
}

impl Drop for Tag {
    fn drop(&mut self) {
        self.books.lock().tags.remove(self.id);
    }
}
