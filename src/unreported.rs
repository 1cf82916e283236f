//! [`unreported`]: allocations whose refusal is not reported, so that no time is spent on its figures.
#![forbid(unsafe_code)]

use std::cell::Cell;

thread_local! {
    static UNREPORTED: Cell<bool> = const { Cell::new(false) };
}

/// Restores the previous value, also after a panic.
struct Restore(bool);

impl Drop for Restore {
    fn drop(&mut self) {
        UNREPORTED.set(self.0);
    }
}

/// Calls `allocate`, whose refusal the caller does not report, for example because the caller allocates from another
/// resource instead. A suballocator that is out of memory then leaves out of its error what takes time to count: only
/// [`reserved`](crate::error::Usage::reserved) and [`maximum`](crate::error::Usage::maximum) are filled in, and
/// [`partial`](crate::error::Usage::partial) is true.
///
/// # Examples
///
/// ```
/// use cumem::error::unreported;
/// use cumem::sim::Profile;
/// use cumem::{AllocError, CudaResource, Device, MemoryResource, Stream, layout};
/// use cumem_adaptors::{PoolOptions, ResourceExt};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::simulated(Profile::default())?;
/// let stream = Stream::new(&device)?;
/// let pool = CudaResource::new(&device).pool(PoolOptions::new().maximum(4 << 20))?;
/// let refused = unreported(|| pool.allocate(&stream, layout::bytes(8 << 20)?)).unwrap_err();
/// let AllocError::Exhausted { held, .. } = refused else { panic!("the pool is at its maximum") };
/// assert!(held.partial);
/// assert_eq!(held.maximum, Some(4 << 20));
/// # Ok(())
/// # }
/// ```
pub fn unreported<T>(allocate: impl FnOnce() -> T) -> T {
    let _restore = Restore(UNREPORTED.replace(true));
    allocate()
}

/// Reports whether the refusal of the present allocation is reported. A suballocator that returns `true` here fills in
/// all of [`Usage`](crate::error::Usage).
///
/// # Examples
///
/// ```
/// use cumem::error::{is_reported, unreported};
///
/// assert!(is_reported());
/// assert!(!unreported(is_reported));
/// ```
pub fn is_reported() -> bool {
    !UNREPORTED.get()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_ends_the_scope() {
        let panicked = std::panic::catch_unwind(|| unreported(|| unreported(|| panic!("within"))));
        assert!(panicked.is_err() && is_reported());
    }
}
