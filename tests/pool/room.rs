//! Room for who needs it, while the pool's thread has the worker in its hands that could give way.

use std::sync::{Condvar, Mutex, OnceLock};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use cellwall::{Blame, Config, Engine, Error, Misuse, PoolConfig, Protection};
use linux_raw::process::{Resource, get_limit, set_limit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use super::memory::{BIG, PAGE, tight};
use super::{SETTLED, engine, highest_descriptor, is_new, module};
use crate::harness::{DATA, alone, both, is_nursed};

/// How long the thread keeps a worker.
const LATER: Duration = Duration::from_millis(50);

/// Where the pool's thread stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    BeforeCleaning,
    AfterCleaning,
    AfterStart,
}

#[derive(Default)]
struct Gate {
    /// Where it is shut.
    shut: Option<Stop>,
    is_reached: bool,
}

static GATE: Mutex<Gate> = Mutex::new(Gate {
    shut: None,
    is_reached: false,
});
static CHANGED: Condvar = Condvar::new();

/// A subscriber that takes its time, as an embedder's may.
struct Slow;

impl Slow {
    fn pass(stop: Stop) {
        if thread::current().name() != Some("cellwall-pool") {
            return;
        }
        let mut gate = GATE.lock().unwrap();
        if gate.shut == Some(stop) {
            gate.is_reached = true;
            CHANGED.notify_all();
        }
        drop(CHANGED.wait_while(gate, |gate| gate.shut == Some(stop)));
    }
}

/// The number of a span that is looked at.
const CLEAN: u64 = 1;
const START: u64 = 2;

impl Subscriber for Slow {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_span()
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        Id::from_u64(match span.metadata().name() {
            "clean" => CLEAN,
            "start" => START,
            _ => u64::MAX,
        })
    }

    fn enter(&self, span: &Id) {
        if span.into_u64() == CLEAN {
            Self::pass(Stop::BeforeCleaning);
        }
    }

    fn exit(&self, span: &Id) {
        match span.into_u64() {
            CLEAN => Self::pass(Stop::AfterCleaning),
            START => Self::pass(Stop::AfterStart),
            _ => {}
        }
    }

    fn event(&self, _: &Event<'_>) {}
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
}

/// Shuts the gate, until this is dropped.
struct Shut;

impl Shut {
    fn at(stop: Stop) -> Self {
        static ONCE: OnceLock<()> = OnceLock::new();
        ONCE.get_or_init(|| tracing::subscriber::set_global_default(Slow).unwrap());
        *GATE.lock().unwrap() = Gate {
            shut: Some(stop),
            is_reached: false,
        };
        Self
    }

    /// Waits until the thread is there.
    fn reached(&self) {
        let gate = GATE.lock().unwrap();
        let waited = CHANGED.wait_timeout_while(gate, SETTLED, |gate| !gate.is_reached);
        assert!(waited.unwrap().0.is_reached, "the thread does not come");
    }
}

impl Drop for Shut {
    fn drop(&mut self) {
        GATE.lock().unwrap().shut = None;
        CHANGED.notify_all();
    }
}

/// Does what has to wait for the thread, which is let go meanwhile.
fn waits<T>(shut: Shut, what: impl FnOnce() -> T) -> T {
    thread::scope(|scope| {
        scope.spawn(move || {
            sleep(LATER);
            drop(shut);
        });
        let begun = Instant::now();
        let done = what();
        let took = begun.elapsed();
        assert!(took < LATER + SETTLED / 2, "{took:?}");
        done
    })
}

fn is_limit(error: &Error) -> bool {
    matches!(error.blame, Blame::Caller(Misuse::EngineMemoryLimit { .. }))
}

#[test]
fn who_needs_memory_waits_for_the_one_that_is_cleaned() {
    const TEST: &str = "pool::room::who_needs_memory_waits_for_the_one_that_is_cleaned";
    alone(TEST, || {
        for stop in [Stop::BeforeCleaning, Stop::AfterCleaning] {
            both(|config| {
                let engine = tight(config, &PoolConfig::new());
                let (one, other) = (module(&engine), module(&engine));
                let first = engine.instantiate(&one).unwrap();
                let each = engine.memory_held();
                let _second = engine.instantiate(&one).unwrap();
                let shut = Shut::at(stop);
                drop(first);
                shut.reached();
                let mut third = waits(shut, || engine.instantiate(&other)).unwrap();
                is_new(&mut third);
                assert_eq!(engine.memory_held(), 2 * each);
            });
        }
    });
}

