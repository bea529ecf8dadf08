//! How instances begin.

use cellwall::Config;

use super::{POLKAVM, WASMTIME};
use crate::limits::memory::clears;
use crate::measure::{Measure, Ratio, Side, Whole};
use crate::ours::pooled::Tenants;
use crate::ours::{lockdown, pooled, starts};
use crate::polkavm::lives;
use crate::remote::remote;
use crate::target::{Of, Target};
use crate::wasmtime;

/// What a start cannot be faster than.
const CLONE: Side = Side::new("clone of a small process", |plan| remote(plan, "clone"));

/// What each run of a pooled instance leaves to be done.
const CLEAN: Side = Side::new("memset of four pages", |_| clears(4));

pub(super) const MEASURES: &[Measure] = &[
    Measure::new(
        "spawn_cold",
        "from `instantiate` to the first value back, nothing prepared; the peer's start has a \
         timeout that it seldom misses, so that the ratio is to its best",
        |_| starts::cold(&Config::default()),
    )
    .peer(Side::new(POLKAVM, |_| lives::cold()))
    .limit(CLONE)
    .ratio(Ratio::PeersBest)
    .targets(&[
        Target::AtMost(80.0, Of::Itself),
        Target::AtMost(0.1, Of::Peer),
    ]),
    Measure::new(
        "spawn_cold_large_host",
        "the same in a process with 4 GiB resident and 10,000 descriptors",
        |plan| remote(plan, "large_host"),
    )
    .limit(Side::new("the same in a small process", |plan| {
        remote(plan, "small_host")
    }))
    .targets(&[Target::AtMost(1.1, Of::Limit)]),
    Measure::new(
        "instance_pooled",
        "`instantiate`, a run that writes four pages, drop; the next one finds them clean; all of one \
         tenant (`Config::single_tenant`)",
        |_| pooled::runs(1, Tenants::One),
    )
    .peer(Side::new(POLKAVM, |_| lives::pooled(1)))
    .other_peer(Side::new(WASMTIME, |_| wasmtime::pooled(1)))
    .limit(CLEAN)
    .targets(&[
        Target::AtMost(2.0, Of::Itself),
        Target::AtMost(0.12, Of::Peer),
    ]),
    Measure::new(
        "instance_pooled_other",
        "the same, two modules of 100 KiB in turn",
        |_| pooled::runs(2, Tenants::One),
    )
    .peer(Side::new(POLKAVM, |_| lives::pooled(2)))
    .other_peer(Side::new(WASMTIME, |_| wasmtime::pooled(2)))
    .limit(CLEAN)
    .targets(&[Target::AtMost(20.0, Of::Itself)]),
    Measure::new(
        "instance_pooled_tenants",
        "as `instance_pooled`, each run of another tenant, who evicts the one before: the default",
        |_| pooled::runs(1, Tenants::Many),
    )
    .limit(CLEAN),
];

pub(super) const WHOLES: &[Whole] = &[Whole {
    name: "lockdown",
    what: "the steps of a worker's start, seen from outside: together, and each",
    take: lockdown::lockdown,
}];
