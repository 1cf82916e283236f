//! Figures of a stack, its limit, and its unused memory.

use crate::entry::entry;
use crate::failure::Failure;
use crate::handles::{self, CumemStack};
use crate::open::into_text;
use crate::out::place;
use crate::stack::Stack;
use crate::status::{CumemError, CumemStatus};
use cumem::{Layer, LayerExt};
use cumem_adaptors::pool::RegionState;
use cumem_adaptors::statistics::leaf_statistics;
use cumem_adaptors::{Counts, LimiterState, PoolSnapshot, PoolState, PoolStats, StatisticsState};
use std::ffi::{CString, c_char, c_int};

/// Counts of a stack, in bytes unless stated otherwise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C)]
pub struct CumemCounters {
    /// Bytes of the live blocks, as requested.
    pub live_bytes: u64,
    /// The number of live blocks.
    pub live_blocks: u64,
    /// A bound that `live_bytes` has never exceeded since the last reset of the peak. It is the peak itself if the stack
    /// has `statistics`, or if one stream allocates.
    pub peak_live_bytes: u64,
    /// Bytes of the live blocks, as rounded up by the pool; `live_bytes` if the stack has no pool, or several.
    pub rounded_bytes: u64,
    /// Bytes that the stack holds from the driver.
    pub reserved_bytes: u64,
    /// The largest value that `reserved_bytes` has had since the last reset of the peak.
    pub peak_reserved_bytes: u64,
    /// The number of allocations that failed, if the stack has `statistics`; otherwise 0.
    pub failures: u64,
}

/// The form of a snapshot.
/// cbindgen:rename-all=QualifiedScreamingSnakeCase
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(C)]
pub enum CumemFormat {
    /// Text for people.
    Text = 0,
    /// JSON: each pool with its figures and its pieces of memory, by address.
    Json = 1,
}

const TEXT: c_int = CumemFormat::Text as c_int;
const JSON: c_int = CumemFormat::Json as c_int;

/// Returns the counters of a stack.
///
/// # Safety
///
/// No thread closes the stack meanwhile. `counters` and `error` must be null or point to their types.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cumem_get_counters(
    stack: *mut CumemStack,
    counters: *mut CumemCounters,
    error: *mut CumemError,
) -> CumemStatus {
    entry(error, || {
        // SAFETY: the caller upholds the contract.
        let place = unsafe { place(counters, "counters") }?;
        // SAFETY: the caller promises that no thread closes the stack.
        *place = counters_of(unsafe { handles::get(stack) }?);
        Ok(())
    })
}

/// Makes the peaks of a stack's pools start again from the present values. The peaks of `statistics` cannot be reset: a
/// stack whose outermost layer that counts is `statistics` keeps `peak_live_bytes`.
///
/// # Safety
///
/// No thread closes the stack meanwhile. `error` must be null or point to its type.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cumem_reset_peak(stack: *mut CumemStack, error: *mut CumemError) -> CumemStatus {
    entry(error, || {
        // SAFETY: the caller promises that no thread closes the stack.
        let stack = unsafe { handles::get(stack) }?;
        let pools = stack.memory.find_all::<PoolState>();
        if pools.is_empty() {
            return Err(Failure::new(CumemStatus::NotSupported, "the stack has no pool, whose peaks can be reset"));
        }
        pools.iter().for_each(|pool| pool.reset_peaks());
        Ok(())
    })
}

/// Frees unused memory while the stack holds more than `keep` bytes of it. `freed` receives the bytes that were freed;
/// it may be null. The host waits for work that still uses the memory.
///
/// # Safety
///
/// No thread closes the stack meanwhile. `freed` and `error` must be null or point to their types.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cumem_trim(
    stack: *mut CumemStack,
    keep: usize,
    freed: *mut usize,
    error: *mut CumemError,
) -> CumemStatus {
    entry(error, || {
        // SAFETY: the caller promises that no thread closes the stack.
        let stack = unsafe { handles::get(stack) }?;
        let trimmed = stack.memory.trim_stack(keep)?;
        // SAFETY: the caller upholds the contract.
        if let Some(freed) = unsafe { freed.as_mut() } {
            *freed = trimmed;
        }
        Ok(())
    })
}

/// Sets the limit of a stack whose description has a `limit`, in bytes. If more is allocated already, nothing is freed,
/// and the next allocation fails.
///
/// # Safety
///
/// No thread closes the stack meanwhile. `error` must be null or point to its type.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cumem_set_limit(stack: *mut CumemStack, bytes: usize, error: *mut CumemError) -> CumemStatus {
    entry(error, || {
        // SAFETY: the caller promises that no thread closes the stack.
        set_limit(unsafe { handles::get(stack) }?, bytes)
    })
}

