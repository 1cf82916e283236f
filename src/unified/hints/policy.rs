//! [`MigrationPolicy`]: how memory shall migrate, as a value.

use super::builder::{AppliedHints, ManagedMemoryHints};
use crate::block::Block;
use crate::device::error::DeviceError;
use crate::device::stream::Stream;
use cumem_driver::{Advice, DeviceId, Location};
use smallvec::SmallVec;
use std::fmt;
use std::ops::Range;

/// How the pages of a range shall migrate. It owns the locations that it names, so it means the same wherever it is
/// applied.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum MigrationPolicy {
    /// As the driver does on its own: pages come to who touches them. No advice.
    #[default]
    Default,
    /// Reads make local copies; for what is hardly ever written.
    ReadMostly,
    /// Pages stay on, and come back to, a device.
    PreferDevice(DeviceId),
    /// Pages stay in host memory where the device can use them there.
    PreferHost,
    /// Pages stay on one NUMA node of the host (drivers from 12.2).
    PreferHostNuma(u32),
    /// Pages stay mapped for a processor, wherever they are.
    AccessedBy(Location),
    /// Several at once. The driver's precedence is read-mostly, then preferred location, then accessed-by; of several
    /// preferred locations the last is meant.
    All(Vec<Self>),
}

impl MigrationPolicy {
    /// Both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Default, policy) | (policy, Self::Default) => policy,
            (Self::All(mut policies), policy) => {
                policies.push(policy);
                Self::All(policies)
            }
            (first, second) => Self::All(vec![first, second]),
        }
    }

    /// The advices that it stands for, each once.
    pub fn advices(&self) -> SmallVec<[Advice; 4]> {
        let mut advices = SmallVec::new();
        self.collect(&mut advices);
        advices
    }

    fn collect(&self, advices: &mut SmallVec<[Advice; 4]>) {
        let advice = match self {
            Self::Default => return,
            Self::ReadMostly => Advice::SetReadMostly,
            Self::PreferDevice(id) => Advice::SetPreferredLocation(Location::Device(*id)),
            Self::PreferHost => Advice::SetPreferredLocation(Location::Host),
            Self::PreferHostNuma(node) => Advice::SetPreferredLocation(Location::HostNuma(*node)),
            Self::AccessedBy(by) => Advice::SetAccessedBy(*by),
            Self::All(policies) => return policies.iter().for_each(|policy| policy.collect(advices)),
        };
        if let Advice::SetPreferredLocation(_) = advice {
            advices.retain(|earlier| !matches!(earlier, Advice::SetPreferredLocation(_)));
        }
        if !advices.contains(&advice) {
            advices.push(advice);
        }
    }

    /// Gives its advices about `range` (bytes of `block`), all or none; what became of each is in the answer, which
    /// also [undoes](AppliedHints::undo) them.
    ///
    /// # Errors
    ///
    /// Those of [`ManagedMemoryHints::apply`].
    pub fn apply(&self, block: &Block, range: Range<usize>, stream: &Stream) -> Result<AppliedHints, DeviceError> {
        ManagedMemoryHints::new(block, stream).range(range)?.policy(self).apply()
    }
}

/// `default`, `prefer sim:0`, `read mostly and accessed by host`.
impl fmt::Display for MigrationPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let advices = self.advices();
        let Some((first, rest)) = advices.split_first() else { return f.write_str("default") };
        first.fmt(f)?;
        rest.iter().try_for_each(|advice| write!(f, " and {advice}"))
    }
}

impl ManagedMemoryHints<'_> {
    /// Adds the advice of a policy.
    pub fn policy(self, policy: &MigrationPolicy) -> Self {
        policy.advices().into_iter().fold(self, Self::advise)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compounds_flatten_and_the_last_preferred_location_is_meant() {
        let gpu = DeviceId::cuda(1);
        let policy = MigrationPolicy::PreferDevice(gpu)
            .and(MigrationPolicy::AccessedBy(Location::Host))
            .and(MigrationPolicy::Default)
            .and(MigrationPolicy::PreferHost.and(MigrationPolicy::AccessedBy(Location::Host)));
        let expected = [Advice::SetAccessedBy(Location::Host), Advice::SetPreferredLocation(Location::Host)];
        assert_eq!(policy.advices()[..], expected);
        assert_eq!(policy.to_string(), "accessed by host and prefer host");
        assert_eq!(MigrationPolicy::default().and(MigrationPolicy::Default), MigrationPolicy::Default);
        assert_eq!(MigrationPolicy::All(Vec::new()).to_string(), "default");
    }
}
