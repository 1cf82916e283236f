//! The default resource of each device, as RMM's `per_device_resource`.
//!
//! Libraries take what [`get`] gives; applications choose with [`set`], once, or with [`scoped`] for a while.
//! At first it is plain device memory. What `get` returned stays good after a `set`: it is a handle,
//! not a reference.
//!
//! The registry is never torn down, so no resource in it is dropped while the process exits
//! (RMM #2366: the driver may be gone by then).

use crate::any::AnyResource;
use crate::device::Device;
use crate::error::DriverError;
use crate::kind::{DeviceAccessible, Erased};
use crate::layer::LayerExt;
use crate::location::DeviceId;
use crate::resource::MemoryResource;
use crate::resources::CudaResource;
use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// The default resource of a device: any stack whose memory the device can reach.
pub type DeviceResource = AnyResource<Erased>;

static CURRENT: RwLock<BTreeMap<DeviceId, DeviceResource>> = RwLock::new(BTreeMap::new());

/// The default resource of `device`.
pub fn get(device: &Device) -> DeviceResource {
    if let Some(resource) = read().get(&device.id()) {
        return resource.clone();
    }
    write().entry(device.id()).or_insert_with(|| initial(device)).clone()
}

/// Makes `resource` the default of the device that it allocates on, and returns the previous one.
///
/// # Errors
///
/// [`DriverError::WrongDevice`] if `resource` belongs to another device than `device`.
pub fn set<R>(device: &Device, resource: R) -> Result<DeviceResource, DriverError>
where
    R: MemoryResource<Kind: DeviceAccessible> + Send + Sync + 'static,
{
    device.expect("the resource", resource.device().id())?;
    Ok(exchange(device, AnyResource::erase_kind(resource)))
}

/// Makes plain device memory the default again, and returns the previous one.
pub fn reset(device: &Device) -> DeviceResource {
    exchange(device, initial(device))
}

/// Makes `resource` the default of `device` until the guard goes, which puts the previous one back,
/// on that device, whichever is in use then.
///
/// # Errors
///
/// Those of [`set`].
pub fn scoped<R>(device: &Device, resource: R) -> Result<ScopedDefault, DriverError>
where
    R: MemoryResource<Kind: DeviceAccessible> + Send + Sync + 'static,
{
    let previous = set(device, resource)?;
    Ok(ScopedDefault { device: device.clone(), previous: Some(previous) })
}

/// Puts a device's previous default resource back when it goes. Guards of one device are meant to nest.
#[derive(Debug)]
#[must_use = "the previous resource comes back as soon as this goes"]
pub struct ScopedDefault {
    device: Device,
    previous: Option<DeviceResource>,
}

impl Drop for ScopedDefault {
    fn drop(&mut self) {
        if let Some(previous) = self.previous.take() {
            exchange(&self.device, previous);
        }
    }
}

fn exchange(device: &Device, resource: DeviceResource) -> DeviceResource {
    // The lock is gone before the previous resource can be dropped, which may take driver calls.
    write().insert(device.id(), resource).unwrap_or_else(|| initial(device))
}

fn initial(device: &Device) -> DeviceResource {
    AnyResource::erase_kind(CudaResource::new(device))
}

fn read() -> RwLockReadGuard<'static, BTreeMap<DeviceId, DeviceResource>> {
    CURRENT.read().unwrap_or_else(PoisonError::into_inner)
}

fn write() -> RwLockWriteGuard<'static, BTreeMap<DeviceId, DeviceResource>> {
    CURRENT.write().unwrap_or_else(PoisonError::into_inner)
}
