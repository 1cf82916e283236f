//! [`Rng`]: a random number generator that gives the same numbers for a seed on every platform.

/// A small deterministic generator (SplitMix64, Steele, Lea and Flood 2014).
///
/// ```
/// use cumem_conformance::Rng;
///
/// let (mut rng, mut same) = (Rng::new(1), Rng::new(1));
/// assert_eq!(rng.next_u64(), same.next_u64());
/// assert!(rng.below(10) < 10);
/// ```
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    /// Creates a generator from a seed.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem_conformance::Rng;
    /// assert_ne!(Rng::new(1).next_u64(), Rng::new(2).next_u64());
    /// ```
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns the next 64 bits.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem_conformance::Rng;
    /// // The first number of SplitMix64 with this seed.
    /// assert_eq!(Rng::new(1_234_567).next_u64(), 6_457_827_717_110_365_317);
    /// ```
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns a number in `0..n`, nearly uniform; 0 if `n` is 0.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem_conformance::Rng;
    /// let mut rng = Rng::new(1);
    /// assert!((0..100).all(|_| rng.below(6) < 6));
    /// ```
    pub fn below(&mut self, n: usize) -> usize {
        // The high half of a 128-bit product needs no division. Its bias is negligible below 2^48.
        ((u128::from(self.next_u64()) * n as u128) >> 64) as usize
    }

    /// Returns true in `percent` of 100 cases.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem_conformance::Rng;
    /// let mut rng = Rng::new(1);
    /// let hits = (0..1000).filter(|_| rng.chance(20)).count();
    /// assert!((150..250).contains(&hits));
    /// ```
    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// Returns a size in `1..=max` whose order of magnitude is uniform, so that small sizes are as frequent as large
    /// ones.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem_conformance::Rng;
    /// let mut rng = Rng::new(1);
    /// let small = (0..1000).filter(|_| rng.size(1 << 20) < 1 << 10).count();
    /// assert!((400..600).contains(&small), "about half of the orders of magnitude are below 1 KiB");
    /// ```
    pub fn size(&mut self, max: usize) -> usize {
        let bits = self.below(max.max(1).ilog2() as usize + 1) + 1;
        (1 + self.below(1 << bits)).min(max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_sequence() {
        // Reference values of SplitMix64 with seed 1234567 (Vigna's splitmix64.c).
        let mut rng = Rng::new(1_234_567);
        assert_eq!(rng.next_u64(), 6_457_827_717_110_365_317);
        assert_eq!(rng.next_u64(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn bounds_hold() {
        let mut rng = Rng::new(7);
        for _ in 0..1000 {
            assert!(rng.below(3) < 3);
            assert!((1..=1000).contains(&rng.size(1000)));
        }
        assert_eq!(rng.below(0), 0);
        assert_eq!(rng.size(1), 1);
    }
}
