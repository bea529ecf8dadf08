//! A guest that goes on after it gave the turn away, and touches memory while the host changes it.

use std::thread::sleep;
use std::time::Duration;

use cellwall::{Access, Blame, Config, Engine, Instance, Interrupt, Misuse, Protection, abi};
use iced_x86::IcedError;
use iced_x86::code_asm::{CodeAssembler, dword_ptr, eax, ecx, qword_ptr, r8, r9, r10};
use iced_x86::code_asm::{rax, rcx, rdi, rdx, rsi};
use vmctx::State;

use crate::harness::{assemble, call, config, parts};

/// What is written before the lie: every other page.
const SCATTERED: u64 = 0x1000_0000;
const SCATTERED_BYTES: u64 = 64 << 20;
/// What is touched after it, while the host looks which pages there are.
const NEW: u64 = SCATTERED + SCATTERED_BYTES;
const NEW_BYTES: u64 = 0xb000_0000;
/// The page that matters: above all the others.
const LAST: u64 = NEW + NEW_BYTES;

const SECRET: u64 = 0x5ec2_e75a;

/// What the guest does, by its first argument.
const LOOK: u64 = 0;
const TOUCH: u64 = 1;
const SPOIL: u64 = 2;
const CALL: u64 = 3;

/// An empty loop of some milliseconds.
const WHILE: u32 = 0x2_0000;

fn lie(code: &mut CodeAssembler) -> Result<(), IcedError> {
    code.mov(r8, abi::TURN_LINE)?;
    code.mov(eax, State::Finished as u32)?;
    code.xchg(dword_ptr(r8), eax)
}

fn dawdle(code: &mut CodeAssembler) -> Result<(), IcedError> {
    let mut again = code.create_label();
    code.mov(ecx, WHILE)?;
    code.set_label(&mut again)?;
    code.pause()?;
    code.dec(ecx)?;
    code.jnz(again)
}

/// With `TOUCH`: writes `rsi` pages, says that it has finished, writes `rdx` new ones that are
/// `rcx` apart, and counts in the last page for ever.
fn touch(code: &mut CodeAssembler) -> Result<(), IcedError> {
    let (mut again, mut next, mut count) = (
        code.create_label(),
        code.create_label(),
        code.create_label(),
    );
    code.mov(r10, rdx)?;
    code.mov(r9, rcx)?;
    code.mov(rcx, SECRET)?;
    code.mov(rax, SCATTERED)?;
    code.set_label(&mut again)?;
    code.mov(qword_ptr(rax), rcx)?;
    code.add(rax, 0x2000)?;
    code.dec(rsi)?;
    code.jnz(again)?;
    code.mov(rax, LAST)?;
    code.mov(qword_ptr(rax), rcx)?;
    lie(code)?;
    code.mov(rax, NEW)?;
    code.set_label(&mut next)?;
    code.mov(qword_ptr(rax), rcx)?;
    code.add(rax, r9)?;
    code.dec(r10)?;
    code.jnz(next)?;
    code.mov(rax, LAST)?;
    code.set_label(&mut count)?;
    code.inc(qword_ptr(rax))?;
    code.jmp(count)
}

fn guest(code: &mut CodeAssembler) -> Result<(), IcedError> {
    let mut labels = [(); 3].map(|()| code.create_label());
    for (label, what) in labels.into_iter().zip([TOUCH, SPOIL, CALL]) {
        code.cmp(rdi, i32::try_from(what).unwrap())?;
        code.je(label)?;
    }
    code.mov(rax, LAST)?;
    code.mov(rax, qword_ptr(rax))?;
    code.ret()?;
    let [touches, spoils, calls] = &mut labels;
    code.set_label(touches)?;
    touch(code)?;
    code.set_label(spoils)?;
    lie(code)?;
    dawdle(code)?;
    code.mov(dword_ptr(r8), 0x77_0000 | State::Trapped as i32)?;
    let mut ever = code.create_label();
    code.set_label(&mut ever)?;
    code.pause()?;
    code.jmp(ever)?;
    code.set_label(calls)?;
    lie(code)?;
    dawdle(code)?;
    code.mov(eax, 39)?; // getpid
    code.syscall()?;
    code.ud2()
}

