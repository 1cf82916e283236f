//! Automatic prefetch of a buffer, and the uses that it learns from.

use super::array::Buffer;
use crate::device::error::DeviceError;
use crate::device::notice::Notice;
use crate::kind::Migratable;
use crate::resource::MemoryResource;
use crate::unified::auto::{AutoPrefetch, AutoPrefetchOptions, AutoPrefetchReport, DeviceUse};
use crate::unified::hints::{HintOutcome, SkipReason};
use bytemuck::Pod;
use std::ops::Range;

impl<T: Pod, R: MemoryResource> Buffer<T, R> {
    /// Turns automatic prefetch on for this buffer, or on anew with other options: from now on it learns from [declared
    /// uses](Self::device_use), prefetches of the buffer and host guards which elements come next, and brings them to
    /// the buffer's device ahead of their use, on a stream of its own. What a use needs and was not foreseen is brought
    /// as the use is declared. On a simulated device it also learns from the page faults of work that was not declared,
    /// or [as a whole only](Self::sparse_device_use); a GPU's driver does not say which pages fault.
    ///
    /// Over a stack with [`AutoPrefetchState`](crate::unified::AutoPrefetchState) it is on from the beginning.
    ///
    /// Skipped on a device without concurrent managed access, to which nothing can be brought.
    ///
    /// # Errors
    ///
    /// What the driver answers to the making of a stream.
    pub fn auto_prefetch(&mut self, options: AutoPrefetchOptions) -> Result<HintOutcome, DeviceError>
    where
        R: MemoryResource<Kind: Migratable>,
    {
        if !self.device().attributes().concurrent_managed_access {
            return Ok(HintOutcome::Skipped(SkipReason::NoConcurrentManagedAccess(self.device().id())));
        }
        self.auto = Some(Box::new(AutoPrefetch::new(&self.block, self.device(), options)?));
        Ok(HintOutcome::Applied)
    }

    /// Turns it off, and says what came of it.
    pub fn stop_auto_prefetch(&mut self) -> Option<AutoPrefetchReport> {
        self.auto.take().map(|auto| auto.report())
    }

    /// What has come of automatic prefetch so far, if it is on.
    pub fn auto_prefetch_report(&self) -> Option<AutoPrefetchReport> {
        self.auto.as_ref().map(|auto| auto.report())
    }

    pub(crate) fn observer(&self) -> Option<&AutoPrefetch> {
        self.auto.as_deref()
    }

    /// Declares that work on the buffer's stream is about to use all of these elements, and gives their address. The
    /// work is enqueued while the result is there; when it goes, what comes next is brought, if [automatic
    /// prefetch](Self::auto_prefetch) is on.
    ///
    /// # Errors
    ///
    /// [`DeviceError::OutOfRange`] if `elements` are not within the length, or what the driver answers.
    pub fn device_use(&self, elements: Range<usize>) -> Result<DeviceUse<'_>, DeviceError> {
        let bytes = self.bytes_of(elements)?;
        let address = self.device_address() + bytes.start as u64;
        if let Some(auto) = &self.auto
            && !bytes.is_empty()
        {
            auto.used(bytes.clone(), &self.stream)?;
        }
        self.note_device_use(address, bytes.len());
        Ok(DeviceUse::new(address, self.observer()))
    }

    /// The same for work that uses some of these elements, nobody knows which. Nothing is learnt from that and not all
    /// of it brought, which would be more than is needed.
    ///
    /// # Errors
    ///
    /// [`DeviceError::OutOfRange`] if `elements` are not within the length.
    pub fn sparse_device_use(&self, elements: Range<usize>) -> Result<DeviceUse<'_>, DeviceError> {
        let bytes = self.bytes_of(elements)?;
        if let Some(auto) = &self.auto {
            auto.used_sparsely();
        }
        let address = self.device_address() + bytes.start as u64;
        self.note_device_use(address, bytes.len());
        Ok(DeviceUse::new(address, None))
    }

    fn note_device_use(&self, addr: u64, bytes: usize) {
        self.device().tell(&Notice::DeviceUse { addr, bytes });
    }
}
