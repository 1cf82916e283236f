//! The discrete-event simulation: when each operation starts and ends.
//!
//! An operation starts when it is the first of its stream, the work that it waits for is done, and its engine is free.
//! At its start its duration is computed and pages migrate. At its end its effects on bytes are applied.
#![forbid(unsafe_code)]

use super::agenda::{Engine, StepResult};
use super::handles::Key;
use super::journal::JournalEvent;
use super::operation::{Action, Completion, EngineKind, Operation, StreamPoint};
use super::state::MachineState;
use super::streams::StreamState;
use cumem_driver::Location;

impl MachineState {
    /// Appends an operation to a stream. It starts at `ready` at the earliest. Returns the point at which it is done.
    pub(super) fn enqueue(&mut self, key: Key, ready: u64, name: &'static str, action: Action) -> StreamPoint {
        let Some(stream) = self.streams.get_mut(key) else { return StreamPoint { stream: key, seq: 0 } };
        stream.queue.push_back(Operation { ready, name, action });
        stream.submitted += 1;
        let (point, device) = (StreamPoint { stream: key, seq: stream.submitted }, stream.device);
        if !std::mem::replace(&mut stream.engaged, true) {
            self.agenda.add(ready, false, key);
        }
        self.device(device).outstanding += 1;
        point
    }

