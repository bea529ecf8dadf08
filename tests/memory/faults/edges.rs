//! Where a fault begins and ends: edges of pages, of regions, of the address space.

use cellwall::abi::CODE_WINDOW;
use cellwall::{Access, Engine, Instance, Interrupt, Module, Protection, Trap, TrapKind};
use iced_x86::code_asm::{CodeAssembler, al, byte_ptr, qword_ptr, rax, rdi, rsi, word_ptr};

use super::{NOWHERE, PAGE, called, next_fault, paged, paging_engine, run_mapping};
use crate::harness::{CONSTANTS, DATA, DATA_BYTES, STACK, assemble, call, config, parts};

/// The first and the last page that a guest can have.
const BOTTOM: u64 = 0x1_0000;
const TOP: u64 = 0xffff_f000;

/// Reads 8 bytes at its first argument, or writes its second there.
fn read(code: &mut CodeAssembler) {
    code.mov(rax, qword_ptr(rdi)).unwrap();
    code.ret().unwrap();
}

fn write(code: &mut CodeAssembler) {
    code.mov(qword_ptr(rdi), rsi).unwrap();
    code.mov(rax, rsi).unwrap();
    code.ret().unwrap();
}

fn trapped(instance: &mut Instance) -> Trap {
    match instance.run().expect("a turn") {
        Interrupt::Trap(trap) => trap,
        other => panic!("no trap: {other}"),
    }
}

/// A memory trap of the first instruction.
fn memory_trap(address: u64, access: Access, pc: u64) -> Trap {
    let mut trap = Trap::new(TrapKind::Memory);
    trap.address = Some(address);
    trap.access = Some(access);
    trap.pc = Some(pc);
    trap
}

#[test]
fn an_access_at_the_edge_of_a_page_faults_in_that_page_alone() {
    let Some(engine) = paging_engine() else {
        return;
    };
    let cases = [
        (NOWHERE, vec![NOWHERE]),
        (NOWHERE + PAGE - 8, vec![NOWHERE + PAGE - 8]),
        // Across two absent pages: first what is the first byte's, then what is the other's.
        (NOWHERE + PAGE - 7, vec![NOWHERE + PAGE - 7, NOWHERE + PAGE]),
        (NOWHERE + PAGE - 1, vec![NOWHERE + PAGE - 1, NOWHERE + PAGE]),
        // Across the end of a region of the module's, into and out of it.
        (DATA + DATA_BYTES - 1, vec![DATA + DATA_BYTES]),
        (STACK - 1, vec![STACK - 1]),
    ];
    for (address, faults) in cases {
        let value = 0x8877_6655_4433_2211;
        let mut instance = called(&engine, &[address, value], write);
        let expected: Vec<_> = faults.iter().map(|at| (*at, Access::Write)).collect();
        let (end, mut found) = run_mapping(&mut instance);
        // Which of two pages the CPU names first is its own affair.
        found.sort_by_key(|(at, _)| *at);
        assert_eq!(
            (end, found),
            (Interrupt::Finished(value), expected),
            "{address:#x}"
        );
        assert_eq!(instance.load::<u64>(address).unwrap(), value);

        let mut instance = called(&engine, &[address], read);
        let expected: Vec<_> = faults.iter().map(|at| (*at, Access::Read)).collect();
        let (end, mut found) = run_mapping(&mut instance);
        found.sort_by_key(|(at, _)| *at);
        assert_eq!(
            (end, found),
            (Interrupt::Finished(0), expected),
            "{address:#x}"
        );
    }
}

/// A write whose second half is refused has not done the first half.
#[test]
fn half_of_an_access_does_not_happen() {
    let Some(engine) = paging_engine() else {
        return;
    };
    let address = NOWHERE + PAGE - 4;
    let mut instance = called(&engine, &[address, u64::MAX], write);
    let contents = [0x11; 4096];
    instance
        .map_data(NOWHERE, &contents, Protection::ReadWrite)
        .unwrap();
    let fault = next_fault(&mut instance);
    assert_eq!(fault.address, NOWHERE + PAGE);
    assert_eq!(instance.load::<u32>(address).unwrap(), 0x1111_1111);
    instance.refuse_fault().unwrap();
    assert_eq!(instance.read(NOWHERE, PAGE).unwrap(), contents);
    assert!(
        instance
            .absent_around(NOWHERE + PAGE, 1)
            .contains(&(NOWHERE + PAGE))
    );
}

