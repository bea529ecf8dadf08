//! Who may spin: as many pairs of a host and its worker as there are CPUs for both.
//!
//! A pair that spins is fast, and takes two CPUs. Where more of them want to than fit, the sides of
//! a pair are seldom on their CPUs at the same time, and what each spins is what another one needs.
//! So an engine has seats. A pair keeps its own until another one waits for it and it had its time;
//! who waits sleeps, and comes in its turn. Whoever does not wait so long, or has no use for
//! spinning, goes on without a seat, and sleeps for each answer.
//!
//! A seat is advice and nothing more: two who believe to have the same one are slow, not wrong.

use std::collections::VecDeque;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use linux_raw::futex;
use linux_raw::time::Timespec;

/// How long one waits for a seat at the most.
pub(super) const WAIT_MAX: Duration = Duration::from_millis(30);
/// How long a pair may keep its seat where others wait: so that they come in that time, short
/// against what somebody would notice, and long against the wake-ups of two sides that follow.
const TERM_MAX: Duration = Duration::from_millis(3);
const TERM_MIN: Duration = Duration::from_micros(500);
/// How many wait for each seat at the most: those who would get none in time do not begin.
const QUEUE_MAX: usize = 40;
/// How soon the first who waits looks whether the seats are used, twice as late each time.
const LOOK: Duration = Duration::from_micros(100);

/// The seats of an engine.
pub(crate) struct Seats {
    seats: Box<[Seat]>,
    /// Who waits, in order. Nobody locks it who has a seat that nobody waits for.
    queue: Mutex<VecDeque<Arc<Ticket>>>,
    ids: AtomicU64,
}

/// A line of its own: whoever sits there writes to it in each turn.
#[repr(align(64))]
#[derive(Default)]
pub(super) struct Seat {
    /// Whose it is; 0: nobody's. Written under the lock.
    pub(super) owner: AtomicU64,
    /// How many wait, here as on all others. Written under the lock.
    pub(super) waiting: AtomicU32,
    /// Odd while a turn is under way. Only its owner writes it, or who has just lost it.
    pub(super) beat: AtomicU32,
}

/// One who waits.
struct Ticket {
    id: u64,
    /// One more than the number of the seat that it was given: the futex that it sleeps on.
    given: AtomicU32,
}

impl Seats {
    /// For so many pairs at once; one at the least.
    pub(crate) fn new(pairs: usize) -> Arc<Self> {
        let count = pairs.max(1);
        Arc::new(Self {
            seats: (0..count).map(|_| Seat::default()).collect(),
            queue: Mutex::default(),
            ids: AtomicU64::new(1),
        })
    }

    /// A number for one who wants a seat now and then.
    pub(super) fn new_id(&self) -> u64 {
        self.ids.fetch_add(1, Relaxed)
    }

    pub(super) fn seat(&self, seat: usize) -> Option<&Seat> {
        self.seats.get(seat)
    }

    /// Passes a seat on, if it still is this one's.
    pub(super) fn give_back(&self, seat: usize, id: u64) {
        let mut queue = self.queue();
        if self.seats[seat].owner.load(Relaxed) == id {
            self.pass_on(seat, &mut queue);
        }
    }

    /// The same, unless somebody has the lock: a forked child's copy of it may be held by a thread
    /// that the child does not have.
    pub(super) fn try_give_back(&self, seat: usize, id: u64) {
        if let Ok(mut queue) = self.queue.try_lock()
            && self.seats[seat].owner.load(Relaxed) == id
        {
            self.pass_on(seat, &mut queue);
        }
    }

    fn queue(&self) -> MutexGuard<'_, VecDeque<Arc<Ticket>>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A seat that is nobody's, or whose owner is in no turn: it may have lost interest.
    fn find_free(&self, id: u64) -> Option<usize> {
        let is_free = |seat: &Seat| {
            seat.owner.load(Relaxed) == 0 || seat.beat.load(Relaxed).is_multiple_of(2)
        };
        let seat = self.seats.iter().position(is_free)?;
        self.seats[seat].owner.store(id, Relaxed);
        Some(seat)
    }

