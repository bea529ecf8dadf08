//! A thread whose calls on guest memory a supervisor counts, and one of which it makes fail.
//!
//! The supervised thread may wait for an answer in the middle of the allocator, so the supervisor
//! allocates nothing; and locks are futexes, which pass.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use cellwall::Errno;
use linux_raw::io::{PollFd, PollFlags, poll};
use linux_raw::mm::Advice;
use linux_raw::nr::{self, Nr};
use linux_raw::seccomp::notify::{self, Notification, Response};
use linux_raw::seccomp::{
    InstallFlags, Program, Rule, compile_notifying, install_with_listener, length_notifying,
};
use linux_raw::sys::general::{__NR_exit, MAP_SHARED};
use linux_raw::sys::ioctl;
use linux_raw::time::Timespec;
use linux_raw::{AsFd, OwnedFd, prctl};

const PASSED: &[Rule] = &[
    Rule {
        call: nr::FUTEX,
        when: &[],
        why: "turns and locks wait by it",
    },
    Rule {
        call: nr::SCHED_YIELD,
        when: &[],
        why: "turns wait by it; it cannot fail",
    },
    Rule {
        call: nr::EXIT_GROUP,
        when: &[],
        why: "the end of whoever has failed",
    },
    Rule {
        call: Nr::from_raw(__NR_exit),
        when: &[],
        why: "the end of a thread, which does not expect an answer",
    },
];
static FILTER: Program<{ length_notifying(PASSED) }> = compile_notifying(PASSED);

/// How long it is quiet before the supervisor looks whether the test is over.
const QUIET: Duration = Duration::from_millis(100);

/// What becomes of a call on guest memory.
pub(super) struct Supervised {
    listener: OnceLock<OwnedFd>,
    /// Which of them fails, counted from 0, and with what.
    failing: AtomicUsize,
    errno: AtomicU32,
    /// How many there were.
    seen: AtomicUsize,
    /// The one that failed: number and second argument.
    struck: [AtomicU64; 2],
    /// Whether a new mapping is being made, which is unlocked, then opened.
    unlocked: AtomicU64,
}

impl Supervised {
    /// Does it, with the call of this number failing. Gives the name of that call, unless there
    /// were fewer.
    pub(super) fn failing<T>(
        &self,
        number: usize,
        errno: Errno,
        body: impl FnOnce() -> T,
    ) -> (T, Option<&'static str>) {
        self.seen.store(0, SeqCst);
        self.errno.store(errno.raw().into(), SeqCst);
        self.failing.store(number, SeqCst);
        let result = body();
        self.failing.store(usize::MAX, SeqCst);
        let [number_of_call, request] = self.struck.each_ref().map(|word| word.load(SeqCst));
        let struck = self.seen.load(SeqCst) > number;
        let nr = Nr::from_raw(u32::try_from(number_of_call).expect("a call's number"));
        (result, struck.then(|| name(nr, request)))
    }

    fn answer(&self, asked: &Notification) -> Response {
        let call = Nr::from_raw(asked.data.nr);
        let args = asked.data.args;
        if !self.counts(call, &args) || self.failing.load(SeqCst) == usize::MAX {
            return Response::Continue;
        }
        if self.seen.fetch_add(1, SeqCst) != self.failing.load(SeqCst) {
            return Response::Continue;
        }
        self.struck[0].store(asked.data.nr.into(), SeqCst);
        self.struck[1].store(args[1], SeqCst);
        let errno = u16::try_from(self.errno.load(SeqCst)).ok();
        errno
            .and_then(Errno::from_raw)
            .map_or(Response::Continue, Response::Errno)
    }

    /// Calls that make or change something; those of the allocator are none of ours, and a failure
    /// of one that only takes something away is nobody's loss.
    fn counts(&self, call: Nr, args: &[u64; 6]) -> bool {
        let advice = [Advice::DontDump, Advice::DontFork].map(|advice| advice as u64);
        match call {
            nr::MMAP => args[3] & u64::from(MAP_SHARED) != 0,
            nr::MADVISE => advice.contains(&args[2]),
            nr::MUNLOCK => {
                self.unlocked.store(args[0], SeqCst);
                true
            }
            nr::MPROTECT => self.unlocked.swap(0, SeqCst) == args[0],
            nr::IOCTL => name(call, args[1]).starts_with("UFFDIO"),
            call => OTHERS.contains(&call),
        }
    }
}

const OTHERS: [Nr; 10] = [
    nr::FALLOCATE,
    nr::PWRITE64,
    nr::FTRUNCATE,
    nr::MEMFD_CREATE,
    nr::LSEEK,
    nr::FSTAT,
    nr::FCNTL,
    nr::OPENAT,
    nr::GETRANDOM,
    nr::PRLIMIT64,
];

/// What errors call it.
fn name(call: Nr, request: u64) -> &'static str {
    const REQUESTS: [(u32, &str); 6] = [
        (ioctl::UFFDIO_REGISTER, "UFFDIO_REGISTER"),
        (ioctl::UFFDIO_UNREGISTER, "UFFDIO_UNREGISTER"),
        (ioctl::UFFDIO_COPY, "UFFDIO_COPY"),
        (ioctl::UFFDIO_ZEROPAGE, "UFFDIO_ZEROPAGE"),
        (ioctl::UFFDIO_CONTINUE, "UFFDIO_CONTINUE"),
        (ioctl::UFFDIO_WRITEPROTECT, "UFFDIO_WRITEPROTECT"),
    ];
    let mut requests = REQUESTS.iter();
    let named = requests.find(|(number, _)| call == nr::IOCTL && u64::from(*number) == request);
    named.map_or(call.name(), |(_, name)| *name)
}

/// Runs `body` on a thread of its own, which is supervised. Engines are best made before: their own
/// threads are not.
pub(super) fn supervised(body: impl FnOnce(&Supervised) + Send) {
    let shared = Supervised {
        listener: OnceLock::new(),
        failing: AtomicUsize::new(usize::MAX),
        errno: AtomicU32::new(0),
        seen: AtomicUsize::new(0),
        struck: [const { AtomicU64::new(0) }; 2],
        unlocked: AtomicU64::new(0),
    };
    let (shared, begun) = (&shared, std::sync::Barrier::new(2));
    std::thread::scope(|scope| {
        let test = scope.spawn(|| {
            prctl::set_no_new_privs().expect("no_new_privs");
            begun.wait();
            let flags = InstallFlags::empty();
            let listener = install_with_listener(FILTER.as_slice(), flags);
            let given = shared.listener.set(listener.expect("a listener"));
            assert!(given.is_ok(), "one thread is supervised");
            body(shared);
        });
        begun.wait();
        let listener = shared.listener.wait();
        loop {
            let mut ready = [PollFd::new(listener.as_fd(), PollFlags::IN)];
            match poll(&mut ready, Some(Timespec::from(QUIET))) {
                Ok(0) if test.is_finished() => return,
                Ok(0) | Err(_) => continue,
                Ok(_) => {}
            }
            let [ready] = ready;
            if !ready.found().contains(PollFlags::IN) {
                return; // hung up: nobody is left to ask
            }
            if let Ok(asked) = notify::receive(listener) {
                // ENOENT: whoever asked has been killed.
                let _ = notify::respond(listener, asked.id, shared.answer(&asked));
            }
        }
    });
}
