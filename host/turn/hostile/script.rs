//! A conversation with a script: bytes that say what is written before each thing that the host
//! does.
//!
//! Nothing runs at the same time, so that a script can be replayed, and the host's answer to it
//! can be compared with what the words said.

use std::cell::{Cell, RefCell};
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{self, Relaxed};
use std::time::{Duration, Instant};

use vmctx::{Forged, State, StateWord};

use super::super::place::Place;
use super::super::{Patience, Seats, Turn, Waited, Watch};
use super::{
    ARGS, ENTRY, GAS, Hostile, PAGE_WORDS, REPORTED, SIGNAL, STACK, is_legal, pages,
    read_last_words, read_report,
};

/// How many turns one script may have.
const TURNS_MAX: usize = 64;
/// How long each wait may take, and how much of that passes at each look at the clock.
const DEADLINE: Duration = Duration::from_millis(20);
const TICK: Duration = Duration::from_millis(1);

/// More than all the waits of a script together may take.
const TICKS_MAX: u32 = 10_000;

/// What a guest without gas gets.
const REFILL: u32 = 1000;

/// What the host page says at first: these tests do not describe a module.
const NONE: Patience = Patience {
    spin_iterations: 0,
    yields: 0,
    waking: 0,
};

/// A place whose words change as the script says, before each access of the host's.
struct Scripted<'a> {
    hostile: &'a Hostile,
    script: RefCell<std::slice::Iter<'a, u8>>,
    /// What the guest page should hold: nobody but the script writes it.
    guest_page: RefCell<Vec<u32>>,
    /// The state word as the host last got it, by a load or an exchange.
    last: Cell<u32>,
    begun: Instant,
    ticks: Cell<u32>,
}

impl<'a> Scripted<'a> {
    fn new(hostile: &'a Hostile, script: &'a [u8]) -> Self {
        Self {
            hostile,
            script: RefCell::new(script.iter()),
            guest_page: RefCell::new(vec![0; PAGE_WORDS]),
            last: Cell::new(0),
            begun: Instant::now(),
            ticks: Cell::new(0),
        }
    }

    fn state(&self) -> &AtomicU32 {
        &self.hostile.words()[0]
    }

    /// The next byte of the script; zero once it is over.
    fn byte(&self) -> u8 {
        self.script.borrow_mut().next().copied().unwrap_or(0)
    }

    fn word(&self) -> u32 {
        u32::from_le_bytes([self.byte(), self.byte(), self.byte(), self.byte()])
    }

    fn is_over(&self) -> bool {
        self.script.borrow().as_slice().is_empty()
    }

    /// What the script says comes next: the low two bits of a byte are a number of writes.
    fn lie(&self) {
        for _ in 0..self.byte() % 4 {
            self.write();
        }
    }

    fn write(&self) {
        let state = self.state().load(Relaxed);
        let what = self.byte();
        match what % 8 {
            // Nothing but a state: the high bits say which.
            0 => self.state().store(u32::from(what / 8), Relaxed),
            // A state and a CPU that change nothing else.
            1 => self
                .state()
                .store(state & !0xff | u32::from(what / 8), Relaxed),
            2 => self
                .state()
                .store(state ^ self.word() & 0xffff_0000, Relaxed),
            // The sleep bits.
            3 => self
                .state()
                .store(state ^ u32::from(what / 8 % 4) << 8, Relaxed),
            4 => self.state().store(self.word(), Relaxed),
            // The other words of the turn line.
            5 => self.hostile.words()[1 + usize::from(what / 8) % 15].store(self.word(), Relaxed),
            6 => self.write_guest_page(SIGNAL, u32::from(self.byte())),
            _ => {
                let index = usize::from(self.byte()) << 5 | usize::from(what / 8);
                self.write_guest_page(PAGE_WORDS + index % PAGE_WORDS, self.word());
            }
        }
    }

    fn write_guest_page(&self, index: usize, value: u32) {
        self.hostile.words()[index].store(value, Relaxed);
        self.guest_page.borrow_mut()[index - PAGE_WORDS] = value;
    }

    /// For a wait that begins now.
    fn deadline(&self) -> Option<Instant> {
        Some(self.begun + TICK * self.ticks.get() + DEADLINE)
    }

    fn seen(&self, word: u32) -> u32 {
        self.last.set(word);
        word
    }
}

impl Place for Scripted<'_> {
    fn load(&self, order: Ordering) -> u32 {
        self.lie();
        self.seen(self.state().load(order))
    }

    fn swap(&self, new: u32, order: Ordering) -> u32 {
        self.lie();
        self.seen(self.state().swap(new, order))
    }

    fn compare_exchange(
        &self,
        current: u32,
        new: u32,
        success: Ordering,
        failure: Ordering,
    ) -> Result<u32, u32> {
        self.lie();
        self.state()
            .compare_exchange(current, new, success, failure)
    }

    fn fetch_and(&self, bits: u32, order: Ordering) -> u32 {
        self.state().fetch_and(bits, order)
    }

    /// Wakes up at once, as a signal could make it.
    fn sleep(&self, _expected: u32, _at_most: Duration) {
        self.lie();
    }

    fn wake(&self) {}
    fn wake_all(&self) {}

    fn cpu(&self) -> u32 {
        0
    }

    fn pause(&self) {}
    fn yield_cpu(&self) {}

    /// The clock goes on by being looked at, so that each wait ends.
    fn now(&self) -> Instant {
        self.ticks.set(self.ticks.get() + 1);
        assert!(self.ticks.get() < TICKS_MAX, "the host does not stop");
        self.begun + TICK * self.ticks.get()
    }
}

