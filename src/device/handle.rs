//! [`Device`]: a shared handle to a GPU or a simulated device.

use super::error::DeviceError;
use super::fallback_notice;
use super::host_gate::HostGate;
use super::machine::Machine;
use super::notice::{Interest, LeafMemory, Notice};
use super::slots::Slots;
use super::spare::SpareMemory;
use cumem_driver::owned::RawDevice;
use cumem_driver::{
    Attributes, CudaErrorCode, DeviceId, Driver, DriverError, Location, MemoryInfo, MemoryType, Model, PointerInfo,
};
use cumem_sim::{Profile, ProfileError, Simulator};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

/// A GPU or a simulated device. The type is a shared handle, so clones refer to the same device.
///
/// # Examples
///
/// ```
/// use cumem::sim::Profile;
/// use cumem::Device;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::simulated(Profile::default())?;
/// println!("{device}: {} bytes of memory", device.attributes().total_memory);
/// assert!(device.is_simulated());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Device {
    inner: Arc<Inner>,
}

/// The data of a device, shared by all handles to the device.
struct Inner {
    id: DeviceId,
    attributes: Attributes,
    /// `Some` if the device has no concurrent managed access.
    gate: Option<HostGate>,
    /// Values that services store for the device. They are dropped with the last handle to the device.
    slots: Slots,
    spare: SpareMemory,
    machine: Arc<Machine>,
    simulator: Option<Simulator>,
    raw: RawDevice,
}

/// The devices of a machine that handles refer to, by ordinal.
struct Opened(Box<[Mutex<Weak<Inner>>]>);

impl Opened {
    fn of(machine: &Machine) -> &Self {
        machine.slots().get(|| Self((0..machine.devices()).map(|_| Mutex::default()).collect()))
    }

