//! The class `Device`.

use crate::failure::Failure;
use crate::parent_only::ParentOnly;
use pyo3::prelude::*;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, PoisonError};

/// A GPU or a simulated device.
#[pyclass(frozen, module = "cumem")]
#[derive(Debug)]
pub(crate) struct Device(ParentOnly<cumem::Device>);

impl Device {
    pub(crate) fn over(device: cumem::Device) -> Self {
        Self(ParentOnly::new(device))
    }

    pub(crate) fn inner(&self) -> &cumem::Device {
        &self.0
    }
}

/// Opens a device, without the GIL, because the driver may have to start.
pub(crate) fn open(py: Python<'_>, ordinal: i32, simulated: Option<&str>) -> PyResult<cumem::Device> {
    if cumem_c::rust::is_forked_child() {
        return Err(Failure::Forked.into());
    }
    Ok(py.detach(|| match (simulated, std::env::var("CUMEM_PROFILE")) {
        (None, Ok(profile)) => open_shared(ordinal, profile),
        (simulated, _) => Ok(cumem_c::rust::open_device(ordinal, simulated)?),
    })?)
}

/// Returns the simulated device that takes the place of a GPU in this process.
fn open_shared(ordinal: i32, profile: String) -> Result<cumem::Device, Failure> {
    static OPENED: Mutex<Option<HashMap<String, cumem::Device>>> = Mutex::new(None);
    let mut opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
    let opened = opened.get_or_insert_default();
    if let (0, Some(device)) = (ordinal, opened.get(&profile)) {
        return Ok(device.clone());
    }
    let device = cumem_c::rust::open_device(ordinal, Some(&profile))?;
    opened.insert(profile, device.clone());
    Ok(device)
}

#[pymethods]
impl Device {
    #[new]
    #[pyo3(signature = (ordinal=0, *, simulated=None))]
    fn new(py: Python<'_>, ordinal: i32, simulated: Option<&str>) -> PyResult<Self> {
        Ok(Self::over(open(py, ordinal, simulated)?))
    }

    #[getter]
    fn ordinal(&self) -> u32 {
        self.0.id().ordinal()
    }

    #[getter]
    fn name(&self) -> &str {
        &self.0.attributes().name
    }

    #[getter]
    fn is_simulated(&self) -> bool {
        self.0.is_simulated()
    }

    #[getter]
    fn total_memory(&self) -> usize {
        self.0.attributes().total_memory
    }

    #[getter]
    fn compute_capability(&self) -> (u32, u32) {
        self.0.attributes().compute_capability
    }

    #[getter]
    fn managed_memory(&self) -> bool {
        self.0.attributes().managed_memory
    }

    #[getter]
    fn concurrent_managed_access(&self) -> bool {
        self.0.attributes().concurrent_managed_access
    }

    #[getter]
    fn memory_pools(&self) -> bool {
        self.0.attributes().memory_pools
    }

    #[getter]
    fn virtual_memory_management(&self) -> bool {
        self.0.attributes().virtual_memory_management
    }

    fn memory_info(&self, py: Python<'_>) -> PyResult<(usize, usize)> {
        let info = py.detach(|| self.0.memory_info()).map_err(Failure::from)?;
        Ok((info.free, info.total))
    }

    fn synchronize(&self, py: Python<'_>) -> PyResult<()> {
        Ok(py.detach(|| self.0.synchronize()).map_err(Failure::from)?)
    }

    fn __eq__(&self, other: &Self) -> bool {
        *self.0 == *other.0
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
