//! Captures and graphs: what a captured stream refuses, and the work of a graph at each launch.
//!
//! What is refused, and with which code, was measured on an H200 (`sim/facts/capture.c` and its output beside it).
//! The model of the calls is that of a thread in relaxed mode, because the library makes its calls in that mode.
#![forbid(unsafe_code)]

use super::capture::{Capture, CapturedKernel, CapturedPoint, Graph, GraphExec, Membership, Node, Work};
use super::cost::ns;
use super::events::EventState;
use super::handles::Key;
use super::injection::FaultCall;
use super::machine::Machine;
use super::operation::StreamPoint;
use super::state::MachineState;
use super::streams::StreamState;
use cumem_driver::panics::drop_caught;
use cumem_driver::{
    CaptureMode, CaptureState, CudaErrorCode, DriverError, HostKernel, RawGraph, RawGraphExec, RawStream,
};
use smallvec::SmallVec;
use std::sync::atomic::Ordering;
use std::thread;

type Result<T> = std::result::Result<T, DriverError>;

impl MachineState {
    /// Returns the place of a stream in its capture, if the stream is being captured.
    pub(super) fn membership(&self, key: Key) -> Option<Membership> {
        self.streams.get(key)?.captured
    }

    /// Returns the place of a stream in its capture, for a call that enqueues work. Fails if the capture was invalidated.
    pub(super) fn captured(&self, d: u32, key: Key, call: &'static str) -> Result<Option<Membership>> {
        let Some(member) = self.membership(key) else { return Ok(None) };
        match self.captures.get(member.capture) {
            Some(capture) if capture.invalidated => Err(self.code(d, call, CudaErrorCode::STREAM_CAPTURE_INVALIDATED)),
            _ => Ok(Some(member)),
        }
    }

    /// Adds work to a capture.
    pub(super) fn add_to_capture(&mut self, member: Membership, work: Work) {
        if let Some(capture) = self.captures.get_mut(member.capture) {
            capture.add(member.branch, work);
        }
    }

    /// Returns the error for a call that a capture forbids. The capture is invalidated.
    #[cold]
    pub(super) fn forbidden(&mut self, d: u32, call: &'static str, capture: Key, code: CudaErrorCode) -> DriverError {
        if let Some(capture) = self.captures.get_mut(capture) {
            capture.invalidated = true;
        }
        self.code(d, call, code)
    }

    /// Refuses a call on a captured stream.
    pub(super) fn not_captured(&mut self, d: u32, key: Key, call: &'static str) -> Result<()> {
        match self.captured(d, key, call)? {
            None => Ok(()),
            Some(member) => Err(self.forbidden(d, call, member.capture, CudaErrorCode::STREAM_CAPTURE_UNSUPPORTED)),
        }
    }

    /// Refuses a call that concerns all streams of a device while one of them is captured.
    pub(super) fn nothing_captured(&mut self, d: u32, call: &'static str) -> Result<()> {
        let of_device = self.captures.iter().filter(|(_, capture)| capture.device == d).map(|(key, _)| key);
        self.none_of(d, of_device.collect(), call, CudaErrorCode::STREAM_CAPTURE_UNSUPPORTED)
    }

    /// Refuses a use of the legacy default stream while a stream that it waits for is captured.
    pub(super) fn legacy_is_usable(&mut self, d: u32, call: &'static str) -> Result<()> {
        let waited = self.streams.iter().filter(|(_, stream)| stream.device == d && stream.blocking);
        let captured = waited.filter_map(|(_, stream)| Some(stream.captured?.capture));
        self.none_of(d, captured.collect(), call, CudaErrorCode::STREAM_CAPTURE_IMPLICIT)
    }

    fn none_of(&mut self, d: u32, captures: Vec<Key>, call: &'static str, code: CudaErrorCode) -> Result<()> {
        let mut refused = Ok(());
        for capture in captures {
            refused = Err(self.forbidden(d, call, capture, code));
        }
        refused
    }

