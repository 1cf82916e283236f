//! [`fit_batch`]: the largest batch that a stack has room for.

mod blocks;

pub use blocks::{BlocksFit, fit_blocks};

use crate::aligned::AlignedState;
use crate::binning::BinningState;
use crate::fixed_size::FixedSizeState;
use crate::limiter::LimiterState;
use crate::pool::PoolState;
use crate::pressure::PressureState;
use crate::size::Size;
use cumem::layer::Beneath;
use cumem::layout::CUDA_ALLOCATION_ALIGNMENT;
use cumem::{
    CudaVirtualResource, Device, DeviceError, HostResource, Layer, LayerExt, ManagedResource, PinnedResource, layout,
};
use std::any::Any;

/// The driver takes a multiple of this from the device for a large allocation.
const DRIVER_GRANULE: usize = 2 << 20;
/// The multiple for allocations of at most [`SMALL_MAX`] bytes.
const SMALL_GRANULE: usize = 512;
const SMALL_MAX: usize = (1 << 20) - SMALL_GRANULE;
/// Pages of the host are at most this large, unless they are huge pages.
const HOST_PAGE: usize = 64 << 10;

/// Options of [`fit_batch`]. By default there is no margin, and managed memory is not oversubscribed.
///
/// # Examples
///
/// ```
/// use cumem_adaptors::{FitOptions, Size};
///
/// let options = FitOptions::default().margin(Size::Percent(5)).oversubscribe(true);
/// assert_eq!((options.get_margin(), options.get_oversubscribe()), (Size::Percent(5), true));
/// ```
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

/// The result of [`fit_batch`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fit {
    /// Items of the batch; 0 if not even one fits, or if the fixed bytes alone do not fit.
    pub items: usize,
    /// Bytes that the batch takes, the fixed bytes included; 0 if it has no items.
    pub bytes: usize,
    /// Bytes that were available, after the margin was subtracted.
    pub available: usize,
}

/// Returns the largest batch, up to `wanted` items, that `stack` can allocate as one block.
/// A batch takes `fixed_bytes` plus `bytes_per_item` for each item. Results take memory too:
/// include them in `bytes_per_item`.
///
/// Every layer bounds the result, from the device outwards. The device contributes its free memory in whole 2 MiB,
/// because the driver rounds to that, and the host its available memory. A limit contributes its remaining bytes, and a
/// pressure the bytes until it refuses. A pool contributes its largest free piece or what it may still grow by. A block
/// comes from one of the two resources of a [`Spill`](crate::Spill), so the larger of their two results counts. Other
/// programs use the device as well, so the result holds only for this moment. Allow for that with a margin
/// ([`FitOptions`]) and with [`with_oom_recovery`](crate::with_oom_recovery).
///
/// # Errors
///
/// Returns the driver's error if the query for free memory fails.
///
/// # Examples
///
/// ```
/// use cumem::sim::Profile;
/// use cumem::{CudaResource, Device};
/// use cumem_adaptors::{ResourceExt, fit_batch};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::simulated(Profile::default())?;
/// let memory = CudaResource::new(&device).limit(1 << 20);
/// let fit = fit_batch(&memory, 4096, 64 << 10, 1000)?; // items of 4 KiB, and 64 KiB besides
/// assert_eq!((fit.items, fit.bytes), (240, 1 << 20));
/// # Ok(())
/// # }
/// ```
pub fn fit_batch(
    stack: &(impl Layer + ?Sized),
    bytes_per_item: usize,
    fixed_bytes: usize,
    wanted: usize,
) -> Result<Fit, DeviceError> {
    FitOptions::default().fit_batch(stack, bytes_per_item, fixed_bytes, wanted)
}

impl FitOptions {
    /// Sets the margin, which is memory that the batch leaves free: bytes, or a share of the device's memory.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem_adaptors::{FitOptions, Size};
    /// let options = FitOptions::default().margin(Size::Percent(10)); // leaves a tenth of the memory free
    /// assert_eq!(options.get_margin(), Size::Percent(10));
    /// ```
    pub fn margin(self, margin: impl Into<Size>) -> Self {
        Self { margin: margin.into().saturated(), ..self }
    }

    /// Sets whether managed memory may exceed the free memory of the device. Only adaptors then bound the managed
    /// memory, for example a limit.
    pub fn oversubscribe(self, oversubscribe: bool) -> Self {
        Self { oversubscribe, ..self }
    }

