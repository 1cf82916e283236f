//! Hints about the elements of a [`BufferView`], for memory that migrates or may migrate.

use super::view::BufferView;
use crate::device::error::DeviceError;
use crate::kind::MayMigrate;
use crate::unified::hints::{HintOutcome, ManagedMemoryHints, PlanError, PrefetchPlan};
use cumem_driver::{Advice, Location, RangeAttributes};

impl<'a, T, K: MayMigrate> BufferView<'a, T, K> {
    /// Enqueues on the view's stream the migration of the elements to a location. The driver migrates whole pages.
    ///
    /// # Errors
    ///
    /// Returns the driver's error if it rejects the prefetch.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Device, ManagedResource, Stream, UnifiedBuffer};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let buffer = UnifiedBuffer::<u8, _>::zeroed(1 << 20, &stream, ManagedResource::new(&device)?)?;
    /// assert!(buffer.slice(..1 << 19)?.prefetch(device.id())?.is_applied());
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn prefetch(&self, to: impl Into<Location>) -> Result<HintOutcome, DeviceError> {
        self.part.prefetch(to.into())
    }

    /// Advises the driver how the elements will be used. The driver advises whole pages.
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
    /// let buffer = UnifiedBuffer::<u8, _>::zeroed(1 << 20, &stream, ManagedResource::new(&device)?)?;
    /// assert!(buffer.slice(..1 << 19)?.advise(Advice::SetReadMostly)?.is_applied());
    /// assert!(!buffer.range_attributes()?.read_mostly); // holds for half of the pages only
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn advise(&self, advice: Advice) -> Result<HintOutcome, DeviceError> {
        self.part.advise(advice)
    }

    /// Returns the advice and the last prefetch that the driver has recorded for all of the elements.
    ///
    /// # Errors
    ///
    /// Returns the driver's error, for example `CUDA_ERROR_INVALID_VALUE` if the view has no elements.
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
    /// let buffer = UnifiedBuffer::<u8, _>::zeroed(1 << 20, &stream, ManagedResource::new(&device)?)?;
    /// let half = buffer.slice(..1 << 19)?;
    /// assert!(half.advise(Advice::SetReadMostly)?.is_applied());
    /// assert!(half.range_attributes()?.read_mostly);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn range_attributes(&self) -> Result<RangeAttributes, DeviceError> {
        self.part.range_attributes()
    }

    /// Returns a builder that collects hints about the elements and passes them to the driver together.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Device, ManagedResource, Stream, UnifiedBuffer};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let buffer = UnifiedBuffer::<u8, _>::zeroed(1 << 20, &stream, ManagedResource::new(&device)?)?;
    /// let half = buffer.slice(..1 << 19)?;
    /// let applied = half.hints().read_mostly().prefetch(device.id()).apply()?;
    /// assert_eq!(applied.outcomes().len(), 2);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn hints(&self) -> ManagedMemoryHints<'a> {
        self.part.hints()
    }
}

impl<'a> PrefetchPlan<'a> {
    /// Adds the prefetch of the elements of a view.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`add`](Self::add).
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
    /// let buffer = UnifiedBuffer::<u8, _>::zeroed(1 << 20, &stream, ManagedResource::new(&device)?)?;
    /// let (left, right) = buffer.split_at(4096)?;
    /// let mut plan = PrefetchPlan::new(&stream);
    /// plan.add_view(&left, device.id())?.add_view(&right, device.id())?;
    /// assert_eq!(plan.execute()?.bytes(), 1 << 20);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn add_view<T, K: MayMigrate>(
        &mut self,
        view: &BufferView<'a, T, K>,
        to: impl Into<Location>,
    ) -> Result<&mut Self, PlanError> {
        self.add(view.part.block, view.part.range(), to)?;
        self.observe(view.part.listener());
        Ok(self)
    }
}
