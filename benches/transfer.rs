//! Upload and download of managed memory beside the explicit copy of the same bytes, by size, all in turn in one run.
//!
//! On a GPU the host's clock is read around calls that are complete on return. On a simulated device the times are
//! virtual. All figures are medians. Pageable memory is used in two ways. "pageable" is the same part every time, which
//! stays in the processor's caches if it is small. "other" is another part each time, which comes from main memory.

mod common;

use common::turns::{Arena, Taken, Way, compare, copied, done, driver_copy};
use cumem::buffer::{HostRead, TransferPath};
use cumem::{Buffer, CudaResource, Device, ManagedResource, PinnedResource, Stream, UnifiedBuffer};
use std::cell::RefCell;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// Selects the part of the process's memory for a transfer.
type Part = fn(&mut Arena, usize) -> &mut [u8];

/// Prints every way, compared with the first.
fn print(what: &str, bytes: usize, ways: &[Way<'_>], taken: &[Taken]) {
    for (Way { name, .. }, Taken { median, path }) in ways.iter().zip(taken) {
        let (micros, first) = (median.as_secs_f64() * 1e6, taken[0].median.as_secs_f64() * 1e6);
        let (rate, more, times) = (bytes as f64 / micros / 1e3, (micros / first - 1.0) * 100.0, first / micros);
        println!(
            "{bytes:>11}  {what:<4} {name:<34} {micros:>10.1} us {rate:>6.2} GB/s {more:>+7.1} % {times:>5.2}  {path}"
        );
    }
}

fn of_size(device: &Device, arena: &RefCell<Arena>, bytes: usize, turns: usize) {
    let stream = done(Stream::new(device));
    let pinned = done(Buffer::from_slice(arena.borrow_mut().same(bytes), &stream, PinnedResource::new(device)));
    let mut plain = done(Buffer::<u8, _>::zeroed(bytes, &stream, CudaResource::new(device)));
    let managed = || {
        let resource = done(ManagedResource::new(device));
        done(UnifiedBuffer::from_slice(arena.borrow_mut().same(bytes), &stream, resource))
    };
    let (mut by_call, by_path) = (managed(), RefCell::new(managed()));
    let _ = done(by_call.prefetch(device.id()));
    {
        let source: HostRead<'_, u8> = done(pinned.host_read());
        let mut ways = [
            Way::new("pinned to device, copy", || copied(plain.copy_from_slice(&source))),
            Way::new("pinned to unified, copy", || copied(by_call.copy_from_slice(&source))),
            Way::new("pinned to unified, upload", || done(by_path.borrow_mut().upload(&source))),
        ];
        let taken = compare(device, turns, &mut ways);
        print("up", bytes, &ways, &taken);
    }
    let mut target = done(Buffer::<u8, _>::zeroed(bytes, &stream, PinnedResource::new(device)));
    {
        let mut target = done(target.host_write());
        let targets = [(); 3].map(|()| target.as_mut_ptr());
        // SAFETY: each call is complete before the next one starts, and only the current call uses the memory.
        let target = |i: usize| unsafe { std::slice::from_raw_parts_mut(targets[i], bytes) };
        let mut ways = [
            Way::new("device to pinned, copy", || copied(plain.copy_to_slice(target(0)))),
            Way::new("unified to pinned, copy", || copied(by_call.copy_to_slice(target(1)))),
            Way::new("unified to pinned, download", || done(by_path.borrow().download(target(2)))),
        ];
        let taken = compare(device, turns, &mut ways);
        print("down", bytes, &ways, &taken);
    }
    if device.is_simulated() {
        return;
    }
    if !device.is_simulated() {
        let to = plain.as_mut_ptr();
        for (memory, part) in [("pageable", Arena::same as Part), ("other", Arena::other)] {
            let part = |run: &mut dyn FnMut(&mut [u8]) -> TransferPath| run(part(&mut arena.borrow_mut(), bytes));
            let mut ways = [
                Way::new(format!("{memory} to device, driver"), || {
                    part(&mut |part| driver_copy(&stream, to, part.as_ptr(), bytes))
                }),
                Way::new(format!("{memory} to unified, upload"), || {
                    part(&mut |part| done(by_path.borrow_mut().upload(part)))
                }),
            ];
            let taken = compare(device, turns.div_ceil(4), &mut ways);
            print("up", bytes, &ways, &taken);
            let mut ways = [
                Way::new(format!("device to {memory}, driver"), || {
                    part(&mut |part| driver_copy(&stream, part.as_mut_ptr(), to, bytes))
                }),
                Way::new(format!("unified to {memory}, download"), || {
                    part(&mut |part| done(by_path.borrow().download(part)))
                }),
            ];
            let taken = compare(device, turns.div_ceil(4), &mut ways);
            print("down", bytes, &ways, &taken);
        }
    }
}

fn main() {
    // Like Criterion's benches, which make one round if Cargo only tests that they run.
    let test = std::env::args().any(|arg| arg == "--test");
    let device = common::named_device();
    println!("{device}{}", if device.is_simulated() { ": times and rates are in its virtual time" } else { "" });
    println!(
        "      bytes                                              median            against the first, times as fast"
    );
    let few = test || device.is_simulated();
    let sizes = [
        (4 * KIB, 500),
        (64 * KIB, 500),
        (256 * KIB, 300),
        (MIB, 200),
        (2 * MIB, 100),
        (4 * MIB, 100),
        (8 * MIB, 60),
        (16 * MIB, 40),
        (64 * MIB, 20),
        (256 * MIB, 8),
        (1024 * MIB, 4),
    ];
    let most = if few { 64 * MIB } else { 1024 * MIB };
    let arena = RefCell::new(Arena::new(most, &device));
    for (bytes, turns) in sizes.into_iter().filter(|(bytes, _)| *bytes <= most) {
        of_size(&device, &arena, bytes, if few { 1 } else { turns });
    }
}
