//! [`Limits`]: the options as misses use them.
#![forbid(unsafe_code)]

use super::options::Crossing;
use super::rounding::Rounding;
use crate::size::Size;
use cumem::Location;

/// The options, with every size in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) maximum: Option<usize>,
    pub(super) step: Option<usize>,
    pub(super) release_threshold: Option<usize>,
    /// Of what is live.
    pub(super) slack: Size,
    pub(super) crossing: Crossing,
    pub(super) prefetch: Option<Location>,
    /// The upstream's chunks can be used as one where they touch, and are multiples of so many bytes.
    pub(super) granularity: Option<usize>,
    /// What has not been used takes no memory, so that it is used last.
    pub(super) lazy: bool,
    pub(super) rounding: Rounding,
    /// What is too large for a block is the upstream's.
    pub(super) forwards_larger: bool,
}
