//! What an error means: a refusal that every program must expect, a failure that the soak caused, or a finding.

use cumem::error::{CudaErrorCode, DeallocReason, ErrorReport};
use cumem::sim::FaultCall;
use cumem::{AllocError, DeviceError, DriverError};
use cumem_adaptors::PoolError;
use cumem_adaptors::graph_pools::GraphPoolError;
use std::error::Error;

/// The meaning of an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// There is no memory, or a limit is reached.
    Refused,
    /// The error code is one that the soak makes driver calls return.
    Failed,
    /// Nothing explains the error.
    Finding,
}

/// The errors that a round expects.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Expected {
    /// Driver calls fail at random.
    pub(crate) faults: bool,
    /// Host guards exclude all other work, because the device has no concurrent managed access.
    pub(crate) host_gate: bool,
}

/// An error that was judged in another thread.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub(crate) struct Judged {
    verdict: Verdict,
    text: String,
}

impl Judged {
    pub(crate) fn of(expected: Expected, error: &(dyn Error + 'static)) -> Self {
        Self { verdict: expected.judge(error), text: ErrorReport::of(error).to_string() }
    }
}

impl Expected {
    /// Judges an error by itself and its causes.
    pub(crate) fn judge(self, error: &(dyn Error + 'static)) -> Verdict {
        match (self.judge_one(error), error.source()) {
            (Verdict::Finding, Some(cause)) => self.judge(cause),
            (verdict, _) => verdict,
        }
    }

    fn judge_one(self, error: &(dyn Error + 'static)) -> Verdict {
        if let Some(judged) = error.downcast_ref::<Judged>() {
            return judged.verdict;
        }
        if let Some(error) = error.downcast_ref::<AllocError>() {
            return match error {
                error if error.is_out_of_memory() => Verdict::Refused,
                // Some leaves align to 256 bytes and no more.
                AllocError::UnsupportedAlignment { .. } => Verdict::Refused,
                AllocError::Device(error) => self.device(error),
                _ => Verdict::Finding,
            };
        }
        // These stand for the error that they hold, so it is not among their sources.
        if let Some(GraphPoolError::Device(error)) = error.downcast_ref::<GraphPoolError>() {
            return self.device(error);
        }
        if let Some(PoolError::Device(error)) = error.downcast_ref::<PoolError>() {
            return self.device(error);
        }
        if let Some(DeallocReason::Device(error)) = error.downcast_ref::<DeallocReason>() {
            return self.device(error);
        }
        if let Some(error) = error.downcast_ref::<DeviceError>() {
            return self.device(error);
        }
        error.downcast_ref::<DriverError>().map_or(Verdict::Finding, |error| self.code(error.code()))
    }

    fn device(self, error: &DeviceError) -> Verdict {
        match error {
            DeviceError::HostAccess { .. } if self.host_gate => Verdict::Refused,
            error => self.code(error.code()),
        }
    }

    fn code(self, code: Option<CudaErrorCode>) -> Verdict {
        match code {
            Some(CudaErrorCode::OUT_OF_MEMORY) => Verdict::Refused,
            Some(code) if self.faults && is_injected(code) => Verdict::Failed,
            _ => Verdict::Finding,
        }
    }
}

fn is_injected(code: CudaErrorCode) -> bool {
    // A call that fails within a capture ends the capture, and its end returns this code.
    code == CudaErrorCode::STREAM_CAPTURE_INVALIDATED || FaultCall::ALL.iter().any(|call| call.codes().contains(&code))
}

#[cfg(test)]
mod tests {
    use super::*;
    use cumem::DeviceId;

    #[test]
    fn only_expected_errors_are_no_findings() {
        let quiet = Expected { faults: false, host_gate: false };
        let faulty = Expected { faults: true, host_gate: true };
        let device = DeviceId::cuda(0);
        let guard = DeviceError::HostAccess { device, guards: 1 };
        let memory = DeviceError::from(DriverError::host_out_of_memory(device));
        let thread = AllocError::Device(DeviceError::WrongThread { device });
        assert_eq!((quiet.judge(&guard), faulty.judge(&guard)), (Verdict::Finding, Verdict::Refused));
        assert_eq!((quiet.judge(&memory), faulty.judge(&memory)), (Verdict::Refused, Verdict::Refused));
        assert_eq!((quiet.judge(&thread), faulty.judge(&thread)), (Verdict::Finding, Verdict::Finding));
    }
}
