//! One round: builds the stacks of a plan, runs the threads on them, and looks at what is left.

use super::disturb::disturb;
use super::figures::Figures;
use super::plan::{Faults, Plan};
use super::verdict::Expected;
use super::worker::{Shared, Worker};
use cumem::error::{ErrorReport, take_drop_errors};
use cumem::sim::{FaultCall, LiveAllocations};
use cumem::unified::accounting::Ledger;
use cumem::{Device, Layer, LayerExt, Stream};
use cumem_adaptors::{
    AnyStack, GraphPoolsState, LimiterState, PoolState, ResourceExt, StackSpec, StatisticsState, TrackingState,
};
use cumem_conformance::Rng;
use cumem_replay::Trace;
use std::error::Error;
use std::fs::File;
use std::sync::{Arc, Mutex, RwLock};
use std::thread;
use std::time::{Duration, Instant};

/// Streams that all threads share.
const SHARED_STREAMS: usize = 3;

/// A round, before it runs.
pub(crate) struct Round<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) device: &'a Device,
    pub(crate) threads: usize,
    pub(crate) time: Duration,
    pub(crate) races: bool,
    pub(crate) figures: &'a Figures,
}

impl Round<'_> {
    /// Runs the round on its device. What must not happen is noted in the figures.
    ///
    /// # Errors
    ///
    /// Returns an error if the round could not begin.
    pub(crate) fn run(&self, rng: &mut Rng) -> Result<(), Box<dyn Error>> {
        let (plan, device) = (self.plan, self.device);
        // The drop of the last round's machine reports what a failed free left there.
        take_drop_errors().clear();
        device.simulator().into_iter().for_each(|simulator| simulator.detect_races(self.races));
        plan.words().for_each(|word| self.figures.count_layer(word));
        let ledger = Arc::new(Ledger::new(device));
        let build = |text: &str| StackSpec::parse(text)?.build_with_ledger(device, &ledger);
        let managed = match plan.managed.as_deref().map(build).transpose()? {
            Some(AnyStack::OverManaged(stack)) => Some(stack),
            _ => None,
        };
        let stack = build(&plan.general)?.into_device_accessible()?;
        let streams = (0..SHARED_STREAMS).map(|_| Stream::new(device)).collect::<Result<_, _>>()?;
        let shared = Shared {
            device,
            stack: &stack,
            managed: managed.as_ref(),
            addresses: (&stack).by_address(),
            streams,
            captures: RwLock::new(()),
            exchange: Mutex::default(),
            faults: self.faults(),
            expected: Expected {
                faults: plan.faults != Faults::None,
                host_gate: !device.attributes().concurrent_managed_access,
            },
            figures: self.figures,
            until: Instant::now() + self.time,
        };
        let failures = self.figures.failures();
        self.work(&shared, &ledger, rng);
        drop(shared);
        for stack in [Some(&stack as &dyn Layer), managed.as_ref().map(|it| it as &dyn Layer)].into_iter().flatten() {
            self.check_counters(stack, failures);
        }
        drop((stack, managed));
        self.check_log();
        self.check_device(failures);
        Ok(())
    }

    fn faults(&self) -> Vec<FaultCall> {
        let all = FaultCall::ALL.iter().copied();
        match self.plan.faults {
            Faults::None => Vec::new(),
            Faults::Takes => all.filter(|call| !call.releases()).collect(),
            Faults::All => all.collect(),
        }
    }

    fn work(&self, shared: &Shared<'_>, ledger: &Ledger, rng: &mut Rng) {
        thread::scope(|scope| {
            let other = Rng::new(rng.next_u64());
            let disturbing = scope.spawn(move || disturb(shared, ledger, other));
            let start = |seed| scope.spawn(move || Worker::new(shared, seed).map(Worker::run).err());
            let workers: Vec<_> = (0..self.threads).map(|_| start(rng.next_u64())).collect();
            for ended in workers.into_iter().map(thread::ScopedJoinHandle::join) {
                match ended {
                    Ok(None) => {}
                    Ok(Some(error)) => drop(shared.judge("the start of a thread", &error)),
                    Err(_) => self.figures.found(format!("a thread panicked on {}", self.plan.general)),
                }
            }
            if disturbing.join().is_err() {
                self.figures.found(format!("changing options panicked on {}", self.plan.general));
            }
        });
        let left = std::mem::take(&mut *shared.exchange.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
        for held in left {
            if let Err(error) = held.verify(self.figures) {
                shared.judge("a buffer between threads", &*error);
            }
        }
    }

    /// Reports whether everything must have been freed: no call failed that may leave something behind.
    fn must_be_empty(&self, failures: u64) -> bool {
        self.plan.faults != Faults::All || self.figures.failures() == failures
    }

    fn check_counters(&self, stack: &dyn Layer, failures: u64) {
        if !self.must_be_empty(failures) {
            return;
        }
        let mut wrong = Vec::new();
        if let Some(counts) = stack.find::<StatisticsState>().map(StatisticsState::counts)
            && (counts.current_bytes, counts.current_blocks) != (0, 0)
        {
            wrong.push(format!("statistics count {counts}"));
        }
        if let Some(live) = stack.find::<TrackingState>().map(|tracking| tracking.live().len()).filter(|n| *n > 0) {
            wrong.push(format!("tracking has {live} live blocks"));
        }
        if let Some(reserved) = stack.find::<GraphPoolsState>().map(GraphPoolsState::reserved).filter(|n| *n > 0) {
            wrong.push(format!("graphs reserve {reserved} bytes"));
        }
        let outermost = stack.find_all::<LimiterState>().into_iter().find(|limit| limit.name() == Some("soak"));
        if let Some(allocated) = outermost.map(LimiterState::allocated).filter(|n| *n > 0) {
            wrong.push(format!("the limit counts {allocated} bytes"));
        }
        if let Some(requested) = stack.find::<PoolState>().map(|pool| pool.stats().requested).filter(|n| *n > 0) {
            wrong.push(format!("the pool counts {requested} requested bytes"));
        }
        if !wrong.is_empty() {
            self.figures.found(format!("after all was freed on {}: {}", self.plan.general, wrong.join(", ")));
        }
    }

    /// The log of a round can be read.
    fn check_log(&self) {
        let Some(path) = &self.plan.log else { return };
        let read = File::open(path).map_err(|error| error.to_string()).and_then(|file| {
            let name = path.display().to_string();
            Trace::parse(file, &name).map_err(|error| ErrorReport::of(&error).to_string())
        });
        if let Err(error) = read {
            self.figures.found(format!("the log of {}: {error}", self.plan.general));
        }
        let _ = std::fs::remove_file(path);
    }

    fn check_device(&self, failures: u64) {
        let errors = take_drop_errors();
        self.figures.count_drop_errors(errors.len() as u64);
        if let (Faults::None, Some(first)) = (self.plan.faults, errors.first()) {
            self.figures.found(format!("an error of a drop on {}: {first}", self.plan.general));
        }
        let device = self.device;
        device.trim_staging();
        if let Err(error) = device.synchronize().or_else(|_| device.synchronize()) {
            self.figures.found(format!("the device is no longer usable: {error}"));
        }
        let Some(simulator) = device.simulator() else { return };
        let live = simulator.live_allocations();
        if live != LiveAllocations::default() && self.must_be_empty(failures) && errors.is_empty() {
            self.figures.found(format!("{} left {live} on {}", self.plan.general, self.plan.profile.name));
        }
        for race in simulator.take_races() {
            self.figures.found(format!("a race on {}: {race}", self.plan.general));
        }
    }
}
