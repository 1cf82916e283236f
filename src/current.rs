//! The default resource of each device, as RMM's `per_device_resource`.
//!
//! Libraries take what [`get`] gives; applications choose with [`set`], once, or with [`scoped`] for a while.
//! At first it is plain device memory. What `get` returned stays good after a `set`: it is a handle,
//! not a reference.
//!
//! The registry is never torn down, so no resource in it is dropped while the process exits
//! (RMM #2366: the driver may be gone by then). What was set keeps its device, and so a simulator, until [`reset`].

use crate::any::AnyResource;
use crate::block::MakerId;
use crate::device::Device;
use crate::error::DriverError;
use crate::kind::{DeviceAccessible, Erased};
use crate::layer::LayerExt;
use crate::location::DeviceId;
use crate::per_device::PerDevice;
use crate::resource::MemoryResource;
use crate::resources::CudaResource;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError, RwLock};

/// The default resource of a device: any stack whose memory the device can reach.
pub type DeviceResource = AnyResource<Erased>;

/// Those that were set.
static CURRENT: RwLock<BTreeMap<DeviceId, DeviceResource>> = RwLock::new(BTreeMap::new());

/// The default resource of `device`.
pub fn get(device: &Device) -> DeviceResource {
    let set = CURRENT.read().unwrap_or_else(PoisonError::into_inner).get(&device.id()).cloned();
    set.unwrap_or_else(|| initial(device))
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
    Ok(replace(device, resource)?.unwrap_or_else(|| initial(device)))
}

/// Makes plain device memory the default again, and returns the previous one.
pub fn reset(device: &Device) -> DeviceResource {
    exchange(device, None).unwrap_or_else(|| initial(device))
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
    Ok(ScopedDefault { previous: replace(device, resource)?, device: device.clone() })
}

/// Puts a device's previous default resource back when it goes. Guards of one device are meant to nest.
#[derive(Debug)]
#[must_use = "the previous resource comes back as soon as this goes"]
pub struct ScopedDefault {
    device: Device,
    /// If it had been set.
    previous: Option<DeviceResource>,
}

impl Drop for ScopedDefault {
    fn drop(&mut self) {
        exchange(&self.device, self.previous.take());
    }
}

fn replace<R>(device: &Device, resource: R) -> Result<Option<DeviceResource>, DriverError>
where
    R: MemoryResource<Kind: DeviceAccessible> + Send + Sync + 'static,
{
    device.expect("the resource", resource.device().id())?;
    Ok(exchange(device, Some(AnyResource::erase_kind(resource))))
}

/// The lock is gone before the previous resource can be dropped, which may take driver calls.
fn exchange(device: &Device, resource: Option<DeviceResource>) -> Option<DeviceResource> {
    let mut current = CURRENT.write().unwrap_or_else(PoisonError::into_inner);
    match resource {
        Some(resource) => current.insert(device.id(), resource),
        None => current.remove(&device.id()),
    }
}

/// Made anew each time, so that the registry keeps no device; all take back each other's blocks.
fn initial(device: &Device) -> DeviceResource {
    static MAKERS: Mutex<PerDevice<MakerId>> = Mutex::new(PerDevice::new());
    let maker = MAKERS.lock().unwrap_or_else(PoisonError::into_inner).of(device, MakerId::unique);
    AnyResource::erase_kind(CudaResource::made_by(maker, device))
}
