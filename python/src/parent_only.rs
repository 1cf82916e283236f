//! [`ParentOnly`]: a value that only the process that created it drops.

use pyo3::prelude::*;
use std::mem::ManuallyDrop;
use std::ops::Deref;

/// A value whose drop calls the driver or locks the library. A forked child does not drop it, because the child cannot use
/// CUDA, and a lock may be locked for ever in it. The drop runs without the GIL.
#[derive(Debug)]
pub(crate) struct ParentOnly<T: Send>(ManuallyDrop<T>);

impl<T: Send> ParentOnly<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(ManuallyDrop::new(value))
    }
}

impl<T: Send> Deref for ParentOnly<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: Send> Drop for ParentOnly<T> {
    fn drop(&mut self) {
        if cumem_c::rust::is_forked_child() {
            return;
        }
        // SAFETY: only this drop takes the value, and it runs once.
        let value = unsafe { ManuallyDrop::take(&mut self.0) };
        without_gil(|| drop(value));
    }
}

/// Calls `work` without the GIL, if the calling thread has it.
pub(crate) fn without_gil(work: impl FnOnce() + Send) {
    let mut work = Some(work);
    // While the interpreter ends, the thread keeps what it has.
    Python::try_attach(|py| py.detach(|| work.take().map(|work| work())));
    if let Some(work) = work {
        work();
    }
}
