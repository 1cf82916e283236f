//! [`Tag`]: where the pool finds a block's bookkeeping.

/// See the [module](self).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tag {
    pub(super) slot: u8,
    /// Bytes of the last unit that were not requested.
    pub(super) slack: u8,
    pub(super) generation: u16,
    pub(super) node: u32,
}

impl Tag {
    #[inline]
    pub(super) fn pack(self) -> u64 {
        u64::from(self.node)
            | u64::from(self.generation) << 32
            | u64::from(self.slack) << 48
            | u64::from(self.slot) << 56
    }

    #[inline]
    pub(super) fn unpack(tag: u64) -> Self {
        Self { slot: (tag >> 56) as u8, slack: (tag >> 48) as u8, generation: (tag >> 32) as u16, node: tag as u32 }
    }
}

/// Set in the node of a block that was declared to the race detector. No heap has a node with such a number, so the fast
/// path does not find the block, and its free is declared, too.
const DECLARED: u32 = 1 << 31;

impl Tag {
    pub(super) fn declared(self) -> Self {
        Self { node: self.node | DECLARED, ..self }
    }

    /// Returns the tag of the undeclared block, or `None` if the block was not declared.
    pub(super) fn if_declared(self) -> Option<Self> {
        (self.node & DECLARED != 0).then_some(Self { node: self.node & !DECLARED, ..self })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packs_and_unpacks() {
        let tag = Tag { slot: 0xab, slack: 0xcd, generation: 0x1234, node: 0xdead_beef };
        assert_eq!(tag.pack(), 0xabcd_1234_dead_beef);
        assert_eq!(Tag::unpack(tag.pack()), tag);
    }

    #[test]
    fn a_declared_tag_is_marked() {
        let tag = Tag { slot: 1, slack: 2, generation: 3, node: 4 };
        assert_eq!((tag.if_declared(), tag.declared().if_declared()), (None, Some(tag)));
    }
}
