//! Who has the turn: hostcalls, calls, interrupts.

use super::{PING_PONG, POLKAVM, WASMTIME};
use crate::crowd::Done;
use crate::figure::Better;
use crate::measure::{Measure, Side};
use crate::ours::{accesses, native, turns};
use crate::polkavm;
use crate::remote::remote;
use crate::target::{Of, Target};
use crate::wasmtime;

/// Instances that share the CPUs.
const INSTANCES: usize = 8;

const RATE: fn(&Done) -> f64 = |done| done.rate;
const SLOWEST: fn(&Done) -> f64 = |done| done.slowest;

pub(super) const MEASURES: &[Measure] = &[
    Measure::new(
        "hostcall_roundtrip",
        "a guest that does nothing but hostcalls, each answered at once; a CPU each",
        |_| accesses::hostcalls(accesses::nothing),
    )
    .peer(Side::new(POLKAVM, |_| {
        polkavm::memory::hostcalls(polkavm::memory::SMALL, polkavm::memory::Access::Nothing)
    }))
    .limit(PING_PONG)
    .targets(&[
        Target::AtMost(1.15, Of::Limit),
        Target::AtMost(0.8, Of::Peer),
    ]),
    Measure::new(
        "hostcall_oversubscribed",
        "hostcalls of 8 instances together, on all CPUs",
        |_| turns::oversubscribed(INSTANCES, RATE),
    )
    .unit("M/s", Better::More)
    .peer(Side::new(POLKAVM, |_| {
        polkavm::turns::oversubscribed(INSTANCES, RATE)
    }))
    .limit(Side::new("futex hand-over, on each CPU", |plan| {
        remote(plan, "futex_on_every_cpu")
    }))
    .targets(&[
        Target::AtLeast(1.4, Of::Limit),
        Target::AtLeast(4.0, Of::Peer),
    ]),
    Measure::new(
        "hostcall_oversubscribed_slowest",
        "the slowest of these instances as a part of their mean",
        |_| turns::oversubscribed(INSTANCES, SLOWEST),
    )
    .unit("of the mean", Better::More)
    .peer(Side::new(POLKAVM, |_| {
        polkavm::turns::oversubscribed(INSTANCES, SLOWEST)
    }))
    .targets(&[Target::AtLeast(0.25, Of::Itself)]),
    Measure::new(
        "call_awake",
        "a call into the guest and its return, without a pause",
        |_| turns::calls_awake(),
    )
    .peer(Side::new(POLKAVM, |_| polkavm::turns::calls_awake()))
    .other_peer(Side::new(WASMTIME, |_| wasmtime::calls()))
    .limit(PING_PONG)
    .targets(&[Target::AtMost(1.0, Of::Peer)]),
    Measure::new("call_asleep", "the same after 1 ms of nothing", |_| {
        turns::calls_asleep()
    })
    .peer(Side::new(POLKAVM, |_| polkavm::turns::calls_asleep()))
    .limit(Side::new("futex wake of an idle CPU", |plan| {
        remote(plan, "futex_asleep")
    }))
    .targets(&[Target::AtMost(1.0, Of::Peer)]),
    Measure::new(
        "native",
        "gunzip of 64 MiB, whole processes, against the same code that is not sandboxed",
        native::sandboxed,
    )
    .unit("ms", Better::Less)
    .limit(Side::new("the same code, not sandboxed", native::bare))
    .ratio(crate::measure::Ratio::Pairs)
    .counted(3, 12)
    .targets(&[Target::AtMost(1.03, Of::Limit)]),
];
