//! A million turns against a thread that writes the shared pages while the host reads them.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use std::sync::atomic::{AtomicBool, AtomicU32};
use std::thread;
use std::time::{Duration, Instant};

use linux_raw::fd::{AsFd, BorrowedFd};
use linux_raw::futex;
use linux_raw::pidfd::{PidfdFlags, pidfd_open};
use linux_raw::process::getpid;
use vmctx::{Forged, State, StateWord};

use super::super::hostile::{
    ARGS, ENTRY, Hostile, SIGNAL, STACK, is_legal, pages, read_last_words, read_report,
};
use super::super::record::Record;
use super::super::{Alone, Patience, Seats, Turn, Waited};

const TURNS: u32 = 1_000_000;
/// One turn in so many is given back by nobody but the hostile thread.
const ANSWERED_BY_RACER: u32 = 512;
const PATIENCE: Patience = Patience {
    spin_iterations: 100,
    yields: 4,
    waking: 0,
};
/// The host's wait has a bound of its own, far beyond what a machine under load needs.
const HUNG: Duration = Duration::from_secs(60);

/// Xorshift (Marsaglia 2003): the same race every time as far as the scheduler lets it.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 20) % bound
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[usize::try_from(self.below(from.len() as u64)).unwrap()]
    }

    /// Often one at which something ends or begins.
    fn word(&mut self) -> u32 {
        const EDGES: [u32; 16] = [
            0,
            1,
            2,
            3,
            4,
            5,
            6,
            7,
            8,
            11,
            0xff,
            512,
            513,
            0x7fff_ffff,
            0x8000_0000,
            u32::MAX,
        ];
        match self.below(2) {
            0 => self.pick(&EDGES),
            _ => u32::try_from(self.next() >> 32).unwrap(),
        }
    }
}

/// The hostile thread. Gives what it last wrote to each word.
fn race(hostile: &Hostile, over: &AtomicBool) -> Vec<u32> {
    let words = hostile.words();
    let mut random = Random(0x5eed);
    let mut written = vec![0; words.len()];
    while !over.load(Relaxed) {
        match random.below(8) {
            0 | 1 => {
                let index = 1 + usize::try_from(random.below(words.len() as u64 - 1)).unwrap();
                written[index] = random.word();
                words[index].store(written[index], Relaxed);
            }
            2 => {
                written[SIGNAL] = random.pick(&[4, 5, 7, 8, 11, 31]);
                words[SIGNAL].store(written[SIGNAL], Relaxed);
            }
            _ => {
                let lie = random.below(256);
                write_state(&words[0], &mut random, lie);
            }
        }
    }
    written
}

/// Mostly what gets the turn back, so that all states are reached; a lie where `lie` is low.
fn write_state(state: &AtomicU32, random: &mut Random, lie: u64) {
    let seen = state.load(Acquire);
    let bits = u32::try_from(random.next() >> 40).unwrap() << 8;
    let new = match State::from_bits(seen.to_le_bytes()[0]) {
        _ if lie < 4 => random.word(),
        Some(State::Boot) => State::Idle as u32 | bits,
        Some(State::Enter | State::Resume) => random.pick(&[4, 5, 6, 7, 8]) | bits,
        // The turn is the host's. Of all words only one with other sleep bits is no forgery.
        _ if lie < 64 => seen ^ bits & (StateWord::HOST_SLEEPS | StateWord::WORKER_SLEEPS),
        _ => return,
    };
    let old = StateWord::from_raw(state.swap(new, AcqRel));
    // Now and then it lets the host sleep until its slice is over.
    if old.host_sleeps() && lie != 0 {
        let _ = futex::wake(state, 1);
    }
}

/// How often what came out.
#[derive(Debug, Default)]
struct Tally {
    hostcalls: u32,
    finishes: u32,
    traps: u32,
    stops: u32,
    forged_states: u32,
    forged_traps: u32,
}

