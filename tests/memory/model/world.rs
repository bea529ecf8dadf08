//! Two instances and their models, to which the same happens.

use std::collections::BTreeSet;
use std::sync::Arc;

use cellwall::abi::PAGE_BYTES;
use cellwall::{Blame, Config, Engine, Misuse, Module, Snapshot, Stage, Template};

use super::ask::agree;
use super::guest::{self, Program, Run};
use super::layout::{self, LIST, SEED, SPOTS, pattern};
use super::map::{Map, Terms};
use super::op::{Answers, Call, Case, Op, Place};
use super::play::{At, foretell, play};
use super::side::Side;
use super::space::{By, Stencil, misuse};

pub(super) struct World {
    engine: Engine,
    module: Module,
    program: Program,
    initial: Map,
    dynamic: bool,
    spots: Vec<usize>,
    sides: [Option<Side>; 2],
    snapshots: Vec<(Snapshot, Map)>,
    pub(super) stencils: Vec<Stencil>,
    /// All random bytes that were ever in a guest's memory.
    seeds: BTreeSet<Vec<u8>>,
}

/// How many snapshots are kept.
const SNAPSHOTS: usize = 5;
/// Snapshots of more bytes do not take the way through a file.
const FILE_BYTES: u64 = 1 << 18;

impl World {
    /// The places of `case`, before anything has happened.
    pub(super) fn new(config: Config, case: &Case, paged: bool) -> Self {
        let (limit, engine_limit) = layout::limits(case.room, case.engine_room, paged);
        let terms = Terms {
            paged,
            limit,
            engine_limit,
            others: 0,
        };
        let config = config.memory_limit(limit).engine_memory_limit(engine_limit);
        let engine = Engine::new(&config).expect("an engine");
        let program = Program::new();
        let dynamic = case.dynamic && paged;
        let mut world = Self {
            module: layout::module(&engine, &program.code, dynamic),
            initial: layout::initial(&program.code, terms),
            dynamic,
            spots: case.spots.clone(),
            sides: [None, None],
            snapshots: Vec::new(),
            stencils: [1, 0x1000, 0x2001, 0x5fff]
                .map(|bytes| stencil(&engine, bytes))
                .into(),
            seeds: BTreeSet::new(),
            engine,
            program,
        };
        for which in [0, 1] {
            world.replace(which);
        }
        world
    }

    fn side(&mut self, which: usize) -> &mut Side {
        self.sides[which].as_mut().expect("an instance")
    }

    fn held(&self, which: usize) -> u64 {
        let side = self.sides[which].as_ref();
        side.map_or(0, |side| side.map.held())
    }

    pub(super) fn address(&self, place: Place) -> u64 {
        let (first, pages) = SPOTS[self.spots[place.spot % self.spots.len()]];
        (first + place.page % pages) * PAGE_BYTES + place.byte
    }

    /// One that the guest can be told: the CPU has one for each fault there.
    fn guest_address(&self, place: Place) -> u64 {
        self.address(place) & 0xff_ffff_ffff
    }

    /// Does it, and looks whether instance and model agree.
    pub(super) fn step(&mut self, which: usize, op: &Op) {
        let others = self.held(1 - which);
        self.side(which).map.terms.others = others;
        match op {
            Op::Call(call, answers) => self.call(which, call, answers),
            Op::Resume(value, answers) => self.resume(which, *value, answers),
            Op::RefuseFault => self.refuse(which),
            Op::Reset => self.renew(which, None),
            Op::Snapshot(by_file) => self.snapshot(which, *by_file),
            Op::Restore(number) if !self.snapshots.is_empty() => {
                self.renew(which, Some(number % self.snapshots.len()));
            }
            Op::Restore(_) => {}
            Op::Replace => self.replace(which),
            Op::Stats => self.side(which).check_stats(),
            Op::Compare => self.side(which).compare(),
            Op::CompareByGuest => self.compare_by_guest(which),
            plain => {
                let mut side = self.sides[which].take().expect("an instance");
                let expected = self.ask(&mut side.map, plain);
                let found = self.ask(&mut side.instance, plain);
                agree(&expected, &found);
                side.touched = side.touched.filter(|touched| *touched);
                self.sides[which] = Some(side);
            }
        }
        assert_eq!(self.engine.memory_held(), self.held(0) + self.held(1));
    }

