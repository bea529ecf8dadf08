//! The host's own code against the worker's twin, under every schedule (loom).
//!
//! No wake-up is lost, whatever is written before a word is published is seen with it, every state
//! that the host sees is the one that the worker published, and a worker's death ends the host's
//! wait. No futex has a timeout, so that a lost wake-up is a deadlock.
//!
//! Bounds: the turns of [`PLAN`] or its beginning, at the most one spin and one yield on each side,
//! and at the most [`PREEMPTIONS`] switches away from a side that could have gone on; a side that
//! sleeps or ends costs none. Within them loom takes every schedule, and lets a load see each older
//! value that the orderings allow. `LOOM_MAX_PREEMPTIONS` sets another bound: 4 takes a quarter of
//! a minute, and one turn without any bound half a minute (670,000 schedules).
//!
//! Loom knows no x86: an ordering that this machine gives for nothing has to be in the code.

use std::cell::Cell;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::{Arc, Mutex};

use vmctx::State;

use super::super::record::Record;
use super::super::wait::{Patience, Waited, Watch, wake_host};
use super::room::{Flaw, Room};
use super::twin::{Killed, Twin};

const PREEMPTIONS: usize = 3;

/// What the host orders and what the worker then answers.
const PLAN: [(State, State); 4] = [
    (State::Enter, State::Hostcall),
    (State::Resume, State::Finished),
    (State::Enter, State::Hostcall),
    (State::Enter, State::Trapped),
];

#[derive(Clone, Copy, Debug)]
struct Case {
    flaw: Flaw,
    turns: usize,
    patience: Patience,
    /// On CPU 0 the worker is too, and neither spins.
    host_cpu: u32,
    /// How many steps the worker lives.
    steps: u32,
}

const HONEST: Case = Case {
    flaw: Flaw::None,
    turns: 2,
    patience: Patience {
        spin_iterations: 0,
        yields: 0,
        waking: 0,
    },
    host_cpu: 0,
    steps: u32::MAX,
};

/// What the host writes before its order number `turn`, and the worker before its answer to it.
fn order_words(turn: usize) -> (u64, u64) {
    (turn as u64 * 10 + 1, turn as u64 * 10 + 2)
}
fn answer_words(turn: usize) -> (u64, u64) {
    (turn as u64 * 10 + 3, turn as u64 * 10 + 4)
}

/// A host whom nobody asks to stop the guest.
struct Unasked<'a>(&'a Room);

impl Watch for Unasked<'_> {
    fn is_dead(&self) -> bool {
        self.0.worker_is_dead()
    }

    fn is_asked(&self) -> bool {
        false
    }
}

/// The worker. Gives how many states it has published.
fn worker(room: &Room, case: Case) -> usize {
    let twin = Twin {
        room,
        spin_iterations: case.patience.spin_iterations,
        yields: case.patience.yields,
        steps_left: Cell::new(case.steps),
        published: Cell::new(0),
    };
    let life = || -> Result<(), Killed> {
        let mut state = State::Idle;
        for (turn, (order, answer)) in PLAN.into_iter().take(case.turns).enumerate() {
            let given = twin.turn(state)?;
            assert_eq!(given, order);
            let words = (room.args.load(Relaxed), room.value.load(Relaxed));
            assert_eq!(words, order_words(turn), "the words of an order");
            let (args, value) = answer_words(turn);
            twin.write(args, value)?;
            state = answer;
        }
        // Nobody orders more: it ends instead of waiting.
        twin.publish(state).map(|_| ())
    };
    // Either way it is over.
    let _ = life();
    room.bury_worker();
    twin.published.get()
}

/// The host. Gives how many states it has seen.
fn host(room: &Room, case: Case) -> usize {
    let mut record = Record::new(case.patience);
    let next = |record: &mut Record, legal: State| match record.wait(room, &Unasked(room), None) {
        Ok(Waited::Turn(state)) => {
            assert_eq!(state, legal);
            assert_eq!(record.state, legal);
            true
        }
        Ok(Waited::Dead) => false,
        other => panic!("an honest worker, and no deadline: {other:?}"),
    };
    if !next(&mut record, State::Idle) {
        return 0;
    }
    for (turn, (order, answer)) in PLAN.into_iter().take(case.turns).enumerate() {
        let (args, value) = order_words(turn);
        let write = || {
            room.args.store(args, Relaxed);
            room.value.store(value, Relaxed);
        };
        record
            .publish(room, order, write)
            .expect("an honest worker");
        if !next(&mut record, answer) {
            return turn + 1;
        }
        let words = (room.args.load(Relaxed), room.value.load(Relaxed));
        assert_eq!(words, answer_words(turn), "the words of an answer");
    }
    case.turns + 1
}

/// What happened in all schedules of a case.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    schedules: u64,
    /// In how many of them the worker was killed before it was done.
    deaths: u64,
}