#[test]
fn the_first_and_the_last_page_are_like_any_other() {
    let Some(engine) = paging_engine() else {
        return;
    };
    for (address, last) in [
        (BOTTOM, false),
        (BOTTOM + PAGE - 8, false),
        (TOP, false),
        (TOP + PAGE - 8, true),
    ] {
        let mut instance = called(&engine, &[address, address], write);
        let fault = next_fault(&mut instance);
        assert_eq!((fault.address, fault.access), (address, Access::Write));
        assert_eq!(fault.pc, CODE_WINDOW.start);
        instance
            .map_zero(fault.page(), PAGE, Protection::ReadWrite)
            .unwrap();
        assert_eq!(instance.run().unwrap(), Interrupt::Finished(address));
        assert_eq!(instance.load::<u64>(address).unwrap(), address);
        // One byte further is nobody's.
        if last {
            call(&mut instance, &[address + 1, 0]);
            let trap = trapped(&mut instance);
            assert_eq!(
                trap,
                memory_trap(0x1_0000_0000, Access::Write, CODE_WINDOW.start)
            );
        }
        instance.unmap(fault.page(), PAGE).unwrap();
        call(&mut instance, &[address, 1]);
        assert_eq!(next_fault(&mut instance), fault);
    }
}

/// Two engines: one that pages, where it can be had, and one that does not.
fn engines() -> Vec<(Engine, bool)> {
    let fixed = Engine::new(&config().fixed_memory(true)).unwrap();
    let mut engines = vec![(fixed, false)];
    engines.extend(paging_engine().map(|engine| (engine, true)));
    engines
}

fn of(engine: &Engine, pages: bool, write: fn(&mut CodeAssembler)) -> Instance {
    let module = if pages {
        paged(engine, write)
    } else {
        parts(&assemble(write)).build(engine).unwrap()
    };
    engine.instantiate(&module).unwrap()
}

/// A pager is not asked for what no pager can give.
#[test]
fn what_is_no_guest_s_traps_everywhere() {
    for (engine, pages) in engines() {
        let access = [
            (read as fn(&mut CodeAssembler), Access::Read),
            (write, Access::Write),
        ];
        for (code, access) in access {
            let mut instance = of(&engine, pages, code);
            for address in [
                0,
                8,
                0x1000,
                0xfff8,
                0x1_0000_0000,
                0x1_3fff_f000,
                0x2_0000_0000,
            ] {
                call(&mut instance, &[address, 0]);
                let trap = trapped(&mut instance);
                assert_eq!(trap, memory_trap(address, access, CODE_WINDOW.start));
            }
            // Half of it would be a guest's, and is not asked for either before the other half is
            // refused, or after: the instruction comes to nothing.
            call(&mut instance, &[0xffff, 0]);
            let found = instance.run().unwrap();
            let asked = matches!(found, Interrupt::PageFault(fault) if fault.address == BOTTOM);
            assert!(
                asked && pages || matches!(found, Interrupt::Trap(_)),
                "{found}"
            );
        }
    }
}

#[test]
fn data_is_never_executed_and_nobody_is_asked_to_page_code_in() {
    for (engine, pages) in engines() {
        let mut instance = of(&engine, pages, |code| code.jmp(rdi).unwrap());
        let nop_ret = [0x90, 0xc3];
        instance.write(DATA, &nop_ret).unwrap();
        if pages {
            instance
                .map_data(NOWHERE, &nop_ret, Protection::ReadWrite)
                .unwrap();
            instance
                .map_data(NOWHERE + PAGE, &nop_ret, Protection::Read)
                .unwrap();
        }
        let far = NOWHERE + 0x10_0000;
        for address in [
            DATA,
            CONSTANTS,
            STACK,
            NOWHERE,
            NOWHERE + PAGE,
            far,
            BOTTOM,
            TOP,
            0,
            0x1_0000_0000,
        ] {
            call(&mut instance, &[address]);
            let trap = trapped(&mut instance);
            assert_eq!(trap, memory_trap(address, Access::Execute, address));
        }
    }
}

/// Code that runs off its page into data, or into nothing.
#[test]
fn an_instruction_across_the_end_of_code_traps_in_the_page_after() {
    let Some(engine) = paging_engine() else {
        return;
    };
    const CODE: u64 = 0x50_0000;
    // A five-byte instruction of which two bytes are in the page.
    let mut code = vec![0x90; 4096];
    code[4094..].copy_from_slice(&[0xb8, 0x01]);
    for mapped in [false, true] {
        let module = Module::builder().code_at(CODE, &code).entry(CODE + 4090);
        let module = module
            .stack(STACK, 0x1_0000)
            .dynamic_paging()
            .build(&engine)
            .unwrap();
        let mut instance = engine.instantiate(&module).unwrap();
        if mapped {
            instance
                .map_data(CODE + PAGE, &[0; 8], Protection::ReadWrite)
                .unwrap();
        }
        call(&mut instance, &[]);
        let expected = memory_trap(CODE + PAGE, Access::Execute, CODE + 4094);
        assert_eq!(trapped(&mut instance), expected);
    }
}

