//! A guest that makes turns by itself and lies in all of them, many times.

use std::time::{Duration, Instant};

use cellwall::abi::{FAULT_OFFSET, FINISH, GUEST_PAGE, HOSTCALL, TURN_LINE};
use cellwall::{
    Blame, Engine, Error, Hostcall, Instance, Interrupt, Misuse, Module, Protection, TrapKind,
};
use iced_x86::code_asm::{
    CodeAssembler, CodeLabel, dword_ptr, eax, ecx, edx, esi, r10d, r13, r13d, r14, r15, rax, rbx,
    rcx, rdi, rsi,
};

use crate::harness::{DATA, assemble, call, engine, eventually, exists, parts, start};

const TURNS: u64 = 100_000;
/// Where the guest keeps the words at which something ends or begins.
const EDGES: u64 = 0x5_0000;
const EDGE_WORDS: [u32; 16] = [
    0,
    1,
    2,
    3,
    4,
    5,
    6,
    7,
    8,
    11,
    0xff,
    512,
    513,
    0x7fff_ffff,
    0x8000_0000,
    u32::MAX,
];
const WORKER_SLEEPS: i32 = 0x200;
const HOST_SLEEPS: i32 = 0x100;
const FUTEX_WAKE: u32 = 1;
const SYS_FUTEX: u32 = 202;
const SYS_SCHED_YIELD: u32 = 24;

/// The guest. `r14` is the turn line, `r15` the state of a xorshift (Marsaglia 2003), seeded by the
/// first argument.
fn write_liar(code: &mut CodeAssembler) -> Result<(), iced_x86::IcedError> {
    let mut random = code.create_label();
    let mut scribble = code.create_label();
    let (mut again, mut lies) = (code.create_label(), code.create_label());
    code.mov(r15, rdi)?;
    code.mov(r14, TURN_LINE)?;
    code.set_label(&mut again)?;
    code.call(scribble)?;
    code.call(random)?;
    code.test(eax, 0x70)?;
    code.jnz(lies)?;
    write_honest_turn(code, again)?;
    code.set_label(&mut lies)?;
    write_lying_turn(code, random, scribble, again)?;

    // One to eight words of the turn page and the guest page, mostly of the turn line; any value or
    // an edge. The state is none of them.
    let (mut next, mut whole, mut store) = (
        code.create_label(),
        code.create_label(),
        code.create_label(),
    );
    code.set_label(&mut scribble)?;
    code.call(random)?;
    code.mov(rbx, rax)?;
    code.and(rbx, 7)?;
    code.set_label(&mut next)?;
    code.call(random)?;
    code.mov(ecx, eax)?;
    code.and(ecx, 2047)?;
    code.test(eax, 0x1_0000)?;
    code.jz(whole)?;
    code.and(ecx, 15)?;
    code.set_label(&mut whole)?;
    code.cmp(ecx, 1)?;
    code.adc(ecx, 0)?; // the word 0 becomes the word 1
    code.shr(rax, 20)?;
    code.test(eax, 1)?;
    code.jz(store)?;
    code.and(eax, 0x3c)?;
    code.mov(esi, u32::try_from(EDGES).unwrap())?;
    code.mov(eax, dword_ptr(rsi + rax))?;
    code.set_label(&mut store)?;
    code.mov(dword_ptr(r14 + rcx * 4), eax)?;
    code.dec(rbx)?;
    code.jns(next)?;
    code.ret()?;

    code.set_label(&mut random)?;
    for (left, bits) in [(true, 13), (false, 7), (true, 17)] {
        code.mov(rax, r15)?;
        if left {
            code.shl(rax, bits)?;
        } else {
            code.shr(rax, bits)?;
        }
        code.xor(r15, rax)?;
    }
    code.mov(rax, r15)?;
    code.ret()
}

