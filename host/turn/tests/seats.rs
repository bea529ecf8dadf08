//! One seat, and more than one who want it.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};

use super::super::seats::{Seats, WAIT_MAX};
use super::super::sitter::{Sitter, Standing};
use super::super::spin::Spinning;
use super::super::wait::Patience;

const PATIENCE: Patience = Patience {
    spin_iterations: 64,
    yields: 4,
    waking: 0,
};
/// One who wants a seat, since spinning pays as far as it knows.
struct Pair {
    sitter: Sitter,
    spinning: Spinning,
}

impl Pair {
    fn new(seats: &Arc<Seats>) -> Self {
        Self {
            sitter: Sitter::new(seats),
            spinning: Spinning::new(PATIENCE),
        }
    }

    fn settle(&mut self) -> Standing {
        self.settle_before(None, &|| false)
    }

    fn settle_before(&mut self, end: Option<Instant>, is_asked: &dyn Fn() -> bool) -> Standing {
        self.sitter.settle(&mut self.spinning, end, is_asked)
    }

    /// Spinning has not paid so often that it is no accident.
    fn is_late(&mut self) {
        while self.spinning.pays() {
            self.spinning
                .came_late(Duration::from_secs(1), Duration::from_secs(1));
        }
    }
}

/// Ends a thread, also where an assertion fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

#[test]
fn who_is_in_no_turn_loses_its_seat_at_once() {
    let seats = Seats::new(1);
    let (mut one, mut other) = (Pair::new(&seats), Pair::new(&seats));
    for _ in 0..3 {
        for pair in [&mut one, &mut other] {
            assert!(!pair.sitter.sits_alone());
            assert_eq!(pair.settle(), Standing::Alone);
            assert!(pair.sitter.sits_alone());
            pair.sitter.beats(true);
            pair.sitter.beats(false);
        }
    }
}

#[test]
fn each_seat_is_for_one() {
    let seats = Seats::new(2);
    let mut pairs: Vec<_> = (0..3).map(|_| Pair::new(&seats)).collect();
    for pair in &mut pairs[..2] {
        assert_eq!(pair.settle(), Standing::Alone);
        pair.sitter.beats(true);
    }
    assert!(pairs[0].sitter.sits_alone() && pairs[1].sitter.sits_alone());
    // Both are in a turn that makes no progress: one of them loses its seat to the third, which
    // asks again where it was kept from looking.
    let sits = (0..2000).any(|_| pairs[2].settle() == Standing::Alone);
    assert!(sits);
    assert!(!pairs[0].sitter.sits_alone() || !pairs[1].sitter.sits_alone());
}

/// `Waiting::Frugal`: it neither waits for a seat nor keeps others from one.
#[test]
fn who_may_not_spin_takes_no_seat() {
    let seats = Seats::new(1);
    let mut frugal = Pair::new(&seats);
    frugal.spinning = Spinning::new(Patience {
        spin_iterations: 0,
        ..PATIENCE
    });
    let mut owner = Pair::new(&seats);
    assert_eq!(owner.settle(), Standing::Alone);
    owner.sitter.beats(true);
    for _ in 0..1000 {
        assert_eq!(frugal.settle(), Standing::Alone);
        assert!(!frugal.sitter.sits_alone());
    }
    assert!(owner.sitter.sits_alone());
}

/// Threads that take turns as fast as they can: all of them come to sit.
#[test]
fn a_seat_goes_round() {
    const PAIRS: usize = 4;
    let (seats, over) = (Seats::new(1), AtomicBool::new(false));
    let live = || {
        let mut pair = Pair::new(&seats);
        let mut seated = 0u64;
        while !over.load(Relaxed) {
            let sits = pair.sitter.sits_alone()
                || matches!(pair.settle(), Standing::Alone | Standing::Sits);
            seated += u64::from(sits);
            pair.sitter.beats(true);
            pair.sitter.beats(false);
        }
        seated
    };
    let seated: Vec<u64> = thread::scope(|scope| {
        let threads: Vec<_> = (0..PAIRS).map(|_| scope.spawn(live)).collect();
        thread::sleep(20 * WAIT_MAX);
        over.store(true, Relaxed);
        let ended = threads.into_iter().map(|one| one.join());
        ended.map(Result::unwrap).collect()
    });
    assert!(seated.iter().all(|turns| *turns > 0), "{seated:?}");
}

/// Asks for the seat of one who uses it all the time. Gives how it was answered, and how soon.
fn ask_beside_owner(
    end: impl FnOnce(Instant) -> Option<Instant>,
    is_asked: bool,
) -> (Standing, Duration) {
    let seats = Seats::new(1);
    let (mut owner, over) = (Pair::new(&seats), AtomicBool::new(false));
    assert_eq!(owner.settle(), Standing::Alone);
    owner.sitter.beats(true);
    thread::scope(|scope| {
        let _ends = Over(&over);
        scope.spawn(|| {
            while !over.load(Relaxed) {
                owner.sitter.beats(true);
            }
        });
        let begun = Instant::now();
        let standing = Pair::new(&seats).settle_before(end(begun), &|| is_asked);
        (standing, begun.elapsed())
    })
}

/// Whether the owner keeps its seat is for the scheduler to say: one that does nothing for some
/// time loses it.
#[test]
fn nobody_waits_for_ever() {
    let no_end = |_| None;
    let (_, took) = ask_beside_owner(no_end, false);
    assert!(took < 10 * WAIT_MAX, "{took:?}");
    // A deadline that is over, and somebody who asks: neither waits at all.
    for (standing, took) in [
        ask_beside_owner(Some, false),
        ask_beside_owner(no_end, true),
    ] {
        assert_eq!(standing, Standing::Stands);
        assert!(took < 10 * WAIT_MAX, "{took:?}");
    }
}

/// One whose host is busy elsewhere between two turns loses its seat each time, and does not wait
/// for it each time: each of its turns would take as long as others keep theirs.
#[test]
fn who_takes_few_turns_seldom_waits() {
    const TURNS: usize = 20;
    let (seats, over) = (Seats::new(1), AtomicBool::new(false));
    // Two, so that somebody waits at all times.
    let sit = || {
        let mut owner = Pair::new(&seats);
        while !over.load(Relaxed) {
            if !owner.sitter.sits_alone() {
                owner.settle();
            }
            owner.sitter.beats(true);
        }
    };
    let waits = thread::scope(|scope| {
        let _ends = Over(&over);
        scope.spawn(sit);
        scope.spawn(sit);
        let mut seldom = Pair::new(&seats);
        let is_long = |_: &usize| {
            thread::sleep(WAIT_MAX / 2);
            let begun = Instant::now();
            seldom.settle();
            let took = begun.elapsed();
            seldom.sitter.beats(true);
            seldom.sitter.beats(false);
            took > Duration::from_millis(1)
        };
        (0..TURNS).filter(is_long).count()
    });
    assert!(waits < TURNS / 2, "{waits}");
}

#[test]
fn who_has_no_use_for_a_seat_leaves_it() {
    let seats = Seats::new(1);
    let (mut one, mut other) = (Pair::new(&seats), Pair::new(&seats));
    assert_eq!(one.settle(), Standing::Alone);
    one.sitter.beats(true);
    one.is_late();
    assert_eq!(one.settle(), Standing::Alone);
    assert!(!one.sitter.sits_alone());
    assert_eq!(other.settle(), Standing::Alone);
    assert!(other.sitter.sits_alone());
    // It tries again, at last.
    drop(other);
    let turns = (0..1000).take_while(|_| {
        one.settle();
        !one.sitter.sits_alone()
    });
    assert!(turns.count() < 1000);
}
