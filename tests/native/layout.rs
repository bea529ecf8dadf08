//! Where a native guest's pieces are, what is in them, and what the guest may do with them.

use std::time::Duration;

use cellwall::elf::{self, ElfError, SegmentProtection};
use cellwall::native::{Options, Program};
use cellwall::{Access, Blame, Engine, Instance, Interrupt, Misuse, TrapKind, abi};
use iced_x86::code_asm::{byte_ptr, eax, ecx, edx, rax, rcx, rdi, rdx};

use super::elf_files::{number, parts, reason};
use super::files::Random;
use super::gunzip::gzip;
use super::hand_made::{CODE, Load, READ, READ_WRITE, executable};
use super::runner::{Native, World, bytes, image};
use crate::harness::{eventually, exists};

fn refused(engine: &Engine, file: &[u8]) -> cellwall::Error {
    let Err(error) = Program::load(engine, file, &Options::new()) else {
        panic!("a file that should be refused")
    };
    error
}

/// Runs a file to its value.
fn value(engine: &Engine, file: &[u8]) -> u64 {
    match outcome(engine, file) {
        Interrupt::Finished(value) => value,
        other => panic!("{other}"),
    }
}

fn outcome(engine: &Engine, file: &[u8]) -> Interrupt {
    let program = Program::load(engine, file, &Options::new()).unwrap();
    let mut instance = engine.instantiate(program.module()).unwrap();
    program.enter(&mut instance, &["argument"]).unwrap();
    instance.set_deadline(Duration::from_secs(20));
    instance.run().unwrap()
}

/// All of a segment, as the guest finds it.
fn memory(instance: &mut Instance, segment: &elf::Segment) -> Vec<u8> {
    let mut memory = vec![0xee; bytes(segment.length)];
    instance.read_into(segment.address, &mut memory).unwrap();
    memory
}

#[test]
fn every_instance_begins_as_the_file_says() {
    for guest in cellwall_guests::all() {
        let image = elf::load(guest.image).unwrap();
        let native = Native::built_in(guest.name);
        let module = native.program.module();
        let mut instance = native.engine.instantiate(module).unwrap();
        for segment in &image.segments {
            let mut expected = segment.contents.clone();
            expected.resize(bytes(segment.length), 0);
            assert_eq!(memory(&mut instance, segment), expected, "{}", guest.name);
            // Spoil it, where that is allowed, for this instance alone.
            let writable = segment.protection == SegmentProtection::ReadWrite;
            let spoiled = vec![0xa5; bytes(segment.length)];
            let written = instance.write(segment.address, &spoiled).is_ok();
            assert_eq!(written, writable, "{}", guest.name);
            let mut next = native.engine.instantiate(module).unwrap();
            assert_eq!(memory(&mut next, segment), expected, "{}", guest.name);
        }
    }
}

/// A jump to where a page of code has no code traps, before its first byte too.
#[test]
fn a_page_of_code_has_nothing_else() {
    for guest in cellwall_guests::all() {
        let image = elf::load(guest.image).unwrap();
        let mut parts = parts(guest.image).into_iter();
        let code = parts.find(|&at| number(guest.image, at, 8) == 5 << 32 | 1);
        let address = elf::LOAD_BIAS + number(guest.image, code.unwrap() + 16, 8);
        let before = bytes(address % 0x1000);
        let first = address - address % 0x1000;
        let segment = image.segments.iter().find(|part| part.address == first);
        let segment = segment.unwrap_or_else(|| panic!("{} has no code", guest.name));
        assert_eq!(segment.protection, SegmentProtection::ReadExecute);
        assert_eq!(segment.contents[..before], vec![elf::FILLER; before]);
    }
}

