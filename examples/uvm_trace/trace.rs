//! Access orders from text, and the faults and transfers that the simulated driver makes of them.

use cumem::kernel::{AccessMode, HostKernel};
use cumem::sim::{JournalEvent, Profile};
use cumem::{AllocError, Buffer, Device, DeviceError, Location, ManagedResource, Stream};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// Accesses are so far apart that none of them is taken for thrashing, as in the recorded programs, which wait
/// after each: the driver's window is half a millisecond.
const PAUSE: Duration = Duration::from_millis(1);

/// A line that cannot be read, or whose access failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TraceError {
    /// The line cannot be read.
    #[error("line {line}: {problem}")]
    Malformed { line: usize, problem: String },
    /// The simulated driver refused the allocation.
    #[error("line {line}: the allocation failed")]
    Allocation { line: usize, source: AllocError },
    /// The simulated driver refused the access.
    #[error("line {line}: the access failed")]
    Access { line: usize, source: DeviceError },
    /// The device does not exist.
    #[error("the simulated device could not be created")]
    Device(#[from] DeviceError),
}

/// The processor that accesses memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Processor {
    Cpu,
    Gpu0,
}

impl fmt::Display for Processor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cpu => "cpu",
            Self::Gpu0 => "gpu0",
        })
    }
}

/// The content of one line.
#[derive(Debug)]
enum Step {
    Alloc {
        bytes: usize,
    },
    /// `bytes` bytes from `offset` of allocation number `of`; every page of them, ascending.
    Access {
        by: Processor,
        of: usize,
        offset: usize,
        bytes: usize,
        mode: AccessMode,
    },
}

/// An access order: allocations and accesses.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    steps: Vec<(usize, Step)>,
    /// Names and sizes of the allocations, in order.
    names: Vec<(String, usize)>,
}

/// A fault or a transfer; `of` is the allocation's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// A processor touched a page that it could not reach.
    Fault { by: Processor, of: String, offset: u64 },
    /// Pages were copied.
    Transfer { to_device: bool, of: String, offset: u64, bytes: u64 },
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fault { by, of, offset } => write!(f, "fault,{by},{of},{offset}"),
            Self::Transfer { to_device, of, offset, bytes } => {
                let direction = if *to_device { "h2d" } else { "d2h" };
                write!(f, "transfer,{direction},{of},{offset},{bytes}")
            }
        }
    }
}

/// Counts over all events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Totals {
    pub(crate) cpu_faults: u64,
    pub(crate) gpu_faults: u64,
    pub(crate) h2d_transfers: u64,
    pub(crate) h2d_bytes: u64,
    pub(crate) d2h_transfers: u64,
    pub(crate) d2h_bytes: u64,
}

impl Totals {
    /// Counts.
    pub(crate) fn of(events: &[Event]) -> Self {
        let mut totals = Self::default();
        for event in events {
            match event {
                Event::Fault { by: Processor::Cpu, .. } => totals.cpu_faults += 1,
                Event::Fault { by: Processor::Gpu0, .. } => totals.gpu_faults += 1,
                Event::Transfer { to_device: true, bytes, .. } => {
                    totals.h2d_transfers += 1;
                    totals.h2d_bytes += bytes;
                }
                Event::Transfer { to_device: false, bytes, .. } => {
                    totals.d2h_transfers += 1;
                    totals.d2h_bytes += bytes;
                }
            }
        }
        totals
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "total,faults,gpu0,{}", self.gpu_faults)?;
        writeln!(f, "total,faults,cpu,{}", self.cpu_faults)?;
        writeln!(f, "total,transfers,h2d,{},{}", self.h2d_transfers, self.h2d_bytes)?;
        write!(f, "total,transfers,d2h,{},{}", self.d2h_transfers, self.d2h_bytes)
    }
}

