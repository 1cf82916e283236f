//! [`PressureState`]: how full the device's memory is, and how often memory was trimmed or refused.

use super::options::{PressureError, PressureOptions};
use crate::headroom::{Headroom, Shortage, Side};
use crate::size::Size;
use cumem::device::deferral::after_locks;
use cumem::{AllocError, Device, DeviceError};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, ThreadId};

/// The level of the memory in use, which determines what a [`Pressure`](super::Pressure) does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PressureLevel {
    /// Below both thresholds: the adaptor neither trims nor refuses.
    Normal,
    /// At the first threshold: the adaptor trimmed unused memory when the level was entered.
    Trim,
    /// At the second threshold: the adaptor refuses allocations.
    Refuse,
}

/// The level of a [`Pressure`](super::Pressure), and counts of what it did.
#[derive(Debug)]
pub struct PressureState {
    device: Device,
    given: (Size, Size),
    trim_at: usize,
    refuse_at: usize,
    slack: usize,
    ask_after: usize,
    level: AtomicU8,
    /// The bytes that may be allocated until the device is queried, less one. In shards, because every allocation of
    /// every thread changes them.
    unasked: Headroom<1>,
    used: AtomicUsize,
    trims: AtomicU64,
    trimmed: AtomicU64,
    refusals: AtomicU64,
    /// True during a series of refusals whose `tracing` event has been emitted.
    refusing: AtomicBool,
    /// Number of measurements that were begun.
    measurements: AtomicU64,
    /// The number of the measurement that the level is from.
    entered: Mutex<u64>,
    /// The threads that trim.
    trimming: Mutex<Vec<ThreadId>>,
}

impl PressureState {
    pub(super) fn new(device: &Device, options: PressureOptions) -> Result<Self, PressureError> {
        let total = device.attributes().total_memory;
        let PressureOptions { trim_at, refuse_at, slack, ask_after } = options;
        let bytes = |size: Size| size.bytes_on(device);
        let state = Self {
            device: device.clone(),
            given: (trim_at, refuse_at),
            trim_at: bytes(trim_at)?,
            refuse_at: bytes(refuse_at)?,
            slack: bytes(slack)?,
            ask_after: bytes(ask_after)?,
            level: AtomicU8::new(PressureLevel::Normal as u8),
            unasked: Headroom::new([bytes(ask_after)?.saturating_sub(1) as u64], Shortage::Refuses),
            used: AtomicUsize::new(0),
            trims: AtomicU64::new(0),
            trimmed: AtomicU64::new(0),
            refusals: AtomicU64::new(0),
            refusing: AtomicBool::new(false),
            measurements: AtomicU64::new(0),
            entered: Mutex::default(),
            trimming: Mutex::default(),
        };
        let Self { slack, trim_at, refuse_at, .. } = state;
        if slack > trim_at || trim_at > refuse_at || refuse_at > total {
            return Err(PressureError::Levels { slack, trim_at, refuse_at, total });
        }
        state.used.store(state.ask()?, Relaxed);
        Ok(state)
    }

    /// Returns the current level.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, Stream};
    /// # use cumem_adaptors::{PoolOptions, PressureLevel, PressureOptions, ResourceExt};
    /// # let device = Device::simulated(Profile::tiny(64 << 20))?;
    /// # let stream = Stream::new(&device)?;
    /// let options = PressureOptions::default().trim_at(16 << 20).refuse_at(32 << 20).slack(0).ask_after(0);
    /// let stack = CudaResource::new(&device).pool(PoolOptions::new())?.pressure(options)?;
    /// let _large = Buffer::<u8, _>::zeroed(24 << 20, &stream, &stack)?;
    /// let _more = Buffer::<u8, _>::zeroed(4096, &stream, &stack)?;
    /// assert_eq!(stack.state().level(), PressureLevel::Trim); // 24 MiB are in use, the threshold is 16 MiB
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn level(&self) -> PressureLevel {
        match self.level.load(Relaxed) {
            0 => PressureLevel::Normal,
            1 => PressureLevel::Trim,
            _ => PressureLevel::Refuse,
        }
    }

    /// Returns the bytes in use on the device at the last query.
    pub fn used(&self) -> usize {
        self.used.load(Relaxed)
    }

