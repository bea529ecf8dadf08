//! Interrupting a guest from any thread.
//!
//! The flag is what counts: whoever runs the guest looks at it before each turn and while it waits,
//! and is woken to look. The signal only makes the guest stop without the detour.

use std::fmt;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::{Arc, Mutex, PoisonError};

use linux_raw::fd::{AsFd as _, BorrowedFd, OwnedFd, dup_cloexec_min};

use crate::lineage::Lineage;
use crate::turn::{Doorbell, Turn};

/// Interrupts one instance's guest, from any thread, at any time. Cheap to clone; made by
/// [`Instance::interrupt_handle`](crate::Instance::interrupt_handle).
///
/// It keeps nothing alive: once the instance is dropped, it does nothing. In a forked child it does
/// nothing either.
#[derive(Clone)]
pub struct InterruptHandle {
    bell: Arc<Bell>,
}

impl InterruptHandle {
    /// Makes the [`run`](crate::Instance::run) that is under way return
    /// [`Interrupt::Interrupted`](crate::Interrupt::Interrupted), or else the next one, which then
    /// does not enter the guest. However often it is called before that, it counts once.
    ///
    /// It does not wait for the guest to stop, and never fails. Not to be called by a signal's
    /// handler: it takes a lock.
    pub fn interrupt(&self) {
        if self.bell.lineage.is_ours() {
            self.bell.ring();
        }
    }
}

impl fmt::Debug for InterruptHandle {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("InterruptHandle")
            .field("asked", &self.bell.is_asked())
            .finish_non_exhaustive()
    }
}

/// What an instance shares with the handles.
pub(crate) struct Bell {
    asked: AtomicBool,
    /// Whether a handle has sent its signal in this turn. One is enough: whoever runs the guest
    /// repeats it, with pauses. Signals that come faster than the worker can leave their handler
    /// would fill the stack of that.
    sent: AtomicBool,
    lineage: Arc<Lineage>,
    /// `run` never locks it.
    target: Mutex<Option<Target>>,
}

/// Where to ring, while there is an instance.
struct Target {
    /// `None` where descriptors are short: whoever runs the guest has one too.
    worker: Option<OwnedFd>,
    doorbell: Doorbell,
}

impl Bell {
    pub(crate) fn new(lineage: &Arc<Lineage>) -> Arc<Self> {
        Arc::new(Self {
            asked: AtomicBool::new(false),
            sent: AtomicBool::new(false),
            lineage: Arc::clone(lineage),
            target: Mutex::new(None),
        })
    }

    /// A handle for it.
    pub(crate) fn handle(
        self: &Arc<Self>,
        worker: Option<BorrowedFd<'_>>,
        doorbell: impl FnOnce() -> Doorbell,
    ) -> InterruptHandle {
        if self.lineage.is_ours() {
            let mut target = self.target.lock().unwrap_or_else(PoisonError::into_inner);
            target.get_or_insert_with(|| Target {
                worker: worker.and_then(|worker| dup_cloexec_min(worker, 0).ok()),
                doorbell: doorbell(),
            });
        }
        InterruptHandle {
            bell: Arc::clone(self),
        }
    }

    /// Whether somebody has asked, and has not been answered.
    #[inline]
    pub(crate) fn is_asked(&self) -> bool {
        // Acquire pairs with the Release in `ring`.
        self.asked.load(Acquire)
    }

    /// Answers: gives whether somebody had asked.
    pub(crate) fn take(&self) -> bool {
        // Acquire pairs with the Release in `ring`; that it is cleared tells of nothing else.
        self.asked.swap(false, AcqRel)
    }

    /// A turn begins, in which the guest may be stopped by one signal of a handle's.
    #[inline]
    pub(crate) fn begin_turn(&self) {
        // A plain store would take the line from the handles each time, for nothing mostly.
        if self.sent.load(Relaxed) {
            self.sent.store(false, Relaxed);
        }
    }

    fn ring(&self) {
        // Release pairs with the Acquire in `is_asked` and `take`.
        self.asked.store(true, Release);
        let target = self.target.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(target) = &*target {
            // Relaxed: one signal more or less in the moment in which a turn begins does no harm.
            if !self.sent.swap(true, Relaxed)
                && let Some(worker) = &target.worker
            {
                // It is dead, or we may not: the one who runs it finds out.
                let _ = Turn::interrupt(worker.as_fd());
            }
            target.doorbell.ring();
        }
    }

    /// There is no instance any more.
    pub(crate) fn take_down(&self) {
        // A forked child's copy of the lock may be held by a thread that it does not have.
        if self.lineage.is_ours() {
            let mut target = self.target.lock().unwrap_or_else(PoisonError::into_inner);
            *target = None;
        }
    }
}
