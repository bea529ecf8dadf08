//! The sides of a measure take turns, so that a drift of the machine's speed meets all alike.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use crate::figure::{Better, Figure, Other, Quantiles};
use crate::measure::{Failure, Measure, Plan, Ratio, Side, Turns};

/// A side on a thread of its own, and what it has measured.
struct Runner {
    name: &'static str,
    requests: Sender<()>,
    answers: Receiver<Result<Vec<f64>, Failure>>,
    thread: JoinHandle<()>,
    /// By batch; why not, once it has failed.
    batches: Result<Vec<Vec<f64>>, String>,
}

impl Runner {
    /// Starts the thread and waits until the side is prepared.
    fn start(side: Side, plan: &Plan) -> Self {
        let (requests, asked) = channel::<()>();
        let (answering, answers) = channel();
        let plan = plan.clone();
        let thread = thread::spawn(move || {
            let mut sampler = match (side.start)(&plan) {
                Ok(sampler) => sampler,
                Err(failure) => {
                    let _ = answering.send(Err(failure));
                    return;
                }
            };
            let _ = answering.send(Ok(Vec::new()));
            while asked.recv().is_ok() && answering.send(sampler()).is_ok() {}
        });
        let mut runner = Self {
            name: side.name,
            requests,
            answers,
            thread,
            batches: Ok(Vec::new()),
        };
        if let Err(failure) = runner.answer() {
            runner.batches = Err(failure.to_string());
        }
        runner
    }

    /// One batch more, if it still lives.
    fn take(&mut self) {
        let Ok(batches) = &mut self.batches else {
            return;
        };
        let _ = self.requests.send(());
        match self.answers.recv() {
            Ok(Ok(batch)) => batches.push(batch),
            Ok(Err(failure)) => self.batches = Err(failure.to_string()),
            Err(_) => self.batches = Err(PANICKED.to_owned()),
        }
    }

    fn answer(&self) -> Result<Vec<f64>, Failure> {
        self.answers.recv().map_err(|_| PANICKED)?
    }

    /// Ends the thread: the next measure meets nothing of this one.
    fn end(self) -> (&'static str, Result<Vec<Vec<f64>>, String>) {
        drop(self.requests);
        let ended = self.thread.join();
        let batches = match ended {
            Ok(()) => self.batches,
            Err(_) => Err(PANICKED.to_owned()),
        };
        (self.name, batches)
    }
}

const PANICKED: &str = "it panicked";

/// Measures. A side that fails or panics is absent from the figure, with the reason.
#[must_use]
pub fn take(measure: &Measure, plan: &Plan) -> Figure {
    let sides = [
        Some(measure.ours),
        measure.peer,
        measure.other_peer,
        measure.limit,
    ];
    let mut runners = sides.map(|side| side.map(|side| Runner::start(side, plan)));
    let begun = Instant::now();
    let mut round = 0;
    while goes_on(measure, plan, round, begun) {
        let mut in_turn: Vec<_> = runners.iter_mut().flatten().collect();
        // Whoever comes first has a cooler machine, or a colder cache.
        if round % 2 == 1 {
            in_turn.reverse();
        }
        for runner in in_turn {
            runner.take();
        }
        round += 1;
    }
    let mut figure = Figure::new(measure.name, measure.unit).with_targets(measure.targets);
    let [ours, peer, other_peer, limit] = runners.map(|runner| {
        let (name, batches) = runner?.end();
        match batches {
            Ok(batches) => Some(Taken { name, batches }),
            Err(why) => {
                figure.absent.push((name, why));
                None
            }
        }
    });
    let other = |side: &Option<Taken>| side.as_ref()?.other(measure.better);
    figure.ours = other(&ours).map(|ours| ours.quantiles);
    (figure.peer, figure.other_peer) = (other(&peer), other(&other_peer));
    figure.limit = other(&limit);
    let to = |side: &Option<Taken>| ratio(measure.ratio, ours.as_ref()?, side.as_ref()?);
    (figure.ratio_to_peer, figure.ratio_to_limit) = (to(&peer), to(&limit));
    if let (Ratio::PeersBest, Some(ours), Some(peer)) = (measure.ratio, figure.ours, &figure.peer) {
        figure.ratio_to_peer = Some(ours.p50 / peer.quantiles.best);
    }
    figure
}