    /// Refuses a wait of the host for an event that was recorded within a capture.
    pub(super) fn event_not_captured(&mut self, d: u32, event: Key, call: &'static str) -> Result<()> {
        match self.events.get(event).and_then(|event| event.captured) {
            None => Ok(()),
            Some(point) => Err(match self.captures.get(point.capture) {
                Some(_) => self.forbidden(d, call, point.capture, CudaErrorCode::CAPTURED_EVENT),
                None => self.code(d, call, CudaErrorCode::INVALID_VALUE),
            }),
        }
    }

    /// Records an event within a capture. Returns false if the stream is not captured.
    pub(super) fn record_captured(&mut self, d: u32, event: Key, stream: Key, call: &'static str) -> Result<bool> {
        let member = self.captured(d, stream, call)?;
        let point = member.and_then(|Membership { capture, branch }| {
            let mark = self.captures.get_mut(capture)?.mark(branch);
            Some(CapturedPoint { capture, mark })
        });
        if let Some(event) = self.events.get_mut(event) {
            event.captured = point;
        }
        Ok(point.is_some())
    }

    /// Makes a stream wait for an event within a capture. Returns false if neither of them is captured.
    pub(super) fn wait_captured(&mut self, d: u32, stream: Key, event: Key, call: &'static str) -> Result<bool> {
        let member = self.captured(d, stream, call)?;
        let Some(point) = self.events.get(event).and_then(|event| event.captured) else {
            return match member {
                None => Ok(false),
                Some(member) => Err(self.forbidden(d, call, member.capture, CudaErrorCode::STREAM_CAPTURE_ISOLATION)),
            };
        };
        if self.captures.get(point.capture).is_none() {
            return Err(self.code(d, call, CudaErrorCode::INVALID_VALUE));
        }
        if stream == self.devices[d as usize].legacy {
            return Err(self.forbidden(d, call, point.capture, CudaErrorCode::STREAM_CAPTURE_IMPLICIT));
        }
        match member {
            Some(member) if member.capture != point.capture => {
                let code = CudaErrorCode::STREAM_CAPTURE_MERGE;
                self.forbidden(d, call, member.capture, code);
                return Err(self.forbidden(d, call, point.capture, code));
            }
            _ => {}
        }
        let Some(capture) = self.captures.get_mut(point.capture) else { return Ok(false) };
        let branch = member.map_or_else(|| capture.add_branch(stream), |member| member.branch);
        capture.join(branch, point.mark);
        if let Some(stream) = self.streams.get_mut(stream) {
            stream.captured = Some(Membership { capture: point.capture, branch });
        }
        Ok(true)
    }

    /// Ends a capture: its streams execute their work again.
    fn remove_capture(&mut self, key: Key) -> Option<Capture> {
        let capture = self.captures.remove(key)?;
        for branch in &capture.branches {
            if let Some(stream) = self.streams.get_mut(branch.stream) {
                stream.captured = None;
            }
        }
        Some(capture)
    }

    /// Drops the capture of a stream that is destroyed.
    pub(super) fn end_captures_of(&mut self, stream: Key) {
        if let Some(capture) = self.membership(stream).and_then(|member| self.remove_capture(member.capture)) {
            self.drop_later(capture.nodes);
        }
    }

