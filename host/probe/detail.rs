//! What a trial says beyond success: the number that it brings along, in words.

use linux_raw::uffd::Features;

use super::trials::cgroup::CONTROLLERS;
use super::trials::flags::{
    CLOSE_RANGE_FLAGS, MEMFD_FLAGS, Named, SECCOMP_ACTIONS, SECCOMP_FLAGS, highest_operation,
    needed_operations,
};
use super::trials::layers::{DISABLED, UNTRIED};
use super::trials::unused::BY_DEVICE;
use super::{Feature, Finding};
use crate::memory::NEEDED_FEATURES;

impl Finding {
    /// What is known beyond its presence, such as "ABI 7", or what of it is missing.
    #[must_use]
    pub fn detail(&self) -> Option<String> {
        let value = self.value?;
        match self.feature {
            Feature::SeccompFilter => {
                let flags = names("flags", SECCOMP_FLAGS, value);
                let actions = names("actions", SECCOMP_ACTIONS, value);
                Some(format!("{flags}; {actions}"))
            }
            Feature::Memfd => Some(names("flags", MEMFD_FLAGS, value)),
            Feature::CloseRange => Some(names("flags", CLOSE_RANGE_FLAGS, value)),
            Feature::Landlock => Some(format!("ABI {value}")),
            Feature::IoUring => Some(operations(value)),
            Feature::Userfaultfd => Some(paging(value)),
            Feature::LandlockNetwork if value == UNTRIED => {
                Some("no TCP port can be had to try it with".into())
            }
            Feature::LandlockScopes if value == UNTRIED => {
                Some("no signal can be sent to try it with".into())
            }
            Feature::StoreBypass | Feature::IndirectBranch if value == DISABLED => {
                Some("disabled for everybody".into())
            }
            Feature::Cgroup => {
                let bits = CONTROLLERS.iter().enumerate();
                Some(names(
                    "controllers",
                    bits.map(|(at, name)| (1 << at, *name)),
                    value,
                ))
            }
            Feature::UserfaultfdKernel if value == BY_DEVICE => Some("by /dev/userfaultfd".into()),
            _ => None,
        }
    }
}

/// "flags one, other", or "no flags".
fn names(what: &str, known: impl IntoIterator<Item = Named>, mask: u64) -> String {
    let has = |(bit, name): Named| (mask & bit != 0).then_some(name);
    let names: Vec<_> = known.into_iter().filter_map(has).collect();
    if names.is_empty() {
        format!("no {what}")
    } else {
        format!("{what} {}", names.join(", "))
    }
}

/// The highest operation, or those that a server of guests needs and misses.
fn operations(value: u64) -> String {
    let lacks = |(bit, op)| (value & bit == 0).then(|| format!("{op:?}"));
    let lacking: Vec<_> = needed_operations().filter_map(lacks).collect();
    if lacking.is_empty() {
        format!("operations up to {}", highest_operation(value))
    } else {
        let lacking = lacking.join(", ");
        format!("guests are served by plain calls, for want of {lacking}")
    }
}

/// The features that are needed: all, or those that are missing.
fn paging(mask: u64) -> String {
    let list = |features: Features| -> String {
        let names: Vec<_> = features.iter_names().map(|(name, _)| name).collect();
        names.join(", ")
    };
    let lacking = NEEDED_FEATURES.difference(Features::from_bits_retain(mask));
    if lacking.is_empty() {
        format!("{mask:#x} with {}", list(NEEDED_FEATURES))
    } else {
        format!("lacks {}", list(lacking))
    }
}

#[cfg(test)]
mod tests {
    use linux_raw::Errno;
    use linux_raw::uffd::Features;

    use super::{Feature, Finding, NEEDED_FEATURES, needed_operations};
    use crate::probe::Support;

    fn detail(feature: Feature, support: Support, value: u64) -> String {
        let finding = Finding {
            feature,
            support,
            value: Some(value),
            manager: None,
        };
        finding.detail().unwrap_or_default()
    }

    #[test]
    fn what_is_needed_and_missing_is_named() {
        let absent = Support::Absent(Errno::EINVAL);
        // Linux 5.11 to 5.18.
        let old = NEEDED_FEATURES.difference(Features::WRITE_PROTECT_SHMEM);
        let text = detail(Feature::Userfaultfd, absent, old.bits());
        assert_eq!(text, "lacks WRITE_PROTECT_SHMEM");
        let all = needed_operations().fold(0, |mask, (bit, _)| mask | bit);
        let (read, _) = needed_operations().next().unwrap();
        let text = detail(Feature::IoUring, Support::Present, all & !read);
        assert_eq!(text, "guests are served by plain calls, for want of Read");
        // Linux 6.18, and one of which there is no bit in a word.
        for last in [62, 65] {
            let text = detail(Feature::IoUring, Support::Present, all | last);
            assert_eq!(text, format!("operations up to {last}"));
        }
    }

    #[test]
    fn bits_have_names() {
        let there = |feature, value| detail(feature, Support::Present, value);
        assert_eq!(
            there(Feature::SeccompFilter, 0b11 | 1 << 32),
            "flags tsync, log; actions kill-process"
        );
        assert_eq!(there(Feature::Memfd, 0), "no flags");
        assert_eq!(there(Feature::Cgroup, 0b11000), "controllers memory, pids");
        assert_eq!(there(Feature::Cgroup, 0), "no controllers");
        assert_eq!(there(Feature::StoreBypass, 1), "disabled for everybody");
    }
}