    fn call(&mut self, which: usize, call: &Call, answers: &Answers) {
        let at = |place: &Place| self.guest_address(*place);
        let program = &self.program;
        let (entry, args, run) = match call {
            Call::Load(place, width) => {
                let run = program.load(at(place), *width);
                (
                    program.loads[width.ilog2() as usize],
                    [at(place), 0, 0],
                    run,
                )
            }
            Call::Store(place, width, value) => {
                let run = program.store(at(place), *width, *value);
                (
                    program.stores[width.ilog2() as usize],
                    [at(place), *value, 0],
                    run,
                )
            }
            Call::Swap(place, value) => {
                // Not across pages, which is slow: the bus is locked.
                let address = at(place) & !7;
                (
                    program.swap,
                    [address, *value, 0],
                    program.swap(address, *value),
                )
            }
            Call::Stride(place, pages, value) => {
                let run = program.stride(at(place), *pages, *value);
                (program.stride, [at(place), *pages, *value], run)
            }
            Call::Flood(value) => {
                let (address, pages) = layout::biggest();
                let run = program.stride(address, pages, *value);
                (program.stride, [address, pages, *value], run)
            }
            Call::Walk(list) => {
                let list = list
                    .iter()
                    .map(|(place, value)| (place.as_ref().map_or(0, at), *value));
                let list: Vec<(u64, u64)> = list.collect();
                let run = program.walk(&list);
                let entry = program.walk;
                self.tell(which, &list);
                (entry, [LIST, list.len() as u64, 0], run)
            }
        };
        let side = self.side(which);
        side.instance.call(entry, &args).expect("a call");
        guest::enter(&mut side.map);
        self.run(which, run, answers);
    }

    /// Writes the list that the guest walks through.
    fn tell(&mut self, which: usize, list: &[(u64, u64)]) {
        let words = list.iter().flat_map(|(address, value)| [*address, *value]);
        let bytes: Vec<u8> = words.flat_map(u64::to_le_bytes).collect();
        let side = self.side(which);
        side.instance.write(LIST, &bytes).expect("the list");
        side.map.copy_in(LIST, &bytes);
    }

    fn run(&mut self, which: usize, run: Run, answers: &Answers) {
        let (dynamic, stencils) = (self.dynamic, self.stencils.clone());
        let side = self.side(which);
        let (expected, at) = foretell(&mut side.map, run, dynamic, answers, &stencils);
        let found = play(&mut side.instance, answers, &stencils);
        assert_eq!(expected, found);
        side.at = at;
        side.touched = Some(true);
        if matches!(side.at, At::Hostcall(_)) {
            side.learn(&layout::HOSTCALL_STACK);
        }
    }

    fn resume(&mut self, which: usize, value: u64, answers: &Answers) {
        let side = self.side(which);
        match std::mem::replace(&mut side.at, At::Rest) {
            At::Rest => {
                let found = misuse(side.instance.run(), Stage::Run);
                assert_eq!(found, Err(Misuse::NothingToRun));
            }
            At::Fault(run, _) => self.run(which, run, answers),
            At::Hostcall(mut run) => {
                side.instance.answer(value).expect("an answer");
                run.answered(value);
                self.run(which, run, answers);
            }
        }
    }

    fn refuse(&mut self, which: usize) {
        let side = self.side(which);
        let found = misuse(side.instance.refuse_fault(), Stage::Run);
        match &side.at {
            At::Fault(_, trap) => {
                assert_eq!(found, Ok(*trap));
                side.at = At::Rest;
            }
            At::Rest | At::Hostcall(_) => assert_eq!(found, Err(Misuse::NoFault)),
        }
    }

