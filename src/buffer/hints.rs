//! Prefetches and advice for a buffer of memory that migrates, or may migrate.

use super::array::Buffer;
use super::element::Element;
use super::part::Part;
use crate::device::error::DeviceError;
use crate::device::notice::{Listener, Notice};
use crate::kind::MayMigrate;
use crate::resource::MemoryResource;
use crate::unified::hints::{self, HintOutcome, ManagedMemoryHints, PlanError, PrefetchPlan};
use cumem_driver::{Advice, Location, RangeAttributes};
use std::ops::Range;

impl<T: Element, R: MemoryResource> Buffer<T, R> {
    /// Enqueues on the buffer's stream the migration of all elements to a location.
    ///
    /// # Errors
    ///
    /// Returns the driver's error if it rejects the prefetch, for example `CUDA_ERROR_INVALID_DEVICE` for a device that
    /// does not exist.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Device, ManagedResource, Stream, UnifiedBuffer};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// use cumem::unified::hints;
    ///
    /// let buffer = UnifiedBuffer::<u8, _>::zeroed(1 << 20, &stream, ManagedResource::new(&device)?)?;
    /// assert!(buffer.prefetch(device.id())?.is_applied());
    /// stream.synchronize()?;
    /// let pages = hints::residency(buffer.block(), 0..buffer.size_bytes(), &stream)?.unwrap();
    /// assert_eq!(pages.on(device.id()), 1 << 20);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn prefetch(&self, to: impl Into<Location>) -> Result<HintOutcome, DeviceError>
    where
        R: MemoryResource<Kind: MayMigrate>,
    {
        self.prefetch_range(0..self.len, to)
    }

    /// Enqueues on the buffer's stream the migration of some elements to a location. The driver migrates whole pages.
    ///
    /// # Errors
    ///
    /// Returns [`DeviceError::OutOfRange`] if `elements` is not within the length, and the driver's error if it rejects
    /// the prefetch.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Device, ManagedResource, Stream, UnifiedBuffer};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// use cumem::unified::{HintOutcome, SkipReason};
    ///
    /// let buffer = UnifiedBuffer::<f32, _>::zeroed(1 << 20, &stream, ManagedResource::new(&device)?)?;
    /// assert!(buffer.prefetch_range(0..1 << 19, device.id())?.is_applied());
    /// let empty = buffer.prefetch_range(0..0, device.id())?;
    /// assert_eq!(empty, HintOutcome::Skipped(SkipReason::EmptyRange));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn prefetch_range(&self, elements: Range<usize>, to: impl Into<Location>) -> Result<HintOutcome, DeviceError>
    where
        R: MemoryResource<Kind: MayMigrate>,
    {
        self.part().part(self.bytes_of(elements)?).prefetch(to.into())
    }

    /// Advises the driver how all elements will be used. Advice takes effect at once, not in stream order.
    ///
    /// # Errors
    ///
    /// Returns the driver's error if it rejects the advice.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Device, ManagedResource, Stream, UnifiedBuffer};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// use cumem::unified::Advice;
    ///
    /// let table = UnifiedBuffer::<f32, _>::zeroed(1000, &stream, ManagedResource::new(&device)?)?;
    /// assert!(table.advise(Advice::SetReadMostly)?.is_applied());
    /// assert!(table.range_attributes()?.read_mostly);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn advise(&self, advice: Advice) -> Result<HintOutcome, DeviceError>
    where
        R: MemoryResource<Kind: MayMigrate>,
    {
        self.advise_range(0..self.len, advice)
    }

    /// Advises the driver how some elements will be used. The driver advises whole pages.
    ///
    /// # Errors
    ///
    /// Returns [`DeviceError::OutOfRange`] if `elements` is not within the length, and the driver's error if it rejects
    /// the advice.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Device, ManagedResource, Stream, UnifiedBuffer};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// use cumem::unified::Advice;
    ///
    /// let table = UnifiedBuffer::<f32, _>::zeroed(1 << 20, &stream, ManagedResource::new(&device)?)?;
    /// assert!(table.advise_range(0..1 << 19, Advice::SetReadMostly)?.is_applied());
    /// assert!(!table.range_attributes()?.read_mostly); // holds for half of the pages only
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn advise_range(&self, elements: Range<usize>, advice: Advice) -> Result<HintOutcome, DeviceError>
    where
        R: MemoryResource<Kind: MayMigrate>,
    {
        self.part().part(self.bytes_of(elements)?).advise(advice)
    }

