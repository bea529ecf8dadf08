//! What hostcalls answer, asked by a guest that makes any hostcall it is told to; and what real
//! guests do when the host's answers are wrong.

use std::time::Duration;

use cellwall::elf::ElfError;
use cellwall::native::{Options, Program};
use cellwall::{Blame, Errno, Interrupt, Misuse, Stage, abi};
use iced_x86::code_asm::{
    CodeAssembler, qword_ptr, r8, r9, r10, r11, rax, rcx, rdi, rdx, rsi, rsp,
};
use vmctx::native::{LOG, READ, STDERR, STDIN, STDOUT, TRANSFER_BYTES_MAX, WRITE};

use super::elf_files::reason;
use super::files::Random;
use super::gunzip::gzip;
use super::runner::{Native, Run, World, word};

/// Where the guest's file is loaded, headers and all.
const FILE: u64 = 0x40_0000;
/// Its arguments, stack and heap, each behind a guard page, as long as the options say.
const ARGUMENTS: u64 = FILE + 0x2000;
const STACK: u64 = ARGUMENTS + 0x1_0000 + 0x1000;
const STACK_BYTES: u64 = 0x2000;
const HEAP: u64 = STACK + STACK_BYTES + 0x1000;
const HEAP_BYTES: u64 = 0x30_0000;

fn options() -> Options {
    Options::new()
        .stack_bytes(STACK_BYTES)
        .heap_bytes(HEAP_BYTES)
}

/// A file of one segment: the hostcall that the heap begins with, whose answer is the value.
fn asker(at: u64) -> Vec<u8> {
    let code_at = at + 0x78;
    let mut code = CodeAssembler::new(64).unwrap();
    code.mov(r10, rdx).unwrap();
    code.mov(rax, qword_ptr(r10)).unwrap();
    for (index, register) in [rdi, rsi, rdx, rcx, r8, r9].into_iter().enumerate() {
        code.mov(register, qword_ptr(r10 + 8 * (index + 1)))
            .unwrap();
    }
    code.mov(r11, abi::HOSTCALL).unwrap();
    code.sub(rsp, 8).unwrap();
    code.call(r11).unwrap();
    code.add(rsp, 8).unwrap();
    code.ret().unwrap();
    let code = code.assemble(code_at).unwrap();
    let bytes = 0x78 + code.len() as u64;
    // ET_EXEC for x86-64 with one program header, right behind this header.
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0\x01\0\0\0".to_vec();
    file.extend([code_at, 64, 0].map(u64::to_le_bytes).concat());
    file.extend(b"\0\0\0\0\x40\0\x38\0\x01\0\0\0\0\0\0\0");
    file.extend(b"\x01\0\0\0\x05\0\0\0");
    let part = [0, at, at, bytes, bytes, 0x1000];
    file.extend(part.map(u64::to_le_bytes).concat());
    file.extend(code);
    file
}

struct Asker {
    native: Native,
    heap: u64,
}

impl Asker {
    fn new() -> Self {
        Self::at(FILE)
    }

    fn at(file: u64) -> Self {
        let native = Native::load(&asker(file), &options());
        let heap = file + (HEAP - FILE);
        Self { native, heap }
    }

    fn ask(&self, number: u32, args: [u64; 3]) -> Run {
        let [first, second, third] = args;
        let words = [u64::from(number), first, second, third, 4, 5, 6].map(u64::to_le_bytes);
        let mut session = self.native.start(World {
            input: &[b'i'; 2 << 20],
            ..World::default()
        });
        session.instance.write(self.heap, &words.concat()).unwrap();
        session.run_to_end();
        session.run
    }

    fn answer(&self, number: u32, args: [u64; 3]) -> u64 {
        match self.ask(number, args).end {
            Interrupt::Finished(value) => value,
            other => panic!("{other}"),
        }
    }
}

/// Memory that is nobody's, or the worker's own: from, how much.
const OUTSIDE: [(u64, u64); 18] = [
    (0, 1),
    (0xffff, 1),
    (FILE - 1, 1),
    (FILE - 1, 2),
    (FILE + 0x1000, 1),
    (FILE + 0xfff, 2),
    (ARGUMENTS - 1, 2),
    (ARGUMENTS + 0x1_0000, 1),
    (STACK - 1, 2),
    (HEAP - 1, 2),
    (HEAP + HEAP_BYTES, 1),
    (HEAP + HEAP_BYTES - 1, 2),
    (0xffff_ffff, 2),
    (0x1_0000_0000, 1),
    (0x1_4000_0000, 8),
    (vmctx::map::TURN_PAGE.start, 8),
    (0x7fff_ffff_f000, 8),
    (u64::MAX, 1),
];

