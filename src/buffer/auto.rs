//! Automatic prefetch of a buffer, and the declared uses that teach the predictor.

use super::array::Buffer;
use super::element::Element;
use crate::device::error::DeviceError;
use crate::device::notice::Notice;
use crate::kind::Migratable;
use crate::resource::MemoryResource;
use crate::unified::auto::{AutoPrefetch, AutoPrefetchOptions, AutoPrefetchReport, DeviceUse};
use crate::unified::hints::{HintOutcome, SkipReason};
use std::ops::Range;

impl<T: Element, R: MemoryResource> Buffer<T, R> {
    /// Turns automatic prefetch on for this buffer. If automatic prefetch is on already, the call discards its
    /// observations and starts again with these options.
    ///
    /// Automatic prefetch predicts which elements the device uses next. The prediction learns from [declared
    /// uses](Self::device_use), from prefetches of the buffer, and from host guards. The library prefetches the
    /// predicted elements to the buffer's device on a separate stream. Elements of a declared use that were not
    /// predicted are prefetched when the use is declared. On a simulated device, automatic prefetch also learns from
    /// the page faults of work that was not declared, or that was [declared sparse](Self::sparse_device_use). A GPU's
    /// driver does not report which pages fault.
    ///
    /// If the buffer's stack has an [`AutoPrefetchState`](crate::unified::AutoPrefetchState), automatic prefetch is on
    /// from the start.
    ///
    /// The call is skipped on a device without concurrent managed access, because the driver rejects prefetches there.
    ///
    /// # Errors
    ///
    /// Returns the driver's error if a stream cannot be created.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Device, ManagedResource, Stream, UnifiedBuffer};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// use cumem::unified::AutoPrefetchOptions;
    ///
    /// let memory = ManagedResource::new(&device)?;
    /// let mut buffer = UnifiedBuffer::<u8, _>::zeroed(4 << 20, &stream, memory)?;
    /// assert!(buffer.auto_prefetch(AutoPrefetchOptions::default())?.is_applied());
    /// for mib in 0..4 {
    ///     let part = buffer.device_use(mib << 20..(mib + 1) << 20)?;
    ///     let _address = part.device_address(); // launch a kernel that uses this part
    /// }
    /// let report = buffer.auto_prefetch_report().unwrap();
    /// assert_eq!((report.uses, report.ahead_used), (4, 2 << 20)); // the first two uses show the order
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn auto_prefetch(&mut self, options: AutoPrefetchOptions) -> Result<HintOutcome, DeviceError>
    where
        R: MemoryResource<Kind: Migratable>,
    {
        if !self.device().attributes().concurrent_managed_access {
            return Ok(HintOutcome::Skipped(SkipReason::NoConcurrentManagedAccess(self.device().id())));
        }
        self.auto = Some(Box::new(AutoPrefetch::new(&self.memory.block, self.device(), options)?));
        Ok(HintOutcome::Applied)
    }

    /// Turns automatic prefetch off. Returns the report, or `None` if automatic prefetch was off.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Device, ManagedResource, Stream, UnifiedBuffer};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// use cumem::unified::AutoPrefetchOptions;
    ///
    /// let mut buffer = UnifiedBuffer::<u8, _>::zeroed(1 << 20, &stream, ManagedResource::new(&device)?)?;
    /// assert!(buffer.auto_prefetch(AutoPrefetchOptions::default())?.is_applied());
    /// assert!(buffer.stop_auto_prefetch().is_some());
    /// assert!(buffer.stop_auto_prefetch().is_none());
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn stop_auto_prefetch(&mut self) -> Option<AutoPrefetchReport> {
        self.auto.take().map(|auto| auto.report())
    }

    /// Returns the figures of automatic prefetch so far, or `None` while automatic prefetch is off.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Device, ManagedResource, Stream, UnifiedBuffer};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// use cumem::unified::AutoPrefetchOptions;
    ///
    /// let mut buffer = UnifiedBuffer::<u8, _>::zeroed(1 << 20, &stream, ManagedResource::new(&device)?)?;
    /// assert!(buffer.auto_prefetch_report().is_none());
    /// assert!(buffer.auto_prefetch(AutoPrefetchOptions::default())?.is_applied());
    /// drop(buffer.device_use(0..buffer.len())?);
    /// assert_eq!(buffer.auto_prefetch_report().unwrap().uses, 1);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn auto_prefetch_report(&self) -> Option<AutoPrefetchReport> {
        self.auto.as_ref().map(|auto| auto.report())
    }

    pub(crate) fn observer(&self) -> Option<&AutoPrefetch> {
        self.auto.as_deref()
    }

    /// Declares that work on the buffer's stream is about to use all of these elements. The caller enqueues that work
    /// while holding the returned [`DeviceUse`]. If [automatic prefetch](Self::auto_prefetch) is on, dropping the
    /// `DeviceUse` prefetches the elements that are predicted next.
    ///
    /// # Errors
    ///
    /// Returns [`DeviceError::OutOfRange`] if `elements` is not within the length, and the driver's error if a prefetch
    /// fails.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Device, ManagedResource, Stream, UnifiedBuffer};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let buffer = UnifiedBuffer::<u32, _>::zeroed(1000, &stream, ManagedResource::new(&device)?)?;
    /// let part = buffer.device_use(100..200)?;
    /// assert_eq!(part.device_address(), buffer.device_address() + 400);
    /// // launch a kernel with this address
    /// drop(part);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn device_use(&self, elements: Range<usize>) -> Result<DeviceUse<'_>, DeviceError> {
        let bytes = self.bytes_of(elements)?;
        let address = self.device_address() + bytes.start as u64;
        if let Some(auto) = &self.auto
            && !bytes.is_empty()
        {
            auto.used(bytes.clone(), &self.memory.stream)?;
        }
        self.note_device_use(address, bytes.len());
        Ok(DeviceUse::new(address, self.observer()))
    }

    /// Declares that work on the buffer's stream is about to use some of these elements, without saying which.
    /// Automatic prefetch learns nothing from such a use, unless page faults show which elements were used. Nothing is
    /// prefetched for the use, because all elements would be more than the work needs.
    ///
    /// # Errors
    ///
    /// Returns [`DeviceError::OutOfRange`] if `elements` is not within the length.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Device, ManagedResource, Stream, UnifiedBuffer};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let table = UnifiedBuffer::<u32, _>::zeroed(1000, &stream, ManagedResource::new(&device)?)?;
    /// let lookup = table.sparse_device_use(0..1000)?;
    /// assert_eq!(lookup.device_address(), table.device_address());
    /// // launch a kernel that looks up a few elements
    /// drop(lookup);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
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
