//! Allocations during captures of streams.

use crate::entry::entry;
use crate::failure::Failure;
use crate::handles::{self, CumemStack};
use crate::stack::Stack;
use crate::status::{CumemError, CumemStatus};
use cumem::LayerExt;
use cumem_adaptors::GraphPoolsState;
use cumem_adaptors::graph_pools::GraphPoolId;
use std::ffi::c_void;

/// Returns whether a stream is part of a capture. `context` is what `cumem_capture_begin` was called with.
pub type CumemStreamFilter = Option<unsafe extern "C" fn(stream: *mut c_void, context: *mut c_void) -> bool>;

/// Makes allocations on captured streams come from the private pool with the name (`first`, `second`), until
/// `cumem_capture_end`. The pool is created if it does not exist. Call this function before the capture begins.
///
/// `streams` is called at each allocation meanwhile, from whichever thread, and returns whether the stream allocates from
/// the private pool. If it is null, every stream does. `context` is passed to it.
///
/// The private pool keeps its memory until `cumem_capture_release` was called as often as this function. The stack needs a
/// layer `graph_pools`.
///
/// # Safety
///
/// No thread closes the stack meanwhile. `streams` may be called with `context` from any thread until the end of the
/// capture. `error` must be null or point to its type.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cumem_capture_begin(
    stack: *mut CumemStack,
    first: u64,
    second: u64,
    streams: CumemStreamFilter,
    context: *mut c_void,
    error: *mut CumemError,
) -> CumemStatus {
    entry(error, || {
        // SAFETY: the caller promises that no thread closes the stack.
        let stack = unsafe { handles::get(stack) }?;
        let context = Context(context);
        begin(stack, GraphPoolId(first, second), move |stream| match streams {
            None => true,
            // SAFETY: the caller permits the call.
            Some(streams) => unsafe { streams(stream, context.get()) },
        })
    })
}

/// Ends what `cumem_capture_begin` began. Call this function after the capture has ended.
///
/// # Safety
///
/// No thread closes the stack meanwhile. `error` must be null or point to its type.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cumem_capture_end(
    stack: *mut CumemStack,
    first: u64,
    second: u64,
    error: *mut CumemError,
) -> CumemStatus {
    entry(error, || {
        // SAFETY: the caller promises that no thread closes the stack.
        Ok(graph_pools(unsafe { handles::get(stack) }?)?.end(GraphPoolId(first, second))?)
    })
}

/// Gives up the hold of one `cumem_capture_begin` on the memory of a private pool: the graph of that capture is destroyed.
///
/// # Safety
///
/// No thread closes the stack meanwhile. `error` must be null or point to its type.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cumem_capture_release(
    stack: *mut CumemStack,
    first: u64,
    second: u64,
    error: *mut CumemError,
) -> CumemStatus {
    entry(error, || {
        // SAFETY: the caller promises that no thread closes the stack.
        Ok(graph_pools(unsafe { handles::get(stack) }?)?.release(GraphPoolId(first, second))?)
    })
}

/// Begins a capture, without the checks of an entry. `streams` is called with the handle of a stream.
pub(crate) fn begin(
    stack: &Stack,
    id: GraphPoolId,
    streams: impl Fn(*mut c_void) -> bool + Send + Sync + 'static,
) -> Result<(), Failure> {
    let of_stream = move |stream: &cumem::Stream| streams(std::ptr::without_provenance_mut(stream.as_raw() as usize));
    Ok(graph_pools(stack)?.begin(id, of_stream)?)
}

pub(crate) fn graph_pools(stack: &Stack) -> Result<&GraphPoolsState, Failure> {
    let missing = || {
        let text = format!("`{}` has no layer `graph_pools`, which captures need", stack.memory.upstream());
        Failure::argument(text)
    };
    stack.memory.find::<GraphPoolsState>().ok_or_else(missing)
}

struct Context(*mut c_void);

// SAFETY: `cumem_capture_begin` requires that any thread may call the filter with the context.
unsafe impl Send for Context {}
// SAFETY: as for `Send`.
unsafe impl Sync for Context {}

impl Context {
    fn get(&self) -> *mut c_void {
        self.0
    }
}
