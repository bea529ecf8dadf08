//! How long each step of a start takes, seen from outside: the worker says which step it is taking,
//! and the host looks all the time.

use std::sync::atomic::Ordering::Acquire;
use std::time::{Duration, Instant};

use linux_raw::arch;
use vmctx::{GuestPage, Step};

use crate::engine::Engine;
use crate::error::Error;
use crate::module::Module;
use crate::process::Process;
use crate::reactor::Pending;
use crate::start;

/// One step of a start and how long it took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepTime {
    /// Which step. [`Step::Exec`] stands for everything before the zygote's first step: the host's
    /// preparations, the clone, the child's own steps, the exec.
    pub step: Step,
    /// How long.
    pub took: Duration,
}

/// Looks at a starting worker and notes when its steps begin.
pub(crate) struct Watch {
    begun: Instant,
    seen: Vec<(Step, Instant)>,
}

impl Watch {
    /// Notes a new step.
    fn look(&mut self, page: &GuestPage) -> Option<Step> {
        // Acquire pairs with the Release of `last_words::begin`.
        let step = u8::try_from(page.step.load(Acquire)).ok()?;
        let step = Step::from_number(step)?;
        if self.seen.last().is_none_or(|(last, _)| *last != step) {
            self.seen.push((step, Instant::now()));
        }
        Some(step)
    }

    /// Looks until the engine's thread answers.
    pub(crate) fn until_executed(
        &mut self,
        page: &GuestPage,
        pending: Pending,
    ) -> Result<Process, Error> {
        loop {
            if let Some(answer) = pending.poll() {
                return answer;
            }
            self.look(page);
            arch::pause();
        }
    }

    /// Looks until the worker is ready, or nothing more is to be expected.
    pub(crate) fn until_ready(&mut self, page: &GuestPage, timeout: Duration) {
        let deadline = Instant::now() + timeout.min(Duration::from_secs(1));
        while self.look(page) != Some(Step::Ready) && Instant::now() < deadline {
            arch::pause();
        }
    }

    /// Each step with the time until the next one.
    fn times(&self) -> Vec<StepTime> {
        let begins = std::iter::once((Step::Exec, self.begun)).chain(self.seen.iter().copied());
        let ends = self.seen.iter().map(|(_, end)| *end);
        begins
            .zip(ends)
            .map(|((step, begin), end)| StepTime {
                step,
                took: end.saturating_duration_since(begin),
            })
            .collect()
    }
}

impl Engine {
    /// Starts a worker for `module`, looks at it while it locks itself down, and says how long each
    /// step took; the worker is dropped.
    ///
    /// For people who wonder where a start's time goes. The calling thread spins meanwhile and
    /// looks which step the worker is taking. A step that it does not see, since the machine has
    /// one CPU or is loaded, is left out, and its time is counted to the one before: take the
    /// median of many calls, and leave out those whose last step is not [`Step::Seccomp`].
    ///
    /// ```
    /// use cellwall::{Config, Engine, Module};
    ///
    /// let engine = Engine::new(&Config::default())?;
    /// let module = Module::builder().code(&[0xc3]).stack(0x10_0000, 0x1_0000).build(&engine)?;
    /// for time in engine.profile_start(&module)? {
    ///     println!("{:>8.1} us  {}", time.took.as_secs_f64() * 1e6, time.step.name());
    /// }
    /// # Ok::<(), cellwall::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`instantiate`](Self::instantiate).
    pub fn profile_start(&self, module: &Module) -> Result<Vec<StepTime>, Error> {
        self.core().check_start(module)?;
        let mut watch = Watch {
            begun: Instant::now(),
            seen: Vec::with_capacity(Step::ALL.len()),
        };
        start::start(self.core(), module, Some(&mut watch))?;
        Ok(watch.times())
    }
}
