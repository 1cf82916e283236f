//! The class `Buffer` without its methods for Python.

use super::whole::Whole;
use crate::opened::{Bytes, Kind, Opened};
use crate::stream;
use pyo3::prelude::*;
use std::ops::Range;
use std::sync::Arc;

/// Memory of a stack, or a part of such memory.
#[pyclass(frozen, module = "cumem", weakref)]
pub(crate) struct Buffer {
    pub(super) owner: Owner,
    pub(super) address: usize,
    pub(super) size: usize,
}

pub(super) enum Owner {
    Own(Whole),
    /// The buffer that this one is a part of. It is no part itself.
    Part(Py<Buffer>),
}

impl Buffer {
    pub(crate) fn new(bytes: Bytes, stack: Arc<Opened>, size: usize) -> Self {
        let address = bytes.address();
        Self { owner: Owner::Own(Whole::new(bytes, stack)), address, size }
    }

    pub(super) fn whole(&self) -> &Whole {
        match &self.owner {
            Owner::Own(whole) => whole,
            Owner::Part(of) => of.get().whole(),
        }
    }

    /// Returns the bytes of this buffer as a range of the whole.
    pub(super) fn range(&self) -> Range<usize> {
        let start = match &self.owner {
            Owner::Own(_) => 0,
            Owner::Part(of) => self.address - of.get().address,
        };
        start..start + self.size
    }

    pub(super) fn device_of_memory(&self) -> &cumem::Device {
        self.whole().device()
    }

    pub(super) fn kind_of_memory(&self) -> Kind {
        self.whole().kind
    }

    /// Returns the stream of an argument: that of the buffer for `None`.
    pub(super) fn stream(&self, stream: Option<&Bound<'_, PyAny>>) -> PyResult<Option<cumem::Stream>> {
        stream.map(|stream| stream::resolve(self.device_of_memory(), stream)).transpose()
    }
}
