//! Hints about a buffer of memory that migrates.

use super::array::Buffer;
use crate::device::error::DeviceError;
use crate::device::notice::{Listener, Notice};
use crate::kind::Migratable;
use crate::resource::MemoryResource;
use crate::unified::hints::{self, HintOutcome, ManagedMemoryHints, PlanError, PrefetchPlan};
use bytemuck::Pod;
use cumem_driver::{Advice, Location, RangeAttributes};
use std::ops::Range;

impl<T: Pod, R: MemoryResource> Buffer<T, R> {
    /// Enqueues the migration of all elements to a location, on the buffer's stream.
    ///
    /// # Errors
    ///
    /// What the driver answers, such as `CUDA_ERROR_INVALID_DEVICE` for a device that does not exist.
    pub fn prefetch(&self, to: impl Into<Location>) -> Result<HintOutcome, DeviceError>
    where
        R: MemoryResource<Kind: Migratable>,
    {
        self.prefetch_range(0..self.len, to)
    }

    /// The same for some elements.
    ///
    /// # Errors
    ///
    /// [`DeviceError::OutOfRange`] if `elements` are not within the length, or what the driver answers.
    pub fn prefetch_range(&self, elements: Range<usize>, to: impl Into<Location>) -> Result<HintOutcome, DeviceError>
    where
        R: MemoryResource<Kind: Migratable>,
    {
        let (bytes, to) = (self.bytes_of(elements)?, to.into());
        let whole = bytes.len() == self.size_bytes();
        let outcome = hints::prefetch(&self.block, bytes.clone(), to, &self.stream)?;
        self.note_on_host(whole && to == Location::Host);
        if outcome == HintOutcome::Applied {
            let addr = self.block.addr() + bytes.start as u64;
            self.tell_observer(&Notice::Prefetched { addr, bytes: bytes.len(), to });
        }
        Ok(outcome)
    }

    /// Tells the driver how all elements will be used. Takes effect at once.
    ///
    /// # Errors
    ///
    /// What the driver answers.
    pub fn advise(&self, advice: Advice) -> Result<HintOutcome, DeviceError>
    where
        R: MemoryResource<Kind: Migratable>,
    {
        self.advise_range(0..self.len, advice)
    }

    /// The same for some elements. The driver works in whole pages.
    ///
    /// # Errors
    ///
    /// [`DeviceError::OutOfRange`] if `elements` are not within the length, or what the driver answers.
    pub fn advise_range(&self, elements: Range<usize>, advice: Advice) -> Result<HintOutcome, DeviceError>
    where
        R: MemoryResource<Kind: Migratable>,
    {
        hints::advise(&self.block, self.bytes_of(elements)?, advice, &self.stream)
    }

    /// Asks the driver what the elements have been told.
    ///
    /// # Errors
    ///
    /// What the driver answers; `CUDA_ERROR_INVALID_VALUE` without elements.
    pub fn range_attributes(&self) -> Result<RangeAttributes, DeviceError>
    where
        R: MemoryResource<Kind: Migratable>,
    {
        hints::range_attributes(&self.block, self.bytes_of(0..self.len)?, &self.stream)
    }

    /// Hints about all elements, to be collected and given together. Borrows the buffer.
    pub fn hints(&self) -> ManagedMemoryHints<'_>
    where
        R: MemoryResource<Kind: Migratable>,
    {
        ManagedMemoryHints::about(&self.block, 0..self.size_bytes(), &self.stream, self.listener())
    }

    /// The observer, as the listener that hears of prefetches by the user.
    fn listener(&self) -> Option<&dyn Listener> {
        self.observer().map(|auto| auto as &dyn Listener)
    }

    pub(crate) fn bytes_of(&self, elements: Range<usize>) -> Result<Range<usize>, DeviceError> {
        let Range { start, end } = elements;
        if start > end || end > self.len {
            return Err(DeviceError::OutOfRange { start, end, size: self.len });
        }
        Ok(start * size_of::<T>()..end * size_of::<T>())
    }
}

impl<'a> PrefetchPlan<'a> {
    /// Adds some elements of a buffer.
    ///
    /// # Errors
    ///
    /// Those of [`add`](Self::add).
    pub fn add_buffer<T: Pod, R: MemoryResource<Kind: Migratable>>(
        &mut self,
        buffer: &'a Buffer<T, R>,
        elements: Range<usize>,
        to: impl Into<Location>,
    ) -> Result<&mut Self, PlanError> {
        let entry = self.next_entry();
        let bytes = buffer.bytes_of(elements).map_err(|source| PlanError::Entry { entry, source })?;
        self.add(buffer.block(), bytes, to)?;
        self.observe(buffer.listener());
        Ok(self)
    }
}
