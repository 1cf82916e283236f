//! [`Held`]: a buffer whose contents are known.

use super::figures::Figures;
use super::worker::{Done, Wrong};
use cumem::kind::Erased;
use cumem::{AnyResource, Buffer};

/// A buffer and the elements that it must hold.
pub(crate) struct Held<'r> {
    pub(crate) buffer: Buffer<u32, &'r AnyResource<Erased>>,
    /// The elements, or `None` after a write that failed on its way.
    pub(crate) elements: Option<Vec<u32>>,
}

impl Held<'_> {
    /// Compares the buffer with its elements.
    pub(crate) fn verify(&self, figures: &Figures) -> Done {
        let Some(expected) = &self.elements else { return Ok(()) };
        let found = self.buffer.to_vec()?;
        figures.count_verified(found.len() * 4);
        same(&found, expected)
    }

    /// Runs a write. If the write fails, the elements are no longer known.
    pub(crate) fn write(&mut self, write: impl FnOnce(&mut Self) -> Done) -> Done {
        write(self).inspect_err(|_| self.elements = None)
    }
}

/// Compares elements, and names the first that differs.
pub(crate) fn same(found: &[u32], expected: &[u32]) -> Done {
    let differs = || found.iter().zip(expected).position(|(found, expected)| found != expected);
    match differs() {
        None if found.len() == expected.len() => Ok(()),
        None => Err(Wrong(format!("{} elements were read, and {} written", found.len(), expected.len())).into()),
        Some(at) => {
            let (found, expected) = (found[at], expected[at]);
            Err(Wrong(format!("element {at} is {found:#x}, and was written as {expected:#x}")).into())
        }
    }
}

/// Returns elements that differ from those of another seed.
pub(crate) fn pattern(seed: u32, len: usize) -> Vec<u32> {
    (0..len as u32).map(|at| seed.wrapping_mul(0x9e37_79b9) ^ at.wrapping_mul(0x85eb_ca6b)).collect()
}
