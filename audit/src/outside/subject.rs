//! The worker that is looked at, and what its host wanted it to be.

use std::fs;

use cellwall::abi::{CODE_WINDOW, GUEST};
use cellwall::{
    Config, Engine, Error, Instance, Interrupt, Layers, Module, Protection, Tier, Trap,
};
use iced_x86::IcedError;
use iced_x86::code_asm::{CodeAssembler, rax};
use linux_raw::process::{getegid, geteuid};
use vmctx::map::{self, Span};

use super::finding::Finding;
use super::proc::{Process, Read, number_list, silent};
use crate::late::retried;

/// A root host's workers (`Config::uid`).
const NOBODY: u32 = 65534;

const DATA: Span = 0x2_0000..0x3_0000;
const CONSTANTS: Span = 0x4_0000..0x4_1000;
const STACK: Span = 0x10_0000..0x11_0000;
const CODE: Span = CODE_WINDOW.start..CODE_WINDOW.start + 0x1000;

/// Room for code that the host writes, of which none is there.
const WINDOW: Span = CODE_WINDOW.start + 0x10_0000..CODE_WINDOW.start + 0x11_0000;

/// One mapping: where, with which rights, and the file behind it.
pub(super) type Region = (Span, &'static str, &'static str);

/// The regions of the guest. None adjoins another, since the kernel would show both as one.
const REGIONS: [Region; 5] = [
    (DATA, "rw-s", MEMORY),
    (CONSTANTS, "r--s", "cellwall-module"),
    (STACK, "rw-s", MEMORY),
    (CODE, "r-xs", "cellwall-module"),
    (WINDOW, "r-xs", "cellwall-code"),
];
const MEMORY: &str = "cellwall-memory";

/// The guest's mappings. Where the host decides what is in guest memory, all that is between the
/// regions is mapped too, for it to fill: apart from them, since the kernel asks the host there.
pub(super) fn regions(paged: bool) -> Vec<Region> {
    let mut all = REGIONS.to_vec();
    if paged {
        all.extend(gaps().map(|gap| (gap, "rw-s", MEMORY)));
    }
    all
}

/// Guest addresses that are in no region.
pub(super) fn gaps() -> impl Iterator<Item = Span> {
    let inside = REGIONS.iter().map(|region| region.0.clone());
    let inside = inside.filter(|span| map::holds(&GUEST, span));
    let ends = inside.clone().map(|span| span.end);
    let starts = std::iter::once(GUEST.start).chain(ends);
    let next = inside.map(|span| span.start).chain([GUEST.end]);
    starts.zip(next).map(|(start, end)| start..end)
}

/// A live worker that waits in a hostcall: guest code has run in it.
pub(super) struct Subject {
    pub(super) process: Process,
    /// The first thread of this process, which is the host.
    pub(super) host: Process,
    pub(super) layers: Layers,
    pub(super) wanted: Wanted,
    engine: Engine,
    instance: Instance,
    first: Interrupt,
}

/// What the configuration asks for, worked out here a second time, apart from the library.
pub(super) struct Wanted {
    pub(super) tier: Tier,
    /// Whether a nursery clones it, whose namespaces it shares.
    pub(super) is_nursed: bool,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Whether the worker is somebody else than its host.
    pub(super) is_another: bool,
    /// As asked for; otherwise it is the host's, but no less than 0.
    pub(super) nice: Option<i32>,
    /// As asked for; otherwise they are those of the host's first thread.
    pub(super) cpus: Option<Vec<usize>>,
    pub(super) reports_calls: bool,
    pub(super) keeps_speculation: bool,
    pub(super) core_scheduling: bool,
    pub(super) timestamp_counter: bool,
}

impl Wanted {
    pub(super) fn of(config: &Config) -> Self {
        let (own_uid, own_gid) = (geteuid(), getegid());
        let becomes_nobody = own_uid == 0 && is_mapped(NOBODY);
        let default = |own| if becomes_nobody { NOBODY } else { own };
        let uid = config.chosen_uid().unwrap_or(default(own_uid));
        let gid = config.chosen_gid().unwrap_or(default(own_gid));
        Self {
            tier: config.chosen_tier(),
            is_nursed: config.chosen_tier() == Tier::Full && !config.is_direct(),
            uid,
            gid,
            is_another: (uid, gid) != (own_uid, own_gid),
            nice: config.chosen_nice(),
            cpus: config.chosen_cpus().map(<[usize]>::to_vec),
            reports_calls: config.reports_forbidden_calls(),
            keeps_speculation: config.keeps_speculation(),
            core_scheduling: config.asks_for_core_scheduling(),
            timestamp_counter: config.allows_timestamp_counter(),
        }
    }
}

