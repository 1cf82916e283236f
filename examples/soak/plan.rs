//! What one round runs on: a device and two stacks, with options that are drawn from the seed.

use cumem::sim::Profile;
use cumem_conformance::Rng;
use std::path::{Path, PathBuf};

/// Bytes of memory of a simulated device, so small that stacks run out of memory.
const CAPACITY: u64 = 384 << 20;
/// The most bytes of each stack, on a GPU too. Managed memory of a GPU that others share stays small.
const MOST: usize = 256;

/// The driver calls that fail at random in a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Faults {
    None,
    /// Calls that free nothing. Nothing may be lost.
    Takes,
    /// All calls. What a failed free leaves behind must be reported.
    All,
}

/// The setting of a round.
#[derive(Debug)]
pub(crate) struct Plan {
    /// The profile of the simulated device.
    pub(crate) profile: Profile,
    /// The stack of most operations. Its memory is device-accessible.
    pub(crate) general: String,
    /// A stack over managed memory, if the device has it.
    pub(crate) managed: Option<String>,
    pub(crate) faults: Faults,
    /// The file of the `log` layer.
    pub(crate) log: Option<PathBuf>,
}

impl Plan {
    /// Draws the setting of round `number`. The first round has every adaptor.
    pub(crate) fn draw(number: u64, rng: &mut Rng, on_gpu: bool, log_file: &Path) -> Self {
        let profile = if number == 0 || on_gpu { Profile::default() } else { profile(rng) };
        let mut draw = Draw { rng, all: number == 0, on_gpu, profile: &profile, log: None };
        let general = draw.general(log_file);
        let managed = profile.managed_memory.then(|| draw.managed());
        let log = draw.log;
        let faults = match number % 3 {
            _ if on_gpu => Faults::None,
            0 => Faults::None,
            1 => Faults::Takes,
            _ => Faults::All,
        };
        Self { profile: profile.with_capacity(CAPACITY), general, managed, faults, log }
    }

    /// Returns the words of the layers of both stacks.
    pub(crate) fn words(&self) -> impl Iterator<Item = &'static str> {
        let stacks = [Some(&self.general), self.managed.as_ref()];
        let has = move |word: &str| {
            let names = stacks.iter().flatten().flat_map(|text| text.split(['|', '(', ')']));
            names.map(str::trim).any(|name| name == word)
        };
        WORDS.iter().copied().filter(move |word| has(word))
    }
}

const WORDS: [&str; 18] = [
    "device",
    "async",
    "virtual",
    "managed",
    "pinned",
    "pool",
    "limit",
    "statistics",
    "log",
    "tracking",
    "events",
    "graph_pools",
    "tagged",
    "pressure",
    "spill",
    "on_failure",
    "auto_prefetch",
    "prefetch",
];

fn profile(rng: &mut Rng) -> Profile {
    let profiles = [
        Profile::h100_pcie5,
        Profile::gtx1080ti,
        Profile::titanv,
        Profile::gh200,
        Profile::a100,
        Profile::maxwell,
        Profile::wsl,
        Profile::integrated,
    ];
    profiles[rng.below(profiles.len())]()
}

struct Draw<'a> {
    rng: &'a mut Rng,
    /// Every adaptor, instead of a random choice.
    all: bool,
    on_gpu: bool,
    profile: &'a Profile,
    log: Option<PathBuf>,
}

