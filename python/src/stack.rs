//! The class `Stack`.

use crate::buffer::Buffer;
use crate::counters::Counters;
use crate::device::{self, Device};
use crate::failure::Failure;
use crate::opened::Opened;
use crate::parent_only::ParentOnly;
use crate::scope::{Counts, ProfileRow, Scope, profile, statistics_of};
use crate::sizes::SizeArgument;
use crate::stream;
use cumem::{LayerExt, layout};
use cumem_adaptors::{LimiterState, TrackingState};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use std::num::NonZero;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError};

/// A stack of memory resources.
#[pyclass(frozen, module = "cumem._native", weakref, subclass)]
#[derive(Debug)]
pub(crate) struct Stack {
    /// Locked only for a moment and with the GIL.
    opened: Mutex<Option<ParentOnly<Arc<Opened>>>>,
}

impl Stack {
    fn over(opened: Opened) -> Self {
        Self { opened: Mutex::new(Some(ParentOnly::new(Arc::new(opened)))) }
    }

    /// Returns the open stack.
    pub(crate) fn opened(&self) -> Result<Arc<Opened>, Failure> {
        if cumem_c::rust::is_forked_child() {
            return Err(Failure::Forked);
        }
        let opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Arc::clone(opened.as_ref().ok_or(Failure::Closed("stack"))?))
    }
}

/// The `device` argument: a number or a `Device`.
#[derive(FromPyObject)]
enum DeviceArgument {
    Ordinal(i32),
    Device(Py<Device>),
}

#[pymethods]
impl Stack {
    /// Opens a stack. Without a text, the stack is the default one of the device, which the C interface and PyTorch's
    /// functions use.
    #[new]
    #[pyo3(signature = (text, device=None, *, simulated=None))]
    fn new(
        py: Python<'_>,
        text: Option<&str>,
        device: Option<DeviceArgument>,
        simulated: Option<&str>,
    ) -> PyResult<Self> {
        let device = match (device, simulated) {
            (Some(DeviceArgument::Device(_)), Some(_)) => {
                return Err(PyTypeError::new_err("`device` is a device already: pass it or `simulated`, not both"));
            }
            (Some(DeviceArgument::Device(device)), None) => device.get().inner().clone(),
            (Some(DeviceArgument::Ordinal(ordinal)), None) if text.is_none() => {
                return Ok(Self::over(py.detach(|| Opened::default_of(ordinal))?));
            }
            (Some(DeviceArgument::Ordinal(ordinal)), simulated) => device::open(py, ordinal, simulated)?,
            (None, simulated) => device::open(py, 0, simulated)?,
        };
        let text = text.ok_or_else(|| PyTypeError::new_err("a stack needs a text, for example \"device | pool\""))?;
        Ok(Self::over(py.detach(|| Opened::open(text, &device))?))
    }

    #[getter]
    fn handle(&self) -> PyResult<usize> {
        Ok(self.opened()?.handle().addr())
    }

    #[getter]
    fn text(&self) -> PyResult<String> {
        Ok(self.opened()?.text())
    }

