//! [`Classes`]: counts of live blocks by size.
#![forbid(unsafe_code)]

use super::units::UNIT;
use cumem::error::SizeClass;

/// See the [module](self). A pool that is out of memory counts all its blocks for each error, so this type is small.
#[derive(Debug, Default)]
pub(super) struct Classes([Class; u32::BITS as usize]);

#[derive(Debug, Default, Clone, Copy)]
struct Class {
    blocks: u32,
    units: u64,
}

impl Classes {
    #[inline]
    pub(super) fn count(&mut self, units: u32) {
        // The logarithm of the next power of two.
        let class = &mut self.0[(u32::BITS - units.wrapping_sub(1).leading_zeros()) as usize];
        class.blocks += 1;
        class.units += u64::from(units);
    }

    /// Returns the classes that have a block, from the smallest size.
    pub(super) fn counted(self) -> Vec<SizeClass> {
        let classes = self.0.into_iter().enumerate().filter(|(_, class)| class.blocks > 0);
        let class = |(log, class): (usize, Class)| {
            SizeClass::new(UNIT << log, class.blocks as usize, class.units as usize * UNIT)
        };
        classes.map(class).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_class_counts_blocks_larger_than_half_of_its_size() {
        let mut classes = Classes::default();
        [1, 2, 3, 4, 5, 8, 1 << 31].into_iter().for_each(|units| classes.count(units));
        let counted: Vec<_> = classes.counted().iter().map(|c| (c.at_most / UNIT, c.blocks, c.bytes / UNIT)).collect();
        assert_eq!(counted, [(1, 1, 1), (2, 1, 2), (4, 2, 7), (8, 2, 13), (1 << 31, 1, 1 << 31)]);
    }
}
