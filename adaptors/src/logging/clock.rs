//! [`Clock`]: the time of a row, and the text of that time.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

const DAY: u64 = 24 * 3600;

/// The clock of a log. It never goes back, also between threads, so the rows of all threads have one order.
#[derive(Debug)]
pub(super) struct Clock {
    started: Instant,
    /// Nanoseconds of the local day at `started`.
    since_midnight: u64,
}

impl Clock {
    pub(super) fn start() -> Self {
        let started = Instant::now();
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let second = unix.as_secs() as i64;
        let local = (second + seconds_east_of_utc(second)).rem_euclid(DAY as i64) as u64;
        Self { started, since_midnight: local * 1_000_000_000 + u64::from(unix.subsec_nanos()) }
    }

    /// Returns the nanoseconds since the start.
    #[inline]
    pub(super) fn now(&self) -> u64 {
        self.started.elapsed().as_nanos() as u64
    }

    /// Returns the writer of times.
    pub(super) fn time_of_day(&self) -> TimeOfDay {
        TimeOfDay { since_midnight: self.since_midnight, second: None, text: *b"00:00:00.000000" }
    }
}

/// Writes times as `HH:MM:SS.ffffff`. The text of a second is kept for the next row.
#[derive(Debug)]
pub(super) struct TimeOfDay {
    since_midnight: u64,
    second: Option<u64>,
    text: [u8; 15],
}

impl TimeOfDay {
    #[cfg(test)]
    pub(super) fn at(second: u64) -> Self {
        Self { since_midnight: second * 1_000_000_000, second: None, text: *b"00:00:00.000000" }
    }

    /// Returns the time of day at `time` nanoseconds since the start of the log.
    pub(super) fn text(&mut self, time: u64) -> [u8; 15] {
        let micros = (self.since_midnight + time) / 1000;
        let (second, fraction) = (micros / 1_000_000, micros % 1_000_000);
        if self.second != Some(second) {
            self.second = Some(second);
            let of_day = second % DAY;
            digits(&mut self.text[0..2], of_day / 3600);
            digits(&mut self.text[3..5], of_day / 60 % 60);
            digits(&mut self.text[6..8], of_day % 60);
        }
        digits(&mut self.text[9..15], fraction);
        self.text
    }
}

/// Fills `place` with the last digits of `number`.
fn digits(place: &mut [u8], mut number: u64) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

/// Returns the offset of the local time zone at a time since 1970, in seconds.
#[cfg(target_os = "linux")]
fn seconds_east_of_utc(second: i64) -> i64 {
    let time = second as libc::time_t;
    // SAFETY: all fields of a `tm` are numbers and a pointer that may be null, so zeros are valid.
    let mut local = unsafe { std::mem::zeroed::<libc::tm>() };
    // SAFETY: both pointers are valid for the call, which keeps neither.
    let found = unsafe { libc::localtime_r(&raw const time, &raw mut local) };
    if found.is_null() { 0 } else { local.tm_gmtoff as i64 }
}

#[cfg(not(target_os = "linux"))]
fn seconds_east_of_utc(_second: i64) -> i64 {
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_day_ends_at_midnight() {
        let mut clock = TimeOfDay::at(DAY - 1);
        assert_eq!(clock.text(999_999_999), *b"23:59:59.999999");
        assert_eq!(clock.text(1_000_000_000), *b"00:00:00.000000");
        assert_eq!(clock.text(62_000_001_000), *b"00:01:01.000001");
    }

    #[test]
    fn a_clock_starts_within_a_day_and_does_not_go_back() {
        let clock = Clock::start();
        assert!(clock.since_midnight < DAY * 1_000_000_000);
        let first = clock.now();
        assert!(clock.now() >= first);
    }
}
