//! Where there is no userfaultfd, and what is asked for that a module or an engine does not have.

use cellwall::{Blame, Engine, Error, Instance, Interrupt, Misuse, ModuleBuilder, Protection, abi};
use iced_x86::code_asm::{byte_ptr, qword_ptr, rax, rdi};
use linux_raw::seccomp::{
    InstallFlags, Program, Refusal, compile_refusing, install, length_refusing,
};
use linux_raw::{Errno, nr, prctl};

use crate::harness::{DATA, alone, assemble, call, config, engine, parts};

const WINDOW: u64 = abi::CODE_WINDOW.start + 0x10_0000;
const PAGE: u64 = 0x1000;

const fn no_userfaultfd(errno: Errno) -> [Refusal; 1] {
    [Refusal {
        call: nr::USERFAULTFD,
        when: &[],
        errno,
    }]
}

const FORBIDDEN: [Refusal; 1] = no_userfaultfd(Errno::EPERM);
const SHORT: [Refusal; 1] = no_userfaultfd(Errno::EMFILE);
static FORBIDS: Program<{ length_refusing(&FORBIDDEN) }> = compile_refusing(&FORBIDDEN);
static IS_SHORT: Program<{ length_refusing(&SHORT) }> = compile_refusing(&SHORT);

fn misuse<T>(result: Result<T, Error>) -> Misuse {
    match result {
        Err(Error {
            blame: Blame::Caller(misuse),
            ..
        }) => misuse,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it was allowed"),
    }
}

/// A module with a guest that gives what is at its argument.
fn reader() -> ModuleBuilder {
    parts(&assemble(|code| {
        code.mov(rax, qword_ptr(rdi)).unwrap();
        code.ret().unwrap();
    }))
}

/// As under a container's profile: the map is fixed, paging is refused by name, the rest works.
#[test]
fn a_forbidden_userfaultfd_fixes_the_map() {
    alone(
        "memory::without::a_forbidden_userfaultfd_fixes_the_map",
        || {
            prctl::set_no_new_privs().unwrap();
            install(FORBIDS.as_slice(), InstallFlags::empty()).unwrap();
            let engine = engine();
            assert!(!engine.can_change_maps());
            let paging = reader().dynamic_paging().build(&engine);
            assert_eq!(misuse(paging), Misuse::NoDynamicPaging);
            let module = reader().heap(0x80_0000, 0x10_0000);
            let module = module.build(&engine).unwrap();
            let mut instance = engine.instantiate(&module).unwrap();
            let zero = instance.map_zero(0x40_0000, PAGE, Protection::ReadWrite);
            assert_eq!(misuse(zero), Misuse::FixedMap);
            assert_eq!(misuse(instance.unmap(DATA, PAGE)), Misuse::FixedMap);
            assert_eq!(instance.grow_heap(8).unwrap(), 0x80_0000);
            instance.store(DATA, 7_u64).unwrap();
            let snapshot = instance.snapshot().unwrap();
            for expected in [7, 0] {
                call(&mut instance, &[DATA]);
                assert_eq!(instance.run().unwrap(), Interrupt::Finished(expected));
                instance.reset().unwrap();
            }
            instance.restore(&snapshot).unwrap();
            call(&mut instance, &[DATA]);
            assert_eq!(instance.run().unwrap(), Interrupt::Finished(7));
            call(&mut instance, &[0x40_0000]);
            assert!(matches!(instance.run().unwrap(), Interrupt::Trap(_)));
        },
    );
}

/// An engine that is made at a bad moment is no lesser one.
#[test]
fn a_shortage_of_descriptors_is_an_error() {
    alone(
        "memory::without::a_shortage_of_descriptors_is_an_error",
        || {
            prctl::set_no_new_privs().unwrap();
            install(IS_SHORT.as_slice(), InstallFlags::empty()).unwrap();
            let Blame::Kernel { call, errno } = Engine::new(&config()).unwrap_err().blame else {
                panic!("no error of the kernel's");
            };
            assert_eq!((call, errno), ("userfaultfd", Errno::EMFILE));
        },
    );
}

/// No sysctl, and no privilege that it would stand for, is needed.
#[test]
fn paging_does_not_rest_on_a_sysctl() {
    let sysctl = std::fs::read_to_string("/proc/sys/vm/unprivileged_userfaultfd");
    let engine = engine();
    if !engine.can_change_maps() {
        return absence::absent("userfaultfd", "the map is fixed here");
    }
    // Whoever has set it to 1 sees nothing else here either.
    assert!(matches!(sysctl.as_deref().map(str::trim), Ok("0" | "1")));
    let module = reader().dynamic_paging().build(&engine).unwrap();
    let mut instance = engine.instantiate(&module).unwrap();
    call(&mut instance, &[0x40_0000]);
    assert!(matches!(instance.run().unwrap(), Interrupt::PageFault(_)));
}

