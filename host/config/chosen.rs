//! What has been chosen.

use vmctx::Tier;

use super::Config;
use crate::probe::Kernel;

/// What was chosen, for tools that look whether the wall is as it was asked for.
impl Config {
    /// See [`tier`](Self::tier).
    #[must_use]
    pub fn chosen_tier(&self) -> Tier {
        self.tier
    }

    /// See [`direct`](Self::direct).
    #[must_use]
    pub fn is_direct(&self) -> bool {
        self.direct
    }

    /// See [`uid`](Self::uid); `None` is the default.
    #[must_use]
    pub fn chosen_uid(&self) -> Option<u32> {
        self.uid
    }

    /// See [`gid`](Self::gid); `None` is the default.
    #[must_use]
    pub fn chosen_gid(&self) -> Option<u32> {
        self.gid
    }

    /// See [`nice`](Self::nice); `None` is the default.
    #[must_use]
    pub fn chosen_nice(&self) -> Option<i32> {
        self.nice
    }

    /// See [`cpus`](Self::cpus); `None` is the default.
    #[must_use]
    pub fn chosen_cpus(&self) -> Option<&[usize]> {
        self.cpus.as_deref()
    }

    /// See [`report_forbidden_calls`](Self::report_forbidden_calls).
    #[must_use]
    pub fn reports_forbidden_calls(&self) -> bool {
        self.report_forbidden_calls
    }

    /// See [`fixed_memory`](Self::fixed_memory).
    #[must_use]
    pub fn fixes_memory(&self) -> bool {
        self.fixed_memory
    }

    /// See [`single_tenant`](Self::single_tenant).
    #[must_use]
    pub fn is_single_tenant(&self) -> bool {
        self.single_tenant
    }

    /// See [`keep_speculation`](Self::keep_speculation).
    #[must_use]
    pub fn keeps_speculation(&self) -> bool {
        self.keep_speculation
    }

    /// See [`core_scheduling`](Self::core_scheduling).
    #[must_use]
    pub fn asks_for_core_scheduling(&self) -> bool {
        self.core_scheduling
    }

    /// See [`kernel`](Self::kernel); `None` is the default.
    #[must_use]
    pub fn chosen_kernel(&self) -> Option<&Kernel> {
        self.kernel.as_ref()
    }

    /// See [`timestamp_counter`](Self::timestamp_counter).
    #[must_use]
    pub fn allows_timestamp_counter(&self) -> bool {
        self.timestamp_counter
    }
}
