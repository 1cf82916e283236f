//! [`Tag`]: where the entry of a handed out block is.
#![forbid(unsafe_code)]

const GENERATIONS: u32 = 1 << 24;

/// The tag of a block: a cell, an entry in it, and how often the entry has been used. An old tag of a freed block does not
/// name the next block of the same entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Tag {
    pub(super) cell: u8,
    pub(super) generation: u32,
    pub(super) entry: u32,
}

impl Tag {
    #[inline]
    pub(super) fn pack(self) -> u64 {
        u64::from(self.cell) << 56 | u64::from(self.generation) << 32 | u64::from(self.entry)
    }

    #[inline]
    pub(super) fn unpack(tag: u64) -> Self {
        let generation = (tag >> 32) as u32 % GENERATIONS;
        Self { cell: (tag >> 56) as u8, generation, entry: tag as u32 }
    }

    #[inline]
    pub(super) fn next_generation(generation: u32) -> u32 {
        (generation + 1) % GENERATIONS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_unpacked_as_it_was_packed() {
        for tag in [
            Tag::default(),
            Tag { cell: 63, generation: GENERATIONS - 1, entry: u32::MAX },
            Tag { cell: 1, generation: 2, entry: 3 },
        ] {
            assert_eq!(Tag::unpack(tag.pack()), tag);
        }
        assert_eq!(Tag::next_generation(GENERATIONS - 1), 0);
    }
}
