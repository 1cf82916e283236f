//! [`Patience`]: how often a stream waits for the work of other streams before the pool grows instead.
#![forbid(unsafe_code)]

/// After this many waits for the work of other streams, the pool grows for the stream. A wait costs time at every
/// kernel; growth costs memory once. The first waits are free, because many streams cross only once.
const WAITS: u32 = 3;
/// A stream waits at most this often before the pool tries to grow again after a refusal.
const WAITS_MAX: u32 = 1 << 12;

/// How often one stream has waited for the work of other streams. Streams that work side by side run out of patience
/// until each has the memory of its own working set, so that no stream waits any more. A stream that is used only
/// once or twice does not make the pool grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Patience {
    waits: u32,
    most: u32,
}

impl Patience {
    pub(super) const NEW: Self = Self { waits: 0, most: WAITS };

    /// Reports whether the pool should grow instead of making the stream wait.
    pub(super) fn is_over(self) -> bool {
        self.waits >= self.most
    }

    /// Counts a wait.
    pub(super) fn waited(&mut self) {
        self.waits = self.waits.saturating_add(1);
    }

    /// The pool could not grow. The stream waits twice as often before the next attempt, because an attempt costs a
    /// call of the driver.
    pub(super) fn growth_refused(&mut self) {
        *self = Self { waits: 0, most: (self.most * 2).min(WAITS_MAX) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits_until_over(patience: &mut Patience) -> u32 {
        let mut waits = 0;
        while !patience.is_over() {
            patience.waited();
            waits += 1;
        }
        waits
    }

    #[test]
    fn each_revocation_doubles_the_sections_to_own() {
        let mut patience = Patience::NEW;
        let attempts: Vec<u32> = (0..12)
            .map(|_| {
                let waits = waits_until_over(&mut patience);
                assert!(patience.is_over(), "until the next refusal");
                patience.growth_refused();
                waits
            })
            .collect();
        assert_eq!(attempts, [3, 6, 12, 24, 48, 96, 192, 384, 768, 1536, 3072, 4096]);
    }
}
