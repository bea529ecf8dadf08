//! After many instances the host and the kernel are as they were: descriptors, mappings, children,
//! threads, resident memory, the kernel's own objects.
//!
//! It runs in a process of its own, since the other tests open and close things meanwhile.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::time::{Duration, Instant};

use cellwall::{Config, Engine, Interrupt, Module};
use iced_x86::code_asm::{CodeAssembler, rax, rdi};

use crate::harness::{
    alone, assemble, both, call, children, descriptors, eventually, exists, is_nursed, memories,
    objects, parts, workers,
};

/// From one thread, and once more shared by [`THREADS`].
const CYCLES: usize = 10_000;
const THREADS: usize = 8;
/// The most memory files that an engine keeps for the next workers.
const KEPT: usize = 64;
/// What is made once and kept: by the allocator for a thread, by the kernel for a CPU.
const WARM_UP_CYCLES: usize = 400;
/// Every so often an engine and a module of its own.
const ENGINE_EVERY: usize = 100;
const MODULE_EVERY: usize = 10;
/// How long what ends behind our back may take: network namespaces are freed by a kernel thread.
const SETTLED: Duration = Duration::from_secs(10);
/// Half of what the smallest leak, 64 bytes a cycle, would add. An allocator that eight threads
/// use at once keeps up to 150 KiB, now more, now less.
const RESIDENT_KIB: u64 = (CYCLES * 64 / 1024 / 2) as u64;
/// Of as many places, and the nursery's own: 64 KiB for signal frames, 16 KiB of stack, three
/// pages.
const SHARED_KIB: u64 = (KEPT as u64 + 1) * (64 + 16 + 12);
/// Mappings that the allocator's arenas split off and join again. One leak in a hundred cycles adds
/// a hundred.
const MAPPINGS: usize = 24;
/// A cache of the kernel's that grew is looked at again, since others use it too: a leak grows it
/// each time.
const AGAIN: usize = 10;
const CYCLES_AGAIN: usize = 1_000;
#[derive(Debug, PartialEq, Eq)]
struct Standing {
    descriptors: usize,
    threads: usize,
    children: usize,
    workers: usize,
}

impl Standing {
    fn now() -> Self {
        Self {
            descriptors: descriptors().len(),
            threads: fs::read_dir("/proc/self/task").unwrap().count(),
            children: children(),
            workers: workers().len(),
        }
    }

    /// Once everything that ends has ended: a thread that was joined can be seen for an instant
    /// more, and to count it would be to expect it later.
    fn at_rest() -> Self {
        let mut last = Self::now();
        let mut since = Instant::now();
        eventually(SETTLED, "nothing ends any more", || {
            let now = Self::now();
            if now != last {
                last = now;
                since = Instant::now();
            }
            last.workers == 0 && since.elapsed() > Duration::from_millis(300)
        });
        last
    }
}

/// How many mappings there are, but for those of memory files.
fn mappings() -> usize {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let others = maps
        .lines()
        .filter(|line| !line.contains("/memfd:cellwall-memory"));
    others.count()
}

/// How many mappings and descriptors there are that are ours.
fn ours() -> usize {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let is_ours = |line: &str| line.contains("/memfd:cellwall-");
    let mapped = maps.lines().filter(|line| is_ours(line)).count();
    mapped + descriptors().iter().filter(|link| is_ours(link)).count() + memories().len()
}

fn kibibytes(path: &str, keys: &[&str]) -> u64 {
    objects::kibibytes(path, keys).unwrap()
}

/// What of the host's memory is there, page by page: the numbers of `/proc/self/status` are kept
/// for each CPU and added up late, and so off by hundreds of KiB.
struct Resident {
    own_kib: u64,
    /// What workers share with the host.
    shared_kib: u64,
}

impl Resident {
    /// Pages of files are not counted: they are the kernel's to load and to drop.
    fn now() -> Self {
        let smaps = fs::read_to_string("/proc/self/smaps").unwrap();
        let (mut is_memory_file, mut is_shared) = (false, false);
        let (mut own_kib, mut shared_kib) = (0, 0);
        for line in smaps.lines() {
            let (key, value) = line.split_once(' ').unwrap();
            // A mapping's first line has its range before the first space, the others a key.
            if key.contains('-') {
                is_memory_file = line.contains("/memfd:");
                let names = ["/memfd:cellwall-shared-pages", "/memfd:cellwall-host-page"];
                is_shared = names.iter().any(|name| line.contains(name));
            } else if key == if is_memory_file { "Rss:" } else { "Anonymous:" } {
                let number: u64 = value.trim().trim_end_matches(" kB").parse().unwrap();
                let sum = if is_shared {
                    &mut shared_kib
                } else {
                    &mut own_kib
                };
                *sum += number;
            }
        }
        Self {
            own_kib,
            shared_kib,
        }
    }
}

