//! The properties of a device, queried one attribute at a time. `cuDeviceGetProperties` and similar calls are not used,
//! because their structures change with the version of the driver.

use super::context::Active;
use super::state::from_cust;
use super::sys;
use crate::error::DriverError;
use crate::error::code::CudaErrorCode;
use crate::facts::Attributes;
use cumem_libcuda::DriverVersion;
use cust::sys::CUdevice_attribute as Attribute;
use std::ffi::{CStr, c_int};

/// The first driver with pools of managed memory.
const MANAGED_POOLS_SINCE: DriverVersion = DriverVersion { major: 13, minor: 0 };

// Attributes that are newer than cust's list (cuda.h of CUDA 13.0).
const MEMPOOL_SUPPORTED_HANDLE_TYPES: c_int = 119;
const HOST_NUMA_ID: c_int = 134;
const HOST_NUMA_MEMORY_POOLS_SUPPORTED: c_int = 142;
const HOST_MEMORY_POOLS_SUPPORTED: c_int = 144;

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
            pageable_memory_access: self.pageable_memory_access()?,
            pageable_memory_access_uses_host_page_tables: self
                .flag(Attribute::CU_DEVICE_ATTRIBUTE_PAGEABLE_MEMORY_ACCESS_USES_HOST_PAGE_TABLES)?,
            direct_managed_mem_access_from_host: self
                .flag(Attribute::CU_DEVICE_ATTRIBUTE_DIRECT_MANAGED_MEM_ACCESS_FROM_HOST)?,
            memory_pools: self.flag(Attribute::CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED)?,
            managed_memory_pools: self.managed_memory_pools()?,
            host_memory_pools: self.flag_numbered(HOST_MEMORY_POOLS_SUPPORTED)?,
            host_numa_memory_pools: self.flag_numbered(HOST_NUMA_MEMORY_POOLS_SUPPORTED)?,
            pool_handle_types: self.known(MEMPOOL_SUPPORTED_HANDLE_TYPES)?.unwrap_or(0).unsigned_abs(),
            host_register: self.host_register()?,
            host_numa_node: self.known(HOST_NUMA_ID)?.and_then(|node| u32::try_from(node).ok()),
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

    pub(super) fn pageable_memory_access(&self) -> Result<bool, DriverError> {
        self.flag(Attribute::CU_DEVICE_ATTRIBUTE_PAGEABLE_MEMORY_ACCESS)
    }

    /// Reports whether the device can access registered host memory at its address.
    pub(super) fn host_register(&self) -> Result<bool, DriverError> {
        Ok(self.flag(Attribute::CU_DEVICE_ATTRIBUTE_HOST_REGISTER_SUPPORTED)?
            && self.flag(Attribute::CU_DEVICE_ATTRIBUTE_CAN_USE_HOST_POINTER_FOR_REGISTERED_MEM)?)
    }

    /// Reports whether the driver has pools of managed memory. No attribute says so: CUDA 13.0 brought them, and all
    /// devices must have concurrent managed access.
    fn managed_memory_pools(&self) -> Result<bool, DriverError> {
        let is_new = self.driver.version() >= MANAGED_POOLS_SINCE;
        Ok(is_new
            && self.flag(Attribute::CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED)?
            && self.flag(Attribute::CU_DEVICE_ATTRIBUTE_CONCURRENT_MANAGED_ACCESS)?)
    }

    fn number(&self, attribute: Attribute) -> Result<u32, DriverError> {
        let value = self.value(attribute as c_int)?;
        self.expect("cuDeviceGetAttribute", value >= 0, || format!("{value} for attribute {}", attribute as c_int))?;
        Ok(value.unsigned_abs())
    }

    fn value(&self, attribute: c_int) -> Result<c_int, DriverError> {
        let mut value: c_int = 0;
        // SAFETY: `value` is writable.
        let code = unsafe { sys::cuDeviceGetAttribute(&raw mut value, attribute, self.device()) };
        self.check("cuDeviceGetAttribute", code).map(|()| value)
    }

    /// Queries an attribute. Returns `None` if the driver is older than the attribute, and therefore rejects it.
    fn known(&self, attribute: c_int) -> Result<Option<c_int>, DriverError> {
        match self.value(attribute) {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.code() == Some(CudaErrorCode::INVALID_VALUE) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Queries a Boolean attribute. A device lacks the feature of an attribute that the driver does not know.
    fn flag(&self, attribute: Attribute) -> Result<bool, DriverError> {
        self.flag_numbered(attribute as c_int)
    }

    fn flag_numbered(&self, attribute: c_int) -> Result<bool, DriverError> {
        Ok(self.known(attribute)?.is_some_and(|value| value != 0))
    }
}
