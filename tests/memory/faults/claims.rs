//! A guest that reports faults by itself: it writes the report and the turn line as the worker's
//! own code would. Whatever it claims, all it gets is what it could have had by a touch.

use std::time::{Duration, Instant};

use cellwall::abi::{
    CODE_WINDOW, FAULT_ADDRESS_OFFSET, FAULT_OFFSET, FAULT_REGISTERS_OFFSET, GUEST_PAGE, TURN_LINE,
};
use cellwall::{
    Access, Blame, Engine, Instance, Interrupt, Module, PageFault, Paged, Protection, TrapKind,
};
use iced_x86::code_asm::{CodeAssembler, dword_ptr, qword_ptr, r8d, rax, rcx, rdi, rdx, rsi};

use super::{NOWHERE, PAGE, paging_engine, still_runs};
use crate::harness::{CONSTANTS, DATA, DATA_BYTES, assemble, call, config, parts, start};

/// What a report consists of, beside the address and the registers.
const SIGNAL: u64 = GUEST_PAGE + FAULT_OFFSET as u64;
const ADDRESS: u64 = GUEST_PAGE + FAULT_ADDRESS_OFFSET as u64;
const ERROR: u64 = SIGNAL + 16;
const VECTOR: u64 = SIGNAL + 24;
const PC: u64 = GUEST_PAGE + FAULT_REGISTERS_OFFSET as u64 + 16 * 8;
const PAGE_FAULT: u64 = 14;
const SEGV: u32 = 11;
const BUS: u32 = 7;
/// The state that says that the guest trapped, and the orders to a worker.
const TRAPPED: u32 = 6;
const ENTER: i32 = 2;
const RESUME: i32 = 3;
/// What the guest finishes with once it was told to go on.
const WENT_ON: u64 = 0x600d;
/// An address that no code is at.
const NO_CODE: u64 = 0xdead_beef;

/// Claims a fault at `rdi` with the error code `rsi` by the signal `rdx`, waits for its turn, and
/// finishes if it is to go on. Told to enter it does what it was told. With `rcx` it claims it for
/// ever.
fn claims(code: &mut CodeAssembler) -> Result<(), iced_x86::IcedError> {
    let (mut again, mut wait, mut enter) = (
        code.create_label(),
        code.create_label(),
        code.create_label(),
    );
    code.set_label(&mut again)?;
    for (at, register) in [(ADDRESS, rdi), (ERROR, rsi)] {
        code.mov(rax, at)?;
        code.mov(qword_ptr(rax), register)?;
    }
    code.mov(rax, SIGNAL)?;
    code.mov(dword_ptr(rax), iced_x86::code_asm::edx)?;
    code.mov(rax, VECTOR)?;
    code.mov(qword_ptr(rax), i32::try_from(PAGE_FAULT).unwrap())?;
    code.mov(rax, PC)?;
    code.mov(r8d, u32::try_from(NO_CODE).unwrap())?;
    code.mov(qword_ptr(rax), iced_x86::code_asm::r8)?;
    code.mov(rax, TURN_LINE)?;
    code.mov(r8d, TRAPPED)?;
    code.xchg(dword_ptr(rax), r8d)?;
    // A host that sleeps looks by itself, so it need not be woken.
    code.set_label(&mut wait)?;
    code.pause()?;
    code.movzx(r8d, iced_x86::code_asm::byte_ptr(rax))?;
    code.cmp(r8d, ENTER)?;
    code.je(enter)?;
    code.cmp(r8d, RESUME)?;
    code.jne(wait)?;
    code.test(rcx, rcx)?;
    code.jne(again)?;
    code.mov(rax, WENT_ON)?;
    code.ret()?;
    // What the worker's code does: arguments, stack, entry. It is entered at its own beginning.
    code.set_label(&mut enter)?;
    code.mov(rdx, qword_ptr(rax + ARGS + 16))?;
    code.mov(rsi, qword_ptr(rax + ARGS + 8))?;
    code.mov(rdi, qword_ptr(rax + ARGS))?;
    code.mov(rcx, qword_ptr(rax + ARGS + 24))?;
    code.jmp(again)
}
const ARGS: u64 = cellwall::abi::ARGS_OFFSET as u64;

