//! The C interface of cumem. [`include/cumem.h`](https://github.com/cumem/cumem/blob/main/capi/include/cumem.h) is the
//! header, and `docs/c.md` is the guide.
//!
//! Every function catches panics, checks its stack, and returns a [`CumemStatus`]. A function that fails changes nothing,
//! and describes the failure in a [`CumemError`] of the caller, unless the caller passes null.
//!
//! Rust code does not need this crate. The crate is also a Rust library, so that tests can call the functions.

mod capture;
mod entry;
mod failure;
mod figures;
mod handles;
mod memory;
mod open;
mod out;
#[doc(hidden)]
pub mod rust;
mod stack;
mod status;
mod streams;
mod torch;
mod uses;
mod version;

pub use capture::{CumemStreamFilter, cumem_capture_begin, cumem_capture_end, cumem_capture_release};
pub use figures::{
    CumemCounters, CumemFormat, cumem_get_counters, cumem_reset_peak, cumem_set_limit, cumem_snapshot, cumem_text_free,
    cumem_trim,
};
pub use handles::CumemStack;
pub use memory::{cumem_allocate, cumem_free};
pub use open::{
    CumemAccess, cumem_stack_access, cumem_stack_close, cumem_stack_default, cumem_stack_open, cumem_stack_text,
    open_any,
};
pub use status::{CumemError, CumemStatus};
pub use streams::{cumem_stream_create, cumem_stream_destroy, cumem_stream_synchronize};
pub use torch::{
    cumem_torch_alloc, cumem_torch_begin_pool, cumem_torch_empty_cache, cumem_torch_end_pool, cumem_torch_free,
    cumem_torch_init, cumem_torch_memory_fraction, cumem_torch_record_stream, cumem_torch_release_pool,
};
pub use uses::cumem_record_use;
pub use version::{CUMEM_VERSION, cumem_version, cumem_version_text};
