//! [`UnifiedOrPinned`]: the choice of memory for a device, with the reason.

use crate::any::AnyResource;
use crate::device::Device;
use crate::device::error::DeviceError;
use crate::kind;
use crate::resources::{CudaResource, ManagedResource, PinnedResource};
use std::fmt;

/// The choice between unified and pinned memory for a device, and the stacks to allocate from. Its `Display` writes the
/// choice and the reason.
///
/// # Examples
///
/// ```
/// # use cumem::sim::Profile;
/// # use cumem::{Device};
/// # let device = Device::simulated(Profile::default())?;
/// use cumem::portable::unified_or_pinned;
///
/// let choice = unified_or_pinned(&device)?;
/// assert!(choice.to_string().starts_with("unified memory"));
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
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

/// The reason why a device gets pinned memory.
///
/// # Examples
///
/// ```
/// use cumem::Device;
/// use cumem::portable::{PinnedReason, unified_or_pinned};
/// use cumem::sim::Profile;
///
/// let choice = unified_or_pinned(&Device::simulated(Profile::wsl())?)?;
/// assert_eq!(choice.reason(), Some(PinnedReason::NoConcurrentManagedAccess));
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PinnedReason {
    /// The device does not support unified memory.
    NoManagedMemory,
    /// The device's unified memory migrates as a whole at every launch, and must fit the device (Windows, WSL, Tegra,
    /// Maxwell).
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

/// Chooses unified memory if the device has concurrent managed access, because single pages then migrate while host and
/// device work. Otherwise chooses pinned memory. The choice and its reason are logged through `tracing`, as a warning
/// if it is pinned memory.
///
/// # Errors
///
/// Returns the driver's error if a leaf cannot be created.
///
/// # Examples
///
/// ```
/// # use cumem::sim::Profile;
/// # use cumem::{Device};
/// # let device = Device::simulated(Profile::default())?;
/// use cumem::portable::unified_or_pinned;
///
/// assert!(unified_or_pinned(&device)?.is_unified());
/// assert!(!unified_or_pinned(&Device::simulated(Profile::wsl())?)?.is_unified());
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
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
    /// Sets the stack that unified memory is allocated from. Has no effect if the device gets pinned memory.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{AnyResource, Device, ManagedResource, Stream};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// use cumem::portable::{PortableBuffer, unified_or_pinned};
    ///
    /// let stack = AnyResource::new(ManagedResource::new(&device)?); // usually with adaptors, such as a pool
    /// let choice = unified_or_pinned(&device)?.with_unified(stack);
    /// let buffer = PortableBuffer::<u32>::zeroed(1000, &stream, &choice)?;
    /// assert!(buffer.choice().is_unified());
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn with_unified(mut self, stack: AnyResource<kind::Managed>) -> Self {
        if let Memory::Unified(resource) = &mut self.memory {
            *resource = stack;
        }
        self
    }

    /// Sets the stacks that pinned memory and the device's copy are allocated from. Has no effect if the device gets
    /// unified memory. A pool for pinned memory saves time, because the driver takes long to allocate pinned memory.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::portable::unified_or_pinned;
    /// use cumem::sim::Profile;
    /// use cumem::{AnyResource, CudaResource, Device, PinnedResource};
    ///
    /// let device = Device::simulated(Profile::wsl())?;
    /// let host = AnyResource::new(PinnedResource::new(&device)); // usually a pool over it
    /// let choice = unified_or_pinned(&device)?.with_pinned(host, AnyResource::new(CudaResource::new(&device)));
    /// assert!(choice.to_string().starts_with("pinned memory"));
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn with_pinned(mut self, host: AnyResource<kind::Pinned>, device: AnyResource<kind::Device>) -> Self {
        if let Memory::Pinned { reason, .. } = self.memory {
            self.memory = Memory::Pinned { host, device, reason };
        }
        self
    }

    /// Returns the device.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Device};
    /// # let device = Device::simulated(Profile::default())?;
    /// use cumem::portable::unified_or_pinned;
    ///
    /// assert_eq!(unified_or_pinned(&device)?.device().id(), device.id());
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Reports whether the device gets unified memory.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Device};
    /// # let device = Device::simulated(Profile::default())?;
    /// use cumem::portable::unified_or_pinned;
    ///
    /// assert!(unified_or_pinned(&device)?.is_unified());
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn is_unified(&self) -> bool {
        self.reason().is_none()
    }

    /// Returns the reason why the device gets pinned memory, or `None` if it gets unified memory.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Device};
    /// # let device = Device::simulated(Profile::default())?;
    /// use cumem::portable::unified_or_pinned;
    ///
    /// assert_eq!(unified_or_pinned(&device)?.reason(), None);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
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
                write!(f, "unified memory ({stack}), because {} has concurrent managed access", self.device)
            }
            Memory::Pinned { host, device, reason } => {
                write!(
                    f,
                    "pinned memory ({host}) and copies to device memory ({device}), because {} {reason}",
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
