//! One thread of a round: random operations on the stacks of the round, and the buffers that it holds.

use super::figures::{Figures, Outcomes};
use super::held::Held;
use super::verdict::{Expected, Verdict};
use super::{blocks, buffers, graphs, managed, services};
use cumem::error::ErrorReport;
use cumem::kind::{Erased, Managed};
use cumem::sim::{FaultCall, Simulator};
use cumem::{AnyResource, Device, DeviceError, Stream};
use cumem_adaptors::ByAddress;
use cumem_conformance::{Contents, Rng};
use std::collections::BTreeMap;
use std::error::Error;
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::time::Instant;

/// The result of one operation.
pub(crate) type Done = Result<(), Box<dyn Error>>;

/// A sentence about something that must not happen.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Wrong(pub(crate) String);

/// What the threads of a round share.
pub(crate) struct Shared<'r> {
    pub(crate) device: &'r Device,
    pub(crate) stack: &'r AnyResource<Erased>,
    pub(crate) managed: Option<&'r AnyResource<Managed>>,
    pub(crate) addresses: ByAddress<&'r AnyResource<Erased>>,
    /// Streams that all threads use.
    pub(crate) streams: Vec<Stream>,
    /// Held for writing while a stream is captured: a wait for the whole device would end the capture.
    pub(crate) captures: RwLock<()>,
    /// Buffers on their way from one thread to another.
    pub(crate) exchange: Mutex<Vec<Held<'r>>>,
    /// The driver calls that fail at random.
    pub(crate) faults: Vec<FaultCall>,
    pub(crate) expected: Expected,
    pub(crate) figures: &'r Figures,
    pub(crate) until: Instant,
}

/// One thread.
pub(crate) struct Worker<'s, 'r> {
    pub(crate) shared: &'s Shared<'r>,
    pub(crate) rng: Rng,
    pub(crate) streams: Vec<Stream>,
    pub(crate) held: Vec<Held<'r>>,
    pub(crate) managed: Vec<managed::HeldManaged<'r>>,
    pub(crate) contents: Contents<Erased>,
    outcomes: BTreeMap<&'static str, Outcomes>,
}

type Operation = for<'a, 's, 'r> fn(&'a mut Worker<'s, 'r>) -> Done;

/// Name, weight, and whether the operation waits for a stream or the device, which captures of other threads do not
/// survive.
const OPERATIONS: &[(&str, usize, bool, Operation)] = &[
    ("upload to a new buffer", 12, true, buffers::create),
    ("fill a new buffer", 8, true, buffers::create_filled),
    ("verify a buffer", 10, true, buffers::verify),
    ("free a buffer", 16, true, buffers::free),
    ("clone a buffer", 4, true, buffers::clone),
    ("copy between buffers", 4, true, buffers::copy),
    ("copy a part", 4, true, buffers::copy_part),
    ("write elements", 4, true, buffers::write_elements),
    ("resize a buffer", 4, true, buffers::resize),
    ("move to another stream", 4, true, buffers::change_stream),
    ("take a buffer apart", 2, true, buffers::take_apart),
    ("give to another thread", 4, true, buffers::exchange),
    ("block over two streams", 20, false, blocks::across_streams),
    ("blocks in a burst", 4, false, blocks::burst),
    ("block by address", 8, false, blocks::by_address),
    ("more than there is", 1, true, blocks::too_much),
    ("capture and launch", 1, false, graphs::capture),
    ("host and device in turn", 4, true, managed::host_and_device),
    ("hints", 3, true, managed::hint),
    ("free managed memory", 3, true, managed::free),
    ("thread's default stream", 1, true, services::short_thread),
    ("default resource", 1, true, services::default_resource),
    ("retry with fewer items", 1, true, services::recover),
    ("largest batch", 1, true, services::fit),
    ("new stream for an old", 1, true, services::replace_stream),
    ("wait for a stream", 6, true, services::synchronize),
];

impl<'s, 'r> Worker<'s, 'r> {
    pub(crate) fn new(shared: &'s Shared<'r>, seed: u64) -> Result<Self, DeviceError> {
        let own = [(); 2].map(|()| Stream::new(shared.device));
        let mut streams = own.into_iter().collect::<Result<Vec<_>, _>>()?;
        streams.extend_from_slice(&shared.streams);
        Ok(Self {
            shared,
            rng: Rng::new(seed),
            streams,
            held: Vec::new(),
            managed: Vec::new(),
            contents: Contents::through_device(shared.device)?,
            outcomes: BTreeMap::new(),
        })
    }

    /// Works until the end of the round.
    pub(crate) fn run(mut self) {
        let total: usize = OPERATIONS.iter().map(|(_, weight, ..)| weight).sum();
        while Instant::now() < self.shared.until {
            self.plan_fault();
            let mut at = self.rng.below(total);
            let chosen = OPERATIONS.iter().find(|(_, weight, ..)| {
                let here = at < *weight;
                at = at.wrapping_sub(*weight);
                here
            });
            if let Some(&(name, _, waits, operation)) = chosen {
                let shared = self.shared;
                let _quiet = waits.then(|| shared.no_capture());
                self.count(name, operation);
            }
        }
        self.finish();
    }

    fn count(&mut self, name: &'static str, operation: Operation) {
        let verdict = operation(self).err().map(|error| self.shared.judge(name, &*error));
        self.outcomes.entry(name).or_default().count(verdict);
        self.shared.figures.count_operation();
    }

    /// Makes a driver call of the near future fail, now and then.
    fn plan_fault(&mut self) {
        let Some(simulator) = self.shared.device.simulator() else { return };
        if self.shared.faults.is_empty() || !self.rng.chance(4) || simulator.pending_faults() > 8 {
            return;
        }
        let call = self.shared.faults[self.rng.below(self.shared.faults.len())];
        let code = call.codes()[self.rng.below(call.codes().len())];
        simulator.fail_nth(call, 1 + self.rng.below(20) as u64, code);
        self.shared.figures.count_faults(1);
    }

    /// Verifies and frees what is left, without failing calls.
    fn finish(mut self) {
        self.shared.device.simulator().into_iter().for_each(Simulator::clear_faults);
        let _quiet = self.shared.no_capture();
        while !self.held.is_empty() {
            self.count("verify a buffer", buffers::verify);
            self.count("free a buffer", buffers::free);
        }
        while !self.managed.is_empty() {
            self.count("free managed memory", managed::free);
        }
        for stream in 0..self.streams.len() {
            if let Err(error) = self.streams[stream].synchronize() {
                self.shared.judge("the end of a thread", &error);
            }
        }
        if let Err(broken) = self.contents.settle() {
            self.shared.judge("block over two streams", &broken);
        }
        self.shared.figures.add(&self.outcomes);
    }

    /// Returns a stream of this thread, or one that all threads share.
    pub(crate) fn stream(&mut self) -> Stream {
        self.streams[self.rng.below(self.streams.len())].clone()
    }
}

impl Shared<'_> {
    /// Returns the meaning of an error. Notes a finding, and counts a failure.
    pub(crate) fn judge(&self, name: &str, error: &(dyn Error + 'static)) -> Verdict {
        let verdict = self.expected.judge(error);
        match verdict {
            Verdict::Finding => self.figures.found(format!("{name}: {}", ErrorReport::of(error))),
            Verdict::Failed => self.figures.count_failure(),
            Verdict::Refused => {}
        }
        verdict
    }

    /// Waits until no stream is captured.
    pub(crate) fn no_capture(&self) -> RwLockReadGuard<'_, ()> {
        self.captures.read().unwrap_or_else(PoisonError::into_inner)
    }
}
