//! [`MigrationPolicy`]: advice as a value.

use super::builder::{AppliedHints, ManagedMemoryHints};
use crate::block::Block;
use crate::device::error::DeviceError;
use crate::device::stream::Stream;
use cumem_driver::{Advice, DeviceId, Location};
use smallvec::SmallVec;
use std::fmt;
use std::ops::Range;

/// Advice about how the pages of a range migrate, as a value that can be stored and applied. A policy contains the
/// locations that it names, so it has the same meaning for every block and stream.
///
/// # Examples
///
/// ```
/// # use cumem::sim::Profile;
/// # use cumem::{Device, ManagedResource, Stream, UnifiedBuffer};
/// # let device = Device::simulated(Profile::default())?;
/// # let stream = Stream::new(&device)?;
/// use cumem::unified::MigrationPolicy;
///
/// let table = UnifiedBuffer::<f32, _>::zeroed(1000, &stream, ManagedResource::new(&device)?)?;
/// let policy = MigrationPolicy::ReadMostly.and(MigrationPolicy::PreferDevice(device.id()));
/// let _applied = policy.apply(table.block(), 0..table.size_bytes(), &stream)?;
/// assert!(table.range_attributes()?.read_mostly);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum MigrationPolicy {
    /// No advice. Pages migrate to the processor that accesses them, which is the driver's default.
    #[default]
    Default,
    /// Each processor that reads a page gets a local copy of it. For memory that is seldom written.
    ReadMostly,
    /// Pages stay on this device, and migrate back to it.
    PreferDevice(DeviceId),
    /// Pages stay in host memory if the device can access them there.
    PreferHost,
    /// Pages stay on this NUMA node of the host (drivers from 12.2).
    PreferHostNuma(u32),
    /// Pages stay mapped for this processor, wherever they are.
    AccessedBy(Location),
    /// Several policies together. The driver's precedence is read-mostly, then preferred location, then accessed-by. Of
    /// several preferred locations, the last holds.
    All(Vec<Self>),
}

impl MigrationPolicy {
    /// Combines two policies.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::Location;
    /// use cumem::unified::MigrationPolicy;
    ///
    /// let policy = MigrationPolicy::ReadMostly.and(MigrationPolicy::AccessedBy(Location::Host));
    /// assert_eq!(policy.to_string(), "read mostly and accessed by host");
    /// ```
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

    /// Returns the advice of this policy. Each piece of advice occurs once.
    ///
    /// # Examples
    ///
    /// ```
    /// use cumem::unified::{Advice, MigrationPolicy};
    ///
    /// assert_eq!(MigrationPolicy::ReadMostly.advices()[..], [Advice::SetReadMostly]);
    /// assert!(MigrationPolicy::Default.advices().is_empty());
    /// ```
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

    /// Passes the policy's advice about `range` (bytes of `block`) to the driver: all of the advice, or none. The
    /// result lists the outcomes, and can [undo](AppliedHints::undo) the advice.
    ///
    /// # Errors
    ///
    /// Returns [`DeviceError::OutOfRange`] if the range is not within the block, and the errors of
    /// [`ManagedMemoryHints::apply`].
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Device, Location, ManagedResource, Stream, UnifiedBuffer};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// use cumem::unified::MigrationPolicy;
    ///
    /// let table = UnifiedBuffer::<f32, _>::zeroed(1000, &stream, ManagedResource::new(&device)?)?;
    /// let applied = MigrationPolicy::PreferHost.apply(table.block(), 0..4000, &stream)?;
    /// assert_eq!(table.range_attributes()?.preferred_location, Some(Location::Host));
    /// applied.undo(table.block(), &stream)?;
    /// assert_eq!(table.range_attributes()?.preferred_location, None);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn apply(&self, block: &Block, range: Range<usize>, stream: &Stream) -> Result<AppliedHints, DeviceError> {
        ManagedMemoryHints::new(block, stream).range(range)?.policy(self).apply()
    }
}

/// Writes, for example, `default`, `prefer sim:0`, or `read mostly and accessed by host`.
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
    ///
    /// # Examples
    ///
    /// ```
    /// # use cumem::sim::Profile;
    /// # use cumem::{Device, ManagedResource, Stream, UnifiedBuffer};
    /// # let device = Device::simulated(Profile::default())?;
    /// # let stream = Stream::new(&device)?;
    /// use cumem::unified::MigrationPolicy;
    ///
    /// let table = UnifiedBuffer::<f32, _>::zeroed(1000, &stream, ManagedResource::new(&device)?)?;
    /// let _applied = table.hints().policy(&MigrationPolicy::ReadMostly).prefetch(device.id()).apply()?;
    /// assert!(table.range_attributes()?.read_mostly);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn policy(self, policy: &MigrationPolicy) -> Self {
        policy.advices().into_iter().fold(self, Self::advise)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_of_several_parts_uses_the_last_preferred_location() {
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
