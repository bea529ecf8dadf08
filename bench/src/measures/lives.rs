//! How instances live in numbers, and how they end.

use super::POLKAVM;
use crate::figure::Better;
use crate::limits::small;
use crate::measure::{Measure, Side, Whole};
use crate::ours::{deaths, drops, idle, scale};
use crate::polkavm::lives;
use crate::remote::remote;
use crate::target::{Of, Target};

pub(super) const MEASURES: &[Measure] = &[
    Measure::new(
        "drop_caller",
        "`drop` of a live instance, on the caller's thread",
        |_| drops::on_the_caller(),
    )
    .peer(Side::new(POLKAVM, |_| lives::drops()))
    .limit(Side::new("a value sent to another thread", |_| {
        small::send()
    }))
    .targets(&[Target::AtMost(1.0, Of::Itself)]),
    Measure::new(
        "death",
        "from a `SIGKILL` of the worker, whose guest loops, to `run` returning",
        |_| deaths::noticed(),
    )
    .limit(Side::new("kill and wait for a child", |_| {
        small::kill_and_wait()
    }))
    .targets(&[Target::AtMost(20_000.0, Of::Itself)]),
    Measure::new(
        "idle_memory",
        "fall of available memory for each live instance that has run gunzip and was reset",
        |_| idle::memory(),
    )
    .unit("KiB", Better::Less)
    .peer(Side::new(POLKAVM, lives::idle_memory))
    .limit(Side::new("a small process that sleeps", |plan| {
        remote(plan, "clone_memory")
    }))
    .counted(1, 3)
    .targets(&[Target::AtMost(64.0, Of::Itself)]),
];

pub(super) const WHOLES: &[Whole] = &[Whole {
    name: "scale",
    what: "10,000 live instances, or as many as the machine allows: their start, memory, turns",
    take: scale::scale,
}];
