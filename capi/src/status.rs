//! [`CumemStatus`] and [`CumemError`]: the result of a function, and the description of a failure.

use std::ffi::c_char;
use std::fmt;

/// The result of a function.
/// cbindgen:rename-all=QualifiedScreamingSnakeCase
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(C)]
pub enum CumemStatus {
    /// The function did its work.
    Success = 0,
    /// A null pointer, or a size, an alignment or a name that is not valid.
    InvalidArgument = 1,
    /// The stack is closed, or was never opened.
    InvalidStack = 2,
    /// The text describes no stack. The error points at the wrong word.
    InvalidSpec = 3,
    /// The device is out of memory, or a pool has reached its maximum.
    OutOfMemory = 4,
    /// The request would exceed a limit.
    LimitExceeded = 5,
    /// The memory is free already.
    AlreadyFree = 6,
    /// No block of the stack is at the address.
    ForeignAddress = 7,
    /// The address lies in a block, behind its start.
    InnerAddress = 8,
    /// The block has another size.
    WrongSize = 9,
    /// The stream belongs to another device.
    WrongDevice = 10,
    /// The stack, the device or the driver has no such function.
    NotSupported = 11,
    /// The driver returned an error.
    Driver = 12,
    /// The process is a forked child of the process that opened the stack.
    Forked = 13,
    /// The stack still has live blocks.
    Busy = 14,
    /// A function of the library panicked. The stack can be used further.
    Panic = 15,
}

/// The bytes of a text, its final 0 included.
pub(crate) const TEXT: usize = 1024;

/// The description of a failure. Written only by a function that fails.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct CumemError {
    /// The status that the function returned.
    pub status: CumemStatus,
    /// Bytes requested, or 0.
    pub requested: u64,
    /// Bytes that were free, or 0 if not known.
    pub available: u64,
    /// The limit in bytes, or all bytes of the device, or 0.
    pub limit: u64,
    /// The address that the failure is about, or 0.
    pub address: u64,
    /// One line of UTF-8, for stack texts several, ended by 0. Cut off if it is longer.
    pub text: [c_char; 1024],
}

impl CumemError {
    /// No failure.
    pub const NONE: Self =
        Self { status: CumemStatus::Success, requested: 0, available: 0, limit: 0, address: 0, text: [0; TEXT] };

    /// Returns the text.
    pub fn text(&self) -> String {
        let bytes: Vec<u8> = self.text.iter().take_while(|&&c| c != 0).map(|&c| c as u8).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Sets the text, up to the last character that fits.
    pub(crate) fn set_text(&mut self, text: &str) {
        let end = text.floor_char_boundary_at(TEXT - 1);
        self.text = [0; TEXT];
        for (to, from) in self.text.iter_mut().zip(text.as_bytes()[..end].iter()) {
            *to = *from as c_char;
        }
    }
}

impl Default for CumemError {
    fn default() -> Self {
        Self::NONE
    }
}

impl fmt::Debug for CumemError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CumemError({:?}: {})", self.status, self.text())
    }
}

trait FloorBoundary {
    fn floor_char_boundary_at(&self, most: usize) -> usize;
}

impl FloorBoundary for str {
    /// Returns the largest boundary between two characters that is at most `most`.
    fn floor_char_boundary_at(&self, most: usize) -> usize {
        (0..=most.min(self.len())).rev().find(|&at| self.is_char_boundary(at)).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let mut error = CumemError::NONE;
        error.set_text(&"é".repeat(1000));
        assert_eq!(error.text(), "é".repeat((TEXT - 1) / 2));
        error.set_text("short");
        assert_eq!(error.text(), "short");
    }
}
