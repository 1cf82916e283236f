//! [`recommend`]: policies that make an access pattern faster.

use crate::play::play;
use cumem::sim::Profile;
use cumem::unified::MigrationPolicy;
use cumem::unified::accounting::AccessPattern;
use cumem::{AllocError, DeviceId, Location};
use std::fmt;
use std::time::Duration;

/// A policy for one memory of a pattern, and the time that it saves on a simulated device.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recommendation {
    /// Index of the memory in the pattern.
    pub memory: usize,
    /// Name of the memory.
    pub name: String,
    /// The policy.
    pub policy: MigrationPolicy,
    /// Virtual time of the pattern without this policy, but with the policies recommended before it.
    pub before: Duration,
    /// Virtual time of the pattern with this policy, including the time of the advice itself.
    pub after: Duration,
}

impl Recommendation {
    /// Returns the share of the time that the policy saves, for example 0.4 for 40 %.
    pub fn gain(&self) -> f64 {
        1.0 - self.after.as_secs_f64() / self.before.as_secs_f64()
    }
}

/// Prints `weights: read mostly, 41.2 % less time (1.2ms to 705.6µs, simulated)`.
impl fmt::Display for Recommendation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, policy, before, after, .. } = self;
        write!(f, "{name}: {policy}, {:.1} % less time ({before:?} to {after:?}, simulated)", self.gain() * 100.0)
    }
}

/// Returns the policies that are tried. The first is to give no advice.
fn candidates(device: DeviceId) -> [MigrationPolicy; 7] {
    use MigrationPolicy::{AccessedBy, Default, PreferDevice, PreferHost, ReadMostly};
    [
        Default,
        ReadMostly,
        PreferDevice(device),
        PreferHost,
        PreferDevice(device).and(AccessedBy(Location::Host)),
        PreferHost.and(AccessedBy(device.into())),
        AccessedBy(device.into()),
    ]
}

/// Returns the policies that make `pattern` faster, at most one for each memory, for use on `device`.
///
/// The function replays the pattern on a simulated device of `profile`: without advice, and with each policy for each
/// memory in turn. The function returns the best policy of a memory if that policy saves at least `threshold` of the
/// time (0.05 for 5 %). The memories are tried in their order, each together with the policies that were already found.
///
/// The gain is that of the simulated device, so it is as exact as the [profile](Profile), which states the origin of
/// each of its figures.
///
/// ```
/// use cumem::kernel::AccessMode;
/// use cumem::sim::Profile;
/// use cumem::unified::accounting::{AccessPattern, Processor};
/// use cumem::Device;
/// use cumem_whatif::recommend;
///
/// let device = Device::simulated(Profile::default())?;
/// let mut pattern = AccessPattern::new();
/// let weights = pattern.memory("weights", 64 << 20);
/// for _ in 0..4 {
///     pattern.used(weights, 0..64 << 20, Processor::Device, AccessMode::Read);
///     pattern.used(weights, 0..64 << 20, Processor::Host, AccessMode::Read);
/// }
/// let found = recommend(&pattern, &Profile::h100_pcie5(), device.id(), 0.05)?;
/// assert_eq!(found[0].name, "weights");
/// assert!(found[0].gain() > 0.05);
/// println!("{}", found[0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// Returns the errors of the simulated device: [`AllocError::Device`] with `NotSupported` if the profile has no unified
/// memory, or out of memory.
pub fn recommend(
    pattern: &AccessPattern,
    profile: &Profile,
    device: DeviceId,
    threshold: f64,
) -> Result<Vec<Recommendation>, AllocError> {
    let mut chosen = vec![0; pattern.memories().len()];
    let time = |chosen: &[usize]| {
        play(pattern, profile, |simulated| chosen.iter().map(|&n| candidates(simulated)[n].clone()).collect())
    };
    let mut before = time(&chosen)?;
    let mut found = Vec::new();
    for (memory, what) in pattern.memories().iter().enumerate() {
        let mut best = (before, 0);
        for candidate in 1..candidates(device).len() {
            chosen[memory] = candidate;
            best = best.min((time(&chosen)?, candidate));
        }
        let (after, candidate) = best;
        let saved = before.saturating_sub(after);
        let enough = candidate > 0 && saved.as_secs_f64() >= threshold * before.as_secs_f64();
        chosen[memory] = if enough { candidate } else { 0 };
        if enough {
            let policy = candidates(device)[candidate].clone();
            found.push(Recommendation { memory, name: what.name.clone(), policy, before, after });
            before = after;
        }
    }
    Ok(found)
}
