//! [`PressureOptions`]: the levels at which a [`Pressure`](super::Pressure) acts.

use crate::size::Size;
use cumem::DeviceError;

/// The levels of memory in use at which a [`Pressure`](super::Pressure) acts, and how often it queries the device.
/// Shares are shares of the device's memory.
///
/// # Examples
///
/// ```
/// use cumem_adaptors::{PressureOptions, Size};
///
/// let options = PressureOptions::default().trim_at(Size::Percent(70));
/// assert_eq!((options.get_trim_at(), options.get_refuse_at()), (Size::Percent(70), Size::Percent(95)));
/// ```
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
    /// Sets the bytes in use at which the adaptor trims memory. Default 80 %.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem_adaptors::{PressureOptions, Size};
    /// let options = PressureOptions::default().trim_at(Size::Percent(70));
    /// assert_eq!(options.get_trim_at(), Size::Percent(70));
    /// ```
    pub fn trim_at(self, used: impl Into<Size>) -> Self {
        Self { trim_at: used.into().saturated(), ..self }
    }

    /// Sets the bytes in use at which the adaptor refuses allocations. Default 95 %.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem_adaptors::{PressureOptions, Size};
    /// let options = PressureOptions::default().refuse_at(Size::Percent(90));
    /// assert_eq!(options.get_refuse_at(), Size::Percent(90));
    /// ```
    pub fn refuse_at(self, used: impl Into<Size>) -> Self {
        Self { refuse_at: used.into().saturated(), ..self }
    }

    /// Sets the slack: a level ends when the memory in use is this much below the threshold of the level. Default 5 %.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem_adaptors::{PressureOptions, Size};
    /// let options = PressureOptions::default().slack(64 << 20);
    /// assert_eq!(options.get_slack(), Size::Bytes(64 << 20));
    /// ```
    pub fn slack(self, slack: impl Into<Size>) -> Self {
        Self { slack: slack.into().saturated(), ..self }
    }

    /// Sets how many bytes are allocated between two queries of the device. Default 1 %. 0 queries at every allocation.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem_adaptors::{PressureOptions, Size};
    /// let options = PressureOptions::default().ask_after(256 << 20);
    /// assert_eq!(options.get_ask_after(), Size::Bytes(256 << 20));
    /// ```
    pub fn ask_after(self, bytes: impl Into<Size>) -> Self {
        Self { ask_after: bytes.into().saturated(), ..self }
    }

    /// Returns the bytes in use at which the adaptor trims memory.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem_adaptors::{PressureOptions, Size};
    /// assert_eq!(PressureOptions::default().get_trim_at(), Size::Percent(80));
    /// ```
    pub fn get_trim_at(&self) -> Size {
        self.trim_at
    }

    /// Returns the bytes in use at which the adaptor refuses allocations.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem_adaptors::{PressureOptions, Size};
    /// assert_eq!(PressureOptions::default().get_refuse_at(), Size::Percent(95));
    /// ```
    pub fn get_refuse_at(&self) -> Size {
        self.refuse_at
    }

    /// Returns the slack: a level ends when the memory in use is this much below the threshold of the level.
    pub fn get_slack(&self) -> Size {
        self.slack
    }

    /// Returns how many bytes are allocated between two queries of the device.
    pub fn get_ask_after(&self) -> Size {
        self.ask_after
    }
}

/// The error of a [`Pressure`](super::Pressure) that could not be created.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PressureError {
    /// The levels are not in order.
    #[error("levels must be slack {slack} <= trim {trim_at} <= refuse {refuse_at} <= memory {total} (bytes)")]
    Levels {
        /// Bytes of the slack.
        slack: usize,
        /// Bytes in use from which on memory is trimmed.
        trim_at: usize,
        /// Bytes in use from which on allocations are refused.
        refuse_at: usize,
        /// Bytes of the device's memory.
        total: usize,
    },
    /// The query for the device's free memory failed.
    #[error(transparent)]
    Driver(#[from] DeviceError),
}
