//! Handles that do not keep a module.

use std::sync::{Arc, Weak};

use super::{Inner, Module};

/// A module that may be gone.
pub(crate) struct WeakModule(Weak<Inner>);

impl WeakModule {
    /// Whether it is this one.
    pub(crate) fn is(&self, module: &Module) -> bool {
        std::ptr::eq(self.0.as_ptr(), Arc::as_ptr(&module.inner))
    }

    /// Whether nobody has it any more.
    pub(crate) fn is_gone(&self) -> bool {
        self.0.strong_count() == 0
    }
}

impl Module {
    /// What tells it from every other module that there is now.
    pub(crate) fn key(&self) -> usize {
        Arc::as_ptr(&self.inner).addr()
    }

    /// A handle that does not keep it.
    pub(crate) fn downgrade(&self) -> WeakModule {
        WeakModule(Arc::downgrade(&self.inner))
    }
}