fn liar(engine: &Engine) -> Module {
    let code = assemble(|code| claims(code).expect("valid operands"));
    let module = parts(&code).dynamic_paging();
    module.build(engine).expect("a module")
}

/// The CPU's error code for an access.
fn error_code(access: Access) -> u64 {
    match access {
        Access::Read => 4,
        Access::Write => 6,
        Access::Execute => 0x14,
    }
}

fn claim(instance: &mut Instance, address: u64, access: Access, signal: u32) -> Interrupt {
    call(instance, &[address, error_code(access), signal.into(), 0]);
    instance.run().expect("no forgery")
}

fn instance_with_all_kinds(engine: &Engine, module: &Module) -> Instance {
    let mut instance = engine.instantiate(module).unwrap();
    instance.set_deadline(Duration::from_secs(20));
    instance
        .map_data(NOWHERE, &[1; 4096], Protection::ReadWrite)
        .unwrap();
    instance
        .map_data(NOWHERE + PAGE, &[2; 4096], Protection::Read)
        .unwrap();
    instance
        .map_data(NOWHERE + 2 * PAGE, &[3; 4096], Protection::None)
        .unwrap();
    instance
        .map_zero(NOWHERE + 3 * PAGE, PAGE, Protection::Read)
        .unwrap();
    instance.guard(NOWHERE + 4 * PAGE, PAGE).unwrap();
    instance
}

/// What the guest of [`instance_with_all_kinds`] may do, once the host has settled it.
const ALLOWED: [(u64, Access); 5] = [
    (NOWHERE, Access::Read),
    (NOWHERE, Access::Write),
    (NOWHERE + 4095, Access::Write),
    (NOWHERE + PAGE, Access::Read),
    (NOWHERE + 3 * PAGE, Access::Read),
];

/// What it may not, what is none of the host's, and what the kernel sees to by itself.
const REFUSED: [(u64, Access); 19] = [
    (NOWHERE, Access::Execute),
    (NOWHERE + PAGE, Access::Write),
    (NOWHERE + PAGE, Access::Execute),
    (NOWHERE + 2 * PAGE, Access::Read),
    (NOWHERE + 3 * PAGE, Access::Write),
    (NOWHERE + 4 * PAGE, Access::Read),
    (NOWHERE + 5 * PAGE, Access::Execute),
    (CONSTANTS, Access::Read),
    (CONSTANTS, Access::Write),
    (DATA, Access::Read),
    (DATA + DATA_BYTES - 1, Access::Write),
    (CODE_WINDOW.start, Access::Read),
    (GUEST_PAGE, Access::Read),
    (TURN_LINE, Access::Write),
    (0, Access::Read),
    (0xffff, Access::Write),
    (0x1_0000_0000, Access::Read),
    (u64::MAX, Access::Write),
    (1 << 63, Access::Read),
];

