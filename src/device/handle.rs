//! [`Device`]: a shared handle to a GPU or a simulated device.

mod memory;
mod notices;
mod open;
mod work;

use super::capture_count::CaptureCount;
use super::error::DeviceError;
use super::host_gate::HostGate;
use super::machine::Machine;
use super::slots::Slots;
use super::spare::SpareMemory;
use cumem_driver::owned::RawDevice;
use cumem_driver::{Attributes, DeviceId, Driver, DriverError, Model};
use cumem_sim::Simulator;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

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
    /// `Some` if the device has no concurrent managed access. All such devices of a machine share one gate, because
    /// managed memory is inaccessible to the host while any of them is active.
    gate: Option<Arc<HostGate>>,
    /// Values that services store for the device. They are dropped with the last handle to the device.
    slots: Slots,
    spare: SpareMemory,
    captures: CaptureCount,
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
    fn of_driver(raw: RawDevice, simulator: Option<&Simulator>) -> Result<Self, DriverError> {
        let machine = Machine::of(raw.driver());
        let mut opened = Opened::of(&machine).lock(raw.ordinal()).expect("the driver has the device of a `RawDevice`");
        if let Some(inner) = opened.upgrade() {
            return Ok(Self { inner });
        }
        let id = raw.id();
        let attributes = raw.driver().attributes(raw.ordinal())?;
        let shared_gate = || Arc::clone(machine.slots().get(Arc::<HostGate>::default));
        let gate = (!attributes.concurrent_managed_access).then(shared_gate);
        let (slots, spare, captures) = Default::default();
        let (machine, simulator) = (Arc::clone(&machine), simulator.cloned());
        let inner = Arc::new(Inner { id, attributes, gate, slots, spare, captures, machine, simulator, raw });
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

    /// Returns device `ordinal` of the same machine, or `None` if no handle refers to that device.
    pub(crate) fn opened_sibling(&self, ordinal: u32) -> Option<Self> {
        let inner = Opened::of(self.machine()).lock(ordinal)?.upgrade()?;
        Some(Self { inner })
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
    pub(super) fn captures(&self) -> &CaptureCount {
        &self.inner.captures
    }

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
