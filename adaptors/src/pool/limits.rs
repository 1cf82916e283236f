//! [`Limits`]: the options in the form that misses use.
#![forbid(unsafe_code)]

use super::options::Crossing;
use super::rounding::Rounding;
use crate::size::Size;
use cumem::Location;

/// The options, with sizes in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) maximum: Option<usize>,
    pub(super) step: Option<usize>,
    pub(super) release_threshold: Option<usize>,
    /// A size, or a share of the live bytes.
    pub(super) slack: Size,
    pub(super) crossing: Crossing,
    pub(super) prefetch: Option<Location>,
    /// The granularity of the upstream's mappings in bytes, if adjacent chunks can be used as one.
    pub(super) granularity: Option<usize>,
    /// Memory that has not been used occupies no pages, so the pool uses it last.
    pub(super) lazy: bool,
    pub(super) rounding: Rounding,
    /// Requests that are larger than any block of this pool are passed on to the upstream.
    pub(super) forwards_larger: bool,
}
