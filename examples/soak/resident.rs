//! Memory of the process over time.

/// Growth that is no finding: fragments of the allocator, and caches that fill up.
const SLACK: usize = 48 << 20;
/// Fewer samples say nothing about growth.
const ENOUGH: usize = 30;

/// Memory of the process at the end of each round.
#[derive(Debug, Default)]
pub(crate) struct Resident(Vec<usize>);

impl Resident {
    /// Takes a sample, where the system tells.
    pub(crate) fn sample(&mut self) {
        self.0.extend(now());
    }

    /// Returns the first, the largest and the last sample.
    pub(crate) fn summary(&self) -> Option<[usize; 3]> {
        Some([*self.0.first()?, *self.0.iter().max()?, *self.0.last()?])
    }

    /// Returns a finding if the process grew: the smallest sample of the last quarter is larger than the largest of the
    /// second quarter by a tenth and some slack.
    pub(crate) fn growth(&self) -> Option<String> {
        let quarter = self.0.len() / 4;
        if self.0.len() < ENOUGH {
            return None;
        }
        let before = self.0[quarter..2 * quarter].iter().max()?;
        let after = self.0[self.0.len() - quarter..].iter().min()?;
        (*after > before + before / 10 + SLACK)
            .then(|| format!("the process grew from {} to {} MiB", before >> 20, after >> 20))
    }
}

/// Returns the resident bytes of this process, or `None` where the system has no `/proc`.
fn now() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<usize>().ok().map(|kib| kib << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leak_is_found_and_a_high_plateau_is_not() {
        let flat = Resident(vec![500 << 20; 100]);
        let grown = Resident((0..100).map(|round| (500 + 10 * round) << 20).collect());
        assert_eq!(flat.growth(), None);
        assert!(grown.growth().is_some());
        assert_eq!(grown.summary(), Some([500 << 20, 1490 << 20, 1490 << 20]));
    }
}
