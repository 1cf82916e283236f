//! [`Failure`]: a failure on its way to the caller.

use crate::status::{CumemError, CumemStatus};
use cumem::error::{DeallocReason, TrimError};
use cumem::{AllocError, DeviceError, DriverError};
use cumem_adaptors::graph_pools::GraphPoolError;
use cumem_adaptors::pool::PoolError;
use cumem_adaptors::{AddressError, SpecError};
use std::error::Error;

/// Behind a pointer, because results pass through functions that mostly succeed.
#[derive(Debug)]
pub(crate) struct Failure(Box<Details>);

#[derive(Debug)]
struct Details {
    status: CumemStatus,
    numbers: Numbers,
    text: String,
}

#[derive(Debug, Default)]
struct Numbers {
    requested: u64,
    available: u64,
    limit: u64,
    address: u64,
}

impl Failure {
    #[cold]
    pub(crate) fn new(status: CumemStatus, text: impl Into<String>) -> Self {
        Self::with(status, Numbers::default(), text.into())
    }

    #[cold]
    pub(crate) fn argument(text: impl Into<String>) -> Self {
        Self::new(CumemStatus::InvalidArgument, text)
    }

    fn with(status: CumemStatus, numbers: Numbers, text: String) -> Self {
        Self(Box::new(Details { status, numbers, text }))
    }

    /// Describes the failure in `error`, and returns its status.
    pub(crate) fn report(self, error: Option<&mut CumemError>) -> CumemStatus {
        let Details { status, numbers, text } = *self.0;
        if let Some(error) = error {
            let Numbers { requested, available, limit, address } = numbers;
            *error = CumemError { status, requested, available, limit, address, ..CumemError::NONE };
            error.set_text(&text);
        }
        status
    }

    /// Returns the text.
    pub(crate) fn text(&self) -> &str {
        &self.0.text
    }
}

/// Returns an error with its causes in one line.
fn line(error: &(dyn Error + 'static)) -> String {
    cumem::error::ErrorReport::of(error).to_string()
}

impl From<AllocError> for Failure {
    #[cold]
    fn from(error: AllocError) -> Self {
        let (status, numbers) = match &error {
            AllocError::OutOfMemory { requested, free, total, .. } => {
                let numbers = Numbers { limit: *total as u64, ..numbers(*requested, *free) };
                (CumemStatus::OutOfMemory, numbers)
            }
            AllocError::Exhausted { requested, held, .. } => {
                let limit = held.maximum.unwrap_or(0) as u64;
                (CumemStatus::OutOfMemory, Numbers { limit, ..numbers(*requested, held.free) })
            }
            AllocError::LimitExceeded { requested, allocated, limit, .. } => {
                let left = limit.saturating_sub(*allocated);
                (CumemStatus::LimitExceeded, Numbers { limit: *limit as u64, ..numbers(*requested, left) })
            }
            AllocError::Custom { requested, out_of_memory: true, .. } => {
                (CumemStatus::OutOfMemory, numbers(*requested, 0))
            }
            AllocError::InvalidLayout(_) | AllocError::UnsupportedAlignment { .. } => {
                (CumemStatus::InvalidArgument, Numbers::default())
            }
            AllocError::Device(device) => (of_device(device), Numbers::default()),
            _ => (CumemStatus::Driver, Numbers::default()),
        };
        Self::with(status, numbers, line(&error))
    }
}

fn numbers(requested: usize, available: usize) -> Numbers {
    Numbers { requested: requested as u64, available: available as u64, ..Numbers::default() }
}

impl From<AddressError> for Failure {
    #[cold]
    fn from(error: AddressError) -> Self {
        let (status, address) = match &error {
            AddressError::AlreadyFree { addr } => (CumemStatus::AlreadyFree, *addr),
            AddressError::Inner { addr, .. } => (CumemStatus::InnerAddress, *addr),
            AddressError::NotReleased { addr } | AddressError::Foreign { addr } => (CumemStatus::ForeignAddress, *addr),
            AddressError::WrongSize { addr, .. } => (CumemStatus::WrongSize, *addr),
            AddressError::Refused { addr, reason } => (of_reason(reason), *addr),
            _ => (CumemStatus::Driver, 0),
        };
        Self::with(status, Numbers { address, ..Numbers::default() }, line(&error))
    }
}

impl From<DeviceError> for Failure {
    #[cold]
    fn from(error: DeviceError) -> Self {
        Self::new(of_device(&error), line(&error))
    }
}

impl From<GraphPoolError> for Failure {
    #[cold]
    fn from(error: GraphPoolError) -> Self {
        let status = match &error {
            GraphPoolError::NotOpen { .. } | GraphPoolError::NotHeld { .. } => CumemStatus::InvalidArgument,
            GraphPoolError::AlreadyOpen { .. } => CumemStatus::Busy,
            GraphPoolError::Device(device) | GraphPoolError::Pool(PoolError::Device(device)) => of_device(device),
            _ => CumemStatus::Driver,
        };
        Self::new(status, line(&error))
    }
}

impl From<DriverError> for Failure {
    #[cold]
    fn from(error: DriverError) -> Self {
        DeviceError::from(error).into()
    }
}

impl From<TrimError> for Failure {
    #[cold]
    fn from(error: TrimError) -> Self {
        Self::new(of_reason(&error.reason), line(&error))
    }
}

impl From<SpecError> for Failure {
    #[cold]
    fn from(error: SpecError) -> Self {
        // The text is right, and the device refused a layer, where the error has a cause.
        let status = match error.source() {
            Some(cause) => cause.downcast_ref().map_or(CumemStatus::Driver, of_device),
            None => CumemStatus::InvalidSpec,
        };
        Self::new(status, line(&error))
    }
}

fn of_reason(reason: &DeallocReason) -> CumemStatus {
    match reason {
        DeallocReason::Device(error) => of_device(error),
        _ => CumemStatus::ForeignAddress,
    }
}

fn of_device(error: &DeviceError) -> CumemStatus {
    match error {
        error if error.is_out_of_memory() => CumemStatus::OutOfMemory,
        DeviceError::WrongDevice { .. } => CumemStatus::WrongDevice,
        DeviceError::Captured { .. } => CumemStatus::Busy,
        DeviceError::Driver(DriverError::NotSupported { .. } | DriverError::MissingSymbol { .. }) => {
            CumemStatus::NotSupported
        }
        DeviceError::Driver(DriverError::Forked { .. }) => CumemStatus::Forked,
        _ => CumemStatus::Driver,
    }
}