#[test]
fn writes_to_what_is_read_only_trap_and_change_nothing() {
    let Some(engine) = paging_engine() else {
        return;
    };
    let mut instance = called(&engine, &[], write);
    let contents = [0x5a; 4096];
    instance
        .map_data(NOWHERE, &contents, Protection::Read)
        .unwrap();
    instance
        .map_zero(NOWHERE + PAGE, PAGE, Protection::Read)
        .unwrap();
    instance
        .map_data(NOWHERE + 2 * PAGE, &contents, Protection::ReadWrite)
        .unwrap();
    instance
        .protect(NOWHERE + 2 * PAGE, PAGE, Protection::Read)
        .unwrap();
    instance
        .map_zero(NOWHERE + 3 * PAGE, PAGE, Protection::None)
        .unwrap();
    instance.guard(NOWHERE + 4 * PAGE, PAGE).unwrap();
    let refused = [CONSTANTS, CODE_WINDOW.start, NOWHERE, NOWHERE + PAGE]
        .into_iter()
        .chain((2..5).map(|page| NOWHERE + page * PAGE));
    for address in refused {
        call(&mut instance, &[address, u64::MAX]);
        let expected = memory_trap(address, Access::Write, CODE_WINDOW.start);
        assert_eq!(trapped(&mut instance), expected);
    }
    assert_eq!(instance.read(NOWHERE, PAGE).unwrap(), contents);
    assert_eq!(instance.load::<u64>(NOWHERE + PAGE).unwrap(), 0);
    assert_eq!(instance.read(NOWHERE + 2 * PAGE, PAGE).unwrap(), contents);
    // Half of the access would be allowed: nothing of it happens.
    call(&mut instance, &[NOWHERE + 3 * PAGE - 4, u64::MAX]);
    assert_eq!(trapped(&mut instance).address, Some(NOWHERE + 3 * PAGE - 4));
    instance
        .protect(NOWHERE + 2 * PAGE, PAGE, Protection::ReadWrite)
        .unwrap();
    call(&mut instance, &[NOWHERE + 3 * PAGE - 4, u64::MAX]);
    assert_eq!(trapped(&mut instance).address, Some(NOWHERE + 3 * PAGE));
    assert_eq!(instance.read(NOWHERE + 2 * PAGE, PAGE).unwrap(), contents);
    // Nothing to refuse any more.
    assert!(instance.refuse_fault().is_err());
}

/// A page that is read-only becomes writable while the guest is stopped at a trap: called anew, the
/// same write is done. And the other way round.
#[test]
fn protection_counts_at_once_for_pages_that_the_guest_has() {
    let Some(engine) = paging_engine() else {
        return;
    };
    let mut instance = called(&engine, &[NOWHERE, 7], write);
    let (end, _) = run_mapping(&mut instance);
    assert_eq!(end, Interrupt::Finished(7));
    for round in 0..50 {
        instance.protect(NOWHERE, PAGE, Protection::Read).unwrap();
        call(&mut instance, &[NOWHERE, round]);
        trapped(&mut instance);
        instance.protect(NOWHERE, PAGE, Protection::None).unwrap();
        call(&mut instance, &[NOWHERE, round]);
        trapped(&mut instance);
        instance
            .protect(NOWHERE, PAGE, Protection::ReadWrite)
            .unwrap();
        call(&mut instance, &[NOWHERE, round]);
        assert_eq!(instance.run().unwrap(), Interrupt::Finished(round));
        assert_eq!(instance.load::<u64>(NOWHERE).unwrap(), round);
    }
}

/// Reading is not writing: `lock or [x], 0` writes what it read, `movzx` does not.
#[test]
fn what_an_instruction_wants_is_told_as_it_is() {
    let Some(engine) = paging_engine() else {
        return;
    };
    type Write = fn(&mut CodeAssembler);
    let cases: [(Write, Access); 4] = [
        (|code| code.add(al, byte_ptr(rdi)).unwrap(), Access::Read),
        (|code| code.add(byte_ptr(rdi), al).unwrap(), Access::Write),
        (
            |code| code.lock().or(byte_ptr(rdi), 0).unwrap(),
            Access::Write,
        ),
        (
            |code| code.xchg(word_ptr(rdi), iced_x86::code_asm::ax).unwrap(),
            Access::Write,
        ),
    ];
    for (code, access) in cases {
        let mut instance = called(&engine, &[NOWHERE + 5], |assembler| {
            code(assembler);
            assembler.ret().unwrap();
        });
        let fault = next_fault(&mut instance);
        assert_eq!((fault.address, fault.access), (NOWHERE + 5, access));
    }
}

#[test]
fn where_the_map_is_fixed_a_fault_is_a_trap() {
    let engine = Engine::new(&config().fixed_memory(true)).unwrap();
    let mut instance = of(&engine, false, read);
    for address in [NOWHERE, BOTTOM, TOP, STACK - 8] {
        call(&mut instance, &[address]);
        let expected = memory_trap(address, Access::Read, CODE_WINDOW.start);
        assert_eq!(trapped(&mut instance), expected);
        assert!(instance.refuse_fault().is_err());
    }
}