/// A turn by the worker's own code, with what is random in the registers: mostly a hostcall,
/// sometimes an end or a real trap.
fn write_honest_turn(
    code: &mut CodeAssembler,
    again: CodeLabel,
) -> Result<(), iced_x86::IcedError> {
    let (mut finish, mut trap) = (code.create_label(), code.create_label());
    code.test(eax, 0x700)?;
    code.jz(finish)?;
    code.test(eax, 0x3800)?;
    code.jz(trap)?;
    code.mov(rdi, rax)?;
    code.shr(rdi, 16)?;
    code.mov(rcx, HOSTCALL)?;
    code.call(rcx)?;
    code.jmp(again)?;
    code.set_label(&mut finish)?;
    code.mov(rcx, FINISH)?;
    code.jmp(rcx)?;
    code.set_label(&mut trap)?;
    code.ud2()
}

/// A turn by the guest itself: it publishes, goes on writing while the host reads, and waits.
fn write_lying_turn(
    code: &mut CodeAssembler,
    random: CodeLabel,
    scribble: CodeLabel,
    again: CodeLabel,
) -> Result<(), iced_x86::IcedError> {
    let (mut publish, mut given) = (code.create_label(), code.create_label());
    let (mut wait, mut legal) = (code.create_label(), code.create_label());
    code.mov(rcx, GUEST_PAGE + FAULT_OFFSET as u64)?;
    code.mov(dword_ptr(rcx), 11)?;
    // One in 256 publishes whatever it likes.
    code.call(random)?;
    code.mov(r13, rax)?;
    code.shr(rax, 40)?;
    code.test(eax, 0xff)?;
    code.jz(publish)?;
    // A state that may come after an order, three of four times a hostcall or an end, with every
    // other bit as it comes.
    code.and(eax, 3)?;
    code.cmp(eax, 3)?;
    code.jne(legal)?;
    code.xor(eax, eax)?;
    code.set_label(&mut legal)?;
    code.add(eax, 4)?;
    code.and(r13d, 0xffff_ff00_u32.cast_signed())?;
    code.or(r13d, eax)?;
    code.set_label(&mut publish)?;
    code.mov(eax, r13d)?;
    code.xchg(dword_ptr(r14), eax)?;
    code.test(eax, HOST_SLEEPS)?;
    code.jz(given)?;
    code.mov(eax, SYS_FUTEX)?;
    code.mov(rdi, r14)?;
    code.mov(esi, FUTEX_WAKE)?;
    code.mov(edx, 1)?;
    code.xor(r10d, r10d)?;
    code.syscall()?;
    code.set_label(&mut given)?;
    code.call(scribble)?;
    // A sleep bit turned over while the word is still its own: nothing that a host minds.
    code.mov(eax, r13d)?;
    code.mov(ecx, eax)?;
    code.xor(ecx, WORKER_SLEEPS)?;
    code.lock().cmpxchg(dword_ptr(r14), ecx)?;
    // One in 512 writes any state while the turn is the host's.
    code.call(random)?;
    code.test(eax, 0x1ff)?;
    code.jnz(wait)?;
    code.shr(rax, 16)?;
    code.mov(dword_ptr(r14), eax)?;
    code.set_label(&mut wait)?;
    code.mov(ecx, dword_ptr(r14))?;
    code.sub(ecx, 2)?;
    code.test(ecx, 0xfe)?;
    code.jz(again)?;
    code.mov(eax, SYS_SCHED_YIELD)?;
    code.syscall()?;
    code.jmp(wait)
}

fn liar(engine: &Engine) -> Module {
    let code = assemble(|code| write_liar(code).expect("valid operands"));
    let edges: Vec<u8> = EDGE_WORDS
        .iter()
        .flat_map(|word| word.to_le_bytes())
        .collect();
    parts(&code)
        .data(EDGES, &edges, Protection::Read)
        .build(engine)
        .expect("a module")
}

