//! [`Simulator`]: creates and inspects a simulated machine.

mod faults;
mod history;
mod inspect;

use super::error::ProfileError;
use super::machine::Machine;
use super::profile::Profile;
use cumem_driver::{AccessMode, DriverError};
use std::sync::Arc;
use std::time::Duration;

/// A shared handle to a simulated machine. Clones refer to the same machine. The machine lives as long as one of its
/// handles or devices.
///
/// # Examples
///
/// ```
/// use cumem_driver::Driver;
/// use cumem_sim::{Profile, Simulator};
///
/// let sim = Simulator::new([Profile::h100_pcie5()])?;
/// let stream = sim.create_stream(0, false)?;
/// let memory = sim.allocate_device(0, 4096)?;
/// // SAFETY: the stream and the memory are live, and nothing else uses them.
/// unsafe { sim.fill_async(0, memory.as_ptr(), 7, 4096, stream) }?;
/// // SAFETY: the stream is live.
/// unsafe { sim.synchronize_stream(0, stream) }?;
///
/// // The call took simulated time, the same in every run.
/// assert!(sim.clock().as_micros() > 0);
/// let statistics = sim.statistics(sim.device_id(0)).expect("a device of this simulator");
/// assert_eq!(statistics.filled, 4096);
/// # // SAFETY: all work is done, and nothing uses the memory or the stream any more.
/// # unsafe { sim.free(0, memory) }?;
/// # // SAFETY: as above.
/// # unsafe { sim.destroy_stream(0, stream) }?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Simulator {
    machine: Arc<Machine>,
}

