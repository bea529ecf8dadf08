//! What a host learns from its waits.

use std::time::Duration;

use super::super::sitter::Standing;
use super::super::spin::{Pace, Spinning};
use super::super::wait::Patience;

const PATIENCE: Patience = Patience {
    spin_iterations: 1024,
    yields: 40,
    waking: 320,
};
const SHORT: Duration = Duration::from_micros(1);
const LONG: Duration = Duration::from_millis(1);

#[test]
fn spins_that_do_not_pay_get_shorter_and_never_nothing() {
    let mut spinning = Spinning::new(PATIENCE);
    assert_eq!(spinning.budget(), 1024);
    for _ in 0..20 {
        spinning.worker_slept(false);
        spinning.came_late(SHORT, LONG);
    }
    assert_eq!(spinning.budget(), 64);
    assert!(!spinning.pays());
    spinning.paid();
    assert_eq!(spinning.budget(), 1024);
    assert!(spinning.pays());
}

#[test]
fn a_wake_up_says_nothing_about_the_guest() {
    let mut spinning = Spinning::new(PATIENCE);
    for _ in 0..20 {
        spinning.worker_slept(true);
        spinning.came_late(SHORT, LONG);
    }
    assert_eq!(spinning.budget(), 1024);
    // But how long the host stays awake for it does not last either.
    assert_eq!(spinning.host_yields(), 40);
    spinning.came_late(LONG, LONG);
    assert_eq!(spinning.host_yields(), 320);
    spinning.worker_slept(false);
    assert_eq!(spinning.host_yields(), 40);
}

#[test]
fn who_stands_does_not_spin_and_hardly_yields() {
    let mut spinning = Spinning::new(PATIENCE);
    for (standing, host, worker, yields) in [
        (Standing::Alone, 1024, 1024, 40),
        (Standing::Sits, 256, 1024, 40),
        (Standing::Stands, 0, 0, 1),
        (Standing::Out, 256, 0, 1),
    ] {
        spinning.stands(standing);
        let told = spinning.worker();
        assert_eq!(spinning.budget(), host, "{standing:?}");
        assert_eq!(told.spin_iterations, worker, "{standing:?}");
        assert_eq!(told.yields, yields, "{standing:?}");
    }
}

#[test]
fn a_yield_that_lets_others_run_is_the_last() {
    let mut spinning = Spinning::new(PATIENCE);
    assert!(!spinning.yielded(Duration::ZERO));
    assert!(spinning.yielded(LONG));
    assert_eq!(spinning.host_yields(), 1);
    spinning.came_late(SHORT, SHORT);
    assert!(spinning.host_yields() > 1);
}

/// An answer that always takes as long is looked for when it is there, or a little earlier.
#[test]
fn a_pace_finds_its_answer() {
    const ANSWER: u32 = 9;
    let mut pace = Pace::default();
    let mut early = 0;
    for turn in 0..1000 {
        let looks = ANSWER.saturating_sub(pace.pauses());
        pace.came_after(looks);
        early += u32::from(turn >= 500 && looks > 0);
    }
    assert!(pace.pauses().abs_diff(ANSWER) <= 1, "{}", pace.pauses());
    assert!(early <= 100, "{early} of 500 looks were too early");
    // What takes much longer now and then changes nothing, and the wait before a look is bounded.
    let before = pace.pauses();
    (0..1000).for_each(|_| pace.came_after(1000));
    assert_eq!(pace.pauses(), before);
    (0..1000).for_each(|_| pace.came_after(1));
    assert!(pace.pauses() < 32);
}