    /// Back to the module's state, or to a snapshot.
    fn renew(&mut self, which: usize, snapshot: Option<usize>) {
        let snapshot = snapshot.map(|number| self.snapshots[number].clone());
        let origin = snapshot
            .as_ref()
            .map_or(&self.initial, |(_, map)| map)
            .clone();
        let side = self.side(which);
        let expected = side.map.renew(&origin);
        let found = match &snapshot {
            Some((snapshot, _)) => side.instance.restore(snapshot),
            None => side.instance.reset(),
        };
        let found = misuse(found, Stage::Memory);
        assert_eq!(expected, found);
        // Whether it comes to that or not, what the guest was in is over.
        side.at = At::Rest;
        if found.is_ok() {
            side.touched = Some(false);
            self.learn_seed(which);
        }
    }

    /// The random bytes, which are fresh each time.
    fn learn_seed(&mut self, which: usize) {
        if let Some(seed) = self.side(which).learn(&SEED) {
            assert!(self.seeds.insert(seed), "the same random bytes again");
        }
    }

    fn snapshot(&mut self, which: usize, by_file: bool) {
        let side = self.side(which);
        let mut snapshot = side.instance.snapshot().expect("a snapshot");
        assert_eq!(snapshot.bytes(), side.map.contents_bytes());
        let map = side.map.origin();
        if by_file && snapshot.bytes() <= FILE_BYTES {
            let mut file = Vec::new();
            snapshot.save(&mut file).expect("a file in memory");
            snapshot = Snapshot::load(&self.engine, &self.module, &*file).expect("the same");
        }
        if self.snapshots.len() == SNAPSHOTS {
            self.snapshots.remove(0);
        }
        self.snapshots.push((snapshot, map));
    }

    /// Ends the instance and starts another.
    fn replace(&mut self, which: usize) {
        self.sides[which] = None;
        let mut map = self.initial.clone();
        map.terms.others = self.held(1 - which);
        if let Err(expected) = map.check_room() {
            let error = self.engine.instantiate(&self.module).expect_err("no room");
            assert_eq!(
                (error.stage, error.blame),
                (Stage::Start, Blame::Caller(expected))
            );
            self.side(1 - which).map.terms.others = 0;
            self.renew(1 - which, None);
        }
        let instance = self.engine.instantiate(&self.module).expect("an instance");
        self.sides[which] = Some(Side::new(instance, map));
        self.learn_seed(which);
    }

    /// Looks at everything, from both sides.
    pub(super) fn end(mut self) {
        for which in [0, 1] {
            self.side(which).check_stats();
            self.side(which).compare();
            self.compare_by_guest(which);
            self.side(which).check_stats();
        }
        let Self { engine, sides, .. } = self;
        drop(sides);
        assert_eq!(engine.memory_held(), 0);
    }

    /// What the guest can read is what the model says.
    fn compare_by_guest(&mut self, which: usize) {
        let entry = self.program.checksum;
        let side = self.side(which);
        for run in side.map.readable(By::Guest) {
            let (address, words) = (run.start * PAGE_BYTES, (run.end - run.start) * 512);
            side.instance
                .call(entry, &[address, words])
                .expect("a call");
            guest::enter(&mut side.map);
            let found = side.instance.run().expect("a run");
            let pages = run.clone().map(|page| side.map.page(page));
            let expected = cellwall::Interrupt::Finished(guest::checksum(pages));
            assert_eq!(found, expected, "pages {run:#x?}");
        }
        (side.at, side.touched) = (At::Rest, Some(true));
    }
}

fn stencil(engine: &Engine, bytes: usize) -> Stencil {
    let contents = Arc::new(pattern(bytes as u64, bytes));
    Stencil {
        template: Template::new(engine, &contents).expect("a template"),
        contents,
    }
}