/// What the host looks at beside the word, as the script says.
struct Scripts<'a, 'b> {
    place: &'a Scripted<'b>,
    is_dead: Cell<bool>,
    is_asked: Cell<bool>,
    /// Whether the guest is being stopped already.
    is_stopping: Cell<bool>,
}

impl Watch for Scripts<'_, '_> {
    fn is_dead(&self) -> bool {
        self.is_dead.set(self.place.byte() == 0xff);
        self.is_dead.get()
    }

    fn is_asked(&self) -> bool {
        // Without taking the byte, which says more.
        let next = self.place.script.borrow().as_slice().first().copied();
        let is_asked = next == Some(0xfe) && !self.is_stopping.get();
        self.is_asked.set(is_asked);
        is_asked
    }
}

/// Plays one script against the host, until it is over or the host kills the worker. Gives how
/// often the turn came back.
///
/// # Panics
///
/// If the host believed what it should not, or called a legal word forged.
pub(crate) fn conversation(script: &[u8]) -> usize {
    let (pages, hostile) = pages();
    let place = Scripted::new(&hostile, script);
    let patience = place.byte();
    let patience = Patience {
        spin_iterations: u32::from(patience & 3),
        yields: u32::from(patience >> 2 & 3),
        waking: 0,
    };
    let mut turn = Turn::new(pages, patience, &Seats::new(1));
    // The first wait is for the end of the lock-down, without an order.
    let mut turns = 0;
    let mut goes_on = wait(&mut turn, &place);
    while goes_on {
        turns += 1;
        goes_on = turns < TURNS_MAX
            && !place.is_over()
            && give(&mut turn, &place).is_ok()
            && wait(&mut turn, &place);
    }
    read_last_words(&turn);
    if turn.record() != State::Idle && turn.record() != State::Boot {
        hostile.assert_host_page(NONE);
    }
    let found = hostile.words().iter().skip(PAGE_WORDS);
    let found: Vec<u32> = found.map(|word| word.load(Relaxed)).collect();
    assert_eq!(found, *place.guest_page.borrow(), "the guest page");
    turns
}

/// Gives the turn to the script, as `Turn::enter`, `Turn::resume` and `Turn::retry` do.
fn give(turn: &mut Turn, place: &Scripted<'_>) -> Result<(), Forged> {
    let believed = StateWord::from_raw(place.last.get()).awake();
    let stopped = turn.record();
    if stopped == State::OutOfGas {
        turn.set_gas(REFILL.into());
        place.write_guest_page(GAS, REFILL);
        place.write_guest_page(GAS + 1, 0);
    }
    let goes_on = State::Resume.may_follow(stopped);
    let given = if goes_on && place.byte().is_multiple_of(2) {
        let answer = || {
            if stopped == State::Hostcall {
                turn.pages.set_value(7);
            }
        };
        turn.record.publish(place, State::Resume, answer)
    } else {
        turn.pages.set_entry(ENTRY, STACK);
        let args = || turn.pages.set_args(&ARGS);
        turn.record.publish(place, State::Enter, args)
    };
    let found = StateWord::from_raw(place.last.get());
    assert_eq!(given.is_ok(), found.awake() == believed, "{given:?}");
    given
}

/// Waits for the turn, reads what came with it, and compares both with the words. Gives whether
/// the conversation goes on.
fn wait(turn: &mut Turn, place: &Scripted<'_>) -> bool {
    let order = turn.record();
    let watch = Scripts {
        place,
        is_dead: Cell::new(false),
        is_asked: Cell::new(false),
        is_stopping: Cell::new(false),
    };
    let mut waited = turn.record.wait(place, &watch, place.deadline());
    if let Ok(Waited::Asked) = waited {
        assert!(watch.is_asked.get());
        // As an instance waits for the guest to stop, which nobody interrupts.
        watch.is_stopping.set(true);
        waited = turn.record.wait_long(place, &watch, place.deadline());
    }
    let [state, ..] = place.last.get().to_le_bytes();
    match waited {
        Ok(Waited::Turn(new)) => {
            assert_eq!(new as u8, state);
            assert!(is_legal(state, order), "{new:?} after {order:?}");
            assert_eq!(turn.record(), new);
            read_words(turn, place)
        }
        Ok(Waited::Deadline) => false,
        Ok(Waited::Dead) => {
            assert!(watch.is_dead.get());
            false
        }
        Ok(Waited::Asked) => panic!("nobody asks while the guest is being stopped"),
        Err(forged) => {
            assert_eq!((forged.word, forged.value), ("state", state.into()));
            assert!(!is_legal(state, order), "{forged} after {order:?}");
            false
        }
    }
}

/// What the host reads is what the words say. Gives whether an instance would go on.
fn read_words(turn: &Turn, place: &Scripted<'_>) -> bool {
    let words = place.hostile.words();
    let word = |index: usize| words[index].load(Relaxed);
    let double = |index: usize| u64::from(word(index)) | u64::from(word(index + 1)) << 32;
    let call = turn.hostcall();
    assert_eq!(call.number, word(1));
    for (index, arg) in call.args.into_iter().enumerate() {
        assert_eq!(arg, double(2 + 2 * index));
    }
    assert_eq!(turn.value(), double(14));
    assert_eq!(turn.gas(), double(GAS).cast_signed());
    for (index, register) in turn.registers().into_iter().enumerate() {
        assert_eq!(register, double(REPORTED + 2 * index));
    }
    let trap = read_report(turn, place.byte().is_multiple_of(2));
    let signal = word(SIGNAL);
    match &trap {
        Ok(trap) => assert_eq!(trap.kind.signal().raw(), signal),
        Err(forged) => assert_eq!(forged.value, u64::from(signal)),
    }
    turn.record() != State::Trapped || trap.is_ok()
}
