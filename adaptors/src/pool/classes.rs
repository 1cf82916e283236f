//! [`Classes`]: live blocks counted by size.
#![forbid(unsafe_code)]

use cumem::SizeClass;

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Classes([SizeClass; usize::BITS as usize]);

impl Default for Classes {
    fn default() -> Self {
        Self([SizeClass::default(); usize::BITS as usize])
    }
}

impl Classes {
    pub(super) fn count(&mut self, bytes: usize) {
        let at_most = bytes.next_power_of_two();
        let class = &mut self.0[at_most.trailing_zeros() as usize];
        *class = SizeClass { at_most, blocks: class.blocks + 1, bytes: class.bytes + bytes };
    }

    /// From the smallest; sizes that no block has are left out.
    pub(super) fn counted(self) -> Vec<SizeClass> {
        self.0.into_iter().filter(|class| class.blocks > 0).collect()
    }
}
