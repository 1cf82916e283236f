//! Records of the events in a machine over time: snapshots, races, the journal and its hash.

use super::Simulator;
use crate::journal::Record;
use crate::races::Race;
use crate::snapshots::Snapshot;

impl Simulator {
    /// Starts or stops taking snapshots of where all memory is. At most a few hundred are kept, spread over the time
    /// from now on.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem_driver::Driver;
    /// use cumem_sim::{Profile, Simulator};
    ///
    /// let sim = Simulator::new([Profile::h100_pcie5()])?;
    /// sim.keep_snapshots(true);
    /// let _memory = sim.allocate_device(0, 1 << 20)?;
    /// assert!(!sim.take_snapshots().is_empty());
    ///
    /// sim.keep_snapshots(false);
    /// assert!(sim.take_snapshots().is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn keep_snapshots(&self, on: bool) {
        self.machine.lock().keep_snapshots(on);
    }

    /// Returns the snapshots taken since the last call of this method, in order. The last one shows the present state.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem_driver::Driver;
    /// use cumem_sim::{Profile, Simulator};
    ///
    /// let sim = Simulator::new([Profile::h100_pcie5()])?;
    /// sim.keep_snapshots(true);
    /// let _memory = sim.allocate_device(0, 1 << 20)?;
    /// let snapshots = sim.take_snapshots();
    /// let last = snapshots.last().expect("the present state");
    /// assert_eq!((last.allocations[0].kind, last.allocations[0].bytes), ("device", 1 << 20));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn take_snapshots(&self) -> Vec<Snapshot> {
        self.machine.lock().take_snapshots()
    }

    /// Starts or stops the race detector. A race is two uses of the same bytes that nothing orders. For example, a
    /// block is reused on another stream without a wait. Work that was enqueued before the detector
    /// started is not recorded.
    ///
    /// The detector records the ranges that kernels declare, copies, fills, host guards, and allocations and frees of
    /// the driver, of buffers and of pools. Its result does not depend on the order in which virtual time runs the work.
    /// The detector treats the host as one thread, whose calls are ordered as they arrive, because no call reports how
    /// threads synchronize; but two host guards that exist at the same time are not ordered. The detector reports a use
    /// once for each stream that does not wait for the use.
    ///
    /// A pool keeps the memory of its freed blocks, so the driver has no record that they are free. While the detector
    /// is on, pools therefore declare each block that they allocate and free. A use of a freed block is reported even on
    /// the stream of the free, and so is a use that leaves its block. Blocks that were allocated before the detector
    /// started are not declared.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem_driver::Driver;
    /// use cumem_sim::{Profile, RaceKind, Simulator};
    ///
    /// let sim = Simulator::new([Profile::h100_pcie5()])?;
    /// sim.detect_races(true);
    /// let [a, b] = [sim.create_stream(0, false)?, sim.create_stream(0, false)?];
    /// let memory = sim.allocate_device(0, 4096)?;
    /// // SAFETY: the streams and the memory are live. The two fills conflict, which affects only the bytes.
    /// unsafe { sim.fill_async(0, memory.as_ptr(), 1, 4096, a) }?;
    /// // SAFETY: as above.
    /// unsafe { sim.fill_async(0, memory.as_ptr(), 2, 4096, b) }?;
    ///
    /// let races = sim.take_races();
    /// assert_eq!(races.len(), 1, "stream `b` does not wait for stream `a`");
    /// assert_eq!(races[0].kind, RaceKind::Unordered);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn detect_races(&self, on: bool) {
        self.machine.lock().detect_races(on);
    }

    /// Returns the races found since the last call of this method, in order; at most 1000.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem_driver::{AccessMode, Driver};
    /// use cumem_sim::{Profile, RaceKind, Simulator};
    ///
    /// let sim = Simulator::new([Profile::h100_pcie5()])?;
    /// sim.detect_races(true);
    /// let stream = sim.create_stream(0, false)?;
    /// let memory = sim.allocate_managed(0, 4096)?;
    /// // SAFETY: the stream and the memory are live.
    /// unsafe { sim.fill_async(0, memory.as_ptr(), 1, 4096, stream) }?;
    /// sim.access_from_host(memory.as_ptr(), 4096, AccessMode::Read)?;
    ///
    /// let races = sim.take_races();
    /// assert_eq!(races[0].kind, RaceKind::HostAccess, "the host did not wait for the stream");
    /// assert!(sim.take_races().is_empty(), "a race is returned once");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn take_races(&self) -> Vec<Race> {
        self.machine.lock().take_races()
    }

    /// Returns a hash of everything that happened so far: allocations, operations, faults, transfers and their times.
    /// The same program on the same profiles produces the same hash.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem_driver::Driver;
    /// use cumem_sim::{Profile, Simulator};
    ///
    /// let run = |bytes| -> Result<u64, Box<dyn std::error::Error>> {
    ///     let sim = Simulator::new([Profile::h100_pcie5()])?;
    ///     let _memory = sim.allocate_device(0, bytes)?;
    ///     Ok(sim.digest())
    /// };
    /// assert_eq!(run(4096)?, run(4096)?);
    /// assert_ne!(run(4096)?, run(8192)?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn digest(&self) -> u64 {
        self.machine.lock().journal.digest()
    }

    /// Starts or stops the recording of events: allocations, operations, faults and transfers.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem_driver::Driver;
    /// use cumem_sim::{Profile, Simulator};
    ///
    /// let sim = Simulator::new([Profile::h100_pcie5()])?;
    /// sim.record(true);
    /// let _memory = sim.allocate_device(0, 4096)?;
    /// assert_eq!(sim.take_records().len(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn record(&self, on: bool) {
        self.machine.lock().journal.record(on);
    }

    /// Returns the records since the last call of this method, in order.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem_driver::Driver;
    /// use cumem_sim::{JournalEvent, Profile, Simulator};
    ///
    /// let sim = Simulator::new([Profile::h100_pcie5()])?;
    /// sim.record(true);
    /// let _memory = sim.allocate_device(0, 4096)?;
    /// let records = sim.take_records();
    /// assert_eq!(records[0].event, JournalEvent::Allocated { allocation: 1, bytes: 4096 });
    /// assert_eq!(records[0].at, sim.clock());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn take_records(&self) -> Vec<Record> {
        self.machine.lock().journal.take()
    }
}
