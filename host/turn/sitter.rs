//! One pair of a host and its worker, and how it stands with the others.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use super::seats::{Seat, Seats, WAIT_MAX};
use super::spin::Spinning;

/// How many turns are enough for a term, and how much longer it may be otherwise.
const TURNS_ENOUGH: u32 = 2000;
const LONGER: u32 = 3;
/// How many turns those take without a seat who got none, before they wait for one again.
const TURNS_STANDING: u32 = 64;
/// How many turns in a seat are worth having waited for it. Those who take fewer wait less often
/// each time: a wait takes as long as a thousand turns without a seat.
const TURNS_WORTH: u32 = 16;
const TURNS_SELDOM: u32 = 8;
const TURNS_SELDOM_MAX: u32 = 128;
/// The same of those for whom spinning did not pay: more each time that it has not paid once.
const TURNS_OUT: u32 = 8;
const TURNS_OUT_MAX: u32 = 512;

/// What a pair does to wait, by whether others want to spin too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Nobody waits for a seat.
    Alone,
    /// It has a seat, and somebody waits for one.
    Sits,
    /// It wants one and has none.
    Stands,
    /// It wants none, and somebody waits for one.
    Out,
}

/// One pair, with or without a seat.
pub(super) struct Sitter {
    seats: Arc<Seats>,
    id: u64,
    seat: Option<usize>,
    since: Instant,
    /// What it last wrote to a seat, and what it had when it got this one.
    beat: u32,
    began_at: u32,
    /// How many turns more it takes without one.
    stands: u32,
    /// For how many turns more it does not wait, and how many that are after the next seat that was
    /// not worth waiting for.
    seldom: u32,
    turns_seldom: u32,
    /// The same of one that wants none, and how many that are at first.
    out: u32,
    turns_out: u32,
}

impl Sitter {
    pub(super) fn new(seats: &Arc<Seats>) -> Self {
        Self {
            seats: Arc::clone(seats),
            id: seats.new_id(),
            seat: None,
            since: Instant::now(),
            beat: 0,
            began_at: 0,
            stands: 0,
            seldom: 0,
            turns_seldom: TURNS_SELDOM,
            out: 0,
            turns_out: TURNS_OUT,
        }
    }

    #[inline]
    fn own(&self) -> Option<&Seat> {
        self.seats.seat(self.seat?)
    }

    /// Whether it has a seat that nobody waits for: the one question of a turn that is fast.
    #[inline]
    pub(super) fn sits_alone(&self) -> bool {
        self.own().is_some_and(|seat| {
            seat.owner.load(Relaxed) == self.id && seat.waiting.load(Relaxed) == 0
        })
    }

    /// A turn begins, or ends.
    #[inline]
    pub(super) fn beats(&mut self, is_in_turn: bool) {
        let beat = self.beat.wrapping_add(1) & !1 | u32::from(is_in_turn);
        if let Some(seat) = self.own() {
            seat.beat.store(beat, Relaxed);
            self.beat = beat;
        }
    }

    /// Finds out how to wait in this turn, and may wait for a seat first. Those for whom spinning
    /// does not pay leave theirs to others.
    #[cold]
    pub(super) fn settle(
        &mut self,
        spinning: &mut Spinning,
        deadline: Option<Instant>,
        is_asked: &dyn Fn() -> bool,
    ) -> Standing {
        // Nobody waits for what he may not use.
        if !spinning.is_allowed() {
            return Standing::Alone;
        }
        if !spinning.pays() && self.stays_out(spinning) {
            return match self.seats.waiting() {
                0 => Standing::Alone,
                _ => Standing::Out,
            };
        }
        let now = Instant::now();
        if self.has_seat() && !self.had_its_time(now) {
            return Standing::Sits;
        }
        self.leave();
        if self.stands > 0 {
            self.stands -= 1;
            return Standing::Stands;
        }
        if self.seldom > 0 {
            self.seldom -= 1;
            self.seat = self.seats.take_free(self.id);
        } else {
            let end = deadline.map_or(now + WAIT_MAX, |deadline| deadline.min(now + WAIT_MAX));
            self.seat = self.seats.take(self.id, end, is_asked);
            // Who was in a hurry, or is to stop, has found nothing out.
            let is_over = deadline.is_some_and(|deadline| deadline <= Instant::now());
            if self.seat.is_none() && !is_asked() && !is_over {
                self.stands = TURNS_STANDING;
            }
            self.forget_lost();
        }
        let Some(seat) = self.own() else {
            return Standing::Stands;
        };
        let standing = match seat.waiting.load(Relaxed) {
            0 => Standing::Alone,
            _ => Standing::Sits,
        };
        self.since = Instant::now();
        self.began_at = self.beat;
        standing
    }

    /// Whether it takes this turn without a seat, though it may have one, since spinning has not
    /// paid. Now and then it tries again.
    fn stays_out(&mut self, spinning: &mut Spinning) -> bool {
        if self.seat.is_some() {
            self.leave();
            self.turns_out = match spinning.has_paid() {
                true => TURNS_OUT,
                false => (self.turns_out * 2).min(TURNS_OUT_MAX),
            };
            self.out = self.turns_out;
        }
        self.out = self.out.saturating_sub(1);
        self.out > 0
    }

    /// Whether others come first now. Who has got little done has longer: its two sides may have
    /// woken on one CPU, and it takes the kernel a tick or two to see that another one is idle.
    fn had_its_time(&self, now: Instant) -> bool {
        let (since, term) = (now.saturating_duration_since(self.since), self.seats.term());
        since >= term * LONGER || since >= term && self.turns() >= TURNS_ENOUGH
    }

    /// How many it has taken in its seat.
    fn turns(&self) -> u32 {
        self.beat.wrapping_sub(self.began_at) / 2
    }

    fn has_seat(&self) -> bool {
        self.own()
            .is_some_and(|seat| seat.owner.load(Relaxed) == self.id)
    }

    /// After a long turn or wake-up: who has lost its seat meanwhile used it as well as it could.
    #[cold]
    pub(super) fn forget_lost(&mut self) {
        if !self.has_seat() {
            self.seat = None;
        }
    }

    /// Gives its seat up.
    fn leave(&mut self) {
        if let Some(seat) = self.seat.take() {
            if self.turns() >= TURNS_WORTH {
                (self.seldom, self.turns_seldom) = (0, TURNS_SELDOM);
            } else if self.seldom == 0 {
                self.seldom = self.turns_seldom;
                self.turns_seldom = (self.turns_seldom * 2).min(TURNS_SELDOM_MAX);
            }
            self.seats.give_back(seat, self.id);
        }
    }

    /// A guest has finished: the next turn may be long in coming, where others wait.
    #[inline]
    pub(super) fn pauses(&mut self) {
        if self.seat.is_some() && !self.sits_alone() {
            self.leave();
        }
    }
}

impl Drop for Sitter {
    fn drop(&mut self) {
        // Who is in no turn can lose its seat at any time: nothing has to be done here.
        if let Some(seat) = self.seat.take() {
            self.seats.try_give_back(seat, self.id);
        }
    }
}
