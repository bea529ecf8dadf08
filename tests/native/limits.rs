//! Guests that take too much: time, memory, stack, arguments.

use std::time::{Duration, Instant};

use cellwall::native::{Options, Program};
use cellwall::{Access, Blame, Error, Interrupt, Misuse, Stage, TrapKind};
use vmctx::native::PANIC_STATUS;

use super::runner::{Native, World, image};
use crate::harness::{alone, eventually, exists, memories, status, workers};

#[test]
fn a_guest_that_loops_for_ever_ends_at_its_deadline() {
    let spin = Native::built_in("spin");
    for (args, output) in [
        (&[][..], &[][..]),
        (&[b"on my way".as_slice()], b"on my way\n"),
    ] {
        let deadline = Duration::from_millis(100);
        let mut session = spin.start(World {
            args,
            deadline,
            ..World::default()
        });
        let worker = session.instance.process_id();
        let begun = Instant::now();
        session.run_to_end();
        let took = begun.elapsed();
        assert_eq!(session.run.end, Interrupt::Deadline);
        assert!(took >= deadline, "{took:?} is before the deadline");
        assert!(took < deadline * 10, "{took:?} is long after the deadline");
        assert_eq!(session.run.stdout, output, "what it wrote before is there");
        drop(session);
        eventually(Duration::from_secs(2), "the worker is gone", || {
            !exists(worker)
        });
    }
    let hello = Native::built_in("hello").run(&[]);
    hello.assert_output("after spin", b"Hello from a Cellwall guest!\n");
}

/// Kilobytes of guest memory that a worker has touched.
fn touched(session: &super::runner::Session<'_>) -> u64 {
    let text = status(&session.instance, "RssShmem");
    let number = text.split_whitespace().next().expect("a number");
    number.parse().expect("kilobytes")
}

/// In a process of its own, where all guest memory is this test's.
#[test]
fn a_guest_that_allocates_for_ever_panics_and_gives_its_memory_back() {
    alone(
        "native::limits::a_guest_that_allocates_for_ever_panics_and_gives_its_memory_back",
        || {
            let leak = Native::built_in("leak");
            for _ in 0..4 {
                let mut session = leak.start(World::default());
                let worker = session.instance.process_id();
                let begun = Instant::now();
                session.run_to_end();
                assert!(begun.elapsed() < Duration::from_secs(20));
                assert_eq!(session.run.end, Interrupt::Finished(PANIC_STATUS));
                let words = session.run.panic.as_deref().expect("last words");
                assert!(
                    words.contains("memory allocation of 1048576 bytes failed"),
                    "{words}"
                );
                // It had nearly all of its 256 MiB, and not more.
                let touched = touched(&session);
                assert!((240 << 10..260 << 10).contains(&touched), "{touched} kB");
                // Beside it there may be one that is kept, with nothing in it.
                let held: u64 = memories().iter().sum();
                assert!(held >= 240 << 20, "the host has the memory too: {held}");
                drop(session);
                // The kernel has taken it back; a file may be kept for the next worker.
                eventually(
                    Duration::from_secs(2),
                    "the worker and its memory are gone",
                    || {
                        let is_given_back = memories().iter().all(|bytes| *bytes == 0);
                        !exists(worker) && workers().is_empty() && is_given_back
                    },
                );
            }
            drop(leak);
            eventually(
                Duration::from_secs(2),
                "with the engine the files go",
                || memories().is_empty(),
            );
            let hello = Native::built_in("hello").run(&[]);
            hello.assert_output("after leak", b"Hello from a Cellwall guest!\n");
        },
    );
}

