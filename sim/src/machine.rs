//! [`Machine`]: the devices of one simulator, and the state behind one lock.

use super::agenda::StepResult;
use super::bytes;
use super::cost::ns;
use super::forked;
use super::injection::FaultCall;
use super::outbox::{Delivery, Outbox};
use super::profile::Profile;
use super::state::{MachineState, Until};
use cumem_driver::deferral::{self, after_locks};
use cumem_driver::panics::drop_caught;
use cumem_driver::{AccessMode, CudaErrorCode, DeviceId, DriverError, Extension};
use smallvec::SmallVec;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError};
use std::thread;

/// The value of `Machine::generation` while a thread decides what to do after a fork.
const DECIDING: u32 = u32::MAX;

/// A simulated machine.
#[derive(Debug)]
pub(super) struct Machine {
    id: u32,
    pub(super) profiles: Arc<[Profile]>,
    state: Mutex<MachineState>,
    /// The process that last used the machine, as the number of its forks, or [`DECIDING`].
    generation: AtomicU32,
    /// Replaces `state` in a forked child if another thread of the parent used the state at that moment. It stays empty,
    /// because calls return an error.
    replacement: OnceLock<Mutex<MachineState>>,
    /// Notified when a kernel has ended, which other threads may wait for.
    progress: Condvar,
    outbox: Arc<Outbox>,
    /// Whether a stream was ever captured.
    pub(super) captured: AtomicBool,
    pub(super) extension: Extension,
}

/// The locked state. User code that the calls under the lock have to notify runs when the guard is dropped.
#[derive(Debug)]
pub(super) struct StateGuard<'m> {
    // In this order: the delivery comes after the release of the lock.
    state: MutexGuard<'m, MachineState>,
    delivery: Delivery<'m>,
}

impl Deref for StateGuard<'_> {
    type Target = MachineState;

    fn deref(&self) -> &MachineState {
        &self.state
    }
}

impl DerefMut for StateGuard<'_> {
    fn deref_mut(&mut self) -> &mut MachineState {
        &mut self.state
    }
}