#[test]
fn who_needs_memory_waits_for_a_spare_one() {
    const TEST: &str = "pool::room::who_needs_memory_waits_for_a_spare_one";
    alone(TEST, || {
        both(|config| {
            let engine = tight(config, &PoolConfig::new().spares(1));
            let (one, other) = (module(&engine), module(&engine));
            let shut = Shut::at(Stop::AfterStart);
            let _first = engine.instantiate(&one).unwrap();
            shut.reached();
            let mut second = waits(shut, || engine.instantiate(&other)).unwrap();
            is_new(&mut second);
        });
    });
}

/// The cleaning needs memory itself, for what the instance had unmapped, and whoever waits for it
/// has left none.
#[test]
fn a_cleaning_that_needs_memory_does_not_wait_for_itself() {
    const TEST: &str = "pool::room::a_cleaning_that_needs_memory_does_not_wait_for_itself";
    alone(TEST, || {
        both(|config| {
            let engine = tight(config, &PoolConfig::new());
            if !engine.can_change_maps() {
                return absence::absent("userfaultfd", "no map changes");
            }
            let module = module(&engine);
            let mut first = engine.instantiate(&module).unwrap();
            let each = engine.memory_held();
            let mut second = engine.instantiate(&module).unwrap();
            first.unmap(DATA, PAGE).unwrap();
            let mut end = BIG;
            while second.map_zero(end, PAGE, Protection::ReadWrite).is_ok() {
                end += PAGE;
            }
            let shut = Shut::at(Stop::BeforeCleaning);
            drop(first);
            shut.reached();
            let grown = || second.map_zero(end, each - PAGE, Protection::ReadWrite);
            waits(shut, grown).unwrap();
            is_new(&mut second);
        });
    });
}

#[test]
fn who_waits_for_memory_waits_with_a_bound() {
    const TEST: &str = "pool::room::who_waits_for_memory_waits_with_a_bound";
    const BOUND: Duration = Duration::from_millis(500);
    alone(TEST, || {
        both(|config| {
            let engine = tight(&config.clone().start_timeout(BOUND), &PoolConfig::new());
            let (one, other) = (module(&engine), module(&engine));
            let first = engine.instantiate(&one).unwrap();
            let _second = engine.instantiate(&one).unwrap();
            let shut = Shut::at(Stop::AfterCleaning);
            drop(first);
            shut.reached();
            let begun = Instant::now();
            assert!(is_limit(&engine.instantiate(&other).unwrap_err()));
            let took = begun.elapsed();
            assert!(took >= BOUND && took < 10 * BOUND, "{took:?}");
            drop(shut);
        });
    });
}

/// Each thread has one at the most, and there is room for one for each.
#[test]
fn who_has_dropped_one_has_room_for_one() {
    const ROUNDS: u64 = 200;
    fn rounds(engine: &Engine, thread: u64) {
        let modules = [module(engine), module(engine)];
        for round in 0..ROUNDS {
            let module = &modules[usize::try_from(round / 3 % 2).unwrap()];
            let instance = engine.instantiate(module);
            is_new(&mut instance.unwrap_or_else(|error| panic!("round {round}: {error}")));
            // Before, while and after the pool's thread cleans it.
            sleep(Duration::from_micros(100 * ((thread + round) % 16)));
        }
    }
    both(|config: &Config| {
        let engine = &tight(config, &PoolConfig::new());
        thread::scope(|scope| {
            for thread in 0..2 {
                scope.spawn(move || rounds(engine, thread));
            }
        });
    });
}

#[test]
fn who_needs_descriptors_waits_for_the_one_that_is_cleaned() {
    const TEST: &str = "pool::room::who_needs_descriptors_waits_for_the_one_that_is_cleaned";
    alone(TEST, || {
        both(|config| {
            let engine = engine(config, &PoolConfig::new());
            let (one, other) = (module(&engine), module(&engine));
            let [first, others @ ..] = [(); 3].map(|()| engine.instantiate(&one).unwrap());
            let shut = Shut::at(Stop::AfterCleaning);
            drop(first);
            shut.reached();
            // A start without the nursery takes more than two workers keep.
            let others = Some(others).filter(|_| is_nursed(config));
            let limit = get_limit(Resource::Files).unwrap();
            set_limit(Resource::Files, highest_descriptor() + 1, limit.hard).unwrap();
            let next = waits(shut, || engine.instantiate(&other));
            set_limit(Resource::Files, limit.soft, limit.hard).unwrap();
            is_new(&mut next.unwrap());
            drop(others);
        });
    });
}
