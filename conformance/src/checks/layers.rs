use crate::broken::{Outcome, ensure};
use crate::subject::Subject;
use cumem::MemoryResource;
use cumem::layer::Beneath;
use cumem::layer::Described;
use std::fmt::Display;

/// A stack with more layers than this is taken for a cycle.
const DEEPEST: usize = 64;

/// `Display` prints the layers outermost first and ends with the device: `limit(1GiB) over device on cuda:0`.
pub(super) fn display_names_every_layer<R: MemoryResource + Display>(subject: &Subject<'_, R>) -> Outcome {
    let mut expected = Described(&subject.resource).to_string();
    let mut beneath = subject.resource.beneath();
    for _ in 0..DEEPEST {
        let (Beneath::Layer(layer) | Beneath::Two(layer, _)) = beneath else { break };
        let name = Described(layer).to_string();
        ensure!(!name.is_empty(), "a layer under `{expected}` has no name");
        expected += &format!(" over {name}");
        beneath = layer.beneath();
    }
    expected += &format!(" on {}", subject.device.id());
    let found = subject.resource.to_string();
    ensure!(found == expected, "displays as `{found}`, should as `{expected}`");
    ensure!(!found.starts_with(" o") && !found.contains('\n'), "`{found}` is not one line of named layers");
    Ok(())
}

/// Following the layers down ends at the device that the resource was made for.
pub(super) fn chain_ends_at_the_device<R: MemoryResource>(subject: &Subject<'_, R>) -> Outcome {
    let mut beneath = subject.resource.beneath();
    for _ in 0..DEEPEST {
        match beneath {
            Beneath::Layer(layer) | Beneath::Two(layer, _) => beneath = layer.beneath(),
            Beneath::Device(device) => {
                let (found, expected) = (device.id(), subject.device.id());
                ensure!(found == expected, "made for {expected}, stands on {found}");
                return Ok(());
            }
        }
    }
    ensure!(false, "no device beneath {DEEPEST} layers");
    Ok(())
}
