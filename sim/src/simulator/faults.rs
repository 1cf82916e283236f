//! Calls that are made to fail.

use super::Simulator;
use crate::injection::FaultCall;
use cumem_driver::CudaErrorCode;

impl Simulator {
    /// Makes the `n`-th call of a kind from now fail before it does anything; the next call is number 1. Each planned
    /// failure happens once, and several can be planned.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem_driver::{CudaErrorCode, Driver};
    /// use cumem_sim::{FaultCall, Profile, Simulator};
    ///
    /// let sim = Simulator::new([Profile::h100_pcie5()])?;
    /// sim.fail_nth(FaultCall::AllocateDevice, 2, CudaErrorCode::OUT_OF_MEMORY);
    ///
    /// assert!(sim.allocate_device(0, 4096).is_ok());
    /// let error = sim.allocate_device(0, 4096).unwrap_err();
    /// assert_eq!(error.code(), Some(CudaErrorCode::OUT_OF_MEMORY));
    /// assert!(sim.allocate_device(0, 4096).is_ok());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn fail_nth(&self, kind: FaultCall, n: u64, code: CudaErrorCode) {
        self.machine.lock().injection.plan(kind, n, code);
    }

    /// Cancels the planned failures that have not happened yet.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem_driver::CudaErrorCode;
    /// use cumem_sim::{FaultCall, Profile, Simulator};
    ///
    /// let sim = Simulator::new([Profile::h100_pcie5()])?;
    /// sim.fail_nth(FaultCall::Copy, 1, CudaErrorCode::UNKNOWN);
    /// sim.clear_faults();
    /// assert_eq!(sim.pending_faults(), 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn clear_faults(&self) {
        self.machine.lock().injection.clear();
    }

    /// Returns the number of planned failures that have not happened yet.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem_driver::{CudaErrorCode, Driver};
    /// use cumem_sim::{FaultCall, Profile, Simulator};
    ///
    /// let sim = Simulator::new([Profile::h100_pcie5()])?;
    /// sim.fail_nth(FaultCall::AllocateDevice, 1, CudaErrorCode::UNKNOWN);
    /// assert_eq!(sim.pending_faults(), 1);
    /// assert!(sim.allocate_device(0, 4096).is_err());
    /// assert_eq!(sim.pending_faults(), 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn pending_faults(&self) -> usize {
        self.machine.lock().injection.pending()
    }

    /// Returns the number of calls of a kind so far, failed calls included.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem_driver::Driver;
    /// use cumem_sim::{FaultCall, Profile, Simulator};
    ///
    /// let sim = Simulator::new([Profile::h100_pcie5()])?;
    /// let _memory = sim.allocate_device(0, 4096)?;
    /// assert_eq!(sim.calls(FaultCall::AllocateDevice), 1);
    /// assert_eq!(sim.calls(FaultCall::Copy), 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn calls(&self, kind: FaultCall) -> u64 {
        self.machine.lock().injection.calls(kind)
    }
}
