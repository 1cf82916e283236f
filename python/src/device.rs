//! The class `Device`.

use crate::failure::Failure;
use pyo3::prelude::*;
use std::hash::{DefaultHasher, Hash, Hasher};

/// A GPU or a simulated device.
#[pyclass(frozen, module = "cumem", eq, from_py_object)]
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Device(pub(crate) cumem::Device);

impl Device {
    /// Opens a device, without the GIL, because the driver may have to start.
    pub(crate) fn open(py: Python<'_>, ordinal: i32, simulated: Option<&str>) -> PyResult<Self> {
        if cumem_c::rust::is_forked_child() {
            return Err(Failure::Forked.into());
        }
        let opened = py.detach(|| cumem_c::rust::open_device(ordinal, simulated));
        Ok(Self(opened.map_err(Failure::from)?))
    }
}

#[pymethods]
impl Device {
    #[new]
    #[pyo3(signature = (ordinal=0, *, simulated=None))]
    fn new(py: Python<'_>, ordinal: i32, simulated: Option<&str>) -> PyResult<Self> {
        Self::open(py, ordinal, simulated)
    }

    /// The device's number.
    #[getter]
    fn ordinal(&self) -> u32 {
        self.0.id().ordinal()
    }

    /// The name of the GPU, or of the simulated profile.
    #[getter]
    fn name(&self) -> &str {
        &self.0.attributes().name
    }

    #[getter]
    fn is_simulated(&self) -> bool {
        self.0.is_simulated()
    }

    /// Free bytes and all bytes of the device's memory.
    fn memory_info(&self, py: Python<'_>) -> PyResult<(usize, usize)> {
        let info = py.detach(|| self.0.memory_info()).map_err(Failure::from)?;
        Ok((info.free, info.total))
    }

    /// Waits until the device has done all its work.
    fn synchronize(&self, py: Python<'_>) -> PyResult<()> {
        Ok(py.detach(|| self.0.synchronize()).map_err(Failure::from)?)
    }

    fn __hash__(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.0.id().hash(&mut hasher);
        hasher.finish()
    }

    fn __repr__(&self) -> String {
        format!("<cumem.Device {} {:?}>", self.0.id(), self.name())
    }
}
