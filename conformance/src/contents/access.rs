//! [`Contents`]: writes a pattern into each block, and checks it before the block is freed.

use super::device;
use super::host::HostProbe;
use super::probe::Probe;
use crate::broken::Broken;
use cumem::kind::{DeviceAccessible, HostAccessible};
use cumem::{Block, Device, DeviceError, MemoryKind, Stream};
use std::fmt;
use std::marker::PhantomData;

/// Writes a different pattern into each block of kind `K`, and verifies it before the block is freed.
///
/// The host does this through the pointer, or kernels do it on the device, as the kind allows.
///
/// ```
/// use cumem::sim::Profile;
/// use cumem::{Device, ManagedResource, Stream};
/// use cumem_conformance::{Contents, Program};
///
/// let device = Device::simulated(Profile::default())?;
/// let resource = ManagedResource::new(&device)?;
/// // Each block of the program is written and verified by the host.
/// Program::new(1).operations(50).run(&resource, &[Stream::new(&device)?], &Contents::through_host(), |_| ())?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Contents<K> {
    probe: Option<Box<dyn Probe>>,
    kind: PhantomData<fn() -> K>,
}

impl<K: MemoryKind> Contents<K> {
    /// Does not access the memory.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{CudaResource, Device, Stream};
    /// # use cumem_conformance::{Contents, Program};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let contents = Contents::untouched();
    /// Program::new(1).operations(50).run(&CudaResource::new(&device), &[stream], &contents, |_| ())?;
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn untouched() -> Self {
        Self { probe: None, kind: PhantomData }
    }

    /// Accesses the memory through its pointer. Waits for the block's stream before each access.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{PinnedResource, Device, Stream};
    /// # use cumem_conformance::{Contents, Program};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let contents = Contents::through_host();
    /// Program::new(1).operations(50).run(&PinnedResource::new(&device), &[stream], &contents, |_| ())?;
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn through_host() -> Self
    where
        K: HostAccessible,
    {
        Self { probe: Some(Box::new(HostProbe)), kind: PhantomData }
    }

    /// Accesses the memory with kernels on the block's stream. The host does not wait for them, so memory that is
    /// reused too early is detected.
    ///
    /// # Errors
    ///
    /// Returns the driver's error if the kernels cannot be loaded.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{CudaResource, Device, Stream};
    /// # use cumem_conformance::{Contents, Program};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let contents = Contents::through_device(&device)?;
    /// Program::new(1).operations(50).run(&CudaResource::new(&device), &[stream], &contents, |_| ())?;
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn through_device(device: &Device) -> Result<Self, DeviceError>
    where
        K: DeviceAccessible,
    {
        Ok(Self { probe: Some(device::probe(device)?), kind: PhantomData })
    }

    /// Writes the pattern of `serial` into the block, before any work that is enqueued on `stream` later. In a large block
    /// only the two ends are written.
    ///
    /// # Errors
    ///
    /// Returns the error of the device. The block then holds parts of the pattern.
    ///
    /// # Safety
    ///
    /// The caller must ensure that:
    ///
    /// - the block was allocated by a resource of kind `K`, is live, and is [ready](cumem::resource#terms) on `stream`;
    /// - nothing else uses the block until `stream` has passed the write.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{layout, CudaResource, Device, MemoryResource, Stream};
    /// # use cumem_conformance::Contents;
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let resource = CudaResource::new(&device);
    /// let contents = Contents::<cumem::kind::Device>::through_device(&device)?;
    /// let block = resource.allocate(&stream, layout::bytes(1000)?)?;
    /// // SAFETY: the block is live, of this kind, and used on this stream only.
    /// unsafe { contents.write(&stream, &block, 7) }?;
    /// // SAFETY: as above.
    /// unsafe { contents.verify(&stream, &block, 7) }?;
    /// stream.synchronize()?;
    /// contents.settle()?; // the block still held what was written
    /// # // SAFETY: the stream has passed all uses of the block.
    /// # unsafe { resource.deallocate(&stream, block) }?;
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub unsafe fn write(&self, stream: &Stream, block: &Block, serial: u64) -> Result<(), Broken> {
        match &self.probe {
            // SAFETY: the caller vouches for the block; the constructors tied the probe to the kind.
            Some(probe) if block.size() > 0 => unsafe { probe.write(stream, block, serial) },
            _ => Ok(()),
        }
    }

    /// Compares the block with the pattern of `serial`. A difference that kernels find is returned only by the next
    /// [`settle`](Self::settle).
    ///
    /// # Errors
    ///
    /// Returns the error of the device, or the first byte that differs.
    ///
    /// # Safety
    ///
    /// The caller must ensure the same as for [`write`](Self::write).
    ///
    /// # Examples
    ///
    /// See [`write`](Self::write).
    pub unsafe fn verify(&self, stream: &Stream, block: &Block, serial: u64) -> Result<(), Broken> {
        match &self.probe {
            // SAFETY: the caller vouches for the block; the constructors tied the probe to the kind.
            Some(probe) if block.size() > 0 => unsafe { probe.verify(stream, block, serial) },
            _ => Ok(()),
        }
    }

    /// Returns the differences that verifications on idle streams have found. A difference is returned once.
    ///
    /// # Errors
    ///
    /// Returns the serial of a block whose contents changed.
    ///
    /// # Examples
    ///
    /// See [`write`](Self::write).
    pub fn settle(&self) -> Result<(), Broken> {
        self.probe.as_ref().map_or(Ok(()), |probe| probe.settle())
    }
}

impl<K: MemoryKind> fmt::Debug for Contents<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = if self.probe.is_some() { "verified" } else { "untouched" };
        write!(f, "Contents<{}>({how})", K::NAME)
    }
}

#[cfg(test)]
mod tests {
    use super::super::pattern::WINDOW;
    use super::*;
    use cumem::sim::Profile;
    use cumem::{CudaResource, LayerExt, ManagedResource, MemoryResource, layout};

    /// Checks that a matching pattern passes and another pattern fails, at each end of a large block too.
    fn notices<R: MemoryResource>(resource: &R, contents: &Contents<R::Kind>) {
        let stream = Stream::new(resource.device()).unwrap();
        for size in [1, 1000, 3 * WINDOW] {
            let block = resource.allocate(&stream, layout::bytes(size).unwrap()).unwrap();
            let verify = |serial| {
                // SAFETY: the block is live, of this kind, and used on this stream only.
                let outcome = unsafe { contents.verify(&stream, &block, serial) };
                stream.synchronize().unwrap();
                outcome.and_then(|()| contents.settle())
            };
            // SAFETY: the block is live, of this kind, and used on this stream only.
            unsafe { contents.write(&stream, &block, 5) }.unwrap();
            verify(5).unwrap();
            verify(6).unwrap_err();
            verify(5).unwrap();
            // SAFETY: no work uses the block, and nothing refers to its memory.
            unsafe { resource.deallocate(&stream, block) }.unwrap();
        }
    }

    fn all_ways(device: &Device) {
        notices(&CudaResource::new(device), &Contents::through_device(device).unwrap());
        let managed = ManagedResource::new(device).unwrap();
        notices(&managed, &Contents::through_device(device).unwrap());
        notices(&managed, &Contents::through_host());
    }

    #[test]
    fn changed_bytes_are_detected_on_a_simulated_device() {
        all_ways(&Device::simulated(Profile::default()).unwrap());
    }

    #[test]
    #[ignore = "needs a CUDA device"]
    fn changed_bytes_are_detected_on_a_gpu() {
        all_ways(&Device::open(0).unwrap());
    }
}
