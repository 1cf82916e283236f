//! [`Rules`]: the parameters of the driver's kernel module.

/// How many pages a fault fetches besides its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FaultPrefetch {
    /// None (`uvm_perf_prefetch_enable=0`).
    Off,
    /// The 64 KiB around the fault. No driver does this; it serves for comparison with published simulations.
    BigPage,
    /// As many as the density of resident pages around the fault suggests, which is the driver's default.
    #[default]
    Density,
}

/// Parameters that hold for all devices of a machine. The defaults are those of `nvidia-uvm` 595.45.04.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    pub(crate) prefetch: FaultPrefetch,
    /// Most faults of a device in one batch (`uvm_perf_fault_batch_count`).
    pub(crate) batch: usize,
    /// `None` if thrashing detection is off (`uvm_perf_thrashing_enable=0`).
    pub(crate) thrashing: Option<ThrashingRules>,
}

/// When a page counts as thrashing, and how the driver responds. Times are in nanoseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ThrashingRules {
    /// A page thrashes after more events than this (`uvm_perf_thrashing_threshold`).
    pub(crate) threshold: u32,
    /// Throttles after which a thrashing page is pinned (`uvm_perf_thrashing_pin_threshold`).
    pub(crate) pin_threshold: u32,
    /// A migration to another processor within this time of the page's last migration is an event
    /// (`uvm_perf_thrashing_lapse_usec`).
    pub(crate) lapse: u64,
    /// How long a throttled processor waits (`uvm_perf_thrashing_nap`).
    pub(crate) nap: u64,
    /// How long a page stays pinned (`uvm_perf_thrashing_pin`).
    pub(crate) pin: u64,
    /// The history of a block is cleared after this time without events (`uvm_perf_thrashing_epoch`).
    pub(crate) epoch: u64,
    /// How often the history of a block is cleared at most (`uvm_perf_thrashing_max_resets`).
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