#[test]
fn what_a_module_does_not_have_is_named() {
    let engine = engine();
    let module = reader().build(&engine).unwrap();
    let mut instance = engine.instantiate(&module).unwrap();
    assert_eq!(misuse(instance.grow_heap(1)), Misuse::NoHeap);
    assert_eq!(misuse(instance.set_input(b"x")), Misuse::NoInput);
    assert_eq!(misuse(instance.refuse_fault()), Misuse::NoFault);
    let (address, length) = (WINDOW, 1);
    let outside = Misuse::OutsideCodeWindow { address, length };
    assert_eq!(misuse(instance.write_code(WINDOW, &[0xc3])), outside);
    // A seed is within one page of the instance's own memory.
    for (address, length) in [
        (DATA, 0),
        (DATA + 1, PAGE),
        (0x40_0000, 8),
        (abi::CODE_WINDOW.start, 8),
    ] {
        let seed = reader().entropy(address, length).build(&engine);
        assert_eq!(misuse(seed), Misuse::Entropy { address, length });
    }
}

/// Before, between and after the pieces of code are traps, and a reset leaves nothing of them.
#[test]
fn holes_in_the_code_window_trap() {
    let engine = engine();
    let module = reader()
        .code_window(WINDOW, 4 * PAGE)
        .build(&engine)
        .unwrap();
    let mut instance = engine.instantiate(&module).unwrap();
    let seven = assemble(|code| {
        code.mov(rax, 7_u64).unwrap();
        code.ret().unwrap();
    });
    let at = WINDOW + PAGE + 0x100;
    let runs = |instance: &mut Instance, entry: u64| {
        instance.call(entry, &[]).unwrap();
        instance.run().unwrap()
    };
    assert!(matches!(runs(&mut instance, at), Interrupt::Trap(_)));
    instance.write_code(at, &seven).unwrap();
    assert_eq!(runs(&mut instance, at), Interrupt::Finished(7));
    let length = seven.len() as u64;
    for hole in [
        WINDOW,
        at - 1,
        at + length,
        WINDOW + 2 * PAGE,
        WINDOW + 4 * PAGE,
    ] {
        let end = runs(&mut instance, hole);
        assert!(matches!(end, Interrupt::Trap(_)), "{hole:#x}: {end}");
    }
    // The host reads it, and the guest does, which cannot write it.
    assert_eq!(instance.read(at, length).unwrap(), seven);
    let write = assemble(|code| code.mov(byte_ptr(rdi), 0xc3).unwrap());
    instance.write_code(WINDOW, &write).unwrap();
    instance.call(WINDOW, &[at]).unwrap();
    assert!(matches!(instance.run().unwrap(), Interrupt::Trap(_)));
    assert!(is_refused(&mut instance, at));
    // It counts as long as it is there.
    let held = instance.memory_stats().unwrap().mapped;
    instance.reset().unwrap();
    assert_eq!(instance.memory_stats().unwrap().mapped, held - 2 * PAGE);
    assert!(matches!(runs(&mut instance, at), Interrupt::Trap(_)));
    // What is outside is refused, and what is beyond the limit.
    for (address, length) in [(WINDOW - 1, 2), (WINDOW + 4 * PAGE - 1, 2), (u64::MAX, 2)] {
        let outside = Misuse::OutsideCodeWindow { address, length };
        assert_eq!(misuse(instance.write_code(address, &[0xc3; 2])), outside);
    }
}

fn is_refused(instance: &mut Instance, address: u64) -> bool {
    let refused = misuse(instance.write_as_host(address, &[0]));
    matches!(refused, Misuse::OutOfBounds { .. })
}

/// Code counts like any other memory.
#[test]
fn code_counts_for_the_limits() {
    let limited = Engine::new(&config().engine_memory_limit(1 << 20)).unwrap();
    let module = reader().code_window(WINDOW, 16 << 20);
    let module = module.build(&limited).unwrap();
    let mut instance = limited.instantiate(&module).unwrap();
    let before = limited.memory_held();
    let far = WINDOW + (8 << 20);
    let refused = misuse(instance.write_code(far, &[0xc3]));
    assert!(matches!(refused, Misuse::EngineMemoryLimit { .. }));
    assert_eq!(limited.memory_held(), before);
    instance.write_code(WINDOW, &[0xc3]).unwrap();
    assert_eq!(limited.memory_held(), before + PAGE);
    drop(instance);
    assert_eq!(limited.memory_held(), 0);
}