    /// Returns the margin.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem_adaptors::{FitOptions, Size};
    /// assert_eq!(FitOptions::default().margin(1 << 20).get_margin(), Size::Bytes(1 << 20));
    /// ```
    pub fn get_margin(&self) -> Size {
        self.margin
    }

    /// Returns whether managed memory may exceed the free memory of the device.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem_adaptors::FitOptions;
    /// assert!(!FitOptions::default().get_oversubscribe());
    /// ```
    pub fn get_oversubscribe(&self) -> bool {
        self.oversubscribe
    }

    /// Returns the result of [`fit_batch`] with these options.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`fit_batch`].
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::sim::Profile;
    /// use cumem::{CudaResource, Device};
    /// use cumem_adaptors::{FitOptions, ResourceExt};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// let memory = CudaResource::new(&device).limit(1 << 20);
    /// let fit = FitOptions::default().margin(512 << 10).fit_batch(&memory, 4096, 0, 1000)?;
    /// assert_eq!(fit.items, 128);
    /// # Ok(())
    /// # }
    /// ```
    pub fn fit_batch(
        self,
        stack: &(impl Layer + ?Sized),
        bytes_per_item: usize,
        fixed_bytes: usize,
        wanted: usize,
    ) -> Result<Fit, DeviceError> {
        let room = self.room(stack)?.saturating_sub(self.margin.bytes_on(stack.device())?);
        // Layers round the sizes of blocks up to multiples of this alignment.
        let available = layout::align_down(room, CUDA_ALLOCATION_ALIGNMENT);
        let items = match available.checked_sub(fixed_bytes) {
            None => 0,
            Some(rest) => rest.checked_div(bytes_per_item).unwrap_or(wanted).min(wanted),
        };
        let bytes = if items == 0 { 0 } else { fixed_bytes + items * bytes_per_item };
        Ok(Fit { items, bytes, available })
    }

    /// Returns the bytes of the largest block that the stack can allocate.
    fn room(self, layer: &(impl Layer + ?Sized)) -> Result<usize, DeviceError> {
        let room = match layer.beneath() {
            Beneath::Layer(beneath) => self.room(beneath)?,
            // A block comes from one of the two resources.
            Beneath::Two(first, second) => self.room(first)?.max(self.room(second)?),
            Beneath::Device(device) => self.free(device, layer.state())?,
        };
        through(layer, room)
    }

    /// Returns the bytes that a leaf can allocate.
    fn free(self, device: &Device, leaf: &dyn Any) -> Result<usize, DeviceError> {
        if leaf.is::<PinnedResource>() || leaf.is::<HostResource>() {
            return Ok(layout::align_down(device.host_memory_info()?.free, HOST_PAGE));
        }
        if self.oversubscribe && leaf.is::<ManagedResource>() {
            return Ok(usize::MAX);
        }
        let free = device.memory_info()?.free;
        Ok(match free < DRIVER_GRANULE {
            true => layout::align_down(free.min(SMALL_MAX), SMALL_GRANULE),
            false => layout::align_down(free, DRIVER_GRANULE),
        })
    }
}

/// Returns how many of the `room` bytes of its upstream the layer can allocate as one block.
fn through(layer: &(impl Layer + ?Sized), room: usize) -> Result<usize, DeviceError> {
    let state = layer.state();
    if let Some(limit) = state.downcast_ref::<LimiterState>() {
        return Ok(room.min(limit.largest_block()));
    }
    if let Some(aligned) = state.downcast_ref::<AlignedState>() {
        return Ok(aligned.largest_block(room));
    }
    if let Some(fixed) = state.downcast_ref::<FixedSizeState>() {
        return Ok(fixed.largest_block(room));
    }
    if let Some(binning) = state.downcast_ref::<BinningState>() {
        return Ok(binning.largest_block(room));
    }
    if let Some(pressure) = state.downcast_ref::<PressureState>() {
        return Ok(room.min(pressure.remaining()?));
    }
    if let Some(pool) = state.downcast_ref::<PoolState>() {
        // A pool over mapped memory grows by whole granules.
        let granule = layer.find::<CudaVirtualResource>().map_or(CUDA_ALLOCATION_ALIGNMENT, |leaf| leaf.granularity());
        return Ok(pool.largest_block(room, granule));
    }
    Ok(room)
}
