//! A leaf outside the crates of this project: each block is a mapped file of its own, so that host memory can be larger
//! than the machine's RAM. The system writes pages that have not been used for long to the disk.
//!
//! ```console
//! $ cargo run --release --example write_a_leaf
//! ```
//!
//! A leaf has five duties, numbered in the code below.

mod common;

use clap::Parser;
use cumem::error::{DeallocError, TrimError};
use cumem::layer::{Beneath, fmt_stack};
use cumem::resource::MakerId;
use cumem::{AllocError, Block, Buffer, CudaResource, Device, DeviceId, Layer, MemoryResource, Stream, Upstream};
use cumem::{kind, layout};
use cumem_adaptors::{PoolOptions, ResourceExt};
use cumem_conformance::{Expectations, Place, Suite};
use std::alloc::Layout;
use std::any::Any;
use std::error::Error;
use std::fs::{self, File, OpenOptions};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU64, Ordering};
use std::{fmt, io, slice};
use tracing::subscriber::NoSubscriber;

/// Fills a table in mapped files, sends a part of it to the device, and runs the conformance suite on the leaf.
#[derive(Parser)]
struct Args {}

/// Allocates each block as a file in a folder, mapped into host memory.
struct FileResource {
    folder: PathBuf,
    device: Device,
    maker: MakerId,
}

/// Every page of Linux has at least this size, and `mmap` returns pages.
const ALIGNMENT: usize = 4096;

impl FileResource {
    /// Creates a leaf whose files are in `folder`. Its blocks are for the streams of `device`.
    fn new(device: &Device, folder: &Path) -> Self {
        Self { folder: folder.into(), device: device.clone(), maker: MakerId::unique() }
    }
}

/// Creates a file without a name, so that the system removes the file with its last mapping.
fn unnamed_file(folder: &Path) -> io::Result<File> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let path = folder.join(format!("write_a_leaf.{}.{number}", std::process::id()));
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
    fs::remove_file(&path)?;
    Ok(file)
}

/// Returns the address of `bytes` bytes in a new file. The file has room on the disk for all its pages.
fn map(file: &File, bytes: usize) -> io::Result<NonNull<u8>> {
    let length = i64::try_from(bytes).map_err(io::Error::other)?;
    // SAFETY: the descriptor is open.
    if unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, length) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let access = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: the system chooses addresses that no other mapping has.
    let ptr = unsafe { libc::mmap(ptr::null_mut(), bytes, access, libc::MAP_SHARED, file.as_raw_fd(), 0) };
    match ptr {
        libc::MAP_FAILED => Err(io::Error::last_os_error()),
        ptr => NonNull::new(ptr.cast()).ok_or_else(|| io::Error::other("mapped at address 0")),
    }
}

