//! The default resource of each device, like RMM's `per_device_resource`.
//!
//! - **Libraries** call [`get`] and allocate from the result. They do not call `set`, because the choice is the
//!   application's.
//! - **Applications** call [`set`] once at the start, for each device, or [`scoped`] for a part of the program.
//!
//! The result of `get` is an [`Upstream`](crate::Upstream), so a default can be wrapped where it stands: [`update`] adds
//! statistics or a log to the default of a running program, and [`restore`] removes them again. Only buffers that are
//! allocated in between use the wrapped default, because each buffer keeps the resource that allocated it.
//!
//! A scope changes the default until a guard is dropped: [`scoped`] for the whole process, [`thread_scoped`] for the
//! calling thread. While a thread has a scope of its own, its calls of [`get`] and [`set`] are about that scope.
//!
//! The kind of the memory is known only at run time. Prefetches and advice return
//! [`Skipped`](crate::unified::HintOutcome::Skipped) where the pages do not migrate, and
//! [`Buffer::try_host_read`](crate::Buffer::try_host_read) returns an error where the host has no access.
//!
//! A default may end in an adaptor that must be outermost, such as `Prefetch`. An adaptor over such a default receives
//! blocks that are prefetched already.
//!
//! The initial default allocates plain device memory from the driver, like [`CudaResource`](crate::CudaResource). The result of `get` is a
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

mod defaults;
mod of_thread;
mod resource;

pub use resource::DeviceResource;

use crate::device::Device;
use crate::device::error::DeviceError;
use crate::kind::DeviceAccessible;
use crate::layer::LayerExt;
use crate::resource::MemoryResource;
use defaults::{change, exchange, initial};
use of_thread::OfThread;
use resource::wrap;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};

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
    OfThread::get(device).unwrap_or_else(|| defaults::current(device)).unwrap_or_else(|| initial(device))
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
    device.check_device("the resource", resource.device().id())?;
    Ok(exchange(device, Some(wrap(resource))).unwrap_or_else(|| initial(device)))
}

/// Replaces the default resource of `device` by the result of `change`, which receives the present default. Returns the
/// present default, for [`restore`].
///
/// A default that another thread sets while `change` runs is replaced, too. If `change` can fail, use
/// `set(&device, adaptor(get(&device))?)`.
///
/// # Errors
///
/// Returns [`DeviceError::WrongDevice`] if the result belongs to another device than `device`.
///
/// # Examples
///
/// Statistics are switched on and off around running code:
///
/// ```
/// use cumem::sim::Profile;
/// use cumem::{Buffer, Device, LayerExt, Stream, current};
/// use cumem_adaptors::{ResourceExt, StatisticsState};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::simulated(Profile::default())?;
/// let stream = Stream::new(&device)?;
/// let plain = current::update(&device, |upstream| upstream.statistics())?;
/// let _buffer = Buffer::<u8, _>::zeroed(1000, &stream, current::get(&device))?;
/// let counted = current::restore(&device, plain)?;
/// assert_eq!(counted.find::<StatisticsState>().unwrap().counts().current_bytes, 1000);
/// assert_eq!(current::get(&device).to_string(), format!("device on {}", device.id()));
/// # current::reset(&device);
/// # Ok(())
/// # }
/// ```
pub fn update<R>(device: &Device, change: impl FnOnce(DeviceResource) -> R) -> Result<DeviceResource, DeviceError>
where
    R: MemoryResource<Kind: DeviceAccessible> + Send + Sync + 'static,
{
    set(device, change(get(device)))
}

/// Makes an earlier default the default resource of `device` again, and returns the present default. [`set`] does the
/// same with one more level of indirection, which this function does not add.
///
/// # Errors
///
/// Returns [`DeviceError::WrongDevice`] if `earlier` belongs to another device than `device`.
///
/// # Examples
///
/// ```
/// use cumem::sim::Profile;
/// use cumem::{Device, ManagedResource, current};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::simulated(Profile::default())?;
/// let earlier = current::set(&device, ManagedResource::new(&device)?)?;
/// current::restore(&device, earlier)?;
/// assert_eq!(current::get(&device).to_string(), format!("device on {}", device.id()));
/// # current::reset(&device);
/// # Ok(())
/// # }
/// ```
pub fn restore(device: &Device, earlier: DeviceResource) -> Result<DeviceResource, DeviceError> {
    device.check_device("the resource", earlier.device().id())?;
    Ok(exchange(device, Some(earlier)).unwrap_or_else(|| initial(device)))
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
    device.check_device("the resource", resource.device().id())?;
    let (id, resource) = (next_scope(), wrap(resource));
    change(device, |layers| layers.scopes.push((id, Some(resource))));
    Ok(ScopedDefault { id, device: device.clone() })
}

/// Makes `resource` the default resource of `device` for the calling thread, until the returned guard is dropped. Other
/// threads keep their default. Threads that are started meanwhile have the default of the process.
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
/// use std::thread;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::simulated(Profile::default())?;
/// let now = || current::get(&device).to_string();
/// let _pinned = current::thread_scoped(&device, PinnedResource::new(&device))?;
/// assert_eq!(now(), format!("pinned on {}", device.id()));
/// let elsewhere = thread::scope(|scope| scope.spawn(now).join().unwrap());
/// assert_eq!(elsewhere, format!("device on {}", device.id()));
/// # Ok(())
/// # }
/// ```
pub fn thread_scoped<R>(device: &Device, resource: R) -> Result<ThreadScopedDefault, DeviceError>
where
    R: MemoryResource<Kind: DeviceAccessible> + Send + Sync + 'static,
{
    device.check_device("the resource", resource.device().id())?;
    let id = next_scope();
    OfThread::push(id, device, wrap(resource));
    Ok(ThreadScopedDefault { id, _of_this_thread: PhantomData })
}

/// Returns a number that no other scope has.
fn next_scope() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
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
        let remove = |layers: &mut defaults::Layers| {
            let own = layers.scopes.iter().position(|(id, _)| *id == self.id);
            own.map(|own| layers.scopes.remove(own))
        };
        drop(change(&self.device, remove));
    }
}

/// A guard that removes its default resource of a device from its thread when it is dropped. [`thread_scoped`] returns
/// it. The guards of a thread may be dropped in any order.
///
/// # Examples
///
/// ```
/// # use cumem::sim::Profile;
/// # use cumem::{Device, ManagedResource, current};
/// # let device = Device::simulated(Profile::default())?;
/// let scope = current::thread_scoped(&device, ManagedResource::new(&device)?)?;
/// assert!(current::get(&device).to_string().starts_with("managed"));
/// drop(scope);
/// assert!(current::get(&device).to_string().starts_with("device"));
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "the default ends as soon as this guard is dropped"]
pub struct ThreadScopedDefault {
    id: u64,
    _of_this_thread: PhantomData<*const ()>,
}

impl Drop for ThreadScopedDefault {
    fn drop(&mut self) {
        drop(OfThread::remove(self.id));
    }
}
