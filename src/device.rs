//! [`Device`]: a GPU, or a simulated one, and the facts about it.

use crate::driver::sim::{Profile, Simulator};
use crate::driver::{Driver, PointerInfo};
use crate::error::DriverError;
use crate::host_gate::{Closed, HostGate};
use crate::location::DeviceId;
use crate::residency::Residency;
use crate::stream::Stream;
use crate::transfer::Transfers;
use std::fmt;
use std::sync::Arc;

/// A GPU, or a simulated one. A shared handle: clones name the same device.
#[derive(Clone)]
pub struct Device {
    inner: Arc<Inner>,
}

struct Inner {
    id: DeviceId,
    attributes: Attributes,
    /// Where there is no concurrent managed access.
    gate: Option<Arc<HostGate>>,
    residency: Arc<Residency>,
    transfers: Arc<Transfers>,
    driver: Arc<dyn Driver>,
}

/// What a device can do, read from the driver once, when the device is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Attributes {
    /// The device's name (`cuDeviceGetName`), or the profile's.
    pub name: String,
    /// Bytes of device memory (`cuDeviceTotalMem`).
    pub total_memory: usize,
    /// Compute capability, major and minor.
    pub compute_capability: (u32, u32),
    /// Multiprocessors on the device.
    pub multiprocessors: u32,
    /// Copies that can run beside kernels (`ASYNC_ENGINE_COUNT`).
    pub copy_engines: u32,
    /// The GPU shares the host's memory (`INTEGRATED`).
    pub integrated: bool,
    /// Unified memory can be allocated (`MANAGED_MEMORY`).
    pub managed_memory: bool,
    /// Host and device may use unified memory at the same time; prefetch, advice and
    /// oversubscription need it (`CONCURRENT_MANAGED_ACCESS`). Not on Windows, WSL, Tegra, Maxwell.
    pub concurrent_managed_access: bool,
    /// The device can use `malloc`ed memory (`PAGEABLE_MEMORY_ACCESS`).
    pub pageable_memory_access: bool,
    /// ... through the host's page tables (`PAGEABLE_MEMORY_ACCESS_USES_HOST_PAGE_TABLES`).
    pub pageable_memory_access_uses_host_page_tables: bool,
    /// The host can map device memory (`DIRECT_MANAGED_MEM_ACCESS_FROM_HOST`).
    pub direct_managed_mem_access_from_host: bool,
    /// Stream-ordered pools (`MEMORY_POOLS_SUPPORTED`).
    pub memory_pools: bool,
    /// Reserving addresses and mapping memory (`VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED`).
    pub virtual_memory_management: bool,
}

/// Free and total bytes of a device's memory (`cuMemGetInfo`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryInfo {
    /// Bytes that can still be allocated.
    pub free: usize,
    /// Bytes that the device has.
    pub total: usize,
}

impl Device {
    /// Opens the driver's device `ordinal` and retains its primary context, which this library then
    /// shares with cust, the CUDA runtime and every library built on it.
    ///
    /// # Errors
    ///
    /// [`DriverError::NoDriver`] without a driver (or without the feature `cuda`),
    /// [`DriverError::NoSuchDevice`], or what the driver answers.
    pub fn open(ordinal: u32) -> Result<Self, DriverError> {
        let driver = Self::cuda_driver()?;
        let count = driver.device_count();
        if ordinal >= count {
            return Err(DriverError::NoSuchDevice { ordinal, count });
        }
        Self::from_driver(driver, ordinal)
    }

    /// A simulated machine with one device of this profile. Two calls give two machines that know
    /// nothing of each other; [`Simulator::new`] makes one with several devices.
    ///
    /// # Errors
    ///
    /// If the profile is not sound; the error names the field.
    pub fn simulated(profile: Profile) -> Result<Self, DriverError> {
        Simulator::new([profile])?.device(0)
    }

    /// The first GPU, else a simulated one with a warning through `tracing` that says why.
    ///
    /// # Errors
    ///
    /// If neither can be had.
    pub fn first() -> Result<Self, DriverError> {
        match Self::open(0) {
            Ok(device) => Ok(device),
            Err(reason) => {
                let device = Self::simulated(Profile::default())?;
                tracing::warn!(%reason, device = %device, "no GPU: using a simulated device");
                Ok(device)
            }
        }
    }

    /// How many devices the driver lists.
    ///
    /// # Errors
    ///
    /// [`DriverError::NoDriver`] without a driver.
    pub fn count() -> Result<u32, DriverError> {
        Ok(Self::cuda_driver()?.device_count())
    }

    #[cfg(feature = "cuda")]
    fn cuda_driver() -> Result<Arc<dyn Driver>, DriverError> {
        Ok(crate::driver::cuda::driver()?)
    }

    #[cfg(not(feature = "cuda"))]
    fn cuda_driver() -> Result<Arc<dyn Driver>, DriverError> {
        Err(DriverError::NoDriver { reason: "cumem was built without its feature `cuda`".into(), code: None })
    }

