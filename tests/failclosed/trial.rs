//! One configuration: a start's calls, and what becomes of starts in which one of them fails.

use std::fs;

use cellwall::{
    Blame, Config, Engine, Errno, Error, Instance, Interrupt, Layer, LayerNeed, Layers, Module,
    Stage, Standing, Step,
};
use iced_x86::code_asm::{rax, rdi};
use linux_raw::process::geteuid;
use linux_raw::seccomp::notify::Response;

use super::expected::{CALLS, HARMLESS, is_believed, is_the_truth, lacking};
use super::possessions::Possessions;
use super::supervisor::{Call, Disturb, Supervised, Whose};
use crate::harness::{assemble, call, parts, status};

pub(super) const ERRNOS: [Errno; 4] = [Errno::EPERM, Errno::ENOSYS, Errno::EINVAL, Errno::ENOMEM];
const ANSWER: u64 = 0x5eed;

/// A start that is made to fail.
#[derive(Debug)]
struct Case {
    call: Call,
    errno: Errno,
    disturb: Disturb,
}

/// What is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A worker in namespaces of its own, or in none.
    Alone,
    /// The nursery of a new engine. What it clones afterwards is undisturbed.
    Nursery,
    /// A worker of a nursery's.
    Nursed,
}

impl Kind {
    /// An engine whose nursery is there, unless it is that which is to be started.
    fn engine(self, config: &Config) -> Engine {
        let engine = Engine::new(config).expect("an engine");
        if self == Self::Nursed {
            engine.warm_up().expect("an undisturbed nursery");
        }
        engine
    }
}

pub(super) struct Trial<'test> {
    supervised: &'test Supervised,
    config: &'test Config,
    pub(super) kind: Kind,
    /// Of which one engine is enough.
    engine: Option<Engine>,
    /// Of an undisturbed start.
    calls: Vec<Call>,
    layers: Layers,
    /// Whether the worker is somebody else than the host.
    pub(super) is_another_user: bool,
    pub(super) can_change_maps: bool,
    last_capability: u64,
    /// The steps that were named by errors, in the order of the calls, and for which call.
    pub(super) found: Vec<(Step, Call)>,
    pub(super) starts: usize,
}

impl<'test> Trial<'test> {
    pub(super) fn new(supervised: &'test Supervised, config: &'test Config, kind: Kind) -> Self {
        let engine = kind.engine(config);
        let layers = engine.layers().expect("an undisturbed start");
        // What the allocator keeps for a second engine's thread is nothing that leaks.
        drop(Engine::new(config));
        let last = fs::read_to_string("/proc/sys/kernel/cap_last_cap").unwrap();
        let mut trial = Self {
            supervised,
            config,
            kind,
            calls: Vec::new(),
            layers,
            is_another_user: false,
            can_change_maps: engine.can_change_maps(),
            engine: (kind != Kind::Nursery).then_some(engine),
            last_capability: last.trim().parse().unwrap(),
            found: Vec::new(),
            starts: 0,
        };
        let mut undisturbed = || {
            let (result, calls) = trial.start(Disturb::Nothing);
            let instance = result.expect("an undisturbed start");
            // Only root's are, and only root is sure to see whose they are.
            if geteuid() == 0 {
                let user = status(&instance, "Uid");
                let user = user.split_whitespace().next().map(str::to_owned);
                trial.is_another_user = user.as_deref() != Some("0");
            }
            assert_eq!(instance.layers(), layers);
            runs(instance);
            calls
        };
        let calls = undisturbed();
        let names = |calls: &[Call]| calls.iter().map(|call| call.nr.name()).collect::<Vec<_>>();
        assert_eq!(names(&calls), names(&undisturbed()), "not the same twice");
        trial.calls = calls;
        trial
    }

    pub(super) fn can_seal(&self) -> bool {
        self.layers.standing(Layer::Mseal) == Standing::InForce
    }

    /// Makes a start and disturbs it.
    fn start(&self, disturb: Disturb) -> (Result<Instance, Error>, Vec<Call>) {
        match &self.engine {
            Some(engine) => self.start_in(engine, disturb),
            None => self.start_in(&self.kind.engine(self.config), disturb),
        }
    }

    fn start_in(&self, engine: &Engine, disturb: Disturb) -> (Result<Instance, Error>, Vec<Call>) {
        let module = adder(engine);
        let instance = || engine.instantiate(&module);
        if self.kind != Kind::Nursery {
            return self.supervised.disturbed(Whose::Started, disturb, instance);
        }
        let nursery = || engine.warm_up();
        let (result, calls) = self.supervised.disturbed(Whose::Started, disturb, nursery);
        if result.is_err() {
            runs(instance().expect("by the next nursery"));
        }
        (result.and_then(|()| instance()), calls)
    }

    /// Makes each such call of the start fail in every way, and looks what becomes of the start.
    pub(super) fn fail_every(&mut self, such: impl Fn(&Call) -> bool) {
        let before = Possessions::at_rest();
        for index in 0..self.calls.len() {
            if !such(&self.calls[index]) {
                continue;
            }
            for errno in ERRNOS {
                self.fail(index, errno);
            }
            before.come_back(&format!("{:?}", self.calls[index]));
        }
    }