/// What an embedder does with arguments that it takes for an address and a length: it reads there,
/// and gets either all of it or an error that leaves its own bytes alone.
fn use_arguments(instance: &mut Instance, hostcall: &Hostcall) {
    let [address, length, ..] = hostcall.args;
    let mut bytes = [0xa5; 64];
    let length = usize::try_from(length % 48).unwrap();
    let read = instance.read_into(address, &mut bytes[8..8 + length]);
    if let Err(error) = read {
        let blame = &error.blame;
        assert!(
            matches!(blame, Blame::Caller(Misuse::OutOfBounds { .. })),
            "{error}"
        );
        assert_eq!(bytes, [0xa5; 64]);
    }
    assert_eq!(bytes[..8], [0xa5; 8]);
    assert!(bytes[8 + length..].iter().all(|byte| *byte == 0xa5));
}

/// How often what came out.
#[derive(Debug, Default)]
struct Tally {
    hostcalls: u32,
    finishes: u32,
    traps: u32,
    forged: u32,
}

/// One turn of a liar. Gives the instance back if it goes on.
fn make_turn(mut instance: Instance, number: u64, tally: &mut Tally) -> Option<Instance> {
    // An answer where there is a hostcall to answer, for half of them.
    if number.is_multiple_of(2) || instance.answer(number).is_err() {
        call(&mut instance, &[0x9e37_79b9_7f4a_7c15 ^ number]);
    }
    match instance.run() {
        Ok(Interrupt::Hostcall(hostcall)) => {
            tally.hostcalls += 1;
            use_arguments(&mut instance, &hostcall);
        }
        Ok(Interrupt::Finished(_)) => tally.finishes += 1,
        // By what is published at random. That it was interrupted, nobody hears of.
        Ok(Interrupt::OutOfGas) => {}
        Ok(Interrupt::Trap(trap)) => {
            tally.traps += 1;
            assert_ne!(trap.kind, TrapKind::ForbiddenCall);
            assert!(instance.registers().is_some());
        }
        Err(Error {
            blame: Blame::Forged(_),
            ..
        }) => {
            tally.forged += 1;
            let over = instance.call(0, &[]).unwrap_err();
            assert_eq!(over.blame, Blame::Caller(Misuse::Over));
            assert!(!instance.is_alive());
            return None;
        }
        // A deadline among them: it is far beyond what a turn needs, so the host was kept.
        other => panic!("turn {number}: {other:?}"),
    }
    Some(instance)
}

/// Real workers, each of which makes turns until it is caught. Meanwhile another guest of the same
/// host computes as ever.
#[test]
fn a_hundred_thousand_turns_of_liars() {
    let engine = engine();
    let module = liar(&engine);
    let mut bystander = start(&engine, |code| {
        code.mov(rax, DATA).unwrap();
        code.add(dword_ptr(rax), 1).unwrap();
        code.mov(eax, dword_ptr(rax)).unwrap();
        code.ret().unwrap();
    });
    let begun = Instant::now();
    let mut tally = Tally::default();
    let mut alive: Option<Instance> = None;
    for number in 0..TURNS {
        let instance = alive.take().unwrap_or_else(|| {
            let mut instance = engine.instantiate(&module).expect("another worker");
            instance.set_deadline(Duration::from_secs(30));
            instance
        });
        let id = instance.process_id();
        alive = make_turn(instance, number, &mut tally);
        if alive.is_none() && tally.forged.is_multiple_of(64) {
            eventually(Duration::from_secs(2), "it is dead", || !exists(id));
        }
        if number.is_multiple_of(100) {
            call(&mut bystander, &[]);
            let count = Interrupt::Finished(number / 100 + 1);
            assert_eq!(bystander.run().unwrap(), count);
        }
    }
    println!("{tally:?} in {:?}", begun.elapsed());
    for often in [tally.hostcalls, tally.finishes, tally.traps, tally.forged] {
        assert!(often > 100, "{tally:?}");
    }
}
