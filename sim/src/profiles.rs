//! The named profiles: GPUs that were measured, and machines with other capabilities.
#![forbid(unsafe_code)]

use super::profile::{Figure, Figures, Profile, Provenance};

const GIB: f64 = (1_u64 << 30) as f64;
const MIB: f64 = (1_u64 << 20) as f64;
const GB: f64 = 1e9;
const US: f64 = 1e3;

const H100: &str = "H100 80GB HBM3, PCIe 5, driver 580.159, CUDA 13.0";
const HALF_OF_PAIR: &str = "H100, driver 580.159: half of a measured pair of calls";
const FIT: &str = "H100, driver 580.159: fitted to examples/data/uvm/h100, uvm_calibrate";
const FROM_H100: &str = "taken over from the H100 profile";
const TITAN: &str = "SC21 artifact tallendev/uvm-eval, Titan V, read off its figures";
const GUESS: &str = "assumed";
const DRIVER: &str = "default of nvidia-uvm, open-gpu-kernel-modules 595.45.04";
const GTX_FIT: &str = "nvprof traces of UVMSmart, GTX 1080 Ti, PCIe 3: 17.28 us + 0.1359 us/KiB per fault";

impl Profile {
    /// The names that [`named`](Self::named) accepts.
    pub const NAMES: &[&str] = &["h100-pcie5", "gtx1080ti", "titanv", "a100", "gh200", "maxwell", "wsl", "integrated"];

    /// Returns the profile with a name of [`NAMES`](Self::NAMES), or with this [`name`](Self::name) field. Returns
    /// `None` if there is none.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem_sim::Profile;
    ///
    /// assert_eq!(Profile::named("a100"), Some(Profile::a100()));
    /// assert_eq!(Profile::named("h100"), None);
    /// assert!(Profile::NAMES.iter().all(|name| Profile::named(name).is_some()));
    /// ```
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem_sim::Profile;
    /// assert_eq!(Profile::named("a100"), Some(Profile::a100()));
    /// assert_eq!(Profile::named("b100"), None);
    /// ```
    pub fn named(name: &str) -> Option<Self> {
        let all = [
            Self::h100_pcie5,
            Self::gtx1080ti,
            Self::titanv,
            Self::a100,
            Self::gh200,
            Self::maxwell,
            Self::wsl,
            Self::integrated,
        ];
        let mut known = Self::NAMES.iter().zip(all.map(|profile| profile()));
        known.find(|(known, profile)| **known == name || profile.name == name).map(|(_, profile)| profile)
    }

    /// Returns the profile of an H100 80GB HBM3 on PCIe 5. The profile is calibrated by measurements within the
    /// capacity of the device. Oversubscription was not measured.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem_sim::Profile;
    /// assert_eq!(Profile::h100_pcie5(), Profile::default());
    /// ```
    pub fn h100_pcie5() -> Self {
        let mut profile = h100_figures().profile("h100-pcie5", (9, 0), 132);
        profile.copy_engines = 3;
        profile
    }

    /// Returns the profile of a GTX 1080 Ti on PCIe 3: the card of the recorded fault traces.
    pub fn gtx1080ti() -> Self {
        let mut figures = pcie_figures(11.2 * GB, "UVMSmart transferBandwidth.cu, GTX 1080 Ti");
        figures.capacity = Figure::from_source(11.0 * GIB, "NVIDIA's data sheet");
        figures.device_memory = Figure::from_source(484.0 * GB, "NVIDIA's data sheet");
        figures.operations = Figure::from_source(11.3e12, "NVIDIA's data sheet, single precision");
        figures.device_fault = Figure::measured(14.13 * US, GTX_FIT);
        figures.host_fault = Figure::measured(36.0 * US, "nvprof traces of UVMSmart: 40 to 50 us from fault to fault");
        figures.fault_wakeup = Figure::uncalibrated(0.0, "only the first fault of a process was seen to take longer");
        figures.fault_whole_block = Figure::measured(0.0, GTX_FIT);
        figures.fault_new_block = Figure::measured(33.0 * US, "nvprof traces of UVMSmart; few samples");
        figures.fault_entry = Figure::measured(0.0, GTX_FIT);
        figures.fault_page = Figure::measured(0.21 * US, GTX_FIT);
        figures.fault_copy = Figure::measured(1.57 * US, GTX_FIT);
        figures.eviction = Figure::scaled(20.0 * US, "Titan V: 190 us per chunk, less the copy");
        Profile { rounded_tails: true, ..figures.profile("gtx1080ti-pcie3", (6, 1), 28) }
    }

