//! [`Ledger`]: counts what is asked and what moves.

use super::pattern::{AccessPattern, Step};
use super::report::{Cause, Moved, Report, Row};
use super::{Asked, close, open};
use crate::device::Device;
use crate::location::Location;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Counts from when it is made until it is dropped. Several may count at once.
#[derive(Debug)]
pub struct Ledger {
    inner: Arc<Inner>,
}

#[derive(Debug)]
pub(super) struct Inner {
    device: Device,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    rows: BTreeMap<Key, Figures>,
    /// Tagged memory by its first byte.
    tags: BTreeMap<u64, Tagged>,
    phases: Vec<(u64, Arc<str>)>,
    next_phase: u64,
    moved: BTreeMap<Arc<str>, Moved>,
    /// The simulator's figures when they were last looked at.
    seen: Moved,
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
struct Tagged {
    end: u64,
    name: Arc<str>,
    /// Its number in the pattern that is written down.
    memory: Option<usize>,
}

#[derive(Debug)]
struct Written {
    pattern: AccessPattern,
    most: usize,
}

impl Ledger {
    /// Counts what is asked of memory on the devices of this one's machine.
    pub fn new(device: &Device) -> Self {
        let state = State { seen: moved(device), ..State::default() };
        let inner = Arc::new(Inner { device: device.clone(), state: Mutex::new(state) });
        open(&inner);
        Self { inner }
    }

    /// Counts under this name until the result goes. Phases nest: the innermost counts. They are those of all threads.
    pub fn phase(&self, name: impl AsRef<str>) -> Phase<'_> {
        let mut state = self.inner.lock();
        state.look(&self.inner.device);
        let id = state.next_phase;
        state.next_phase += 1;
        state.phases.push((id, name.as_ref().into()));
        Phase { ledger: self, id }
    }

    /// Counts what is asked of these bytes under a name until the result goes. It keeps the ledger's books, and need not go
    /// before the ledger.
    pub fn tag(&self, addr: u64, bytes: usize, name: impl AsRef<str>) -> Tag {
        let mut state = self.inner.lock();
        let name: Arc<str> = name.as_ref().into();
        let memory = state.written.as_mut().map(|written| written.pattern.memory(&*name, bytes));
        state.tags.insert(addr, Tagged { end: addr.saturating_add(bytes as u64), name, memory });
        Tag { inner: Arc::clone(&self.inner), addr }
    }

    /// Writes down, for [`pattern`](Self::pattern), what is done to memory that is tagged from now on: at most `most`
    /// steps.
    pub fn write_down(&self, most: usize) {
        self.inner.lock().written = Some(Written { pattern: AccessPattern::new(), most });
    }

    /// What was written down so far.
    pub fn pattern(&self) -> AccessPattern {
        self.inner.lock().written.as_ref().map(|written| written.pattern.clone()).unwrap_or_default()
    }

    /// What was counted so far.
    pub fn report(&self) -> Report {
        let mut state = self.inner.lock();
        state.look(&self.inner.device);
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
        let by_phase = || state.moved.iter().map(|(phase, moved)| (phase.to_string(), *moved)).collect();
        Report { rows, moved: self.inner.device.is_simulated().then(by_phase) }
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
        let mut state = self.lock();
        let tagged = state.tags.range(..=addr).next_back().filter(|(_, tagged)| addr < tagged.end);
        let place = tagged.map(|(start, tagged)| (addr - start, tagged.memory));
        let tag = tagged.map_or_else(|| "".into(), |(_, tagged)| Arc::clone(&tagged.name));
        let phase = state.phase();
        let figures = state.rows.entry((tag, phase, cause, to)).or_default();
        figures.calls += 1;
        figures.bytes += bytes as u64;
        if let Some(took) = took {
            *figures.time.get_or_insert_default() += took;
        }
        // The kernels of a simulated device say more than the uses that were declared for them.
        let known = cause == Cause::DeviceUse && device.is_simulated();
        if let (Some((offset, Some(memory))), Some(written), false) = (place, &mut state.written, known)
            && written.pattern.steps().len() < written.most
        {
            let range = offset as usize..offset as usize + bytes;
            Step::of(cause, to, memory, range).into_iter().for_each(|step| written.pattern.push(step));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn phase(&self) -> Arc<str> {
        self.phases.last().map_or_else(|| "".into(), |(_, name)| Arc::clone(name))
    }

    /// Counts what moved since the last look under the present phase.
    fn look(&mut self, device: &Device) {
        let now = moved(device);
        let difference = now.since(&self.seen);
        if difference != Moved::default() {
            let sum = self.moved.entry(self.phases.last().map_or_else(|| "".into(), |(_, name)| Arc::clone(name)));
            let sum = sum.or_default();
            *sum = sum.plus(&difference);
        }
        self.seen = now;
    }
}

/// What has moved on the machine of a simulated device; nothing is known of a GPU's.
fn moved(device: &Device) -> Moved {
    let Some(simulator) = device.simulator() else { return Moved::default() };
    let devices = 0..simulator.profiles().len() as u32;
    Moved::of(devices.filter_map(|ordinal| simulator.statistics(device.id().sibling(ordinal))))
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
        let mut state = inner.lock();
        state.look(&inner.device);
        state.phases.retain(|(id, _)| *id != self.id);
    }
}

/// Memory that a [`Ledger`] counts under a name, until it goes.
#[derive(Debug)]
#[must_use = "a tag lasts until it goes"]
pub struct Tag {
    inner: Arc<Inner>,
    addr: u64,
}

impl Drop for Tag {
    fn drop(&mut self) {
        self.inner.lock().tags.remove(&self.addr);
    }
}
