//! [`Outside`]: what a thread that cannot lock the pool's mutex can use.
#![forbid(unsafe_code)]

use super::shared::SharedFigures;
use cumem::{Block, Stream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize};

pub(super) const NO_THREAD: usize = 0;

/// What is known about the pool's mutex without it.
#[derive(Debug, Default)]
pub(super) struct Outside {
    /// The thread that holds the mutex.
    pub(super) holder: AtomicUsize,
    pub(super) figures: Mutex<SharedFigures>,
    /// Blocks that were freed while the mutex could not be locked, with the streams that they were freed on.
    pub(super) late: Mutex<Vec<(Stream, Block)>>,
    pub(super) has_late: AtomicBool,
}
