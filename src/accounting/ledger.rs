//! [`Ledger`]: counts what is asked and what moves.

use super::pattern::{AccessPattern, Step};
use super::report::{Cause, Moved, MovedRow, Report, Row};
use super::tags::{Tagged, Tags};
use super::{Asked, close, open};
use crate::device::Device;
use crate::driver::sim::{Movement, Watcher};
use crate::location::Location;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

/// Counts from when it is made until it is dropped. Several may count at once.
#[derive(Debug)]
pub struct Ledger {
    inner: Arc<Inner>,
}

#[derive(Debug)]
pub(super) struct Inner {
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
        if let Some(simulator) = device.simulator() {
            let watcher: Weak<Books> = Arc::downgrade(&books);
            simulator.watch(watcher);
        }
        let inner = Arc::new(Inner { device: device.clone(), books });
        open(&inner);
        Self { inner }
    }

    /// Counts under this name until the result goes. Phases nest: the innermost counts. They are those of all threads.
    pub fn phase(&self, name: impl AsRef<str>) -> Phase<'_> {
        let mut state = self.inner.books.lock();
        let id = state.next_phase;
        state.next_phase += 1;
        state.phases.push((id, name.as_ref().into()));
        Phase { ledger: self, id }
    }

    /// Counts what is asked of these bytes, and what moves of them, under a name until the result goes. Where tags lie
    /// over each other, the latest counts. The result keeps the ledger's books, and need not go before the ledger.
    pub fn tag(&self, addr: u64, bytes: usize, name: impl AsRef<str>) -> Tag {
        let mut state = self.inner.books.lock();
        let name: Arc<str> = name.as_ref().into();
        let memory = state.written.as_mut().map(|written| written.pattern.memory(&*name, bytes));
        let id = state.tags.add(Tagged { bytes: addr..addr.saturating_add(bytes as u64), name, memory });
        Tag { books: Arc::clone(&self.inner.books), id }
    }

    /// Writes down, for [`pattern`](Self::pattern), what is done to memory that is tagged from now on: at most `most`
    /// steps.
    pub fn write_down(&self, most: usize) {
        let mut state = self.inner.books.lock();
        state.tags.forget_numbers();
        state.written = Some(Written { pattern: AccessPattern::new(), most });
    }

    /// What was written down so far.
    pub fn pattern(&self) -> AccessPattern {
        self.inner.books.lock().written.as_ref().map(|written| written.pattern.clone()).unwrap_or_default()
    }

    /// What was counted so far.
    pub fn report(&self) -> Report {
        let state = self.inner.books.lock();
        let row = |((tag, phase, cause, to), figures): (&Key, &Figures)| Row {
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
        Report { rows, moved: self.inner.device.is_simulated().then(moved) }
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        close(&self.inner);
    }
}

impl Inner {
    pub(super) fn note(&self, device: &Device, asked: Asked, took: Option<Duration>) {
        if !device.id().same_machine(self.device.id()) {
            return;
        }
        let Asked { cause, to, addr, bytes } = asked;
        let mut state = self.books.lock();
        let tagged = state.tags.at(addr);
        // What is tagged in part is written down in part.
        let place = tagged.map(|Tagged { bytes: tagged, memory, .. }| {
            let end = addr.saturating_add(bytes as u64).min(tagged.end);
            (*memory, (addr - tagged.start) as usize..(end - tagged.start) as usize)
        });
        let tag = name_of(tagged);
        let phase = state.phase();
        let figures = state.rows.entry((tag, phase, cause, to)).or_default();
        figures.calls += 1;
        figures.bytes += bytes as u64;
        if let Some(took) = took {
            *figures.time.get_or_insert_default() += took;
        }
        // The kernels of a simulated device say more than the uses that were declared for them.
        let known = cause == Cause::DeviceUse && device.is_simulated();
        if let (Some((Some(memory), range)), Some(written), false) = (place, &mut state.written, known)
            && written.pattern.steps().len() < written.most
        {
            Step::of(cause, to, memory, range).into_iter().for_each(|step| written.pattern.push(step));
        }
    }
}

impl Books {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
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
        let inner = &self.ledger.inner;
        let mut state = inner.books.lock();
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
