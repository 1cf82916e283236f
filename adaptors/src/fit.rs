//! [`fit_batch`]: how large a batch a stack has room for.

use crate::limiter::Limit;
use crate::pool::PoolState;
use crate::pressure::PressureState;
use crate::size::Size;
use cumem::{
    Beneath, CUDA_ALLOCATION_ALIGNMENT, Device, DriverError, HostResource, Layer, LayerExt, ManagedResource,
    PinnedResource, layout,
};
use std::any::Any;

/// How room is found, where the defaults do not do: nothing is held back, and no memory is taken twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "finds nothing by itself"]
pub struct FitOptions {
    margin: Size,
    oversubscribe: bool,
}

impl Default for FitOptions {
    fn default() -> Self {
        Self { margin: Size::Bytes(0), oversubscribe: false }
    }
}

/// The answer of [`fit_batch`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fit {
    /// Items of the batch; 0 if not even one fits, or the fixed part alone does not.
    pub items: usize,
    /// Bytes that it takes, the fixed part included; 0 without items.
    pub bytes: usize,
    /// Bytes that there were, less the margin.
    pub available: usize,
}

/// The largest batch, up to `wanted` items, that `stack` has room for in one block, at `bytes_per_item` bytes each
/// and `fixed_bytes` for all. What the results take counts too: it belongs into `bytes_per_item`.
///
/// Every layer has its say, from the device outwards: free memory of the device, a limit's rest, a pool's largest
/// free piece or what it may still grow by, a pressure that refuses. A block is never from both sides of a
/// [`Spill`](crate::Spill), so there the roomier side counts. Others use the device as well, so the answer is
/// of this moment; for the difference there are the margin ([`FitOptions`]) and
/// [`with_oom_recovery`](crate::with_oom_recovery).
///
/// # Errors
///
/// What the driver answers when it is asked how much is free.
pub fn fit_batch(
    stack: &(impl Layer + ?Sized),
    bytes_per_item: usize,
    fixed_bytes: usize,
    wanted: usize,
) -> Result<Fit, DriverError> {
    FitOptions::default().fit_batch(stack, bytes_per_item, fixed_bytes, wanted)
}

impl FitOptions {
    /// Holds this much back: bytes, or a share of the device's memory.
    pub fn margin(self, margin: impl Into<Size>) -> Self {
        Self { margin: margin.into(), ..self }
    }

    /// Unified memory may be more than the device has free: only limits count for it then.
    pub fn oversubscribe(self, oversubscribe: bool) -> Self {
        Self { oversubscribe, ..self }
    }

    /// [`fit_batch`] with these options.
    ///
    /// # Errors
    ///
    /// Those of [`fit_batch`].
    pub fn fit_batch(
        self,
        stack: &(impl Layer + ?Sized),
        bytes_per_item: usize,
        fixed_bytes: usize,
        wanted: usize,
    ) -> Result<Fit, DriverError> {
        let total = stack.device().attributes().total_memory;
        let room = self.room(stack)?.saturating_sub(self.margin.bytes_of(total));
        // Blocks are counted, and cut, in multiples of this.
        let available = layout::align_down(room, CUDA_ALLOCATION_ALIGNMENT);
        let items = match available.checked_sub(fixed_bytes) {
            None => 0,
            Some(rest) => rest.checked_div(bytes_per_item).unwrap_or(wanted).min(wanted),
        };
        let bytes = if items == 0 { 0 } else { fixed_bytes + items * bytes_per_item };
        Ok(Fit { items, bytes, available })
    }

    /// Bytes of the largest block that the stack has room for.
    fn room(self, layer: &(impl Layer + ?Sized)) -> Result<usize, DriverError> {
        let room = match layer.beneath() {
            Beneath::Layer(beneath) => self.room(beneath)?,
            // A block is from one of the two.
            Beneath::Two(first, second) => self.room(first)?.max(self.room(second)?),
            Beneath::Device(device) => self.free(device, layer.state())?,
        };
        through(layer.state(), room)
    }

    /// Bytes that a leaf may have.
    fn free(self, device: &Device, leaf: &dyn Any) -> Result<usize, DriverError> {
        let of_the_host = leaf.is::<PinnedResource>() || leaf.is::<HostResource>();
        match of_the_host || (self.oversubscribe && leaf.is::<ManagedResource>()) {
            true => Ok(usize::MAX),
            false => Ok(device.memory_info()?.free),
        }
    }
}

/// What of `room` beneath it a layer lets through.
fn through(state: &dyn Any, room: usize) -> Result<usize, DriverError> {
    if let Some(limit) = state.downcast_ref::<Limit>() {
        return Ok(room.min(limit.remaining()));
    }
    if let Some(pressure) = state.downcast_ref::<PressureState>() {
        return Ok(room.min(pressure.remaining()?));
    }
    if let Some(pool) = state.downcast_ref::<PoolState>() {
        let stats = pool.stats();
        let growth = pool.maximum().map_or(usize::MAX, |most| most.saturating_sub(stats.reserved));
        return Ok(stats.largest_free.max(room.min(growth)));
    }
    Ok(room)
}
