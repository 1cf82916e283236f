//! [`Unfreed`]: the blocks of an adaptor that were live when the adaptor was dropped.
#![forbid(unsafe_code)]

use cumem::DeviceId;
use cumem::error::{DropError, record_drop_error};
use std::fmt;

/// The blocks that were allocated through an adaptor and not freed through it.
pub(crate) struct Unfreed {
    pub(crate) device: DeviceId,
    /// The number of blocks, if the adaptor counts them.
    pub(crate) blocks: Option<u64>,
    /// Bytes, as the adaptor counts them.
    pub(crate) bytes: u64,
}

impl Unfreed {
    /// Records an error if there is any, for [`take_drop_errors`](cumem::error::take_drop_errors). `what` names the
    /// adaptor.
    pub(crate) fn report(self, what: &str) {
        if self.bytes > 0 || self.blocks.is_some_and(|blocks| blocks > 0) {
            record_drop_error(what, Err(self));
        }
    }
}

impl fmt::Display for Unfreed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.bytes)?;
        if let Some(blocks) = self.blocks {
            write!(f, " in {blocks} blocks")?;
        }
        f.write_str(" that were allocated through it are live; free every block before its stack is dropped")
    }
}

impl DropError for Unfreed {
    fn device(&self) -> Option<DeviceId> {
        Some(self.device)
    }
}
