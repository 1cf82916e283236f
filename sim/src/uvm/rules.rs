//! [`Rules`]: the parameters of the driver's kernel module.

/// How much comes along with a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FaultPrefetch {
    /// Nothing (`uvm_perf_prefetch_enable=0`).
    Off,
    /// The 64 KiB around it. No driver does so: for comparison with published simulations.
    BigPage,
    /// What the density of the pages around it suggests: the driver's default.
    #[default]
    Density,
}

/// What holds for all devices of a machine; the defaults of `nvidia-uvm` 595.45.04.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    pub(crate) prefetch: FaultPrefetch,
    /// Faults of a device that are served at a time (`uvm_perf_fault_batch_count`).
    pub(crate) batch: usize,
    /// `None` if the driver is not to look for thrashing (`uvm_perf_thrashing_enable=0`).
    pub(crate) thrashing: Option<ThrashingRules>,
}

/// When processors fight over a page, and what is done about it; times in nanoseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ThrashingRules {
    /// A page thrashes after more events than this (`uvm_perf_thrashing_threshold`).
    pub(crate) threshold: u32,
    /// Throttles after which it is pinned (`uvm_perf_thrashing_pin_threshold`).
    pub(crate) pin_threshold: u32,
    /// Migrations that follow each other within this are events (`uvm_perf_thrashing_lapse_usec`).
    pub(crate) lapse: u64,
    /// How long a throttled processor waits (`uvm_perf_thrashing_nap`).
    pub(crate) nap: u64,
    /// How long a page stays pinned (`uvm_perf_thrashing_pin`).
    pub(crate) pin: u64,
    /// A block that was quiet for so long starts afresh (`uvm_perf_thrashing_epoch`), ...
    pub(crate) epoch: u64,
    /// ... but not more often than this (`uvm_perf_thrashing_max_resets`).
    pub(crate) max_resets: u32,
}

impl Default for Rules {
    fn default() -> Self {
        Self { prefetch: FaultPrefetch::Density, batch: 256, thrashing: Some(ThrashingRules::default()) }
    }
}

impl Default for ThrashingRules {
    fn default() -> Self {
        let lapse = 500_000;
        Self {
            threshold: 3,
            pin_threshold: 10,
            lapse,
            nap: lapse,
            pin: 300 * lapse,
            epoch: 2000 * lapse,
            max_resets: 4,
        }
    }
}
