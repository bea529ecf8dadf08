//! All that a CPU has of a guest survives a fault, whatever the host does before it answers.
//!
//! The guest loads everything from a block that the host has filled, touches one page, and stores
//! everything beside it.

mod state;

use cellwall::abi::REGISTER_NAMES;
use cellwall::{Engine, Instance, Interrupt, Module, Protection, Template};
use iced_x86::code_asm::{CodeAssembler, al, byte_ptr, qword_ptr};

use self::state::{
    ALIGNMENT_CHECK, BYTES, DIRECTION, GENERAL_REGISTERS, Has, IN, OUT, SETTABLE, Written, block,
    guest,
};
use super::{NOWHERE, PAGE, next_fault, paging_engine};
use crate::harness::{DATA, assemble, call, parts};

/// How many registers a report has.
const REGISTERS: usize = REGISTER_NAMES.len();

/// What a host does before it answers.
type Meanwhile = fn(&mut Instance, &Engine);

const MEANWHILE: [(&str, Meanwhile); 7] = [
    ("nothing", |_, _| {}),
    ("reads and writes", |instance, _| {
        let bytes = instance.read(OUT, 0x1000).unwrap();
        instance.write(OUT + 0x1000, &bytes).unwrap();
        instance.zero(OUT + 0x2000, 3 * PAGE).unwrap();
        instance.store(OUT + 0x1000, 7_u64).unwrap();
    }),
    ("maps, protects and unmaps", |instance, engine| {
        let at = NOWHERE + 0x10 * PAGE;
        instance
            .map_zero(at, 4 * PAGE, Protection::ReadWrite)
            .unwrap();
        instance
            .map_data(at + 4 * PAGE, &[1; 5000], Protection::Read)
            .unwrap();
        let template = Template::new(engine, &[2; 9000]).unwrap();
        instance
            .map_template(at + 8 * PAGE, &template, Protection::ReadWrite)
            .unwrap();
        instance
            .map_zero(at + 0x1000 * PAGE, 4096 * PAGE, Protection::ReadWrite)
            .unwrap();
        instance.protect(at, 2 * PAGE, Protection::Read).unwrap();
        instance
            .protect(at + PAGE, 3 * PAGE, Protection::None)
            .unwrap();
        instance.guard(at + 0x20 * PAGE, PAGE).unwrap();
        instance.unmap(at, 0x2000 * PAGE).unwrap();
    }),
    ("looks", |instance, _| {
        instance.memory_stats().unwrap();
        assert!(!instance.absent_around(NOWHERE, 512).is_empty());
        assert!(instance.is_alive());
        drop(instance.snapshot().unwrap());
    }),
    ("takes its time", |_, _| {
        std::thread::sleep(std::time::Duration::from_millis(30))
    }),
    ("does not answer twice", |instance, _| {
        for _ in 0..2 {
            next_fault(instance);
        }
    }),
    ("starts another worker", |instance, engine| {
        let mut other = engine.instantiate(instance.module()).unwrap();
        call(&mut other, &[]);
        let _ = other.run().unwrap();
    }),
];

fn instance_of(
    engine: &Engine,
    has: Has,
    touch: impl FnOnce(&mut CodeAssembler) -> Written,
) -> (Module, Instance) {
    let code = assemble(|code| guest(code, has, touch).expect("valid operands"));
    let module = parts(&code)
        .data(LAZY, &[0; 1], Protection::ReadWrite)
        .dynamic_paging();
    let module = module.build(engine).unwrap();
    let instance = engine.instantiate(&module).unwrap();
    (module, instance)
}

/// A page whose contents the host puts there when it is first touched, without telling anybody.
const LAZY: u64 = 0x8_0000;

fn as_it_was(instance: &mut Instance, expected: &[u8], case: &str) {
    let found = instance.read(OUT, BYTES).unwrap();
    let differs = found
        .iter()
        .zip(expected)
        .position(|(found, expected)| found != expected);
    assert_eq!(differs, None, "{case}: the byte of the layout that differs");
}

fn flags() -> [u64; 5] {
    [
        0,
        SETTABLE,
        DIRECTION,
        1 | ALIGNMENT_CHECK,
        SETTABLE | ALIGNMENT_CHECK,
    ]
}

