//! [`UnifiedOrPinned`]: which memory a device gets, and why.

use crate::any::AnyResource;
use crate::device::Device;
use crate::device::error::DeviceError;
use crate::kind;
use crate::resources::{CudaResource, ManagedResource, PinnedResource};
use std::fmt;

/// Which memory a device gets, and from where. `Display` says it, with the reason.
#[derive(Clone)]
pub struct UnifiedOrPinned {
    device: Device,
    pub(super) memory: Memory,
}

#[derive(Clone)]
pub(super) enum Memory {
    Unified(AnyResource<kind::Managed>),
    Pinned { host: AnyResource<kind::Pinned>, device: AnyResource<kind::Device>, reason: PinnedReason },
}

/// Why a device gets page-locked memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PinnedReason {
    /// It can have no unified memory.
    NoManagedMemory,
    /// Its unified memory moves as a whole, at every launch, and must fit (Windows, WSL, Tegra, Maxwell).
    NoConcurrentManagedAccess,
}

impl fmt::Display for PinnedReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoManagedMemory => "has no unified memory",
            Self::NoConcurrentManagedAccess => {
                "has no concurrent managed access: unified memory would move as a whole, at every launch"
            }
        })
    }
}

/// Unified memory if the device has concurrent managed access, so that its pages migrate one by one while both sides
/// work; else page-locked memory. Which it is, and why, goes to `tracing`: as a warning where it is not unified memory.
///
/// # Errors
///
/// What the driver answers.
pub fn unified_or_pinned(device: &Device) -> Result<UnifiedOrPinned, DeviceError> {
    let attributes = device.attributes();
    let reason = match (attributes.managed_memory, attributes.concurrent_managed_access) {
        (true, true) => None,
        (true, false) => Some(PinnedReason::NoConcurrentManagedAccess),
        (false, _) => Some(PinnedReason::NoManagedMemory),
    };
    let memory = match reason {
        None => Memory::Unified(AnyResource::new(ManagedResource::new(device)?)),
        Some(reason) => Memory::Pinned {
            host: AnyResource::new(PinnedResource::new(device)),
            device: AnyResource::new(CudaResource::new(device)),
            reason,
        },
    };
    let choice = UnifiedOrPinned { device: device.clone(), memory };
    match choice.reason() {
        None => tracing::info!(%device, "{choice}"),
        Some(_) => tracing::warn!(%device, "{choice}"),
    }
    Ok(choice)
}

impl UnifiedOrPinned {
    /// Draws unified memory from this stack, if the device gets any.
    #[must_use]
    pub fn with_unified(mut self, stack: AnyResource<kind::Managed>) -> Self {
        if let Memory::Unified(resource) = &mut self.memory {
            *resource = stack;
        }
        self
    }

    /// Draws page-locked memory and the device's from these stacks, if the device gets them: page-locked memory takes
    /// the driver long to allocate.
    #[must_use]
    pub fn with_pinned(mut self, host: AnyResource<kind::Pinned>, device: AnyResource<kind::Device>) -> Self {
        if let Memory::Pinned { reason, .. } = self.memory {
            self.memory = Memory::Pinned { host, device, reason };
        }
        self
    }

    /// The device.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Whether it gets unified memory.
    pub fn is_unified(&self) -> bool {
        self.reason().is_none()
    }

    /// Why it does not.
    pub fn reason(&self) -> Option<PinnedReason> {
        match self.memory {
            Memory::Unified(_) => None,
            Memory::Pinned { reason, .. } => Some(reason),
        }
    }
}

impl fmt::Display for UnifiedOrPinned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.memory {
            Memory::Unified(stack) => {
                write!(f, "unified memory ({stack}), since {} has concurrent managed access", self.device)
            }
            Memory::Pinned { host, device, reason } => {
                write!(
                    f,
                    "page-locked memory ({host}) and copies to the device's ({device}), since {} {reason}",
                    self.device
                )
            }
        }
    }
}

impl fmt::Debug for UnifiedOrPinned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UnifiedOrPinned({self})")
    }
}
