//! [`ScrubState`]: when and with what memory is filled, and how much was.
#![forbid(unsafe_code)]

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// When a [`Scrub`](super::Scrub) fills blocks.
///
/// # Examples
///
/// ```
/// use cumem_adaptors::ScrubTime;
///
/// assert_eq!(ScrubTime::default(), ScrubTime::Free);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ScrubTime {
    /// Before a block is freed. Memory that the upstream keeps holds no bytes of its last owner.
    #[default]
    Free,
    /// After a block is allocated. Also covers memory that other code freed to the same upstream, or that the driver
    /// hands out for the first time. Memory that the upstream keeps has the bytes of its last owner.
    Allocate,
    /// At both times.
    Both,
}

impl ScrubTime {
    pub(super) fn on_free(self) -> bool {
        self != Self::Allocate
    }

    pub(super) fn on_allocate(self) -> bool {
        self != Self::Free
    }
}

/// The pattern of a [`Scrub`](super::Scrub), and counts of what it has filled.
///
/// # Examples
///
/// ```
/// use cumem::sim::Profile;
/// use cumem::{AnyResource, Buffer, CudaResource, Device, LayerExt, Stream};
/// use cumem_adaptors::{ResourceExt, ScrubState};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::simulated(Profile::default())?;
/// let stream = Stream::new(&device)?;
/// let stack = AnyResource::new(CudaResource::new(&device).scrub().statistics());
/// drop(Buffer::<u8, _>::zeroed(1000, &stream, &stack)?);
/// let state = stack.find::<ScrubState>().unwrap();
/// assert_eq!((state.pattern(), state.fills(), state.bytes()), (0, 1, 1000));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Default)]
pub struct ScrubState {
    pub(super) pattern: u8,
    pub(super) time: ScrubTime,
    fills: AtomicU64,
    bytes: AtomicU64,
}

impl ScrubState {
    /// Returns the byte that blocks are filled with.
    pub fn pattern(&self) -> u8 {
        self.pattern
    }

    /// Returns when blocks are filled.
    pub fn time(&self) -> ScrubTime {
        self.time
    }

    /// Returns the number of fills that were enqueued.
    pub fn fills(&self) -> u64 {
        self.fills.load(Relaxed)
    }

    /// Returns the bytes of those fills.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }

    pub(super) fn count(&self, bytes: usize) {
        if bytes > 0 {
            self.fills.fetch_add(1, Relaxed);
            self.bytes.fetch_add(bytes as u64, Relaxed);
        }
    }

    pub(super) fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pattern = (self.pattern != 0).then(|| format!("pattern={}", self.pattern));
        let time = match self.time {
            ScrubTime::Free => None,
            ScrubTime::Allocate => Some("at=allocate".to_owned()),
            ScrubTime::Both => Some("at=both".to_owned()),
        };
        let options: Vec<String> = pattern.into_iter().chain(time).collect();
        match options.is_empty() {
            true => f.write_str("scrub"),
            false => write!(f, "scrub({})", options.join(", ")),
        }
    }
}
