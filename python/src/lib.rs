//! The native module `cumem._native` of the Python package. The shared object also exports the functions of the C
//! interface (`cumem.h`), so that Python, PyTorch and C code use the same stacks.
//!
//! The classes are documented for users in `package/cumem/_native.pyi`.

mod buffer;
mod counters;
mod device;
mod failure;
mod opened;
mod parent_only;
mod scope;
mod sizes;
mod stack;
mod stream;

use pyo3::prelude::*;

/// The module.
#[pymodule]
mod _native {
    use pyo3::prelude::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }

    #[pymodule_export]
    use crate::buffer::{Buffer, HintOutcome};
    #[pymodule_export]
    use crate::counters::Counters;
    #[pymodule_export]
    use crate::device::Device;
    #[pymodule_export]
    use crate::scope::{Counts, ProfileRow, Scope};
    #[pymodule_export]
    use crate::sizes::parse_size;
    #[pymodule_export]
    use crate::stack::Stack;
    #[pymodule_export]
    use crate::stream::Stream;
}
