//! The handles that a driver hands out, as plain numbers.
#![forbid(unsafe_code)]

/// A stream of the driver (`CUstream`), or of the simulator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RawStream(pub u64);

impl RawStream {
    /// `CU_STREAM_LEGACY`.
    pub const LEGACY: Self = Self(1);
    /// `CU_STREAM_PER_THREAD`.
    pub const PER_THREAD: Self = Self(2);
}

/// An event of the driver (`CUevent`), or of the simulator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RawEvent(pub u64);

/// A stream-ordered memory pool of the driver (`CUmemoryPool`), or of the simulator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RawPool(pub u64);

/// A loaded module (`CUmodule`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RawModule(pub u64);

/// A kernel of a loaded module (`CUfunction`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RawFunction(pub u64);
