//! The structures of DLPack 1.x (`dlpack.h`), and the capsules that carry them.

use super::super::data::Buffer;
use pyo3::ffi;
use pyo3::prelude::*;
use std::ffi::{CStr, c_void};

const NAME: &CStr = c"dltensor";
const NAME_VERSIONED: &CStr = c"dltensor_versioned";
const VERSION: (u32, u32) = (1, 0);
const IS_COPIED: u64 = 1 << 1;

/// `DLTensor`, with a shape of one dimension.
#[repr(C)]
struct DlTensor {
    data: *mut c_void,
    device: (i32, i32),
    ndim: i32,
    /// Code, bits and lanes: an unsigned integer of 8 bits.
    dtype: (u8, u8, u16),
    shape: *mut i64,
    strides: *mut i64,
    byte_offset: u64,
}

/// `DLManagedTensor`.
#[repr(C)]
struct Unversioned {
    tensor: DlTensor,
    context: *mut c_void,
    deleter: Option<unsafe extern "C" fn(*mut Unversioned)>,
}

/// `DLManagedTensorVersioned`.
#[repr(C)]
struct Versioned {
    version: (u32, u32),
    context: *mut c_void,
    deleter: Option<unsafe extern "C" fn(*mut Versioned)>,
    flags: u64,
    tensor: DlTensor,
}

/// What keeps the memory of a tensor.
pub(super) enum Keep {
    /// A buffer, with an export that was counted.
    Buffer(Py<Buffer>),
    /// A copy in host memory.
    Host { _copy: Vec<u8> },
}

impl Drop for Keep {
    fn drop(&mut self) {
        if let Self::Buffer(buffer) = self {
            buffer.get().whole().end_export();
        }
    }
}

/// Memory that is passed on.
pub(super) struct Tensor {
    pub(super) address: usize,
    pub(super) size: usize,
    pub(super) device: (i32, i32),
    pub(super) keep: Keep,
}

/// A managed tensor with all that it refers to. The tensor is first, so that a pointer to it is a pointer to this.
#[repr(C)]
struct Exported<T> {
    managed: T,
    shape: [i64; 1],
    strides: [i64; 1],
    keep: Keep,
}

impl Tensor {
    pub(super) fn into_capsule<'py>(
        self,
        py: Python<'py>,
        is_versioned: bool,
        is_copied: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        let flags = if is_copied { IS_COPIED } else { 0 };
        if is_versioned {
            let managed = |tensor| Versioned {
                version: VERSION,
                context: std::ptr::null_mut(),
                deleter: Some(delete::<Versioned>),
                flags,
                tensor,
            };
            self.export(py, NAME_VERSIONED, managed, |managed| &raw mut managed.tensor, destroy_versioned)
        } else {
            let managed =
                |tensor| Unversioned { tensor, context: std::ptr::null_mut(), deleter: Some(delete::<Unversioned>) };
            self.export(py, NAME, managed, |managed| &raw mut managed.tensor, destroy_unversioned)
        }
    }

    fn export<'py, T>(
        self,
        py: Python<'py>,
        name: &'static CStr,
        managed: impl FnOnce(DlTensor) -> T,
        tensor_of: impl FnOnce(&mut T) -> *mut DlTensor,
        destroy: ffi::PyCapsule_Destructor,
    ) -> PyResult<Bound<'py, PyAny>> {
        let data =
            if self.size == 0 { std::ptr::null_mut() } else { std::ptr::with_exposed_provenance_mut(self.address) };
        let tensor = DlTensor {
            data,
            device: self.device,
            ndim: 1,
            dtype: (1, 8, 1),
            shape: std::ptr::null_mut(),
            strides: std::ptr::null_mut(),
            byte_offset: 0,
        };
        let exported = Exported { managed: managed(tensor), shape: [self.size as i64], strides: [1], keep: self.keep };
        let mut exported = Box::new(exported);
        let (shape, strides) = (exported.shape.as_mut_ptr(), exported.strides.as_mut_ptr());
        let tensor = tensor_of(&mut exported.managed);
        // SAFETY: the tensor is part of the box, which nothing else uses.
        unsafe { (*tensor).shape = shape };
        // SAFETY: as above.
        unsafe { (*tensor).strides = strides };
        let exported = Box::into_raw(exported);
        // SAFETY: the name lives for ever, and the destructor takes a capsule of that name.
        let capsule = unsafe { ffi::PyCapsule_New(exported.cast(), name.as_ptr(), Some(destroy)) };
        // SAFETY: the function returned a new reference or null with an exception.
        match unsafe { Bound::from_owned_ptr_or_err(py, capsule) } {
            Ok(capsule) => Ok(capsule),
            Err(error) => {
                // SAFETY: no capsule has the pointer, which comes from `into_raw` above.
                drop(unsafe { Box::from_raw(exported) });
                Err(error)
            }
        }
    }
}

/// The deleter of a tensor. Consumers call it from any thread, with or without the GIL.
///
/// # Safety
///
/// `managed` is a tensor of `Tensor::export` that was not deleted.
unsafe extern "C" fn delete<T>(managed: *mut T) {
    if managed.is_null() {
        return;
    }
    // Without an interpreter, the memory stays until the process ends.
    Python::try_attach(|_| {
        // SAFETY: the tensor is the first field of a box, and is deleted once.
        drop(unsafe { Box::from_raw(managed.cast::<Exported<T>>()) });
    });
}

/// The destructor of a capsule: deletes the tensor unless a consumer has renamed the capsule, and so taken the tensor.
///
/// # Safety
///
/// Python calls it with a capsule of `Tensor::export`.
unsafe extern "C" fn destroy_versioned(capsule: *mut ffi::PyObject) {
    // SAFETY: the caller upholds the contract.
    unsafe { destroy::<Versioned>(capsule, NAME_VERSIONED) }
}

/// # Safety
///
/// As [`destroy_versioned`].
unsafe extern "C" fn destroy_unversioned(capsule: *mut ffi::PyObject) {
    // SAFETY: the caller upholds the contract.
    unsafe { destroy::<Unversioned>(capsule, NAME) }
}

/// # Safety
///
/// As [`destroy_versioned`].
unsafe fn destroy<T>(capsule: *mut ffi::PyObject, name: &CStr) {
    // SAFETY: Python passes a capsule.
    if unsafe { ffi::PyCapsule_IsValid(capsule, name.as_ptr()) } == 0 {
        return;
    }
    // SAFETY: the capsule has that name, and so a tensor that no consumer has taken.
    let managed = unsafe { ffi::PyCapsule_GetPointer(capsule, name.as_ptr()) };
    // SAFETY: as above.
    unsafe { delete::<T>(managed.cast()) };
}
