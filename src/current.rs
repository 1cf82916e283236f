//! The default resource of each device, like RMM's `per_device_resource`.
//!
//! - **Libraries** call [`get`] and allocate from the result. They do not call `set`, because the choice is the
//!   application's.
//! - **Applications** call [`set`] once at the start, for each device, or [`scoped`] for a part of the program.
//!
//! The initial default allocates plain device memory from the driver, like [`CudaResource`]. The result of `get` is a
//! shared handle. It remains usable after a later `set`, and then still allocates from the earlier resource.
//!
//! The defaults of GPUs are never dropped at process exit, because the driver may be shut down by then (RMM #2366). A
//! resource that was set keeps its device, and thus a simulator, alive until [`reset`] or another [`set`].
//!
//! # Examples
//!
//! An application sets the defaults of two devices. A library function uses the default of its stream's device:
//!
//! ```
//! use cumem::current::{self, DeviceResource};
//! use cumem::sim::{Profile, Simulator};
//! use cumem::{AllocError, Buffer, CudaAsyncResource, Device, ManagedResource, Stream};
//!
//! // The library: memory comes from the default of the device.
//! fn zeros(stream: &Stream) -> Result<Buffer<u32, DeviceResource>, AllocError> {
//!     Buffer::zeroed(1000, stream, current::get(stream.device()))
//! }
//!
//! // The application: a machine with two devices, and one default for each.
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let machine = Simulator::new([Profile::a100(), Profile::a100()])?;
//! let (first, second) = (Device::of_simulator(&machine, 0)?, Device::of_simulator(&machine, 1)?);
//! current::set(&first, CudaAsyncResource::new(&first)?)?;
//! current::set(&second, ManagedResource::new(&second)?)?;
//!
//! let on_first = zeros(&Stream::new(&first)?)?;
//! let on_second = zeros(&Stream::new(&second)?)?;
//! assert!(on_first.resource().to_string().starts_with("async on sim"));
//! assert!(on_second.resource().to_string().starts_with("managed on sim"));
//! # drop((on_first, on_second));
//! # current::reset(&first);
//! # current::reset(&second);
//! # Ok(())
//! # }
//! ```

use crate::any::AnyResource;
use crate::block::MakerId;
use crate::device::Device;
use crate::device::error::DeviceError;
use crate::kind::{DeviceAccessible, Erased};
use crate::layer::LayerExt;
use crate::resource::MemoryResource;
use crate::resources::CudaResource;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