#[test]
fn everything_survives_a_fault() {
    let Some(engine) = paging_engine() else {
        return;
    };
    let has = Has::now();
    let (_, mut instance) = instance_of(&engine, has, |code| code.mov(byte_ptr(NOWHERE + 8), al));
    for (seed, flags) in (0..).zip(flags()) {
        for (name, meanwhile) in MEANWHILE {
            let block = block(has, flags, seed);
            instance.write(IN, &block).unwrap();
            call(&mut instance, &[]);
            let fault = next_fault(&mut instance);
            assert_eq!(fault.address, NOWHERE + 8, "{name}");
            let registers = instance.registers().expect("it is in a fault");
            for (number, register) in (0..).zip(&GENERAL_REGISTERS) {
                let at = usize::try_from(number * 8).unwrap();
                let word = u64::from_le_bytes(block[at..at + 8].try_into().unwrap());
                let place = usize::try_from(number).unwrap();
                assert_eq!(
                    registers[place], word,
                    "{} is {register:?}",
                    REGISTER_NAMES[place]
                );
            }
            meanwhile(&mut instance, &engine);
            instance
                .map_zero(NOWHERE, PAGE, Protection::ReadWrite)
                .unwrap();
            assert_eq!(instance.run().unwrap(), Interrupt::Finished(0), "{name}");
            as_it_was(&mut instance, &block, name);
            instance.unmap(NOWHERE, PAGE).unwrap();
        }
    }
}

/// What the host settles without telling anybody is no less of a fault.
/// Where the guest goes on: it jumps to itself until the host writes another address there, and
/// needs no register or flag for that.
const NEXT: u64 = DATA + 0x8000;
/// The length of that instruction.
const JUMP_BYTES: u64 = 7;

#[test]
fn everything_survives_interruptions() {
    let Some(engine) = paging_engine() else {
        return;
    };
    let has = Has::now();
    let (module, mut instance) = instance_of(&engine, has, |code| {
        code.jmp(qword_ptr(NEXT))?;
        code.nop()
    });
    // Where it is, a first run tells, which traps there.
    instance.store(NEXT, 1_u64 << 63).unwrap();
    instance.write(IN, &block(has, 0, 0)).unwrap();
    call(&mut instance, &[]);
    let Interrupt::Trap(trap) = instance.run().unwrap() else {
        panic!("no address")
    };
    let jump = trap.pc.expect("an instruction");
    let handle = instance.interrupt_handle();
    for (seed, flags) in (0..).zip(flags()) {
        let block = block(has, flags, seed);
        instance.write(IN, &block).unwrap();
        instance.store(NEXT, jump).unwrap();
        instance.call(module.entry(), &[]).unwrap();
        let mut stops = 0;
        while stops < 3 {
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    std::thread::sleep(std::time::Duration::from_millis(1));
                    handle.interrupt();
                });
                assert_eq!(instance.run().unwrap(), Interrupt::Interrupted);
            });
            // The first ones may find it on its way.
            let Some(registers) = instance.registers() else {
                continue;
            };
            if registers[REGISTERS - 2] != jump {
                continue;
            }
            stops += 1;
            for (number, register) in GENERAL_REGISTERS.iter().enumerate() {
                let word = u64::from_le_bytes(block[number * 8..][..8].try_into().unwrap());
                assert_eq!(registers[number], word, "{register:?}");
            }
        }
        instance.store(NEXT, jump + JUMP_BYTES).unwrap();
        assert_eq!(instance.run().unwrap(), Interrupt::Finished(0));
        as_it_was(&mut instance, &block, "interrupted");
    }
}

#[test]
fn everything_survives_a_fault_that_nobody_hears_of() {
    let Some(engine) = paging_engine() else {
        return;
    };
    let has = Has::now();
    for (seed, flags) in (0..).zip(flags()) {
        let (_, mut instance) = instance_of(&engine, has, |code| code.mov(byte_ptr(LAZY), al));
        let block = block(has, flags, seed);
        instance.write(IN, &block).unwrap();
        call(&mut instance, &[]);
        assert_eq!(instance.run().unwrap(), Interrupt::Finished(0));
        as_it_was(&mut instance, &block, "settled");
    }
}

/// A hundred faults between the load and the store, alternately heard of and not.
#[test]
fn everything_survives_many_faults() {
    let Some(engine) = paging_engine() else {
        return;
    };
    let has = Has::now();
    let (_, mut instance) = instance_of(&engine, has, |code| {
        (0..100).try_for_each(|page| code.mov(byte_ptr(NOWHERE + page * PAGE), al))
    });
    let block = block(has, SETTABLE, 99);
    instance.write(IN, &block).unwrap();
    for page in (1..100).step_by(2) {
        let protection = if page % 4 == 1 {
            Protection::Read
        } else {
            Protection::ReadWrite
        };
        instance
            .map_zero(NOWHERE + page * PAGE, PAGE, Protection::Read)
            .unwrap();
        instance
            .protect(NOWHERE + page * PAGE, PAGE, protection)
            .unwrap();
        instance
            .protect(NOWHERE + page * PAGE, PAGE, Protection::ReadWrite)
            .unwrap();
    }
    call(&mut instance, &[]);
    for page in (0..100).step_by(2) {
        let fault = next_fault(&mut instance);
        assert_eq!(fault.page(), NOWHERE + page * PAGE);
        instance
            .map_zero(fault.page(), PAGE, Protection::ReadWrite)
            .unwrap();
    }
    assert_eq!(instance.run().unwrap(), Interrupt::Finished(0));
    as_it_was(&mut instance, &block, "many");
}