    /// Queries the device and returns the bytes that may be allocated before allocations are refused.
    /// Returns 0 while they are refused.
    ///
    /// # Errors
    ///
    /// Returns the driver's error if the query fails.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, Stream};
    /// # use cumem_adaptors::{PoolOptions, PressureOptions, ResourceExt};
    /// # let device = Device::simulated(Profile::tiny(64 << 20))?;
    /// # let stream = Stream::new(&device)?;
    /// let options = PressureOptions::default().trim_at(16 << 20).refuse_at(32 << 20).slack(0).ask_after(0);
    /// let stack = CudaResource::new(&device).pool(PoolOptions::new())?.pressure(options)?;
    /// assert_eq!(stack.state().remaining()?, 32 << 20);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn remaining(&self) -> Result<usize, DeviceError> {
        match self.level() {
            PressureLevel::Refuse => Ok(0),
            _ => Ok(self.refuse_at.saturating_sub(self.ask()?)),
        }
    }

    /// Returns the number of trims that freed memory.
    pub fn trims(&self) -> u64 {
        self.trims.load(Relaxed)
    }

    /// Returns the bytes that trims freed.
    pub fn trimmed_bytes(&self) -> u64 {
        self.trimmed.load(Relaxed)
    }

    /// Returns the number of allocations that were refused.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Buffer, CudaResource, Device, Stream};
    /// # use cumem_adaptors::{PoolOptions, PressureOptions, ResourceExt};
    /// # let device = Device::simulated(Profile::tiny(64 << 20))?;
    /// # let stream = Stream::new(&device)?;
    /// let options = PressureOptions::default().trim_at(16 << 20).refuse_at(32 << 20).slack(0).ask_after(0);
    /// let stack = CudaResource::new(&device).pool(PoolOptions::new())?.pressure(options)?;
    /// let _large = Buffer::<u8, _>::zeroed(40 << 20, &stream, &stack)?;
    /// assert!(Buffer::<u8, _>::zeroed(4096, &stream, &stack).is_err()); // 40 MiB are in use, the threshold is 32 MiB
    /// assert_eq!(stack.state().refusals(), 1);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn refusals(&self) -> u64 {
        self.refusals.load(Relaxed)
    }

    /// Reports whether the device must be queried before `bytes` bytes are allocated.
    pub(super) fn is_due(&self, bytes: usize) -> bool {
        let due = self.ask_after == 0 || self.unasked.mine().take(Side::Room, [bytes as u64]).is_err();
        due || self.level() == PressureLevel::Refuse
    }

    /// Queries the device, and changes the level. If the level rises, `trim` is called first, which returns the bytes
    /// freed. No lock is held meanwhile, because `trim` may be a user's closure that allocates from this stack. The level
    /// does not rise while a thread trims, because the memory that is being freed may suffice.
    pub(super) fn measure(&self, trim: impl Fn() -> usize) -> Result<(), DeviceError> {
        let number = self.measurements.fetch_add(1, Relaxed);
        self.unasked.reset();
        let mut used = self.ask()?;
        let before = self.level();
        let mut level = self.next(before, used);
        if level > before {
            match self.begin_trim(true) {
                Some(_trimming) => {
                    if trim() > 0 {
                        used = self.ask()?;
                        // A level that was entered is left only when the slack is free too.
                        level = self.next(level, used);
                    }
                }
                None => level = before,
            }
        }
        self.enter(number, level, used);
        Ok(())
    }

    /// Sets the level that measurement `number` found, unless a later measurement has set one.
    fn enter(&self, number: u64, level: PressureLevel, used: usize) {
        let mut entered = self.entered.lock().unwrap_or_else(PoisonError::into_inner);
        if number < *entered {
            return;
        }
        *entered = number;
        self.used.store(used, Relaxed);
        let before = self.level();
        if level == before {
            return;
        }
        self.level.store(level as u8, Relaxed);
        self.refusing.store(false, Relaxed);
        drop(entered);
        let (device, &Self { trim_at, refuse_at, slack, .. }) = (self.device.id(), self);
        after_locks(move || match level > before {
            true => {
                tracing::warn!(%device, ?before, now = ?level, used, trim_at, refuse_at, slack, "memory pressure rises")
            }
            false => {
                tracing::info!(%device, ?before, now = ?level, used, trim_at, refuse_at, slack, "memory pressure falls")
            }
        });
    }

    /// Begins a trim of this thread. Returns `None` if this thread trims already, or with `alone`, if any thread does.
    pub(super) fn begin_trim(&self, alone: bool) -> Option<Trimming<'_>> {
        let mut trimming = self.trimming.lock().unwrap_or_else(PoisonError::into_inner);
        let me = thread::current().id();
        if trimming.contains(&me) || alone && !trimming.is_empty() {
            return None;
        }
        trimming.push(me);
        Some(Trimming(self))
    }

    /// Refuses the allocation if the level is [`PressureLevel::Refuse`]. Zero bytes use no memory and are not refused.
    pub(super) fn admit(&self, requested: usize) -> Result<(), AllocError> {
        if self.level() < PressureLevel::Refuse || requested == 0 {
            return Ok(());
        }
        let (allocated, limit) = (self.used(), self.refuse_at);
        self.refusals.fetch_add(1, Relaxed);
        // Only the first refusal of a series emits an event; the counter has all of them.
        if !self.refusing.swap(true, Relaxed) {
            let device = self.device.id();
            after_locks(move || {
                tracing::warn!(%device, requested, used = allocated, limit, "refused under memory pressure");
            });
        }
        Err(AllocError::LimitExceeded { layer: "pressure".into(), requested, allocated, limit })
    }

    pub(super) fn trimmed(&self, bytes: usize) {
        self.trims.fetch_add(1, Relaxed);
        self.trimmed.fetch_add(bytes as u64, Relaxed);
        let device = self.device.id();
        after_locks(move || tracing::info!(%device, bytes, "memory given back under pressure"));
    }

    pub(super) fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pressure(trim={}, refuse={})", self.given.0, self.given.1)
    }

    fn ask(&self) -> Result<usize, DeviceError> {
        let info = self.device.memory_info()?;
        Ok(info.total - info.free)
    }

    /// Returns the level that follows `before` with `used` bytes in use.
    fn next(&self, before: PressureLevel, used: usize) -> PressureLevel {
        let left_below = |entered_at: usize, level| if before >= level { entered_at - self.slack } else { entered_at };
        if used >= left_below(self.refuse_at, PressureLevel::Refuse) {
            PressureLevel::Refuse
        } else if used >= left_below(self.trim_at, PressureLevel::Trim) {
            PressureLevel::Trim
        } else {
            PressureLevel::Normal
        }
    }
}

/// A trim of one thread, until it is dropped.
#[derive(Debug)]
pub(super) struct Trimming<'a>(&'a PressureState);

impl Drop for Trimming<'_> {
    fn drop(&mut self) {
        let mut trimming = self.0.trimming.lock().unwrap_or_else(PoisonError::into_inner);
        trimming.retain(|thread| *thread != thread::current().id());
    }
}
