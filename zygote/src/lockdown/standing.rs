//! Nothing of the host's standing is inherited: terminal, priority, CPUs, favour of the OOM killer.

use core::sync::atomic::Ordering::Relaxed;

use linux_raw::called::{Called as _, Failed};
use linux_raw::io::{self, OpenFlags};
use linux_raw::scheduling::{self, Policy};
use linux_raw::{Errno, nr, prctl, process};
use vmctx::Options;
use vmctx::host_page::CPU_WORDS;

use super::Wall;
use super::lacking::has;
use crate::boot::host_page;

/// The process' own score for the OOM killer (proc_pid_oom_score_adj(5)).
const OOM_SCORE: &core::ffi::CStr = c"/proc/self/oom_score_adj";

pub(super) fn give_up(wall: &mut Wall) -> Result<(), Failed> {
    // No terminal and no job control reach us.
    process::setsid().called(nr::SETSID)?;
    schedule_as_told()?;
    if wall.has(Options::RAISE_OOM_SCORE) {
        die_before_others()?;
    }
    keep_pages_apart()?;
    // What `ps` shows.
    prctl::set_name(c"cellwall-worker").called(nr::PRCTL)
}

/// Takes the normal policy, and the nice value and CPUs of the host page. What is so already stays:
/// asking costs a tenth of setting.
fn schedule_as_told() -> Result<(), Failed> {
    let policy = scheduling::policy().called(nr::SCHED_GETSCHEDULER)?;
    // A host that only runs when nobody else does may have workers that do so too: leaving that
    // policy would take a privilege.
    if policy != Policy::IDLE && policy != Policy::NORMAL {
        scheduling::set_normal().called(nr::SCHED_SETSCHEDULER)?;
    }
    let page = host_page();
    let nice = page.nice.load(Relaxed).cast_signed();
    if scheduling::nice().called(nr::GETPRIORITY)? != nice {
        scheduling::set_nice(nice).called(nr::SETPRIORITY)?;
    }
    let mut wanted = [0; CPU_WORDS];
    for (word, shared) in wanted.iter_mut().zip(&page.cpus) {
        *word = shared.load(Relaxed);
    }
    let mut found = [0; CPU_WORDS];
    scheduling::get_affinity(None, &mut found).called(nr::SCHED_GETAFFINITY)?;
    // Word by word: comparing the arrays would want a `bcmp`.
    if found
        .iter()
        .zip(&wanted)
        .any(|(found, wanted)| found != wanted)
    {
        scheduling::set_affinity(&wanted).called(nr::SCHED_SETAFFINITY)?;
    }
    Ok(())
}

/// A host whose pages are merged with equal ones of others hands that on: then a guest could tell
/// by the time of a write what is in their memory.
fn keep_pages_apart() -> Result<(), Failed> {
    let set = prctl::set_memory_merge(false);
    let keeps_apart = prctl::get_memory_merge().map(|merges| !merges);
    // A kernel that has no such switch merges nothing that did not ask for it.
    has(set, keeps_apart, Errno::EINVAL)
        .map(drop)
        .called(nr::PRCTL)
}

/// A host that the OOM killer spares has workers that it does not spare. The host has looked, and
/// asks only then; one that the OOM killer likes has workers that it likes as much. After the exec,
/// since before it the file would change the host too, whose memory we then share.
fn die_before_others() -> Result<(), Failed> {
    let file = io::open(OOM_SCORE, OpenFlags::WRONLY | OpenFlags::CLOEXEC).called(nr::OPENAT)?;
    match io::write(&file, b"0").called(nr::WRITE)? {
        1 => Ok(()),
        _ => Err(Failed(nr::WRITE, Errno::EIO)),
    }
}
