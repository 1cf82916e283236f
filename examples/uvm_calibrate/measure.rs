//! The operations that are timed, the same on a GPU and on a simulated device.

use cumem::kernel::{Function, HostKernel, KernelArg, LaunchConfig, Module};
use cumem::{Buffer, CudaResource, Device, Location, ManagedResource, PinnedResource, Stream};
use std::error::Error;
use std::time::{Duration, Instant};

type Outcome<T> = Result<T, Box<dyn Error>>;
type Unified = Buffer<u8, ManagedResource>;

const PAGE: usize = 4096;
const REST: Duration = Duration::from_millis(2);

/// The timed operations. A time runs from the call to the end of a wait for the stream, unless the name says otherwise.
pub(crate) const OPERATIONS: [&str; 10] = [
    "copy pinned to device",
    "copy device to pinned",
    "prefetch to device",
    "prefetch to device, the call alone",
    "prefetch to device, resident",
    "prefetch to device, fresh",
    "prefetch to host",
    "fill, pages on the host",
    "one thread reads, pages on the host",
    "host reads, pages on the device",
];

/// Times of one operation, in nanoseconds, ascending.
pub(crate) struct Row {
    pub(crate) operation: &'static str,
    pub(crate) bytes: usize,
    times: Vec<u64>,
}

impl Row {
    pub(crate) fn median(&self) -> u64 {
        self.times[self.times.len() / 2]
    }

    pub(crate) fn csv(&self, device: &Device) -> String {
        let Self { operation, bytes, times } = self;
        let (least, most) = (times[0], times[times.len() - 1]);
        let name = device.attributes().name.replace(',', " ");
        format!("{name},{},{bytes},{},{},{least},{most}", operation.replace(',', ";"), times.len(), self.median())
    }
}

/// A device, and the memory that is timed on it.
pub(crate) struct Rig {
    pub(crate) device: Device,
    stream: Stream,
    touch: Option<Function>,
    start: Instant,
}

impl Rig {
    pub(crate) fn new(device: Device) -> Outcome<Self> {
        let touch = match device.is_simulated() {
            true => None,
            false => Some(Module::from_ptx(&device, include_str!("touch.ptx"))?.function("touch")?),
        };
        Ok(Self { stream: Stream::new(&device)?, device, touch, start: Instant::now() })
    }

    /// Returns real time on a GPU, and virtual time on a simulated device.
    fn now(&self) -> u64 {
        let elapsed = match self.device.simulator() {
            Some(simulator) => simulator.clock(),
            None => self.start.elapsed(),
        };
        elapsed.as_nanos() as u64
    }

    /// Waits, because the driver treats pages that migrate back and forth within half a millisecond as thrashing.
    fn rest(&self) {
        match self.device.simulator() {
            Some(simulator) => simulator.pass_time(REST),
            // A sleeping thread wakes up late, and with cold caches.
            None => {
                let start = Instant::now();
                while start.elapsed() < REST {
                    std::hint::spin_loop();
                }
            }
        }
    }

    fn time(&self, what: impl FnOnce() -> Outcome<()>) -> Outcome<u64> {
        self.rest();
        let start = self.now();
        what()?;
        Ok(self.now() - start)
    }

    /// Times all operations on `bytes` bytes, `repetitions` times each, after one run that is not counted.
    pub(crate) fn measure(&self, bytes: usize, repetitions: usize) -> Outcome<Vec<Row>> {
        let mut rows = Vec::new();
        for times in self.copies(bytes, repetitions)?.into_iter().chain(self.unified(bytes, repetitions)?) {
            let operation = OPERATIONS[rows.len()];
            let mut times = times;
            times.sort_unstable();
            rows.push(Row { operation, bytes, times });
        }
        Ok(rows)
    }

    fn copies(&self, bytes: usize, repetitions: usize) -> Outcome<[Vec<u64>; 2]> {
        let mut times = [const { Vec::new() }; 2];
        let mut device = Buffer::<u8, _>::zeroed(bytes, &self.stream, CudaResource::new(&self.device))?;
        let mut pinned = Buffer::<u8, _>::zeroed(bytes, &self.stream, PinnedResource::new(&self.device))?;
        self.stream.synchronize()?;
        for repetition in 0..=repetitions {
            let up = self.time(|| Ok(device.copy_from_buffer(&pinned).and_then(|()| self.stream.synchronize())?))?;
            let down =
                self.time(|| Ok(pinned.copy_from_buffer(&device).and_then(|()| self.stream.synchronize())?))?;
            if repetition > 0 {
                times[0].push(up);
                times[1].push(down);
            }
        }
        Ok(times)
    }

