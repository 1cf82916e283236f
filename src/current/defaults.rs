//! The default resources of the devices of a machine.

use super::of_thread::OfThread;
use super::resource::DeviceResource;
use crate::any::AnyUpstream;
use crate::block::MakerId;
use crate::device::Device;
use crate::resources::CudaResource;
use std::sync::{PoisonError, RwLock};

/// The default resources of a machine, stored in the slots of the machine.
struct Defaults {
    /// The defaults of each device.
    set: RwLock<Vec<Layers>>,
    /// The maker ids of the initial defaults, by device. All resources that [`initial`] creates for a device share
    /// one id, so each of them can deallocate the blocks of the others.
    makers: Box<[MakerId]>,
}

/// The defaults of one device. The last one applies. In each, `None` stands for the initial default.
#[derive(Default)]
pub(super) struct Layers {
    /// The default outside of all scopes.
    base: Option<DeviceResource>,
    /// The defaults of the open scopes, by the ids of the scopes in the order of their creation.
    pub(super) scopes: Vec<(u64, Option<DeviceResource>)>,
}

impl Layers {
    fn current(&self) -> &Option<DeviceResource> {
        self.scopes.last().map_or(&self.base, |(_, resource)| resource)
    }

    fn current_mut(&mut self) -> &mut Option<DeviceResource> {
        self.scopes.last_mut().map_or(&mut self.base, |(_, resource)| resource)
    }
}

impl Defaults {
    fn of(device: &Device) -> &Self {
        device.machine().slots().get(|| {
            let devices = device.machine().devices();
            let set = RwLock::new((0..devices).map(|_| Layers::default()).collect());
            Self { set, makers: (0..devices).map(|_| MakerId::unique()).collect() }
        })
    }
}

/// Returns the default of `device` for threads without a scope of their own. `None` is the initial default.
pub(super) fn current(device: &Device) -> Option<DeviceResource> {
    let set = Defaults::of(device).set.read().unwrap_or_else(PoisonError::into_inner);
    set[device.ordinal() as usize].current().clone()
}

/// Replaces the current default of `device`, and returns the previous one.
pub(super) fn exchange(device: &Device, resource: Option<DeviceResource>) -> Option<DeviceResource> {
    match OfThread::exchange(device, resource) {
        Ok(previous) => previous,
        Err(resource) => change(device, |layers| std::mem::replace(layers.current_mut(), resource)),
    }
}

/// Changes the defaults of `device`. The function releases the lock before it returns, so the caller drops a resource,
/// which may call the driver, without the lock.
pub(super) fn change<T>(device: &Device, change: impl FnOnce(&mut Layers) -> T) -> T {
    let mut set = Defaults::of(device).set.write().unwrap_or_else(PoisonError::into_inner);
    change(&mut set[device.ordinal() as usize])
}

/// Creates the initial default of `device`. Each call creates a new resource, because a stored resource would keep the
/// device alive. All of them have the same maker id, so each of them can deallocate the blocks of the others.
pub(super) fn initial(device: &Device) -> DeviceResource {
    let maker = Defaults::of(device).makers[device.ordinal() as usize];
    AnyUpstream::erase_kind(CudaResource::made_by(maker, device))
}
