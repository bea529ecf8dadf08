//! Descriptors and address space run out in the host at every possible place: the error names the
//! call, the instances that there are go on, and nothing is left behind.
//!
//! Each test runs in a process of its own, whose limits it changes.

use std::fs;
use std::time::{Duration, Instant};

use cellwall::{
    Blame, Engine, Errno, Error, Instance, Interrupt, Module, Protection, Snapshot, Template,
};
use iced_x86::code_asm::{CodeAssembler, qword_ptr, rax, rdi};
use linux_raw::process::{Resource, get_limit, set_limit};

use super::{NOWHERE, PAGE, next_fault, still_runs};
use crate::harness::{DATA, alone, assemble, call, children, config, engine, eventually, parts};

/// More descriptors than anything here takes at once.
const ENOUGH: u64 = 40;

fn increment(code: &mut CodeAssembler) {
    code.inc(qword_ptr(rdi)).unwrap();
    code.mov(rax, qword_ptr(rdi)).unwrap();
    code.ret().unwrap();
}

/// What could be left behind.
#[derive(Debug, PartialEq, Eq)]
struct Standing {
    descriptors: Vec<String>,
    mappings: usize,
    children: usize,
    held: u64,
}

impl Standing {
    fn now(engine: &Engine) -> Self {
        let number = |entry: std::io::Result<fs::DirEntry>| {
            Some(entry.ok()?.file_name().to_string_lossy().into_owned())
        };
        let mut descriptors: Vec<String> = fs::read_dir("/proc/self/fd")
            .unwrap()
            .filter_map(number)
            .collect();
        descriptors.sort_unstable();
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        Self {
            descriptors,
            mappings: maps
                .lines()
                .filter(|line| line.contains("/memfd:cellwall-"))
                .count(),
            children: children(),
            held: engine.memory_held(),
        }
    }

    /// What it is once everything that ends has ended.
    fn returns(&self, engine: &Engine, case: &str) {
        let begun = Instant::now();
        while Self::now(engine) != *self && begun.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(Self::now(engine), *self, "{case}");
    }
}

/// Limits a resource for as long as `body` takes.
fn limited<T>(resource: Resource, to: u64, body: impl FnOnce() -> T) -> T {
    let before = get_limit(resource).unwrap();
    set_limit(resource, to, before.hard).unwrap();
    let result = body();
    set_limit(resource, before.soft, before.hard).unwrap();
    result
}

/// Does it with every number of free descriptors from none on, until it succeeds. Each failure is
/// one of too few descriptors, and is clean.
fn with_few_descriptors<T>(
    engine: &Engine,
    name: &str,
    mut attempt: impl FnMut() -> Result<T, Error>,
) -> u64 {
    let standing = Standing::now(engine);
    // Where holes are among the numbers the limit is no count: the next free one is what counts.
    let next = fs::File::open("/dev/null").unwrap();
    let first = u64::try_from(std::os::fd::AsRawFd::as_raw_fd(&next)).unwrap();
    drop(next);
    for free in 0..ENOUGH {
        let done = limited(Resource::Files, first + free, &mut attempt);
        match done {
            Ok(made) => {
                drop(made);
                standing.returns(engine, name);
                return free;
            }
            Err(error) => assert!(is_named(&error, Errno::EMFILE), "{name}, {free}: {error}"),
        }
        standing.returns(engine, name);
    }
    panic!("{name} fails with {ENOUGH} descriptors");
}

fn is_named(error: &Error, wanted: Errno) -> bool {
    matches!(&error.blame, Blame::Kernel { call, errno } if *errno == wanted && !call.is_empty())
}

fn everything(engine: &Engine, module: &Module, stopped: &mut Instance) {
    let snapshot = stopped.snapshot().unwrap();
    let mut saved = Vec::new();
    snapshot.save(&mut saved).unwrap();
    let needed = [
        with_few_descriptors(engine, "an instance", || engine.instantiate(module)),
        with_few_descriptors(engine, "a module", || {
            parts(&assemble(increment)).build(engine)
        }),
        with_few_descriptors(engine, "a template", || Template::new(engine, &[1; 5000])),
        with_few_descriptors(engine, "a snapshot", || stopped.snapshot()),
        with_few_descriptors(engine, "a snapshot from a file", || {
            Snapshot::load(engine, module, &saved[..])
        }),
        with_few_descriptors(engine, "an engine", || Engine::new(&config())),
    ];
    // Each takes some, or the test has looked at nothing.
    assert!(needed.iter().all(|needed| *needed > 0), "{needed:?}");
    // What has been made needs no more of them.
    let none = [
        with_few_descriptors(engine, "a restore", || stopped.restore(&snapshot)),
        with_few_descriptors(engine, "a reset", || stopped.reset()),
        with_few_descriptors(engine, "a run", || {
            stopped.call(module.entry(), &[DATA])?;
            stopped.run()
        }),
        with_few_descriptors(engine, "memory", || {
            stopped.write(DATA, &[0; 9000])?;
            stopped.read(DATA, 9000)?;
            stopped.memory_stats()
        }),
    ];
    assert_eq!(none, [0; 4]);
}

