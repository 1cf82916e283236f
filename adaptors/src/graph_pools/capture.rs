//! [`PooledCapture`] and [`PooledGraph`]: a capture and a graph with a private pool.

use super::error::GraphPoolError;
use super::id::GraphPoolId;
use super::state::{GraphPoolsState, Shared};
use cumem::kernel::{Capture, CaptureMode, CaptureState, Graph};
use cumem::{DeviceError, Stream};
use std::sync::Arc;

/// A stream that is captured, and whose allocations come from a private pool. Dropping it discards the captured work.
///
/// # Examples
///
/// See [`GraphPools`](super::GraphPools).
#[derive(Debug)]
#[must_use = "dropping a capture discards the captured work"]
pub struct PooledCapture<'s> {
    // In this order: the pool is held until the captured work is gone.
    capture: Capture<'s>,
    hold: Hold,
}

/// Captured work, and the hold of its memory. Dropping the graph releases the memory.
///
/// # Examples
///
/// See [`GraphPools`](super::GraphPools).
#[derive(Debug)]
pub struct PooledGraph {
    // In this order: the pool is held until the graph is gone.
    graph: Graph,
    hold: Hold,
}

/// The hold of one capture on its private pool.
#[derive(Debug)]
struct Hold {
    pools: Arc<Shared>,
    id: GraphPoolId,
    open: bool,
}

impl GraphPoolsState {
    /// Begins to capture a stream. Until the end of the capture, allocations on this stream, and on the streams that join
    /// the capture, come from the private pool `id`.
    ///
    /// # Errors
    ///
    /// Returns [`GraphPoolError::Device`] with the errors of [`Stream::begin_capture`], and otherwise the errors of
    /// [`begin`](Self::begin).
    ///
    /// # Safety
    ///
    /// As for [`Stream::begin_capture`].
    ///
    /// # Examples
    ///
    /// See [`GraphPools`](super::GraphPools).
    pub unsafe fn capture<'s>(
        &self,
        stream: &'s Stream,
        mode: CaptureMode,
        id: GraphPoolId,
    ) -> Result<PooledCapture<'s>, GraphPoolError> {
        // SAFETY: the caller ensures the same.
        let capture = unsafe { stream.begin_capture(mode) }?;
        let this = stream.capture_state()?;
        self.0.begin(id, Arc::new(move |stream: &Stream| is_in(stream, this)))?;
        Ok(PooledCapture { capture, hold: Hold { pools: Arc::clone(&self.0), id, open: true } })
    }
}

/// Reports whether a stream is part of the capture with the state `capture`.
fn is_in(stream: &Stream, capture: CaptureState) -> bool {
    stream.capture_state().is_ok_and(|state| state == capture)
}

impl PooledCapture<'_> {
    /// Ends the capture, and returns the captured work.
    ///
    /// # Errors
    ///
    /// As [`Capture::end`]. The memory of the capture is released.
    ///
    /// # Examples
    ///
    /// See [`GraphPools`](super::GraphPools).
    pub fn end(self) -> Result<PooledGraph, DeviceError> {
        let Self { capture, mut hold } = self;
        let graph = capture.end()?;
        hold.close();
        Ok(PooledGraph { graph, hold })
    }
}

impl PooledGraph {
    /// Launches the captured work on a stream.
    ///
    /// # Errors
    ///
    /// As [`Graph::launch`].
    ///
    /// # Safety
    ///
    /// As for [`Graph::launch`]. Memory of the private pool stays allocated as long as this object exists. Another graph
    /// of the same private pool must not run at the same time.
    ///
    /// # Examples
    ///
    /// See [`GraphPools`](super::GraphPools).
    pub unsafe fn launch(&self, stream: &Stream) -> Result<(), DeviceError> {
        // SAFETY: the caller ensures the same.
        unsafe { self.graph.launch(stream) }
    }

    /// Returns the graph.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Returns the name of the private pool. A later capture with this name uses the memory again.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::kernel::CaptureMode;
    /// # use cumem::sim::Profile;
    /// # use cumem::{CudaResource, Device, Stream};
    /// # use cumem_adaptors::ResourceExt;
    /// # use cumem_adaptors::graph_pools::GraphPoolId;
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// let stack = CudaResource::new(&device).graph_pools();
    /// let id = GraphPoolId::unique();
    /// // SAFETY: the program enqueues no work.
    /// let graph = unsafe { stack.state().capture(&stream, CaptureMode::Global, id) }?.end()?;
    /// assert_eq!(graph.pool(), id);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn pool(&self) -> GraphPoolId {
        self.hold.id
    }
}

impl Hold {
    /// Ends the allocation from the private pool.
    fn close(&mut self) {
        if std::mem::take(&mut self.open) {
            // It was begun, and only this object ends it.
            let _ended = self.pools.end(self.id);
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.close();
        // It was held, and only this object releases it.
        let _released = self.pools.release(self.id);
    }
}