    /// Returns the profile of a Titan V on PCIe 3: the card of Allen and Ge's study of fault batches (SC21). The
    /// numbers were read off the figures of that study within 5 to 10 %.
    pub fn titanv() -> Self {
        let mut figures = pcie_figures(12.8 * GB, TITAN);
        let read = |value| Figure::measured(value, TITAN);
        figures.capacity = Figure::from_source(12.0 * GIB, "NVIDIA's data sheet");
        figures.device_memory = Figure::from_source(653.0 * GB, "NVIDIA's data sheet");
        figures.operations = Figure::from_source(14.9e12, "NVIDIA's data sheet, single precision");
        figures.device_fault = read(40.0 * US);
        figures.fault_wakeup =
            Figure::measured(590.0 * US, "the 650 us of the smallest kernel with a fault, less the rest");
        figures.fault_new_block = Figure::measured(0.0, "contained in the slope by pages");
        figures.fault_whole_block = Figure::measured(0.0, "contained in the slope by pages");
        figures.fault_further_block = read(10.0 * US);
        figures.fault_page = Figure::measured(0.5 * US, "sgemm with the prefetcher: 0.207 us/KiB, less the copy");
        figures.fault_entry = Figure::measured(1.9 * US, "regular access without it: 0.68 us/KiB, less pages and copy");
        figures.fault_copy = Figure::measured(0.0, "contained in the slopes");
        figures.eviction = Figure::measured(26.0 * US, "190 us for each chunk, less the copy");
        figures.profile("titanv-pcie3", (7, 0), 80)
    }

    /// Returns the profile of a GH200, whose host can map the device memory. The model's pages have 4 KiB; those of the
    /// machine have 64 KiB.
    pub fn gh200() -> Self {
        let mut figures = pcie_figures(97.0 * GIB, "vortex-data/vortex#7815: one pinned copy over C2C");
        figures.pageable = Figure::measured(93.0 * GIB, "vortex-data/vortex#7815: one pageable copy over C2C");
        figures.link_peer = Figure::uncalibrated(370.0 * GB, "NVLink one way, NVIDIA/nccl#1264");
        figures.capacity = Figure::from_source(96.0 * GIB, "NVIDIA's data sheet");
        figures.device_memory = Figure::from_source(4000.0 * GB, "NVIDIA's data sheet");
        let mut profile = figures.profile("gh200", (9, 0), 132);
        profile.copy_engines = 3;
        profile.pageable_memory_access = true;
        profile.pageable_memory_access_uses_host_page_tables = true;
        profile.direct_managed_mem_access_from_host = true;
        profile
    }

    /// Returns the profile of an A100 40GB on PCIe 4.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem_sim::Profile;
    /// assert!(Profile::a100().capacity.value > Profile::gtx1080ti().capacity.value);
    /// ```
    pub fn a100() -> Self {
        let mut figures = pcie_figures(25.0 * GB, "ZaidQureshi/bam#54, A100 on PCIe 4");
        figures.capacity = Figure::from_source(40.0 * GIB, "NVIDIA's data sheet");
        figures.device_memory = Figure::from_source(1555.0 * GB, "NVIDIA's data sheet");
        figures.operations = Figure::from_source(19.5e12, "NVIDIA's data sheet, single precision");
        let mut profile = figures.profile("a100-pcie4", (8, 0), 108);
        profile.copy_engines = 3;
        profile
    }

    /// Returns the profile of a Maxwell card (GTX 980). Host and device cannot use its unified memory at the same time.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem_sim::Profile;
    /// assert!(!Profile::maxwell().concurrent_managed_access);
    /// ```
    pub fn maxwell() -> Self {
        let mut figures = pcie_figures(11.2 * GB, "as the GTX 1080 Ti");
        figures.link_to_device = Figure::scaled(11.2 * GB, "taken over from the GTX 1080 Ti profile");
        figures.capacity = Figure::from_source(4.0 * GIB, "NVIDIA's data sheet");
        figures.device_memory = Figure::from_source(224.0 * GB, "NVIDIA's data sheet");
        figures.operations = Figure::from_source(4.6e12, "NVIDIA's data sheet, single precision");
        let mut profile = figures.profile("maxwell", (5, 2), 16);
        profile.concurrent_managed_access = false;
        profile
    }

