//! What each step of a worker's start costs.

use std::collections::BTreeMap;

use cellwall::{Config, Engine, Module, Step, Tier};

use crate::figure::{Better, Figure, Quantiles};
use crate::measure::{Failure, Plan};
use crate::target::{Of, Target};

/// All layers together.
const LAYERS: &[Target] = &[Target::AtMost(60.0, Of::Itself)];

/// The zygote's steps together, and each, in both tiers.
pub(crate) fn lockdown(plan: &Plan) -> Result<Vec<Figure>, Failure> {
    let starts = plan.choose(30, 300);
    let mut figures = of_tier(Tier::Full, "lockdown", starts)?;
    let less = of_tier(Tier::WithoutNamespaces, "lockdown_less", starts)?;
    if let Some(all) = figures.first_mut() {
        all.targets = LAYERS;
    }
    figures.extend(less);
    Ok(figures)
}

fn of_tier(tier: Tier, prefix: &str, starts: usize) -> Result<Vec<Figure>, Failure> {
    let engine = Engine::new(&Config::default().tier(tier))?;
    let module = Module::builder()
        .code(&[0xc3])
        .stack(0x10_0000, 0x1_0000)
        .build(&engine)?;
    let mut steps: BTreeMap<u8, Vec<f64>> = BTreeMap::new();
    let mut lockdowns = Vec::new();
    for _ in 0..starts {
        let times = engine.profile_start(&module)?;
        // A round in which the two sides shared a CPU missed some steps.
        if times.last().is_none_or(|last| last.step != Step::Seccomp) {
            continue;
        }
        let micros = times.iter().map(|time| time.took.as_secs_f64() * 1e6);
        let in_zygote = times.iter().zip(micros.clone());
        let in_zygote = in_zygote.filter(|(time, _)| time.step != Step::Exec);
        lockdowns.push(in_zygote.map(|(_, took)| took).sum());
        for (time, took) in times.iter().zip(micros) {
            steps.entry(time.step as u8).or_default().push(took);
        }
    }
    let figure = |name, samples| Figure::ours(name, "us", Quantiles::of(samples, Better::Less));
    let mut figures = vec![figure(prefix.to_owned(), lockdowns)];
    for (number, samples) in steps {
        let step = Step::from_number(number).ok_or("a step without a name")?;
        figures.push(figure(format!("{prefix}_{}", snake(step)), samples));
    }
    Ok(figures)
}

/// The step's name in the code, as names of figures are written.
fn snake(step: Step) -> String {
    let mut name = String::new();
    for letter in format!("{step:?}").chars() {
        if letter.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.extend(letter.to_lowercase());
    }
    name
}