#[test]
fn pointers_outside_are_faults() {
    let asker = Asker::new();
    let fault = word(Err(Errno::EFAULT));
    let no_guests = [(u64::MAX, u64::MAX), (HEAP, u64::MAX), (1 << 63, 1 << 63)];
    for (address, length) in OUTSIDE.into_iter().chain(no_guests) {
        let what = format!("{address:#x} and {length:#x}");
        // A length is cut before it is looked at: all that is left may be there.
        if address != HEAP {
            let write = asker.ask(WRITE, [STDOUT, address, length]);
            assert_eq!(write.end, Interrupt::Finished(fault), "{what}");
            assert!(write.stdout.is_empty(), "{what}");
            assert_eq!(
                asker.answer(READ, [STDIN, address, length]),
                fault,
                "{what}"
            );
            let log = asker.ask(LOG, [address, length, 0]);
            assert_eq!(log.end, Interrupt::Finished(fault), "{what}");
            assert!(log.log.is_empty(), "{what}");
        } else {
            assert_eq!(
                asker.answer(WRITE, [STDOUT, address, length]),
                TRANSFER_BYTES_MAX
            );
        }
    }
}

#[test]
fn what_a_guest_may_read_it_may_write_out_but_not_overwrite() {
    let asker = Asker::new();
    let file = asker_page();
    let out = asker.ask(WRITE, [STDOUT, FILE, 0x1000]);
    assert_eq!(out.end, Interrupt::Finished(0x1000));
    assert_eq!(out.stdout, file, "its own code, and traps behind it");
    let err = asker.ask(WRITE, [STDERR, FILE, 4]);
    assert_eq!(
        (err.end, &err.stderr[..]),
        (Interrupt::Finished(4), &b"\x7fELF"[..])
    );
    let fault = word(Err(Errno::EFAULT));
    for address in [FILE, FILE + 0xff8, ARGUMENTS, ARGUMENTS + 0xfff8] {
        assert_eq!(
            asker.answer(READ, [STDIN, address, 8]),
            fault,
            "{address:#x}"
        );
        assert_eq!(asker.answer(WRITE, [STDOUT, address, 8]), 8, "{address:#x}");
    }
    for address in [STACK, HEAP, HEAP + HEAP_BYTES - 8] {
        assert_eq!(asker.answer(READ, [STDIN, address, 8]), 8, "{address:#x}");
    }
}

fn asker_page() -> Vec<u8> {
    let mut file = asker(FILE);
    file.resize(0x1000, 0xcc);
    file
}

#[test]
fn lengths_are_cut_and_nothing_is_nothing() {
    let asker = Asker::new();
    assert_eq!(
        asker.answer(READ, [STDIN, HEAP, 4 << 20]),
        TRANSFER_BYTES_MAX
    );
    assert_eq!(
        asker.answer(WRITE, [STDOUT, HEAP, 4 << 20]),
        TRANSFER_BYTES_MAX
    );
    let log = asker.ask(LOG, [FILE, 5000, 0]);
    // The file's page ends before that.
    assert_eq!(log.end, Interrupt::Finished(0));
    assert!(log.log[0].starts_with("\x7fELF"));
    for number in [READ, WRITE] {
        assert_eq!(asker.answer(number, [u64::from(number) - 1, HEAP, 0]), 0);
    }
}

