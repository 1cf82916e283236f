//! [`Shadowed`]: pinned memory with a shadow in device memory.

use crate::any::AnyResource;
use crate::buffer::{Buffer, Element};
use crate::device::error::DeviceError;
use crate::error::AllocError;
use crate::kind;

/// Pinned memory, and its shadow: device memory of the same size, allocated when a kernel needs it.
pub(super) struct Shadowed<T> {
    pub(super) host: Buffer<T, AnyResource<kind::Pinned>>,
    pub(super) shadow: Option<Buffer<T, AnyResource<kind::Device>>>,
    pub(super) device: AnyResource<kind::Device>,
    pub(super) newer: Newer,
}

/// The side that has the newer elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Newer {
    Neither,
    Host,
    Shadow,
}

impl<T: Element> Shadowed<T> {
    pub(super) fn new(host: Buffer<T, AnyResource<kind::Pinned>>, device: &AnyResource<kind::Device>) -> Self {
        Self { host, shadow: None, device: device.clone(), newer: Newer::Host }
    }

    /// Enqueues the copy to the shadow if the host's elements are newer, and returns the address of the shadow.
    pub(super) fn copy_to_shadow(&mut self) -> Result<u64, AllocError> {
        let shadow = match self.shadow.take() {
            Some(shadow) => shadow,
            None => {
                // SAFETY: without a shadow the host's elements are the newer ones, so the copy below writes every
                // element.
                unsafe { Buffer::uninit(self.host.len(), self.host.stream(), self.device.clone()) }?
            }
        };
        let shadow = self.shadow.insert(shadow);
        if self.newer == Newer::Host {
            shadow.copy_from_buffer(&self.host)?;
            self.newer = Newer::Neither;
        }
        Ok(shadow.device_address())
    }

    /// Enqueues the copy from the shadow if the shadow's elements are newer.
    pub(super) fn copy_from_shadow(&mut self) -> Result<(), DeviceError> {
        if let (Newer::Shadow, Some(shadow)) = (self.newer, &self.shadow) {
            self.host.copy_from_buffer(shadow)?;
            self.newer = Newer::Neither;
        }
        Ok(())
    }

    /// Records that the host's elements are about to change, so the shadow's elements are outdated.
    pub(super) fn host_is_newer(&mut self) {
        self.newer = Newer::Host;
    }
}
