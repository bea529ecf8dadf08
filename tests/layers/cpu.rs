//! The CPU: its counter, speculation, cores; and the door to the kernel.

use cellwall::{Errno, Layer, Signal};
use linux_raw::sys::{general as sys, prctl};

use crate::attack::Attack;
use crate::files::DOMAIN_AS_USER;
use crate::worker::{Attempt, Stop, Worker, seen};

const REFUSED: Stop = Stop::Refused(Errno::EPERM);

pub(crate) const ATTACKS: &[Attack] = &[
    forbidden("asks for its number", |worker| {
        worker.call(sys::__NR_getpid, &[]).map(drop)
    }),
    forbidden("makes a file", |worker| {
        let name = worker.text("name");
        worker.call(sys::__NR_memfd_create, &[name, 0]).map(drop)
    }),
    Attack::new(
        Layer::TimestampCounter,
        "reads the CPU's counter",
        |worker| worker.read_counter().map(drop),
        Stop::Killed(Signal::SEGV),
    )
    .config(|config| config.timestamp_counter(false)),
    Attack::new(
        Layer::StoreBypass,
        "turns speculative store bypass on",
        |worker| enable(worker, prctl::PR_SPEC_STORE_BYPASS),
        REFUSED,
    )
    .beside(|worker| disable(worker, prctl::PR_SPEC_INDIRECT_BRANCH)),
    Attack::new(
        Layer::IndirectBranch,
        "turns indirect-branch speculation on",
        |worker| enable(worker, prctl::PR_SPEC_INDIRECT_BRANCH),
        REFUSED,
    )
    .beside(|worker| disable(worker, prctl::PR_SPEC_STORE_BYPASS)),
    Attack::new(
        Layer::CoreScheduling,
        "shares a core with others",
        share_core,
        Stop::NoEffect,
    )
    .config(|config| config.core_scheduling(true)),
];

const fn forbidden(what: &'static str, attempt: fn(&mut Worker) -> Attempt) -> Attack {
    Attack::new(Layer::SystemCalls, what, attempt, Stop::Forbidden).needs(&[], DOMAIN_AS_USER)
}

fn speculation(worker: &mut Worker, kind: u32, state: u32) -> Attempt {
    let args = [
        prctl::PR_SET_SPECULATION_CTRL.into(),
        kind.into(),
        state.into(),
        0,
        0,
    ];
    worker.call(sys::__NR_prctl, &args)?;
    Ok(())
}

fn enable(worker: &mut Worker, kind: u32) -> Attempt {
    speculation(worker, kind, prctl::PR_SPEC_ENABLE)
}

/// Where the CPU has it: the layer beside may be absent.
fn disable(worker: &mut Worker, kind: u32) {
    let _ = speculation(worker, kind, prctl::PR_SPEC_FORCE_DISABLE);
}

/// Without a cookie of its own, or with a kernel that has none, it does.
fn share_core(worker: &mut Worker) -> Attempt {
    let cookie = worker.put(&[0; 8]);
    let args = [
        prctl::PR_SCHED_CORE.into(),
        prctl::PR_SCHED_CORE_GET.into(),
        0,
        prctl::PR_SCHED_CORE_SCOPE_THREAD.into(),
        cookie,
    ];
    match worker.call(sys::__NR_prctl, &args) {
        Ok(_) => seen(worker.load(cookie)? == 0),
        Err(Stop::Refused(_)) => Ok(()),
        Err(stop) => Err(stop),
    }
}
