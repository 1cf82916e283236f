//! [`recommend`]: advice that made a pattern faster when it was replayed.

use crate::play::play;
use cumem::sim::Profile;
use cumem::unified::MigrationPolicy;
use cumem::unified::accounting::AccessPattern;
use cumem::{AllocError, DeviceId, Location};
use std::fmt;
use std::time::Duration;

/// A policy for one memory of a pattern, and what it gained on a simulated device.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recommendation {
    /// The memory's number in the pattern.
    pub memory: usize,
    /// Its name.
    pub name: String,
    /// What to advise.
    pub policy: MigrationPolicy,
    /// Virtual time of the pattern without it, and with those recommended before it.
    pub before: Duration,
    /// Virtual time with it, the advice itself included.
    pub after: Duration,
}

impl Recommendation {
    /// The share of the time that it saves.
    pub fn gain(&self) -> f64 {
        1.0 - self.after.as_secs_f64() / self.before.as_secs_f64()
    }
}

/// `weights: read mostly, 41.2 % less time (1.2ms to 705.6µs, simulated)`.
impl fmt::Display for Recommendation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, policy, before, after, .. } = self;
        write!(f, "{name}: {policy}, {:.1} % less time ({before:?} to {after:?}, simulated)", self.gain() * 100.0)
    }
}

/// The policies that are tried, the first of which is none.
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

/// Replays `pattern` on a simulated device of `profile`, without advice and with each policy for each memory in turn,
/// and answers the best one for each that saves at least `threshold` of the time (0.05 for 5 %), for use on `device`.
/// Nothing where nothing helps so much.
///
/// The gain is that of the simulated device: as good as its [profile](Profile), which says of each figure where it is
/// from. Policies are tried one memory after the other, in their order, each together with those already found.
///
/// # Errors
///
/// What the simulated device answers: [`AllocError::Device`] with `NotSupported` if the profile has no unified
/// memory, or want of memory.
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