    fn unified(&self, bytes: usize, repetitions: usize) -> Outcome<[Vec<u64>; 8]> {
        let mut times = [const { Vec::new() }; 8];
        let mut buffer = self.zeroed(bytes)?;
        let here = Location::Device(self.device.id());
        for repetition in 0..=repetitions {
            self.move_to(&buffer, Location::Host)?;
            let mut call = 0;
            let all = self.time(|| {
                let start = self.now();
                let _ = buffer.prefetch(here)?;
                call = self.now() - start;
                Ok(self.stream.synchronize()?)
            })?;
            let resident = self.time(|| self.move_to(&buffer, here))?;
            let down = self.time(|| self.move_to(&buffer, Location::Host))?;
            let fill = self.time(|| self.fill(&mut buffer))?;
            self.move_to(&buffer, Location::Host)?;
            let thread = self.time(|| self.one_thread_reads(&buffer))?;
            self.move_to(&buffer, here)?;
            let host = self.time(|| host_reads(&buffer))?;
            let new = Buffer::<u8, _>::with_capacity(bytes, &self.stream, ManagedResource::new(&self.device)?)?;
            let fresh = self.time(|| {
                let _ = cumem::unified::hints::prefetch(new.block(), 0..bytes, here, &self.stream)?;
                Ok(self.stream.synchronize()?)
            })?;
            if repetition > 0 {
                let row = [all, call, resident, fresh, down, fill, thread, host];
                times.iter_mut().zip(row).for_each(|(times, time)| times.push(time));
            }
        }
        Ok(times)
    }

    /// Lets the device and the host read the first byte of a 2 MiB buffer in turn, without pauses, and returns the
    /// nanoseconds of each read. The driver treats this as thrashing.
    pub(crate) fn fight(&self, turns: usize) -> Outcome<Vec<[u64; 2]>> {
        let mut buffer = self.zeroed(2 << 20)?;
        self.move_to(&buffer, Location::Host)?;
        // SAFETY: it is still as long as it was, and only its first byte is read.
        unsafe { buffer.set_len(1) };
        self.rest();
        let turn = |_| {
            let start = self.now();
            self.one_thread_reads(&buffer)?;
            let between = self.now();
            host_reads(&buffer)?;
            Ok([between - start, self.now() - between])
        };
        (0..turns).map(turn).collect()
    }

    fn zeroed(&self, bytes: usize) -> Outcome<Unified> {
        let buffer = Buffer::zeroed(bytes, &self.stream, ManagedResource::new(&self.device)?)?;
        self.stream.synchronize()?;
        Ok(buffer)
    }

    fn move_to(&self, buffer: &Unified, to: Location) -> Outcome<()> {
        let _ = buffer.prefetch(to)?;
        Ok(self.stream.synchronize()?)
    }

    /// Sets the whole buffer to zero on the device.
    fn fill(&self, buffer: &mut Unified) -> Outcome<()> {
        let len = buffer.len();
        // SAFETY: no element is left.
        unsafe { buffer.set_len(0) };
        buffer.resize(len)?;
        Ok(self.stream.synchronize()?)
    }

    fn one_thread_reads(&self, buffer: &Unified) -> Outcome<()> {
        let (addr, len) = (buffer.device_address(), buffer.len());
        match &self.touch {
            Some(touch) => {
                let args = [KernelArg::new(addr), KernelArg::new(len as u64), KernelArg::new(PAGE as u64)];
                // SAFETY: the kernel takes an address, a length and a stride, and reads within the buffer, which
                // outlives it.
                unsafe { self.stream.launch_kernel(touch, LaunchConfig::for_elements(1, 1), &args) }?;
            }
            // SAFETY: the buffer is initialised, outlives the wait, and is only read.
            None => unsafe { self.stream.launch_host(HostKernel::new("touch", |_| ()).reads(addr, len)) }?,
        }
        Ok(self.stream.synchronize()?)
    }
}

/// Reads one byte of each page.
fn host_reads(buffer: &Unified) -> Outcome<()> {
    let bytes = buffer.host_read()?;
    let sum = bytes.iter().step_by(PAGE).fold(0, |sum: u64, byte| sum + u64::from(*byte));
    match sum {
        0 => Ok(()),
        _ => Err("the buffer was zeroed, and holds something else".into()),
    }
}
