//! Captures and graphs.

use super::context::Active;
use super::sys::{self, handle, number};
use crate::capture::{CaptureMode, CaptureState};
use crate::error::DriverError;
use crate::raw::{RawGraph, RawGraphExec, RawStream};
use cust::sys::{CUstreamCaptureMode, CUstreamCaptureStatus};
use std::ffi::c_int;
use std::ptr;

const RELAXED: c_int = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED as c_int;

/// Makes a call that a driver refuses during a capture, because in other programs the call could wait for work that is
/// only captured. Such a call of this library never waits for a captured stream, so the call is made in relaxed mode.
///
/// Changing the mode and changing it back takes 24 ns (H200, driver 580.159: `sim/facts/capture.c`).
pub(super) fn relaxed<T>(call: impl FnOnce() -> T) -> T {
    let mut mode = RELAXED;
    // SAFETY: `mode` is readable and writable. Each thread has a mode of its own.
    let changed = unsafe { sys::cuThreadExchangeStreamCaptureMode(&raw mut mode) }.is_success();
    let result = call();
    if changed {
        // SAFETY: as above. The call fails only for a value that is no mode, and the driver returned this one.
        let _restored = unsafe { sys::cuThreadExchangeStreamCaptureMode(&raw mut mode) };
    }
    result
}

impl Active<'_> {
    /// # Safety
    ///
    /// The contract of [`Driver::begin_capture`](crate::driver::Driver::begin_capture).
    pub(super) unsafe fn begin_capture(&self, stream: RawStream, mode: CaptureMode) -> Result<(), DriverError> {
        let mode = match mode {
            CaptureMode::Global => CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_GLOBAL,
            CaptureMode::ThreadLocal => CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL,
            CaptureMode::Relaxed => CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED,
        };
        // SAFETY: the caller ensures that the stream is live.
        let code = unsafe { sys::cuStreamBeginCapture_v2(handle(stream.0), mode as c_int) };
        self.check("cuStreamBeginCapture", code)
    }

    /// # Safety
    ///
    /// The stream is live.
    pub(super) unsafe fn end_capture(&self, stream: RawStream) -> Result<RawGraph, DriverError> {
        let mut graph = ptr::null_mut();
        // SAFETY: `graph` is writable. The caller ensures that the stream is live.
        let code = unsafe { sys::cuStreamEndCapture(handle(stream.0), &raw mut graph) };
        self.check("cuStreamEndCapture", code)?;
        self.created("cuStreamEndCapture", number(graph)).map(RawGraph)
    }

    /// # Safety
    ///
    /// The stream is live.
    pub(super) unsafe fn capture_state(&self, stream: RawStream) -> Result<CaptureState, DriverError> {
        let (mut status, mut id) = (0, 0);
        // SAFETY: `status` and `id` are writable. The caller ensures that the stream is live.
        let code = unsafe { sys::cuStreamGetCaptureInfo(handle(stream.0), &raw mut status, &raw mut id) };
        self.check("cuStreamGetCaptureInfo", code)?;
        const ACTIVE: c_int = CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_ACTIVE as c_int;
        const NONE: c_int = CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_NONE as c_int;
        Ok(match status {
            NONE => CaptureState::None,
            ACTIVE => CaptureState::Active { id },
            _ => CaptureState::Invalidated,
        })
    }

    /// # Safety
    ///
    /// The graph is live, and is not used afterwards.
    pub(super) unsafe fn destroy_graph(&self, graph: RawGraph) -> Result<(), DriverError> {
        // SAFETY: the caller ensures that the graph is live and not used afterwards.
        let code = unsafe { sys::cuGraphDestroy(handle(graph.0)) };
        self.check("cuGraphDestroy", code)
    }

    /// # Safety
    ///
    /// The graph is live.
    pub(super) unsafe fn instantiate_graph(&self, graph: RawGraph) -> Result<RawGraphExec, DriverError> {
        let mut exec = ptr::null_mut();
        // SAFETY: `exec` is writable. The caller ensures that the graph is live. No flag is needed.
        let code = relaxed(|| unsafe { sys::cuGraphInstantiateWithFlags(&raw mut exec, handle(graph.0), 0) });
        self.check("cuGraphInstantiateWithFlags", code)?;
        self.created("cuGraphInstantiateWithFlags", number(exec)).map(RawGraphExec)
    }

    /// # Safety
    ///
    /// The contract of [`Driver::launch_graph`](crate::driver::Driver::launch_graph).
    pub(super) unsafe fn launch_graph(&self, exec: RawGraphExec, stream: RawStream) -> Result<(), DriverError> {
        // SAFETY: the caller ensures that graph and stream are live, and that the memory of the graph is usable.
        let code = relaxed(|| unsafe { sys::cuGraphLaunch(handle(exec.0), handle(stream.0)) });
        self.check("cuGraphLaunch", code)
    }

    /// # Safety
    ///
    /// The executable graph is live, and is not used afterwards.
    pub(super) unsafe fn destroy_graph_exec(&self, exec: RawGraphExec) -> Result<(), DriverError> {
        // SAFETY: the caller ensures that the graph is live and not used afterwards. A launch that is still enqueued
        // completes.
        let code = unsafe { sys::cuGraphExecDestroy(handle(exec.0)) };
        self.check("cuGraphExecDestroy", code)
    }
}