    /// Returns the place of one device, locked, or `None` if the machine has no such device.
    fn lock(&self, ordinal: u32) -> Option<MutexGuard<'_, Weak<Inner>>> {
        Some(self.0.get(ordinal as usize)?.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Device {
    /// Opens the driver's device `ordinal` and retains its primary context, which this library then shares with cust,
    /// the CUDA runtime and every library built on it.
    ///
    /// # Errors
    ///
    /// Returns
    /// - [`DriverError::NoDriver`] if this machine has no usable driver, or if `cumem` was built without the feature
    ///   `cuda`,
    /// - [`DriverError::NoSuchDevice`] if the driver lists fewer devices,
    /// - otherwise the driver's error.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn main() -> Result<(), cumem::DriverError> {
    /// let device = cumem::Device::open(0)?;
    /// println!("{device}");
    /// # Ok(())
    /// # }
    /// ```
    pub fn open(ordinal: u32) -> Result<Self, DriverError> {
        Self::of_driver(RawDevice::new(Self::cuda_driver()?, ordinal)?, None)
    }

    /// Creates a simulated machine with one device of this profile. Each call creates another machine.
    /// [`Simulator::new`] creates one machine with several devices.
    ///
    /// # Errors
    ///
    /// Returns [`ProfileError::Unsound`] with the name of the field if the profile contradicts itself.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::sim::Profile;
    /// use cumem::Device;
    ///
    /// let device = Device::simulated(Profile::a100())?;
    /// assert_eq!(device.attributes().compute_capability, (8, 0));
    /// # Ok::<_, cumem::sim::ProfileError>(())
    /// ```
    pub fn simulated(profile: Profile) -> Result<Self, ProfileError> {
        let simulator = Simulator::new([profile])?;
        Ok(Self::of_simulator(&simulator, 0).expect("a machine of one profile has device 0"))
    }

    /// Returns device `ordinal` of a simulated machine.
    ///
    /// # Errors
    ///
    /// Returns [`DriverError::NoSuchDevice`] if the machine has fewer devices.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::sim::{Profile, Simulator};
    /// use cumem::Device;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let machine = Simulator::new([Profile::a100(), Profile::a100()])?;
    /// let [first, second] = [Device::of_simulator(&machine, 0)?, Device::of_simulator(&machine, 1)?];
    /// assert_eq!(first.sibling(1)?, second);
    /// # Ok(())
    /// # }
    /// ```
    pub fn of_simulator(simulator: &Simulator, ordinal: u32) -> Result<Self, DriverError> {
        Self::of_driver(RawDevice::new(Arc::new(simulator.clone()), ordinal)?, Some(simulator))
    }

    /// Opens the first GPU, or creates a simulated device if this machine has no usable driver.
    ///
    /// In the second case the function reports the simulated device and the reason, because the figures of a simulated
    /// device are not those of a GPU. The report is a warning event if a `tracing` subscriber accepts warnings of this
    /// library. Otherwise the report is a line on standard error.
    ///
    /// # Errors
    ///
    /// Returns the driver's error if the driver lists the device but refuses it. The function does not simulate then.
    ///
    /// # Examples
    ///
    /// ```
    /// let device = cumem::Device::first_or_simulated()?;
    /// println!("{device}");
    /// # Ok::<_, cumem::DriverError>(())
    /// ```
    pub fn first_or_simulated() -> Result<Self, DriverError> {
        match Self::open(0) {
            Err(DriverError::NoDriver { reason, .. }) => {
                let device = Self::simulated(Profile::default()).expect("the default profile is sound");
                if let Some(line) = fallback_notice::report(&device, &reason) {
                    eprintln!("{line}");
                }
                Ok(device)
            }
            opened => opened,
        }
    }

    /// Returns the number of devices that the driver lists.
    ///
    /// # Errors
    ///
    /// Returns [`DriverError::NoDriver`] if this machine has no usable driver, or if `cumem` was built without the
    /// feature `cuda`.
    ///
    /// # Examples
    ///
    /// ```
    /// match cumem::Device::count() {
    ///     Ok(count) => println!("{count} GPUs"),
    ///     Err(error) => println!("{error}"),
    /// }
    /// ```
    pub fn count() -> Result<u32, DriverError> {
        Ok(Self::cuda_driver()?.device_count())
    }

    #[cfg(feature = "cuda")]
    fn cuda_driver() -> Result<Arc<dyn Driver>, DriverError> {
        Ok(cumem_driver::cuda::driver()?)
    }

    #[cfg(not(feature = "cuda"))]
    fn cuda_driver() -> Result<Arc<dyn Driver>, DriverError> {
        let reason =
            "cumem was built without the feature `cuda`; for a GPU, add `features = [\"cuda\"]` to the dependency"
                .into();
        Err(DriverError::NoDriver { reason, code: None })
    }

    fn of_driver(raw: RawDevice, simulator: Option<&Simulator>) -> Result<Self, DriverError> {
        let machine = Machine::of(raw.driver());
        let mut opened = Opened::of(&machine).lock(raw.ordinal()).expect("the driver has the device of a `RawDevice`");
        if let Some(inner) = opened.upgrade() {
            return Ok(Self { inner });
        }
        let id = raw.id();
        let attributes = raw.driver().attributes(raw.ordinal())?;
        let gate = (!attributes.concurrent_managed_access).then(HostGate::default);
        let (slots, spare) = (Slots::default(), SpareMemory::default());
        let (machine, simulator) = (Arc::clone(&machine), simulator.cloned());
        let inner = Arc::new(Inner { id, attributes, gate, slots, spare, machine, simulator, raw });
        *opened = Arc::downgrade(&inner);
        Ok(Self { inner })
    }

    /// Returns the id of the device.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::Device;
    /// use cumem::sim::Profile;
    ///
    /// let device = Device::simulated(Profile::default())?;
    /// assert_eq!(device.id().ordinal(), 0);
    /// assert!(device.id().is_simulated());
    /// # Ok::<_, cumem::sim::ProfileError>(())
    /// ```
    #[inline]
    pub fn id(&self) -> DeviceId {
        self.inner.id
    }

    /// Returns the properties of the device. The library reads the properties when the first handle to the device is
    /// created.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::Device;
    /// use cumem::sim::Profile;
    ///
    /// let windows = Device::simulated(Profile::wsl())?;
    /// assert!(windows.attributes().managed_memory);
    /// assert!(!windows.attributes().concurrent_managed_access);
    /// # Ok::<_, cumem::sim::ProfileError>(())
    /// ```
    #[inline]
    pub fn attributes(&self) -> &Attributes {
        &self.inner.attributes
    }

    /// Reports whether the device is simulated.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::sim::Profile;
    /// use cumem::Device;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// assert!(device.is_simulated());
    /// # Ok(())
    /// # }
    /// ```
    #[inline]
    pub fn is_simulated(&self) -> bool {
        self.id().is_simulated()
    }

    /// Returns the simulator that the device belongs to, or `None` for a GPU.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::Device;
    /// use cumem::sim::Profile;
    ///
    /// let device = Device::simulated(Profile::default())?;
    /// let simulator = device.simulator().expect("the device is simulated");
    /// println!("{:?} of simulated time", simulator.clock());
    /// # Ok::<_, cumem::sim::ProfileError>(())
    /// ```
    pub fn simulator(&self) -> Option<&Simulator> {
        self.inner.simulator.as_ref()
    }

    /// Returns the free and total bytes of the device's memory at this moment.
    ///
    /// # Errors
    ///
    /// Returns the driver's error.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::sim::Profile;
    /// use cumem::{Buffer, CudaResource, Device, Stream};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// let before = device.memory_info()?.free;
    /// let stream = Stream::new(&device)?;
    /// let buffer = Buffer::<u8, _>::zeroed(64 << 20, &stream, CudaResource::new(&device))?;
    /// assert!(device.memory_info()?.free <= before - buffer.size_bytes());
    /// # Ok(())
    /// # }
    /// ```
    pub fn memory_info(&self) -> Result<MemoryInfo, DriverError> {
        self.driver().memory_info(self.ordinal())
    }

    /// Returns the free and total memory of the host, which pinned and ordinary host memory come from.
    ///
    /// # Errors
    ///
    /// Returns the driver's error, or an error if the host does not report its memory.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::sim::Profile;
    /// use cumem::{Device, MemoryResource, PinnedResource, Stream, layout};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// let (stream, pinned) = (Stream::new(&device)?, PinnedResource::new(&device));
    /// let before = device.host_memory_info()?.free;
    /// let block = pinned.allocate(&stream, layout::bytes(64 << 20)?)?;
    /// assert_eq!(device.host_memory_info()?.free, before - block.size());
    /// # // SAFETY: nothing uses the block.
    /// # unsafe { pinned.deallocate(&stream, block) }?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn host_memory_info(&self) -> Result<MemoryInfo, DriverError> {
        self.driver().host_memory_info(self.ordinal())
    }

    /// Waits until the device has done all work of all its streams.
    ///
    /// # Errors
    ///
    /// Returns the driver's error, errors of earlier work included.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::sim::Profile;
    /// use cumem::{Buffer, CudaResource, Device, Stream};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// let stream = Stream::new(&device)?;
    /// let buffer = Buffer::<u8, _>::zeroed(64 << 20, &stream, CudaResource::new(&device))?;
    /// device.synchronize()?;
    /// assert!(stream.is_idle()?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn synchronize(&self) -> Result<(), DriverError> {
        self.driver().synchronize_device(self.ordinal())
    }

