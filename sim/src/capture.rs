//! [`Capture`]: the work of streams that are being captured, and [`Graph`]: the captured work, to be launched.
#![forbid(unsafe_code)]

use super::bytes::FillValue;
use super::handles::Key;
use super::operation::StreamPoint;
use cumem_driver::{Access, CaptureMode, HostKernel, RepeatableWork};
use smallvec::SmallVec;
use std::fmt;
use std::sync::Arc;
use std::thread::ThreadId;

/// A capture that has begun and not ended.
#[derive(Debug)]
pub(super) struct Capture {
    pub(super) device: u32,
    /// Any thread may end a capture in relaxed mode. Otherwise only this one may.
    pub(super) thread: ThreadId,
    pub(super) mode: CaptureMode,
    pub(super) invalidated: bool,
    /// The captured streams. The first one is the stream that the capture began on.
    pub(super) branches: Vec<Branch>,
    pub(super) nodes: Vec<Node>,
    /// What the branch that made each [mark](Work::Mark) was ordered after.
    marks: Vec<Known>,
}

/// A captured stream.
#[derive(Debug)]
pub(super) struct Branch {
    pub(super) stream: Key,
    known: Known,
}

/// For each branch, how much of its work comes before. Branches without an entry have a 0.
#[derive(Debug, Clone, Default)]
struct Known(Vec<usize>);

/// One step of captured work.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) branch: usize,
    pub(super) work: Work,
}

/// What a step does. Addresses are checked at the capture, and again at each launch.
#[derive(Debug)]
pub(super) enum Work {
    Copy {
        dst: u64,
        src: u64,
        bytes: u64,
    },
    Fill {
        dst: u64,
        value: FillValue,
        bytes: u64,
    },
    Kernel(Box<CapturedKernel>),
    /// A point of the branch, which other branches may wait for. Marks are numbered in order.
    Mark,
    /// Waits for the mark with this number.
    Join(usize),
}

/// A kernel that runs at each launch of a graph.
pub(super) struct CapturedKernel {
    name: &'static str,
    accesses: SmallVec<[Access; 4]>,
    operations: u64,
    in_flight: usize,
    work: RepeatableWork,
}

/// Where an event was recorded within a capture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CapturedPoint {
    pub(super) capture: Key,
    pub(super) mark: usize,
}

/// The place of a stream in its capture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Membership {
    pub(super) capture: Key,
    pub(super) branch: usize,
}

/// Captured work.
#[derive(Debug, Clone)]
pub(super) struct Graph {
    pub(super) device: u32,
    pub(super) nodes: Arc<[Node]>,
    pub(super) branches: usize,
    pub(super) marks: usize,
}

/// A graph that can be launched.
#[derive(Debug)]
pub(super) struct GraphExec {
    pub(super) graph: Graph,
    /// The streams of all branches but the first, whose work goes to the stream of the launch.
    pub(super) streams: Vec<Key>,
    /// The end of the last launch. The next one waits for it.
    pub(super) last: Option<StreamPoint>,
}

impl CapturedKernel {
    /// Returns `None` for a kernel whose closure runs only once.
    pub(super) fn new(kernel: &HostKernel) -> Option<Self> {
        let HostKernel { name, accesses, operations, in_flight, .. } = kernel;
        let work = Arc::clone(kernel.repeatable_work()?);
        Some(Self { name, accesses: accesses.clone(), operations: *operations, in_flight: *in_flight, work })
    }

    /// Returns the kernel for one launch.
    pub(super) fn kernel(&self) -> HostKernel {
        let work = Arc::clone(&self.work);
        let mut kernel = HostKernel::new(self.name, move |memory| work(memory));
        (kernel.accesses, kernel.operations, kernel.in_flight) =
            (self.accesses.clone(), self.operations, self.in_flight);
        kernel
    }
}

impl fmt::Debug for CapturedKernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CapturedKernel").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Known {
    fn of(&self, branch: usize) -> usize {
        self.0.get(branch).copied().unwrap_or(0)
    }

    fn set(&mut self, branch: usize, count: usize) {
        if self.0.len() <= branch {
            self.0.resize(branch + 1, 0);
        }
        self.0[branch] = self.0[branch].max(count);
    }

    fn join(&mut self, other: &Self) {
        other.0.iter().enumerate().for_each(|(branch, count)| self.set(branch, *count));
    }
}

impl Capture {
    pub(super) fn new(device: u32, stream: Key, thread: ThreadId, mode: CaptureMode) -> Self {
        let mut capture =
            Self { device, thread, mode, invalidated: false, branches: vec![], nodes: vec![], marks: vec![] };
        capture.add_branch(stream);
        capture
    }

    /// Adds a captured stream, and returns its number.
    pub(super) fn add_branch(&mut self, stream: Key) -> usize {
        self.branches.push(Branch { stream, known: Known::default() });
        self.branches.len() - 1
    }

    /// Adds work to a branch.
    pub(super) fn add(&mut self, branch: usize, work: Work) {
        let known = &mut self.branches[branch].known;
        let count = known.of(branch) + 1;
        known.set(branch, count);
        self.nodes.push(Node { branch, work });
    }

    /// Adds a mark after the work of a branch, and returns its number.
    pub(super) fn mark(&mut self, branch: usize) -> usize {
        self.nodes.push(Node { branch, work: Work::Mark });
        self.marks.push(self.branches[branch].known.clone());
        self.marks.len() - 1
    }

    /// Makes the later work of a branch wait for a mark.
    pub(super) fn join(&mut self, branch: usize, mark: usize) {
        self.branches[branch].known.join(&self.marks[mark]);
        self.nodes.push(Node { branch, work: Work::Join(mark) });
    }

    /// Reports whether the first branch comes after all captured work.
    pub(super) fn is_joined(&self) -> bool {
        let origin = &self.branches[0].known;
        self.branches.iter().enumerate().all(|(branch, other)| other.known.of(branch) == origin.of(branch))
    }

    /// Returns the captured work.
    pub(super) fn into_graph(self) -> Graph {
        let Self { device, branches, nodes, marks, .. } = self;
        Graph { device, nodes: nodes.into(), branches: branches.len(), marks: marks.len() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handles::Handles;
    use std::thread;

    fn capture() -> (Capture, Key) {
        let mut streams = Handles::default();
        let [first, second] = [streams.insert(()), streams.insert(())];
        (Capture::new(0, first, thread::current().id(), CaptureMode::Relaxed), second)
    }

    #[test]
    fn a_branch_is_joined_by_a_mark_after_its_last_work() {
        let (mut capture, stream) = capture();
        let fork = capture.mark(0);
        let branch = capture.add_branch(stream);
        capture.join(branch, fork);
        assert!(capture.is_joined(), "the branch has no work");
        capture.add(branch, Work::Fill { dst: 0, value: FillValue::Byte(0), bytes: 1 });
        assert!(!capture.is_joined());
        let early = capture.mark(branch);
        capture.add(branch, Work::Fill { dst: 0, value: FillValue::Byte(0), bytes: 1 });
        capture.join(0, early);
        assert!(!capture.is_joined(), "the mark is before the second fill");
        let late = capture.mark(branch);
        capture.join(0, late);
        assert!(capture.is_joined());
    }
}
