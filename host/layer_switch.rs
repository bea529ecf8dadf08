//! Leaving out layers, for the tests that attack each of them alone (`cargo xtask layers`).
//!
//! Compiled with `--cfg cellwall_layer_switch` only: neither the library that is shipped nor its
//! zygote has this.

use linux_raw::process::CloneFlags;
use vmctx::{Layer, LayerSet};

use crate::config::Config;

/// The namespaces and what the clone calls them.
const NAMESPACES: [(Layer, CloneFlags); 7] = [
    (Layer::UserNamespace, CloneFlags::NEWUSER),
    (Layer::MountNamespace, CloneFlags::NEWNS),
    (Layer::PidNamespace, CloneFlags::NEWPID),
    (Layer::NetworkNamespace, CloneFlags::NEWNET),
    (Layer::IpcNamespace, CloneFlags::NEWIPC),
    (Layer::UtsNamespace, CloneFlags::NEWUTS),
    (Layer::CgroupNamespace, CloneFlags::NEWCGROUP),
];

/// What no worker can be without: it is how the guest's memory and the shared pages are mapped.
const NEVER_LEFT_OUT: [Layer; 2] = [Layer::WriteXorExecute, Layer::SharedWords];

impl Config {
    /// Leaves out every layer but these, and those that no worker can be without.
    ///
    /// A step of the zygote that puts up several layers is left out if none of them is kept.
    pub fn only(mut self, kept: &[Layer]) -> Self {
        // Emptying the root of a worker without a mount namespace would empty the host's.
        let is_kept = |layer: &Layer| {
            let is_safe = *layer != Layer::EmptyRoot || kept.contains(&Layer::MountNamespace);
            NEVER_LEFT_OUT.contains(layer) || kept.contains(layer) && is_safe
        };
        // A nursery needs its pid namespace.
        self.direct = true;
        self.left_out = Layer::ALL
            .iter()
            .filter(|layer| !is_kept(layer))
            .fold(LayerSet::NONE, |set, layer| set.with(*layer));
        self
    }
}

/// The clone's flags without those of namespaces that are left out.
pub(crate) fn kept_namespaces(flags: CloneFlags, left_out: LayerSet) -> CloneFlags {
    NAMESPACES
        .iter()
        .filter(|(layer, _)| left_out.has(*layer))
        .fold(flags, |flags, (_, flag)| flags.difference(*flag))
}
