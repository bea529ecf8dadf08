//! What the host does to guest memory.

use super::{PAGING, PING_PONG, POLKAVM};
use crate::figure::Better;
use crate::limits::memory as limits;
use crate::measure::{Measure, Side};
use crate::ours::accesses::{self, hostcalls, in_one_hostcall};
use crate::ours::code;
use crate::ours::faults::{by_pager, by_run, of_a_template, of_the_input};
use crate::ours::renewals::{Next, Reads, Spread, instance_memory, instances, resets, restores};
use crate::polkavm::guest::Memory::Paged;
use crate::polkavm::memory as peer;
use crate::polkavm::memory::Access::{Read, Write};
use crate::polkavm::memory::{ASLEEP, AWAKE, DATA, LARGE, SMALL};
use crate::target::{Of, Target};

pub(super) const MEASURES: &[Measure] = &[
    Measure::new(
        "fault_zero",
        "a fault that the pager answers with a zero page",
        |_| by_pager(1),
    )
    .peer(Side::new(PAGING, |_| peer::faults(1)))
    .limit(Side::new("the kernel, of a memory file", |_| {
        limits::faults(limits::absent)
    }))
    .targets(&[
        Target::AtMost(3.8, Of::Itself),
        Target::AtMost(0.9, Of::Peer),
    ]),
    Measure::new(
        "fault_zero_run",
        "a fault that the caller of run answers with a zero page",
        |_| by_run(1),
    )
    .peer(Side::new(PAGING, |_| peer::faults(1)))
    .limit(Side::new("UFFDIO_ZEROPAGE", |_| limits::zeroes(1)))
    .targets(&[
        Target::AtMost(3.8, Of::Itself),
        Target::AtMost(0.9, Of::Peer),
    ]),
    Measure::new(
        "fault_16",
        "a fault that the pager answers with 16 zero pages, for each page",
        |_| by_pager(16),
    )
    .peer(Side::new(PAGING, |_| peer::faults(16)))
    .limit(Side::new("UFFDIO_ZEROPAGE of 16", |_| limits::zeroes(16)))
    .targets(&[Target::AtMost(1.6, Of::Itself)]),
    Measure::new(
        "fault_16_run",
        "a fault that the caller of run answers with 16 zero pages, for each page",
        |_| by_run(16),
    )
    .peer(Side::new(PAGING, |_| peer::faults(16)))
    .limit(Side::new("UFFDIO_ZEROPAGE of 16", |_| limits::zeroes(16)))
    .targets(&[Target::AtMost(1.6, Of::Itself)]),
    Measure::new(
        "fault_present",
        "a fault for a page of the input, which the host has written",
        |_| of_the_input(),
    )
    .limit(Side::new("the kernel, of a memory file", |_| {
        limits::faults(limits::present)
    }))
    .targets(&[Target::AtMost(2.8, Of::Itself)]),
    Measure::new(
        "fault_present_template",
        "a fault for a page of a template that is writable",
        |_| of_a_template(),
    )
    .limit(Side::new("UFFDIO_CONTINUE", |_| limits::resumes(1)))
    .targets(&[Target::AtMost(2.8, Of::Itself)]),
    Measure::new("read_64", "the host reads 64 bytes of guest memory", |_| {
        in_one_hostcall(accesses::read)
    })
    .peer(Side::new(PAGING, |_| peer::accesses(Paged, Read)))
    .other_peer(Side::new(POLKAVM, |_| peer::accesses(SMALL, Read)))
    .limit(Side::new("memcpy", |_| limits::copies()))
    .targets(&[Target::AtMost(0.02, Of::Itself)]),
    Measure::new(
        "read_64_load",
        "the host reads 8 bytes of guest memory",
        |_| in_one_hostcall(accesses::load),
    )
    .limit(Side::new("memcpy", |_| limits::copies()))
    .targets(&[Target::AtMost(0.02, Of::Itself)]),
    Measure::new(
        "write_64",
        "the host writes 64 bytes of guest memory",
        |_| in_one_hostcall(accesses::write),
    )
    .peer(Side::new(PAGING, |_| peer::accesses(Paged, Write)))
    .other_peer(Side::new(POLKAVM, |_| peer::accesses(SMALL, Write)))
    .limit(Side::new("memcpy", |_| limits::copies()))
    .targets(&[Target::AtMost(0.02, Of::Itself)]),
    Measure::new(
        "write_64_store",
        "the host writes 8 bytes of guest memory",
        |_| in_one_hostcall(accesses::store),
    )
    .limit(Side::new("memcpy", |_| limits::copies()))
    .targets(&[Target::AtMost(0.02, Of::Itself)]),
    Measure::new(
        "hostcall_read_64",
        "a hostcall in which the host reads 64 bytes",
        |_| hostcalls(accesses::read),
    )
    .peer(Side::new(PAGING, |_| peer::hostcalls(Paged, Read)))
    .other_peer(Side::new(POLKAVM, |_| peer::hostcalls(SMALL, Read)))
    .limit(PING_PONG),
    Measure::new(
        "hostcall_write_64",
        "a hostcall in which the host writes 64 bytes",
        |_| hostcalls(accesses::write),
    )
    .peer(Side::new(PAGING, |_| peer::hostcalls(Paged, Write)))
    .other_peer(Side::new(POLKAVM, |_| peer::hostcalls(SMALL, Write)))
    .limit(PING_PONG),
    Measure::new(
        "reset_16",
        "`reset` after 16 pages were written, for the next tenant",
        |_| resets(16, Spread::Together, Next::Anybody),
    )
    .peer(Side::new(POLKAVM, |_| peer::resets(LARGE, 16)))
    .other_peer(Side::new(PAGING, |_| peer::resets(Paged, 16)))
    .limit(Side::new("memset", |_| limits::clears(16)))
    .targets(&[Target::AtMost(4.0, Of::Itself)]),
    Measure::new(
        "reset_16_scattered",
        "`reset` after 16 pages were written, the pages scattered over 64 MiB",
        |_| resets(16, Spread::Scattered, Next::Anybody),
    )
    .peer(Side::new(POLKAVM, |_| peer::resets(LARGE, 16)))
    .other_peer(Side::new(PAGING, |_| peer::resets(Paged, 16)))
    .limit(Side::new("PUNCH_HOLE", |_| limits::punches(16)))
    .targets(&[Target::AtMost(4.0, Of::Itself)]),
    Measure::new(
        "reset_16_single",
        "`reset` after 16 pages were written, for the same tenant",
        |_| resets(16, Spread::Together, Next::SameTenant),
    )
    .peer(Side::new(POLKAVM, |_| peer::resets(LARGE, 16)))
    .other_peer(Side::new(PAGING, |_| peer::resets(Paged, 16)))
    .limit(Side::new("memset", |_| limits::clears(16)))
    .targets(&[Target::AtMost(4.0, Of::Itself)]),
    Measure::new(
        "reset_256",
        "`reset` after 256 pages were written, for the next tenant",
        |_| resets(256, Spread::Together, Next::Anybody),
    )
    .peer(Side::new(POLKAVM, |_| peer::resets(LARGE, 256)))
    .other_peer(Side::new(PAGING, |_| peer::resets(Paged, 256)))
    .limit(Side::new("memset", |_| limits::clears(256)))
    .targets(&[Target::AtMost(40.0, Of::Itself)]),
    Measure::new(
        "reset_256_scattered",
        "`reset` after 256 pages were written, the pages scattered over 64 MiB",
        |_| resets(256, Spread::Scattered, Next::Anybody),
    )
    .peer(Side::new(POLKAVM, |_| peer::resets(LARGE, 256)))
    .other_peer(Side::new(PAGING, |_| peer::resets(Paged, 256)))
    .limit(Side::new("PUNCH_HOLE", |_| limits::punches(256)))
    .targets(&[Target::AtMost(40.0, Of::Itself)]),
    Measure::new(
        "reset_256_single",
        "`reset` after 256 pages were written, for the same tenant",
        |_| resets(256, Spread::Together, Next::SameTenant),
    )
    .peer(Side::new(POLKAVM, |_| peer::resets(LARGE, 256)))
    .other_peer(Side::new(PAGING, |_| peer::resets(Paged, 256)))
    .limit(Side::new("memset", |_| limits::clears(256)))
    .targets(&[Target::AtMost(40.0, Of::Itself)]),
    Measure::new(
        "reset_4096",
        "`reset` after 4096 pages were written, for the next tenant",
        |_| resets(4096, Spread::Together, Next::Anybody),
    )
    .peer(Side::new(POLKAVM, |_| peer::resets(LARGE, 4096)))
    .other_peer(Side::new(PAGING, |_| peer::resets(Paged, 4096)))
    .limit(Side::new("memset", |_| limits::clears(4096)))
    .targets(&[Target::AtMost(1000.0, Of::Itself)]),
    Measure::new(
        "reset_4096_scattered",
        "`reset` after 4096 pages were written, the pages scattered over 64 MiB",
        |_| resets(4096, Spread::Scattered, Next::Anybody),
    )
    .peer(Side::new(POLKAVM, |_| peer::resets(LARGE, 4096)))
    .other_peer(Side::new(PAGING, |_| peer::resets(Paged, 4096)))
    .limit(Side::new("PUNCH_HOLE", |_| limits::punches(4096)))
    .targets(&[Target::AtMost(1000.0, Of::Itself)]),
    Measure::new(
        "reset_4096_single",
        "`reset` after 4096 pages were written, for the same tenant",
        |_| resets(4096, Spread::Together, Next::SameTenant),
    )
    .peer(Side::new(POLKAVM, |_| peer::resets(LARGE, 4096)))
    .other_peer(Side::new(PAGING, |_| peer::resets(Paged, 4096)))
    .limit(Side::new("memset", |_| limits::clears(4096)))
    .targets(&[Target::AtMost(1000.0, Of::Itself)]),
    Measure::new(
        "restore_16",
        "`restore` of a snapshot of 64 MiB after 16 pages were written",
        |_| restores(Spread::Together, Reads::Nothing),
    )
    .limit(Side::new("memset", |_| limits::clears(16)))
    .targets(&[Target::AtMost(50.0, Of::Itself)]),
    Measure::new(
        "restore_16_scattered",
        "`restore` of a snapshot of 64 MiB after 16 pages were written, scattered",
        |_| restores(Spread::Scattered, Reads::Nothing),
    )
    .limit(Side::new("memset", |_| limits::clears(16)))
    .targets(&[Target::AtMost(50.0, Of::Itself)]),
    Measure::new(
        "restore_16_read",
        "`restore` of a snapshot of 64 MiB after 16 pages were written, and all 64 MiB read",
        |_| restores(Spread::Scattered, Reads::All),
    )
    .targets(&[Target::AtMost(50.0, Of::Itself)]),
    Measure::new(
        "restore_new",
        "`restore` of a snapshot of 64 MiB into a new instance",
        |_| instances(false),
    )
    .peer(Side::new(POLKAVM, |_| peer::instances(LARGE, AWAKE)))
    .other_peer(Side::new("PolkaVM 0.37, data", |_| {
        peer::instances(DATA, AWAKE)
    }))
    .limit(Side::new("mmap and one fault", |_| limits::mappings()))
    .targets(&[Target::AtMost(100.0, Of::Itself)]),
    Measure::new(
        "restore_new_run",
        "the same, and a first run that touches a page",
        |_| instances(true),
    )
    .peer(Side::new("PolkaVM 0.37, asleep", |_| {
        peer::instances(LARGE, ASLEEP)
    }))
    .other_peer(Side::new("PolkaVM 0.37, paging, asleep", |_| {
        peer::instances(Paged, ASLEEP)
    }))
    .limit(Side::new("mmap and one fault", |_| limits::mappings()))
    .targets(&[Target::AtMost(100.0, Of::Itself)]),
    Measure::new(
        "restore_memory",
        "what such an instance adds to memory",
        |_| instance_memory(false),
    )
    .unit("KiB", Better::Less)
    .targets(&[Target::AtMost(1024.0, Of::Itself)]),
    Measure::new(
        "restore_memory_run",
        "what it adds after its first run",
        |_| instance_memory(true),
    )
    .unit("KiB", Better::Less)
    .targets(&[Target::AtMost(1024.0, Of::Itself)]),
    Measure::new(
        "code_100k",
        "100 KiB of code into a window that a reset has emptied",
        |_| code::writes(100, true),
    )
    .limit(Side::new("pwrite, fresh", |_| limits::writes(100, false)))
    .targets(&[Target::AtMost(10.0, Of::Itself)]),
    Measure::new("code_100k_again", "100 KiB of code over other code", |_| {
        code::writes(100, false)
    })
    .limit(Side::new("pwrite, populated", |_| {
        limits::writes(100, true)
    }))
    .targets(&[Target::AtMost(10.0, Of::Itself)]),
    Measure::new(
        "code_1m",
        "1 MiB of code into a window that a reset has emptied",
        |_| code::writes(1024, true),
    )
    .limit(Side::new("pwrite, fresh", |_| limits::writes(1024, false)))
    .targets(&[Target::AtMost(120.0, Of::Itself)]),
    Measure::new("code_1m_again", "1 MiB of code over other code", |_| {
        code::writes(1024, false)
    })
    .limit(Side::new("pwrite, populated", |_| {
        limits::writes(1024, true)
    }))
    .targets(&[Target::AtMost(120.0, Of::Itself)]),
];
