//! [`PressureOptions`]: at which levels something is done.

use crate::size::Size;
use cumem::DriverError;

/// Levels of memory in use on the device, and how often it is asked. Shares are of the device's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "does nothing by itself"]
pub struct PressureOptions {
    pub(super) trim_at: Size,
    pub(super) refuse_at: Size,
    pub(super) slack: Size,
    pub(super) ask_after: Size,
}

impl Default for PressureOptions {
    fn default() -> Self {
        Self {
            trim_at: Size::Percent(80),
            refuse_at: Size::Percent(95),
            slack: Size::Percent(5),
            ask_after: Size::Percent(1),
        }
    }
}

impl PressureOptions {
    /// Trims from so many bytes in use on; 80 % unless set.
    pub fn trim_at(self, used: impl Into<Size>) -> Self {
        Self { trim_at: used.into(), ..self }
    }

    /// Refuses from so many bytes in use on; 95 % unless set.
    pub fn refuse_at(self, used: impl Into<Size>) -> Self {
        Self { refuse_at: used.into(), ..self }
    }

    /// A level is left so far below where it was entered; 5 % unless set.
    pub fn slack(self, slack: impl Into<Size>) -> Self {
        Self { slack: slack.into(), ..self }
    }

    /// Asks the device after so many bytes were allocated; 1 % unless set. 0 asks at every allocation.
    pub fn ask_after(self, bytes: impl Into<Size>) -> Self {
        Self { ask_after: bytes.into(), ..self }
    }
}

/// A pressure could not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PressureError {
    /// The levels are not in order.
    #[error("levels must be slack {slack} <= trim {trim_at} <= refuse {refuse_at} <= memory {total} (bytes)")]
    Levels {
        /// Bytes of the slack.
        slack: usize,
        /// Bytes in use from which memory is trimmed.
        trim_at: usize,
        /// Bytes in use from which allocations are refused.
        refuse_at: usize,
        /// Bytes of the device's memory.
        total: usize,
    },
    /// The driver does not say how much memory is free.
    #[error(transparent)]
    Driver(#[from] DriverError),
}
