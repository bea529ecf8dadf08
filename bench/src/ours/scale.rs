//! Very many live instances.

use std::fs::File;
use std::thread::sleep;
use std::time::{Duration, Instant};

use cellwall::{Config, Engine, Instance};

use super::guest::{identity, parts};
use crate::figure::{Better, Figure, Quantiles};
use crate::machine::memory_of_each;
use crate::measure::{Failure, Plan, each};
use crate::target::{Of, Target};

/// How many there are to be. A descriptor limit may allow fewer.
const INSTANCES: usize = 10_000;

/// What a crowd of live instances tells.
#[derive(Default)]
struct Crowd {
    /// How long each start took.
    starts: Vec<f64>,
    /// What stopped it before there were enough.
    stopped: Option<String>,
    /// Turns when there were 1, 100 and all of them.
    alone: Option<Quantiles>,
    hundred: Option<Quantiles>,
    all: Option<Quantiles>,
}

impl Crowd {
    /// Starts so many instances, or as many as there can be, and measures turns meanwhile.
    fn gather(&mut self, wanted: usize, turns: usize) -> Result<Vec<Instance>, Failure> {
        let engine = Engine::new(&Config::default())?;
        let module = parts().build(&engine)?;
        let mut instances = Vec::new();
        // A descriptor for what is read afterwards, if there are no others left.
        let spare = File::open("/dev/null")?;
        while instances.len() < wanted {
            let start = Instant::now();
            match engine.instantiate(&module) {
                Ok(mut instance) => {
                    identity(&mut instance, 7)?;
                    instances.push(instance);
                }
                Err(error) => {
                    self.stopped = Some(error.to_string());
                    break;
                }
            }
            self.starts.push(each(start, 1));
            match instances.len() {
                1 => self.alone = latency(&mut instances, turns)?,
                100 => self.hundred = latency(&mut instances, turns)?,
                _ => {}
            }
        }
        drop(spare);
        self.all = latency(&mut instances, turns)?;
        Ok(instances)
    }
}

/// Live instances, the time and the memory that each one takes, and how long a turn takes of one
/// that has been idle, when there are 1, 100 and all of them.
pub(crate) fn scale(plan: &Plan) -> Result<Vec<Figure>, Failure> {
    const ENOUGH: &[Target] = &[Target::AtLeast(5000.0, Of::Itself)];
    const LINEAR: &[Target] = &[Target::AtMost(1.5, Of::Limit)];
    const FLAT: &[Target] = &[Target::AtMost(2.0, Of::Limit)];
    let wanted = plan.choose(INSTANCES / 10, INSTANCES);
    let mut crowd = Crowd::default();
    let gather = || crowd.gather(wanted, plan.choose(50, 500));
    // By the number that was wanted: how many there are is known afterwards.
    let memory = memory_of_each(u32::try_from(wanted)?, gather);
    let Crowd {
        starts,
        stopped,
        alone,
        hundred,
        all,
    } = crowd;
    let live = f64::from(u32::try_from(starts.len())?);
    let of = |samples: &[f64]| Quantiles::of(samples.to_vec(), Better::Less);
    let mut count = Figure::ours("scale_live", "instances", of(&[live]));
    count
        .absent
        .extend(stopped.map(|why| ("the next one", why)));
    if !plan.quick {
        count.targets = ENOUGH;
    }
    let mut of_each = Figure::new("scale_memory_of_each", "KiB");
    match memory {
        Ok(kib) => of_each.ours = of(&[kib * f64::from(u32::try_from(wanted)?) / live]),
        Err(failure) => of_each.absent.push(("Cellwall", failure.to_string())),
    }
    let tenth = starts.len() / 10;
    let (first, last) = (&starts[..tenth], &starts[starts.len() - tenth..]);
    Ok(vec![
        count,
        Figure::ours("scale_start_of_the_last_tenth", "us", of(last))
            .with_limit("of the first tenth", of(first))
            .with_targets(LINEAR),
        of_each,
        Figure::ours("scale_turn_with_100", "us", hundred)
            .with_limit("with 1", alone)
            .with_targets(FLAT),
        Figure::ours("scale_turn_with_all", "us", all)
            .with_limit("with 1", alone)
            .with_targets(FLAT),
    ])
}

/// Calls of one instance after the other, a millisecond apart.
fn latency(instances: &mut [Instance], turns: usize) -> Result<Option<Quantiles>, Failure> {
    let mut samples = Vec::new();
    // A step that divides no number of instances goes everywhere.
    let mut next = 0;
    for _ in 0..turns {
        next = (next + 7919) % instances.len().max(1);
        let Some(instance) = instances.get_mut(next) else {
            break;
        };
        sleep(Duration::from_millis(1));
        let start = Instant::now();
        identity(instance, 7)?;
        samples.push(each(start, 1));
    }
    Ok(Quantiles::of(samples, Better::Less))
}
