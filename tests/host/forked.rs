#![expect(unsafe_code, reason = "maps where the parent had a mapping")]
//! A child that the host forks has copies of the handles, and none of the memory behind them: it
//! is refused, it faults nowhere, and its drops touch nothing that is not its own.

use std::fs;
use std::ptr::NonNull;
use std::time::Duration;

use cellwall::{Access, Config, Engine, Instance, Interrupt, Module, Protection};
use linux_raw::mm::{Backing, MapFlags, Placement, Prot, mmap};

use crate::harness::forked::{in_a_child, is_refused};
use crate::harness::{
    CONSTANTS, DATA, alone, assemble, both, call, calls_or_traps, children, config, engine,
    eventually, exists, is_nursed, parts,
};

/// Where the guests have memory with initial contents.
const INITIAL: u64 = 0x6_0000;

/// Handles of all kinds, and of instances in all states.
struct Handles {
    engine: Engine,
    module: Module,
    idle: Instance,
    called: Instance,
    calling: Instance,
    trapped: Instance,
}

fn module(engine: &Engine) -> Module {
    let code = assemble(calls_or_traps);
    // Contents that each start copies out of the module.
    let contents = b"copied for each instance";
    let module = parts(&code).data(INITIAL, contents, Protection::ReadWrite);
    module.build(engine).unwrap()
}

impl Handles {
    fn new(config: &Config) -> Self {
        let engine = Engine::new(config).unwrap();
        let module = module(&engine);
        let instance = |arg: Option<u64>, runs: bool| {
            let mut instance = engine.instantiate(&module).unwrap();
            if let Some(arg) = arg {
                call(&mut instance, &[arg]);
            }
            if runs {
                instance.run().unwrap();
            }
            instance
        };
        Self {
            idle: instance(None, false),
            called: instance(Some(0), false),
            calling: instance(Some(0), true),
            trapped: instance(Some(1), true),
            engine,
            module,
        }
    }

    fn instances(&mut self) -> [&mut Instance; 4] {
        [
            &mut self.idle,
            &mut self.called,
            &mut self.calling,
            &mut self.trapped,
        ]
    }

    /// Every method, in a child.
    fn try_everything(&mut self) {
        let (engine, module) = (self.engine.clone(), self.module.clone());
        assert!(is_refused(engine.instantiate(&module)));
        let layers = engine.layers().expect("what was known before the fork");
        assert_eq!(layers, self.idle.layers());
        assert!(format!("{engine:?}").contains("Engine"));
        for instance in self.instances() {
            let mut bytes = [0; 4];
            assert!(is_refused(instance.read_into(DATA, &mut bytes)));
            assert!(is_refused(instance.read_into(CONSTANTS, &mut bytes)));
            assert!(is_refused(instance.write(DATA, &bytes)));
            assert!(is_refused(instance.write_as_host(CONSTANTS, &bytes)));
            assert!(is_refused(instance.call(module.entry(), &[])));
            assert_eq!(instance.registers(), None);
            assert!(instance.is_accessible(DATA, 4, Access::Write));
            assert!(is_refused(instance.run()));
            // Whether there is a hostcall the handle knows itself; going on from it is refused.
            if instance.answer(0).is_ok() {
                assert!(is_refused(instance.run()));
            }
            instance.set_deadline(Duration::from_millis(1));
            assert!(is_refused(instance.run()));
            assert!(instance.is_alive());
            assert!(exists(instance.process_id()));
            assert!(instance.layers().iter().count() > 0);
            assert_eq!(instance.module().entry(), module.entry());
            assert!(format!("{instance:?}").contains("Instance"));
        }
    }
}

/// The mappings of this process that are ours, by their first and last address.
fn own_mappings() -> Vec<(usize, usize)> {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let ours = maps
        .lines()
        .filter(|line| line.contains("/memfd:cellwall-"));
    let range = |line: &str| {
        let (first, rest) = line.split_once('-').unwrap();
        let (end, _) = rest.split_once(' ').unwrap();
        let number = |digits| usize::from_str_radix(digits, 16).unwrap();
        (number(first), number(end))
    };
    ours.map(range).collect()
}

/// Maps pages of this process' own at both ends of where the parent had a mapping: they are free.
fn occupy(ranges: &[(usize, usize)]) -> Vec<NonNull<u8>> {
    const PAGE: usize = 4096;
    let ends = ranges.iter().flat_map(|(first, end)| [*first, end - PAGE]);
    let mut ends: Vec<usize> = ends.collect();
    ends.dedup();
    let page = |address: usize| {
        let place = Placement::FixedNoReplace(address);
        let prot = Prot::READ | Prot::WRITE;
        // SAFETY: the kernel refuses to replace anything.
        let page = unsafe { mmap(place, PAGE, prot, Backing::Anonymous, MapFlags::empty()) };
        let page = page.expect("a child has no such mapping");
        // SAFETY: the page has just been mapped, for writing, and is nobody else's.
        unsafe { page.write(0x5a) };
        page
    };
    ends.into_iter().map(page).collect()
}

