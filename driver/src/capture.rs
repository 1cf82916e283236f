//! The capture of a stream into a graph: its mode and its state, as plain data.
#![forbid(unsafe_code)]

/// Which calls of other code are refused while a stream is being captured (`CUstreamCaptureMode`).
///
/// Some calls could wait for work that is only captured, for example `cuMemAlloc`. The driver refuses them, and ends the
/// capture with an error. The calls of this library are always allowed, because it makes them in the mode that CUDA
/// calls relaxed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum CaptureMode {
    /// Such calls are refused in all threads.
    #[default]
    Global,
    /// Such calls are refused in the thread that began the capture.
    ThreadLocal,
    /// Such calls are allowed.
    Relaxed,
}

/// Whether a stream is being captured (`CUstreamCaptureStatus`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CaptureState {
    /// The stream executes its work.
    None,
    /// Work that is enqueued on the stream becomes part of a graph, and is not executed.
    Active {
        /// The driver's number of the capture. No two captures of a process have the same number.
        id: u64,
    },
    /// A forbidden call made the capture fail. Work is refused until the capture is ended.
    Invalidated,
}