/// One turn, as an `Instance` makes it. Gives the state that came back.
///
/// `answer` gives the turn back at once, so that the host seldom has to wait until a loaded machine
/// lets the other thread run.
fn make_turn(
    turn: &mut Turn,
    number: u32,
    worker: BorrowedFd<'_>,
    answer: impl FnOnce(),
) -> Result<State, Forged> {
    match turn.record() {
        State::Boot => {}
        State::Hostcall if number.is_multiple_of(2) => turn.resume(number.into())?,
        State::Interrupted | State::OutOfGas if number.is_multiple_of(2) => turn.retry()?,
        _ => turn.enter(ENTRY, STACK, &ARGS)?,
    }
    let order = turn.record();
    if !number.is_multiple_of(ANSWERED_BY_RACER) {
        answer();
    }
    let deadline = Instant::now() + HUNG;
    match turn.wait(&Alone(worker), Some(deadline))? {
        Waited::Turn(state) => {
            assert!(is_legal(state as u8, order), "{state:?} after {order:?}");
            assert_eq!(turn.record(), state);
            Ok(state)
        }
        // The worker is this process, which lives.
        waited => panic!("{waited:?}"),
    }
}

fn host(turn: &mut Turn, hostile: &Hostile) -> Tally {
    let worker = pidfd_open(getpid().expect("a number"), PidfdFlags::empty()).expect("a pidfd");
    let mut tally = Tally::default();
    let mut random = Random(0xfeed);
    for number in 0..TURNS {
        let made = make_turn(turn, number, worker.as_fd(), || {
            write_state(&hostile.words()[0], &mut random, u64::MAX);
        });
        let trap = read_report(turn, number.is_multiple_of(3));
        if number.is_multiple_of(64) {
            read_last_words(turn);
        }
        let killed = match (made, trap) {
            (Ok(State::Trapped), Err(_)) => {
                tally.forged_traps += 1;
                true
            }
            (Ok(state), _) => {
                match state {
                    State::Hostcall => tally.hostcalls += 1,
                    State::Finished => tally.finishes += 1,
                    State::Trapped => tally.traps += 1,
                    State::Interrupted | State::OutOfGas => tally.stops += 1,
                    _ => assert_eq!(state, State::Idle),
                }
                false
            }
            (Err(forged), _) => {
                assert_eq!(forged.word, "state");
                tally.forged_states += 1;
                true
            }
        };
        if killed {
            // Another worker, whose page begins so; the thread goes on writing.
            hostile.words()[0].store(0, Relaxed);
            turn.record = Record::new(PATIENCE);
        }
    }
    tally
}

/// Sets it when dropped, so that a host that panics ends the race too.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

#[test]
fn a_million_turns_under_a_race() {
    let (pages, hostile) = pages();
    pages.set_patience(PATIENCE);
    let mut turn = Turn::new(pages, PATIENCE, &Seats::new(1));
    let over = AtomicBool::new(false);
    let begun = Instant::now();
    let (tally, written) = thread::scope(|scope| {
        let racer = scope.spawn(|| race(&hostile, &over));
        let tally = {
            let _over = Over(&over);
            host(&mut turn, &hostile)
        };
        (tally, racer.join().expect("the hostile thread"))
    });
    println!("{tally:?} in {:?}", begun.elapsed());
    for often in [
        tally.hostcalls,
        tally.finishes,
        tally.traps,
        tally.stops,
        tally.forged_states,
        tally.forged_traps,
    ] {
        assert!(often > TURNS / 1000, "{tally:?}");
    }
    // The host wrote its orders, and nothing where only the worker writes: the number of the
    // hostcall, what follows the line on its page, the guest page.
    hostile.assert_host_page(turn.told);
    for (index, word) in hostile.words().iter().enumerate() {
        if index == 1 || index >= 16 {
            assert_eq!(word.load(Relaxed), written[index], "word {index}");
        }
    }
}
