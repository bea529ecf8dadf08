//! The files that a nursery keeps for its next workers, by the numbers that it has them under.

use std::sync::{Arc, Weak};
use std::time::Instant;

use vmctx::ring::Request;
use vmctx::slots::nursery::ADOPTED;

use super::super::Wanted;
use super::super::ring::Unanswered;
use super::{Life, MEMORIES, MODULES};
use crate::module::{Module, WeakModule};

impl Life {
    /// The number of a place's memory file, which it keeps for the place's next worker.
    pub(super) fn memory(
        &mut self,
        wanted: &Wanted<'_>,
        deadline: Option<Instant>,
    ) -> Result<i32, Unanswered> {
        let place = usize::try_from(wanted.slot.place()).unwrap_or(usize::MAX);
        if self.memories.len() <= place {
            self.memories.resize_with(place + 1, Weak::new);
        }
        let memory = wanted.slot.memory();
        let number = MEMORIES + i32::try_from(place).unwrap_or(i32::MAX - MEMORIES);
        if !std::ptr::eq(self.memories[place].as_ptr(), Arc::as_ptr(memory)) {
            self.adopt(memory.fd(), number, deadline)?;
            self.memories[place] = Arc::downgrade(memory);
        }
        Ok(number)
    }

    /// The number of a module's file, which it keeps for the module's next instance.
    pub(super) fn module(
        &mut self,
        module: &Module,
        deadline: Option<Instant>,
    ) -> Result<i32, Unanswered> {
        let has = |kept: &Option<WeakModule>| kept.as_ref().is_some_and(|kept| kept.is(module));
        if let Some(place) = self.modules.iter().position(has) {
            return Ok(module_number(place));
        }
        let most = usize::try_from(MODULES).unwrap_or(0);
        let place = match self.modules.iter().position(Option::is_none) {
            Some(free) => free,
            None if self.modules.len() < most => {
                self.modules.push(None);
                self.modules.len() - 1
            }
            None => {
                self.oldest = (self.oldest + 1) % most;
                self.oldest
            }
        };
        self.adopt(&module.fd(), module_number(place), deadline)?;
        self.modules[place] = Some(module.downgrade());
        Ok(module_number(place))
    }

    /// Takes back the files of modules that are gone.
    pub(super) fn forget_modules(&mut self, deadline: Option<Instant>) -> Result<(), Unanswered> {
        let is_gone = |kept: &Option<WeakModule>| kept.as_ref().is_some_and(WeakModule::is_gone);
        while let Some(place) = self.modules.iter().position(is_gone) {
            self.modules[place] = None;
            let number = module_number(place).cast_unsigned();
            self.ask(Request::Close, number, [0; 3], deadline)?;
        }
        Ok(())
    }
}

fn module_number(place: usize) -> i32 {
    ADOPTED.start + i32::try_from(place).unwrap_or(MODULES)
}
