//! [`OfThread`]: the defaults of the open scopes of a thread.
#![forbid(unsafe_code)]

use super::resource::DeviceResource;
use crate::device::Device;
use cumem_driver::DeviceId;
use std::cell::RefCell;

thread_local! {
    /// In the order of their creation.
    static OPEN: RefCell<Vec<OfThread>> = const { RefCell::new(Vec::new()) };
}

/// The default of one scope. `None` stands for the initial default.
pub(super) struct OfThread {
    scope: u64,
    device: DeviceId,
    resource: Option<DeviceResource>,
}

impl OfThread {
    /// Returns the default that the calling thread has for `device`, or `None` if it has no scope.
    pub(super) fn get(device: &Device) -> Option<Option<DeviceResource>> {
        let find = |open: &Vec<Self>| open.iter().rfind(|of| of.device == device.id()).map(|of| of.resource.clone());
        // While the thread ends, its list may already be dropped.
        OPEN.try_with(|open| find(&open.borrow())).ok().flatten()
    }

    pub(super) fn push(scope: u64, device: &Device, resource: DeviceResource) {
        let mut of = Some(Self { scope, device: device.id(), resource: Some(resource) });
        let _ = OPEN.try_with(|open| open.borrow_mut().extend(of.take()));
    }

    /// Replaces the default of the calling thread's last scope for `device`, and returns the previous one.
    ///
    /// # Errors
    ///
    /// Returns `resource` if the thread has no scope for `device`.
    pub(super) fn exchange(
        device: &Device,
        resource: Option<DeviceResource>,
    ) -> Result<Option<DeviceResource>, Option<DeviceResource>> {
        let mut new = Some(resource);
        let replaced = OPEN.try_with(|open| {
            let mut open = open.borrow_mut();
            let of = open.iter_mut().rfind(|of| of.device == device.id())?;
            new.take().map(|new| std::mem::replace(&mut of.resource, new))
        });
        replaced.ok().flatten().ok_or_else(|| new.flatten())
    }

    /// Removes a scope and returns its default. The caller drops the resource, which may call the library again.
    pub(super) fn remove(scope: u64) -> Option<Self> {
        let remove = |open: &mut Vec<Self>| {
            let own = open.iter().position(|of| of.scope == scope)?;
            Some(open.remove(own))
        };
        OPEN.try_with(|open| remove(&mut open.borrow_mut())).ok().flatten()
    }
}