/// Checks every schedule of one case.
fn check(case: Case) -> Count {
    let count = Arc::new(Mutex::new(Count::default()));
    let counted = Arc::clone(&count);
    let mut builder = loom::model::Builder::new();
    // LOOM_MAX_PREEMPTIONS sets another bound.
    builder.preemption_bound = builder.preemption_bound.or(Some(PREEMPTIONS));
    builder.check(move || {
        let room = Arc::new(Room::new(case.flaw, case.host_cpu));
        let workers = Arc::clone(&room);
        let worker = loom::thread::spawn(move || worker(&workers, case));
        let seen = host(&room, case);
        let published = worker.join().unwrap();
        // What a worker published before it died is not lost.
        assert_eq!(seen, published);
        let mut count = counted.lock().unwrap();
        count.schedules += 1;
        count.deaths += u64::from(published <= case.turns);
    });
    *count.lock().unwrap()
}

const SPIN_AND_YIELD: Patience = Patience {
    spin_iterations: 1,
    yields: 1,
    waking: 0,
};

#[test]
fn no_wake_up_is_lost_and_every_word_arrives() {
    let asleep_at_once = Case {
        turns: PLAN.len(),
        ..HONEST
    };
    let every_way_to_wait = Case {
        patience: SPIN_AND_YIELD,
        host_cpu: 1,
        ..HONEST
    };
    for case in [asleep_at_once, every_way_to_wait] {
        let count = check(case);
        println!("{case:?}: {count:?}");
        assert_eq!(count.deaths, 0);
        assert!(count.schedules > 1000, "{count:?}");
    }
}

/// The worker dies before each of its steps. The host's wait ends, and what was published before
/// is still seen.
#[test]
fn a_death_at_any_step_ends_the_wait() {
    let mut deaths = 0;
    for steps in 0.. {
        let count = check(Case { steps, ..HONEST });
        deaths += count.deaths;
        // How many steps it needs differs by the schedule. Here it had enough in all of them.
        if count.deaths == 0 {
            break;
        }
    }
    assert!(deaths > 1000, "{deaths} deaths");
}

/// What the model is good for: each of these flaws is one word away from the code as it is, and
/// every one is found.
fn finds(flaw: Flaw) {
    let case = Case { flaw, ..HONEST };
    let patience = match flaw {
        // In a sleep the kernel's own lock orders what the weak exchange does not.
        Flaw::HostPublishesRelaxed
        | Flaw::HostReadsRelaxed
        | Flaw::WorkerPublishesRelaxed
        | Flaw::WorkerReadsRelaxed => SPIN_AND_YIELD,
        _ => HONEST.patience,
    };
    check(Case { patience, ..case });
}

#[test]
#[should_panic(expected = "both sides sleep")]
fn a_host_that_never_wakes_is_found() {
    finds(Flaw::HostNeverWakes);
}

#[test]
#[should_panic(expected = "the words of an order")]
fn a_host_that_publishes_relaxed_is_found() {
    finds(Flaw::HostPublishesRelaxed);
}

#[test]
#[should_panic(expected = "the words of an answer")]
fn a_host_that_reads_relaxed_is_found() {
    finds(Flaw::HostReadsRelaxed);
}

#[test]
#[should_panic(expected = "both sides sleep")]
fn a_worker_that_never_wakes_is_found() {
    finds(Flaw::WorkerNeverWakes);
}

#[test]
#[should_panic(expected = "the words of an answer")]
fn a_worker_that_publishes_relaxed_is_found() {
    finds(Flaw::WorkerPublishesRelaxed);
}

#[test]
#[should_panic(expected = "the words of an order")]
fn a_worker_that_reads_relaxed_is_found() {
    finds(Flaw::WorkerReadsRelaxed);
}

#[test]
#[should_panic(expected = "both sides sleep")]
fn a_worker_that_sleeps_without_a_word_is_found() {
    finds(Flaw::WorkerSleepsUnsaid);
}

#[test]
#[should_panic(expected = "both sides sleep")]
fn a_worker_that_stores_its_sleep_bit_is_found() {
    finds(Flaw::WorkerStoresItsBit);
}

/// A host that another thread asks to stop the guest.
struct Asked<'a>(&'a Room, &'a loom::sync::atomic::AtomicBool);

impl Watch for Asked<'_> {
    fn is_dead(&self) -> bool {
        self.0.worker_is_dead()
    }

    fn is_asked(&self) -> bool {
        self.1.load(Acquire)
    }
}

/// A worker that has the turn for ever, a host that waits for it without a deadline, and a thread
/// that asks it to look around: it always does.
fn ask(flaw: Flaw) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(PREEMPTIONS));
    builder.check(move || {
        let room = Arc::new(Room::new(flaw, 1));
        let asked = Arc::new(loom::sync::atomic::AtomicBool::new(false));
        let (rooms, askeds) = (Arc::clone(&room), Arc::clone(&asked));
        let other = loom::thread::spawn(move || {
            askeds.store(true, Release);
            wake_host(&*rooms);
        });
        let mut record = Record::new(SPIN_AND_YIELD);
        let watch = Asked(&room, &asked);
        let waited = record.wait(&*room, &watch, None);
        assert!(matches!(waited, Ok(Waited::Asked)), "{waited:?}");
        other.join().unwrap();
    });
}

#[test]
fn a_host_that_is_asked_looks_around() {
    ask(Flaw::None);
}

#[test]
#[should_panic(expected = "deadlock")]
fn a_silent_bell_is_found() {
    ask(Flaw::BellIsSilent);
}
