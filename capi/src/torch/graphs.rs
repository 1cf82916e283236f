//! The functions that PyTorch calls around its captures: memory of a CUDA graph comes from a private pool.

use super::function::Function;
use super::stacks::{complain, stack};
use crate::capture::{begin, graph_pools};
use crate::entry::attempt;
use cumem_adaptors::graph_pools::GraphPoolId;
use std::ffi::{c_schar, c_void};

/// For `set_begin_allocate_to_pool`: allocations on the streams for which `filter` returns true come from the private pool
/// (`first`, `second`), which is PyTorch's `MempoolId_t`. `filter` is a `std::function<bool(cudaStream_t)>`.
///
/// # Safety
///
/// `filter` points to such a function, of the GNU C++ library.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cumem_torch_begin_pool(device: c_schar, first: u64, second: u64, filter: *const c_void) {
    complain(attempt(|| {
        // SAFETY: the caller upholds the contract.
        let filter = unsafe { Function::copy(filter.cast()) };
        begin(stack(device.into())?, GraphPoolId(first, second), move |stream| filter.call(stream))
    }));
}

/// For `set_end_allocate_to_pool_fn`: ends what [`cumem_torch_begin_pool`] began.
#[unsafe(no_mangle)]
pub extern "C" fn cumem_torch_end_pool(device: c_schar, first: u64, second: u64) {
    complain(attempt(|| Ok(graph_pools(stack(device.into())?)?.end(GraphPoolId(first, second))?)));
}

/// For `set_release_pool`: the graph of one [`cumem_torch_begin_pool`] is gone.
#[unsafe(no_mangle)]
pub extern "C" fn cumem_torch_release_pool(device: c_schar, first: u64, second: u64) {
    complain(attempt(|| Ok(graph_pools(stack(device.into())?)?.release(GraphPoolId(first, second))?)));
}