    #[getter]
    fn kind(&self) -> PyResult<&'static str> {
        Ok(self.opened()?.kind.name())
    }

    #[getter]
    fn is_host_accessible(&self) -> PyResult<bool> {
        Ok(self.opened()?.kind.is_host_accessible())
    }

    #[getter]
    fn is_device_accessible(&self) -> PyResult<bool> {
        Ok(self.opened()?.kind.is_device_accessible())
    }

    #[getter]
    fn device(&self) -> PyResult<Device> {
        Ok(Device::over(self.opened()?.device.clone()))
    }

    #[getter]
    fn closed(&self) -> bool {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    #[pyo3(signature = (size, stream=None))]
    fn allocate(&self, py: Python<'_>, size: usize, stream: Option<&Bound<'_, PyAny>>) -> PyResult<Buffer> {
        let stack = self.opened()?;
        let stream = stream::argument(&stack, stream)?;
        let bytes = py.detach(|| stack.allocate(size, &stream))?;
        Ok(Buffer::new(bytes, stack, size))
    }

    #[pyo3(signature = (size, stream=None, align=1))]
    fn allocate_raw(
        &self,
        py: Python<'_>,
        size: usize,
        stream: Option<&Bound<'_, PyAny>>,
        align: usize,
    ) -> PyResult<usize> {
        let stack = self.opened()?;
        let stream = stream::argument(&stack, stream)?;
        let layout = layout::aligned(size, align).map_err(|error| PyValueError::new_err(error.to_string()))?;
        if size == 0 {
            return Ok(0);
        }
        Ok(py.detach(|| {
            let allocated = stack.by_address()?.allocate_address(&stream, layout);
            allocated.map(|ptr| ptr.addr().get()).map_err(|error| Failure::Alloc(error, stack.kind.name()))
        })?)
    }

    #[pyo3(signature = (ptr, stream=None, size=None))]
    fn free_raw(
        &self,
        py: Python<'_>,
        ptr: usize,
        stream: Option<&Bound<'_, PyAny>>,
        size: Option<usize>,
    ) -> PyResult<()> {
        let stack = self.opened()?;
        let stream = stream::argument(&stack, stream)?;
        let Some(ptr) = NonZero::new(ptr) else { return Ok(()) };
        Ok(py.detach(|| {
            let ptr = NonNull::with_exposed_provenance(ptr);
            // SAFETY: the caller promises that all work with the memory is ordered before this point of the stream.
            Ok::<_, Failure>(unsafe { stack.by_address()?.deallocate_address(&stream, ptr, size) }?)
        })?)
    }

    fn record_use_raw(&self, py: Python<'_>, ptr: usize, stream: &Bound<'_, PyAny>) -> PyResult<()> {
        let stack = self.opened()?;
        let stream = stream::resolve(&stack.device, stream)?;
        let Some(ptr) = NonZero::new(ptr) else { return Ok(()) };
        Ok(py.detach(|| {
            let ptr = NonNull::with_exposed_provenance(ptr);
            Ok::<_, Failure>(stack.by_address()?.record_use(ptr, &stream)?)
        })?)
    }

    #[getter]
    fn counters(&self, py: Python<'_>) -> PyResult<Counters> {
        let stack = self.opened()?;
        Ok(py.detach(|| Counters::of(&stack))?)
    }

    /// The counts of the outermost `statistics`.
    #[getter]
    fn statistics(&self) -> PyResult<Counts> {
        let stack = self.opened()?;
        Ok(statistics_of(&stack)?.counts().into())
    }

    fn reset_peak(&self, py: Python<'_>) -> PyResult<()> {
        let stack = self.opened()?;
        // SAFETY: the handle is open while the stack exists, and the error is one of `call`.
        Ok(py.detach(|| stack.call(|handle, error| unsafe { cumem_c::cumem_reset_peak(handle, error) }))?)
    }

    #[getter]
    fn limit(&self) -> PyResult<Option<usize>> {
        let stack = self.opened()?;
        Ok(stack.layers().find::<LimiterState>().map(LimiterState::bytes))
    }

    #[setter]
    fn set_limit(&self, py: Python<'_>, size: SizeArgument) -> PyResult<()> {
        let stack = self.opened()?;
        let bytes = size.bytes_on(&stack.device)?;
        // SAFETY: as in `reset_peak`.
        Ok(py.detach(|| stack.call(|handle, error| unsafe { cumem_c::cumem_set_limit(handle, bytes, error) }))?)
    }

    #[pyo3(signature = (keep=SizeArgument::Bytes(0)))]
    fn trim(&self, py: Python<'_>, keep: SizeArgument) -> PyResult<usize> {
        let stack = self.opened()?;
        let keep = keep.bytes_on(&stack.device)?;
        Ok(py.detach(|| stack.layers().trim_stack(keep).map_err(Failure::from))?)
    }

    /// Returns all memory of the stack's pools as text or JSON, as `cumem_snapshot` does.
    fn _snapshot(&self, py: Python<'_>, is_json: bool) -> PyResult<String> {
        let stack = self.opened()?;
        Ok(py.detach(|| stack.snapshot(is_json))?)
    }

    #[pyo3(signature = (name=None, *, all_threads=true))]
    fn _begin_scope(&self, name: Option<String>, all_threads: bool) -> PyResult<Scope> {
        Ok(Scope::begin(self.opened()?, name, all_threads)?)
    }

    #[getter]
    fn profile(&self) -> PyResult<Vec<ProfileRow>> {
        Ok(profile(&*self.opened()?)?)
    }

    /// Returns the report of the outermost layer `tracking` about live blocks.
    fn _tracking(&self, py: Python<'_>) -> PyResult<Option<String>> {
        let stack = self.opened()?;
        Ok(py.detach(|| stack.layers().find::<TrackingState>().map(|tracking| tracking.report().to_string())))
    }

    fn clear_profile(&self) -> PyResult<()> {
        let stack = self.opened()?;
        statistics_of(&stack)?.clear_profile();
        Ok(())
    }

    fn synchronize(&self, py: Python<'_>) -> PyResult<()> {
        let stack = self.opened()?;
        Ok(py.detach(|| stack.device.synchronize()).map_err(Failure::from)?)
    }

    fn close(&self, py: Python<'_>) -> PyResult<()> {
        if cumem_c::rust::is_forked_child() {
            return Err(Failure::Forked.into());
        }
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(stack) = opened.as_ref() else { return Ok(()) };
        stack.check_unused(Arc::strong_count(stack) - 1)?;
        let closed = opened.take();
        drop(opened);
        py.detach(|| drop(closed));
        Ok(())
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    /// Closes the stack. An exception of the `with` block is not replaced by the one of a stack in use.
    #[pyo3(signature = (*exception))]
    fn __exit__(&self, py: Python<'_>, exception: &Bound<'_, PyTuple>) -> PyResult<()> {
        let raised = exception.get_item(0).is_ok_and(|class| !class.is_none());
        self.close(py).or_else(|error| if raised { Ok(()) } else { Err(error) })
    }

    fn __repr__(&self) -> String {
        match self.opened() {
            Ok(stack) => format!("<cumem.Stack {}>", stack.text()),
            Err(_) => "<cumem.Stack, closed>".into(),
        }
    }
}
