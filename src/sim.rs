//! The simulated machine, and what tests do with it.
//!
//! | for | use |
//! |---|---|
//! | a device where there is no GPU, or one that you do not have | [`Device::simulated`](crate::Device::simulated) with a [`Profile`] |
//! | a machine with several devices | [`Simulator::new`], [`Device::of_simulator`](crate::Device::of_simulator) |
//! | tests of memory | [`assert_peak!`](crate::assert_peak!), [`assert_no_leak!`](crate::assert_no_leak!), [`assert_migrated!`](crate::assert_migrated!) |
//! | each driver call of a program made to fail in turn | [`faults`] |
//! | uses of memory whose order is not ensured | [`Simulator::detect_races`] |

pub use crate::testing::{assertions, declare_allocation, declare_free, faults};
pub use cumem_sim::*;