/// What becomes of each claim; no claim changes a byte or a right.
#[test]
fn a_claim_is_judged_by_what_is_there() {
    let Some(engine) = paging_engine() else {
        return;
    };
    let module = liar(&engine);
    let mut instance = instance_with_all_kinds(&engine, &module);
    let traps = |interrupt: &Interrupt, address, access| {
        let Interrupt::Trap(trap) = interrupt else {
            panic!("{interrupt} for {access:?} at {address:#x}");
        };
        assert_eq!((trap.address, trap.access), (Some(address), Some(access)));
        assert_eq!(trap.pc, Some(NO_CODE));
    };
    let before = contents(&mut instance);
    for signal in [SEGV, BUS] {
        // What it may have anyway: it is told to go on.
        for (address, access) in ALLOWED {
            let end = claim(&mut instance, address, access, signal);
            assert_eq!(
                end,
                Interrupt::Finished(WENT_ON),
                "{access:?} at {address:#x}"
            );
        }
        for (address, access) in REFUSED {
            let end = claim(&mut instance, address, access, signal);
            traps(&end, address, access);
            assert!(instance.refuse_fault().is_err());
        }
        // What is absent is a page fault: answered, it goes on, and finds what it was given.
        for (address, access) in [(0x1_0000, Access::Read), (0xffff_ffff, Access::Write)] {
            let fault = match claim(&mut instance, address, access, signal) {
                Interrupt::PageFault(fault) => fault,
                other => panic!("{other}"),
            };
            assert_eq!(
                fault,
                PageFault {
                    address,
                    access,
                    pc: NO_CODE
                }
            );
            assert_eq!(
                instance.run().unwrap(),
                Interrupt::Finished(WENT_ON),
                "it does not fault"
            );
            assert!(!instance.is_accessible(address, 1, Access::Read));
        }
    }
    assert_eq!(contents(&mut instance), before);
    assert_eq!(instance.read(NOWHERE + 3 * PAGE, PAGE).unwrap(), [0; 4096]);
}

fn contents(instance: &mut Instance) -> Vec<u8> {
    let mut bytes = vec![0; 4 * 4096];
    instance.read_as_host(NOWHERE, &mut bytes).unwrap();
    bytes
}

/// Kinds of a trap that are no faults of memory, and error codes that no CPU writes.
#[test]
fn a_claim_of_something_else_is_a_trap() {
    let Some(engine) = paging_engine() else {
        return;
    };
    let module = liar(&engine);
    let mut instance = engine.instantiate(&module).unwrap();
    instance.set_deadline(Duration::from_secs(20));
    for (signal, kind) in [(4, TrapKind::IllegalInstruction), (8, TrapKind::Arithmetic)] {
        match claim(&mut instance, NOWHERE, Access::Write, signal) {
            Interrupt::Trap(trap) => assert_eq!((trap.kind, trap.address), (kind, None)),
            other => panic!("{other}"),
        }
    }
    for error in [0, 1, 8, u64::MAX, 1 << 63] {
        call(&mut instance, &[NOWHERE, error, SEGV.into(), 0]);
        let found = instance.run().unwrap();
        let is_fetch = error & 0x10 != 0;
        let is_such = match found {
            Interrupt::PageFault(fault) => !is_fetch && fault.address == NOWHERE,
            Interrupt::Trap(_) => is_fetch,
            _ => false,
        };
        assert!(is_such, "{found} for {error:#x}");
    }
}

/// One that claims for ever what it has already keeps the host busy until its deadline.
#[test]
fn claims_without_end_end_at_the_deadline() {
    let Some(engine) = paging_engine() else {
        return;
    };
    let module = liar(&engine);
    for (address, access) in [
        (NOWHERE, Access::Write),
        (NOWHERE + PAGE, Access::Read),
        (NOWHERE + 3 * PAGE, Access::Read),
    ] {
        let mut instance = instance_with_all_kinds(&engine, &module);
        instance.set_deadline(Duration::from_millis(100));
        call(
            &mut instance,
            &[address, error_code(access), SEGV.into(), 1],
        );
        let begun = Instant::now();
        assert_eq!(instance.run().unwrap(), Interrupt::Deadline, "{address:#x}");
        assert!(begun.elapsed() < Duration::from_secs(2));
    }
}

