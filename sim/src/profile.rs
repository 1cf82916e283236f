//! [`Profile`]: what a simulated device is and what things cost on it, as data.
#![forbid(unsafe_code)]

use super::uvm::{BLOCK, FaultPrefetch, PAGE, Rules, ThrashingRules};
use std::fmt;

/// Where a number comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Provenance {
    /// Measured on such a device.
    Measured,
    /// Read in the driver's source or NVIDIA's documentation.
    FromSource,
    /// Computed from another device's number.
    Scaled,
    /// Nobody measured it: a guess that lets the model run.
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

/// A number and its source.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Figure {
    /// The number, in the unit that its field states.
    pub value: f64,
    /// How far it can be trusted.
    pub provenance: Provenance,
    /// Who says so.
    pub source: &'static str,
}

impl Figure {
    /// A number that was measured.
    pub const fn measured(value: f64, source: &'static str) -> Self {
        Self { value, provenance: Provenance::Measured, source }
    }

    /// A number that NVIDIA states.
    pub const fn from_source(value: f64, source: &'static str) -> Self {
        Self { value, provenance: Provenance::FromSource, source }
    }

    /// A number that follows from another device's.
    pub const fn scaled(value: f64, source: &'static str) -> Self {
        Self { value, provenance: Provenance::Scaled, source }
    }

    /// A guess.
    pub const fn uncalibrated(value: f64, source: &'static str) -> Self {
        Self { value, provenance: Provenance::Uncalibrated, source }
    }
}