    /// Returns the profile of an H100 as Windows and WSL 2 present it: without concurrent managed access.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem_sim::Profile;
    /// assert!(!Profile::wsl().concurrent_managed_access);
    /// ```
    pub fn wsl() -> Self {
        let mut profile = elsewhere(h100_figures()).profile("wsl", (9, 0), 132);
        profile.concurrent_managed_access = false;
        profile
    }

    /// Returns the profile of an integrated GPU (Orin class). Host and device share one memory, without concurrent
    /// managed access.
    pub fn integrated() -> Self {
        let memory = 102.0 * GB;
        let mut figures = pcie_figures(memory, "the device's own memory");
        figures.link_to_device = Figure::from_source(memory, "NVIDIA's data sheet, Orin NX 8 GB: one memory");
        figures.capacity = Figure::from_source(8.0 * GIB, "NVIDIA's data sheet, Orin NX 8 GB");
        figures.device_memory = Figure::from_source(memory, "NVIDIA's data sheet, Orin NX 8 GB");
        figures.pageable = Figure::uncalibrated(memory / 4.0, GUESS);
        figures.operations = Figure::uncalibrated(1.9e12, GUESS);
        let mut profile = figures.profile("integrated", (8, 7), 8);
        profile.copy_engines = 1;
        profile.integrated = true;
        profile.concurrent_managed_access = false;
        profile
    }

    /// Returns the profile of an H100 with `capacity` bytes of memory, for tests. `capacity` must be a multiple of 2
    /// MiB.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem_sim::Profile;
    /// assert_eq!(Profile::tiny(64 << 20).capacity.value as u64, 64 << 20);
    /// ```
    pub fn tiny(capacity: u64) -> Self {
        Self::h100_pcie5().with_capacity(capacity).with_name("tiny")
    }
}

/// Marks the numbers that were measured on the H100 as scaled, because another machine uses them.
fn elsewhere(h100: Figures) -> Figures {
    h100.each(|figure| match figure.provenance {
        Provenance::Measured => Figure::scaled(figure.value, FROM_H100),
        _ => figure,
    })
}

/// Returns the costs of the H100, scaled to a link of another bandwidth.
fn pcie_figures(bandwidth: f64, source: &'static str) -> Figures {
    let h100 = elsewhere(h100_figures());
    let scale = h100.link_to_device.value / bandwidth;
    let scaled = |figure: Figure, factor: f64| Figure::scaled(figure.value * factor, FROM_H100);
    Figures {
        link_to_device: Figure::measured(bandwidth, source),
        link_to_host: Figure::scaled(bandwidth, "as in the other direction"),
        link_peer: Figure::uncalibrated(bandwidth, "as to the host"),
        pageable: Figure::scaled(h100.pageable.value.min(bandwidth / 2.0), FROM_H100),
        prefetch_to_device_per_mib: scaled(h100.prefetch_to_device_per_mib, scale),
        prefetch_to_host_per_mib: scaled(h100.prefetch_to_host_per_mib, scale.max(1.0)),
        ..h100
    }
}

