//! Streams and events. cust's types are not used: its `Stream::new` silently drops the flag `NON_BLOCKING`, and its
//! errors lose the code of the driver.

use super::context::Active;
use super::graphs::relaxed;
use super::sys::{self, CtxRecordEvent, StreamGetId, handle, number};
use crate::capture::CaptureState;
use crate::error::DriverError;
use crate::error::code::CudaErrorCode;
use crate::raw::{RawEvent, RawStream};
use cust::sys::{CUevent_flags, CUstream_flags};
use std::ffi::{c_uint, c_void};
use std::ops::RangeInclusive;
use std::ptr::NonNull;
use std::time::Duration;
use std::{mem, ptr};

fn flags(blocking: bool) -> c_uint {
    let flags = if blocking { CUstream_flags::CU_STREAM_DEFAULT } else { CUstream_flags::CU_STREAM_NON_BLOCKING };
    flags as c_uint
}

impl Active<'_> {
    pub(super) fn synchronize(&self) -> Result<(), DriverError> {
        // SAFETY: the device's context is current.
        let code = unsafe { sys::cuCtxSynchronize() };
        self.check("cuCtxSynchronize", code)
    }

    pub(super) fn create_stream(&self, blocking: bool) -> Result<RawStream, DriverError> {
        let mut stream = ptr::null_mut();
        // SAFETY: `stream` is writable.
        let code = unsafe { sys::cuStreamCreate(&raw mut stream, flags(blocking)) };
        self.check("cuStreamCreate", code)?;
        self.created("cuStreamCreate", number(stream)).map(RawStream)
    }

    pub(super) fn create_stream_with_priority(&self, blocking: bool, priority: i32) -> Result<RawStream, DriverError> {
        let mut stream = ptr::null_mut();
        // SAFETY: `stream` is writable.
        let code = unsafe { sys::cuStreamCreateWithPriority(&raw mut stream, flags(blocking), priority) };
        self.check("cuStreamCreateWithPriority", code)?;
        Ok(RawStream(number(stream)))
    }

    pub(super) fn stream_priorities(&self) -> Result<RangeInclusive<i32>, DriverError> {
        let (mut least, mut greatest) = (0, 0);
        // SAFETY: both numbers are writable.
        let code = unsafe { sys::cuCtxGetStreamPriorityRange(&raw mut least, &raw mut greatest) };
        self.check("cuCtxGetStreamPriorityRange", code)?;
        Ok(greatest..=least)
    }

    /// # Safety
    ///
    /// The contract of [`Driver::destroy_stream`](crate::driver::Driver::destroy_stream).
    pub(super) unsafe fn destroy_stream(&self, stream: RawStream) -> Result<(), DriverError> {
        // SAFETY: the caller ensures that the stream is live and not used afterwards.
        let code = unsafe { sys::cuStreamDestroy_v2(handle(stream.0)) };
        self.check("cuStreamDestroy", code)
    }

    /// # Safety
    ///
    /// The stream is live.
    pub(super) unsafe fn synchronize_stream(&self, stream: RawStream) -> Result<(), DriverError> {
        // SAFETY: the caller ensures that the stream is live.
        let code = relaxed(|| unsafe { sys::cuStreamSynchronize(handle(stream.0)) });
        self.check("cuStreamSynchronize", code)
    }

    /// # Safety
    ///
    /// The stream is live.
    pub(super) unsafe fn query_stream(&self, stream: RawStream) -> Result<bool, DriverError> {
        // SAFETY: the caller ensures that the stream is live.
        let code = relaxed(|| unsafe { sys::cuStreamQuery(handle(stream.0)) });
        code.ready("cuStreamQuery", self.id)
    }

    /// # Safety
    ///
    /// The stream is live.
    pub(super) unsafe fn stream_id(&self, stream: RawStream) -> Result<u64, DriverError> {
        const CALL: &str = "cuStreamGetId";
        let find = || {
            let symbol = self.driver.symbol(CALL)?;
            // SAFETY: the type is that of the driver's function with this name.
            Ok(unsafe { mem::transmute::<NonNull<c_void>, StreamGetId>(symbol) })
        };
        let call = self.driver.stream_id.get_or_init(find).as_ref().copied().map_err(Clone::clone)?;
        // The call itself would end the capture with an error (H200, driver 580.159: `sim/facts/capture.c`).
        // SAFETY: the caller ensures that the stream is live.
        if unsafe { self.capture_state(stream) }? != CaptureState::None {
            let code = CudaErrorCode::STREAM_CAPTURE_UNSUPPORTED;
            return Err(DriverError::Call { call: CALL, device: self.id, code });
        }
        let mut id = 0;
        // SAFETY: the caller ensures that the stream is live, and `id` is writable.
        let code = unsafe { call(handle(stream.0), &raw mut id) };
        self.check(CALL, code)?;
        Ok(id)
    }

    /// # Safety
    ///
    /// Stream and event are live.
    pub(super) unsafe fn wait_event(&self, stream: RawStream, event: RawEvent) -> Result<(), DriverError> {
        // SAFETY: the caller ensures that stream and event are live. Zero is the only flag that applies.
        let code = unsafe { sys::cuStreamWaitEvent(handle(stream.0), handle(event.0), 0) };
        self.check("cuStreamWaitEvent", code)
    }

    pub(super) fn create_event(&self, timing: bool) -> Result<RawEvent, DriverError> {
        let flags = if timing { CUevent_flags::CU_EVENT_DEFAULT } else { CUevent_flags::CU_EVENT_DISABLE_TIMING };
        let mut event = ptr::null_mut();
        // SAFETY: `event` is writable.
        let code = unsafe { sys::cuEventCreate(&raw mut event, flags as c_uint) };
        self.check("cuEventCreate", code)?;
        self.created("cuEventCreate", number(event)).map(RawEvent)
    }

    /// # Safety
    ///
    /// The event is live, and is not used afterwards.
    pub(super) unsafe fn destroy_event(&self, event: RawEvent) -> Result<(), DriverError> {
        // SAFETY: the caller ensures that the event is live and not used afterwards.
        let code = unsafe { sys::cuEventDestroy_v2(handle(event.0)) };
        self.check("cuEventDestroy", code)
    }

    /// # Safety
    ///
    /// Event and stream are live and belong to this device.
    pub(super) unsafe fn record_event(&self, event: RawEvent, stream: RawStream) -> Result<(), DriverError> {
        // SAFETY: the caller ensures that event and stream are live.
        let code = unsafe { sys::cuEventRecord(handle(event.0), handle(stream.0)) };
        self.check("cuEventRecord", code)
    }

    /// # Safety
    ///
    /// The event is live and belongs to this device.
    pub(super) unsafe fn record_event_on_device(&self, event: RawEvent) -> Result<(), DriverError> {
        let symbol = self.driver.symbol("cuCtxRecordEvent")?;
        // SAFETY: the type is that of the driver's function with this name.
        let call = unsafe { mem::transmute::<NonNull<c_void>, CtxRecordEvent>(symbol) };
        // SAFETY: the device's context is alive. The caller ensures that the event is live.
        let code = unsafe { call(self.context(), handle(event.0)) };
        self.check("cuCtxRecordEvent", code)
    }

    /// # Safety
    ///
    /// The event is live.
    pub(super) unsafe fn query_event(&self, event: RawEvent) -> Result<bool, DriverError> {
        // SAFETY: the caller ensures that the event is live.
        let code = relaxed(|| unsafe { sys::cuEventQuery(handle(event.0)) });
        code.ready("cuEventQuery", self.id)
    }

    /// # Safety
    ///
    /// The event is live.
    pub(super) unsafe fn synchronize_event(&self, event: RawEvent) -> Result<(), DriverError> {
        // SAFETY: the caller ensures that the event is live.
        let code = relaxed(|| unsafe { sys::cuEventSynchronize(handle(event.0)) });
        self.check("cuEventSynchronize", code)
    }

    /// # Safety
    ///
    /// Both events are live.
    pub(super) unsafe fn elapsed(&self, start: RawEvent, end: RawEvent) -> Result<Duration, DriverError> {
        let mut milliseconds = 0.0;
        // SAFETY: `milliseconds` is writable. The caller ensures that both events are live.
        let code = unsafe { sys::cuEventElapsedTime(&raw mut milliseconds, handle(start.0), handle(end.0)) };
        self.check("cuEventElapsedTime", code)?;
        Ok(duration(milliseconds))
    }
}

/// Converts milliseconds. The time is negative if the end was reached before the start; the result is then zero.
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