/// What a side has measured.
struct Taken {
    name: &'static str,
    batches: Vec<Vec<f64>>,
}

impl Taken {
    fn other(&self, better: Better) -> Option<Other> {
        let quantiles = Quantiles::of(self.batches.concat(), better)?;
        Some(Other {
            name: self.name,
            quantiles,
        })
    }
}

fn goes_on(measure: &Measure, plan: &Plan, round: usize, begun: Instant) -> bool {
    match measure.turns {
        Turns::Timed => round < plan.rounds() || begun.elapsed() < plan.time(),
        Turns::Counted(quick, whole) => round < plan.choose(quick, whole),
    }
}

fn ratio(ratio: Ratio, ours: &Taken, theirs: &Taken) -> Option<f64> {
    let of = |samples| Quantiles::of(samples, Better::Less);
    let (mine, others) = (&ours.batches, &theirs.batches);
    Some(match ratio {
        Ratio::Medians | Ratio::PeersBest => of(mine.concat())?.p50 / of(others.concat())?.p50,
        Ratio::Pairs => {
            let batches = mine.iter().zip(others);
            let pairs = batches.flat_map(|(mine, others)| mine.iter().zip(others));
            of(pairs.map(|(mine, other)| mine / other).collect())?.p50
        }
    })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::take;
    use crate::measure::{Failure, Measure, Plan, Ratio, Sampler, Side};

    fn plan() -> Plan {
        Plan {
            quick: true,
            root: PathBuf::new(),
            target: PathBuf::new(),
        }
    }

    /// 1, 2, 3, ... so many times.
    fn counting(times: f64) -> Result<Sampler, Failure> {
        let mut count = 0.0;
        Ok(Box::new(move || {
            count += 1.0;
            Ok(vec![count * times])
        }))
    }

    const MEASURE: Measure = Measure::new("name", "", |_| counting(4.0))
        .peer(Side::new("peer", |_| counting(2.0)))
        .counted(5, 5);

    #[test]
    fn sides_are_compared() {
        let medians = take(&MEASURE, &plan());
        assert_eq!(medians.ours.unwrap().p50, 12.0);
        assert_eq!(medians.peer.unwrap().quantiles.p50, 6.0);
        assert_eq!(medians.ratio_to_peer, Some(2.0));
        let best = take(&MEASURE.ratio(Ratio::PeersBest), &plan());
        assert_eq!(best.ratio_to_peer, Some(6.0));
        let pairs = take(&MEASURE.ratio(Ratio::Pairs), &plan());
        assert_eq!(pairs.ratio_to_peer, Some(2.0));
        assert_eq!(pairs.ratio_to_limit, None);
    }

    #[test]
    fn a_side_that_fails_or_panics_is_absent_with_the_reason() {
        let measure = MEASURE
            .peer(Side::new("never", |_| Err("not here".into())))
            .other_peer(Side::new("once", |_| {
                let mut first = true;
                Ok(Box::new(move || match std::mem::take(&mut first) {
                    true => Ok(vec![1.0]),
                    false => Err("no more".into()),
                }))
            }))
            .limit(Side::new("panics", |_| panic!("on purpose")));
        let figure = take(&measure, &plan());
        assert!(figure.ours.is_some());
        assert!(figure.peer.is_none() && figure.other_peer.is_none() && figure.limit.is_none());
        assert_eq!(figure.ratio_to_limit, None);
        let reasons: Vec<_> = figure.absent.iter().map(|(_, why)| why.as_str()).collect();
        assert_eq!(reasons, ["not here", "no more", "it panicked"]);
    }
}
