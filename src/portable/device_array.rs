//! [`PortableBuffer`] as a [`DeviceArray`], and its single elements.

use super::buffer::PortableBuffer;
use crate::buffer::{DeviceArray, Element};
use crate::device::error::DeviceError;
use crate::device::stream::Stream;
use crate::error::AllocError;

impl<T: Element> DeviceArray<T> for PortableBuffer<T> {
    fn len(&self) -> usize {
        self.len()
    }

    fn stream(&self) -> &Stream {
        self.stream()
    }

    fn device_read(&mut self) -> Result<u64, AllocError> {
        self.device_read()
    }

    fn device_write(&mut self) -> Result<u64, AllocError> {
        self.device_write()
    }

    fn copy_from_slice_at(&mut self, start: usize, data: &[T]) -> Result<(), DeviceError> {
        self.newest_mut().copy_from_slice_at(start, data)
    }

    fn copy_to_slice_at(&mut self, start: usize, data: &mut [T]) -> Result<(), DeviceError> {
        self.newest().slice(start..start.saturating_add(data.len()))?.copy_to_slice(data)
    }

    fn fill(&mut self, value: T) -> Result<(), DeviceError> {
        self.newest_mut().fill(value)
    }

    fn to_vec(&mut self) -> Result<Vec<T>, DeviceError> {
        self.newest().to_vec()
    }

    fn get(&mut self, index: usize) -> Result<T, DeviceError> {
        self.newest().get(index)
    }
}