    /// Returns the advice and the last prefetch that the driver has recorded for all elements.
    ///
    /// # Errors
    ///
    /// Returns the driver's error, for example `CUDA_ERROR_INVALID_VALUE` if the buffer has no elements.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Device, Location, ManagedResource, Stream, UnifiedBuffer};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let buffer = UnifiedBuffer::<f32, _>::zeroed(1000, &stream, ManagedResource::new(&device)?)?;
    /// assert!(buffer.prefetch(Location::Host)?.is_applied());
    /// assert_eq!(buffer.range_attributes()?.last_prefetch_location, Some(Location::Host));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn range_attributes(&self) -> Result<RangeAttributes, DeviceError>
    where
        R: MemoryResource<Kind: MayMigrate>,
    {
        self.part().range_attributes()
    }

    /// Returns a builder that collects hints about all elements and passes them to the driver together.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Device, ManagedResource, Stream, UnifiedBuffer};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let table = UnifiedBuffer::<f32, _>::zeroed(1000, &stream, ManagedResource::new(&device)?)?;
    /// let applied = table.hints().read_mostly().prefetch(device.id()).apply()?;
    /// assert_eq!(applied.outcomes().len(), 2);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn hints(&self) -> ManagedMemoryHints<'_>
    where
        R: MemoryResource<Kind: MayMigrate>,
    {
        self.part().hints()
    }

    pub(crate) fn bytes_of(&self, elements: Range<usize>) -> Result<Range<usize>, DeviceError> {
        let Range { start, end } = elements;
        if start > end || end > self.len {
            return Err(DeviceError::OutOfRange { start, end, size: self.len });
        }
        Ok(start * size_of::<T>()..end * size_of::<T>())
    }
}

impl<'a> Part<'a> {
    pub(super) fn prefetch(&self, to: Location) -> Result<HintOutcome, DeviceError> {
        let outcome = hints::prefetch(self.block, self.range(), to, self.stream)?;
        // A hint that was skipped moved no page.
        if outcome == HintOutcome::Applied {
            self.note_on_host(self.is_whole && to == Location::Host);
            self.notify_observer(&Notice::Prefetched { addr: self.addr(), bytes: self.bytes, to });
        }
        Ok(outcome)
    }

    pub(super) fn advise(&self, advice: Advice) -> Result<HintOutcome, DeviceError> {
        hints::advise(self.block, self.range(), advice, self.stream)
    }

    pub(super) fn range_attributes(&self) -> Result<RangeAttributes, DeviceError> {
        hints::range_attributes(self.block, self.range(), self.stream)
    }

    pub(super) fn hints(&self) -> ManagedMemoryHints<'a> {
        ManagedMemoryHints::about(self.block, self.range(), self.stream, self.listener())
    }

    /// Returns the buffer's automatic prefetch as the listener that is notified of the user's prefetches.
    pub(super) fn listener(&self) -> Option<&'a dyn Listener> {
        self.auto.map(|auto| auto as &dyn Listener)
    }
}

impl<'a> PrefetchPlan<'a> {
    /// Adds the prefetch of some elements of a buffer.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`add`](Self::add). [`DeviceError::OutOfRange`] counts in elements here.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Device, ManagedResource, Stream, UnifiedBuffer};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// use cumem::unified::PrefetchPlan;
    ///
    /// let buffer = UnifiedBuffer::<f32, _>::zeroed(1 << 20, &stream, ManagedResource::new(&device)?)?;
    /// let mut plan = PrefetchPlan::new(&stream);
    /// plan.add_buffer(&buffer, 0..1000, device.id())?.add_buffer(&buffer, 1000..2000, device.id())?;
    /// assert_eq!(plan.execute()?.ranges.len(), 1); // the ranges touch, so they are merged
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn add_buffer<T: Element, R: MemoryResource<Kind: MayMigrate>>(
        &mut self,
        buffer: &'a Buffer<T, R>,
        elements: Range<usize>,
        to: impl Into<Location>,
    ) -> Result<&mut Self, PlanError> {
        let entry = self.next_entry();
        let bytes = buffer.bytes_of(elements).map_err(|source| PlanError::Entry { entry, source })?;
        self.add(buffer.block(), bytes, to)?;
        self.observe(buffer.part().listener());
        Ok(self)
    }
}
