//! [`Failure`]: a failure on its way to Python, as an exception of `cumem._errors` that carries the numbers.

use cumem::error::TrimError;
use cumem::{AllocError, DeviceError, DriverError};
use cumem_adaptors::{AddressError, SpecError};
use cumem_c::{CumemError, CumemStatus};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyModule};
use std::error::Error;

/// A failure. Work without the GIL returns one, because an exception needs the GIL.
#[derive(Debug)]
pub(crate) enum Failure {
    /// An allocation of memory of a kind.
    Alloc(AllocError, &'static str),
    /// A free by address.
    Address(AddressError),
    /// An operation on a device.
    Device(DeviceError),
    /// The text of a stack.
    Spec(SpecError),
    /// A function of the C interface.
    Interface(Box<CumemError>),
    /// An object that was closed.
    Closed(&'static str),
    /// An object that is in use.
    Busy(String),
    /// A process that was forked.
    Forked,
    /// An argument that is wrong.
    Request(String),
    /// Memory that a stack did not accept back.
    Refused(String),
    /// Something that the stack or the device does not have.
    NotSupported(String),
}

impl From<DeviceError> for Failure {
    fn from(error: DeviceError) -> Self {
        Self::Device(error)
    }
}

impl From<DriverError> for Failure {
    fn from(error: DriverError) -> Self {
        Self::Device(error.into())
    }
}

impl From<TrimError> for Failure {
    fn from(error: TrimError) -> Self {
        let text = line(&error);
        match error.reason {
            cumem::error::DeallocReason::Device(error) => Self::Device(error),
            _ => Self::Busy(text),
        }
    }
}

impl From<AddressError> for Failure {
    fn from(error: AddressError) -> Self {
        Self::Address(error)
    }
}

impl From<SpecError> for Failure {
    fn from(error: SpecError) -> Self {
        Self::Spec(error)
    }
}

impl From<Box<CumemError>> for Failure {
    fn from(error: Box<CumemError>) -> Self {
        Self::Interface(error)
    }
}

/// Returns an error with its causes in one line.
pub(crate) fn line(error: &(dyn Error + 'static)) -> String {
    cumem::error::ErrorReport::of(error).to_string()
}

impl From<Failure> for PyErr {
    #[cold]
    fn from(failure: Failure) -> Self {
        Python::attach(|py| failure.raise(py).unwrap_or_else(|error| error))
    }
}

impl Failure {
    fn raise(self, py: Python<'_>) -> PyResult<PyErr> {
        let numbers = PyDict::new(py);
        let (name, text) = self.describe(&numbers)?;
        let class = errors(py)?.getattr(name)?;
        Ok(PyErr::from_value(class.call((text,), Some(&numbers))?))
    }

    /// Returns the name of the exception and its text, and adds its numbers.
    fn describe(self, numbers: &Bound<'_, PyDict>) -> PyResult<(&'static str, String)> {
        Ok(match self {
            Self::Alloc(error, kind) => {
                let name = describe_alloc(&error, numbers)?;
                if name != "DriverError" && name != "InvalidRequestError" {
                    numbers.set_item("kind", kind)?;
                }
                (name, line(&error))
            }
            Self::Address(error) => {
                let (AddressError::AlreadyFree { addr }
                | AddressError::Inner { addr, .. }
                | AddressError::NotReleased { addr }
                | AddressError::Foreign { addr }
                | AddressError::WrongSize { addr, .. }
                | AddressError::Refused { addr, .. }) = &error
                else {
                    return Err(PyRuntimeError::new_err(line(&error)));
                };
                numbers.set_item("address", addr)?;
                ("AddressError", line(&error))
            }
            Self::Device(error) => {
                let name = describe_device(&error, numbers)?;
                (name, line(&error))
            }
            Self::Spec(error) => match error.source() {
                Some(_) => ("StackError", line(&error)),
                None => {
                    let span = error.span();
                    numbers.set_item("message", error.message())?;
                    numbers.set_item("span", (span.start, span.end))?;
                    ("StackTextError", error.to_string())
                }
            },
            Self::Interface(error) => (describe_interface(&error, numbers)?, error.text()),
            Self::Closed(what) => ("ClosedError", format!("the {what} is closed")),
            Self::Busy(text) => ("BusyError", text),
            Self::Forked => ("ForkedError", FORKED.into()),
            Self::Request(text) => ("InvalidRequestError", text),
            Self::Refused(text) => ("DriverError", text),
            Self::NotSupported(text) => ("NotSupportedError", text),
        })
    }
}

const FORKED: &str = "this process is a forked child, and memory of its parent cannot be used in it; start processes with \
    multiprocessing's `spawn` or `forkserver`";

fn errors(py: Python<'_>) -> PyResult<&Bound<'_, PyModule>> {
    static ERRORS: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
    Ok(ERRORS.get_or_try_init(py, || PyModule::import(py, "cumem._errors").map(Bound::unbind))?.bind(py))
}

fn describe_alloc(error: &AllocError, numbers: &Bound<'_, PyDict>) -> PyResult<&'static str> {
    Ok(match error {
        AllocError::OutOfMemory { layer, requested, free, total, .. } => {
            numbers.set_item("layer", layer)?;
            numbers.set_item("requested", requested)?;
            numbers.set_item("free", free)?;
            numbers.set_item("total", total)?;
            "OutOfMemoryError"
        }
        AllocError::Exhausted { layer, requested, held, .. } => {
            numbers.set_item("layer", layer)?;
            numbers.set_item("requested", requested)?;
            numbers.set_item("free", held.free)?;
            numbers.set_item("limit", held.maximum)?;
            "OutOfMemoryError"
        }
        AllocError::LimitExceeded { layer, requested, allocated, limit } => {
            numbers.set_item("layer", layer.as_ref())?;
            numbers.set_item("requested", requested)?;
            numbers.set_item("free", limit.saturating_sub(*allocated))?;
            numbers.set_item("allocated", allocated)?;
            numbers.set_item("limit", limit)?;
            "LimitExceededError"
        }
        AllocError::Device(error) => describe_device(error, numbers)?,
        AllocError::PrefetchFailed { source, .. } => describe_device(source, numbers)?,
        _ => "InvalidRequestError",
    })
}

fn describe_device(error: &DeviceError, numbers: &Bound<'_, PyDict>) -> PyResult<&'static str> {
    Ok(match error {
        error if error.is_out_of_memory() => "OutOfMemoryError",
        DeviceError::Driver(DriverError::NotSupported { .. } | DriverError::MissingSymbol { .. }) => {
            "NotSupportedError"
        }
        DeviceError::Driver(DriverError::Forked { .. }) => "ForkedError",
        DeviceError::WrongDevice { .. }
        | DeviceError::WrongLength { .. }
        | DeviceError::OutOfRange { .. }
        | DeviceError::NotHostAccessible { .. } => "InvalidRequestError",
        error => {
            numbers.set_item("code", error.code().map(|code| code.0))?;
            "DriverError"
        }
    })
}

fn describe_interface(error: &CumemError, numbers: &Bound<'_, PyDict>) -> PyResult<&'static str> {
    Ok(match error.status {
        CumemStatus::OutOfMemory | CumemStatus::LimitExceeded => {
            numbers.set_item("requested", error.requested)?;
            numbers.set_item("free", error.available)?;
            numbers.set_item("limit", error.limit)?;
            match error.status {
                CumemStatus::OutOfMemory => "OutOfMemoryError",
                _ => "LimitExceededError",
            }
        }
        CumemStatus::AlreadyFree | CumemStatus::ForeignAddress | CumemStatus::InnerAddress | CumemStatus::WrongSize => {
            numbers.set_item("address", error.address)?;
            "AddressError"
        }
        CumemStatus::InvalidArgument | CumemStatus::WrongDevice | CumemStatus::InvalidSpec => "InvalidRequestError",
        CumemStatus::InvalidStack => "ClosedError",
        CumemStatus::NotSupported => "NotSupportedError",
        CumemStatus::Forked => "ForkedError",
        CumemStatus::Busy => "BusyError",
        _ => "DriverError",
    })
}
