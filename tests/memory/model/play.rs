//! A guest's run, as the model foretells it and as it is.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use cellwall::abi::PAGE_BYTES;
use cellwall::{
    Blame, Error, Hostcall, Instance, Interrupt, Misuse, PageFault, Paged, Stage, Trap,
};

use super::guest::{Halt, Run};
use super::layout::pattern;
use super::map::Map;
use super::op::{Answer, Answers};
use super::space::{Space, Stencil, misuse};

/// Where a guest is stopped.
pub(super) enum At {
    Rest,
    Hostcall(Run),
    Fault(Run, Trap),
}

/// All that is seen of a run.
#[derive(Debug, PartialEq)]
pub(super) struct Episode {
    faults: Vec<(PageFault, Reply)>,
    end: Result<Interrupt, Misuse>,
}

/// What came of an answer.
#[derive(Debug, Clone, PartialEq)]
enum Reply {
    Retry,
    Refuse,
    Later,
    Failed(Misuse),
}

/// Does what the answer says.
fn reply(space: &mut impl Space, fault: &PageFault, answer: Answer, stencils: &[Stencil]) -> Reply {
    let page = fault.page();
    let done = match answer {
        Answer::Zero(pages, to) => {
            let around = space.absent_around(fault.address, pages);
            space.map_zero(around.start, around.end - around.start, to)
        }
        Answer::Data(bytes, seed, to) => space.map_data(page, &pattern(seed, bytes), to),
        Answer::Template(which, to) => {
            space.map_template(page, &stencils[which % stencils.len()], to)
        }
        Answer::Guard => space.guard(page, PAGE_BYTES),
        Answer::Again => Ok(()),
        Answer::Refuse => return Reply::Refuse,
        Answer::Later => return Reply::Later,
    };
    done.map_or_else(Reply::Failed, |()| Reply::Retry)
}

fn is_limit(misuse: &Misuse) -> bool {
    matches!(
        misuse,
        Misuse::MemoryLimit { .. } | Misuse::EngineMemoryLimit { .. }
    )
}

/// What the model says of a run, and where the guest is then.
pub(super) fn foretell(
    map: &mut Map,
    mut run: Run,
    dynamic: bool,
    answers: &Answers,
    stencils: &[Stencil],
) -> (Episode, At) {
    let mut rest = answers.list.iter();
    let mut faults = Vec::new();
    let mut next = || *rest.next().unwrap_or(&Answer::Later);
    let (end, at) = 'run: loop {
        let trap = match run.go_on(map) {
            Halt::Finished(value) => break (Ok(Interrupt::Finished(value)), At::Rest),
            Halt::Hostcall(number, first) => {
                break (Ok(hostcall(number, first)), At::Hostcall(run));
            }
            Halt::Absent(trap) if dynamic => trap,
            Halt::Absent(trap) | Halt::Trap(trap) => break (Ok(Interrupt::Trap(trap)), At::Rest),
        };
        let fault = fault_of(&trap);
        loop {
            let reply = reply(map, &fault, next(), stencils);
            faults.push((fault, reply.clone()));
            let end = match reply {
                Reply::Retry => continue 'run,
                Reply::Refuse => break 'run (Ok(Interrupt::Trap(trap)), At::Rest),
                Reply::Later => Ok(Interrupt::PageFault(fault)),
                Reply::Failed(_) if !answers.by_pager => continue,
                Reply::Failed(misuse) if is_limit(&misuse) => Ok(Interrupt::OutOfMemory(fault)),
                Reply::Failed(misuse) => Err(misuse),
            };
            break 'run (end, At::Fault(run, trap));
        }
    };
    (Episode { faults, end }, at)
}

fn fault_of(trap: &Trap) -> PageFault {
    PageFault {
        address: trap.address.expect("an address"),
        access: trap.access.expect("an access"),
        pc: trap.pc.expect("an instruction"),
    }
}

/// The other arguments are what happens to be in their registers.
fn hostcall(number: u32, first: u64) -> Interrupt {
    let args = [first, 0, 0, 0, 0, 0];
    Interrupt::Hostcall(Hostcall { number, args })
}

/// Runs the guest.
pub(super) fn play(instance: &mut Instance, answers: &Answers, stencils: &[Stencil]) -> Episode {
    let (faults, end) = if answers.by_pager {
        play_by_pager(instance, answers, stencils)
    } else {
        let mut faults = Vec::new();
        let end = play_by_caller(instance, answers, stencils, &mut faults);
        (faults, end)
    };
    let end = end.map(|interrupt| match interrupt {
        Interrupt::Hostcall(call) => hostcall(call.number, call.args[0]),
        other => other,
    });
    Episode { faults, end }
}

fn play_by_caller(
    instance: &mut Instance,
    answers: &Answers,
    stencils: &[Stencil],
    faults: &mut Vec<(PageFault, Reply)>,
) -> Result<Interrupt, Misuse> {
    let mut rest = answers.list.iter();
    'run: loop {
        let fault = match misuse(instance.run(), Stage::Run)? {
            Interrupt::PageFault(fault) => fault,
            other => return Ok(other),
        };
        loop {
            let answer = *rest.next().unwrap_or(&Answer::Later);
            let reply = reply(instance, &fault, answer, stencils);
            faults.push((fault, reply.clone()));
            match reply {
                Reply::Retry => continue 'run,
                Reply::Refuse => {
                    return misuse(instance.refuse_fault(), Stage::Run).map(Interrupt::Trap);
                }
                Reply::Later => return Ok(Interrupt::PageFault(fault)),
                Reply::Failed(_) => {}
            }
        }
    }
}

fn play_by_pager(
    instance: &mut Instance,
    answers: &Answers,
    stencils: &[Stencil],
) -> (Vec<(PageFault, Reply)>, Result<Interrupt, Misuse>) {
    let mut rest: VecDeque<Answer> = answers.list.iter().copied().collect();
    let faults = Arc::new(Mutex::new(Vec::new()));
    let (stencils, seen) = (stencils.to_vec(), Arc::clone(&faults));
    instance.set_pager(move |fault: &PageFault, instance: &mut Instance| {
        let answer = rest.pop_front().unwrap_or(Answer::Later);
        let reply = reply(instance, fault, answer, &stencils);
        seen.lock().unwrap().push((*fault, reply.clone()));
        match reply {
            Reply::Retry => Ok(Paged::Retry),
            Reply::Refuse => Ok(Paged::Refuse),
            Reply::Later => Ok(Paged::Later),
            Reply::Failed(misuse) => Err(Error {
                stage: Stage::Memory,
                blame: Blame::Caller(misuse),
            }),
        }
    });
    let end = misuse(instance.run(), Stage::Memory);
    instance.clear_pager();
    let faults = faults.lock().unwrap().clone();
    (faults, end)
}