    pub(crate) fn from_driver(driver: Arc<dyn Driver>, ordinal: u32) -> Result<Self, DriverError> {
        let attributes = driver.attributes(ordinal)?;
        let id = driver.device_id(ordinal);
        let gate = (!attributes.concurrent_managed_access).then(|| HostGate::of(id));
        let residency = Residency::of(id, driver.device_count());
        residency.open(ordinal, &attributes);
        let transfers = Transfers::of(id, &driver);
        Ok(Self { inner: Arc::new(Inner { id, attributes, gate, residency, transfers, driver }) })
    }

    /// Which device this is.
    #[inline]
    pub fn id(&self) -> DeviceId {
        self.inner.id
    }

    /// What it can do.
    #[inline]
    pub fn attributes(&self) -> &Attributes {
        &self.inner.attributes
    }

    /// Whether it is a model rather than a GPU.
    #[inline]
    pub fn is_simulated(&self) -> bool {
        self.id().is_simulated()
    }

    /// The simulator that it belongs to, if it is simulated.
    pub fn simulator(&self) -> Option<&Simulator> {
        self.inner.driver.simulator()
    }

    /// Free and total memory, asked now.
    ///
    /// # Errors
    ///
    /// What the driver answers.
    pub fn memory_info(&self) -> Result<MemoryInfo, DriverError> {
        self.driver().memory_info(self.ordinal())
    }

    /// Waits until the device has done all its work, on every stream.
    ///
    /// # Errors
    ///
    /// What the driver answers, errors of earlier work included.
    pub fn synchronize(&self) -> Result<(), DriverError> {
        self.driver().synchronize_device(self.ordinal())
    }

    /// What a pointer points to, as the driver knows it.
    ///
    /// # Errors
    ///
    /// `CUDA_ERROR_INVALID_VALUE` for memory that the driver does not know.
    pub fn pointer_info(&self, ptr: *const u8) -> Result<PointerInfo, DriverError> {
        self.driver().pointer_info(self.ordinal(), ptr)
    }

    /// Gives back the memory that copies between the host and buffers are staged through, as far as no copy is using
    /// it: at most 64 MiB page-locked and 48 MiB of the device's, made by the first large copies and otherwise kept as
    /// long as the device is open.
    pub fn trim_staging(&self) {
        self.inner.transfers.trim();
    }

    /// Refuses an object of another device, `what`, with a [`DriverError::WrongDevice`] that names both.
    ///
    /// # Errors
    ///
    /// That one, unless `found` is this device.
    #[inline]
    pub fn expect(&self, what: &'static str, found: DeviceId) -> Result<(), DriverError> {
        if found == self.id() { Ok(()) } else { Err(wrong_device(what, found, self.id())) }
    }

    /// Another device of the same driver or simulator.
    ///
    /// # Errors
    ///
    /// [`DriverError::NoSuchDevice`], or what the driver answers.
    pub fn sibling(&self, ordinal: u32) -> Result<Self, DriverError> {
        match self.simulator() {
            Some(simulator) => simulator.device(ordinal),
            None => Self::open(ordinal),
        }
    }

    /// Enqueues work with `enqueue`; refused where the host is using unified memory that the work would take
    /// from under it.
    pub(crate) fn enqueue<T>(&self, enqueue: impl FnOnce() -> Result<T, DriverError>) -> Result<T, DriverError> {
        match &self.inner.gate {
            None => enqueue(),
            Some(gate) => gate.pass(self.id(), enqueue),
        }
    }

    /// [Enqueues](Self::enqueue) a kernel, which may take pages from other devices.
    pub(crate) fn launch<T>(&self, enqueue: impl FnOnce() -> Result<T, DriverError>) -> Result<T, DriverError> {
        self.residency().launched_on(self.ordinal());
        self.enqueue(enqueue)
    }

    /// Waits for what a host access through `stream` has to wait for, and keeps other work away where that must be.
    pub(crate) fn host_access(&self, stream: &Stream) -> Result<Option<Closed<'_>>, DriverError> {
        match &self.inner.gate {
            None => stream.synchronize().map(|()| None),
            Some(gate) => gate.close(|| self.synchronize()).map(Some),
        }
    }

    /// What is known of where unified memory is, on all devices of the machine.
    #[inline]
    pub(crate) fn residency(&self) -> &Residency {
        &self.inner.residency
    }

    pub(crate) fn transfers(&self) -> &Transfers {
        &self.inner.transfers
    }

    #[inline]
    pub(crate) fn driver(&self) -> &dyn Driver {
        &*self.inner.driver
    }

    #[inline]
    pub(crate) fn ordinal(&self) -> u32 {
        self.id().ordinal()
    }
}

#[cold]
fn wrong_device(what: &'static str, found: DeviceId, expected: DeviceId) -> DriverError {
    DriverError::WrongDevice { what, found, expected }
}

impl PartialEq for Device {
    fn eq(&self, other: &Self) -> bool {
        self.id() == other.id()
    }
}

impl Eq for Device {}

/// `cuda:0 (NVIDIA H100 80GB HBM3)`, `sim:0 (h100-pcie5, simulated)`.
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
