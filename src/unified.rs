//! Managed (unified) memory: hints, where pages are, what moved and why, and prefetch that follows from use.

pub mod accounting;
pub mod auto;
pub mod hints;
pub(crate) mod residency;