    /// Gives a seat to whoever has waited the longest.
    fn pass_on(&self, seat: usize, queue: &mut VecDeque<Arc<Ticket>>) {
        let next = queue.pop_front();
        let id = next.as_ref().map_or(0, |ticket| ticket.id);
        self.seats[seat].owner.store(id, Relaxed);
        self.say_waiting(queue);
        if let Some(ticket) = next {
            // A process has fewer seats than that. Release pairs with the Acquire in `wait`.
            let given = u32::try_from(seat + 1).unwrap_or(0);
            ticket.given.store(given, Release);
            let _ = futex::wake(&ticket.given, 1);
        }
    }

    fn say_waiting(&self, queue: &VecDeque<Arc<Ticket>>) {
        let waiting = u32::try_from(queue.len()).unwrap_or(u32::MAX);
        for seat in &self.seats {
            // A store would take the line from the one who sits there.
            if seat.waiting.load(Relaxed) != waiting {
                seat.waiting.store(waiting, Relaxed);
            }
        }
    }

    /// Takes a free seat, if nobody waits for it.
    pub(super) fn take_free(&self, id: u64) -> Option<usize> {
        let queue = self.queue();
        queue.is_empty().then(|| self.find_free(id))?
    }

    /// Takes a free seat, or waits for one.
    pub(super) fn take(&self, id: u64, end: Instant, is_asked: &dyn Fn() -> bool) -> Option<usize> {
        let mut queue = self.queue();
        if queue.is_empty()
            && let Some(seat) = self.find_free(id)
        {
            return Some(seat);
        }
        if queue.len() >= QUEUE_MAX * self.seats.len() {
            return None;
        }
        let given = AtomicU32::new(0);
        let ticket = Arc::new(Ticket { id, given });
        let look = if queue.is_empty() { LOOK } else { TERM_MAX };
        queue.push_back(Arc::clone(&ticket));
        self.say_waiting(&queue);
        drop(queue);
        self.wait(&ticket, look, end, is_asked);
        let mut queue = self.queue();
        // Whoever was given a seat is not in the queue any more.
        queue.retain(|other| !Arc::ptr_eq(other, &ticket));
        self.say_waiting(&queue);
        let given = usize::try_from(ticket.given.load(Relaxed)).ok()?;
        given.checked_sub(1)
    }

    /// Sleeps until there is a seat, or it takes too long.
    fn wait(&self, ticket: &Ticket, mut look: Duration, end: Instant, is_asked: &dyn Fn() -> bool) {
        let mut beats = self.beats();
        loop {
            let left = end.saturating_duration_since(Instant::now()).min(look);
            if left.is_zero() || is_asked() {
                return;
            }
            // Whatever ends it: the loop looks.
            let _ = futex::wait(&ticket.given, 0, Some(Timespec::from(left)));
            // Acquire pairs with the Release in `pass_on`.
            if ticket.given.load(Acquire) != 0 {
                return;
            }
            beats = self.take_from_idle(&beats, look);
            look = (look * 2).min(TERM_MAX);
        }
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> u32 {
        self.seats
            .first()
            .map_or(0, |seat| seat.waiting.load(Relaxed))
    }

    pub(super) fn term(&self) -> Duration {
        (WAIT_MAX / (self.waiting() + 1)).clamp(TERM_MIN, TERM_MAX)
    }

    fn beats(&self) -> Vec<(u64, u32)> {
        let beat = |seat: &Seat| (seat.owner.load(Relaxed), seat.beat.load(Relaxed));
        self.seats.iter().map(beat).collect()
    }

    /// Passes on the seats of those who have done nothing since, for so long: their guests compute,
    /// which one learns in a term, or nobody runs them.
    fn take_from_idle(&self, before: &[(u64, u32)], look: Duration) -> Vec<(u64, u32)> {
        let beats = self.beats();
        for (seat, (now, before)) in beats.iter().zip(before).enumerate() {
            if now == before && (now.1.is_multiple_of(2) || look >= TERM_MAX) {
                let mut queue = self.queue();
                if self.seats[seat].owner.load(Relaxed) == now.0 {
                    self.pass_on(seat, &mut queue);
                }
            }
        }
        beats
    }
}
