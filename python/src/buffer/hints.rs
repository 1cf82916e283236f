//! Prefetch and advice, and what the driver knows about pages.

use super::data::Buffer;
use crate::device::Device;
use crate::failure::Failure;
use crate::opened::Bytes;
use cumem::unified::{Advice, HintOutcome, hints};
use cumem::{Location, Stream};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

/// Whether a hint was applied, and if not, the reason. True if it was applied.
#[pyclass(frozen, module = "cumem", name = "HintOutcome", get_all)]
#[derive(Debug)]
pub(crate) struct Outcome {
    applied: bool,
    reason: Option<String>,
}

impl From<HintOutcome> for Outcome {
    fn from(outcome: HintOutcome) -> Self {
        match outcome {
            HintOutcome::Applied => Self { applied: true, reason: None },
            HintOutcome::Skipped(reason) => Self { applied: false, reason: Some(reason.to_string()) },
        }
    }
}

#[pymethods]
impl Outcome {
    fn __bool__(&self) -> bool {
        self.applied
    }

    fn __repr__(&self) -> String {
        match &self.reason {
            None => "<cumem.HintOutcome applied>".into(),
            Some(reason) => format!("<cumem.HintOutcome skipped: {reason}>"),
        }
    }
}

/// Returns the location of an argument: the buffer's device for `None`.
pub(super) fn location(device: &cumem::Device, argument: Option<&Bound<'_, PyAny>>) -> PyResult<Location> {
    let Some(argument) = argument else { return Ok(device.id().into()) };
    if let Ok(other) = argument.cast::<Device>() {
        return Ok(other.get().inner().id().into());
    }
    if let Ok(ordinal) = argument.extract::<u32>() {
        return Ok(device.id().sibling(ordinal).into());
    }
    let Ok(name) = argument.cast::<PyString>() else {
        let class = argument.get_type().name()?;
        return Err(PyTypeError::new_err(format!("`{class}` is no location: {LOCATIONS}")));
    };
    let name = name.to_str()?;
    match name.split_once(':') {
        None if name == "device" => Ok(device.id().into()),
        None if name == "host" => Ok(Location::Host),
        Some(("host", node)) if node.parse::<u32>().is_ok() => Ok(Location::HostNuma(node.parse()?)),
        _ => Err(PyValueError::new_err(format!("`{name}` is no location: {LOCATIONS}"))),
    }
}

const LOCATIONS: &str =
    "pass \"device\", \"host\", \"host:NODE\" for a NUMA node, a cumem.Device, or the number of a device";

/// Returns the advice of the arguments.
pub(super) fn advice(
    device: &cumem::Device,
    name: &str,
    at: Option<&Bound<'_, PyAny>>,
    unset: bool,
) -> PyResult<Advice> {
    let location = || location(device, at);
    if at.is_some() && (name == "read_mostly" || (name == "preferred_location" && unset)) {
        return Err(PyTypeError::new_err(format!("`{name}` takes no location here")));
    }
    Ok(match (name, unset) {
        ("read_mostly", false) => Advice::SetReadMostly,
        ("read_mostly", true) => Advice::UnsetReadMostly,
        ("preferred_location", false) => Advice::SetPreferredLocation(location()?),
        ("preferred_location", true) => Advice::UnsetPreferredLocation,
        ("accessed_by", false) => Advice::SetAccessedBy(location()?),
        ("accessed_by", true) => Advice::UnsetAccessedBy(location()?),
        _ => {
            let text = "the advice is \"read_mostly\", \"preferred_location\" or \"accessed_by\"";
            return Err(PyValueError::new_err(format!("{text}, not \"{name}\"")));
        }
    })
}

pub(super) fn prefetch(buffer: &Buffer, to: Location, stream: Option<&Stream>) -> Result<Outcome, Failure> {
    macro_rules! prefetch {
        ($owner:expr) => {{
            let mut view = $owner.as_view().slice(buffer.range())?;
            if let Some(stream) = stream {
                view = view.on(stream)?;
            }
            Ok(view.prefetch(to)?.into())
        }};
    }
    buffer.whole().with(|bytes| match bytes {
        Bytes::Device(owner) => prefetch!(owner),
        Bytes::Managed(owner) => prefetch!(owner),
        Bytes::Host(_) => Ok(of_host()),
    })
}

pub(super) fn advise(buffer: &Buffer, advice: Advice) -> Result<Outcome, Failure> {
    buffer.whole().with(|bytes| match bytes {
        Bytes::Device(owner) => Ok(owner.as_view().slice(buffer.range())?.advise(advice)?.into()),
        Bytes::Managed(owner) => Ok(owner.as_view().slice(buffer.range())?.advise(advice)?.into()),
        Bytes::Host(_) => Ok(of_host()),
    })
}

fn of_host() -> Outcome {
    Outcome { applied: false, reason: Some("ordinary host memory does not migrate".into()) }
}

/// Returns the advice of a buffer's pages, and the location of the last prefetch.
pub(super) fn attributes<'py>(buffer: &Buffer, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
    let found = py.detach(|| {
        buffer.whole().with(|bytes| match bytes {
            Bytes::Managed(owner) => Ok(hints::range_attributes(owner.block(), buffer.range(), owner.stream())?),
            _ => Err(Failure::NotSupported(format!(
                "{} memory has no pages that migrate",
                buffer.kind_of_memory().name()
            ))),
        })
    })?;
    let dict = PyDict::new(py);
    let name = |location: &Location| location.to_string();
    dict.set_item("read_mostly", found.read_mostly)?;
    dict.set_item("preferred_location", found.preferred_location.as_ref().map(name))?;
    dict.set_item("accessed_by", found.accessed_by.iter().map(name).collect::<Vec<_>>())?;
    dict.set_item("last_prefetch", found.last_prefetch_location.as_ref().map(name))?;
    Ok(dict)
}

/// Returns the bytes of a buffer's pages by location, which only a simulated device knows.
pub(super) fn residency<'py>(buffer: &Buffer, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
    let found = buffer.whole().with(|bytes| match bytes {
        Bytes::Managed(owner) => Ok(hints::residency(owner.block(), buffer.range(), owner.stream())?),
        _ => Err(Failure::NotSupported(format!("{} memory has no pages that migrate", buffer.kind_of_memory().name()))),
    })?;
    let Some(found) = found else { return Ok(None) };
    let dict = PyDict::new(py);
    for (location, bytes) in found.locations().iter().filter(|(_, bytes)| *bytes > 0) {
        dict.set_item(location.to_string(), bytes)?;
    }
    if found.nowhere() > 0 {
        dict.set_item("nowhere", found.nowhere())?;
    }
    Ok(Some(dict))
}
