//! The handles that a driver returns, as plain numbers.
#![forbid(unsafe_code)]

/// A handle to a stream: a `CUstream` of the driver, or a stream of the simulator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RawStream(pub u64);

impl RawStream {
    /// The legacy default stream (`CU_STREAM_LEGACY`).
    pub const LEGACY: Self = Self(1);
    /// The per-thread default stream of the calling thread (`CU_STREAM_PER_THREAD`).
    pub const PER_THREAD: Self = Self(2);
}

/// A handle to an event: a `CUevent` of the driver, or an event of the simulator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RawEvent(pub u64);

/// A handle to a stream-ordered pool: a `CUmemoryPool` of the driver, or a pool of the simulator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RawPool(pub u64);

/// A handle to a graph (`CUgraph`): captured work, which cannot be launched yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RawGraph(pub u64);

/// A handle to an executable graph (`CUgraphExec`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RawGraphExec(pub u64);

/// A handle to a loaded module (`CUmodule`). The simulator has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RawModule(pub u64);

/// A handle to a kernel of a loaded module (`CUfunction`). The simulator has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RawFunction(pub u64);