#[test]
fn between_the_pieces_is_nothing() {
    let native = Native::built_in("hello");
    let mut instance = native.engine.instantiate(native.program.module()).unwrap();
    let end = elf::load(image("hello")).unwrap().end();
    let arguments = end + 0x1000;
    let stack = arguments + 0x1_0000 + 0x1000;
    let heap = stack + (1 << 20) + 0x1000;
    let heap_end = heap + (256 << 20);
    assert_eq!(native.program.module().stack_top(), heap - 0x1000);
    for guard in [
        end,
        arguments - 1,
        stack - 0x1000,
        stack - 1,
        heap - 1,
        heap_end,
    ] {
        assert!(
            !instance.is_accessible(guard, 1, Access::Read),
            "{guard:#x}"
        );
    }
    for (start, end) in [(stack, heap - 0x1000), (heap, heap_end)] {
        assert!(instance.is_accessible(start, end - start, Access::Write));
        assert!(!instance.is_accessible(start, 1, Access::Execute));
        let mut memory = vec![1; 0x10_0000];
        instance.read_into(end - 0x10_0000, &mut memory).unwrap();
        assert!(memory.iter().all(|&byte| byte == 0), "{start:#x}");
    }
    assert!(instance.is_accessible(arguments, 0x1_0000, Access::Read));
    assert!(!instance.is_accessible(arguments, 1, Access::Write));
}

#[test]
fn what_may_only_be_read_cannot_be_written() {
    let engine = crate::harness::engine();
    let constants = Load::full(CODE + 0x1000, READ, b"constants");
    let file = executable(
        |code| {
            // The address of the arguments, then a store to it.
            code.mov(byte_ptr(rdi), 1).unwrap();
        },
        vec![constants],
    );
    match outcome(&engine, &file) {
        Interrupt::Trap(trap) => {
            assert_eq!(trap.kind, TrapKind::Memory);
            assert_eq!(trap.address, Some(CODE + 0x3000));
            assert_eq!(trap.access, Some(Access::Write));
            assert_eq!(trap.pc, Some(CODE));
        }
        other => panic!("{other}"),
    }
    for address in [CODE, CODE + 0x1000, CODE + 0x1fff] {
        let constants = Load::full(CODE + 0x1000, READ, b"constants");
        let write = executable(
            |code| {
                code.mov(rax, address).unwrap();
                code.mov(byte_ptr(rax), 1).unwrap();
            },
            vec![constants],
        );
        match outcome(&engine, &write) {
            Interrupt::Trap(trap) => assert_eq!(trap.address, Some(address)),
            other => panic!("{other}"),
        }
    }
}

/// The rest of a segment's last page is zero, whatever follows its bytes in the file.
#[test]
fn memory_that_the_file_has_no_bytes_for_is_zero() {
    let native = Native::load(
        &executable(
            |code| code.ret().unwrap(),
            vec![
                Load::full(CODE + 0x1ffe, READ, b"end"),
                Load {
                    address: CODE + 0x3010,
                    flags: READ_WRITE,
                    contents: b"data".to_vec(),
                    memory_bytes: 0x5000,
                },
            ],
        ),
        &Options::new(),
    );
    let mut instance = native.engine.instantiate(native.program.module()).unwrap();
    let mut read = |address, length| {
        let mut memory = vec![0xee; length];
        instance.read_into(address, &mut memory).unwrap();
        memory
    };
    let constants = [&[0; 0xffe][..], b"end", &[0; 0xfff]].concat();
    assert_eq!(read(CODE + 0x1000, 0x2000), constants);
    let data = [&[0; 0x10][..], b"data", &[0; 0x6000 - 0x14]].concat();
    assert_eq!(read(CODE + 0x3000, 0x6000), data);
    // In code it is traps.
    let code = [&[0xc3][..], &[elf::FILLER; 0xfff]].concat();
    assert_eq!(read(CODE, 0x1000), code);
}