    /// Returns the type and the device of the memory that a pointer points to.
    ///
    /// # Errors
    ///
    /// Returns `CUDA_ERROR_INVALID_VALUE` if the driver does not know the memory, for example memory of `malloc`.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::device::MemoryType;
    /// use cumem::sim::Profile;
    /// use cumem::{Buffer, CudaResource, Device, Stream};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// let stream = Stream::new(&device)?;
    /// let buffer = Buffer::<u8, _>::zeroed(100, &stream, CudaResource::new(&device))?;
    /// let info = device.pointer_info(buffer.as_ptr())?;
    /// assert_eq!((info.memory_type, info.device), (MemoryType::Device, device.id()));
    /// assert!(device.pointer_info(Box::new(7_u8).as_ref()).is_err());
    /// # Ok(())
    /// # }
    /// ```
    pub fn pointer_info(&self, ptr: *const u8) -> Result<PointerInfo, DriverError> {
        self.driver().pointer_info(self.ordinal(), ptr)
    }

    /// Reports whether a pointer points to managed memory. Memory that the driver does not know is not managed.
    pub(crate) fn is_managed(&self, ptr: *const u8) -> Result<bool, DriverError> {
        match self.pointer_info(ptr) {
            Ok(info) => Ok(info.memory_type == MemoryType::Unified),
            Err(error) if error.code() == Some(CudaErrorCode::INVALID_VALUE) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Checks that an object belongs to this device. `found` is the device of the object, and `what` names the object
    /// in the error.
    ///
    /// # Errors
    ///
    /// Returns [`DeviceError::WrongDevice`] if `found` is another device.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::sim::Profile;
    /// use cumem::{Device, Stream};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let [device, other] = [Device::simulated(Profile::a100())?, Device::simulated(Profile::a100())?];
    /// let stream = Stream::new(&other)?;
    /// let error = device.check_device("the stream", stream.device_id()).unwrap_err();
    /// let text = format!("the stream belongs to {}, but {} is needed here", other.id(), device.id());
    /// assert_eq!(error.to_string(), text);
    /// # Ok(())
    /// # }
    /// ```
    #[inline]
    pub fn check_device(&self, what: &'static str, found: DeviceId) -> Result<(), DeviceError> {
        if found == self.id() { Ok(()) } else { Err(wrong_device(what, found, self.id())) }
    }

    /// Returns device `ordinal` of the same driver or simulator.
    ///
    /// # Errors
    ///
    /// Returns [`DriverError::NoSuchDevice`] if the driver or simulator has fewer devices, or the driver's error.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::Device;
    /// use cumem::sim::Profile;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let device = Device::simulated(Profile::default())?;
    /// assert_eq!(device.sibling(0)?, device);
    /// assert_eq!(device.sibling(1).unwrap_err().to_string(), "there is no device 1: the driver lists 1");
    /// # Ok(())
    /// # }
    /// ```
    pub fn sibling(&self, ordinal: u32) -> Result<Self, DriverError> {
        let raw = RawDevice::new(Arc::clone(self.inner.raw.shared_driver()), ordinal)?;
        Self::of_driver(raw, self.simulator())
    }

    /// Enqueues work with `enqueue`. Returns an error while a host guard over managed memory is open, because the work
    /// would make the memory inaccessible to the host.
    pub(crate) fn enqueue(&self, enqueue: impl FnOnce() -> Result<(), DriverError>) -> Result<(), DeviceError> {
        match &self.inner.gate {
            None => Ok(enqueue()?),
            Some(gate) => gate.pass(self.id(), enqueue),
        }
    }

    /// Returns the gate that keeps host access and device work apart, or `None` if the device has concurrent managed
    /// access.
    pub(crate) fn host_gate(&self) -> Option<&HostGate> {
        self.inner.gate.as_ref()
    }

    /// Returns device `ordinal` of the same machine, or `None` if no handle refers to that device.
    pub(crate) fn opened_sibling(&self, ordinal: u32) -> Option<Self> {
        let inner = Opened::of(self.machine()).lock(ordinal)?.upgrade()?;
        Some(Self { inner })
    }

    /// Sends a notice to the listeners of the machine.
    #[inline]
    pub(crate) fn tell(&self, notice: &Notice<'_>) {
        self.machine().listeners.tell(self.id(), notice);
    }

    /// Reports whether a listener receives notices of a kind.
    #[inline]
    pub(crate) fn wants(&self, kind: Interest) -> bool {
        self.machine().listeners.want(kind)
    }

    /// Counts memory that a leaf allocated, and announces it.
    pub(crate) fn tell_allocated(&self, memory: LeafMemory, bytes: usize) {
        self.machine().allocated().add(self.ordinal(), memory, bytes);
        self.tell(&Notice::Allocated);
    }

    /// Counts memory that a leaf freed, and announces it.
    pub(crate) fn tell_freed(&self, memory: LeafMemory, addr: u64, bytes: usize) {
        self.machine().allocated().subtract(self.ordinal(), memory, bytes);
        self.tell(&Notice::Freed { memory, addr, bytes });
    }

    /// Copies `bytes` bytes between the host and the memory at `addr` with `copy`. If the copy succeeds, the function
    /// announces the copy with its duration, which is virtual time on a simulated device.
    pub(crate) fn tell_copied<T, E>(
        &self,
        addr: u64,
        bytes: usize,
        to: Location,
        copy: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        if !self.wants(Interest::COPIED) {
            return copy();
        }
        let model = self.model();
        let (start, virtual_start) = (Instant::now(), model.map(Model::clock));
        let copied = copy()?;
        let virtual_time = |start: Duration| model.map(|model| model.clock().saturating_sub(start));
        let took = virtual_start.and_then(virtual_time).unwrap_or_else(|| start.elapsed());
        self.tell(&Notice::Copied { addr, bytes, to, took });
        Ok(copied)
    }

    /// Returns the data that this library keeps about all devices of the driver or simulator.
    #[inline]
    pub(crate) fn machine(&self) -> &Arc<Machine> {
        &self.inner.machine
    }

    /// Returns the values that services store for the device.
    #[inline]
    pub(crate) fn slots(&self) -> &Slots {
        &self.inner.slots
    }

    /// Returns the memory that services of this library keep on this device without using it.
    pub(crate) fn spare(&self) -> &SpareMemory {
        &self.inner.spare
    }

    /// Returns the calls that only a simulated machine has, or `None` for a GPU.
    #[inline]
    pub(crate) fn model(&self) -> Option<&dyn Model> {
        self.driver().model()
    }

    #[inline]
    pub(crate) fn driver(&self) -> &dyn Driver {
        self.inner.raw.driver()
    }

    #[inline]
    pub(crate) fn raw(&self) -> &RawDevice {
        &self.inner.raw
    }

    #[inline]
    pub(crate) fn ordinal(&self) -> u32 {
        self.inner.raw.ordinal()
    }
}

#[cold]
fn wrong_device(what: &'static str, found: DeviceId, expected: DeviceId) -> DeviceError {
    DeviceError::WrongDevice { what, found, expected }
}

impl PartialEq for Device {
    fn eq(&self, other: &Self) -> bool {
        self.id() == other.id()
    }
}

impl Eq for Device {}

/// Writes, for example, `cuda:0 (NVIDIA H100 80GB HBM3)` or `sim:0 (h100-pcie5, simulated)`.
impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let simulated = if self.is_simulated() { ", simulated" } else { "" };
        write!(f, "{} ({}{simulated})", self.id(), self.attributes().name)
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Device({self})")
    }
}
