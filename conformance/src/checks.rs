//! The checks, each a function of a [`Subject`]. One file per promise of the contract.

mod alignment;
mod blocks;
mod capacity;
pub(crate) mod faults;
mod layers;
mod list;
mod order;
mod random;
mod refusals;
mod sizes;
mod threads;

pub(crate) use list::{Check, checks};
