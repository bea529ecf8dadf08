//! Who may be struck, and how those who have an instance know that it was.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// An instance's worker, by number.
pub(crate) struct Victim {
    pub(crate) process: u32,
    /// Its engine, among the sites.
    pub(crate) site: usize,
    struck: AtomicBool,
    /// Held by whoever strikes, until the worker is dead, and by whoever drops the instance: what
    /// goes back into a pool is not about to die.
    is_gone: Mutex<bool>,
}

impl Victim {
    /// Says that it may be dead from now on.
    pub(crate) fn strike(&self) {
        self.struck.store(true, SeqCst);
    }

    pub(crate) fn is_struck(&self) -> bool {
        self.struck.load(SeqCst)
    }

    /// Keeps the instance for as long as the answer is kept; nothing if it has been dropped.
    pub(crate) fn hold(&self) -> Option<MutexGuard<'_, bool>> {
        let is_gone = self.is_gone.lock().unwrap_or_else(PoisonError::into_inner);
        (!*is_gone).then_some(is_gone)
    }
}

/// Those whose instance is there.
#[derive(Default)]
pub(crate) struct Victims(Mutex<Vec<Arc<Victim>>>);

impl Victims {
    pub(crate) fn add(&self, process: u32, site: usize) -> Arc<Victim> {
        let victim = Arc::new(Victim {
            process,
            site,
            struck: AtomicBool::new(false),
            is_gone: Mutex::new(false),
        });
        self.all().push(Arc::clone(&victim));
        victim
    }

    /// Waits until nobody strikes it.
    pub(crate) fn remove(&self, victim: &Arc<Victim>) {
        if let Some(mut is_gone) = victim.hold() {
            *is_gone = true;
        }
        self.all().retain(|other| !Arc::ptr_eq(other, victim));
    }

    /// One of them.
    pub(crate) fn choose(&self, random: &mut fastrand::Rng) -> Option<Arc<Victim>> {
        random.choice(self.all().iter()).cloned()
    }

    fn all(&self) -> MutexGuard<'_, Vec<Arc<Victim>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