impl Draw<'_> {
    fn chance(&mut self, percent: usize) -> bool {
        self.rng.chance(percent) || self.all
    }

    fn leaf(&mut self) -> &'static str {
        let profile = self.profile;
        let fitting = [
            ("device", true),
            ("async", profile.memory_pools),
            ("virtual", profile.virtual_memory_management),
            ("managed", profile.managed_memory),
            ("pinned", true),
        ];
        let fitting: Vec<_> = fitting.iter().filter(|(_, has)| *has).map(|(leaf, _)| *leaf).collect();
        fitting[self.rng.below(fitting.len())]
    }

    fn pool(&mut self) -> String {
        let mut options = Vec::new();
        let drawn = [
            ("initial", 30, [0, 4, 16]),
            ("maximum", 30, [64, 128, 200]),
            ("step", 40, [1, 4, 32]),
            ("release", 30, [0, 8, 64]),
            ("slack", 30, [0, 1, 8]),
        ];
        for (option, percent, values) in drawn {
            if self.rng.chance(percent) {
                options.push(format!("{option}={}MiB", values[self.rng.below(3)]));
            }
        }
        if self.rng.chance(30) {
            options.push(format!("divisions={}", 1 << self.rng.below(5)));
        }
        if self.rng.chance(30) {
            options.push("grow_first".into());
        }
        if options.is_empty() { "pool".into() } else { format!("pool({})", options.join(", ")) }
    }

    /// Layers under the limit that every stack has, from the leaf outwards.
    fn base(&mut self, leaf: &str) -> Vec<String> {
        let mut layers = vec![leaf.to_owned(), format!("limit({MOST}MiB)")];
        if self.chance(20) {
            layers.push("statistics".into());
        }
        if self.chance(85) {
            layers.push(self.pool());
        }
        if self.rng.chance(20) && layers.len() > 2 {
            layers.push("pool(up_to=64KiB)".into());
        }
        layers
    }

    fn watchers(&mut self, layers: &mut Vec<String>, tag: &str) {
        if self.chance(40) {
            let traces = if self.rng.chance(5) { "(traces)" } else { "" };
            layers.push(format!("tracking{traces}"));
        }
        if self.chance(20) {
            layers.push("events".into());
        }
        if self.chance(30) {
            layers.push(format!("tagged({tag})"));
        }
        if self.chance(40) {
            layers.push(format!("limit({}MiB, name=soak)", MOST / 2 + self.rng.below(MOST / 2)));
        }
    }

    fn general(&mut self, log_file: &Path) -> String {
        let leaf = self.leaf();
        let mut layers = self.base(leaf);
        self.watchers(&mut layers, "general");
        if self.chance(30) {
            layers.push(format!("log({}, flush)", log_file.display()));
            self.log = Some(log_file.to_owned());
        }
        if self.chance(30) {
            let slack = self.rng.below(3);
            layers.push(format!("pressure(trim=60%, refuse=95%, slack={slack}%, ask={}MiB)", self.rng.below(8)));
        }
        if self.chance(25) {
            let second = self.leaf();
            let second = self.base(second);
            layers.push(format!("spill({})", second.join(" | ")));
        }
        if self.chance(30) {
            layers.push("on_failure(trim, attempts=2)".into());
        }
        layers.push("statistics".into());
        if self.chance(60) {
            layers.push("graph_pools".into());
        }
        layers.join(" | ")
    }

    fn managed(&mut self) -> String {
        let mut layers = self.base("managed");
        self.watchers(&mut layers, "managed");
        layers.push("statistics".into());
        if self.chance(60) {
            layers.push("auto_prefetch(budget=32MiB, ahead=3, pass_through)".into());
        }
        if self.chance(50) {
            let always = if self.rng.chance(30) { ", always" } else { "" };
            let target = if self.on_gpu || self.rng.chance(70) { "0" } else { "host" };
            layers.push(format!("prefetch({target}, pass_through{always})"));
        }
        layers.join(" | ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cumem::Device;
    use cumem::unified::accounting::Ledger;
    use cumem_adaptors::StackSpec;
    use std::sync::Arc;

    #[test]
    fn the_first_round_has_every_adaptor_and_all_rounds_can_be_built() {
        let (mut rng, log) = (Rng::new(1), std::env::temp_dir().join(format!("cumem-plan-{}", std::process::id())));
        for number in 0..200 {
            let plan = Plan::draw(number, &mut rng, false, &log);
            let words: Vec<_> = plan.words().collect();
            assert!(number > 0 || WORDS[5..].iter().all(|word| words.contains(word)), "{words:?}");
            let device = Device::simulated(plan.profile.clone()).unwrap();
            let ledger = Arc::new(Ledger::new(&device));
            for text in [Some(&plan.general), plan.managed.as_ref()].into_iter().flatten() {
                let stack = StackSpec::parse(text).unwrap().build_with_ledger(&device, &ledger);
                stack.unwrap_or_else(|error| panic!("{text} on {}: {error}", plan.profile.name));
            }
        }
        let _ = std::fs::remove_file(log);
    }
}
