//! What a trial says beyond success: the number that it brings along, in words.

use super::trials::cgroup::CONTROLLERS;
use super::trials::layers::{DISABLED, UNTRIED};
use super::trials::unused::BY_DEVICE;
use super::{Feature, Finding};

impl Finding {
    /// What is known beyond its presence, such as "ABI 7".
    #[must_use]
    pub fn detail(&self) -> Option<String> {
        let value = self.value?;
        match self.feature {
            Feature::Landlock => Some(format!("ABI {value}")),
            Feature::IoUring => Some(format!("operations up to {value}")),
            Feature::Userfaultfd => Some(format!("features {value:#x}")),
            Feature::LandlockNetwork if value == UNTRIED => {
                Some("there is no TCP to try it with".into())
            }
            Feature::StoreBypass | Feature::IndirectBranch if value == DISABLED => {
                Some("disabled for everybody".into())
            }
            Feature::Cgroup => Some(controllers(value)),
            Feature::UserfaultfdKernel if value == BY_DEVICE => Some("by /dev/userfaultfd".into()),
            _ => None,
        }
    }
}

fn controllers(mask: u64) -> String {
    let has = |(at, name): (usize, &&'static str)| (mask >> at & 1 != 0).then_some(*name);
    let names: Vec<_> = CONTROLLERS.iter().enumerate().filter_map(has).collect();
    if names.is_empty() {
        "without controllers".into()
    } else {
        format!("with {}", names.join(", "))
    }
}
