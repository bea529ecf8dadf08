//! What a guest does wrong is told with kind, address and program counter, and the instance lives.

use cellwall::abi::CODE_WINDOW;
use cellwall::{Access, Interrupt, Trap, TrapKind};
use iced_x86::code_asm::{CodeAssembler, byte_ptr, eax, ecx, edx, qword_ptr, rax, rdi, rsp};

use crate::harness::{CONSTANTS, DATA, DATA_BYTES, STACK, assemble, call, engine, parts};

/// Runs code that begins with the trapping instruction; then the same instance once more.
fn trap(write: impl Fn(&mut CodeAssembler), args: &[u64]) -> Trap {
    let engine = engine();
    let module = parts(&assemble(&write)).build(&engine).unwrap();
    let mut instance = engine.instantiate(&module).unwrap();
    let mut run = || {
        call(&mut instance, args);
        match instance.run().unwrap() {
            Interrupt::Trap(trap) => trap,
            other => panic!("expected a trap, got: {other}"),
        }
    };
    let first = run();
    assert_eq!(
        run(),
        first,
        "the second trap of an instance is like the first"
    );
    first
}

fn memory(address: u64, access: Access, pc: u64) -> Trap {
    let mut trap = plain(TrapKind::Memory, pc);
    trap.address = Some(address);
    trap.access = Some(access);
    trap
}

fn plain(kind: TrapKind, pc: u64) -> Trap {
    let mut trap = Trap::new(kind);
    trap.pc = Some(pc);
    trap
}

const ENTRY: u64 = CODE_WINDOW.start;

#[test]
fn null_and_unmapped_memory() {
    let read = |code: &mut CodeAssembler| code.mov(rax, qword_ptr(rdi)).unwrap();
    let write = |code: &mut CodeAssembler| code.mov(qword_ptr(rdi), rax).unwrap();
    for address in [
        0,
        8,
        0xffff,
        DATA - 1,
        DATA + DATA_BYTES,
        0xffff_f000,
        0x1_0000_0000,
    ] {
        assert_eq!(trap(write, &[address]).pc, Some(ENTRY));
        let found = trap(read, &[address]);
        // An access that straddles a mapped and an unmapped page faults in the latter.
        let faulted = if address == DATA - 1 {
            address
        } else {
            found.address.unwrap()
        };
        assert_eq!(found, memory(faulted, Access::Read, ENTRY));
        assert!(
            (address..address + 8).contains(&faulted),
            "{faulted:#x} for {address:#x}"
        );
    }
    assert_eq!(trap(write, &[8]), memory(8, Access::Write, ENTRY));
}

#[test]
fn constants_and_code_cannot_be_written() {
    let write = |code: &mut CodeAssembler| code.mov(qword_ptr(rdi), rax).unwrap();
    for address in [CONSTANTS, CODE_WINDOW.start] {
        assert_eq!(
            trap(write, &[address]),
            memory(address, Access::Write, ENTRY)
        );
    }
}

#[test]
fn data_cannot_be_executed() {
    for address in [DATA, CONSTANTS, STACK] {
        let jump = |code: &mut CodeAssembler| code.jmp(rdi).unwrap();
        assert_eq!(
            trap(jump, &[address]),
            memory(address, Access::Execute, address)
        );
    }
}

#[test]
fn the_host_page_cannot_be_written() {
    let write = |code: &mut CodeAssembler| code.mov(qword_ptr(rdi), rax).unwrap();
    let page = vmctx::map::HOST_PAGE.start;
    assert_eq!(trap(write, &[page]), memory(page, Access::Write, ENTRY));
}

#[test]
fn kernel_and_non_canonical_addresses() {
    let read = |code: &mut CodeAssembler| code.mov(rax, qword_ptr(rdi)).unwrap();
    let kernel = trap(read, &[0xffff_8000_0000_0000]);
    assert_eq!((kernel.kind, kernel.pc), (TrapKind::Memory, Some(ENTRY)));
    // The CPU gives no address for these.
    assert_eq!(trap(read, &[1 << 62]), plain(TrapKind::Memory, ENTRY));
}

