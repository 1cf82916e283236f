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
use crate::device::error::DeviceError;
use crate::kind::{DeviceAccessible, Erased};
use crate::layer::LayerExt;
use crate::resource::MemoryResource;
use crate::resources::CudaResource;
use std::sync::{PoisonError, RwLock};

/// The default resource of a device: any stack whose memory the device can reach.
pub type DeviceResource = AnyResource<Erased>;

/// The default resources of a machine, which the machine keeps.
struct Defaults {
    /// Those that were set, by device.
    set: RwLock<Vec<Option<DeviceResource>>>,
    /// The makers of plain device memory, by device: all handles to it take back each other's blocks.
    makers: Box<[MakerId]>,
}

impl Defaults {
    fn of(device: &Device) -> &Self {
        device.machine().slots().get(|| {
            let devices = device.machine().devices();
            let set = RwLock::new((0..devices).map(|_| None).collect());
            Self { set, makers: (0..devices).map(|_| MakerId::unique()).collect() }
        })
    }
}

/// The default resource of `device`.
pub fn get(device: &Device) -> DeviceResource {
    let set = Defaults::of(device).set.read().unwrap_or_else(PoisonError::into_inner);
    let current = set[device.ordinal() as usize].clone();
    drop(set);
    current.unwrap_or_else(|| initial(device))
}

/// Makes `resource` the default of the device that it allocates on, and returns the previous one.
///
/// # Errors
///
/// [`DeviceError::WrongDevice`] if `resource` belongs to another device than `device`.
pub fn set<R>(device: &Device, resource: R) -> Result<DeviceResource, DeviceError>
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
pub fn scoped<R>(device: &Device, resource: R) -> Result<ScopedDefault, DeviceError>
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

fn replace<R>(device: &Device, resource: R) -> Result<Option<DeviceResource>, DeviceError>
where
    R: MemoryResource<Kind: DeviceAccessible> + Send + Sync + 'static,
{
    device.check_device("the resource", resource.device().id())?;
    Ok(exchange(device, Some(AnyResource::erase_kind(resource))))
}

/// The lock is gone before the previous resource can be dropped, which may take driver calls.
fn exchange(device: &Device, resource: Option<DeviceResource>) -> Option<DeviceResource> {
    let mut set = Defaults::of(device).set.write().unwrap_or_else(PoisonError::into_inner);
    std::mem::replace(&mut set[device.ordinal() as usize], resource)
}

/// Made anew each time, so that the registry keeps no device; all take back each other's blocks.
fn initial(device: &Device) -> DeviceResource {
    let maker = Defaults::of(device).makers[device.ordinal() as usize];
    AnyResource::erase_kind(CudaResource::made_by(maker, device))
}