impl Machine {
    pub(super) fn new(profiles: Arc<[Profile]>) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let outbox = Arc::default();
        let state = Mutex::new(MachineState::new(id, Arc::clone(&profiles), &outbox));
        forked::watch();
        let generation = AtomicU32::new(forked::generation());
        let (progress, replacement, extension) = (Condvar::new(), OnceLock::new(), Extension::new());
        let captured = AtomicBool::new(false);
        Self { id, profiles, state, generation, replacement, progress, outbox, captured, extension }
    }

    pub(super) fn device_id(&self, d: u32) -> DeviceId {
        DeviceId::simulated(self.id, d)
    }

    /// Locks the state without making a driver call.
    pub(super) fn lock(&self) -> StateGuard<'_> {
        if self.generation.load(Ordering::Relaxed) != forked::generation() {
            self.adopt();
        }
        let state = self.replacement.get().unwrap_or(&self.state);
        let state = state.lock().unwrap_or_else(PoisonError::into_inner);
        StateGuard { state, delivery: Delivery(&self.outbox) }
    }

    /// Takes the machine over in a forked child. If another thread of the parent held the lock, or ran the closure of a
    /// kernel, nothing in this process will ever release the lock or end the closure. The state is then replaced.
    #[cold]
    fn adopt(&self) {
        let (known, here) = (self.generation.load(Ordering::Acquire), forked::generation());
        let decides = |known| self.generation.compare_exchange(known, DECIDING, Ordering::AcqRel, Ordering::Acquire);
        if known == here || known == DECIDING || decides(known).is_err() {
            while self.generation.load(Ordering::Acquire) == DECIDING {
                thread::yield_now();
            }
            return;
        }
        let this_thread = thread::current().id();
        let is_intact = match self.state.try_lock() {
            Ok(state) => state.executor.is_none_or(|executor| executor == this_thread),
            Err(TryLockError::Poisoned(_)) => true,
            Err(TryLockError::WouldBlock) => false,
        };
        if !is_intact || self.outbox.is_locked() {
            let state = MachineState::new(self.id, Arc::clone(&self.profiles), &Arc::default());
            let _ = self.replacement.set(Mutex::new(state));
        }
        self.generation.store(here, Ordering::Release);
    }

    /// Does the first steps of every driver call. It advances the clock by the cost of the call, returns an injected
    /// failure if one is planned, and executes the work that is due by then.
    pub(super) fn begin_call(
        &self,
        d: u32,
        kind: FaultCall,
        call: &'static str,
        cost: impl Fn(&Profile) -> u64,
    ) -> Result<StateGuard<'_>, DriverError> {
        let count = self.profiles.len() as u32;
        let profile = self.profiles.get(d as usize).ok_or(DriverError::NoSuchDevice { ordinal: d, count })?;
        let mut state = self.lock();
        if self.replacement.get().is_some() {
            let message =
                "another thread used the simulated machine when this process was forked, so the machine cannot be \
                           used here; create another one"
                    .into();
            return Err(DriverError::Simulation { device: self.device_id(d), message });
        }
        state.now += cost(profile);
        if let Some(code) = state.injection.count(kind) {
            // A real synchronization returns the error of earlier work after it has waited for that work.
            let _waited = if kind == FaultCall::Synchronize { self.run(state, d, Until::Device(d))? } else { state };
            return Err(DriverError::Call { call, device: self.device_id(d), code });
        }
        self.run(state, d, Until::Due)
    }

    /// Starts a query: locks the state and advances the clock by the cost of a query.
    pub(super) fn begin_query(&self, d: u32, call: &'static str) -> Result<StateGuard<'_>, DriverError> {
        self.begin_call(d, FaultCall::Query, call, |p| ns(p.call_query))
    }

    /// Executes the work of the devices in the order of virtual time until `until` holds. The host's clock follows if
    /// the host waits. The Rust code of kernels runs without the lock, on one thread at a time. While the thread holds a
    /// lock of the library, it starts no such code unless it waits, and returns `NOT_READY` from a wait for such code if
    /// its [deferral](cumem_driver::deferral) refuses waits.
    pub(super) fn run<'m>(
        &'m self,
        mut state: StateGuard<'m>,
        d: u32,
        until: Until,
    ) -> Result<StateGuard<'m>, DriverError> {
        let waiting = !matches!(until, Until::Due);
        loop {
            if !state.frees.is_empty() && !state.within_kernel() {
                state.free_late();
            }
            if waiting && state.reached(until) {
                state.now = state.now.max(state.time);
                match until {
                    Until::Device(d) => state.race_host_waited_for_device(Some(d)),
                    Until::All => state.race_host_waited_for_device(None),
                    Until::Point(_) | Until::Due | Until::Quiet => {}
                }
                return Ok(state);
            }
            if let Some(executor) = state.executor {
                if !waiting {
                    return Ok(state);
                }
                if executor == thread::current().id() {
                    return Err(state.code(d, "waiting within a kernel", CudaErrorCode::NOT_PERMITTED));
                }
                state.may_wait_for_kernel(d)?;
                let StateGuard { state: locked, delivery } = state;
                state =
                    StateGuard { state: self.progress.wait(locked).unwrap_or_else(PoisonError::into_inner), delivery };
                continue;
            }
            if deferral::is_active() && state.next_is_kernel() {
                if !waiting {
                    return Ok(state);
                }
                state.may_wait_for_kernel(d)?;
            }
            let limit = if waiting { u64::MAX } else { state.now };
            match state.step(limit) {
                StepResult::Done => {}
                StepResult::NothingDue if waiting => {
                    let message = "waited for work that nothing will bring to its end".into();
                    return Err(DriverError::Simulation { device: self.device_id(d), message });
                }
                StepResult::NothingDue => return Ok(state),
                StepResult::Discard(kernel) => {
                    drop(state);
                    // Values that the closure captured may panic when they are dropped. The thread must not unwind for
                    // that.
                    after_locks(move || drop_caught(kernel));
                    state = self.lock();
                }
                StepResult::Kernel { stream, kernel } => {
                    state.executor = Some(thread::current().id());
                    drop(state);
                    let name = kernel.name;
                    let written = kernel.accesses.iter().filter(|access| access.mode == AccessMode::Write);
                    let written: SmallVec<[_; 4]> = written.map(|access| (access.addr, access.bytes as u64)).collect();
                    // SAFETY: at the launch and again just now, the ranges of the kernel were found to be allocated. At
                    // the launch, no written range overlapped another. The launcher ensures that nothing else uses
                    // them.
                    let result = deferral::run_kernel(|| unsafe { bytes::run(*kernel) });
                    state = self.lock();
                    for (addr, bytes) in written {
                        // SAFETY: the launcher ensures that nothing else uses the kernel's ranges. The call touches
                        // only aliases.
                        unsafe { state.memory.copy_from_aliases(addr, bytes) };
                    }
                    state.executor = None;
                    state.kernel_ended(stream, name, result);
                    self.progress.notify_all();
                }
            }
        }
    }

    /// Executes the work that is due by the host's clock.
    pub(super) fn run_due(&self) {
        // Without a wait, nothing is refused.
        let _ = self.run(self.lock(), 0, Until::Due);
    }

    /// [Runs](Self::run) until `until` holds. Then returns the first error of device `d` since the last such call.
    pub(super) fn wait<'m>(
        &'m self,
        state: StateGuard<'m>,
        d: u32,
        until: Until,
    ) -> Result<StateGuard<'m>, DriverError> {
        let mut state = self.run(state, d, until)?;
        state.release_pools(d);
        state.report(d)?;
        Ok(state)
    }
}
