//! [`Profile`]: the properties of a simulated device and the costs of its operations, as data.
#![forbid(unsafe_code)]

use super::uvm::{BLOCK, FaultPrefetch, PAGE, Rules, ThrashingRules};
use std::fmt;

/// How a number of a [`Profile`] was obtained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Provenance {
    /// Measured on such a device.
    Measured,
    /// Taken from the driver's source or NVIDIA's documentation.
    FromSource,
    /// Computed from a number of another device.
    Scaled,
    /// Not measured: a guess that lets the model run.
    Uncalibrated,
}

impl fmt::Display for Provenance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Measured => "measured",
            Self::FromSource => "from source",
            Self::Scaled => "scaled",
            Self::Uncalibrated => "uncalibrated",
        })
    }
}

/// A number of a [`Profile`] and its source.
///
/// # Examples
///
/// ```
/// use cumem_sim::{Figure, Provenance};
///
/// let latency = Figure::measured(5600.0, "my GPU, median of 1000 copies");
/// assert_eq!(latency.provenance, Provenance::Measured);
/// assert_eq!(latency.provenance.to_string(), "measured");
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Figure {
    /// The number, in the unit that the profile's field documents.
    pub value: f64,
    /// How the number was obtained, and thus how far it can be trusted.
    pub provenance: Provenance,
    /// The measurement, document or assumption behind the number.
    pub source: &'static str,
}

impl Figure {
    /// Creates a figure that was measured.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem_sim::{Figure, Provenance};
    /// assert_eq!(Figure::measured(25.0, "a run of the benches").provenance, Provenance::Measured);
    /// ```
    pub const fn measured(value: f64, source: &'static str) -> Self {
        Self { value, provenance: Provenance::Measured, source }
    }

    /// Creates a figure that NVIDIA states.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem_sim::{Figure, Provenance};
    /// assert_eq!(Figure::from_source(4096.0, "the driver").provenance, Provenance::FromSource);
    /// ```
    pub const fn from_source(value: f64, source: &'static str) -> Self {
        Self { value, provenance: Provenance::FromSource, source }
    }

    /// Creates a figure that was computed from one of another device.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem_sim::{Figure, Provenance};
    /// assert_eq!(Figure::scaled(12.5, "half of an H100").provenance, Provenance::Scaled);
    /// ```
    pub const fn scaled(value: f64, source: &'static str) -> Self {
        Self { value, provenance: Provenance::Scaled, source }
    }

    /// Creates a figure that is a guess.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem_sim::{Figure, Provenance};
    /// assert_eq!(Figure::uncalibrated(1.0, "a guess").provenance, Provenance::Uncalibrated);
    /// ```
    pub const fn uncalibrated(value: f64, source: &'static str) -> Self {
        Self { value, provenance: Provenance::Uncalibrated, source }
    }
}

