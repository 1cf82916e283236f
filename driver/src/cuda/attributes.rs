//! The properties of a device, queried one attribute at a time. `cuDeviceGetProperties` and similar calls are not used,
//! because their structures change with the version of the driver.

use super::context::Active;
use super::state::from_cust;
use super::sys;
use crate::error::DriverError;
use crate::error::code::CudaErrorCode;
use crate::facts::Attributes;
use cust::sys::CUdevice_attribute as Attribute;
use std::ffi::{CStr, c_int};

impl Active<'_> {
    pub(super) fn attributes(&self) -> Result<Attributes, DriverError> {
        // cust's wrapper suffices for the size, which is queried once and fails only for an invalid device.
        let device = self.cust_device();
        let name = self.name()?;
        let total_memory = device.total_memory().map_err(|error| from_cust("cuDeviceTotalMem", self.id, error))?;
        Ok(Attributes {
            name,
            total_memory,
            compute_capability: (
                self.number(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
                self.number(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
            ),
            multiprocessors: self.number(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?,
            copy_engines: self.number(Attribute::CU_DEVICE_ATTRIBUTE_ASYNC_ENGINE_COUNT)?,
            integrated: self.flag(Attribute::CU_DEVICE_ATTRIBUTE_INTEGRATED)?,
            managed_memory: self.flag(Attribute::CU_DEVICE_ATTRIBUTE_MANAGED_MEMORY)?,
            concurrent_managed_access: self.flag(Attribute::CU_DEVICE_ATTRIBUTE_CONCURRENT_MANAGED_ACCESS)?,
            pageable_memory_access: self.flag(Attribute::CU_DEVICE_ATTRIBUTE_PAGEABLE_MEMORY_ACCESS)?,
            pageable_memory_access_uses_host_page_tables: self
                .flag(Attribute::CU_DEVICE_ATTRIBUTE_PAGEABLE_MEMORY_ACCESS_USES_HOST_PAGE_TABLES)?,
            direct_managed_mem_access_from_host: self
                .flag(Attribute::CU_DEVICE_ATTRIBUTE_DIRECT_MANAGED_MEM_ACCESS_FROM_HOST)?,
            memory_pools: self.flag(Attribute::CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED)?,
            virtual_memory_management: self
                .flag(Attribute::CU_DEVICE_ATTRIBUTE_VIRTUAL_ADDRESS_MANAGEMENT_SUPPORTED)?,
        })
    }

    /// Returns the name. cust's wrapper panics if the name has no end.
    fn name(&self) -> Result<String, DriverError> {
        const CALL: &str = "cuDeviceGetName";
        let mut bytes = [0_u8; 256];
        // SAFETY: `bytes` is writable, and its last byte is not offered to the driver.
        let code = unsafe { sys::cuDeviceGetName(bytes.as_mut_ptr().cast(), bytes.len() as c_int - 1, self.device()) };
        self.check(CALL, code)?;
        let name = CStr::from_bytes_until_nul(&bytes).ok().and_then(|name| name.to_str().ok());
        self.expect(CALL, name.is_some(), || format!("a name that is no text: {}", bytes.escape_ascii()))?;
        Ok(name.unwrap_or_default().to_owned())
    }

    fn number(&self, attribute: Attribute) -> Result<u32, DriverError> {
        let mut value: c_int = 0;
        // SAFETY: `value` is writable.
        let code = unsafe { sys::cuDeviceGetAttribute(&raw mut value, attribute as c_int, self.device()) };
        self.check("cuDeviceGetAttribute", code)?;
        self.expect("cuDeviceGetAttribute", value >= 0, || format!("{value} for attribute {}", attribute as c_int))?;
        Ok(value.unsigned_abs())
    }

    /// Queries a Boolean attribute. A driver that is older than the attribute rejects it; the device then lacks the
    /// feature.
    fn flag(&self, attribute: Attribute) -> Result<bool, DriverError> {
        match self.number(attribute) {
            Ok(value) => Ok(value != 0),
            Err(error) if error.code() == Some(CudaErrorCode::INVALID_VALUE) => Ok(false),
            Err(error) => Err(error),
        }
    }
}
