//! The simulated machine, and functions for tests on it.
//!
//! The examples of some items name `cumem_sim`. In a program that depends on `cumem`, write `cumem::sim` instead.
//!
//! | purpose | use |
//! |---|---|
//! | a device on a machine without a GPU, or a model of another GPU | [`Device::simulated`](crate::Device::simulated) with a [`Profile`] |
//! | a machine with several devices | [`Simulator::new`], [`Device::of_simulator`](crate::Device::of_simulator) |
//! | tests of peak memory, leaks and migration | [`assert_peak!`](crate::assert_peak!), [`assert_no_leak!`](crate::assert_no_leak!), [`assert_migrated!`](crate::assert_migrated!) |
//! | tests that make each driver call of a program fail in turn | [`faults`] |
//! | detection of data races between streams | [`Simulator::detect_races`] |

pub use crate::testing::{
    assertions, declare_allocation, declare_free, declare_handed_out, declare_kept, declare_released, faults,
    watch_race_detector,
};
pub use cumem_driver::DetectorListener;
pub use cumem_sim::*;
