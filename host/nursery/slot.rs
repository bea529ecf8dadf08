//! What a nursery's worker lives in: a place among the pages, and a memory file. Both are used
//! again, once nothing of the worker before is left in them.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};

use linux_raw::process::{Resource, get_limit};
use vmctx::map;

use crate::error::{Blame, Error, KernelResult as _, Stage};
use crate::lineage::Lineage;
use crate::memory::MemoryFile;
use crate::turn::{Pages, Slab};

/// How many empty memory files are kept for the next workers at the most, as many as the pool keeps
/// workers: a new one is made, mapped, and handed to the nursery. Who needs a file takes these
/// first, so that they make no start fail, but each is a descriptor and 4 GiB of addresses that the
/// host's own code might want: they are an eighth of what its limits allow, or less.
const FILES_KEPT: u64 = 64;
const SHARE_KEPT: u64 = 8;

/// Those that nobody lives in.
pub(super) struct Slots {
    slab: Arc<Slab>,
    lineage: Arc<Lineage>,
    places: u32,
    files_kept: usize,
    free: Mutex<Free>,
}

struct Free {
    /// Places that have been used, made as new, with their files as long as they are kept.
    renewed: Vec<(u32, Option<Arc<MemoryFile>>)>,
    /// The first that never was.
    next: u32,
}

/// One of them. The last owner of it makes it as new.
pub(crate) struct Slot {
    slots: Arc<Slots>,
    place: u32,
    memory: Arc<MemoryFile>,
    /// Whether somebody may still live in it.
    given_up: AtomicBool,
}

impl Slots {
    pub(super) fn new(
        slab: Arc<Slab>,
        places: u32,
        lineage: &Arc<Lineage>,
    ) -> Result<Arc<Self>, Error> {
        let free = Free {
            renewed: Vec::new(),
            next: 0,
        };
        Ok(Arc::new(Self {
            slab,
            lineage: Arc::clone(lineage),
            places,
            files_kept: files_kept()?,
            free: Mutex::new(free),
        }))
    }

    /// Takes one.
    pub(super) fn take(self: &Arc<Self>) -> Result<Arc<Slot>, Error> {
        let (place, memory) = self.take_place().ok_or(Error {
            stage: Stage::Start,
            blame: Blame::TooManyWorkers(self.places),
        })?;
        let memory = match memory {
            Some(memory) => memory,
            None => match MemoryFile::new(&self.lineage) {
                Ok(memory) => Arc::new(memory),
                Err(error) => {
                    self.free().renewed.push((place, None));
                    return Err(error);
                }
            },
        };
        Ok(Arc::new(Slot {
            slots: Arc::clone(self),
            place,
            memory,
            given_up: AtomicBool::new(false),
        }))
    }

    fn take_place(&self) -> Option<(u32, Option<Arc<MemoryFile>>)> {
        let mut free = self.free();
        // Those with a file are at the end.
        if let Some(renewed) = free.renewed.pop() {
            return Some(renewed);
        }
        let place = free.next;
        (place < self.places).then(|| {
            free.next += 1;
            (place, None)
        })
    }

    fn give(&self, place: u32, memory: Arc<MemoryFile>) {
        let mut free = self.free();
        let kept = free.renewed.iter().rev();
        let kept = kept.take_while(|(_, file)| file.is_some()).count();
        if kept < self.files_kept {
            free.renewed.push((place, Some(memory)));
        } else {
            free.renewed.insert(0, (place, None));
        }
    }

    fn free(&self) -> std::sync::MutexGuard<'_, Free> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many empty files the limits of this process leave room for.
fn files_kept() -> Result<usize, Error> {
    let limit = |resource| get_limit(resource).at(Stage::Nursery, "prlimit64");
    let by_files = limit(Resource::Files)?.soft / SHARE_KEPT;
    let by_addresses = limit(Resource::AddressSpace)?.soft / SHARE_KEPT / map::GUEST.end;
    let kept = by_files.min(by_addresses).min(FILES_KEPT);
    Ok(usize::try_from(kept).unwrap_or(0))
}

impl Slot {
    pub(crate) fn place(&self) -> u32 {
        self.place
    }

    pub(crate) fn pages(&self) -> Pages {
        self.slots.slab.pages(self.place)
    }

    pub(crate) fn memory(&self) -> &Arc<MemoryFile> {
        &self.memory
    }
}

impl Slot {
    /// Says that it is never to be used again.
    pub(crate) fn give_up(&self) {
        // Relaxed: the last owner's drop comes after all others by the count of owners.
        self.given_up.store(true, Relaxed);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        // A forked child has neither the pages nor the files.
        if !self.slots.lineage.is_ours() || *self.given_up.get_mut() {
            return;
        }
        let renewed = self.pages().renew().and_then(|()| self.memory.empty());
        match renewed {
            Ok(()) => self.slots.give(self.place, Arc::clone(&self.memory)),
            // What cannot be wiped is never used again.
            Err(error) => tracing::warn!(place = self.place, %error, "a place is given up"),
        }
    }
}
