//! What Cellwall needs, measured through its public interface: the measuring thread on one CPU, the
//! worker on another.

mod accesses;
mod code;
mod faults;
mod guest;
mod renewals;

use self::accesses::{hostcalls, in_one_hostcall};
use self::faults::{by_pager, by_run, of_a_template, of_the_input};
use self::renewals::{Next, Reads, Spread, instance_memory, instances, resets, restores};
use crate::figure::{Failure, Measure, Quantiles, Side, Topic};

/// All of them.
pub const MEASURES: [Measure; 33] = [
    ours(Topic::FaultZero, PAGER, || by_pager(1)),
    ours(Topic::FaultZero, RUN, || by_run(1)),
    ours(Topic::FaultZero16, PAGER, || by_pager(16)),
    ours(Topic::FaultZero16, RUN, || by_run(16)),
    ours(Topic::FaultPresent, "input, read-only", of_the_input),
    ours(Topic::FaultPresent, "template, writable", of_a_template),
    ours(Topic::Hostcall, "run and answer", || {
        hostcalls(accesses::nothing)
    }),
    ours(Topic::Read64, "read_into", || {
        in_one_hostcall(accesses::read)
    }),
    ours(Topic::Read64, "load, 8 bytes of them", || {
        in_one_hostcall(accesses::load)
    }),
    ours(Topic::Write64, "write", || in_one_hostcall(accesses::write)),
    ours(Topic::Write64, "store, 8 bytes of them", || {
        in_one_hostcall(accesses::store)
    }),
    ours(Topic::HostcallRead64, "read_into", || {
        hostcalls(accesses::read)
    }),
    ours(Topic::HostcallWrite64, "write", || {
        hostcalls(accesses::write)
    }),
    ours(Topic::Reset16, SAME, || {
        resets(16, Spread::Together, Next::SameTenant)
    }),
    ours(Topic::Reset16, TOGETHER, || {
        resets(16, Spread::Together, Next::Anybody)
    }),
    ours(Topic::Reset16, SCATTERED, || {
        resets(16, Spread::Scattered, Next::Anybody)
    }),
    ours(Topic::Reset256, SAME, || {
        resets(256, Spread::Together, Next::SameTenant)
    }),
    ours(Topic::Reset256, TOGETHER, || {
        resets(256, Spread::Together, Next::Anybody)
    }),
    ours(Topic::Reset256, SCATTERED, || {
        resets(256, Spread::Scattered, Next::Anybody)
    }),
    ours(Topic::Reset4096, SAME, || {
        resets(4096, Spread::Together, Next::SameTenant)
    }),
    ours(Topic::Reset4096, TOGETHER, || {
        resets(4096, Spread::Together, Next::Anybody)
    }),
    ours(Topic::Reset4096, SCATTERED, || {
        resets(4096, Spread::Scattered, Next::Anybody)
    }),
    ours(Topic::Restore16, TOGETHER, || {
        restores(Spread::Together, Reads::Nothing)
    }),
    ours(Topic::Restore16, SCATTERED, || {
        restores(Spread::Scattered, Reads::Nothing)
    }),
    ours(Topic::Restore16, "all 64 MiB were read", || {
        restores(Spread::Scattered, Reads::All)
    }),
    ours(Topic::Instance, "restore", || instances(false)),
    ours(Topic::Instance, "restore and first run", || instances(true)),
    ours(Topic::InstanceMemory, "after restore", || {
        instance_memory(false)
    }),
    ours(Topic::InstanceMemory, "after its first run", || {
        instance_memory(true)
    }),
    ours(Topic::Code100KiB, FRESH, || code::writes(100, true)),
    ours(Topic::Code100KiB, AGAIN, || code::writes(100, false)),
    ours(Topic::Code1MiB, FRESH, || code::writes(1024, true)),
    ours(Topic::Code1MiB, AGAIN, || code::writes(1024, false)),
];

const PAGER: &str = "pager";
const RUN: &str = "by the caller of run";
const SAME: &str = "single tenant";
const TOGETHER: &str = "one after the other";
const SCATTERED: &str = "scattered over 64 MiB";
const FRESH: &str = "after a reset";
const AGAIN: &str = "over other code";

const fn ours(topic: Topic, how: &'static str, run: fn() -> Result<Quantiles, Failure>) -> Measure {
    Measure {
        topic,
        side: Side::Ours,
        how,
        run,
    }
}
