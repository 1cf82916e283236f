//! Compares ways to do one thing by running them in turns. Other programs may use the same link, so a way must be
//! compared with another one at the same moment. Criterion measures one thing after the other and cannot do that.

use cumem::buffer::TransferPath;
use cumem::{Device, DeviceError, Stream};
use std::hint::black_box;
use std::time::{Duration, Instant};

/// One of the ways to compare.
pub(crate) struct Way<'a> {
    pub(crate) name: String,
    prepare: Box<dyn FnMut() + 'a>,
    run: Box<dyn FnMut() -> TransferPath + 'a>,
}

impl<'a> Way<'a> {
    pub(crate) fn new(name: impl Into<String>, run: impl FnMut() -> TransferPath + 'a) -> Self {
        Self { name: name.into(), prepare: Box::new(|| ()), run: Box::new(run) }
    }

    /// Runs `prepare` before each turn, outside of the measured time.
    pub(crate) fn after(self, prepare: impl FnMut() + 'a) -> Self {
        Self { prepare: Box::new(prepare), ..self }
    }
}

/// The median time of a way, and the path that it took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Taken {
    pub(crate) median: Duration,
    pub(crate) path: TransferPath,
}

/// Returns a clock: the host's on a GPU, virtual time on a simulated device.
fn clock(device: &Device) -> impl Fn() -> Duration {
    let (simulator, start) = (device.simulator().cloned(), Instant::now());
    move || simulator.as_ref().map_or_else(|| start.elapsed(), |simulator| simulator.clock())
}

/// Runs the ways in turns, and returns their medians. The first turn is not counted.
pub(crate) fn compare(device: &Device, turns: usize, ways: &mut [Way<'_>]) -> Vec<Taken> {
    let now = clock(device);
    let mut times = vec![Vec::with_capacity(turns); ways.len()];
    let mut paths = vec![TransferPath::Nothing; ways.len()];
    for turn in 0..=turns {
        for (i, way) in ways.iter_mut().enumerate() {
            (way.prepare)();
            let start = now();
            paths[i] = black_box((way.run)());
            if turn > 0 {
                times[i].push(now() - start);
            }
        }
    }
    let median = |times: &mut Vec<Duration>| {
        times.sort_unstable();
        times[times.len() / 2]
    };
    times.iter_mut().zip(paths).map(|(times, path)| Taken { median: median(times), path }).collect()
}

/// Copies between the process's memory and a device with the driver's own copy; complete on return.
pub(crate) fn driver_copy(stream: &Stream, to: *mut u8, from: *const u8, bytes: usize) -> TransferPath {
    use cumem::cust::sys::{CUresult, CUstream, cuMemcpyAsync};
    let handle = stream.as_raw() as CUstream;
    // SAFETY: both ends hold that many bytes, and nothing else uses them until after the wait below.
    let code = unsafe { cuMemcpyAsync(to as u64, from as u64, bytes, handle) };
    assert_eq!(code, CUresult::CUDA_SUCCESS);
    copied(stream.synchronize())
}

/// Returns the path of a copy that does not report one.
pub(crate) fn copied(result: Result<(), DeviceError>) -> TransferPath {
    done(result);
    TransferPath::Copy
}

/// Returns the value. Ends the bench on an error, because a missing figure must be noticed.
pub(crate) fn done<T>(result: Result<T, impl std::fmt::Display>) -> T {
    result.unwrap_or_else(|error| super::give_up(error))
}

/// Memory of the process, all of it touched.
pub(crate) struct Arena {
    memory: Vec<u8>,
    next: usize,
}

impl Arena {
    /// Allocates enough for parts of up to `most` bytes, and more than the processor's caches hold.
    pub(crate) fn new(most: usize, device: &Device) -> Self {
        let caches = if device.is_simulated() { 0 } else { 512 << 20 };
        Self { memory: vec![1; most.max(caches)], next: 0 }
    }

    /// Returns the same part at every call.
    pub(crate) fn same(&mut self, bytes: usize) -> &mut [u8] {
        &mut self.memory[..bytes]
    }

    /// Returns another part than at earlier calls, until all of the memory has been used.
    pub(crate) fn other(&mut self, bytes: usize) -> &mut [u8] {
        let start = if self.next + bytes > self.memory.len() { 0 } else { self.next };
        self.next = start + bytes;
        &mut self.memory[start..start + bytes]
    }
}
