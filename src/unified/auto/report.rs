//! [`AutoPrefetchReport`]: the figures of automatic prefetch.
#![forbid(unsafe_code)]

use cumem_driver::Plural;
use std::fmt;
use std::time::Duration;

/// The figures of automatic prefetch for a buffer or for all buffers of a stack. Figures are in bytes unless stated
/// otherwise.
///
/// # Examples
///
/// ```
/// # use cumem::sim::Profile;
/// # use cumem::{Device, ManagedResource, Stream, UnifiedBuffer};
/// # let device = Device::simulated(Profile::default())?;
/// # let stream = Stream::new(&device)?;
/// use cumem::unified::AutoPrefetchOptions;
///
/// let memory = ManagedResource::new(&device)?;
/// let mut buffer = UnifiedBuffer::<u8, _>::zeroed(4 << 20, &stream, memory)?;
/// assert!(buffer.auto_prefetch(AutoPrefetchOptions::default())?.is_applied());
/// for mib in 0..4 {
///     drop(buffer.device_use(mib << 20..(mib + 1) << 20)?);
/// }
/// let report = buffer.stop_auto_prefetch().unwrap();
/// assert_eq!((report.ahead, report.on_demand), (2 << 20, 2 << 20));
/// assert_eq!((report.coverage(), report.accuracy()), (Some(0.5), Some(1.0)));
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct AutoPrefetchReport {
    /// The number of declared uses.
    pub uses: u64,
    /// Bytes that were prefetched ahead of their use.
    pub ahead: u64,
    /// Bytes of `ahead` that were used.
    pub ahead_used: u64,
    /// Bytes of `ahead_used` that were on the device when the device reached their use. If a transfer was not complete
    /// then, its bytes count by the part of its time that was over.
    pub ahead_in_time: u64,
    /// Bytes of `ahead_used` for which it is unknown whether they were in time. The device has not reached their use
    /// yet, or the driver did not report the time.
    pub ahead_undecided: u64,
    /// How long work waited for prefetches that were not complete, in device time.
    pub waited: Duration,
    /// Bytes that were prefetched when their use was declared.
    pub on_demand: u64,
    /// Bytes that faulted in because of undeclared uses. Counted on simulated devices only.
    pub faulted: u64,
    /// Bytes that were prefetched ahead and then prefetched by the user. They count neither as used nor as wasted.
    pub left_to_user: u64,
    /// Bytes that were prefetched ahead, and whose prediction was discarded before they were used.
    pub wasted: u64,
    /// How often wrong predictions in a row stopped the prefetches.
    pub backed_off: u64,
    /// How often a prefetch ahead failed.
    pub failed: u64,
    /// Page faults of the device in the buffer since automatic prefetch was turned on. `None` on a GPU, because its
    /// driver does not report them.
    pub faults: Option<u64>,
}

impl AutoPrefetchReport {
    /// Returns the share of the needed bytes that were prefetched ahead: `ahead_used` divided by the sum of
    /// `ahead_used`, `on_demand` and `faulted`. Returns `None` if that sum is 0. Bytes that the user prefetched do not
    /// count.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::unified::AutoPrefetchReport;
    ///
    /// assert_eq!(AutoPrefetchReport::default().coverage(), None);
    /// ```
    pub fn coverage(&self) -> Option<f64> {
        part(self.ahead_used, self.ahead_used + self.on_demand + self.faulted)
    }

    /// Returns the share of the prefetched bytes that were used: `ahead_used` divided by the sum of `ahead_used` and
    /// `wasted`. Returns `None` if that sum is 0.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::unified::AutoPrefetchReport;
    ///
    /// assert_eq!(AutoPrefetchReport::default().accuracy(), None);
    /// ```
    pub fn accuracy(&self) -> Option<f64> {
        part(self.ahead_used, self.ahead_used + self.wasted)
    }

    /// Returns the share of the used prefetched bytes that were on the device in time: `ahead_in_time` divided by the
    /// difference of `ahead_used` and `ahead_undecided`. Returns `None` if that difference is 0. A late prefetch counts
    /// in part: if half of its transfer was over when the device reached the use, half of its bytes count. (Srinath et
    /// al., Feedback Directed Prefetching, 2007, count late prefetches whole.)
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::unified::AutoPrefetchReport;
    ///
    /// assert_eq!(AutoPrefetchReport::default().timeliness(), None);
    /// ```
    pub fn timeliness(&self) -> Option<f64> {
        part(self.ahead_in_time, self.ahead_used - self.ahead_undecided)
    }

    /// Adds the figures of another buffer.
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

/// Writes, for example, `12 uses, coverage 91.7 %, accuracy 100.0 %, timeliness 98.0 %, backed off 0 times`. Without uses
/// it names the call that declares them.
impl fmt::Display for AutoPrefetchReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.uses == 0 && self.ahead == 0 {
            return f.write_str(
                "no use was declared, so nothing was prefetched: a program declares uses with `device_use`",
            );
        }
        write!(f, "{}", Plural(self.uses, "use"))?;
        for (name, part) in
            [("coverage", self.coverage()), ("accuracy", self.accuracy()), ("timeliness", self.timeliness())]
        {
            match part {
                Some(part) => write!(f, ", {name} {:.1} %", part * 100.0)?,
                None => write!(f, ", {name} -")?,
            }
        }
        write!(f, ", backed off {}", Plural(self.backed_off, "time"))
    }
}
