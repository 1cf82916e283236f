//! The placement of pinned memory, as plain data.
#![forbid(unsafe_code)]

/// The pages behind pinned memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum HugePages {
    /// Pages of the system's usual size.
    #[default]
    No,
    /// Huge pages where the system has them free (`madvise` with `MADV_HUGEPAGE`).
    Transparent,
    /// Huge pages of the system's default size, from the reserve that its administrator made (`mmap` with
    /// `MAP_HUGETLB`). If too few are reserved, the allocation is out of memory.
    Reserved,
}

/// The NUMA node and the pages of pinned memory.
///
/// # Examples
///
/// ```
/// use cumem_driver::{HugePages, PinnedProperties};
///
/// let usual = PinnedProperties::default();
/// assert_eq!((usual.numa_node, usual.huge_pages), (None, HugePages::No));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub struct PinnedProperties {
    /// The NUMA node that all pages are taken from, or `None` for the system's choice.
    pub numa_node: Option<u32>,
    /// The pages.
    pub huge_pages: HugePages,
}

impl PinnedProperties {
    /// Creates the value from the NUMA node and the pages.
    pub const fn new(numa_node: Option<u32>, huge_pages: HugePages) -> Self {
        Self { numa_node, huge_pages }
    }
}
