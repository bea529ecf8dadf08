//! What is shared with the host: descriptors, the module's code, the host page.

use cellwall::abi::{CODE_WINDOW, PAGE_BYTES};
use cellwall::{Config, Errno, Layer, Signal};
use linux_raw::sys::general as sys;

use crate::attack::{ALWAYS, Attack};
use crate::memory::protect;
use crate::worker::{Attempt, CONSTANTS, DATA, SPARE_PAGE, Stop, Worker};

const READ: u64 = sys::PROT_READ as u64;
const WRITE: u64 = sys::PROT_WRITE as u64;
const NO_DESCRIPTOR: Stop = Stop::Refused(Errno::EBADF);

/// The slots (`vmctx/src/slots.rs`), open until the last steps.
const HOST_PAGE: u64 = 0;
const SHARED_PAGES: u64 = 1;
const MEMORY: u64 = 2;
const MODULE: u64 = 3;
const HOST_PIDFD: u64 = 4;

/// The host page is the one before the turn page (docs/abi.md).
const HOST_PAGE_ADDRESS: u64 = vmctx::map::HOST_PAGE.start;

pub(crate) const ATTACKS: &[Attack] = &[
    descriptors("writes the guest's memory by its descriptor", |worker| {
        let bytes = worker.put(b"x");
        worker.call(sys::__NR_pwrite64, &[MEMORY, bytes, 1, SPARE_PAGE])?;
        Ok(())
    }),
    descriptors("asks the host's pidfd for a signal", |worker| {
        worker.call(sys::__NR_pidfd_send_signal, &[HOST_PIDFD, 0, 0, 0])?;
        Ok(())
    }),
    descriptors("has any descriptor at all", |worker| {
        let get_flags = sys::F_GETFD.into();
        let mut last = Err(NO_DESCRIPTOR);
        for number in 0..1024 {
            match worker.call(sys::__NR_fcntl, &[number, get_flags]) {
                Ok(_) => return Ok(()),
                Err(stop) => last = Err(stop),
            }
        }
        last
    }),
];

const fn descriptors(what: &'static str, attempt: fn(&mut Worker) -> Attempt) -> Attack {
    Attack::new(Layer::Descriptors, what, attempt, NO_DESCRIPTOR)
}

fn bare() -> Worker {
    Worker::start(&Config::default(), &ALWAYS).expect("a worker without layers")
}

/// A page that may be written once may be made so again: what is refused below is refused for the
/// file behind it.
fn may_be_protected(worker: &mut Worker) {
    assert_eq!(protect(worker, SPARE_PAGE, READ), Ok(()));
    assert_eq!(protect(worker, SPARE_PAGE, READ | WRITE), Ok(()));
}

/// Opens what a descriptor stands for once more, for writing.
pub(crate) fn reopen(worker: &mut Worker, slot: u64) -> Result<u64, Stop> {
    worker.open(format!("/proc/self/fd/{slot}"), sys::O_RDWR)
}

/// `write-xor-execute`, with nothing else.
#[test]
fn code_stays_as_it_is() {
    let refused = Err(Stop::Refused(Errno::EACCES));
    for page in [CODE_WINDOW.start, CONSTANTS] {
        let mut worker = bare();
        may_be_protected(&mut worker);
        assert_eq!(protect(&mut worker, page, READ | WRITE), refused);
        let bytes = worker.put(b"x");
        let by_slot = worker.call(sys::__NR_pwrite64, &[MODULE, bytes, 1, 0]);
        assert_eq!(by_slot, Err(Stop::Refused(Errno::EBADF)));
        // The module is sealed: a descriptor that can write it may be had, and does not.
        let file = reopen(&mut worker, MODULE).expect("a file of our user's");
        let written = worker.call(sys::__NR_pwrite64, &[file, bytes, 1, 0]);
        assert_eq!(written, Err(Stop::Refused(Errno::EPERM)));
        let stored = worker.store(page, 0);
        assert_eq!(stored, Err(Stop::Killed(Signal::SEGV)));
    }
}

/// `shared-words`, with nothing else.
#[test]
fn orders_stay_the_host_s() {
    let mut worker = bare();
    may_be_protected(&mut worker);
    let refused = Err(Stop::Refused(Errno::EACCES));
    assert_eq!(
        protect(&mut worker, HOST_PAGE_ADDRESS, READ | WRITE),
        refused
    );
    let bytes = worker.put(b"x");
    let by_slot = worker.call(sys::__NR_pwrite64, &[HOST_PAGE, bytes, 1, 0]);
    assert_eq!(by_slot, Err(Stop::Refused(Errno::EBADF)));
    for slot in [HOST_PAGE, SHARED_PAGES, MEMORY, MODULE] {
        for bytes in [0, 1 << 40] {
            let answer = worker.call(sys::__NR_ftruncate, &[slot, bytes]);
            assert!(answer.is_err(), "slot {slot}: {answer:?}");
        }
        let punch = u64::from(sys::FALLOC_FL_PUNCH_HOLE | sys::FALLOC_FL_KEEP_SIZE);
        if [HOST_PAGE, MODULE].contains(&slot) {
            let answer = worker.call(sys::__NR_fallocate, &[slot, punch, 0, PAGE_BYTES]);
            assert!(answer.is_err(), "slot {slot}: {answer:?}");
        }
    }
    // Its file can be opened anew through /proc, by its owner for writing too: the seal does not
    // care.
    let file = reopen(&mut worker, HOST_PAGE).expect("a file of our user's");
    let sealed = Stop::Refused(Errno::EPERM);
    let written = worker.call(sys::__NR_pwrite64, &[file, bytes, 1, 0]);
    assert_eq!(written, Err(sealed));
    let args = [0, PAGE_BYTES, READ | WRITE, sys::MAP_SHARED.into(), file, 0];
    assert_eq!(worker.call(sys::__NR_mmap, &args), Err(sealed));
    let stored = worker.store(HOST_PAGE_ADDRESS, 0);
    assert_eq!(stored, Err(Stop::Killed(Signal::SEGV)));
    // The control: the same store where the worker may.
    assert!(bare().store(DATA + 0x80, 0).is_ok());
}