/// Whether our own user namespace has this user (user_namespaces(7): first here, first in the
/// parent, how many).
fn is_mapped(uid: u32) -> bool {
    let text = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let holds = |line: &str| {
        let mut words = line.split_whitespace();
        let first: u32 = words.next()?.parse().ok()?;
        let count: u32 = words.nth(1)?.parse().ok()?;
        uid.checked_sub(first).map(|at| at < count)
    };
    text.lines().any(|line| holds(line) == Some(true))
}

impl Subject {
    /// Starts the worker and has guest code run in it.
    pub(super) fn start(config: &Config) -> Result<Self, Error> {
        let engine = retried(|| Engine::new(config))?;
        let hostcall = assemble(|code| {
            code.mov(rax, cellwall::abi::HOSTCALL)?;
            code.call(rax)?;
            code.ret()
        });
        let mut instance = start(&engine, &hostcall)?;
        // Before any guest runs: later the words could be the guest's.
        let layers = instance.layers();
        instance.call(CODE.start, &[])?;
        let first = instance.run()?;
        Ok(Self {
            process: Process::numbered(instance.process_id()),
            host: Process::named("self"),
            layers,
            wanted: Wanted::of(config),
            engine,
            instance,
            first,
        })
    }

    /// What became of the guest's code so far.
    pub(super) fn ran(&self) -> Finding {
        let is_hostcall = matches!(self.first, Interrupt::Hostcall(_));
        let outcome = if is_hostcall {
            "a hostcall".into()
        } else {
            self.first.to_string()
        };
        Finding::new("a guest runs", "a hostcall", outcome, is_hostcall)
    }

    /// Whether the host decides what is in guest memory.
    pub(super) fn is_paged(&self) -> bool {
        self.engine.can_change_maps()
    }

    pub(super) fn process_id(&self) -> u32 {
        self.instance.process_id()
    }

    /// Whether it is still the same live worker, so that its number is its own.
    pub(super) fn is_alive(&self) -> bool {
        self.instance.is_alive()
    }

    /// What a look at the time-stamp counter becomes, in a worker of its own.
    pub(super) fn read_counter(&self) -> Read<String> {
        let code = assemble(|code| {
            code.rdtsc()?;
            code.ret()
        });
        let outcome = || -> Result<Interrupt, Error> {
            let mut instance = start(&self.engine, &code)?;
            instance.call(CODE.start, &[])?;
            instance.run()
        };
        match outcome() {
            Ok(Interrupt::Trap(Trap { kind, .. })) => Ok(format!("trap: {kind:?}")),
            Ok(Interrupt::Finished(_)) => Ok("it was read".into()),
            Ok(other) => Ok(other.to_string()),
            Err(error) => Err(silent("rdtsc", &error.to_string())),
        }
    }

    /// The CPUs that the worker must be on.
    pub(super) fn cpus(&self) -> Finding {
        let list = |process: &Process| {
            let text = process.status("Cpus_allowed_list")?;
            number_list(&text).ok_or_else(|| silent("Cpus_allowed_list", &text))
        };
        let found = list(&self.process);
        let shown = self.process.status("Cpus_allowed_list");
        match (&self.wanted.cpus, list(&self.host)) {
            // The kernel leaves out those that the process's cpuset has not (sched_setaffinity(2)).
            (Some(wanted), _) => Finding::judged(
                "status: Cpus_allowed_list",
                format!("among {wanted:?}, as configured"),
                shown,
                |_| found.is_ok_and(|found| found.iter().all(|cpu| wanted.contains(cpu))),
            ),
            (None, Ok(host)) => Finding::judged(
                "status: Cpus_allowed_list",
                format!("{host:?}, the host's"),
                shown,
                |_| found.is_ok_and(|found| found == host),
            ),
            (None, Err(unread)) => {
                Finding::judged::<String>("the host's CPUs", "readable", Err(unread), |_| false)
            }
        }
    }
}

/// Machine code for the start of the code window.
fn assemble(write: impl FnOnce(&mut CodeAssembler) -> Result<(), IcedError>) -> Vec<u8> {
    let code = || -> Result<Vec<u8>, IcedError> {
        let mut code = CodeAssembler::new(64)?;
        write(&mut code)?;
        code.assemble(CODE.start)
    };
    // Without code there is no module, which the library says.
    code().unwrap_or_default()
}

fn start(engine: &Engine, code: &[u8]) -> Result<Instance, Error> {
    let module = Module::builder()
        .code(code)
        .zeroed(DATA.start, DATA.end - DATA.start, Protection::ReadWrite)
        .data(CONSTANTS.start, b"constants", Protection::Read)
        .stack(STACK.start, STACK.end - STACK.start)
        .code_window(WINDOW.start, WINDOW.end - WINDOW.start)
        .build(engine)?;
    retried(|| engine.instantiate(&module))
}