    /// Drops a value that may own closures of the program, after the lock is released.
    fn drop_later<T: Send + 'static>(&self, value: T) {
        self.outbox.post(move || drop_caught(value));
    }

    /// Captures a kernel, whose closure runs at each launch of the graph.
    pub(super) fn capture_kernel(&mut self, d: u32, member: Membership, kernel: HostKernel) -> Result<()> {
        let captured = CapturedKernel::new(&kernel);
        let name = kernel.name;
        self.drop_later(kernel);
        let Some(captured) = captured else {
            let message = format!(
                "kernel {name} cannot be captured, because its closure runs only once: create it with \
                 `HostKernel::repeatable`"
            );
            return Err(self.simulation(d, message));
        };
        self.add_to_capture(member, Work::Kernel(Box::new(captured)));
        Ok(())
    }

    fn graph(&self, d: u32, raw: RawGraph, call: &'static str) -> Result<Key> {
        let key = Key::from_handle(raw.0).filter(|key| self.graphs.get(*key).is_some_and(|graph| graph.device == d));
        key.ok_or_else(|| self.code(d, call, CudaErrorCode::INVALID_VALUE))
    }

    fn graph_exec(&self, d: u32, raw: RawGraphExec, call: &'static str) -> Result<Key> {
        let of_device = |key: &Key| self.graph_execs.get(*key).is_some_and(|exec| exec.graph.device == d);
        let key = Key::from_handle(raw.0).filter(of_device);
        key.ok_or_else(|| self.code(d, call, CudaErrorCode::INVALID_VALUE))
    }

    /// Enqueues the work of a graph. An error of one step does not keep the others from running, as on a device.
    fn replay(&mut self, d: u32, graph: &Graph, streams: &[Key]) {
        let no_mark = EventState { device: d, timing: false, points: SmallVec::new(), reached: None, captured: None };
        let mut marks: Vec<Key> = Vec::with_capacity(graph.marks);
        for Node { branch, work } in &*graph.nodes {
            let key = streams[*branch];
            let submitted = match work {
                Work::Copy { dst, src, bytes } => self.submit_copy(d, key, *dst, *src, *bytes),
                Work::Fill { dst, value, bytes } => self.submit_fill(d, key, *dst, *value, *bytes),
                Work::Kernel(kernel) => self.submit_kernel(d, key, kernel.kernel()),
                Work::Mark => {
                    let seq = self.streams.get(key).map_or(0, |stream| stream.submitted);
                    let points = SmallVec::from_elem(StreamPoint { stream: key, seq }, 1);
                    let mark = self.events.insert(EventState { points, ..no_mark.clone() });
                    self.race_event_recorded(mark, key);
                    marks.push(mark);
                    Ok(())
                }
                Work::Join(mark) => {
                    let mark = marks[*mark];
                    let points = self.events.get(mark).map(|mark| mark.points.clone()).unwrap_or_default();
                    self.race_event_waited(Some(key), mark);
                    points.into_iter().for_each(|point| self.enqueue_wait(key, point));
                    Ok(())
                }
            };
            submitted.unwrap_or_else(|error| self.fail_work(d, error));
        }
        for mark in marks {
            self.events.remove(mark);
            self.race_event_destroyed(mark);
        }
    }
}

impl Machine {
    pub(super) fn begin_capture(&self, d: u32, stream: RawStream, mode: CaptureMode) -> Result<()> {
        let call = "cuStreamBeginCapture";
        let mut state = self.begin_call(d, FaultCall::Capture, call, |p| ns(p.call_query))?;
        let key = state.stream(d, stream, call)?;
        if key == state.devices[d as usize].legacy {
            return Err(state.code(d, call, CudaErrorCode::STREAM_CAPTURE_UNSUPPORTED));
        }
        if state.membership(key).is_some() {
            return Err(state.code(d, call, CudaErrorCode::ILLEGAL_STATE));
        }
        self.captured.store(true, Ordering::Relaxed);
        let capture = state.captures.insert(Capture::new(d, key, thread::current().id(), mode));
        if let Some(stream) = state.streams.get_mut(key) {
            stream.captured = Some(Membership { capture, branch: 0 });
        }
        Ok(())
    }

    pub(super) fn end_capture(&self, d: u32, stream: RawStream) -> Result<RawGraph> {
        let call = "cuStreamEndCapture";
        let mut state = self.begin_call(d, FaultCall::Capture, call, |p| ns(p.call_query))?;
        let key = state.stream(d, stream, call)?;
        let Some(member) = state.membership(key) else {
            return Err(state.code(d, call, CudaErrorCode::ILLEGAL_STATE));
        };
        if member.branch != 0 {
            return Err(state.forbidden(d, call, member.capture, CudaErrorCode::STREAM_CAPTURE_UNMATCHED));
        }
        let Some(capture) = state.remove_capture(member.capture) else {
            return Err(state.code(d, call, CudaErrorCode::ILLEGAL_STATE));
        };
        let wrong_thread = capture.mode != CaptureMode::Relaxed && capture.thread != thread::current().id();
        let refused = match &capture {
            _ if wrong_thread => Some(CudaErrorCode::STREAM_CAPTURE_WRONG_THREAD),
            capture if capture.invalidated => Some(CudaErrorCode::STREAM_CAPTURE_INVALIDATED),
            capture if !capture.is_joined() => Some(CudaErrorCode::STREAM_CAPTURE_UNJOINED),
            _ => None,
        };
        match refused {
            None => Ok(RawGraph(state.graphs.insert(capture.into_graph()).handle())),
            Some(code) => {
                state.drop_later(capture.nodes);
                Err(state.code(d, call, code))
            }
        }
    }

