use crate::device::Device;
use cumem_driver::DriverError;
use cumem_driver::drop_error::record_drop_error;
use cumem_driver::owned::OwnedRegistration;
use std::fmt;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::ptr::{self, NonNull};

/// Elements in host memory of the program that the driver has pinned (`cuMemHostRegister`). Copies between them and a
/// device run at the speed of the link, as those of pinned memory do, and kernels can use them at their address.
///
/// Registration takes as long as an allocation of pinned memory, so it pays for memory that is copied several times. The
/// drop waits for the work of the device, and ends the registration.
///
/// # Examples
///
/// ```
/// use cumem::resources::Registered;
/// use cumem::sim::Profile;
/// use cumem::{Buffer, CudaResource, Device, Stream};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::simulated(Profile::default())?;
/// let stream = Stream::new(&device)?;
/// let mut numbers = Registered::new(&device, vec![1_u32, 2, 3])?;
/// numbers[1] = 20;
/// let on_device = Buffer::from_slice(&numbers, &stream, CudaResource::new(&device))?; // a fast copy
/// assert_eq!(on_device.to_vec()?, [1, 20, 3]);
/// # Ok(())
/// # }
/// ```
pub struct Registered<T> {
    /// `None` if there are no bytes.
    registration: ManuallyDrop<Option<OwnedRegistration>>,
    values: ManuallyDrop<Box<[T]>>,
    device: Device,
}

impl<T> Registered<T> {
    /// Registers the elements of a `Vec` or a boxed slice.
    ///
    /// # Errors
    ///
    /// Returns [`DriverError::NotSupported`] if the device cannot access registered memory at its address, and the driver's
    /// error otherwise, for example `CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED`. The elements are then dropped;
    /// [`try_new`](Self::try_new) returns them.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::resources::Registered;
    /// # use cumem::sim::Profile;
    /// # use cumem::Device;
    /// # let device = Device::simulated(Profile::default())?;
    /// let numbers = Registered::new(&device, vec![7_u8; 1 << 20])?;
    /// assert_eq!(device.pointer_info(numbers.as_ptr())?.memory_type.to_string(), "pinned");
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(device: &Device, values: impl Into<Box<[T]>>) -> Result<Self, DriverError> {
        Self::try_new(device, values.into()).map_err(|(_, error)| error)
    }

    /// Does the same as [`new`](Self::new), and returns the elements with an error.
    ///
    /// # Errors
    ///
    /// Returns the elements, and the error of [`new`](Self::new).
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::resources::Registered;
    /// # use cumem::sim::Profile;
    /// # use cumem::Device;
    /// # let mut profile = Profile::default();
    /// # profile.host_register = false;
    /// # let device = Device::simulated(profile)?; // a device that has no access to registered memory
    /// let (values, error) = Registered::try_new(&device, vec![1, 2, 3].into()).unwrap_err();
    /// assert_eq!(values[..], [1, 2, 3]);
    /// assert!(error.to_string().ends_with("does not support access to registered host memory"));
    /// # Ok::<_, cumem::sim::ProfileError>(())
    /// ```
    pub fn try_new(device: &Device, mut values: Box<[T]>) -> Result<Self, (Box<[T]>, DriverError)> {
        let (start, bytes) = (NonNull::from(&mut *values).cast::<u8>(), size_of_val(&*values));
        let registration = match bytes {
            0 => None,
            // SAFETY: the elements stay where they are, and are freed only after the registration has ended.
            bytes => match unsafe { OwnedRegistration::new(device.raw(), start, bytes) } {
                Ok(registration) => Some(registration),
                Err(error) => return Err((values, error)),
            },
        };
        let (registration, values) = (ManuallyDrop::new(registration), ManuallyDrop::new(values));
        Ok(Self { registration, values, device: device.clone() })
    }

    /// Waits for the work of the device, ends the registration, and returns the elements.
    ///
    /// # Errors
    ///
    /// Returns the elements, which are still registered, and the driver's error.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::resources::Registered;
    /// # use cumem::sim::Profile;
    /// # use cumem::Device;
    /// # let device = Device::simulated(Profile::default())?;
    /// let numbers = Registered::new(&device, vec![1, 2, 3])?;
    /// assert_eq!(numbers.into_inner().map_err(|(_, error)| error)?[..], [1, 2, 3]);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn into_inner(mut self) -> Result<Box<[T]>, (Self, DriverError)> {
        if let Err(error) = self.end() {
            return Err((self, error));
        }
        let mut ended = ManuallyDrop::new(self);
        // SAFETY: each field is read once, and `ended` is never dropped.
        drop(unsafe { ptr::read(&ended.device) });
        // SAFETY: as above.
        drop(unsafe { ManuallyDrop::take(&mut ended.registration) });
        // SAFETY: as above.
        Ok(unsafe { ManuallyDrop::take(&mut ended.values) })
    }

    /// Returns the address of the first element, for kernels.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::resources::Registered;
    /// # use cumem::sim::Profile;
    /// # use cumem::Device;
    /// # let device = Device::simulated(Profile::default())?;
    /// let numbers = Registered::new(&device, vec![1_u32, 2, 3])?;
    /// assert_eq!(numbers.device_address(), numbers.as_ptr() as u64);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn device_address(&self) -> u64 {
        self.values.as_ptr() as u64
    }

    /// Returns the device that registered the memory.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::resources::Registered;
    /// # use cumem::sim::Profile;
    /// # use cumem::Device;
    /// # let device = Device::simulated(Profile::default())?;
    /// assert_eq!(Registered::new(&device, vec![1, 2, 3])?.device(), &device);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn device(&self) -> &Device {
        &self.device
    }

    fn end(&mut self) -> Result<(), DriverError> {
        self.registration.as_mut().map_or(Ok(()), OwnedRegistration::end)
    }
}

impl<T> Deref for Registered<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.values
    }
}

impl<T> DerefMut for Registered<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.values
    }
}

impl<T: fmt::Debug> fmt::Debug for Registered<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Registered").field(&&**self.values).finish()
    }
}

impl<T> Drop for Registered<T> {
    fn drop(&mut self) {
        let ended = self.end();
        let is_ended = ended.is_ok();
        record_drop_error("registered host memory", ended);
        // If the registration could not be ended, the driver still uses the pages, so the memory is leaked.
        if is_ended {
            // SAFETY: the fields are dropped here only.
            unsafe { ManuallyDrop::drop(&mut self.registration) };
            // SAFETY: as above.
            unsafe { ManuallyDrop::drop(&mut self.values) };
        }
    }
}
