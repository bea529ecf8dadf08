//! The form of the tables, and how an entry is tried.

use cellwall::{Config, Errno, Layer, Standing};
use linux_raw::landlock;

use crate::host::is_root;
use crate::worker::{Attempt, Stop, Worker};

/// What no worker can be without.
pub(crate) const ALWAYS: [Layer; 2] = [Layer::WriteXorExecute, Layer::SharedWords];

/// Layers that one step puts up: left out together. Where two of them could be taken for each
/// other, the guest itself puts up the others in the try without the layer ([`Attack::beside`]).
const TOGETHER: [&[Layer]; 4] = [
    &[Layer::BoundingSet, Layer::Securebits],
    &[
        Layer::NoNewPrivileges,
        Layer::Capabilities,
        Layer::NotDumpable,
    ],
    &[Layer::StoreBypass, Layer::IndirectBranch],
    &[
        Layer::LandlockFiles,
        Layer::LandlockNetwork,
        Layer::LandlockScopes,
    ],
];

/// Something that a layer stops.
pub(crate) struct Attack {
    pub(crate) layer: Layer,
    /// What is tried.
    what: &'static str,
    attempt: fn(&mut Worker) -> Attempt,
    stop: Stop,
    /// Layers that have to be there too, or the attack would be none: for a root host, for others.
    needs: [&'static [Layer]; 2],
    beside: fn(&mut Worker),
    config: fn(Config) -> Config,
    /// Why only a root host's worker could do it at all.
    only_root: Option<&'static str>,
    /// Why this machine cannot show it.
    obstacle: fn() -> Option<(&'static str, &'static str)>,
    /// The version of Landlock from which on it is denied.
    landlock: u32,
}

impl Attack {
    pub(crate) const fn new(
        layer: Layer,
        what: &'static str,
        attempt: fn(&mut Worker) -> Attempt,
        stop: Stop,
    ) -> Self {
        Self {
            layer,
            what,
            attempt,
            stop,
            needs: [&[], &[]],
            beside: |_| (),
            config: |config| config,
            only_root: None,
            obstacle: || None,
            landlock: 0,
        }
    }

    pub(crate) const fn needs(
        mut self,
        as_root: &'static [Layer],
        as_user: &'static [Layer],
    ) -> Self {
        self.needs = [as_root, as_user];
        self
    }

    /// What the guest does in the try without the layer, to be like one that has the other layers
    /// of its step.
    pub(crate) const fn beside(mut self, beside: fn(&mut Worker)) -> Self {
        self.beside = beside;
        self
    }

    pub(crate) const fn config(mut self, config: fn(Config) -> Config) -> Self {
        self.config = config;
        self
    }

    pub(crate) const fn only_root(mut self, why: &'static str) -> Self {
        self.only_root = Some(why);
        self
    }

    pub(crate) const fn unless(
        mut self,
        obstacle: fn() -> Option<(&'static str, &'static str)>,
    ) -> Self {
        self.obstacle = obstacle;
        self
    }

    pub(crate) const fn landlock(mut self, version: u32) -> Self {
        self.landlock = version;
        self
    }

    /// Tries it without its layer and with its layer alone; says what is wrong.
    fn run(&self) -> Result<(), String> {
        let name = format!("{}: {}", self.layer.name(), self.what);
        if let (Some(why), false) = (self.only_root, is_root()) {
            absence::absent("root", format_args!("{name}: {why}"));
            return Ok(());
        }
        if let Some((key, why)) = (self.obstacle)() {
            absence::absent(key, format_args!("{name}: {why}"));
            return Ok(());
        }
        let version = landlock::abi().unwrap_or(0);
        if version < self.landlock {
            let key = format!("landlock-{}", self.landlock);
            absence::absent(&key, format_args!("{name}: version {version}"));
            return Ok(());
        }
        let needs = self.needs[usize::from(!is_root())];
        let config = (self.config)(Config::default());
        let kept = [needs, &[self.layer]].concat();
        let mut alone = match Worker::start(&config, &kept) {
            Ok(worker) => worker,
            Err(error) if self.layer == Layer::CoreScheduling => {
                absence::absent("core-scheduling", error);
                return Ok(());
            }
            Err(error) => return Err(format!("{name}: alone: {error}")),
        };
        if let Standing::Absent(errno) = alone.layers().standing(self.layer) {
            return record_absence(self.layer, errno);
        }
        check_layers(&alone, &kept).map_err(|found| format!("{name}: alone, {found}"))?;

        let started = Worker::start(&config, needs);
        let mut without = started.map_err(|error| format!("{name}: without the layer: {error}"))?;
        check_layers(&without, needs).map_err(|found| format!("{name}: without it, {found}"))?;
        (self.beside)(&mut without);
        if let Err(stop) = (self.attempt)(&mut without) {
            return Err(format!("{name}: proves nothing, no layer, yet {stop:?}"));
        }
        drop(without);
        match (self.attempt)(&mut alone) {
            Err(stop) if stop == self.stop => {
                println!("STOPPED {name}: {stop:?}");
                Ok(())
            }
            other => Err(format!("{name}: {other:?}, not {:?}", self.stop)),
        }
    }
}

/// Tries every entry of a table.
pub(crate) fn run(table: &[Attack]) {
    let wrong: Vec<String> = table
        .iter()
        .filter_map(|attack| attack.run().err())
        .collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// The layers that the worker reports are these, those of the same steps, and nothing else.
fn check_layers(worker: &Worker, kept: &[Layer]) -> Result<(), String> {
    for (layer, standing) in worker.layers().iter() {
        let is_with_one = TOGETHER
            .iter()
            .any(|group| group.contains(&layer) && kept.iter().any(|kept| group.contains(kept)));
        let is_up = standing == Standing::InForce;
        if kept.contains(&layer) && !is_up {
            return Err(format!("{} is {standing}", layer.name()));
        }
        if is_up && !kept.contains(&layer) && !is_with_one && !ALWAYS.contains(&layer) {
            return Err(format!("{} is up too", layer.name()));
        }
    }
    Ok(())
}

/// The kernel or the CPU lacks the layer: that has to be a known possibility.
fn record_absence(layer: Layer, errno: Errno) -> Result<(), String> {
    match layer {
        Layer::Mseal => absence::absent("mseal", errno),
        Layer::DenyWriteExecute => absence::absent("mdwe", errno),
        Layer::StoreBypass => absence::absent("store-bypass", errno),
        Layer::IndirectBranch => absence::absent("indirect-branch", errno),
        Layer::LandlockNetwork => absence::absent("landlock-4", errno),
        Layer::LandlockScopes => absence::absent("landlock-6", errno),
        _ => return Err(format!("{} is absent: {errno}", layer.name())),
    }
    Ok(())
}
