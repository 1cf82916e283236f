//! Host memory that the system allocates: pinned memory of one NUMA node or of huge pages, memory of the program that is
//! registered, and memory of the system's allocator.

use super::context::Active;
use super::graphs::relaxed;
use super::sys;
use crate::error::DriverError;
use crate::error::code::CudaErrorCode;
use crate::pinned::{HugePages, PinnedProperties};
use std::alloc::{self, Layout};
use std::io;
use std::ptr::{self, NonNull};

/// The flags of a registration: all contexts can use the memory, and devices have it at its address.
const PORTABLE_AND_MAPPED: u32 = 0x01 | 0x02;

/// Nodes that a mask for `mbind` names. Linux has at most 1024 (`CONFIG_NODES_SHIFT` is at most 10).
const NODES_MOST: usize = 1 << 10;

impl Active<'_> {
    fn needs_registration(&self) -> Result<(), DriverError> {
        match self.host_register()? {
            true => Ok(()),
            false => Err(DriverError::NotSupported { what: "access to registered host memory", device: self.id }),
        }
    }

    /// Returns the error of a call of the system.
    fn system_error(&self, call: &'static str, error: &io::Error) -> DriverError {
        let code = match error.raw_os_error() {
            Some(libc::ENOMEM) => CudaErrorCode::OUT_OF_MEMORY,
            Some(libc::EINVAL | libc::ENODEV) => CudaErrorCode::INVALID_VALUE,
            Some(libc::EPERM) => CudaErrorCode::NOT_PERMITTED,
            Some(libc::ENOSYS | libc::EOPNOTSUPP) => CudaErrorCode::NOT_SUPPORTED,
            _ => CudaErrorCode::UNKNOWN,
        };
        DriverError::Call { call, device: self.id, code }
    }

    pub(super) fn allocate_pinned_pages(
        &self,
        bytes: usize,
        properties: PinnedProperties,
    ) -> Result<NonNull<u8>, DriverError> {
        self.needs_registration()?;
        let mapped = self.mapped_bytes(bytes, properties)?;
        let start = self.map_pages(mapped, properties)?;
        let pinned = self.place(start, mapped, properties).and_then(|()| {
            // SAFETY: the pages were just mapped.
            unsafe { self.register_host(start, mapped) }
        });
        if let Err(error) = pinned {
            // SAFETY: the pages were just mapped, and nothing uses them.
            unsafe { self.unmap_pages(start, mapped) }?;
            return Err(error);
        }
        Ok(start)
    }

    /// # Safety
    ///
    /// `allocate_pinned_pages` returned the memory for the same bytes and properties, and nothing uses it any more.
    pub(super) unsafe fn free_pinned_pages(
        &self,
        start: NonNull<u8>,
        bytes: usize,
        properties: PinnedProperties,
    ) -> Result<(), DriverError> {
        let mapped = self.mapped_bytes(bytes, properties)?;
        // SAFETY: the pages are registered, and the caller ensures that nothing uses them.
        unsafe { self.unregister_host(start) }?;
        // SAFETY: the pages are mapped, and nothing uses them.
        unsafe { self.unmap_pages(start, mapped) }
    }

    /// Returns the bytes of whole pages. The system maps reserved huge pages as a whole, and the size of the default huge
    /// page is a power of two that all Linux systems report as at most 1 GiB.
    fn mapped_bytes(&self, bytes: usize, properties: PinnedProperties) -> Result<usize, DriverError> {
        let page = match properties.huge_pages {
            HugePages::No => 4 << 10,
            HugePages::Transparent => 2 << 20,
            HugePages::Reserved => reserved_page()
                .ok_or(DriverError::NotSupported { what: "reserved huge pages on this system", device: self.id })?,
        };
        bytes.checked_next_multiple_of(page).ok_or_else(|| DriverError::host_out_of_memory(self.id))
    }

    fn map_pages(&self, bytes: usize, properties: PinnedProperties) -> Result<NonNull<u8>, DriverError> {
        let huge = if properties.huge_pages == HugePages::Reserved { libc::MAP_HUGETLB } else { 0 };
        let (access, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | huge);
        // SAFETY: the system chooses addresses that no other mapping has.
        let start = unsafe { libc::mmap(ptr::null_mut(), bytes, access, flags, -1, 0) };
        match NonNull::new(start.cast()) {
            Some(pages) if start != libc::MAP_FAILED => Ok(pages),
            _ => Err(self.system_error("mmap", &io::Error::last_os_error())),
        }
    }

    /// Asks the system for the NUMA node and for huge pages, before the first page is populated.
    fn place(&self, start: NonNull<u8>, bytes: usize, properties: PinnedProperties) -> Result<(), DriverError> {
        if let Some(node) = properties.numa_node {
            self.bind(start, bytes, node)?;
        }
        if properties.huge_pages == HugePages::Transparent {
            // SAFETY: the pages are mapped. The advice changes no byte.
            let failed = unsafe { libc::madvise(start.as_ptr().cast(), bytes, libc::MADV_HUGEPAGE) } != 0;
            if failed {
                return Err(self.system_error("madvise", &io::Error::last_os_error()));
            }
        }
        Ok(())
    }

    /// Binds pages to a NUMA node (`mbind` with `MPOL_BIND`).
    fn bind(&self, start: NonNull<u8>, bytes: usize, node: u32) -> Result<(), DriverError> {
        let mut mask = [0_u64; NODES_MOST / 64];
        let invalid = || self.system_error("mbind", &io::Error::from_raw_os_error(libc::EINVAL));
        let word = mask.get_mut(node as usize / 64).ok_or_else(invalid)?;
        *word = 1 << (node % 64);
        // One more than the bits, because the system call counts one bit less than it is given.
        let (nodes, bits) = (mask.as_ptr(), NODES_MOST + 1);
        // SAFETY: the pages are mapped, and the mask has so many bits.
        let result =
            unsafe { libc::syscall(libc::SYS_mbind, start.as_ptr(), bytes, libc::MPOL_BIND, nodes, bits, 0_usize) };
        if result == 0 { Ok(()) } else { Err(self.system_error("mbind", &io::Error::last_os_error())) }
    }

    /// # Safety
    ///
    /// `map_pages` mapped the pages, and nothing uses them.
    unsafe fn unmap_pages(&self, start: NonNull<u8>, bytes: usize) -> Result<(), DriverError> {
        // SAFETY: the caller ensures that the pages are mapped and unused.
        let failed = unsafe { libc::munmap(start.as_ptr().cast(), bytes) } != 0;
        if failed { Err(self.system_error("munmap", &io::Error::last_os_error())) } else { Ok(()) }
    }

    /// # Safety
    ///
    /// The range is allocated, and stays allocated until its registration has ended.
    pub(super) unsafe fn register_host(&self, start: NonNull<u8>, bytes: usize) -> Result<(), DriverError> {
        self.needs_registration()?;
        // SAFETY: the caller ensures that the range is allocated.
        let code = relaxed(|| unsafe { sys::cuMemHostRegister_v2(start.as_ptr().cast(), bytes, PORTABLE_AND_MAPPED) });
        self.check("cuMemHostRegister", code)
    }

    /// # Safety
    ///
    /// The range that begins here is registered, and no enqueued work uses it.
    pub(super) unsafe fn unregister_host(&self, start: NonNull<u8>) -> Result<(), DriverError> {
        // SAFETY: the caller ensures that the range is registered and unused.
        let code = relaxed(|| unsafe { sys::cuMemHostUnregister(start.as_ptr().cast()) });
        self.check("cuMemHostUnregister", code)
    }

    pub(super) fn allocate_system(&self, layout: Layout) -> Result<NonNull<u8>, DriverError> {
        if !self.pageable_memory_access()? {
            return Err(DriverError::NotSupported { what: "access to pageable memory", device: self.id });
        }
        if layout.size() == 0 {
            return Err(DriverError::Call { call: "calloc", device: self.id, code: CudaErrorCode::INVALID_VALUE });
        }
        // SAFETY: the size is not zero.
        let start = unsafe { alloc::alloc_zeroed(layout) };
        NonNull::new(start).ok_or_else(|| DriverError::host_out_of_memory(self.id))
    }

    /// # Safety
    ///
    /// `allocate_system` returned the memory for this layout, and nothing uses it any more.
    pub(super) unsafe fn free_system(&self, start: NonNull<u8>, layout: Layout) {
        // SAFETY: the caller ensures that the memory is allocated with this layout and unused.
        unsafe { alloc::dealloc(start.as_ptr(), layout) };
    }
}

/// Returns the size of a reserved huge page in bytes.
fn reserved_page() -> Option<usize> {
    huge_page_size(&std::fs::read_to_string("/proc/meminfo").ok()?)
}

/// Finds the size of a huge page in the text of `/proc/meminfo`, for example `Hugepagesize:       2048 kB`.
fn huge_page_size(meminfo: &str) -> Option<usize> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("Hugepagesize:"))?;
    let kib: usize = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1 << 10).filter(|bytes| bytes.is_power_of_two())
}

#[cfg(test)]
mod tests {
    use super::huge_page_size;

    #[test]
    fn huge_pages_of_a_system() {
        assert_eq!(huge_page_size("MemFree: 7 kB\nHugepagesize:    2048 kB\n"), Some(2 << 20));
        assert_eq!(huge_page_size("Hugepagesize: 0 kB"), None);
        assert_eq!(huge_page_size("Hugepagesize: 2 MB"), None);
        assert_eq!(huge_page_size(""), None);
    }
}
