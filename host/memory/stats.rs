//! What an instance's memory takes.

use linux_raw::memfd;
use vmctx::PAGE_BYTES;

use super::Memory;
use crate::error::{Error, KernelResult as _, Stage};

/// What an instance's memory takes, in bytes, its own code included. Code and constants that all
/// instances of a module share are not in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct MemoryStats {
    /// What the guest may touch without asking anybody, and what is hidden from it for now. This is
    /// what [`Config::memory_limit`](crate::Config::memory_limit) bounds.
    pub mapped: u64,
    /// What of it takes memory from the machine, or swap space: what the kernel says.
    pub resident: u64,
    /// What of that may differ from what the instance began with: all that is resident, once a
    /// guest has run; nothing after a reset or a restore.
    pub dirty: u64,
    /// The most that was ever resident.
    pub peak: u64,
}

impl Memory {
    pub(crate) fn stats(&mut self) -> Result<MemoryStats, Error> {
        let resident = self.resident()?;
        Ok(MemoryStats {
            mapped: self.budget.used(),
            resident,
            dirty: if self.touched { resident } else { 0 },
            peak: self.peak,
        })
    }

    /// Another instance's memory was never more than it is.
    pub(crate) fn forget_peak(&mut self) {
        self.peak = 0;
    }

    /// What the kernel says of the file and of what is hidden, after which the peak is known anew:
    /// pages go only when the host takes them away, who asks before.
    pub(super) fn resident(&mut self) -> Result<u64, Error> {
        let file = memfd::allocated_bytes(&self.file.fd).at(Stage::Memory, "fstat")?;
        let kept = self.hidden.len() as u64 * PAGE_BYTES + self.code_bytes();
        let resident = file + kept;
        self.peak = self.peak.max(resident);
        Ok(resident)
    }
}
