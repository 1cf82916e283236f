//! [`DeviceStatistics`]: counters of a device since its creation.
#![forbid(unsafe_code)]

use std::ops::Sub;

macro_rules! statistics {
    ($($(#[doc = $doc:literal])+ $field:ident,)+) => {
        /// Counters of the events on a device. Bytes of unified memory are counted in whole 4 KiB pages.
        ///
        /// # Examples
        ///
        /// ```
        /// use cumem_driver::Driver;
        /// use cumem_sim::{Profile, Simulator};
        ///
        /// let sim = Simulator::new([Profile::h100_pcie5()])?;
        /// let stream = sim.create_stream(0, false)?;
        /// let memory = sim.allocate_managed(0, 2 << 20)?;
        /// // SAFETY: the stream and the memory are live.
        /// unsafe { sim.fill_async(0, memory.as_ptr(), 0, 2 << 20, stream) }?;
        /// sim.synchronize_device(0)?;
        ///
        /// let statistics = sim.statistics(sim.device_id(0)).expect("a device of this simulator");
        /// assert!(statistics.faults > 0, "the pages were nowhere before the fill");
        /// assert_eq!((statistics.populated, statistics.migrations), (2 << 20, 0));
        /// # Ok::<(), Box<dyn std::error::Error>>(())
        /// ```
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        #[non_exhaustive]
        pub struct DeviceStatistics {
            $($(#[doc = $doc])+ pub $field: u64,)+
        }

        impl DeviceStatistics {
            /// Returns all counters with the names of their fields.
            ///
            /// # Examples
            ///
            /// ```
            /// use cumem_sim::DeviceStatistics;
            ///
            /// let statistics = DeviceStatistics::default();
            /// assert_eq!(statistics.fields()[0], ("faults", 0));
            /// ```
            pub fn fields(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($field), self.$field)),+]
            }
        }

        /// Returns the change since `earlier`: the difference of each counter, and the peak of `self`.
        ///
        /// # Examples
        ///
        /// ```
        /// use cumem_driver::Driver;
        /// use cumem_sim::{Profile, Simulator};
        ///
        /// let sim = Simulator::new([Profile::h100_pcie5()])?;
        /// let stream = sim.create_stream(0, false)?;
        /// let memory = sim.allocate_managed(0, 2 << 20)?;
        /// let statistics = || sim.statistics(sim.device_id(0)).expect("a device of this simulator");
        /// let before = statistics();
        /// // SAFETY: the stream and the memory are live.
        /// unsafe { sim.fill_async(0, memory.as_ptr(), 0, 1 << 20, stream) }?;
        /// sim.synchronize_device(0)?;
        /// assert_eq!((statistics() - before).filled, 1 << 20);
        /// # Ok::<(), Box<dyn std::error::Error>>(())
        /// ```
        impl Sub for DeviceStatistics {
            type Output = Self;

            fn sub(self, earlier: Self) -> Self {
                let difference = Self { $($field: self.$field.saturating_sub(earlier.$field),)+ };
                Self { peak_used: self.peak_used, ..difference }
            }
        }
    };
}

statistics! {
    /// Page faults of the device that were served.
    faults,
    /// Batches in which the device's faults were served.
    fault_batches,
    /// Times that the device or the host had to wait for a page that another processor had just taken.
    throttles,
    /// Faults of the device or the host on pages that were pinned because of thrashing.
    pinned,
    /// Page faults of the host in unified memory that was allocated on the device.
    host_faults,
    /// Copies that moved pages of unified memory. Each copies one contiguous run.
    migrations,
    /// Bytes of pages that were moved or copied from the host to the device.
    migrated_to_device,
    /// Bytes of pages that were moved or copied from the device to the host, evictions included.
    migrated_to_host,
    /// Bytes of `migrated_to_device` that prefetches moved.
    prefetched_to_device,
    /// Bytes of `migrated_to_host` that prefetches moved, evictions not included.
    prefetched_to_host,
    /// Bytes of pages that were moved or copied from another device.
    migrated_from_peers,
    /// Bytes of pages that were at no location before.
    populated,
    /// 2 MiB chunks of device memory that were taken from unified memory for another use.
    evictions,
    /// Bytes of evicted chunks that had to be copied to the host.
    evicted,
    /// Bytes of copies of read-mostly pages that were dropped because of a write.
    collapsed,
    /// Bytes that kernels accessed over the link, without moving the pages.
    accessed_remotely,
    /// Bytes that copies moved from host memory to the device.
    copied_to_device,
    /// Bytes that copies moved from the device to host memory.
    copied_to_host,
    /// Bytes that copies moved within the device or between devices.
    copied_between,
    /// Bytes that fills wrote.
    filled,
    /// Kernels that ran.
    kernels,
    /// Prefetches that were carried out.
    prefetches,
    /// Peak of the bytes of device memory in use: allocations as they are rounded, and the chunks that hold unified
    /// memory.
    peak_used,
}

#[cfg(test)]
mod tests {
    use super::DeviceStatistics;

    #[test]
    fn a_difference_has_the_events_between_and_the_later_peak() {
        let before = DeviceStatistics { faults: 3, kernels: 5, peak_used: 100, ..DeviceStatistics::default() };
        let after = DeviceStatistics { faults: 10, kernels: 5, peak_used: 120, ..before };
        let expected = DeviceStatistics { faults: 7, peak_used: 120, ..DeviceStatistics::default() };
        assert_eq!(after - before, expected);
    }
}
