//! What workers are made with: shared by an engine and the threads that work for it.

use std::sync::{Arc, OnceLock};

use crate::config::Config;
use crate::error::{Error, Misuse, Stage};
use crate::layers::Layers;
use crate::lineage::Lineage;
use crate::memory::EngineBudget;
use crate::metrics::{Counters, Kill};
use crate::module::Module;
use crate::nursery::Nursery;
use crate::reactor::{Reactor, Then};
use crate::start::Started;
use crate::turn::{Patience, Seats};
use crate::ways::Ways;
use crate::wishes::Wishes;

pub(crate) struct Core {
    pub(crate) config: Config,
    pub(crate) wishes: Wishes,
    /// What it does without, and how.
    pub(crate) ways: Arc<Ways>,
    pub(crate) patience: Patience,
    pub(crate) seats: Arc<Seats>,
    pub(crate) reactor: Reactor,
    /// What clones the workers, unless each is to have namespaces of its own.
    pub(crate) nursery: Option<Arc<Nursery>>,
    pub(crate) lineage: Arc<Lineage>,
    pub(crate) budget: Arc<EngineBudget>,
    /// Whether the host decides what is in guest memory, by userfaultfd.
    pub(crate) paged: bool,
    pub(crate) counters: Counters,
    /// What the first worker reported; every other one must report the same.
    pub(crate) layers: OnceLock<Layers>,
}

impl Core {
    /// Whether a start makes sense at all.
    pub(crate) fn check_start(&self, module: &Module) -> Result<(), Error> {
        let refuse = |misuse| Err(Error::misuse(Stage::Start, misuse));
        // A module of the parent's is refused too: its contents are not mapped here.
        if !self.lineage.is_ours() || !module.is_ours() {
            return refuse(Misuse::Forked);
        }
        self.ways.still_hold()?;
        let (bytes, limit) = (module.memory_bytes(), self.config.memory_limit);
        if bytes > limit {
            return refuse(Misuse::MemoryLimit { bytes, limit });
        }
        if module.is_paged() && !self.paged {
            return refuse(Misuse::FixedMap);
        }
        Ok(())
    }

    /// Keeps what a worker reported, and says if it is what the first one did.
    pub(crate) fn agree_on(&self, layers: Layers) -> bool {
        *self.layers.get_or_init(|| layers) == layers
    }

    /// Ends a worker, and does what follows when it is gone. The caller waits for nothing of that.
    pub(crate) fn discard(&self, mut started: Started, why: Kill, then: Option<Then>) {
        if let Some(why) = started.worker.end_for(why) {
            self.counters.killed(why);
        }
        // To those who ask for memory next it is gone.
        started.memory.release_budget();
        // What is shared with a worker takes long to unmap. It is done as soon as the worker is
        // killed: whoever is the last to have memory has to free all of it, and that shall be the
        // worker. All else goes the same way, or this thread and the engine's would take the
        // counters of what is shared from each other.
        let Started {
            worker,
            turn,
            memory,
            module,
            layers: _,
            slot,
            tally: _,
        } = started;
        let rest = (turn, memory, module, slot);
        worker.end_with(self.reactor.reaper(), rest, then);
    }
}