    /// Destroys a stream. Work that is still enqueued completes first.
    pub(super) fn close_stream(&mut self, key: Key) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        stream.closing = true;
        if stream.is_idle() {
            self.streams.remove(key);
            self.race_stream_ended(key);
        }
    }

    /// Makes the later work of a stream wait for `point`, unless it is reached already.
    pub(super) fn enqueue_wait(&mut self, key: Key, point: StreamPoint) {
        if point.stream != key && !self.streams.passed(point) {
            let now = self.now;
            self.enqueue(key, now, "cuStreamWaitEvent", Action::Wait(point));
        }
    }

    /// Orders the next work of stream `key` by the rules of the legacy default stream: that stream waits for all
    /// blocking streams of the device, and they wait for it.
    pub(super) fn order_with_legacy(&mut self, d: u32, key: Key) {
        let legacy = self.devices[d as usize].legacy;
        if key != legacy {
            let blocking = self.streams.get(key).is_some_and(|stream| stream.blocking);
            if blocking {
                self.race_stream_waits(key, legacy);
            }
            if blocking && let Some(stream) = self.streams.get(legacy).filter(|stream| !stream.is_idle()) {
                let point = StreamPoint { stream: legacy, seq: stream.submitted };
                self.enqueue_wait(key, point);
            }
            return;
        }
        if self.races.is_some() {
            let blocking = |stream: &StreamState| stream.device == d && stream.blocking;
            let waited: Vec<_> = self.streams.iter().filter(|(_, s)| blocking(s)).map(|(stream, _)| stream).collect();
            waited.into_iter().for_each(|stream| self.race_stream_waits(key, stream));
        }
        let points: Vec<StreamPoint> = self.busy_blocking(d).collect();
        for point in points {
            self.enqueue_wait(key, point);
        }
    }

    /// Returns the points that the legacy default stream of a device would have to wait for.
    fn busy_blocking(&self, d: u32) -> impl Iterator<Item = StreamPoint> {
        let busy = self.streams.iter().filter(move |(_, s)| s.device == d && s.blocking && !s.is_idle());
        busy.map(|(stream, state)| StreamPoint { stream, seq: state.submitted })
    }

    /// Reports whether a stream has no work left. The legacy default stream has work as long as a blocking stream of
    /// the device has (measured on an H200, driver 580.159: tests/cuda_driver/launch.rs).
    pub(super) fn is_idle(&self, d: u32, key: Key) -> bool {
        let idle = self.streams.get(key).is_none_or(|stream| stream.is_idle());
        idle && (key != self.devices[d as usize].legacy || self.busy_blocking(d).next().is_none())
    }

    /// Reports whether the next step would run the Rust code of a kernel, or drop it.
    pub(super) fn next_is_kernel(&self) -> bool {
        let next = self.agenda.next_end().and_then(|stream| self.streams.get(stream)?.queue.front());
        next.is_some_and(|operation| operation.action.is_kernel())
    }

    /// Makes the next step if it is due by `limit`.
    pub(super) fn step(&mut self, limit: u64) -> StepResult {
        let Some((at, end, stream)) = self.agenda.pop(limit) else { return StepResult::NothingDue };
        self.time = self.time.max(at);
        let Some(key) = stream else { return StepResult::Done };
        match end {
            false => {
                self.advance(key);
                StepResult::Done
            }
            true => self.end(key),
        }
    }

    /// Advances a stream until its first operation starts or has to wait.
    fn advance(&mut self, key: Key) {
        while let Some(stream) = self.streams.get_mut(key) {
            let device = stream.device;
            let Some(operation) = stream.queue.front() else {
                stream.engaged = false;
                if stream.closing {
                    self.streams.remove(key);
                    self.race_stream_ended(key);
                }
                return;
            };
            if operation.ready > self.time {
                self.agenda.add(operation.ready, false, key);
                return;
            }
            match &operation.action {
                Action::Wait(point) => {
                    let point = *point;
                    if !self.streams.passed(point) {
                        if let Some(other) = self.streams.get_mut(point.stream) {
                            other.waiters.push((point.seq, key));
                        }
                        return;
                    }
                }
                Action::Record(event) => {
                    let (event, time) = (*event, self.time);
                    let point = StreamPoint { stream: key, seq: stream.completed + 1 };
                    // An event that was recorded again since ignores this record.
                    if let Some(event) = self.events.get_mut(event).filter(|event| event.points[..] == [point]) {
                        event.reached = Some(time);
                    }
                }
                work => {
                    let kind = work.engine();
                    let engine = self.engine(device, kind);
                    match engine.busy {
                        true => engine.waiting.push_back(key),
                        false => self.start(key, device, kind),
                    }
                    return;
                }
            }
            self.complete(key);
        }
    }

    fn engine(&mut self, d: u32, kind: EngineKind) -> &mut Engine {
        let shared = self.profile(d).copy_engines < 2;
        let kind = if shared && kind == EngineKind::ToHost { EngineKind::ToDevice } else { kind };
        &mut self.device(d).engines[kind as usize]
    }

    fn start(&mut self, key: Key, d: u32, kind: EngineKind) {
        self.engine(d, kind).busy = true;
        let Some(mut operation) = self.streams.get_mut(key).and_then(|stream| stream.queue.pop_front()) else { return };
        let device = Location::Device(self.devices[d as usize].id);
        self.journal.add(self.time, JournalEvent::Started { device, operation: operation.name });
        let duration = match self.start_effects(d, &operation) {
            Ok(duration) => duration,
            Err(error) => {
                // Only this operation fails. The rest of the stream runs, because the device stays usable.
                self.fail_work(d, error);
                let unused = match std::mem::replace(&mut operation.action, Action::Failed(kind, None)) {
                    Action::Kernel { kernel, .. } => Some(kernel),
                    _ => None,
                };
                operation.action = Action::Failed(kind, unused);
                0
            }
        };
        self.journal.mix(self.time);
        self.journal.mix(duration);
        if let Some(stream) = self.streams.get_mut(key) {
            stream.queue.push_front(operation);
        }
        self.agenda.add(self.time + duration, true, key);
    }

    /// Ends the first operation of a stream, whose duration is over.
    fn end(&mut self, key: Key) -> StepResult {
        let Some(stream) = self.streams.get_mut(key) else { return StepResult::Done };
        let d = stream.device;
        let Some(operation) = stream.queue.front_mut() else { return StepResult::Done };
        let kind = operation.action.engine();
        let action = std::mem::replace(&mut operation.action, Action::Failed(kind, None));
        match self.end_effects(d, action) {
            Completion::Done => {}
            Completion::Kernel(kernel) => return StepResult::Kernel { stream: key, kernel },
            Completion::Failed(error) => self.fail_work(d, error),
            Completion::Discarded(kernel, error) => {
                error.into_iter().for_each(|error| self.fail_work(d, error));
                self.finish(key);
                return StepResult::Discard(kernel);
            }
        }
        self.finish(key);
        StepResult::Done
    }

    /// Ends a kernel that has run. `result` holds the message if it panicked.
    pub(super) fn kernel_ended(&mut self, key: Key, name: &str, result: Result<(), String>) {
        if let (Err(panic), Some(d)) = (result, self.streams.get(key).map(|stream| stream.device)) {
            let error = self.simulation(d, format!("kernel {name} panicked: {panic}"));
            self.fail_work(d, error);
        }
        self.finish(key);
    }

    /// Frees the engine for the next stream, and advances this stream.
    fn finish(&mut self, key: Key) {
        let Some(stream) = self.streams.get(key) else { return };
        let d = stream.device;
        if let Some(operation) = stream.queue.front() {
            let (kind, name) = (operation.action.engine(), operation.name);
            let device = Location::Device(self.devices[d as usize].id);
            self.journal.add(self.time, JournalEvent::Ended { device, operation: name });
            let engine = self.engine(d, kind);
            engine.busy = false;
            if let Some(next) = engine.waiting.pop_front() {
                self.start_waiting(next, kind);
            }
        }
        self.complete(key);
        self.advance(key);
    }

    fn start_waiting(&mut self, key: Key, kind: EngineKind) {
        if let Some(d) = self.streams.get(key).map(|stream| stream.device) {
            self.start(key, d, kind);
        }
    }

    /// Completes the first operation of a stream, and wakes the streams that wait for it.
    fn complete(&mut self, key: Key) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        stream.queue.pop_front();
        stream.completed += 1;
        let (d, completed) = (stream.device, stream.completed);
        let mut woken = Vec::new();
        stream.waiters.retain(|(seq, waiter)| {
            let keep = *seq > completed;
            if !keep {
                woken.push(*waiter);
            }
            keep
        });
        self.device(d).outstanding -= 1;
        for waiter in woken {
            self.agenda.add(self.time, false, waiter);
        }
    }
}