fn instance() -> Instance {
    let engine = Engine::new(&large()).unwrap();
    let code = assemble(|code| guest(code).unwrap());
    let both = Protection::ReadWrite;
    let module = parts(&code)
        .zeroed(SCATTERED, SCATTERED_BYTES, both)
        .zeroed(NEW, NEW_BYTES, both)
        .zeroed(LAST, 0x10_0000, both);
    let module = module.build(&engine).unwrap();
    let mut instance = engine.instantiate(&module).unwrap();
    instance.set_deadline(Duration::from_secs(20));
    instance
}

fn large() -> Config {
    config().memory_limit(4 << 30)
}

fn finishes(instance: &mut Instance, args: &[u64]) -> u64 {
    call(instance, args);
    match instance.run().unwrap() {
        Interrupt::Finished(value) => value,
        other => panic!("{other}"),
    }
}

/// What the page holds now and a moment later.
fn twice(instance: &mut Instance) -> [[u8; 8]; 2] {
    sleep(Duration::from_millis(50)); // until it counts
    [(); 2].map(|()| {
        let mut found = [0; 8];
        instance.read_as_host(LAST, &mut found).unwrap();
        sleep(Duration::from_millis(20));
        found
    })
}

#[test]
fn the_next_guest_finds_nothing_of_one_that_touches_pages_during_the_reset() {
    let mut instance = instance();
    for _ in 0..40 {
        finishes(&mut instance, &[TOUCH, 500, 1400, 0x20_0000]);
        instance.reset().unwrap();
        assert_eq!(finishes(&mut instance, &[LOOK]), 0);
    }
}

#[test]
fn what_is_hidden_or_protected_stays_so_while_the_guest_touches_other_pages() {
    for protection in [Protection::None, Protection::Read] {
        for _ in 0..4 {
            let mut instance = instance();
            finishes(&mut instance, &[TOUCH, 2000, 20_000, 0x1000]);
            match instance.protect(LAST, 0x1000, protection) {
                Ok(()) => {}
                Err(error) => {
                    assert_eq!(error.blame, Blame::Caller(Misuse::FixedMap));
                    return absence::absent("userfaultfd", &error);
                }
            }
            assert!(!instance.is_accessible(LAST, 8, Access::Write));
            let [before, after] = twice(&mut instance);
            assert_eq!(before, after, "{protection:?}");
        }
    }
}

#[test]
fn the_next_guest_is_not_blamed_for_the_last_one_s_deeds() {
    for deed in [SPOIL, CALL] {
        // On a busy machine the deed may be done before the host looks, or not before the reset.
        let was_told = (0..50).any(|_| {
            let mut instance = instance();
            call(&mut instance, &[deed]);
            if !matches!(instance.run(), Ok(Interrupt::Finished(_))) {
                return false;
            }
            sleep(Duration::from_millis(100));
            match instance.reset() {
                Ok(()) => {
                    call(&mut instance, &[LOOK]);
                    let next = instance.run().unwrap();
                    // A worker that was dying just then is found out only now.
                    let was_dying = deed == CALL && !instance.is_alive();
                    assert!(was_dying || next == Interrupt::Finished(0), "{next}");
                    false
                }
                Err(error) => {
                    let is_over = error.blame == Blame::Caller(Misuse::Over);
                    let is_forged = matches!(error.blame, Blame::Forged(_));
                    assert!(if deed == CALL { is_over } else { is_forged }, "{error}");
                    true
                }
            }
        });
        assert!(
            was_told,
            "deed {deed} never came between the lie and the reset"
        );
    }
}