    pub(super) fn capture_state(&self, d: u32, stream: RawStream) -> Result<CaptureState> {
        let call = "cuStreamGetCaptureInfo";
        let mut state = self.begin_query(d, call)?;
        let key = state.stream(d, stream, call)?;
        let Some(member) = state.membership(key) else { return Ok(CaptureState::None) };
        let invalidated = state.captures.get(member.capture).is_some_and(|capture| capture.invalidated);
        Ok(match invalidated {
            true => CaptureState::Invalidated,
            false => CaptureState::Active { id: member.capture.handle() },
        })
    }

    pub(super) fn destroy_graph(&self, d: u32, graph: RawGraph) -> Result<()> {
        let call = "cuGraphDestroy";
        let mut state = self.begin_call(d, FaultCall::Destroy, call, |p| ns(p.call_event))?;
        let key = state.graph(d, graph, call)?;
        let removed = state.graphs.remove(key);
        state.drop_later(removed);
        Ok(())
    }

    pub(super) fn instantiate_graph(&self, d: u32, graph: RawGraph) -> Result<RawGraphExec> {
        let call = "cuGraphInstantiateWithFlags";
        let mut state = self.begin_call(d, FaultCall::Capture, call, |p| ns(p.call_stream))?;
        let key = state.graph(d, graph, call)?;
        let Some(graph) = state.graphs.get(key).cloned() else {
            return Err(state.code(d, call, CudaErrorCode::INVALID_VALUE));
        };
        let streams = (1..graph.branches).map(|_| state.streams.insert(StreamState::internal(d))).collect();
        let exec = GraphExec { graph, streams, last: None };
        Ok(RawGraphExec(state.graph_execs.insert(exec).handle()))
    }

    pub(super) fn launch_graph(&self, d: u32, exec: RawGraphExec, stream: RawStream) -> Result<()> {
        let call = "cuGraphLaunch";
        let mut state = self.begin_call(d, FaultCall::Launch, call, |p| ns(p.call_launch))?;
        let key = state.stream(d, stream, call)?;
        state.not_captured(d, key, call)?;
        let exec = state.graph_exec(d, exec, call)?;
        let Some(GraphExec { graph, streams, last }) = state.graph_execs.get(exec) else { return Ok(()) };
        let (graph, last) = (graph.clone(), *last);
        let streams: Vec<_> = std::iter::once(key).chain(streams.iter().copied()).collect();
        state.order_with_legacy(d, key);
        if let Some(last) = last {
            state.race_stream_waits(key, last.stream);
            state.enqueue_wait(key, last);
        }
        state.replay(d, &graph, &streams);
        let end = StreamPoint { stream: key, seq: state.streams.get(key).map_or(0, |stream| stream.submitted) };
        if let Some(exec) = state.graph_execs.get_mut(exec) {
            exec.last = Some(end);
        }
        Ok(())
    }

    pub(super) fn destroy_graph_exec(&self, d: u32, exec: RawGraphExec) -> Result<()> {
        let call = "cuGraphExecDestroy";
        let mut state = self.begin_call(d, FaultCall::Destroy, call, |p| ns(p.call_event))?;
        let key = state.graph_exec(d, exec, call)?;
        let removed = state.graph_execs.remove(key);
        removed.iter().flat_map(|exec| &exec.streams).for_each(|stream| state.close_stream(*stream));
        state.drop_later(removed);
        Ok(())
    }
}