fn h100_figures() -> Figures {
    let m = |value, source| Figure::measured(value, source);
    let fit = |value| Figure::measured(value, FIT);
    let half = |value| Figure::scaled(value, HALF_OF_PAIR);
    let rule = |value| Figure::from_source(value, DRIVER);
    Figures {
        page_size: Figure::from_source(4096.0, "Linux on x86-64"),
        capacity: Figure::from_source(80.0 * GIB, "NVIDIA's data sheet; the driver keeps some of it"),
        host_memory: Figure::uncalibrated(256.0 * GIB, GUESS),
        managed_limit: m(4096.0 * GIB, "H100, driver 580.159: allocating 4 TiB is refused"),
        small_granule: Figure::uncalibrated(512.0, "CUDA's usual alignment of allocations"),
        large_granule: Figure::uncalibrated(2.0 * MIB, "the driver's root chunk"),
        large_allocation: Figure::uncalibrated(MIB, GUESS),
        link_to_device: m(54.7 * GB, H100),
        link_to_host: m(55.1 * GB, H100),
        link_peer: Figure::uncalibrated(50.0 * GB, "a PCIe 5 link, as to the host"),
        pageable: m(6.23 * GB, H100),
        device_memory: Figure::from_source(3350.0 * GB, "NVIDIA's data sheet"),
        operations: Figure::from_source(67e12, "NVIDIA's data sheet, single precision"),
        copy_latency: fit(5.6 * US),
        kernel_latency: Figure::uncalibrated(3.0 * US, GUESS),
        call_allocate_device: half(55.5 * US),
        call_free_device: half(55.5 * US),
        call_allocate_managed: half(21.0 * US),
        call_free_managed: half(21.0 * US),
        call_allocate_pinned: half(475.0 * US),
        call_free_pinned: half(475.0 * US),
        pinned_per_mib: half(238.0 * US),
        call_allocate_async: half(370.0),
        call_free_async: half(370.0),
        call_reserve: m(
            33.0 * US,
            "H100, driver 580.159: 256 GiB of addresses; freeing them is taken to cost the same",
        ),
        call_map: m(58.0 * US, "H100, driver 580.159: 20 MiB; create 22, map 2, set access 34 us"),
        call_unmap: m(53.0 * US, "H100, driver 580.159: 20 MiB; unmap and release"),
        call_copy: fit(1.8 * US),
        call_fill: Figure::scaled(1.8 * US, "as a copy"),
        call_launch: Figure::uncalibrated(2.0 * US, GUESS),
        call_event: half(97.0),
        call_record: m(201.0, H100),
        call_wait: half(97.0),
        call_query: m(148.0, H100),
        call_stream: Figure::uncalibrated(5.0 * US, GUESS),
        call_synchronize: fit(2.0 * US),
        call_advise: Figure::uncalibrated(5.0 * US, GUESS),
        prefetch_resident: fit(2.5 * US),
        prefetch_resident_block: fit(1.27 * US),
        prefetch_call: fit(8.0 * US),
        prefetch_block: fit(6.4 * US),
        prefetch_to_device_per_mib: fit(6.3 * US),
        prefetch_to_host_per_mib: fit(53.9 * US),
        prefetch_copy_block: fit(2.85 * US),
        prefetch_fresh: fit(7.0 * US),
        prefetch_fresh_block: fit(6.8 * US),
        fault_batch: rule(256.0),
        device_fault: fit(8.0 * US),
        host_fault: fit(21.0 * US),
        fault_wakeup: fit(60.0 * US),
        fault_new_block: fit(0.0),
        fault_whole_block: fit(20.0 * US),
        fill_in_flight: fit(128.0),
        fault_further_block: fit(0.0),
        fault_entry: fit(0.0),
        fault_page: fit(0.13 * US),
        fault_copy: fit(1.0 * US),
        eviction: Figure::uncalibrated(20.0 * US, "Titan V: 190 us per chunk, less the copy"),
        thrashing_threshold: rule(3.0),
        thrashing_lapse: rule(500.0 * US),
        thrashing_nap: rule(500.0 * US),
        thrashing_pin_threshold: rule(10.0),
        thrashing_pin: rule(150_000.0 * US),
        thrashing_epoch: rule(1_000_000.0 * US),
        thrashing_max_resets: rule(4.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_named_profile_is_valid_and_its_numbers_have_sources() {
        for name in Profile::NAMES {
            let profile = Profile::named(name).unwrap();
            assert_eq!(profile.check(), Ok(()), "{name}");
            for (field, _, Figure { provenance, source, .. }) in profile.figures() {
                assert!(!source.is_empty(), "{name}: {field}");
                // A number that was measured on the H100 is not a measurement of another device.
                let borrowed = source.starts_with("H100") && *name != "h100-pcie5";
                assert!(!borrowed || provenance != Provenance::Measured, "{name}: {field}: {source}");
            }
        }
        assert_eq!(Profile::named("h100"), None);
    }

    #[test]
    fn names_are_in_the_order_of_their_profiles() {
        for name in Profile::NAMES {
            let found = Profile::named(name).unwrap().name;
            assert!(found.starts_with(name), "{name} is {found}");
            assert_eq!(Profile::named(&found), Profile::named(name));
        }
    }
}