#[test]
fn a_small_heap_is_a_panic_and_no_trap() {
    for (name, heap, expected) in [
        // Not even room for a message.
        ("gunzip", 0, PANIC_STATUS),
        ("gunzip", 4096, PANIC_STATUS),
        ("gunzip", 100_000, PANIC_STATUS),
        ("png", 0, PANIC_STATUS),
        ("png", 100_000, PANIC_STATUS),
        // It asks before it takes, and here there is room for a message.
        ("png", 500_000, 1),
    ] {
        let guest = Native::load(image(name), &Options::new().heap_bytes(heap));
        let run = guest.run(&[0; 1 << 20]);
        assert_eq!(run.end, Interrupt::Finished(expected), "{name}, {heap}");
        match run.panic {
            None => assert_eq!(expected, 1, "{name}, {heap}"),
            Some(words) => assert!(words.contains("memory allocation of "), "{words}"),
        }
    }
}

#[test]
fn a_small_stack_overflows_into_its_guard_page() {
    let guest = Native::load(image("crash"), &Options::new().stack_bytes(1));
    let run = guest.run_in(World {
        args: &[b"stack"],
        ..World::default()
    });
    let bottom = guest.program.module().stack_top() - 4096;
    match run.end {
        Interrupt::Trap(trap) => {
            assert_eq!(trap.kind, TrapKind::Memory);
            assert_eq!(trap.address, Some(bottom - 8));
            assert_eq!(trap.access, Some(Access::Write));
        }
        other => panic!("{other}"),
    }
}

#[test]
fn arguments_arrive_as_they_are() {
    let hello = Native::built_in("hello");
    let run = hello.run_in(World {
        args: &[b"one", b"", b"\xff\x1b[31m", b" two words "],
        ..World::default()
    });
    let expected = b"Hello from a Cellwall guest!\nargument 1: one\nargument 2: \n\
        argument 3: \xff\x1b[31m\nargument 4:  two words \n";
    run.assert_output("arguments", expected);
}

#[test]
fn arguments_have_a_limit() {
    let hello = Native::built_in("hello");
    let limit = 64 << 10;
    // Each takes a byte more, for its end.
    let most = vec![b'a'; limit - 1];
    let run = hello.run_in(World {
        args: &[&most],
        ..World::default()
    });
    let expected = [
        b"Hello from a Cellwall guest!\nargument 1: ",
        &most[..],
        b"\n",
    ]
    .concat();
    run.assert_output("as long as possible", &expected);

    let mut instance = hello.engine.instantiate(hello.program.module()).unwrap();
    let long = vec![b'a'; limit];
    let refused = hello.program.enter(&mut instance, &[long]).unwrap_err();
    let misuse = Misuse::ArgumentBytes {
        bytes: 65537,
        limit: 65536,
    };
    assert_eq!(refused.blame, Blame::Caller(misuse));
    // Nothing has happened: the instance can still be entered.
    let nothing: [&str; 0] = [];
    hello.program.enter(&mut instance, &nothing).unwrap();
    assert!(matches!(instance.run().unwrap(), Interrupt::Hostcall(_)));
}

fn refusal(options: &Options) -> Error {
    let hello = Native::built_in("hello");
    let Err(error) = Program::load(&hello.engine, image("hello"), options) else {
        panic!("absurd options: {options:?}")
    };
    error
}

#[test]
fn absurd_sizes_are_refused() {
    let absurd = [
        2 << 30,
        1 << 32,
        1 << 40,
        1 << 63,
        u64::MAX - (1 << 20),
        u64::MAX - 8191,
        u64::MAX - 4095,
        u64::MAX - 4094,
        u64::MAX,
    ];
    for bytes in absurd {
        for options in [
            Options::new().stack_bytes(bytes),
            Options::new().heap_bytes(bytes),
            Options::new().stack_bytes(bytes).heap_bytes(bytes),
        ] {
            let error = refusal(&options);
            assert_eq!(error.stage, Stage::Module, "{options:?}");
            let expected = matches!(
                error.blame,
                Blame::Caller(Misuse::MemoryLimit { .. } | Misuse::Region { .. })
            );
            assert!(expected, "{options:?}: {error}");
        }
    }
}