macro_rules! profile {
    ($($(#[doc = $doc:literal])+ $field:ident: $unit:literal,)+) => {
        /// The properties of a device and the costs of its operations. Start from a named profile, such as
        /// [`Profile::h100_pcie5`], and change its fields.
        ///
        /// # Examples
        ///
        /// ```
        /// use cumem_sim::{Figure, Profile, Provenance, Simulator};
        ///
        /// let mut profile = Profile::h100_pcie5().with_name("slow link").with_capacity(1 << 30);
        /// profile.link_to_device = Figure::uncalibrated(8e9, "a PCIe 3 link, assumed");
        /// profile.concurrent_managed_access = false;
        /// assert_eq!(profile.link_to_device.provenance, Provenance::Uncalibrated);
        /// let sim = Simulator::new([profile])?;
        /// # Ok::<(), Box<dyn std::error::Error>>(())
        /// ```
        #[derive(Debug, Clone, PartialEq)]
        #[non_exhaustive]
        pub struct Profile {
            /// The device's name.
            pub name: String,
            /// Compute capability, major and minor.
            pub compute_capability: (u32, u32),
            /// Number of multiprocessors.
            pub multiprocessors: u32,
            /// Copies that can run beside kernels, as the device reports it. The model itself always has one engine for
            /// each direction.
            pub copy_engines: u32,
            /// Whether the GPU shares the host's memory.
            pub integrated: bool,
            /// Whether unified memory can be allocated.
            pub managed_memory: bool,
            /// Whether host and device can use unified memory at the same time, so that single pages migrate. Prefetch,
            /// advice and oversubscription need it.
            pub concurrent_managed_access: bool,
            /// Whether kernels can use memory from `malloc`.
            pub pageable_memory_access: bool,
            /// Whether the device uses the host's page tables.
            pub pageable_memory_access_uses_host_page_tables: bool,
            /// Whether the host can map device memory.
            pub direct_managed_mem_access_from_host: bool,
            /// Whether the device has stream-ordered memory pools.
            pub memory_pools: bool,
            /// Whether the driver has stream-ordered pools of managed memory, if all devices of the machine have
            /// concurrent managed access.
            pub managed_memory_pools: bool,
            /// Whether the device can use stream-ordered pools of pinned memory.
            pub host_memory_pools: bool,
            /// The forms in which a stream-ordered pool can be exported, as bits. The model exports none.
            pub pool_handle_types: u32,
            /// Whether the device can access registered host memory at its address.
            pub host_register: bool,
            /// Whether addresses can be reserved and memory mapped at them.
            pub virtual_memory_management: bool,
            /// Whether devices of one machine can map each other's memory.
            pub peer_access: bool,
            /// Whether a prefetch over several 2 MiB blocks visits the blocks twice, as the driver's source does. It
            /// matters only if they do not fit in device memory.
            pub prefetch_second_pass: bool,
            /// Whether the last block of an allocation is rounded up to a power of two of at least 64 KiB, as in
            /// UVMSmart's recordings of 2018. Otherwise it is rounded up to a page, as on an H100 with driver 580. An
            /// allocation below 2 MiB is always rounded up to a power of two.
            pub rounded_tails: bool,
            /// The pages that the driver migrates together with a faulting page.
            pub fault_prefetch: FaultPrefetch,
            /// Whether the driver detects thrashing: it delays processors that take pages from each other, then pins
            /// the pages.
            pub thrashing_detection: bool,
            $($(#[doc = $doc])+ #[doc = concat!("\n\nUnit: ", $unit, ".")] pub $field: Figure,)+
        }

        impl Profile {
            /// Returns all numbers: the name of the field, its unit and the figure.
            ///
            /// # Examples
            ///
            /// ```
            /// use cumem_sim::{Profile, Provenance};
            ///
            /// let profile = Profile::h100_pcie5();
            /// let (field, unit, figure) = profile.figures()[0];
            /// assert_eq!((field, unit, figure.value), ("page_size", "bytes", 4096.0));
            /// let guesses = profile.figures().iter().filter(|(_, _, f)| f.provenance == Provenance::Uncalibrated).count();
            /// assert!(guesses > 0);
            /// ```
            pub fn figures(&self) -> Vec<(&'static str, &'static str, Figure)> {
                vec![$((stringify!($field), $unit, self.$field)),+]
            }
        }

        /// The numbers of a profile. The named profiles are built from it.
        #[derive(Debug, Clone, Copy)]
        pub(super) struct Figures {
            $(pub(super) $field: Figure,)+
        }

        impl Figures {
            /// Returns the figures with `change` applied to each of them.
            pub(super) fn each(self, change: impl Fn(Figure) -> Figure) -> Self {
                Self { $($field: change(self.$field),)+ }
            }

            /// Creates the profile of a discrete GPU with these figures. It has every capability, except that it cannot
            /// access pageable memory and that the host cannot map its memory.
            pub(super) fn profile(self, name: &str, compute_capability: (u32, u32), multiprocessors: u32) -> Profile {
                Profile {
                    name: name.into(),
                    compute_capability,
                    multiprocessors,
                    copy_engines: 2,
                    integrated: false,
                    managed_memory: true,
                    concurrent_managed_access: true,
                    pageable_memory_access: false,
                    pageable_memory_access_uses_host_page_tables: false,
                    direct_managed_mem_access_from_host: false,
                    memory_pools: true,
                    managed_memory_pools: true,
                    host_memory_pools: true,
                    pool_handle_types: 1,
                    host_register: true,
                    virtual_memory_management: true,
                    peer_access: true,
                    prefetch_second_pass: true,
                    rounded_tails: false,
                    fault_prefetch: FaultPrefetch::Density,
                    thrashing_detection: true,
                    $($field: self.$field,)+
                }
            }
        }
    };
}

profile! {
    /// Size of a page of the host. The model supports 4096 only.
    page_size: "bytes",
    /// Size of the device memory, which must be a multiple of 2 MiB.
    capacity: "bytes",
    /// Host memory that can be pinned.
    host_memory: "bytes",
    /// Total size of unified memory that can be allocated at a time.
    managed_limit: "bytes",
    /// Granule of device allocations below `large_allocation`.
    small_granule: "bytes",
    /// Granule of device allocations from `large_allocation` on, and of stream-ordered pools.
    large_granule: "bytes",
    /// Size from which a device allocation is rounded up to large granules.
    large_allocation: "bytes",
    /// Bandwidth of copies from pinned memory to the device.
    link_to_device: "bytes/s",
    /// Bandwidth of copies from the device to pinned memory.
    link_to_host: "bytes/s",
    /// Bandwidth of copies between devices.
    link_peer: "bytes/s",
    /// Bandwidth of copies from and to ordinary (pageable) host memory, which the driver stages.
    pageable: "bytes/s",
    /// Bandwidth of the device memory.
    device_memory: "bytes/s",
    /// Arithmetic throughput of kernels.
    operations: "operations/s",
    /// Time from the start of a copy to its first byte.
    copy_latency: "ns",
    /// Time from the start of a kernel to its first instruction.
    kernel_latency: "ns",
    /// Duration of `cuMemAlloc`.
    call_allocate_device: "ns",
    /// Duration of `cuMemFree` of device memory.
    call_free_device: "ns",
    /// Duration of `cuMemAllocManaged`.
    call_allocate_managed: "ns",
    /// Duration of `cuMemFree` of unified memory.
    call_free_managed: "ns",
    /// Duration of `cuMemAllocHost`, without `pinned_per_mib`.
    call_allocate_pinned: "ns",
    /// Duration of `cuMemFreeHost`, without `pinned_per_mib`.
    call_free_pinned: "ns",
    /// Additional duration of `cuMemAllocHost` and of `cuMemFreeHost` for each MiB.
    pinned_per_mib: "ns/MiB",
    /// Duration of `cuMemAllocFromPoolAsync`.
    call_allocate_async: "ns",
    /// Duration of `cuMemFreeAsync`.
    call_free_async: "ns",
    /// Duration of `cuMemAddressReserve`, and of `cuMemAddressFree`.
    call_reserve: "ns",
    /// Duration of `cuMemCreate`, `cuMemMap`, `cuMemSetAccess` and `cuMemRelease` together. A stream-ordered pool that
    /// grows takes this time too.
    call_map: "ns",
    /// Duration of `cuMemUnmap` of one piece. A stream-ordered pool takes this time too to release a piece.
    call_unmap: "ns",
    /// Duration of `cuMemcpyAsync`.
    call_copy: "ns",
    /// Duration of `cuMemsetD8Async`.
    call_fill: "ns",
    /// Duration of `cuLaunchKernel`.
    call_launch: "ns",
    /// Duration of `cuEventCreate`, and of `cuEventDestroy`.
    call_event: "ns",
    /// Duration of `cuEventRecord`.
    call_record: "ns",
    /// Duration of `cuStreamWaitEvent`.
    call_wait: "ns",
    /// Duration of `cuEventQuery`, `cuStreamQuery` and other queries.
    call_query: "ns",
    /// Duration of `cuStreamCreate`, and of `cuStreamDestroy`.
    call_stream: "ns",
    /// Duration of `cuStreamSynchronize` and similar calls, without the wait.
    call_synchronize: "ns",
    /// Duration of `cuMemAdvise`.
    call_advise: "ns",
    /// Duration of `cuMemPrefetchAsync` if no page has to move.
    prefetch_resident: "ns",
    /// Additional duration of `cuMemPrefetchAsync` for each 2 MiB block, if no page has to move.
    prefetch_resident_block: "ns",
    /// Duration of `cuMemPrefetchAsync` if pages have to be copied.
    prefetch_call: "ns",
    /// Additional duration of `cuMemPrefetchAsync` for each 2 MiB block, if pages have to be copied.
    prefetch_block: "ns",
    /// Time that `cuMemPrefetchAsync` blocks the host for each MiB that it copies to a device.
    prefetch_to_device_per_mib: "ns/MiB",
    /// Time that `cuMemPrefetchAsync` blocks the host for each MiB that it copies to the host.
    prefetch_to_host_per_mib: "ns/MiB",
    /// Time that a prefetched block takes on the device in addition to its copy.
    prefetch_copy_block: "ns",
    /// Duration of `cuMemPrefetchAsync` if memory has to be allocated for the pages, but no page has to be copied.
    prefetch_fresh: "ns",
    /// Additional duration of `cuMemPrefetchAsync` for each 2 MiB of pages that need memory and are not copied.
    prefetch_fresh_block: "ns",
    /// Largest number of faults of a device that the driver serves in one batch.
    fault_batch: "faults",
    /// Time that the driver takes to serve a batch of faults of a device, without the copies.
    device_fault: "ns",
    /// Time that the driver takes to serve one fault of the host, without the copies.
    host_fault: "ns",
    /// Additional time of the first fault of an operation of a device, because the driver's fault service has to wake
    /// up.
    fault_wakeup: "ns",
    /// Additional time of a fault in a block of which the faulting processor has no page yet.
    fault_new_block: "ns",
    /// Additional time of each service of a device's faults in a block of whole 2 MiB.
    fault_whole_block: "ns",
    /// Number of faults that the threads of a fill can have outstanding at a time.
    fill_in_flight: "faults",
    /// Additional time of each block of a batch beyond the first.
    fault_further_block: "ns",
    /// Additional time of each fault of a batch.
    fault_entry: "ns",
    /// Time for each page that a fault moves.
    fault_page: "ns",
    /// Time for each copy that a fault causes, without the transfer of the bytes.
    fault_copy: "ns",
    /// Time to evict one 2 MiB chunk, without the copy.
    eviction: "ns",
    /// A page thrashes if it migrates more than this many times, each within `thrashing_lapse` of the previous one.
    thrashing_threshold: "events",
    /// Longest time between two migrations of a page that count as thrashing.
    thrashing_lapse: "ns",
    /// Time that a processor that faults on a thrashing page has to wait.
    thrashing_nap: "ns",
    /// Number of such waits after which the page is pinned.
    thrashing_pin_threshold: "waits",
    /// Time that a page stays pinned.
    thrashing_pin: "ns",
    /// Time without thrashing after which the history of a block is reset.
    thrashing_epoch: "ns",
    /// Largest number of resets of a block's history.
    thrashing_max_resets: "times",
}

impl Default for Profile {
    fn default() -> Self {
        Self::h100_pcie5()
    }
}

impl Profile {
    /// Returns the profile with another capacity, in bytes.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem_sim::Profile;
    /// assert_eq!(Profile::a100().with_capacity(12 << 30).capacity.value as u64, 12 << 30);
    /// ```
    #[must_use]
    pub fn with_capacity(mut self, bytes: u64) -> Self {
        self.capacity = Figure::uncalibrated(bytes as f64, "chosen by the program");
        self
    }

    /// Returns the profile without virtual memory management.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem_driver::Driver;
    /// # use cumem_sim::{Profile, Simulator};
    /// let sim = Simulator::new([Profile::a100().without_virtual_memory()])?;
    /// assert!(!sim.attributes(0)?.virtual_memory_management);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn without_virtual_memory(mut self) -> Self {
        self.virtual_memory_management = false;
        self
    }

    /// Returns the profile with another name.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem_sim::Profile;
    /// assert_eq!(Profile::a100().with_name("half").name, "half");
    /// ```
    #[must_use]
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Returns the parameters of the driver's kernel module.
    pub(super) fn rules(&self) -> Rules {
        let whole = |figure: Figure| figure.value as u32;
        let time = |figure: Figure| figure.value as u64;
        let thrashing = ThrashingRules {
            threshold: whole(self.thrashing_threshold),
            pin_threshold: whole(self.thrashing_pin_threshold),
            lapse: time(self.thrashing_lapse),
            nap: time(self.thrashing_nap),
            pin: time(self.thrashing_pin),
            epoch: time(self.thrashing_epoch),
            max_resets: whole(self.thrashing_max_resets),
        };
        Rules {
            prefetch: self.fault_prefetch,
            batch: self.fault_batch.value as usize,
            thrashing: self.thrashing_detection.then_some(thrashing),
        }
    }

    /// Checks the fields. The error names the field that makes no sense, and the reason.
    pub(super) fn check(&self) -> Result<(), String> {
        // Above 2^53, `f64` does not represent every integer. No sensible value is that large.
        const LIMIT: f64 = (1_u64 << 53) as f64;
        for (field, unit, figure) in self.figures() {
            let value = figure.value;
            if !(0.0..=LIMIT).contains(&value) {
                return Err(format!("{field} is {value} {unit}: it must be between 0 and 2^53"));
            }
            if unit.ends_with("/s") && value < 1.0 {
                return Err(format!("{field} is {value} {unit}: it must be at least 1"));
            }
            if matches!(unit, "bytes" | "faults" | "events") && (value < 1.0 || value.fract() != 0.0) {
                return Err(format!("{field} is {value} {unit}: it must be a whole number above 0"));
            }
        }
        if self.page_size.value != PAGE as f64 {
            return Err(format!("page_size is {} bytes: it must be {PAGE}", self.page_size.value));
        }
        for (field, figure, of) in [
            ("capacity", self.capacity, BLOCK),
            ("small_granule", self.small_granule, 256),
            ("large_granule", self.large_granule, BLOCK),
        ] {
            if !(figure.value as u64).is_multiple_of(of) {
                return Err(format!("{field} is {} bytes: it must be a multiple of {of}", figure.value));
            }
        }
        if self.name.is_empty() {
            return Err("name is empty".into());
        }
        if self.concurrent_managed_access && !self.managed_memory {
            return Err("concurrent_managed_access is set without managed_memory".into());
        }
        Ok(())
    }
}

/// Writes the name, the capabilities, and every number with its provenance and source.
impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (major, minor) = self.compute_capability;
        writeln!(f, "{}: compute capability {major}.{minor}, {} multiprocessors", self.name, self.multiprocessors)?;
        for (name, set) in [
            ("managed_memory", self.managed_memory),
            ("concurrent_managed_access", self.concurrent_managed_access),
            ("pageable_memory_access", self.pageable_memory_access),
            ("direct_managed_mem_access_from_host", self.direct_managed_mem_access_from_host),
            ("memory_pools", self.memory_pools),
            ("managed_memory_pools", self.managed_memory_pools),
            ("host_memory_pools", self.host_memory_pools),
            ("host_register", self.host_register),
            ("virtual_memory_management", self.virtual_memory_management),
            ("peer_access", self.peer_access),
            ("integrated", self.integrated),
            ("prefetch_second_pass", self.prefetch_second_pass),
            ("rounded_tails", self.rounded_tails),
            ("thrashing_detection", self.thrashing_detection),
        ] {
            writeln!(f, "  {name:36} {set}")?;
        }
        writeln!(f, "  {:36} {:?}", "fault_prefetch", self.fault_prefetch)?;
        for (field, unit, figure) in self.figures() {
            let Figure { value, provenance, source } = figure;
            writeln!(f, "  {field:28} {value:>16} {unit:12} {provenance:12} {source}")?;
        }
        Ok(())
    }
}
