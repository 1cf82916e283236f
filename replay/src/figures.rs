//! The figures that a replay reports.

use std::time::Duration;

/// One pass over a trace.
///
/// ```
/// use cumem::sim::Profile;
/// use cumem::{CudaResource, Device};
/// use cumem_replay::{Player, Trace};
///
/// let log = "Thread,Time,Action,Pointer,Size,Stream\n1,0,allocate,0x100,1024,0\n1,1,free,0x100,1024,0\n";
/// let trace = Trace::parse(log.as_bytes(), "two lines")?;
/// let resource = CudaResource::new(&Device::simulated(Profile::default())?);
/// let pass = Player::new(&trace, &resource)?.pass(|_| ())?;
/// assert_eq!((pass.operations, pass.out_of_memory), (2, 0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pass {
    /// Operations that were made: all of the trace, except the frees of blocks whose allocation ran out of memory.
    pub operations: u64,
    /// Host time of the operations.
    pub elapsed: Duration,
    /// Allocations that ran out of memory.
    pub out_of_memory: u64,
}

impl Pass {
    /// Returns the host time per operation, in nanoseconds.
    pub fn ns_per_operation(&self) -> f64 {
        self.elapsed.as_nanos() as f64 / self.operations.max(1) as f64
    }
}

/// The figures of a replay: a first pass, in which the stack takes its memory, and the passes after it.
///
/// ```
/// use cumem::sim::Profile;
/// use cumem::{CudaResource, Device};
/// use cumem_replay::{Replay, Trace};
///
/// let log = "Thread,Time,Action,Pointer,Size,Stream\n1,0,allocate,0x100,1024,0\n1,1,free,0x100,1024,0\n";
/// let trace = Trace::parse(log.as_bytes(), "two lines")?;
/// let resource = CudaResource::new(&Device::simulated(Profile::default())?);
/// let figures = Replay::new(&trace).repeat(3).run(&resource)?;
/// assert_eq!((figures.passes().len(), figures.out_of_memory()), (3, 0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Figures {
    pub(crate) first: Pass,
    pub(crate) passes: Vec<Pass>,
}

impl Figures {
    /// Returns the first pass, which starts with the stack in the state that it was passed in.
    pub fn first(&self) -> Pass {
        self.first
    }

    /// Returns the passes after the first.
    pub fn passes(&self) -> &[Pass] {
        &self.passes
    }

    /// Returns the host time per operation, in nanoseconds: the median of the passes after the first.
    pub fn ns_per_operation(&self) -> f64 {
        let mut times = Vec::from_iter(self.passes.iter().map(Pass::ns_per_operation));
        times.sort_unstable_by(f64::total_cmp);
        let middle = times.len() / 2;
        if times.len() % 2 == 1 { times[middle] } else { (times[middle - 1] + times[middle]) / 2.0 }
    }

    /// Returns the number of allocations that ran out of memory, in the pass that had the most of them.
    pub fn out_of_memory(&self) -> u64 {
        self.passes.iter().map(|pass| pass.out_of_memory).fold(self.first.out_of_memory, u64::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pass(nanoseconds: u64, out_of_memory: u64) -> Pass {
        Pass { operations: 10, elapsed: Duration::from_nanos(nanoseconds), out_of_memory }
    }

    #[test]
    fn the_median_is_of_the_passes_after_the_first() {
        let mut figures = Figures { first: pass(9_000, 3), passes: vec![pass(300, 0), pass(100, 4), pass(200, 0)] };
        assert_eq!(figures.ns_per_operation(), 20.0);
        assert_eq!(figures.first().ns_per_operation(), 900.0);
        assert_eq!(figures.out_of_memory(), 4);
        figures.passes.push(pass(400, 0));
        assert_eq!(figures.ns_per_operation(), 25.0);
    }
}