impl Simulator {
    /// Creates a machine with one device for each profile, numbered in their order.
    ///
    /// # Errors
    ///
    /// Returns a [`ProfileError`] if there is no profile, if there are more than 63, or if a profile contradicts
    /// itself; the error then names the field.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem_sim::{Profile, ProfileError, Simulator};
    ///
    /// let two_gpus = Simulator::new([Profile::h100_pcie5(), Profile::a100()])?;
    /// assert_eq!(two_gpus.profiles().len(), 2);
    ///
    /// let error = Simulator::new([]).unwrap_err();
    /// assert_eq!(error, ProfileError::NoDevice);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(profiles: impl IntoIterator<Item = Profile>) -> Result<Self, ProfileError> {
        let profiles: Vec<_> = profiles.into_iter().collect();
        if profiles.is_empty() {
            return Err(ProfileError::NoDevice);
        }
        // Sets of processors, which include the host, are bits of one 64-bit word.
        const MOST: usize = 63;
        if profiles.len() > MOST {
            return Err(ProfileError::TooManyDevices { devices: profiles.len(), most: MOST });
        }
        for (ordinal, profile) in (0..).zip(&profiles) {
            profile.check().map_err(|reason| ProfileError::Unsound { ordinal, reason })?;
        }
        Ok(Self { machine: Arc::new(Machine::new(profiles.into())) })
    }

    pub(super) fn machine(&self) -> &Machine {
        &self.machine
    }

    /// Returns the profiles of the devices, by ordinal.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem_sim::{Profile, Simulator};
    ///
    /// let sim = Simulator::new([Profile::titanv()])?;
    /// assert_eq!(sim.profiles()[0].name, "titanv-pcie3");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn profiles(&self) -> &[Profile] {
        &self.machine.profiles
    }

    /// Returns the host's virtual time since the machine was created.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem_driver::Driver;
    /// use cumem_sim::{Profile, Simulator};
    ///
    /// let sim = Simulator::new([Profile::h100_pcie5()])?;
    /// assert!(sim.clock().is_zero());
    /// let _memory = sim.allocate_device(0, 4096)?;
    /// // `cuMemAlloc` takes 55.5 us by this profile.
    /// assert_eq!(sim.clock().as_nanos(), 55_500);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn clock(&self) -> Duration {
        Duration::from_nanos(self.machine.lock().now)
    }

    /// Advances the host's virtual clock by `time`, as if the host did other work. Devices work on meanwhile.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem_sim::{Profile, Simulator};
    /// use std::time::Duration;
    ///
    /// let sim = Simulator::new([Profile::h100_pcie5()])?;
    /// sim.pass_time(Duration::from_millis(3));
    /// assert_eq!(sim.clock(), Duration::from_millis(3));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn pass_time(&self, time: Duration) {
        let mut state = self.machine.lock();
        // At most a century, so that the clock never overflows.
        let most = 100 * 365 * 24 * 3600 * 1_000_000_000_u64;
        state.now = state.now.saturating_add(u64::try_from(time.as_nanos()).unwrap_or(most).min(most));
    }

    /// Simulates an access of the host to memory of this machine, in ascending order. Pages that the host cannot reach
    /// fault and migrate. Host guards of buffers do this themselves; programs that use raw pointers call this method.
    ///
    /// # Errors
    ///
    /// Returns [`DriverError::Simulation`] if the access would crash a real process. Examples are device memory, freed
    /// memory, and unified memory while a device without concurrent managed access has unfinished work.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem_driver::{AccessMode, Driver, Location};
    /// use cumem_sim::{Profile, Simulator};
    ///
    /// let sim = Simulator::new([Profile::h100_pcie5()])?;
    /// let memory = sim.allocate_managed(0, 1 << 20)?;
    /// sim.access_from_host(memory.as_ptr(), 1 << 20, AccessMode::Write)?;
    /// let residency = sim.residency(memory.as_ptr(), 1 << 20).expect("memory of this simulator");
    /// assert_eq!(residency.on(Location::Host), 1 << 20);
    ///
    /// // A host access to device memory would crash a real process.
    /// let device_memory = sim.allocate_device(0, 4096)?;
    /// assert!(sim.access_from_host(device_memory.as_ptr(), 4096, AccessMode::Read).is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn access_from_host(&self, ptr: *const u8, bytes: usize, mode: AccessMode) -> Result<(), DriverError> {
        self.machine.host_access(0, ptr as u64, bytes as u64, mode == AccessMode::Write)
    }

    /// Discards the contents of a range of unified memory, as `cuMemDiscardBatchAsync` of CUDA 13 does. The call first
    /// waits for all enqueued work.
    ///
    /// Pages of the range that are evicted or migrated later are not copied. A page is discarded until its next access.
    /// The model keeps the bytes, because CUDA promises nothing about their values.
    ///
    /// # Errors
    ///
    /// Returns `CUDA_ERROR_INVALID_VALUE` if the range is not within one allocation of unified memory, and
    /// `CUDA_ERROR_NOT_SUPPORTED` if a device of the machine has no concurrent managed access.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem_driver::{AccessMode, Driver};
    /// use cumem_sim::{Profile, Simulator};
    ///
    /// let sim = Simulator::new([Profile::h100_pcie5()])?;
    /// let stream = sim.create_stream(0, false)?;
    /// let memory = sim.allocate_managed(0, 2 << 20)?;
    /// sim.access_from_host(memory.as_ptr(), 2 << 20, AccessMode::Write)?;
    /// sim.discard(memory.as_ptr(), 2 << 20)?;
    /// // SAFETY: the stream and the memory are live.
    /// unsafe { sim.prefetch(0, memory.as_ptr(), 2 << 20, sim.device_id(0).into(), stream) }?;
    /// sim.synchronize_device(0)?;
    ///
    /// let statistics = sim.statistics(sim.device_id(0)).expect("a device of this simulator");
    /// assert_eq!(statistics.migrated_to_device, 0, "discarded pages are not copied");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn discard(&self, ptr: *const u8, bytes: usize) -> Result<(), DriverError> {
        self.machine.discard(0, ptr as u64, bytes as u64)
    }
}
