//! The random numbers of RMM's benches, as libstdc++ generates them.

/// `std::default_random_engine` of libstdc++ (`minstd_rand0`), in its default-constructed state.
#[derive(Debug)]
pub(crate) struct Engine(u64);

const MODULUS: u64 = 2_147_483_647;
/// The engine's largest number minus its smallest: it returns 1 to MODULUS - 1.
const RANGE: u64 = MODULUS - 2;

impl Engine {
    pub(crate) fn new() -> Self {
        Self(1)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0 * 16_807 % MODULUS;
        self.0
    }

    /// Returns a number as `std::uniform_int_distribution(low, high)` of libstdc++ does.
    pub(crate) fn uniform(&mut self, low: u64, high: u64) -> u64 {
        low + self.up_to(high - low)
    }

    fn up_to(&mut self, range: u64) -> u64 {
        if range < RANGE {
            // Scaled down. A number that would make some results more likely is drawn again.
            let scaling = RANGE / (range + 1);
            loop {
                let number = self.next() - 1;
                if number < (range + 1) * scaling {
                    return number / scaling;
                }
            }
        }
        if range == RANGE {
            return self.next() - 1;
        }
        // Two draws, of which the first gives the high part.
        loop {
            let high = (RANGE + 1) * self.up_to(range / (RANGE + 1));
            let number = high + self.next() - 1;
            if number <= range {
                return number;
            }
        }
    }
}