macro_rules! profile {
    ($($(#[doc = $doc:literal])+ $field:ident: $unit:literal,)+) => {
        /// What a device is and what things cost on it. Start from a named one and change what you like.
        #[derive(Debug, Clone, PartialEq)]
        #[non_exhaustive]
        pub struct Profile {
            /// The device's name.
            pub name: String,
            /// Compute capability, major and minor.
            pub compute_capability: (u32, u32),
            /// Multiprocessors.
            pub multiprocessors: u32,
            /// Copies that can run beside kernels; the model has one engine for each direction.
            pub copy_engines: u32,
            /// The GPU shares the host's memory.
            pub integrated: bool,
            /// Unified memory can be allocated.
            pub managed_memory: bool,
            /// Pages migrate one by one while both sides work; prefetch, advice and oversubscription.
            pub concurrent_managed_access: bool,
            /// Kernels may use `malloc`ed memory.
            pub pageable_memory_access: bool,
            /// The device uses the host's page tables.
            pub pageable_memory_access_uses_host_page_tables: bool,
            /// The host can map device memory.
            pub direct_managed_mem_access_from_host: bool,
            /// Stream-ordered pools.
            pub memory_pools: bool,
            /// Addresses can be reserved, and memory mapped behind them.
            pub virtual_memory_management: bool,
            /// Devices of one machine can map each other's memory.
            pub peer_access: bool,
            /// A prefetch over several 2 MiB blocks goes over them twice, as the driver's source does, which
            /// matters only if they do not fit.
            pub prefetch_second_pass: bool,
            /// The last block of an allocation is rounded up to a power of two of 64 KiB, as in UVMSmart's recordings
            /// of 2018; else to a page, as on an H100 with driver 580. (Allocations below 2 MiB always to a power of
            /// two.)
            pub rounded_tails: bool,
            /// What the driver brings along with a fault.
            pub fault_prefetch: FaultPrefetch,
            /// The driver holds up processors that take pages from each other, and pins the pages.
            pub thrashing_detection: bool,
            $($(#[doc = $doc])+ #[doc = concat!("\n\nUnit: ", $unit, ".")] pub $field: Figure,)+
        }

        impl Profile {
            /// All numbers: the field, its unit, the figure.
            pub fn figures(&self) -> Vec<(&'static str, &'static str, Figure)> {
                vec![$((stringify!($field), $unit, self.$field)),+]
            }
        }

        /// The numbers of a profile, for the profiles of this crate to start from.
        #[derive(Debug, Clone, Copy)]
        pub(super) struct Figures {
            $(pub(super) $field: Figure,)+
        }

        impl Figures {
            /// The same with each number changed.
            pub(super) fn each(self, change: impl Fn(Figure) -> Figure) -> Self {
                Self { $($field: change(self.$field),)+ }
            }

            /// A profile with these numbers: a discrete GPU with everything on.
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
    /// The host's pages; the model knows 4096 only.
    page_size: "bytes",
    /// Memory of the device; whole 2 MiB.
    capacity: "bytes",
    /// Host memory that can be page-locked.
    host_memory: "bytes",
    /// Unified memory that can be allocated at once.
    managed_limit: "bytes",
    /// Granule of plain allocations below `large_allocation`.
    small_granule: "bytes",
    /// Granule of plain allocations from `large_allocation` on, and of pools.
    large_granule: "bytes",
    /// From this size on, a plain allocation takes whole large granules.
    large_allocation: "bytes",
    /// Copies from pinned memory to the device.
    link_to_device: "bytes/s",
    /// Copies from the device to pinned memory.
    link_to_host: "bytes/s",
    /// Copies between devices.
    link_peer: "bytes/s",
    /// Copies from and to ordinary host memory, staged by the driver.
    pageable: "bytes/s",
    /// The device's own memory.
    device_memory: "bytes/s",
    /// Arithmetic of kernels.
    operations: "operations/s",
    /// From the start of a copy to its first byte.
    copy_latency: "ns",
    /// From the start of a kernel to its first instruction.
    kernel_latency: "ns",
    /// `cuMemAlloc`.
    call_allocate_device: "ns",
    /// `cuMemFree` of device memory.
    call_free_device: "ns",
    /// `cuMemAllocManaged`.
    call_allocate_managed: "ns",
    /// `cuMemFree` of unified memory.
    call_free_managed: "ns",
    /// `cuMemAllocHost`.
    call_allocate_pinned: "ns",
    /// `cuMemFreeHost`.
    call_free_pinned: "ns",
    /// What `cuMemAllocHost` and `cuMemFreeHost` each take besides, by size.
    pinned_per_mib: "ns/MiB",
    /// `cuMemAllocFromPoolAsync`.
    call_allocate_async: "ns",
    /// `cuMemFreeAsync`.
    call_free_async: "ns",
    /// `cuMemAddressReserve`, `cuMemAddressFree`.
    call_reserve: "ns",
    /// `cuMemCreate`, `cuMemMap`, `cuMemSetAccess` and `cuMemRelease` together; and what a stream-ordered pool takes to
    /// grow.
    call_map: "ns",
    /// `cuMemUnmap` of one piece; and what a stream-ordered pool takes to give one back.
    call_unmap: "ns",
    /// `cuMemcpyAsync`.
    call_copy: "ns",
    /// `cuMemsetD8Async`.
    call_fill: "ns",
    /// `cuLaunchKernel`.
    call_launch: "ns",
    /// `cuEventCreate`, `cuEventDestroy`.
    call_event: "ns",
    /// `cuEventRecord`.
    call_record: "ns",
    /// `cuStreamWaitEvent`.
    call_wait: "ns",
    /// `cuEventQuery`, `cuStreamQuery` and other questions.
    call_query: "ns",
    /// `cuStreamCreate`, `cuStreamDestroy`.
    call_stream: "ns",
    /// `cuStreamSynchronize` and the like, beside the waiting.
    call_synchronize: "ns",
    /// `cuMemAdvise`.
    call_advise: "ns",
    /// `cuMemPrefetchAsync` when nothing has to move.
    prefetch_resident: "ns",
    /// The same for each 2 MiB block.
    prefetch_resident_block: "ns",
    /// `cuMemPrefetchAsync` when something has to move.
    prefetch_call: "ns",
    /// The same for each 2 MiB block.
    prefetch_block: "ns",
    /// The time that the call holds the host, by bytes that go to a device.
    prefetch_to_device_per_mib: "ns/MiB",
    /// The time that the call holds the host, by bytes that go to the host.
    prefetch_to_host_per_mib: "ns/MiB",
    /// What a block takes beside its copy.
    prefetch_copy_block: "ns",
    /// `cuMemPrefetchAsync` when memory has to be found, and nothing to be copied.
    prefetch_fresh: "ns",
    /// The same for each 2 MiB.
    prefetch_fresh_block: "ns",
    /// Faults of a device that are served together, at most.
    fault_batch: "faults",
    /// Service of a batch of faults of a device, beside the copies.
    device_fault: "ns",
    /// Service of one fault of the host, beside the copies.
    host_fault: "ns",
    /// What the first fault of an operation of a device takes besides: the driver's service has to wake up.
    fault_wakeup: "ns",
    /// What the first fault in a block takes besides.
    fault_new_block: "ns",
    /// What service for a device in a block of whole 2 MiB takes besides, each time.
    fault_whole_block: "ns",
    /// Faults that the threads of a fill can wait for at once.
    fill_in_flight: "faults",
    /// What each block of a batch takes besides, beyond the first.
    fault_further_block: "ns",
    /// What each fault of a batch takes besides.
    fault_entry: "ns",
    /// What each page takes that a fault moves.
    fault_page: "ns",
    /// What each copy takes that a fault causes, beside the bytes.
    fault_copy: "ns",
    /// Eviction of one 2 MiB chunk, beside the copy.
    eviction: "ns",
    /// A page thrashes after more migrations than this that follow one another within `thrashing_lapse`.
    thrashing_threshold: "events",
    /// The time within which they count.
    thrashing_lapse: "ns",
    /// How long a processor waits that asks for a thrashing page.
    thrashing_nap: "ns",
    /// Waits after which the page is pinned.
    thrashing_pin_threshold: "waits",
    /// How long it stays pinned.
    thrashing_pin: "ns",
    /// A block that was quiet for so long starts afresh.
    thrashing_epoch: "ns",
    /// How often it may.
    thrashing_max_resets: "times",
}

impl Default for Profile {
    fn default() -> Self {
        Self::h100_pcie5()
    }
}

impl Profile {
    /// The same with another capacity.
    #[must_use]
    pub fn with_capacity(mut self, bytes: u64) -> Self {
        self.capacity = Figure::uncalibrated(bytes as f64, "chosen by the program");
        self
    }

    /// The same without virtual memory management.
    #[must_use]
    pub fn without_virtual_memory(mut self) -> Self {
        self.virtual_memory_management = false;
        self
    }

    /// The same under another name.
    #[must_use]
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// The parameters of the driver's kernel module.
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

    /// Says which field makes no sense, and why.
    pub(super) fn check(&self) -> Result<(), String> {
        // Beyond 2^53 not every integer is a number of this type; nothing here comes near.
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

/// The name, the platform, and every number with its provenance and source.
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
