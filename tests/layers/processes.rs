//! The process among others: limits, signals, standing.

use std::fs;

use cellwall::{Errno, Layer, Signal};
use linux_raw::sys::general as sys;

use crate::attack::Attack;
use crate::host::stat;
use crate::worker::{Attempt, CONSTANTS, SPARE_PAGE, Stop, Worker, seen};

/// No limit on processes holds for kernel user 0, and no limit at all for who may raise it.
const NOT_ROOT: &[Layer] = &[Layer::UserId];

/// The slot of the guest's memory (`vmctx/src/slots.rs`).
const MEMORY: u64 = 2;
const PAGE: u64 = cellwall::abi::PAGE_BYTES;
/// Unlike any nice value that tests are run with.
const NICE: i32 = 7;

pub(crate) const ATTACKS: &[Attack] = &[
    limit("forks", fork, Errno::EAGAIN),
    limit("opens a file", open, Errno::EMFILE),
    limit("makes a memory file", make_file, Errno::EMFILE),
    limit("maps memory", map, Errno::ENOMEM),
    limit("locks memory", lock, Errno::EPERM),
    limit("queues a signal", queue, Errno::EAGAIN),
    limit("raises a limit", raise, Errno::EPERM),
    // And SIGXFSZ, which is blocked without the layer of signals.
    limit("writes to a file", write, Errno::EFBIG),
    Attack::new(
        Layer::Signals,
        "blocks a request to end, as the host's thread does",
        end,
        Stop::Killed(Signal::TERM),
    ),
    Attack::new(
        Layer::Signals,
        "ignores what the host ignores",
        ignore,
        Stop::NoEffect,
    ),
    Attack::new(
        Layer::Standing,
        "is in the host's session and group",
        share_session,
        Stop::NoEffect,
    ),
    Attack::new(
        Layer::Standing,
        "has the host's nice value",
        share_nice,
        Stop::NoEffect,
    )
    .config(|config| config.nice(NICE)),
    Attack::new(
        Layer::Standing,
        "runs on all of the host's CPUs",
        share_cpus,
        Stop::NoEffect,
    )
    .config(|config| config.cpus(&[first_cpu()])),
];

const fn limit(what: &'static str, attempt: fn(&mut Worker) -> Attempt, errno: Errno) -> Attack {
    Attack::new(Layer::Limits, what, attempt, Stop::Refused(errno)).needs(NOT_ROOT, &[])
}

pub(crate) fn fork(worker: &mut Worker) -> Attempt {
    worker.call(sys::__NR_fork, &[])?;
    Ok(())
}

fn open(worker: &mut Worker) -> Attempt {
    worker.open("/", sys::O_PATH).map(drop)
}

fn make_file(worker: &mut Worker) -> Attempt {
    let name = worker.text("name");
    worker.call(sys::__NR_memfd_create, &[name, 0])?;
    Ok(())
}

fn map(worker: &mut Worker) -> Attempt {
    let flags = (sys::MAP_PRIVATE | sys::MAP_ANONYMOUS).into();
    let protection = sys::PROT_READ.into();
    worker.call(sys::__NR_mmap, &[0, PAGE, protection, flags, u64::MAX, 0])?;
    Ok(())
}

fn lock(worker: &mut Worker) -> Attempt {
    worker.call(sys::__NR_mlock, &[CONSTANTS, PAGE])?;
    Ok(())
}

/// A real-time signal to itself; with the handlers of no layer it is blocked.
fn queue(worker: &mut Worker) -> Attempt {
    const FROM_QUEUE: i32 = -1;
    const REALTIME: u32 = 40;
    let process = worker.call(sys::__NR_getpid, &[])?;
    // A `struct siginfo`: the number, an errno, where it comes from.
    let mut info = [0; 128];
    info[..4].copy_from_slice(&REALTIME.to_le_bytes());
    info[8..12].copy_from_slice(&FROM_QUEUE.to_le_bytes());
    let info = worker.put(&info);
    worker.call(sys::__NR_rt_sigqueueinfo, &[process, REALTIME.into(), info])?;
    Ok(())
}

/// That on core dumps: with the layer both of its values are 0.
fn raise(worker: &mut Worker) -> Attempt {
    let limits = worker.put_words(&[1, 1]);
    worker.call(sys::__NR_setrlimit, &[sys::RLIMIT_CORE.into(), limits])?;
    Ok(())
}

fn write(worker: &mut Worker) -> Attempt {
    let bytes = worker.put(b"x");
    worker.call(sys::__NR_pwrite64, &[MEMORY, bytes, 1, SPARE_PAGE])?;
    Ok(())
}

fn end(worker: &mut Worker) -> Attempt {
    let process = worker.call(sys::__NR_getpid, &[])?;
    let signal = Signal::TERM.raw().into();
    worker.call(sys::__NR_tgkill, &[process, process, signal])?;
    Ok(())
}

/// Every Rust program ignores `SIGPIPE`.
fn ignore(worker: &mut Worker) -> Attempt {
    const IGNORED: u64 = 1;
    let action = worker.put(&[0; 32]);
    let signal = Signal::PIPE.raw().into();
    worker.call(sys::__NR_rt_sigaction, &[signal, 0, action, 8])?;
    seen(worker.load(action)? == IGNORED)
}

fn share_session(worker: &mut Worker) -> Attempt {
    const GROUP: usize = 5;
    const SESSION: usize = 6;
    let group = worker.call(sys::__NR_getpgid, &[0])?;
    let session = worker.call(sys::__NR_getsid, &[0])?;
    assert_eq!(group == stat(GROUP), session == stat(SESSION));
    seen(session == stat(SESSION))
}

fn share_nice(worker: &mut Worker) -> Attempt {
    // The system call answers 20 less it (getpriority(2)).
    let nice = 20 - worker.call(sys::__NR_getpriority, &[0, 0])?.cast_signed();
    let host = linux_raw::scheduling::nice().expect("our own");
    assert!(nice == host.into() || nice == NICE.into(), "{nice}");
    seen(nice == host.into())
}

fn share_cpus(worker: &mut Worker) -> Attempt {
    let into = worker.put(&[0; 128]);
    worker.call(sys::__NR_sched_getaffinity, &[0, 128, into])?;
    let bytes = worker.get(into, 128);
    let count = |bytes: &[u8]| bytes.iter().map(|byte| byte.count_ones()).sum::<u32>();
    let all = std::thread::available_parallelism().expect("CPUs").get();
    if all == 1 {
        absence::absent("two-cpus", all);
        return seen(worker.layers().standing(Layer::Standing) != cellwall::Standing::InForce);
    }
    seen(count(&bytes) > 1)
}

/// The lowest CPU that this process may run on.
fn first_cpu() -> usize {
    let text = fs::read_to_string("/proc/self/status").expect("/proc");
    let list = text
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let first = list.expect("CPUs").trim().split(['-', ',']).next();
    first.and_then(|number| number.parse().ok()).expect("a CPU")
}
