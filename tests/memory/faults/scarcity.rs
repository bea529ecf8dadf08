//! Descriptors and address space run out in the host at every possible place: the error names the
//! call, the instances that there are go on, and nothing is left behind.
//!
//! Each test runs in a process of its own, whose limits it changes.

use std::fs;
use std::time::{Duration, Instant};

use cellwall::{
    Blame, Config, Engine, Errno, Error, Instance, Interrupt, Module, Protection, Snapshot,
    Template,
};
use iced_x86::code_asm::{CodeAssembler, qword_ptr, rax, rdi};
use linux_raw::process::{Resource, get_limit, set_limit};

use super::{NOWHERE, PAGE, next_fault, still_runs};
use crate::harness::{
    DATA, alone, assemble, both, call, children, config, eventually, is_nursed, parts, workers,
};

const SETTLED: Duration = Duration::from_secs(10);
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
    mappings: Vec<String>,
    children: usize,
    workers: usize,
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
                .map(str::to_owned)
                .collect(),
            children: children(),
            workers: workers().len(),
            held: engine.memory_held(),
        }
    }

    /// Once everything that ends has ended: what a dead worker had goes one after the other.
    fn at_rest(engine: &Engine) -> Self {
        let mut last = Self::now(engine);
        eventually(SETTLED, "nothing ends any more", || {
            std::thread::sleep(Duration::from_millis(100));
            let before = std::mem::replace(&mut last, Self::now(engine));
            last == before
        });
        last
    }

    /// Waits until it is that again; then what cannot be seen has ended too: a place is free for
    /// the next worker.
    fn returns(&self, engine: &Engine, case: &str) {
        let begun = Instant::now();
        while Self::now(engine) != *self && begun.elapsed() < SETTLED {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_millis(10));
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
    let standing = Standing::at_rest(engine);
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

/// An instance of a module that pages, if it can, stopped at its first page fault; and beside it a
/// place that is used again, with its memory file.
fn stopped(engine: &Engine, module: &Module) -> Instance {
    let mut stopped = engine.instantiate(module).unwrap();
    drop(engine.instantiate(module).unwrap());
    stopped.write(DATA, &[7; 3 * 4096]).unwrap();
    if engine.can_change_maps() {
        call(&mut stopped, &[NOWHERE]);
        next_fault(&mut stopped);
    }
    stopped
}

#[test]
fn descriptors_run_out_at_every_place() {
    const TEST: &str = "memory::faults::scarcity::descriptors_run_out_at_every_place";
    alone(TEST, || both(descriptors_run_out));
}

#[test]
fn descriptors_run_out_where_maps_are_fixed() {
    const TEST: &str = "memory::faults::scarcity::descriptors_run_out_where_maps_are_fixed";
    alone(TEST, || {
        both(|config| descriptors_run_out(&config.clone().fixed_memory(true)));
    });
}

fn descriptors_run_out(config: &Config) {
    let engine = Engine::new(config).unwrap();
    let pages = engine.can_change_maps();
    let module = parts(&assemble(increment));
    let module = if pages {
        module.dynamic_paging()
    } else {
        module
    };
    let module = module.build(&engine).unwrap();
    let mut stopped = stopped(&engine, &module);
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
}

/// Less and less of the host's address space is left: an instance takes 4 GiB of it.
#[test]
fn address_space_runs_out() {
    const TEST: &str = "memory::faults::scarcity::address_space_runs_out";
    alone(TEST, || both(address_space_is_taken));
}

fn address_space_is_taken(config: &Config) {
    let engine = Engine::new(config).unwrap();
    let module = parts(&assemble(increment)).build(&engine).unwrap();
    let mut stopped = engine.instantiate(&module).unwrap();
    // What the allocator and the engine's thread take is there from a first round on.
    drop(engine.instantiate(&module).unwrap());
    let too_little = || (0..4 << 20).step_by(128 << 10).chain([64]);
    let enough = [4 << 20, (4 << 20) + 2048, (4 << 20) + 4096].into_iter();
    let starts = too_little().chain(enough);
    if is_nursed(config) {
        // A place that is used again has its addresses already; one that is new has none.
        assert_eq!(with_little_space(&engine, &module, starts), 0);
        let in_that_place = engine.instantiate(&module).unwrap();
        assert_eq!(with_little_space(&engine, &module, too_little()), 33);
        drop(in_that_place);
    } else {
        let failures = with_little_space(&engine, &module, starts);
        assert!((33..36).contains(&failures), "{failures} failures");
    }
    let standing = Standing::at_rest(&engine);
    let contents = vec![1; 64 << 20];
    let template = limited(Resource::AddressSpace, address_space() + (8 << 20), || {
        Template::new(&engine, &contents)
    });
    assert!(is_named(&template.unwrap_err(), Errno::ENOMEM));
    standing.returns(&engine, "a template");
    still_runs(&mut stopped, &[DATA], 1);
    drop(engine.instantiate(&module).unwrap());
}

/// Starts an instance with each number of KiB that are left. How often that failed, cleanly.
fn with_little_space(engine: &Engine, module: &Module, left: impl Iterator<Item = u64>) -> usize {
    let standing = Standing::at_rest(engine);
    let taken = address_space();
    let mut failures = 0;
    for kibibytes in left {
        let limit = taken + (kibibytes << 10) + (1 << 20);
        let start = || engine.instantiate(module);
        if let Err(error) = limited(Resource::AddressSpace, limit, start) {
            assert!(is_named(&error, Errno::ENOMEM), "{kibibytes} KiB: {error}");
            assert!(error.to_string().contains("mmap"), "{error}");
            failures += 1;
        }
        standing.returns(engine, "a start");
    }
    failures
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
