//! All paths that an upload or a download can take, by size, direction and kind of host memory, as CSV.
//! `src/transfer/path.rs` chooses the path by these figures.
//!
//! `explicit` is the copy of the same bytes to or from plain device memory. For pageable memory it is the driver's own
//! copy. `migration` moves the pages to the host, where the host copies, and for an upload moves them back.
//! The others are the paths of [`TransferPath`]; the chosen one is marked. Pageable memory is a different part each
//! time, so that it is in no cache. All figures are medians, measured in turns; on a simulated device they are virtual
//! time.

mod common;

use common::turns::{Arena, Way, compare, copied, done, driver_copy};
use cumem::buffer::TransferPath;
use cumem::{Buffer, CudaResource, Device, Location, ManagedResource, PinnedResource, Stream, UnifiedBuffer};
use std::cell::RefCell;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
const PATHS: [TransferPath; 4] = [TransferPath::Copy, TransferPath::Kernel, TransferPath::Staged, TransferPath::Ring];

/// Calls a closure with the host memory of the next transfer.
type Lend<'a> = &'a dyn Fn(&mut dyn FnMut(&mut [u8]) -> TransferPath) -> TransferPath;

/// The buffers and the stream that all ways use.
struct Ends<'a> {
    stream: &'a Stream,
    plain: RefCell<Buffer<u8, CudaResource>>,
    unified: RefCell<UnifiedBuffer<u8, ManagedResource>>,
    memory: &'a str,
    bytes: usize,
}

impl Ends<'_> {
    fn device(&self) -> &Device {
        self.stream.device()
    }

    /// Reports whether the host memory is pageable. The explicit copy is then the driver's own, because the library's
    /// copy of pageable memory would be one of the paths to compare.
    fn pageable(&self) -> bool {
        self.memory == "pageable"
    }

    fn up(&self, turns: usize, lend: Lend<'_>) {
        let (bytes, plain, unified) = (self.bytes, &self.plain, &self.unified);
        let chosen = lend(&mut |host| done(unified.borrow_mut().upload(host)));
        let explicit = || {
            let (mut plain, pageable) = (plain.borrow_mut(), self.pageable());
            lend(&mut |host| match pageable {
                true => driver_copy(self.stream, plain.as_mut_ptr(), host.as_ptr(), bytes),
                false => copied(plain.copy_from_slice(host)),
            })
        };
        let migration = || {
            let mut unified = unified.borrow_mut();
            let _ = done(unified.prefetch(Location::Host));
            lend(&mut |host| {
                done(unified.host_write()).copy_from_slice(host);
                TransferPath::HostPages
            });
            let _ = done(unified.prefetch(self.device().id()));
            done(self.stream.synchronize());
            TransferPath::HostPages
        };
        let mut ways = self.explicit(explicit);
        ways.push(Way::new("migration", migration));
        ways.extend(PATHS.map(|path| {
            Way::new(path.to_string(), move || lend(&mut |host| done(unified.borrow_mut().upload_by(path, host))))
        }));
        self.print("up", chosen, turns, ways);
    }

    fn down(&self, turns: usize, lend: Lend<'_>) {
        let (bytes, plain, unified) = (self.bytes, &self.plain, &self.unified);
        let chosen = lend(&mut |host| done(unified.borrow().download(host)));
        let explicit = || {
            let (plain, pageable) = (plain.borrow(), self.pageable());
            lend(&mut |host| match pageable {
                true => driver_copy(self.stream, host.as_mut_ptr(), plain.as_ptr(), bytes),
                false => copied(plain.copy_to_slice(host)),
            })
        };
        let migration = || {
            let _ = done(unified.borrow().prefetch(Location::Host));
            lend(&mut |host| done(unified.borrow().download(host)))
        };
        let back = || {
            let _ = done(unified.borrow().prefetch(self.device().id()));
            done(self.stream.synchronize());
        };
        let mut ways = self.explicit(explicit);
        ways.extend(PATHS.map(|path| {
            Way::new(path.to_string(), move || lend(&mut |host| done(unified.borrow().download_by(path, host))))
                .after(back)
        }));
        ways.push(Way::new("migration", migration).after(back));
        self.print("down", chosen, turns, ways);
    }

    /// Returns the explicit copy. It is left out for pageable memory on a simulated device, because the driver's copy
    /// of pageable memory is not modeled.
    fn explicit<'a>(&self, run: impl FnMut() -> TransferPath + 'a) -> Vec<Way<'a>> {
        if self.pageable() && self.device().is_simulated() { Vec::new() } else { vec![Way::new("explicit", run)] }
    }

    /// Prints the ways. A way that is named after a path is left out if the transfer took another path.
    fn print(&self, direction: &str, chosen: TransferPath, turns: usize, mut ways: Vec<Way<'_>>) {
        let taken = compare(self.device(), turns, &mut ways);
        for (way, taken) in ways.iter().zip(taken) {
            let named = PATHS.iter().any(|path| path.to_string() == way.name);
            if named && taken.path.to_string() != way.name {
                continue;
            }
            let mark = if named && taken.path == chosen { "chosen" } else { "" };
            let micros = taken.median.as_secs_f64() * 1e6;
            println!("{direction},{},{},{},{micros:.1},{mark}", self.memory, self.bytes, way.name);
        }
    }
}

fn of_size(device: &Device, arena: &RefCell<Arena>, bytes: usize, turns: usize) {
    let stream = &done(Stream::new(device));
    let mut pinned = done(Buffer::<u8, _>::zeroed(bytes, stream, PinnedResource::new(device)));
    let pinned = RefCell::new(done(pinned.host_write()));
    let unified = done(UnifiedBuffer::zeroed(bytes, stream, done(ManagedResource::new(device))));
    let plain = done(Buffer::zeroed(bytes, stream, CudaResource::new(device)));
    let mut ends = Ends { stream, plain: plain.into(), unified: unified.into(), memory: "pinned", bytes };
    for (memory, lend) in [
        ("pinned", &(|run: &mut dyn FnMut(&mut [u8]) -> TransferPath| run(&mut pinned.borrow_mut())) as Lend<'_>),
        ("pageable", &|run| run(arena.borrow_mut().other(bytes))),
    ] {
        ends.memory = memory;
        ends.up(turns, lend);
        ends.down(turns, lend);
    }
}

fn main() {
    // Like Criterion's benches, which make one round if Cargo only tests that they run.
    let test = std::env::args().any(|arg| arg == "--test");
    let device = common::named_device();
    println!("# {device}{}", if device.is_simulated() { ": microseconds of its virtual time" } else { "" });
    let few = test || device.is_simulated();
    let most = if few { 16 * MIB } else { 256 * MIB };
    let arena = RefCell::new(Arena::new(most, &device));
    println!("direction,memory,bytes,way,microseconds,chosen");
    for (bytes, turns) in [
        (4 * KIB, 200),
        (8 * KIB, 200),
        (16 * KIB, 200),
        (64 * KIB, 200),
        (256 * KIB, 100),
        (MIB, 100),
        (2 * MIB, 60),
        (4 * MIB, 40),
        (8 * MIB, 40),
        (16 * MIB, 20),
        (32 * MIB, 10),
        (64 * MIB, 8),
        (256 * MIB, 4),
    ] {
        if bytes <= most {
            of_size(&device, &arena, bytes, if few { 1 } else { turns });
        }
    }
}