/// How many objects of each kind the kernel has. Only root may know; others see how many KiB three
/// kinds of memory have, which the objects of a process or of a network namespace are more than.
fn kernel_objects() -> BTreeMap<String, u64> {
    match objects::kernel_objects() {
        Ok(objects) => objects,
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            let kinds = ["SUnreclaim", "KernelStack", "Percpu"];
            kinds
                .map(|key| (key.into(), kibibytes("/proc/meminfo", &[key])))
                .into()
        }
        Err(error) => panic!("/proc/slabinfo: {error}"),
    }
}

/// The kinds of which there are more than before, by at least one in two cycles, once the kernel
/// has had time to free what it frees later.
fn grown(before: &BTreeMap<String, u64>, cycles: usize, settled: Duration) -> Vec<String> {
    let start = Instant::now();
    loop {
        let now = kernel_objects();
        let leaked = |name: &str| {
            let had = before.get(name).copied().unwrap_or(0);
            now[name].saturating_sub(had) >= cycles as u64 / 2
        };
        let names: Vec<String> = now.keys().filter(|name| leaked(name)).cloned().collect();
        if names.is_empty() || start.elapsed() > settled {
            return names;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Finishes with its argument, or traps on zero.
fn guest(code: &mut CodeAssembler) {
    let mut fine = code.create_label();
    code.test(rdi, rdi).unwrap();
    code.jne(fine).unwrap();
    code.ud2().unwrap();
    code.set_label(&mut fine).unwrap();
    code.mov(rax, rdi).unwrap();
    code.ret().unwrap();
}

/// Creates, runs, traps, drops.
fn cycle(config: &Config, shared: (&Engine, &Module), code: &[u8], round: usize) {
    let engine = || Engine::new(config).unwrap();
    let own = round.is_multiple_of(ENGINE_EVERY).then(engine);
    let engine = own.as_ref().unwrap_or(shared.0);
    let own = round
        .is_multiple_of(MODULE_EVERY)
        .then(|| parts(code).build(engine).unwrap());
    let module = own.as_ref().unwrap_or(shared.1);
    let mut instance = engine.instantiate(module).unwrap();
    call(&mut instance, &[1]);
    assert_eq!(instance.run().unwrap(), Interrupt::Finished(1));
    if round.is_multiple_of(2) {
        call(&mut instance, &[0]);
        assert!(matches!(instance.run().unwrap(), Interrupt::Trap(_)));
    }
    if is_nursed(config) {
        // Workers that are still dying are in places of their own: so many there would be more of.
        let worker = instance.process_id();
        drop(instance);
        eventually(SETTLED, "it is reaped", || !exists(worker));
    }
}

fn make_and_drop(config: &Config, threads: usize) {
    let engine = Engine::new(config).unwrap();
    let code = assemble(guest);
    let module = parts(&code).build(&engine).unwrap();
    let many = |cycles: usize| {
        std::thread::scope(|scope| {
            for thread in 0..threads {
                let (shared, code) = ((&engine, &module), &code);
                let rounds = (thread..cycles).step_by(threads);
                scope.spawn(move || rounds.for_each(|round| cycle(config, shared, code, round)));
            }
        });
    };
    many(WARM_UP_CYCLES);
    let before = Standing::at_rest();
    assert_eq!(before.children, usize::from(is_nursed(config)));
    let (mapped, resident, objects) = (mappings(), Resident::now(), kernel_objects());
    many(CYCLES);
    let start = Instant::now();
    while Standing::now() != before && start.elapsed() < SETTLED {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(Standing::now(), before);
    // What is kept for the next workers, with nothing in it.
    let kept = memories();
    let most = if is_nursed(config) { KEPT } else { 0 };
    assert!(
        kept.len() <= most && kept.iter().all(|bytes| *bytes == 0),
        "{kept:?}"
    );
    let now = mappings();
    // A place that is kept has a mapping.
    assert!(
        now <= mapped + MAPPINGS + most,
        "{now} mappings, not {mapped}"
    );
    let now = Resident::now();
    let (own, was) = (now.own_kib, resident.own_kib);
    assert!(own <= was + RESIDENT_KIB, "{own} KiB resident, not {was}");
    // Places that have been used are used again: those that lived, and those that were dying then.
    let shared = now.shared_kib;
    assert!(shared <= SHARED_KIB, "{shared} KiB of shared pages");
    let mut suspects = grown(&objects, CYCLES, SETTLED);
    for _ in 0..AGAIN {
        if suspects.is_empty() {
            break;
        }
        let objects = kernel_objects();
        many(CYCLES_AGAIN);
        let still = grown(&objects, CYCLES_AGAIN, SETTLED / 5);
        suspects.retain(|name| still.contains(name));
    }
    assert!(suspects.is_empty(), "the kernel keeps {suspects:?}");
}

fn leaves_nothing(threads: usize) {
    both(|config| {
        make_and_drop(config, threads);
        eventually(SETTLED, "all ends with the engine", || {
            children() == 0 && ours() == 0
        });
    });
}

#[test]
fn nothing_is_left_behind() {
    alone("leaks::nothing_is_left_behind", || leaves_nothing(1));
}

#[test]
fn nothing_is_left_behind_by_eight_threads() {
    alone("leaks::nothing_is_left_behind_by_eight_threads", || {
        leaves_nothing(THREADS);
    });
}