#[test]
fn descriptors_run_out_at_every_place() {
    alone(
        "memory::faults::scarcity::descriptors_run_out_at_every_place",
        || {
            let engine = engine();
            let module = parts(&assemble(increment));
            let pages = engine.can_change_maps();
            let module = if pages {
                module.dynamic_paging()
            } else {
                module
            };
            let module = module.build(&engine).unwrap();
            let mut stopped = engine.instantiate(&module).unwrap();
            stopped.write(DATA, &[7; 3 * 4096]).unwrap();
            call(&mut stopped, &[NOWHERE]);
            if pages {
                next_fault(&mut stopped);
            }
            everything(&engine, &module, &mut stopped);
            if pages {
                call(&mut stopped, &[NOWHERE]);
                next_fault(&mut stopped);
                let needed = with_few_descriptors(&engine, "a page", || {
                    stopped.map_data(NOWHERE, &[8], Protection::ReadWrite)?;
                    assert_eq!(stopped.run()?, Interrupt::Finished(9));
                    stopped.unmap(NOWHERE, PAGE)
                });
                assert_eq!(needed, 0);
            }
            still_runs(&mut stopped, &[DATA + 8], 1);
        },
    );
}

#[test]
fn descriptors_run_out_where_maps_are_fixed() {
    alone(
        "memory::faults::scarcity::descriptors_run_out_where_maps_are_fixed",
        || {
            let engine = Engine::new(&config().fixed_memory(true)).unwrap();
            let module = parts(&assemble(increment)).build(&engine).unwrap();
            let mut stopped = engine.instantiate(&module).unwrap();
            stopped.write(DATA, &[7; 3 * 4096]).unwrap();
            everything(&engine, &module, &mut stopped);
            still_runs(&mut stopped, &[DATA + 8], 1);
        },
    );
}

/// Less and less of the host's address space is left: an instance takes 4 GiB of it.
#[test]
fn address_space_runs_out() {
    alone("memory::faults::scarcity::address_space_runs_out", || {
        let engine = engine();
        let module = parts(&assemble(increment)).build(&engine).unwrap();
        let mut stopped = engine.instantiate(&module).unwrap();
        let (mut failures, mut successes) = (0, 0);
        // What the allocator and the keeper thread take is there from a first round on.
        drop(engine.instantiate(&module).unwrap());
        eventually(Duration::from_secs(10), "one is left", || children() == 1);
        let standing = Standing::now(&engine);
        let taken = address_space();
        for kibibytes in
            (0..=(4 << 20) + 2048)
                .step_by(128 << 10)
                .chain([64, 4 << 20, (4 << 20) + 4096])
        {
            let limit = taken + (kibibytes << 10) + (1 << 20);
            match limited(Resource::AddressSpace, limit, || {
                engine.instantiate(&module)
            }) {
                Ok(_) => successes += 1,
                Err(error) => {
                    assert!(is_named(&error, Errno::ENOMEM), "{kibibytes} KiB: {error}");
                    assert!(error.to_string().contains("mmap"), "{error}");
                    failures += 1;
                }
            }
            standing.returns(&engine, "a start");
        }
        assert!(
            failures > 30 && successes > 0,
            "{failures} failures, {successes} successes"
        );
        let contents = vec![1; 64 << 20];
        let template = limited(Resource::AddressSpace, address_space() + (8 << 20), || {
            Template::new(&engine, &contents)
        });
        assert!(is_named(&template.unwrap_err(), Errno::ENOMEM));
        standing.returns(&engine, "a template");
        still_runs(&mut stopped, &[DATA], 1);
        drop(engine.instantiate(&module).unwrap());
    });
}

/// How many bytes of addresses this process has.
fn address_space() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmSize:"))
        .unwrap();
    line.split_whitespace()
        .next()
        .unwrap()
        .parse::<u64>()
        .unwrap()
        << 10
}