/// Returns all memory of the stack's pools, in a `cumem_format`. The caller frees the text with `cumem_text_free`.
///
/// # Safety
///
/// No thread closes the stack meanwhile. `text` and `error` must be null or point to their types.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cumem_snapshot(
    stack: *mut CumemStack,
    format: c_int,
    text: *mut *mut c_char,
    error: *mut CumemError,
) -> CumemStatus {
    entry(error, || {
        // SAFETY: the caller upholds the contract.
        let place = unsafe { place(text, "text") }?;
        *place = std::ptr::null_mut();
        // SAFETY: the caller promises that no thread closes the stack.
        let stack = unsafe { handles::get(stack) }?;
        let pools: Vec<_> = stack.memory.find_all::<PoolState>().iter().map(|pool| pool.snapshot()).collect();
        *place = into_text(match format {
            TEXT => pools.iter().map(|pool| format!("{pool}\n")).collect(),
            JSON => json(&pools),
            other => return Err(Failure::argument(format!("{other} is no format of a snapshot"))),
        });
        Ok(())
    })
}

/// Frees a text that a function of this library returned. Nothing happens if `text` is null.
///
/// # Safety
///
/// The text was returned by this library, and was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cumem_text_free(text: *mut c_char) {
    if !text.is_null() {
        // SAFETY: the caller promises that the text comes from `CString::into_raw`.
        drop(unsafe { CString::from_raw(text) });
    }
}

pub(crate) fn set_limit(stack: &Stack, bytes: usize) -> Result<(), Failure> {
    let Some(limit) = stack.memory.find::<LimiterState>() else {
        let text = "the stack has no limit: describe it with one, for example `device | pool | limit(80%)`";
        return Err(Failure::new(CumemStatus::NotSupported, text));
    };
    limit.set_bytes(bytes);
    Ok(())
}

fn counters_of(stack: &Stack) -> CumemCounters {
    let memory = &stack.memory;
    let mut counters = CumemCounters::default();
    // The outermost layer that counts has the callers' blocks.
    let layers = std::iter::once(memory.upstream() as &dyn Layer).chain(memory.layers_beneath());
    let counted = layers.map(|layer| layer.state()).any(|state| {
        if let Some(pool) = state.downcast_ref::<PoolState>() {
            count_pool(&mut counters, &pool.stats());
            return true;
        }
        state.downcast_ref::<StatisticsState>().inspect(|all| count_statistics(&mut counters, &all.counts())).is_some()
    });
    debug_assert!(counted, "every stack counts");
    let pools: Vec<_> = memory.find_all::<PoolState>().iter().map(|pool| pool.stats()).collect();
    if let [only] = &pools[..] {
        counters.rounded_bytes = only.allocated as u64;
    }
    let leaves: Vec<_> = leaf_statistics(memory).iter().map(|leaf| leaf.counts()).collect();
    if !leaves.is_empty() {
        counters.reserved_bytes = leaves.iter().map(|leaf| leaf.current_bytes as u64).sum();
        counters.peak_reserved_bytes = leaves.iter().map(|leaf| leaf.peak_bytes as u64).sum();
    } else if let Some(last) = pools.last() {
        // The innermost pool holds the memory of the driver.
        counters.reserved_bytes = last.reserved as u64;
        counters.peak_reserved_bytes = last.peak_reserved as u64;
    }
    counters
}

fn count_pool(counters: &mut CumemCounters, stats: &PoolStats) {
    counters.live_bytes = stats.requested as u64;
    counters.live_blocks = stats.blocks as u64;
    counters.peak_live_bytes = stats.peak_requested_at_most as u64;
    counters.rounded_bytes = stats.allocated as u64;
}

fn count_statistics(counters: &mut CumemCounters, counts: &Counts) {
    counters.live_bytes = counts.current_bytes as u64;
    counters.live_blocks = counts.current_blocks as u64;
    counters.peak_live_bytes = counts.peak_bytes as u64;
    counters.rounded_bytes = counts.current_bytes as u64;
    counters.failures = counts.failures;
}

fn json(pools: &[PoolSnapshot]) -> String {
    let pools: Vec<String> = pools.iter().map(pool_json).collect();
    format!("{{\"pools\":[{}]}}", pools.join(","))
}

fn pool_json(pool: &PoolSnapshot) -> String {
    let regions: Vec<String> = pool
        .regions
        .iter()
        .map(|region| {
            let state = match region.state {
                RegionState::Live => "live",
                RegionState::Cached => "cached",
                RegionState::Free => "free",
                RegionState::Untouched => "untouched",
                RegionState::Pending => "pending",
                _ => "unknown",
            };
            let stream = region.stream.map_or("null".into(), |stream| stream.as_u64().to_string());
            format!(
                "{{\"address\":{},\"bytes\":{},\"state\":\"{state}\",\"stream\":{stream}}}",
                region.addr, region.bytes
            )
        })
        .collect();
    let stats = &pool.stats;
    format!(
        "{{\"reserved\":{},\"allocated\":{},\"requested\":{},\"free\":{},\"blocks\":{},\"regions\":[{}]}}",
        stats.reserved,
        stats.allocated,
        stats.requested,
        stats.free,
        stats.blocks,
        regions.join(",")
    )
}