/// How many mappings there are with the handles: of each instance its memory and two of pages, or
/// these once for all, and three of the nursery's own; and the module's.
fn mappings(config: &Config) -> usize {
    if is_nursed(config) {
        4 + 2 + 3 + 1
    } else {
        4 * 3 + 1
    }
}

fn refuse_and_drop(config: &Config) {
    let mut handles = Handles::new(config);
    let ours = own_mappings();
    assert_eq!(ours.len(), mappings(config), "{ours:x?}");
    let workers: Vec<u32> = handles
        .instances()
        .iter()
        .map(|one| one.process_id())
        .collect();
    let mut inherited = Some(handles);
    in_a_child(|| {
        let mut handles = inherited.take().unwrap();
        assert_eq!(own_mappings(), []);
        let pages = occupy(&ours);
        handles.try_everything();
        drop(handles);
        for page in pages {
            // SAFETY: if a drop had unmapped it this would fault, which the parent would see.
            let byte = unsafe { page.read() };
            assert_eq!(byte, 0x5a);
        }
    });
    // Nothing happened to the workers.
    assert!(workers.iter().all(|worker| exists(*worker)));
    let Handles {
        engine,
        module,
        mut idle,
        mut called,
        mut calling,
        trapped,
    } = inherited.unwrap();
    call(&mut idle, &[0]);
    assert!(matches!(idle.run().unwrap(), Interrupt::Hostcall(_)));
    assert!(matches!(called.run().unwrap(), Interrupt::Hostcall(_)));
    calling.answer(4).unwrap();
    assert_eq!(calling.run().unwrap(), Interrupt::Finished(4));
    assert!(trapped.registers().is_some());
    drop(engine.instantiate(&module).unwrap());
    drop((engine, idle, called, calling, trapped));
    eventually(Duration::from_secs(5), "all reaped", || children() == 0);
}

#[test]
fn a_forked_child_is_refused_and_harms_nothing() {
    alone(
        "host::forked::a_forked_child_is_refused_and_harms_nothing",
        || both(refuse_and_drop),
    );
}

/// What the refusal advises: an engine of its own. A module of the parent's is not among what it
/// can have.
#[test]
fn a_forked_child_may_have_an_engine_of_its_own() {
    alone(
        "host::forked::a_forked_child_may_have_an_engine_of_its_own",
        || {
            let parents = engine();
            let inherited = module(&parents);
            in_a_child(|| {
                let engine = engine();
                assert!(is_refused(engine.instantiate(&inherited)));
                let own = module(&engine);
                assert!(is_refused(parents.instantiate(&own)));
                let mut instance = engine.instantiate(&own).unwrap();
                call(&mut instance, &[0]);
                assert!(matches!(instance.run().unwrap(), Interrupt::Hostcall(_)));
                let worker = instance.process_id();
                drop((instance, engine));
                assert!(!exists(worker));
            });
            drop(parents.instantiate(&inherited).unwrap());
        },
    );
}

/// What guests have in memory gets into no forked child and no core dump.
#[test]
fn mappings_stay_out_of_children_and_dumps() {
    alone(
        "host::forked::mappings_stay_out_of_children_and_dumps",
        || {
            let handles = Handles::new(&config());
            let smaps = fs::read_to_string("/proc/self/smaps").unwrap();
            let (mut ours, mut looked_at) = (false, 0);
            for line in smaps.lines() {
                // A mapping's first line has its range before the first space, the others a key.
                if line
                    .split(' ')
                    .next()
                    .is_some_and(|word| word.contains('-'))
                {
                    ours = line.contains("/memfd:cellwall-");
                }
                let Some(flags) = line.strip_prefix("VmFlags:").filter(|_| ours) else {
                    continue;
                };
                let flags: Vec<&str> = flags.split_whitespace().collect();
                // proc_pid_smaps(5): not copied on fork, not in a core dump.
                assert!(flags.contains(&"dc") && flags.contains(&"dd"), "{flags:?}");
                looked_at += 1;
            }
            assert_eq!(looked_at, own_mappings().len());
            assert!(looked_at > 0);
            drop(handles);
            assert_eq!(own_mappings(), []);
        },
    );
}
