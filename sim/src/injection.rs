//! Calls that are made to fail, and how often each was made.
#![forbid(unsafe_code)]

use cumem_driver::CudaErrorCode;
use std::fmt;

macro_rules! fault_calls {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// A kind of driver call, for [`Simulator::fail_nth`](super::Simulator::fail_nth).
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum FaultCall {
            $($(#[doc = $doc])+ $name,)+
            /// Each of the others.
            Any,
        }

        impl FaultCall {
            /// All kinds but [`Any`](Self::Any).
            pub const ALL: &'static [Self] = &[$(Self::$name),+];
        }

        /// As it is written here.
        impl fmt::Display for FaultCall {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(self, f)
            }
        }
    };
}

fault_calls! {
    /// `cuMemAlloc`.
    AllocateDevice,
    /// `cuMemAllocManaged`.
    AllocateManaged,
    /// `cuMemAllocHost`.
    AllocatePinned,
    /// `cuMemAllocFromPoolAsync`.
    AllocateAsync,
    /// `cuMemAddressReserve`, `cuMemAddressFree`.
    Reserve,
    /// `cuMemCreate`, or `cuMemRetainAllocationHandle` for each piece, `cuMemMap` and `cuMemSetAccess`, which are one
    /// call here.
    Map,
    /// `cuMemFree`, `cuMemFreeHost`, `cuMemFreeAsync`, `cuMemUnmap`.
    Free,
    /// `cuMemcpyAsync`.
    Copy,
    /// `cuMemsetD8Async`.
    Fill,
    /// `cuMemPrefetchAsync`, `cuMemPrefetchBatchAsync`.
    PrefetchAsync,
    /// `cuMemAdvise`, `cuMemDiscardBatchAsync`.
    Advise,
    /// `cuEventCreate`.
    CreateEvent,
    /// `cuEventRecord`.
    RecordEvent,
    /// `cuStreamWaitEvent`.
    WaitEvent,
    /// `cuStreamCreate`.
    CreateStream,
    /// `cuStreamDestroy`, `cuEventDestroy`, `cuMemPoolDestroy`.
    Destroy,
    /// `cuMemPoolCreate`, and changes to pools.
    MemPool,
    /// `cuStreamSynchronize`, `cuEventSynchronize`, `cuCtxSynchronize`.
    Synchronize,
    /// `cuStreamQuery`, `cuEventQuery`, `cuMemGetInfo`, and questions about pointers, ranges and pools.
    Query,
    /// `cuLaunchKernel`, and work done by the host in its place.
    Launch,
    /// The host's touch of memory, which is no call of a driver, but may find none for its pages.
    HostAccess,
}

impl FaultCall {
    /// What a driver answers to such a call when it cannot do it: want of memory, where layers make something of
    /// that, and a code that none of them can know.
    pub fn codes(self) -> &'static [CudaErrorCode] {
        const MEMORY: &[CudaErrorCode] = &[CudaErrorCode::OUT_OF_MEMORY, CudaErrorCode::UNKNOWN];
        match self {
            Self::HostAccess => &[CudaErrorCode::OUT_OF_MEMORY],
            Self::AllocateDevice | Self::AllocateManaged | Self::AllocatePinned | Self::AllocateAsync => MEMORY,
            Self::Reserve | Self::Map => MEMORY,
            Self::Synchronize => &[CudaErrorCode::LAUNCH_FAILED],
            _ => &[CudaErrorCode::UNKNOWN],
        }
    }

    /// Whether it gives something back, or waits for what uses it; if it fails, that stays out.
    pub fn gives_back(self) -> bool {
        matches!(self, Self::Free | Self::Destroy | Self::Reserve | Self::Synchronize)
    }
}

const KINDS: usize = FaultCall::Any as usize + 1;

/// Counters, and the failures that are still to come.
#[derive(Debug, Default)]
pub(super) struct Injection {
    calls: [u64; KINDS],
    planned: Vec<Planned>,
}

#[derive(Debug)]
struct Planned {
    kind: FaultCall,
    /// The value of the counter at which it fails.
    at: u64,
    code: CudaErrorCode,
}

impl Injection {
    pub(super) fn plan(&mut self, kind: FaultCall, n: u64, code: CudaErrorCode) {
        let at = self.calls(kind).saturating_add(n.max(1));
        self.planned.push(Planned { kind, at, code });
    }

    /// Failures that have not happened yet.
    pub(super) fn to_come(&self) -> usize {
        self.planned.len()
    }

    pub(super) fn clear(&mut self) {
        self.planned.clear();
    }

    pub(super) fn calls(&self, kind: FaultCall) -> u64 {
        self.calls[kind as usize]
    }

    /// Counts a call; `Some` if it is to fail.
    pub(super) fn count(&mut self, kind: FaultCall) -> Option<CudaErrorCode> {
        for kind in [kind, FaultCall::Any] {
            self.calls[kind as usize] += 1;
        }
        if self.planned.is_empty() {
            return None;
        }
        let calls = self.calls;
        let due = self
            .planned
            .iter()
            .position(|p| matches!(p.kind, k if k == kind || k == FaultCall::Any) && calls[p.kind as usize] == p.at)?;
        Some(self.planned.remove(due).code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nth_call_of_a_kind_from_now_fails_once() {
        let mut injection = Injection::default();
        let code = CudaErrorCode::OUT_OF_MEMORY;
        assert_eq!(injection.count(FaultCall::Copy), None);
        injection.plan(FaultCall::Copy, 2, code);
        injection.plan(FaultCall::Any, 4, CudaErrorCode::UNKNOWN);
        assert_eq!(injection.count(FaultCall::Copy), None);
        assert_eq!(injection.count(FaultCall::Fill), None);
        assert_eq!(injection.count(FaultCall::Copy), Some(code));
        assert_eq!(injection.count(FaultCall::Free), Some(CudaErrorCode::UNKNOWN));
        assert_eq!(injection.count(FaultCall::Copy), None);
        assert_eq!(injection.calls(FaultCall::Copy), 4);
        assert_eq!(injection.calls(FaultCall::Any), 6);
    }
}
