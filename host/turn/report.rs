//! From the worker's fault report to a trap.

use std::sync::atomic::Ordering::Relaxed;

use linux_raw::signal::Signal;
use vmctx::guest_page::REGISTERS;
use vmctx::{Alleged, Fault, Forged};

use crate::interrupt::{Access, Trap, TrapKind};

/// The CPU's exception number of a page fault (Intel SDM, volume 3, table 6-1).
const PAGE_FAULT: u64 = 14;
/// Bits of a page fault's error code (Intel SDM, volume 3, section 4.7).
const ERROR_WRITE: u64 = 1 << 1;
const ERROR_FETCH: u64 = 1 << 4;
/// Where `rax` and `rip` are among the registers.
const RAX: usize = 13;
const RIP: usize = 16;

/// Reads each word once. Only the signal decides anything; the rest is for people to read.
///
/// A forbidden system call is reported only where the filter was told to: elsewhere it kills, and
/// a worker that reports one lies.
pub(super) fn trap(fault: &Fault, reports_calls: bool) -> Result<Trap, Forged> {
    let signal = Alleged::new(fault.signal.load(Relaxed)).opaque();
    let kind = Signal::from_raw(signal)
        .and_then(TrapKind::from_signal)
        .filter(|kind| reports_calls || *kind != TrapKind::ForbiddenCall)
        .ok_or(Forged {
            word: "fault signal",
            value: signal.into(),
        })?;
    let error = Alleged::new(fault.error.load(Relaxed)).opaque();
    let vector = Alleged::new(fault.vector.load(Relaxed)).opaque();
    let address = Alleged::new(fault.address.load(Relaxed)).opaque();
    let pc = Alleged::new(fault.registers[RIP].load(Relaxed)).opaque();
    let rax = Alleged::new(fault.registers[RAX].load(Relaxed)).opaque();
    let is_memory = matches!(kind, TrapKind::Memory | TrapKind::Bus) && vector == PAGE_FAULT;
    Ok(Trap {
        kind,
        address: is_memory.then_some(address),
        access: is_memory.then_some(access(error)),
        pc: Some(pc),
        // The kernel puts the number back there (kernel/seccomp.c, `syscall_rollback`).
        call: (kind == TrapKind::ForbiddenCall).then_some(low(rax)),
    })
}

/// The number of a system call: the kernel reads the low half of the register.
#[expect(clippy::cast_possible_truncation, reason = "the low half is wanted")]
const fn low(register: u64) -> u32 {
    register as u32
}

/// Every register at the fault, each read once, as the worker claims it.
pub(super) fn registers(fault: &Fault) -> [u64; REGISTERS] {
    let mut registers = [0; REGISTERS];
    for (register, word) in registers.iter_mut().zip(&fault.registers) {
        *register = Alleged::new(word.load(Relaxed)).opaque();
    }
    registers
}

fn access(error: u64) -> Access {
    if error & ERROR_FETCH != 0 {
        Access::Execute
    } else if error & ERROR_WRITE != 0 {
        Access::Write
    } else {
        Access::Read
    }
}