impl Trace {
    /// Reads `alloc,NAME,BYTES` and `access,PROCESSOR,NAME,OFFSET,BYTES,read|write`; blank lines and what follows
    /// a `#` mean nothing.
    pub(crate) fn parse(text: &str) -> Result<Self, TraceError> {
        let mut trace = Self::default();
        // Some editors write a byte order mark at the start of a file.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        for (i, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default().trim();
            if !line.is_empty() {
                let step = trace.step(line).map_err(|problem| TraceError::Malformed { line: i + 1, problem })?;
                trace.steps.push((i + 1, step));
            }
        }
        Ok(trace)
    }

    fn step(&mut self, line: &str) -> Result<Step, String> {
        let fields: Vec<_> = line.split(',').map(str::trim).collect();
        match fields[..] {
            ["alloc", name, bytes] => {
                let bytes = number("BYTES", bytes)?;
                if name.is_empty() || self.names.iter().any(|(known, _)| known == name) {
                    return Err(format!("`{name}` is no new name for an allocation"));
                }
                if bytes == 0 {
                    return Err("an allocation has at least 1 byte".into());
                }
                self.names.push((name.into(), bytes));
                Ok(Step::Alloc { bytes })
            }
            ["access", by, name, offset, bytes, mode] => {
                let by = match by {
                    "cpu" => Processor::Cpu,
                    "gpu0" => Processor::Gpu0,
                    other => return Err(format!("`{other}` is no processor: expected cpu or gpu0")),
                };
                let mode = match mode {
                    "read" => AccessMode::Read,
                    "write" => AccessMode::Write,
                    other => return Err(format!("`{other}` is no access: expected read or write")),
                };
                let (offset, bytes) = (number("OFFSET", offset)?, number("BYTES", bytes)?);
                let of = self.names.iter().position(|(known, _)| known == name);
                let of = of.ok_or_else(|| format!("`{name}` was not allocated before"))?;
                let size = self.names[of].1;
                if bytes == 0 {
                    return Err("an access has at least 1 byte".into());
                }
                if bytes > size.saturating_sub(offset) {
                    return Err(format!("{bytes} bytes at {offset} are not within the {size} bytes of `{name}`"));
                }
                Ok(Step::Access { by, of, offset, bytes, mode })
            }
            [kind @ ("alloc" | "access"), ..] => {
                let expected = if kind == "alloc" { 3 } else { 6 };
                Err(format!("`{kind}` has {expected} fields, not {}", fields.len()))
            }
            _ => Err(format!("`{}` is no kind of line: expected alloc or access", fields[0])),
        }
    }

    /// Executes the accesses one after the other on a device of this profile.
    pub(crate) fn run(&self, profile: Profile) -> Result<Vec<Event>, TraceError> {
        self.run_on(&Device::simulated(profile).map_err(DeviceError::from)?)
    }

    /// Executes the accesses on a simulated device.
    pub(crate) fn run_on(&self, device: &Device) -> Result<Vec<Event>, TraceError> {
        let stream = Stream::new(device).map_err(DeviceError::from)?;
        let resource = ManagedResource::new(device).map_err(DeviceError::from)?;
        let simulator = device.simulator().expect("the device was made by one");
        simulator.record(true);
        let mut buffers: Vec<Buffer<u8, &ManagedResource>> = Vec::new();
        let mut names = BTreeMap::new();
        let mut events = Vec::new();
        for (line, step) in &self.steps {
            let line = *line;
            match *step {
                Step::Alloc { bytes } => {
                    let buffer = Buffer::with_capacity(bytes, &stream, &resource);
                    buffers.push(buffer.map_err(|source| TraceError::Allocation { line, source })?);
                }
                Step::Access { by, of, offset, bytes, mode } => {
                    let accessed = access(device, &stream, &buffers[of], by, offset..offset + bytes, mode);
                    accessed.map_err(|source| TraceError::Access { line, source })?;
                }
            }
            for record in simulator.take_records() {
                match record.event {
                    JournalEvent::Allocated { allocation, .. } => {
                        names.insert(allocation, self.names[buffers.len() - 1].0.clone());
                    }
                    JournalEvent::Fault { by, allocation, offset } => {
                        let by = if by == Location::Host { Processor::Cpu } else { Processor::Gpu0 };
                        events.push(Event::Fault { by, of: names[&allocation].clone(), offset });
                    }
                    JournalEvent::Transfer { to, allocation, offset, bytes, .. } => {
                        let (to_device, of) = (to != Location::Host, names[&allocation].clone());
                        events.push(Event::Transfer { to_device, of, offset, bytes });
                    }
                    _ => {}
                }
            }
        }
        Ok(events)
    }
}

fn access(
    device: &Device,
    stream: &Stream,
    buffer: &Buffer<u8, &ManagedResource>,
    by: Processor,
    range: std::ops::Range<usize>,
    mode: AccessMode,
) -> Result<(), DeviceError> {
    let simulator = device.simulator().expect("the device was made by one");
    simulator.pass_time(PAUSE);
    if by == Processor::Cpu {
        let start = buffer.as_ptr().wrapping_add(range.start);
        return Ok(simulator.access_from_host(start, range.len(), mode)?);
    }
    let addr = buffer.device_address() + range.start as u64;
    let kernel = HostKernel::new("access", |_| ());
    let kernel = match mode {
        AccessMode::Read => kernel.reads(addr, range.len()),
        AccessMode::Write => kernel.writes(addr, range.len()),
    };
    // SAFETY: the buffer lives until after the wait, and the kernel accesses no byte.
    unsafe { stream.launch_host(kernel) }?;
    stream.synchronize()
}

fn number(what: &str, text: &str) -> Result<usize, String> {
    text.parse().map_err(|_| format!("{what} is `{text}`: expected a decimal number of bytes below 2^64"))
}
