//! Driver calls that are made to fail, and the number of calls of each kind.
#![forbid(unsafe_code)]

use cumem_driver::CudaErrorCode;
use std::fmt;

macro_rules! fault_calls {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// A kind of driver call, for [`Simulator::fail_nth`](crate::Simulator::fail_nth).
        ///
        /// # Examples
        ///
        /// ```
        /// use cumem_driver::Driver;
        /// use cumem_sim::{FaultCall, Profile, Simulator};
        ///
        /// // Each kind of call fails once.
        /// for kind in [FaultCall::CreateStream, FaultCall::AllocatePinned] {
        ///     let sim = Simulator::new([Profile::h100_pcie5()])?;
        ///     sim.fail_nth(kind, 1, kind.codes()[0]);
        ///     let failed = sim.create_stream(0, false).is_err() || sim.allocate_pinned(0, 64).is_err();
        ///     assert!(failed, "{kind}");
        /// }
        /// # Ok::<(), Box<dyn std::error::Error>>(())
        /// ```
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum FaultCall {
            $($(#[doc = $doc])+ $name,)+
            /// Every call, whichever kind it is.
            Any,
        }

        impl FaultCall {
            /// All kinds except [`Any`](Self::Any).
            pub const ALL: &'static [Self] = &[$(Self::$name),+];
        }

        /// Writes the name of the variant.
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
    /// `cuMemAllocHost` or `cuMemHostRegister`.
    AllocatePinned,
    /// `calloc`, for memory that devices can access.
    AllocateSystem,
    /// `cuMemAllocFromPoolAsync`.
    AllocateAsync,
    /// `cuMemAddressReserve` or `cuMemAddressFree`.
    Reserve,
    /// `cuMemCreate`, `cuMemMap` and `cuMemSetAccess`, which count as one call. For memory that is mapped again,
    /// `cuMemRetainAllocationHandle` for each piece replaces `cuMemCreate`.
    Map,
    /// `cuMemFree`, `cuMemFreeHost`, `cuMemHostUnregister`, `free`, `cuMemFreeAsync` or `cuMemUnmap`.
    Free,
    /// `cuMemcpyAsync`.
    Copy,
    /// `cuMemsetD8Async` or `cuMemsetD32Async`.
    Fill,
    /// `cuMemPrefetchAsync` or `cuMemPrefetchBatchAsync`.
    PrefetchAsync,
    /// `cuMemAdvise`, `cuMemDiscardBatchAsync` or `cuStreamAttachMemAsync`.
    Advise,
    /// `cuEventCreate`.
    CreateEvent,
    /// `cuEventRecord`.
    RecordEvent,
    /// `cuStreamWaitEvent`.
    WaitEvent,
    /// `cuStreamCreate`.
    CreateStream,
    /// `cuStreamDestroy`, `cuEventDestroy`, `cuMemPoolDestroy`, `cuGraphDestroy` or `cuGraphExecDestroy`.
    Destroy,
    /// `cuMemPoolCreate`, `cuDeviceGetDefaultMemPool`, `cuDeviceGetMemPool`, `cuMemPoolSetAttribute`,
    /// `cuMemPoolSetAccess` or `cuMemPoolTrimTo`.
    MemPool,
    /// `cuStreamSynchronize`, `cuEventSynchronize` or `cuCtxSynchronize`.
    Synchronize,
    /// `cuStreamQuery`, `cuEventQuery`, `cuMemGetInfo`, and queries about pointers, ranges and pools.
    Query,
    /// `cuLaunchKernel`, or the launch of a host kernel in its place, or `cuGraphLaunch`.
    Launch,
    /// `cuStreamBeginCapture`, `cuStreamEndCapture` or `cuGraphInstantiateWithFlags`.
    Capture,
    /// An access of the host to memory. The access is not a driver call, but fails if no memory is free for the pages.
    HostAccess,
}

impl FaultCall {
    /// Returns the error codes that are injected into this kind of call: `OUT_OF_MEMORY` if the layers above handle
    /// that code for the call, and for driver calls one code that no layer handles.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem_driver::CudaErrorCode;
    /// # use cumem_sim::FaultCall;
    /// assert!(FaultCall::AllocateDevice.codes().contains(&CudaErrorCode::OUT_OF_MEMORY));
    /// ```
    pub fn codes(self) -> &'static [CudaErrorCode] {
        const MEMORY: &[CudaErrorCode] = &[CudaErrorCode::OUT_OF_MEMORY, CudaErrorCode::UNKNOWN];
        match self {
            Self::HostAccess => &[CudaErrorCode::OUT_OF_MEMORY],
            Self::AllocateDevice | Self::AllocateManaged | Self::AllocatePinned => MEMORY,
            Self::AllocateAsync | Self::AllocateSystem => MEMORY,
            Self::Reserve | Self::Map => MEMORY,
            Self::Synchronize => &[CudaErrorCode::LAUNCH_FAILED],
            _ => &[CudaErrorCode::UNKNOWN],
        }
    }

    /// Reports whether this kind of call frees something or waits for its last use. If such a call fails, the object
    /// leaks.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem_sim::FaultCall;
    /// assert!(FaultCall::Free.releases() && !FaultCall::AllocateDevice.releases());
    /// ```
    pub fn releases(self) -> bool {
        matches!(self, Self::Free | Self::Destroy | Self::Reserve | Self::Synchronize)
    }
}

const KINDS: usize = FaultCall::Any as usize + 1;

/// The number of calls of each kind, and the planned failures.
#[derive(Debug, Default)]
pub(super) struct Injection {
    calls: [u64; KINDS],
    planned: Vec<PlannedFault>,
}

#[derive(Debug)]
struct PlannedFault {
    kind: FaultCall,
    /// Value of the kind's counter at which the call fails.
    at: u64,
    code: CudaErrorCode,
}

impl Injection {
    pub(super) fn plan(&mut self, kind: FaultCall, n: u64, code: CudaErrorCode) {
        let at = self.calls(kind).saturating_add(n.max(1));
        self.planned.push(PlannedFault { kind, at, code });
    }

    /// Returns the number of planned failures that have not happened yet.
    pub(super) fn pending(&self) -> usize {
        self.planned.len()
    }

    pub(super) fn clear(&mut self) {
        self.planned.clear();
    }

    pub(super) fn calls(&self, kind: FaultCall) -> u64 {
        self.calls[kind as usize]
    }

    /// Counts a call. Returns the error code if the call has to fail.
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