/// A default resource of a device: any stack whose memory the device can access.
pub type DeviceResource = AnyResource<Erased>;

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
struct Layers {
    /// The default outside of all scopes.
    base: Option<DeviceResource>,
    /// The defaults of the open scopes, by the ids of the scopes in the order of their creation.
    scopes: Vec<(u64, Option<DeviceResource>)>,
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

/// Returns the default resource of `device`.
///
/// # Examples
///
/// ```
/// use cumem::sim::Profile;
/// use cumem::{Buffer, Device, Stream, current};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::simulated(Profile::default())?;
/// let stream = Stream::new(&device)?;
/// let numbers = Buffer::from_slice(&[1, 2, 3], &stream, current::get(&device))?;
/// assert_eq!(numbers.to_vec()?, [1, 2, 3]);
/// assert_eq!(current::get(&device).to_string(), format!("device on {}", device.id()));
/// # Ok(())
/// # }
/// ```
pub fn get(device: &Device) -> DeviceResource {
    let set = Defaults::of(device).set.read().unwrap_or_else(PoisonError::into_inner);
    let current = set[device.ordinal() as usize].current().clone();
    drop(set);
    current.unwrap_or_else(|| initial(device))
}

/// Makes `resource` the default resource of `device`, and returns the previous default.
///
/// # Errors
///
/// Returns [`DeviceError::WrongDevice`] if `resource` belongs to another device than `device`.
///
/// # Examples
///
/// ```
/// use cumem::sim::Profile;
/// use cumem::{CudaAsyncResource, Device, current};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::simulated(Profile::default())?;
/// let previous = current::set(&device, CudaAsyncResource::new(&device)?)?;
/// assert_eq!(previous.to_string(), format!("device on {}", device.id()));
/// assert_eq!(current::get(&device).to_string(), format!("async on {}", device.id()));
/// # current::reset(&device);
/// # Ok(())
/// # }
/// ```
pub fn set<R>(device: &Device, resource: R) -> Result<DeviceResource, DeviceError>
where
    R: MemoryResource<Kind: DeviceAccessible> + Send + Sync + 'static,
{
    Ok(replace(device, resource)?.unwrap_or_else(|| initial(device)))
}

/// Makes plain device memory the default resource of `device` again, and returns the previous default.
///
/// # Examples
///
/// ```
/// use cumem::sim::Profile;
/// use cumem::{Device, ManagedResource, current};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::simulated(Profile::default())?;
/// current::set(&device, ManagedResource::new(&device)?)?;
/// let previous = current::reset(&device);
/// assert_eq!(previous.to_string(), format!("managed on {}", device.id()));
/// assert_eq!(current::get(&device).to_string(), format!("device on {}", device.id()));
/// # Ok(())
/// # }
/// ```
pub fn reset(device: &Device) -> DeviceResource {
    exchange(device, None).unwrap_or_else(|| initial(device))
}

/// Makes `resource` the default resource of `device` until the returned guard is dropped.
///
/// The guard then removes this default, and what [`set`] has replaced it with in the meantime. Guards of several
/// threads may end in any order: each removes its own default, and the latest of the others holds.
///
/// # Errors
///
/// Returns [`DeviceError::WrongDevice`] if `resource` belongs to another device than `device`.
///
/// # Examples
///
/// ```
/// use cumem::sim::Profile;
/// use cumem::{Device, PinnedResource, current};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::simulated(Profile::default())?;
/// {
///     let _pinned = current::scoped(&device, PinnedResource::new(&device))?;
///     assert_eq!(current::get(&device).to_string(), format!("pinned on {}", device.id()));
/// }
/// assert_eq!(current::get(&device).to_string(), format!("device on {}", device.id()));
/// # Ok(())
/// # }
/// ```
pub fn scoped<R>(device: &Device, resource: R) -> Result<ScopedDefault, DeviceError>
where
    R: MemoryResource<Kind: DeviceAccessible> + Send + Sync + 'static,
{
    static NEXT: AtomicU64 = AtomicU64::new(0);
    device.check_device("the resource", resource.device().id())?;
    let (id, resource) = (NEXT.fetch_add(1, Ordering::Relaxed), AnyResource::erase_kind(resource));
    change(device, |layers| layers.scopes.push((id, Some(resource))));
    Ok(ScopedDefault { id, device: device.clone() })
}

/// A guard that removes its default resource of a device when it is dropped. [`scoped`] returns it.
///
/// # Examples
///
/// ```
/// use cumem::sim::Profile;
/// use cumem::{Device, ManagedResource, current};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::simulated(Profile::default())?;
/// let before = current::get(&device).to_string();
/// let scope = current::scoped(&device, ManagedResource::new(&device)?)?;
/// assert_ne!(current::get(&device).to_string(), before);
/// drop(scope);
/// assert_eq!(current::get(&device).to_string(), before);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "the default ends as soon as this guard is dropped"]
pub struct ScopedDefault {
    device: Device,
    id: u64,
}

impl Drop for ScopedDefault {
    fn drop(&mut self) {
        let remove = |layers: &mut Layers| {
            let own = layers.scopes.iter().position(|(id, _)| *id == self.id);
            own.map(|own| layers.scopes.remove(own))
        };
        drop(change(&self.device, remove));
    }
}

fn replace<R>(device: &Device, resource: R) -> Result<Option<DeviceResource>, DeviceError>
where
    R: MemoryResource<Kind: DeviceAccessible> + Send + Sync + 'static,
{
    device.check_device("the resource", resource.device().id())?;
    Ok(exchange(device, Some(AnyResource::erase_kind(resource))))
}

/// Replaces the current default of `device`, and returns the previous one.
fn exchange(device: &Device, resource: Option<DeviceResource>) -> Option<DeviceResource> {
    change(device, |layers| std::mem::replace(layers.current_mut(), resource))
}

/// Changes the defaults of `device`. The function releases the lock before it returns, so the caller drops a resource,
/// which may call the driver, without the lock.
fn change<T>(device: &Device, change: impl FnOnce(&mut Layers) -> T) -> T {
    let mut set = Defaults::of(device).set.write().unwrap_or_else(PoisonError::into_inner);
    change(&mut set[device.ordinal() as usize])
}

/// Creates the initial default of `device`. Each call creates a new resource, because a stored resource would keep the
/// device alive. All of them have the same maker id, so each of them can deallocate the blocks of the others.
fn initial(device: &Device) -> DeviceResource {
    let maker = Defaults::of(device).makers[device.ordinal() as usize];
    AnyResource::erase_kind(CudaResource::made_by(maker, device))
}