/// Returns the free and all bytes of the folder's disk.
fn space(folder: &Path) -> io::Result<(usize, usize)> {
    let folder = File::open(folder)?;
    let mut disk = std::mem::MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: the descriptor is open, and the result is writable.
    if unsafe { libc::fstatvfs(folder.as_raw_fd(), disk.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call has succeeded, so the result is written.
    let disk = unsafe { disk.assume_init() };
    let bytes = |blocks: u64| blocks.saturating_mul(disk.f_frsize) as usize;
    Ok((bytes(disk.f_bavail), bytes(disk.f_blocks)))
}

fn out_of_memory(folder: &Path, device: DeviceId, requested: usize) -> AllocError {
    let (free, total) = space(folder).unwrap_or_default();
    AllocError::OutOfMemory { layer: "file", requested, free, total, device }
}

// SAFETY: each block is a mapping of its own, so it has no byte of another block. The mapping is zeroed and aligned to a
// page. It stays until `deallocate` has waited for all work that was enqueued on the stream.
unsafe impl MemoryResource for FileResource {
    // Duty 1: the kind states which processors may access the memory. `Host` promises initialized bytes to the host, and
    // promises nothing to the device: the compiler rejects a `Buffer` over this leaf.
    type Kind = kind::Host;

    fn allocate(&self, stream: &Stream, layout: Layout) -> Result<Block, AllocError> {
        // Duty 2: refuse a stream of another device, because the order of its work has no meaning for this leaf.
        self.device.check_device("the stream", stream.device_id())?;
        // Duty 3: requests of zero bytes, and alignments that the leaf does not have.
        if layout.align() > ALIGNMENT {
            let (alignment, maximum) = (layout.align(), ALIGNMENT);
            return Err(AllocError::UnsupportedAlignment { layer: "file", alignment, maximum });
        }
        if layout.size() == 0 {
            return Ok(Block::empty(self.maker, layout));
        }
        let mapped = unnamed_file(&self.folder).and_then(|file| map(&file, layout.size()));
        let ptr = mapped.map_err(|_| out_of_memory(&self.folder, self.device.id(), layout.size()))?;
        Ok(Block::new(self.maker, ptr, layout, 0))
    }

    unsafe fn deallocate(&self, stream: &Stream, block: Block) -> Result<(), DeallocError> {
        // Duty 4: refuse the block of another resource, and return each block that is not freed to the caller.
        if block.maker() != self.maker {
            return Err(DeallocError::foreign("file", block));
        }
        if let Err(error) = self.device.check_device("the stream", stream.device_id()) {
            return Err(DeallocError::new(block, error));
        }
        if block.size() == 0 {
            return Ok(());
        }
        // Duty 5: the memory is freed in stream order. `munmap` acts at once, so the host waits for the stream's work.
        if let Err(error) = stream.synchronize() {
            return Err(DeallocError::new(block, error));
        }
        // SAFETY: `allocate` mapped these bytes, and the work that uses them has ended.
        let result = unsafe { libc::munmap(block.as_ptr().cast(), block.size()) };
        assert_eq!(result, 0, "a mapping of this leaf can be unmapped");
        Ok(())
    }
}

impl Layer for FileResource {
    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "file({})", self.folder.display())
    }
    fn beneath(&self) -> Beneath<'_> {
        Beneath::Device(&self.device)
    }
    fn state(&self) -> &dyn Any {
        self
    }
    fn trim_layer(&self, _keep: usize) -> Result<usize, TrimError> {
        Ok(0) // the leaf keeps no unused memory
    }
}

impl Upstream for FileResource {} // adaptors may wrap the leaf

impl fmt::Display for FileResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt_stack(self, f)
    }
}

fn main() -> ExitCode {
    common::main(|Args {}| {
        fill_a_table(&Device::first_or_simulated()?)?;

        // The checks that every resource must pass, on a simulated device. The library logs the failures that the checks
        // cause, which would only repeat the report.
        let suite = Suite::new(|device| Ok(FileResource::new(device, &std::env::temp_dir()))).through_host();
        let suite = suite.expecting(Expectations::default().max_alignment(ALIGNMENT).largest(16 << 20));
        let report = tracing::subscriber::with_default(NoSubscriber::new(), || suite.run(&Place::simulated()));
        report.assert();
        Ok(())
    })
}

fn fill_a_table(device: &Device) -> Result<(), Box<dyn Error>> {
    let stream = Stream::new(device)?;
    let stack = FileResource::new(device, &std::env::temp_dir()).pool(PoolOptions::new())?.limit(64 << 20).statistics();
    println!("stack:   {stack}");

    let block = stack.allocate(&stream, layout::array::<u32>(4 << 20)?)?;
    // SAFETY: the block is live host memory of 4 Mi initialized numbers, and nothing else uses it.
    let table = unsafe { slice::from_raw_parts_mut(block.as_ptr().cast::<u32>(), 4 << 20) };
    (0..).zip(table.iter_mut()).for_each(|(i, number)| *number = i);
    println!("table:   {}", stack.state().counts());

    // The device cannot access the table, so a part of the table is copied.
    let part = Buffer::from_slice(&table[1 << 20..][..1024], &stream, CudaResource::new(device));
    let numbers = part.and_then(|part| Ok(part.to_vec()?));
    // SAFETY: the stack returned the block, and `table` is used no more.
    unsafe { stack.deallocate(&stream, block) }?;
    println!("part:    {} numbers from {}", numbers.as_ref().map_or(0, Vec::len), numbers?[0]);
    Ok(())
}

#[cfg(test)]
mod tests {
    use cumem::sim::{Profile, faults};

    #[test]
    fn every_driver_call_may_fail() {
        faults::enumerate(&Profile::default(), super::fill_a_table).assert();
    }
}
