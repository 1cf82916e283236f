//! [`AutoPrefetchReport`]: what came of it.
#![forbid(unsafe_code)]

use std::fmt;
use std::time::Duration;

/// What automatic prefetch has done for a buffer, in bytes unless said otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct AutoPrefetchReport {
    /// Uses that were declared.
    pub uses: u64,
    /// Brought ahead of their use.
    pub ahead: u64,
    /// Of these, used.
    pub ahead_used: u64,
    /// Of these, there when the device came to their use. Of a transfer on its way the part counts that was over, by
    /// its time.
    pub ahead_in_time: u64,
    /// Of these, used by work that the device has not come to yet, as far as is known, or of which the driver did not
    /// say when it came to them.
    pub ahead_undecided: u64,
    /// For how long, in device time, work waited for what was on its way.
    pub waited: Duration,
    /// Brought when their use was declared.
    pub on_demand: u64,
    /// Faulted in by work whose use nobody declared, where that can be read: on a simulated device.
    pub faulted: u64,
    /// Brought ahead and then prefetched by the user: neither used nor wasted.
    pub left_to_user: u64,
    /// Brought ahead and not used before the guess was given up.
    pub wasted: u64,
    /// How often so many guesses in a row were wrong that no more was brought ahead.
    pub backed_off: u64,
    /// How often nothing could be brought ahead.
    pub failed: u64,
    /// Page faults of the device in the buffer since it was turned on, where they can be read: on a simulated device.
    pub faults: Option<u64>,
}

impl AutoPrefetchReport {
    /// The part of what had to be brought that was brought ahead; `None` if nothing had to be. What the user prefetched
    /// had not.
    pub fn coverage(&self) -> Option<f64> {
        part(self.ahead_used, self.ahead_used + self.on_demand + self.faulted)
    }

    /// The part of what was brought ahead and used or given up that was used; `None` if nothing was.
    pub fn accuracy(&self) -> Option<f64> {
        part(self.ahead_used, self.ahead_used + self.wasted)
    }

    /// The part of what was brought ahead and used that was there when the device came to its use; `None` while the
    /// device has come to none. What it did not wait for counts, so that a prefetch that came late and hid half of its
    /// transfer counts half. (Srinath et al., Feedback Directed Prefetching, 2007, count late prefetches whole.)
    pub fn timeliness(&self) -> Option<f64> {
        part(self.ahead_in_time, self.ahead_used - self.ahead_undecided)
    }

    /// Adds what came of another buffer.
    pub(super) fn add(&mut self, other: &Self) {
        macro_rules! sum {
            ($($figure:ident),+) => { $(self.$figure += other.$figure;)+ };
        }
        sum!(uses, ahead, ahead_used, ahead_in_time, ahead_undecided, waited, on_demand, faulted, left_to_user);
        sum!(wasted, backed_off, failed);
        self.faults = match (self.faults, other.faults) {
            (Some(a), Some(b)) => Some(a + b),
            (a, b) => a.or(b),
        };
    }
}

fn part(of: u64, all: u64) -> Option<f64> {
    (all > 0).then(|| of as f64 / all as f64)
}

impl fmt::Display for AutoPrefetchReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} uses", self.uses)?;
        for (name, part) in
            [("coverage", self.coverage()), ("accuracy", self.accuracy()), ("timeliness", self.timeliness())]
        {
            match part {
                Some(part) => write!(f, ", {name} {:.1} %", part * 100.0)?,
                None => write!(f, ", {name} -")?,
            }
        }
        write!(f, ", backed off {} times", self.backed_off)
    }
}