    fn fail(&mut self, index: usize, errno: Errno) {
        let answer = Response::Errno(errno);
        let log = self.disturb(index, errno, Disturb::Once(index, answer));
        // Where the start ended with that call, it is the same if the kernel never answers better.
        if log.len() > index + 1 {
            self.disturb(index, errno, Disturb::FromThenOn(index, answer));
        }
    }

    fn disturb(&mut self, index: usize, errno: Errno, disturb: Disturb) -> Vec<Call> {
        let call = self.calls[index];
        let case = Case {
            call,
            errno,
            disturb,
        };
        let (result, log) = self.start(disturb);
        self.starts += 1;
        let struck = log.get(index).map(|call| call.nr);
        assert_eq!(struck, Some(call.nr), "another call than before: {case:?}");
        match result {
            Err(error) if error.blame == Blame::LayerMissing(None) => self.differs(&case),
            Err(error) => self.ends(&case, &error),
            Ok(instance) => self.goes_on(&case, instance),
        }
        log
    }

    /// The start failed: the error names the step, its layer, the call and the errno.
    fn ends(&mut self, case: &Case, error: &Error) {
        let Stage::Lockdown(step) = error.stage else {
            panic!("no step is named: {error}: {case:?}");
        };
        let is_named = match &error.blame {
            Blame::Kernel { call, errno } => *call == case.call.nr.name() && *errno == case.errno,
            // There is no page yet to report in: the exit status names the step alone.
            Blame::Died(_) => step == Step::SharedPages,
            _ => false,
        };
        assert!(is_named, "{error}: {case:?}");
        let calls = CALLS.iter().find(|(of, _)| *of == step);
        let (_, calls) = calls.unwrap_or_else(|| panic!("{step:?} has no line in CALLS"));
        assert!(calls.contains(&case.call.nr), "{error}: {case:?}");
        let text = error.to_string();
        let is_there = |layer: &Layer| text.contains(layer.name());
        assert!(step.layers().iter().all(is_there), "{text}: {case:?}");
        if matches!(case.disturb, Disturb::Once(..)) {
            let is_in_order = |(last, _): &(Step, _)| {
                // A nursery's own filter comes last of all.
                *last as u8 <= step as u8 || (*last, step) == (Step::Ready, Step::Seccomp)
            };
            assert!(self.found.last().is_none_or(is_in_order), "{error}");
            self.found.push((step, case.call));
        }
    }

    /// The start succeeded: the call did not matter, or the answer was true.
    fn goes_on(&self, case: &Case, instance: Instance) {
        let absent = lacking(case.call, case.errno);
        if self.kind == Kind::Nursery && instance.layers() != self.layers {
            // Its engine has seen no others yet.
            let always = matches!(case.disturb, Disturb::FromThenOn(..));
            assert!(absent.is_some() && always, "contradicted: {case:?}");
            return self.lacks(absent, case, instance);
        }
        let is_harmless = HARMLESS.iter().any(|(call, _)| *call == case.call.nr);
        let is_true = is_the_truth(case.call, case.errno, &self.layers, self.last_capability);
        assert!(is_harmless || is_true, "unnoticed: {case:?}");
        assert_eq!(instance.layers(), self.layers, "{case:?}");
        runs(instance);
    }

    /// The engine saw other layers than before. One that had seen none shows which: a kernel that
    /// says each time that it lacks a layer which it may lack has workers without it.
    fn differs(&self, case: &Case) {
        let absent = lacking(case.call, case.errno);
        let always = matches!(case.disturb, Disturb::FromThenOn(..));
        assert!(absent.is_some() && always, "contradicted: {case:?}");
        let (result, _) = self.start_in(&self.kind.engine(self.config), case.disturb);
        let instance = result.unwrap_or_else(|error| panic!("{error}: {case:?}"));
        self.lacks(absent, case, instance);
    }

    /// It has every layer but one.
    fn lacks(&self, absent: Option<Layer>, case: &Case, instance: Instance) {
        for (layer, standing) in instance.layers().iter() {
            if Some(layer) == absent {
                assert_eq!(layer.need(), LayerNeed::May, "{case:?}");
                assert_eq!(standing, Standing::Absent(case.errno), "{case:?}");
            } else {
                assert_eq!(standing, self.layers.standing(layer), "{layer:?}: {case:?}");
            }
        }
        runs(instance);
    }

    /// Lies about every call: it is not made, and is said to have succeeded. Nothing is left
    /// behind, whatever comes of it, and what a worker can know at once it does not believe.
    pub(super) fn lie_about_every_call(&mut self) {
        let before = Possessions::at_rest();
        for (index, call) in self.calls.iter().enumerate() {
            let lie = Disturb::Once(index, Response::Value(0));
            let (result, _) = self.start(lie);
            self.starts += 1;
            assert!(
                result.is_err() || is_believed(*call),
                "a lie about {call:?} was believed"
            );
            drop(result);
            before.come_back(&format!("a lie about {call:?}"));
        }
    }
}

/// A guest that adds.
pub(super) fn adder(engine: &Engine) -> Module {
    let code = assemble(|code| {
        code.lea(rax, rdi + ANSWER).unwrap();
        code.ret().unwrap();
    });
    parts(&code).build(engine).expect("a module")
}

/// The guest does what it is for.
pub(super) fn runs(mut instance: Instance) {
    call(&mut instance, &[1]);
    let interrupt = instance.run().expect("a turn");
    assert_eq!(interrupt, Interrupt::Finished(ANSWER + 1));
}
