//! [`PressureState`]: how full the device is, and what was done about it.

use super::options::{PressureError, PressureOptions};
use crate::size::Size;
use cumem::{AllocError, Device, DriverError};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

/// How full the device is, in steps of what is done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PressureLevel {
    /// There is room.
    Normal,
    /// What is kept unused was given back.
    Trim,
    /// Allocations are refused.
    Refuse,
}

/// What a [`Pressure`](super::Pressure) knows and did.
#[derive(Debug)]
pub struct PressureState {
    device: Device,
    given: (Size, Size),
    trim_at: usize,
    refuse_at: usize,
    slack: usize,
    ask_after: usize,
    level: AtomicU8,
    /// Bytes allocated since the device was asked.
    unasked: AtomicUsize,
    used: AtomicUsize,
    trims: AtomicU64,
    trimmed: AtomicU64,
    refusals: AtomicU64,
    /// A series of refusals is on, and was said.
    refusing: AtomicBool,
    /// Held while the level changes, so that each change happens once.
    changing: Mutex<()>,
}

impl PressureState {
    pub(super) fn new(device: &Device, options: PressureOptions) -> Result<Self, PressureError> {
        let total = device.attributes().total_memory;
        let PressureOptions { trim_at, refuse_at, slack, ask_after } = options;
        let bytes = |size: Size| size.bytes_of(total);
        let state = Self {
            device: device.clone(),
            given: (trim_at, refuse_at),
            trim_at: bytes(trim_at),
            refuse_at: bytes(refuse_at),
            slack: bytes(slack),
            ask_after: bytes(ask_after),
            level: AtomicU8::new(PressureLevel::Normal as u8),
            unasked: AtomicUsize::new(0),
            used: AtomicUsize::new(0),
            trims: AtomicU64::new(0),
            trimmed: AtomicU64::new(0),
            refusals: AtomicU64::new(0),
            refusing: AtomicBool::new(false),
            changing: Mutex::new(()),
        };
        let Self { slack, trim_at, refuse_at, .. } = state;
        if slack > trim_at || trim_at > refuse_at || refuse_at > total {
            return Err(PressureError::Levels { slack, trim_at, refuse_at, total });
        }
        state.used.store(state.ask()?, Relaxed);
        Ok(state)
    }

    /// The level now in force.
    pub fn level(&self) -> PressureLevel {
        match self.level.load(Relaxed) {
            0 => PressureLevel::Normal,
            1 => PressureLevel::Trim,
            _ => PressureLevel::Refuse,
        }
    }

    /// Bytes in use on the device, when it was last asked.
    pub fn used(&self) -> usize {
        self.used.load(Relaxed)
    }

    /// Bytes until allocations are refused, asked now; 0 while they are.
    ///
    /// # Errors
    ///
    /// What the driver answers.
    pub fn remaining(&self) -> Result<usize, DriverError> {
        match self.level() {
            PressureLevel::Refuse => Ok(0),
            _ => Ok(self.refuse_at.saturating_sub(self.ask()?)),
        }
    }

    /// How often memory was given back.
    pub fn trims(&self) -> u64 {
        self.trims.load(Relaxed)
    }

    /// Bytes that were given back.
    pub fn trimmed_bytes(&self) -> u64 {
        self.trimmed.load(Relaxed)
    }

    /// Allocations that were refused.
    pub fn refusals(&self) -> u64 {
        self.refusals.load(Relaxed)
    }

    /// Whether the device is to be asked before `bytes` bytes are allocated.
    pub(super) fn is_due(&self, bytes: usize) -> bool {
        let unasked = self.unasked.fetch_add(bytes, Relaxed).saturating_add(bytes);
        unasked >= self.ask_after || self.level() == PressureLevel::Refuse
    }

    /// Asks the device, changes the level, and has memory given back where one is entered.
    pub(super) fn measure(&self, trim: impl Fn() -> usize) -> Result<(), DriverError> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        self.unasked.store(0, Relaxed);
        let mut used = self.ask()?;
        let before = self.level();
        let mut level = self.next(before, used);
        if level > before && trim() > 0 {
            used = self.ask()?;
            // What was entered stays entered until the slack is free too.
            level = self.next(level, used);
        }
        self.used.store(used, Relaxed);
        if level != before {
            self.level.store(level as u8, Relaxed);
            self.refusing.store(false, Relaxed);
            let Self { device, trim_at, refuse_at, slack, .. } = self;
            let device = device.id();
            match level > before {
                true => {
                    tracing::warn!(%device, ?before, now = ?level, used, trim_at, refuse_at, slack, "memory pressure rises")
                }
                false => {
                    tracing::info!(%device, ?before, now = ?level, used, trim_at, refuse_at, slack, "memory pressure falls")
                }
            }
        }
        Ok(())
    }

    /// Refuses at the highest level.
    pub(super) fn admit(&self, requested: usize) -> Result<(), AllocError> {
        if self.level() < PressureLevel::Refuse {
            return Ok(());
        }
        let (allocated, limit) = (self.used(), self.refuse_at);
        self.refusals.fetch_add(1, Relaxed);
        // The first of a series says it; the counter has the rest.
        if !self.refusing.swap(true, Relaxed) {
            tracing::warn!(device = %self.device.id(), requested, used = allocated, limit, "refused under memory pressure");
        }
        Err(AllocError::LimitExceeded { requested, allocated, limit })
    }

    pub(super) fn trimmed(&self, bytes: usize) {
        self.trims.fetch_add(1, Relaxed);
        self.trimmed.fetch_add(bytes as u64, Relaxed);
        tracing::info!(device = %self.device.id(), bytes, "memory given back under pressure");
    }

    pub(super) fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pressure(trim={}, refuse={})", self.given.0, self.given.1)
    }

    fn ask(&self) -> Result<usize, DriverError> {
        let info = self.device.memory_info()?;
        Ok(info.total - info.free)
    }

    /// The level after `before` with so much in use.
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