/// One that claims faults at all that is absent costs what its pager gives it, and its pager is
/// asked for nothing but guest addresses.
#[test]
fn a_pager_hears_of_nothing_that_a_touch_could_not_ask_for() {
    let Some(engine) = paging_engine() else {
        return;
    };
    let module = liar(&engine);
    let mut instance = engine.instantiate(&module).unwrap();
    instance.set_deadline(Duration::from_secs(20));
    instance.set_pager(|fault: &PageFault, instance: &mut Instance| {
        assert!(cellwall::abi::GUEST.contains(&fault.address));
        assert_ne!(fault.access, Access::Execute);
        assert!(!instance.is_accessible(fault.address, 1, Access::Read));
        instance.map_zero(fault.page(), PAGE, Protection::ReadWrite)?;
        Ok(Paged::Retry)
    });
    let accesses = [Access::Read, Access::Write, Access::Execute];
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    for _ in 0..300 {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let address = random & 0x1_ffff_ffff;
        let access = accesses[usize::try_from(random >> 60).unwrap() % 3];
        let found = claim(&mut instance, address, access, SEGV);
        let is_given = found == Interrupt::Finished(WENT_ON);
        assert!(is_given || matches!(found, Interrupt::Trap(_)), "{found}");
        assert!(!is_given || instance.is_accessible(address, 1, access));
    }
    // It holds no more than it was given.
    let stats = instance.memory_stats().unwrap();
    assert!(stats.resident <= stats.mapped);
    instance.reset().unwrap();
    assert_eq!(
        instance.memory_stats().unwrap().mapped,
        DATA_BYTES + 0x1_0000
    );
}

/// The order to go on in a fault whose frame has been overwritten meanwhile.
#[test]
fn a_frame_that_the_guest_has_spoilt_spoils_only_the_guest() {
    let Some(engine) = paging_engine() else {
        return;
    };
    let write = |code: &mut CodeAssembler| {
        code.mov(rax, qword_ptr(rdi)).unwrap();
        code.ret().unwrap();
    };
    let module = parts(&assemble(write))
        .dynamic_paging()
        .build(&engine)
        .unwrap();
    let bystander = &mut engine.instantiate(&module).unwrap();
    // The frame of a stopped worker, overwritten as a guest of two threads could: by another
    // process that may, in place of the guest, which sleeps.
    for fill in [0_u8, 0xff, 0x41] {
        let mut instance = engine.instantiate(&module).unwrap();
        instance.set_deadline(Duration::from_secs(20));
        call(&mut instance, &[NOWHERE]);
        assert!(matches!(instance.run().unwrap(), Interrupt::PageFault(_)));
        let memory = format!("/proc/{}/mem", instance.process_id());
        let written = std::fs::OpenOptions::new()
            .write(true)
            .open(memory)
            .and_then(|file| {
                let stack = vmctx::map::ALT_STACK;
                let bytes = vec![fill; usize::try_from(stack.end - stack.start).unwrap()];
                std::os::unix::fs::FileExt::write_all_at(&file, &bytes, stack.start)
            });
        if written.is_err() {
            return absence::absent("cap-sys-ptrace", "nobody else writes a worker's memory");
        }
        instance
            .map_zero(NOWHERE, PAGE, Protection::ReadWrite)
            .unwrap();
        // It dies or traps, or is a forgery; it does not hang, and nobody else is harmed.
        match instance.run() {
            Ok(Interrupt::Died(_) | Interrupt::Trap(_) | Interrupt::PageFault(_)) => {}
            Err(error) => assert!(matches!(error.blame, Blame::Forged(_)), "{error}"),
            Ok(other) => panic!("{other}"),
        }
        if instance.is_alive() {
            instance.reset().unwrap();
            still_runs(&mut instance, &[DATA], 0);
        }
        still_runs(bystander, &[DATA], 0);
    }
}

/// Where the map is fixed all claims are traps.
#[test]
fn where_the_map_is_fixed_a_claim_is_a_trap() {
    let engine = Engine::new(&config().fixed_memory(true)).unwrap();
    let mut instance = start(&engine, |code| claims(code).expect("valid operands"));
    instance.set_deadline(Duration::from_secs(20));
    for address in [NOWHERE, DATA, CONSTANTS, 0, u64::MAX] {
        for access in [Access::Read, Access::Write, Access::Execute] {
            let found = claim(&mut instance, address, access, SEGV);
            let is_trap = matches!(found, Interrupt::Trap(trap) if trap.address == Some(address));
            assert!(is_trap, "{found}");
        }
    }
}