#[test]
fn illegal_instructions() {
    assert_eq!(
        trap(|code| code.ud2().unwrap(), &[]),
        plain(TrapKind::IllegalInstruction, ENTRY)
    );
    // Privileged ones are general protection faults.
    assert_eq!(
        trap(|code| code.hlt().unwrap(), &[]),
        plain(TrapKind::Memory, ENTRY)
    );
    assert_eq!(
        trap(|code| code.cli().unwrap(), &[]),
        plain(TrapKind::Memory, ENTRY)
    );
}

#[test]
fn division_by_zero_and_overflow() {
    let divide = |code: &mut CodeAssembler| {
        code.xor(ecx, ecx).unwrap();
        code.xor(edx, edx).unwrap();
        code.mov(eax, 1).unwrap();
        code.div(ecx).unwrap();
    };
    // Three instructions of 2, 2 and 5 bytes come first.
    assert_eq!(trap(divide, &[]), plain(TrapKind::Arithmetic, ENTRY + 9));
}

#[test]
fn breakpoints_and_steps() {
    let found = trap(|code| code.int3().unwrap(), &[]);
    assert_eq!(found.kind, TrapKind::Breakpoint);
    let stepped = trap(
        |code| {
            code.pushfq().unwrap();
            code.or(qword_ptr(rsp), 0x100).unwrap();
            code.popfq().unwrap();
            code.nop().unwrap();
            code.ret().unwrap();
        },
        &[],
    );
    assert_eq!(stepped.kind, TrapKind::Breakpoint);
}

#[test]
fn an_alignment_check_is_a_bus_trap_and_survives_the_handler() {
    let unaligned = |code: &mut CodeAssembler| {
        code.pushfq().unwrap();
        code.or(qword_ptr(rsp), 0x4_0000).unwrap();
        code.popfq().unwrap();
        code.mov(rax, qword_ptr(DATA + 1)).unwrap();
        code.ret().unwrap();
    };
    assert_eq!(trap(unaligned, &[]).kind, TrapKind::Bus);
}

#[test]
fn a_stack_overflow_hits_the_free_page_below() {
    let recurse = |code: &mut CodeAssembler| {
        let mut again = code.create_label();
        code.set_label(&mut again).unwrap();
        code.call(again).unwrap();
    };
    let found = trap(recurse, &[]);
    assert_eq!(found, memory(STACK - 8, Access::Write, ENTRY));
}

#[test]
fn holes_in_code_trap() {
    // The rest of the code's page is filled with breakpoints.
    let found = trap(|code| code.nop().unwrap(), &[]);
    assert_eq!(found.kind, TrapKind::Breakpoint);
}

#[test]
fn an_entry_that_is_no_code_traps() {
    let engine = engine();
    let module = parts(&[0xc3]).build(&engine).unwrap();
    let mut instance = engine.instantiate(&module).unwrap();
    for entry in [0, DATA, CONSTANTS, vmctx::map::HOST_PAGE.start, u64::MAX] {
        instance.call(entry, &[]).unwrap();
        match instance.run().unwrap() {
            Interrupt::Trap(trap) => assert_eq!(trap.kind, TrapKind::Memory, "{entry:#x}"),
            other => panic!("{other} for the entry {entry:#x}"),
        }
    }
    call(&mut instance, &[]);
    assert!(matches!(instance.run().unwrap(), Interrupt::Finished(_)));
}

#[test]
fn a_stack_that_is_not_there_traps_on_entry() {
    let engine = engine();
    let builder = cellwall::Module::builder().code(&[0xc3]);
    let module = builder.stack_pointer(0x9000_0000).build(&engine).unwrap();
    let mut instance = engine.instantiate(&module).unwrap();
    call(&mut instance, &[]);
    assert!(matches!(instance.run().unwrap(), Interrupt::Trap(_)));
}

#[test]
fn a_trap_says_what_happened() {
    let text = trap(|code| code.mov(byte_ptr(rdi), 1).unwrap(), &[0x40]).to_string();
    assert_eq!(text, format!("memory trap, writing 0x40, at pc {ENTRY:#x}"));
}