/// The most segments that a file may have, each seen by the guest at its place.
#[test]
fn many_segments() {
    const FIRST: u64 = CODE + 0x10_0000;
    let file = |count: usize| {
        let load = |index: usize| {
            let flags = if index.is_multiple_of(2) {
                READ
            } else {
                READ_WRITE
            };
            let number = u8::try_from(index).unwrap() + 1;
            Load::full(FIRST + 0x1000 * index as u64, flags, &[number])
        };
        executable(
            |code| {
                let mut again = code.create_label();
                code.xor(eax, eax).unwrap();
                code.mov(rcx, FIRST).unwrap();
                code.set_label(&mut again).unwrap();
                code.movzx(edx, byte_ptr(rcx)).unwrap();
                code.add(rax, rdx).unwrap();
                code.add(rcx, 0x1000).unwrap();
                code.cmp(
                    ecx,
                    i32::try_from(FIRST).unwrap() + 0x1000 * i32::try_from(count).unwrap(),
                )
                .unwrap();
                code.jne(again).unwrap();
                code.ret().unwrap();
            },
            (0..count).map(load).collect(),
        )
    };
    let engine = crate::harness::engine();
    for count in [1, 2, 10, elf::SEGMENTS_MAX - 1] {
        let sum = (count * (count + 1) / 2) as u64;
        assert_eq!(value(&engine, &file(count)), sum, "{count} segments");
    }
    let why = reason(refused(&engine, &file(elf::SEGMENTS_MAX)));
    assert_eq!(why, ElfError::TooManyLoads);
}

/// The most memory that a file may ask for; it costs nothing until it is touched.
#[test]
fn a_gibibyte_of_zeros() {
    const DATA: u64 = CODE + 0x1000;
    let file = |memory_bytes| {
        let last = DATA + memory_bytes - 1;
        let zeros = Load {
            address: DATA,
            flags: READ_WRITE,
            contents: Vec::new(),
            memory_bytes,
        };
        executable(
            |code| {
                code.mov(rcx, last).unwrap();
                code.add(byte_ptr(rcx), 7).unwrap();
                code.movzx(eax, byte_ptr(rcx)).unwrap();
                code.ret().unwrap();
            },
            vec![zeros],
        )
    };
    let most = elf::MEMORY_BYTES_MAX - 0x1000;
    let large = Engine::new(&crate::harness::config().memory_limit(abi::GUEST.end)).unwrap();
    assert_eq!(value(&large, &file(most)), 7);
    let why = reason(refused(&large, &file(most + 1)));
    assert!(matches!(why, ElfError::TooLarge(_)), "{why}");
    // What a file may ask for is one thing, what the engine gives another.
    let usual = crate::harness::engine();
    let error = refused(&usual, &file(most));
    assert!(
        matches!(error.blame, Blame::Caller(Misuse::MemoryLimit { .. })),
        "{error}"
    );
}

/// A guest that is given up in the middle of a hostcall, or before it ever ran.
#[test]
fn an_abandoned_guest_leaves_no_process() {
    let gunzip = Native::built_in("gunzip");
    let file = gzip(&Random::new(60).text(1 << 20), 6);
    for steps in [0, 1, 2, 5] {
        let mut session = gunzip.start(World {
            input: &file,
            transfer_max: 1000,
            ..World::default()
        });
        for _ in 0..steps {
            assert_eq!(session.step(), None);
        }
        let worker = session.instance.process_id();
        assert!(exists(worker));
        drop(session);
        eventually(Duration::from_secs(2), "the worker is gone", || {
            !exists(worker)
        });
    }
}

/// A mistake of the embedder's hurts that guest and nobody else.
#[test]
fn a_program_entered_in_another_programs_instance() {
    let hello = Native::built_in("hello");
    let gunzip = Native::built_in("gunzip");
    let mut instance = gunzip.engine.instantiate(gunzip.program.module()).unwrap();
    instance.set_deadline(Duration::from_millis(200));
    if hello.program.enter(&mut instance, &["argument"]).is_ok() {
        for _ in 0..20 {
            match instance.run().unwrap() {
                Interrupt::Hostcall(_) => instance.answer(0).unwrap(),
                _ => break,
            }
        }
    }
    drop(instance);
    let data = Random::new(61).text(1000);
    gunzip
        .run(&gzip(&data, 6))
        .assert_output("the next one", &data);
}
