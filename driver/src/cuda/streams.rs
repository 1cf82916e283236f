//! Streams and events. cust's are not used: its `Stream::new` drops `NON_BLOCKING` without a word, and its
//! errors lose the code.

use super::context::Active;
use super::sys::{self, handle, number};
use crate::error::DriverError;
use crate::raw::{RawEvent, RawStream};
use cust::sys::{CUevent_flags, CUstream_flags};
use std::ffi::c_uint;
use std::ptr;
use std::time::Duration;

impl Active<'_> {
    pub(super) fn synchronize(&self) -> Result<(), DriverError> {
        // SAFETY: the device's context is current.
        let code = unsafe { sys::cuCtxSynchronize() };
        self.check("cuCtxSynchronize", code)
    }

    pub(super) fn create_stream(&self, blocking: bool) -> Result<RawStream, DriverError> {
        let flags = if blocking { CUstream_flags::CU_STREAM_DEFAULT } else { CUstream_flags::CU_STREAM_NON_BLOCKING };
        let mut stream = ptr::null_mut();
        // SAFETY: `stream` is writable.
        let code = unsafe { sys::cuStreamCreate(&raw mut stream, flags as c_uint) };
        self.check("cuStreamCreate", code)?;
        Ok(RawStream(number(stream)))
    }

    /// # Safety
    ///
    /// That of [`Driver::destroy_stream`](crate::Driver::destroy_stream).
    pub(super) unsafe fn destroy_stream(&self, stream: RawStream) -> Result<(), DriverError> {
        // SAFETY: by the contract.
        let code = unsafe { sys::cuStreamDestroy_v2(handle(stream.0)) };
        self.check("cuStreamDestroy", code)
    }

    /// # Safety
    ///
    /// The stream is alive, as for all that follow.
    pub(super) unsafe fn synchronize_stream(&self, stream: RawStream) -> Result<(), DriverError> {
        // SAFETY: by the contract.
        let code = unsafe { sys::cuStreamSynchronize(handle(stream.0)) };
        self.check("cuStreamSynchronize", code)
    }

    /// # Safety
    ///
    /// The stream is alive.
    pub(super) unsafe fn query_stream(&self, stream: RawStream) -> Result<bool, DriverError> {
        // SAFETY: by the contract.
        let code = unsafe { sys::cuStreamQuery(handle(stream.0)) };
        code.ready("cuStreamQuery", self.id)
    }

    /// # Safety
    ///
    /// Stream and event are alive.
    pub(super) unsafe fn wait_event(&self, stream: RawStream, event: RawEvent) -> Result<(), DriverError> {
        // SAFETY: by the contract; the call defines no flags that apply here.
        let code = unsafe { sys::cuStreamWaitEvent(handle(stream.0), handle(event.0), 0) };
        self.check("cuStreamWaitEvent", code)
    }

    pub(super) fn create_event(&self, timing: bool) -> Result<RawEvent, DriverError> {
        let flags = if timing { CUevent_flags::CU_EVENT_DEFAULT } else { CUevent_flags::CU_EVENT_DISABLE_TIMING };
        let mut event = ptr::null_mut();
        // SAFETY: `event` is writable.
        let code = unsafe { sys::cuEventCreate(&raw mut event, flags as c_uint) };
        self.check("cuEventCreate", code)?;
        Ok(RawEvent(number(event)))
    }

    /// # Safety
    ///
    /// The event is alive, and this is its end.
    pub(super) unsafe fn destroy_event(&self, event: RawEvent) -> Result<(), DriverError> {
        // SAFETY: by the contract.
        let code = unsafe { sys::cuEventDestroy_v2(handle(event.0)) };
        self.check("cuEventDestroy", code)
    }

    /// # Safety
    ///
    /// Event and stream are alive, and of this device.
    pub(super) unsafe fn record_event(&self, event: RawEvent, stream: RawStream) -> Result<(), DriverError> {
        // SAFETY: by the contract.
        let code = unsafe { sys::cuEventRecord(handle(event.0), handle(stream.0)) };
        self.check("cuEventRecord", code)
    }

    /// # Safety
    ///
    /// The event is alive.
    pub(super) unsafe fn query_event(&self, event: RawEvent) -> Result<bool, DriverError> {
        // SAFETY: by the contract.
        let code = unsafe { sys::cuEventQuery(handle(event.0)) };
        code.ready("cuEventQuery", self.id)
    }

    /// # Safety
    ///
    /// The event is alive.
    pub(super) unsafe fn synchronize_event(&self, event: RawEvent) -> Result<(), DriverError> {
        // SAFETY: by the contract.
        let code = unsafe { sys::cuEventSynchronize(handle(event.0)) };
        self.check("cuEventSynchronize", code)
    }

    /// # Safety
    ///
    /// Both events are alive.
    pub(super) unsafe fn elapsed(&self, start: RawEvent, end: RawEvent) -> Result<Duration, DriverError> {
        let mut milliseconds = 0.0;
        // SAFETY: `milliseconds` is writable; the events are alive by the contract.
        let code = unsafe { sys::cuEventElapsedTime(&raw mut milliseconds, handle(start.0), handle(end.0)) };
        self.check("cuEventElapsedTime", code)?;
        Ok(duration(milliseconds))
    }
}

/// Negative, and so zero here, where the end was reached before the start.
fn duration(milliseconds: f32) -> Duration {
    Duration::try_from_secs_f64(f64::from(milliseconds) / 1e3).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::duration;
    use std::time::Duration;

    #[test]
    fn durations() {
        assert_eq!(duration(0.0), Duration::ZERO);
        assert_eq!(duration(-1.5), Duration::ZERO);
        assert_eq!(duration(1.5), Duration::from_micros(1500));
    }
}