/// The lowest and the highest place for a guest; a page further is refused.
#[test]
fn guests_at_the_ends_of_their_addresses() {
    let highest = abi::GUEST.end - (HEAP + HEAP_BYTES - FILE);
    for file in [abi::GUEST.start, highest] {
        let asker = Asker::at(file);
        let last = asker.heap + HEAP_BYTES - 8;
        assert_eq!(asker.answer(READ, [STDIN, last, 8]), 8, "{file:#x}");
        let header = asker.ask(WRITE, [STDOUT, file, 4]);
        assert_eq!(header.stdout, b"\x7fELF", "{file:#x}");
        let fault = word(Err(Errno::EFAULT));
        assert_eq!(asker.answer(READ, [STDIN, last, 9]), fault, "{file:#x}");
        assert_eq!(
            asker.answer(WRITE, [STDOUT, file - 1, 9]),
            fault,
            "{file:#x}"
        );
    }
    let engine = crate::harness::engine();
    for file in [0, abi::GUEST.start - 0x1000, abi::GUEST.end, abi::HOSTCALL] {
        let refused = Program::load(&engine, &asker(file), &options())
            .err()
            .unwrap();
        assert!(
            matches!(reason(refused), ElfError::OutsideGuest(..)),
            "{file:#x}"
        );
    }
    // The file itself fits there, up to the last page; its heap, stack or arguments do not.
    for file in [
        highest + 0x1000,
        abi::GUEST.end - 0x4000,
        abi::GUEST.end - 0x1000,
    ] {
        let refused = Program::load(&engine, &asker(file), &options())
            .err()
            .unwrap();
        assert_eq!(refused.stage, Stage::Module, "{file:#x}");
        let blame = &refused.blame;
        assert!(
            matches!(blame, Blame::Caller(Misuse::Region { .. })),
            "{file:#x}: {blame}"
        );
    }
}

#[test]
fn unknown_hostcalls_and_handles() {
    let asker = Asker::new();
    for number in [0, 5, 6, 9999, 0x8000_0000, u32::MAX] {
        let run = asker.ask(number, [1, 2, 3]);
        assert_eq!(run.end, Interrupt::Finished(word(Err(Errno::ENOSYS))));
        assert_eq!(run.unknown[0].number, number);
        assert_eq!(run.unknown[0].args, [1, 2, 3, 4, 5, 6]);
    }
    let bad = word(Err(Errno::EBADF));
    for handle in [STDOUT, STDERR, 3, u64::MAX] {
        assert_eq!(asker.answer(READ, [handle, HEAP, 8]), bad);
    }
    for handle in [STDIN, 3, 1 << 32 | STDOUT, u64::MAX] {
        assert_eq!(asker.answer(WRITE, [handle, HEAP, 8]), bad);
    }
}

/// Answers every hostcall of a gunzip with this.
fn lied_to(answer: u64) -> Interrupt {
    let guest = Native::built_in("gunzip");
    let mut session = guest.start(World::default());
    session.instance.set_deadline(Duration::from_secs(20));
    for _ in 0..1000 {
        match session.instance.run().unwrap() {
            Interrupt::Hostcall(_) => session.instance.answer(answer).unwrap(),
            end => return end,
        }
    }
    panic!("{answer:#x} keeps it going");
}

/// The SDK does not believe that more was moved than it asked for.
#[test]
fn guests_survive_a_host_that_lies() {
    for answer in [
        0,
        1,
        1 << 17,
        1 << 20,
        1 << 32,
        1 << 63,
        u64::MAX,
        u64::MAX - 4095,
    ] {
        assert_eq!(lied_to(answer), Interrupt::Finished(1), "{answer:#x}");
    }
}

/// A read whose answer is more than there was room for: the guest takes what its buffer holds,
/// which is a file and zeros behind it.
#[test]
fn guests_do_not_read_past_their_buffers() {
    let guest = Native::built_in("gunzip");
    let data = Random::new(51).text(5000);
    for excess in [1, 1 << 16, 1 << 24, 1 << 40, 1 << 63] {
        let mut session = guest.start(World::default());
        session.instance.set_deadline(Duration::from_secs(20));
        let first = session.instance.run().unwrap();
        let Interrupt::Hostcall(call) = first else {
            panic!("{first}");
        };
        let [_, address, length, ..] = call.args;
        assert_eq!(call.number, READ);
        session.instance.write(address, &gzip(&data, 6)).unwrap();
        session.instance.answer(length + excess).unwrap();
        session.run_to_end();
        session
            .run
            .assert_output(&format!("{excess:#x} too many"), &data);
    }
}

#[test]
fn a_read_while_the_guest_waits_sees_what_it_wrote() {
    let guest = Native::built_in("gunzip");
    let data = Random::new(50).text(300_000);
    let file = gzip(&data, 6);
    for transfer_max in [65_537, 131_072, 131_073] {
        let run = guest.run_in(World {
            input: &file,
            transfer_max,
            ..World::default()
        });
        run.assert_output("odd pieces", &data);
    }
}
