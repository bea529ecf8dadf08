#![expect(unsafe_code, reason = "clones and execs")]
//! Children: made, exec'd, watched, signalled, reaped.

use core::ffi::c_void;
use core::mem::MaybeUninit;
use core::ptr::{NonNull, null, null_mut};
use core::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::ffi::CString;
use std::fs;
use std::time::{Duration, Instant};

use linux_raw::eventfd::{EventfdFlags, add, eventfd, take};
use linux_raw::fd::OwnedFd;
use linux_raw::io::{OpenFlags, PollFd, PollFlags, open, poll, write};
use linux_raw::memfd::{MemfdFlags, memfd_create};
use linux_raw::pidfd::{
    PidfdFlags, WaitFlags, WaitStatus, pidfd_getfd, pidfd_open, pidfd_send_signal, waitid_any,
    waitid_pidfd,
};
use linux_raw::process::{
    AtFlags, CloneArgs, CloneFlags, Pid, Stack, clone_copy, clone_vm, execveat, exit_group, getpid,
    getppid, sched_yield, setsid,
};
use linux_raw::signal::{MaskHow, SigSet, Signal, sigprocmask};
use linux_raw::time::Timespec;
use linux_raw::{AsFd, BorrowedFd, Errno, futex};

use crate::child::{holds, in_child, must, start};

/// A static program of 16 bytes of code: `exit_group(42)`.
#[rustfmt::skip]
const PROGRAM: [u8; 132] = [
    // ELF header: 64-bit, little-endian, executable, x86-64, entry 0x10078, one program header.
    0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    2, 0, 62, 0, 1, 0, 0, 0, 0x78, 0, 1, 0, 0, 0, 0, 0,
    64, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 64, 0, 56, 0, 1, 0, 64, 0, 0, 0, 0, 0,
    // Program header: load the whole file at 0x10000, read and execute.
    1, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0,
    132, 0, 0, 0, 0, 0, 0, 0, 132, 0, 0, 0, 0, 0, 0, 0,
    0, 16, 0, 0, 0, 0, 0, 0,
    // mov edi, 42; mov eax, 231; syscall
    0xbf, 42, 0, 0, 0, 0xb8, 231, 0, 0, 0, 0x0f, 0x05,
];

/// A stack for a child that shares this memory.
pub(crate) struct ChildStack(Box<[MaybeUninit<u8>]>);

impl ChildStack {
    pub(crate) fn new() -> Self {
        Self(Box::new_uninit_slice(64 * 1024))
    }

    pub(crate) fn as_stack(&mut self) -> Stack {
        Stack {
            base: NonNull::new(self.0.as_mut_ptr().cast()).unwrap(),
            bytes: self.0.len(),
        }
    }
}

fn wait(pidfd: &OwnedFd) -> WaitStatus {
    waitid_pidfd(pidfd, WaitFlags::default()).unwrap().unwrap()
}

/// Ends with the code that `data` points to, and counts it up for the parent to see.
pub(crate) extern "C" fn exit_with(data: *mut c_void) -> ! {
    // SAFETY: the tests pass a word that outlives the child.
    let word = unsafe { &*data.cast::<AtomicU32>() };
    exit_group(word.fetch_add(1, SeqCst).cast_signed())
}

/// Execs the memory file whose descriptor `data` points to.
extern "C" fn exec(data: *mut c_void) -> ! {
    // SAFETY: the test passes a descriptor that outlives the exec.
    let program = unsafe { &*data.cast::<OwnedFd>() };
    let none = [null()];
    // SAFETY: the lists end with their null pointer.
    let errno = unsafe {
        execveat(
            program,
            c"",
            none.as_ptr(),
            none.as_ptr(),
            AtFlags::EMPTY_PATH,
        )
    };
    exit_group(100 + i32::from(errno.raw()))
}

/// Sleeps until it is killed.
extern "C" fn sleep(_: *mut c_void) -> ! {
    let word = AtomicU32::new(0);
    loop {
        let _ = futex::wait(&word, 0, None);
    }
}

/// Clones with signals blocked, as sharing memory wants it.
fn clone_shared(
    args: &CloneArgs<'_>,
    stack: &mut ChildStack,
    entry: extern "C" fn(*mut c_void) -> !,
    data: *mut c_void,
) -> linux_raw::process::Cloned {
    let old = sigprocmask(MaskHow::Set, &SigSet::FULL).unwrap();
    // SAFETY: the entries above touch no thread-local variable and allocate nothing; the tests
    // keep the stack and the data until the child has ended or exec'd.
    let child = unsafe { clone_vm(args, stack.as_stack(), entry, data) };
    sigprocmask(MaskHow::Set, &old).unwrap();
    child.unwrap()
}

#[test]
fn a_vfork_child_shares_memory_and_stops_its_parent() {
    let word = AtomicU32::new(7);
    let mut stack = ChildStack::new();
    let args = CloneArgs {
        flags: CloneFlags::PIDFD | CloneFlags::VFORK | CloneFlags::CLEAR_SIGHAND,
        exit_signal: Some(Signal::CHLD),
        ..CloneArgs::default()
    };
    let child = clone_shared(&args, &mut stack, exit_with, word.as_ptr().cast());
    assert_eq!(
        word.load(SeqCst),
        8,
        "the parent ran before the child ended"
    );
    assert_eq!(wait(&child.pidfd.unwrap()), WaitStatus::Exited(7));
}

#[test]
fn a_cleared_word_says_that_the_child_has_execed() {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::EXEC;
    let program = memfd_create(c"exit-42", flags)
        .or_else(|_| memfd_create(c"exit-42", MemfdFlags::CLOEXEC)) // before Linux 6.3
        .unwrap();
    assert_eq!(write(&program, &PROGRAM), Ok(PROGRAM.len()));
    let cleared = AtomicU32::new(1);
    let mut stack = ChildStack::new();
    let args = CloneArgs {
        flags: CloneFlags::PIDFD,
        exit_signal: Some(Signal::CHLD),
        cleared: Some(&cleared),
        ..CloneArgs::default()
    };
    let data = (&raw const program).cast_mut().cast();
    let child = clone_shared(&args, &mut stack, exec, data);
    while cleared.load(SeqCst) == 1 {
        match futex::wait(&cleared, 1, Some(Timespec::from_millis(10_000))) {
            Ok(()) | Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(errno) => panic!("the child never left this memory: {errno}"),
        }
    }
    assert_eq!(wait(&child.pidfd.unwrap()), WaitStatus::Exited(42));
}

#[test]
fn a_copied_child_has_its_own_memory() {
    let word = AtomicU32::new(9);
    let pidfd = start(exit_with, word.as_ptr().cast());
    assert_eq!(wait(&pidfd), WaitStatus::Exited(9));
    assert_eq!(word.load(SeqCst), 9);
    let mut stack = ChildStack::new();
    let args = CloneArgs {
        flags: CloneFlags::PIDFD,
        exit_signal: Some(Signal::CHLD),
        ..CloneArgs::default()
    };
    // SAFETY: the entry takes no lock and ends in `exit_group`.
    let child = unsafe {
        clone_copy(
            &args,
            Some(stack.as_stack()),
            exit_with,
            word.as_ptr().cast(),
        )
    };
    assert_eq!(wait(&child.unwrap().pidfd.unwrap()), WaitStatus::Exited(9));
    let shared = CloneArgs {
        flags: CloneFlags::VM,
        ..args
    };
    // SAFETY: refused before anything is cloned.
    let refused = unsafe { clone_copy(&shared, None, sleep, null_mut()) };
    assert_eq!(Errno::from(refused.unwrap_err()), Errno::EINVAL);
}

#[test]
fn a_child_without_a_signal_is_waited_for_by_name() {
    let args = CloneArgs {
        flags: CloneFlags::PIDFD,
        ..CloneArgs::default()
    };
    let word = AtomicU32::new(3);
    // SAFETY: the entry takes no lock and ends in `exit_group`.
    let child = unsafe { clone_copy(&args, None, exit_with, word.as_ptr().cast()) }.unwrap();
    let pidfd = child.pidfd.unwrap();
    assert_eq!(
        waitid_pidfd(&pidfd, WaitFlags::default()),
        Err(Errno::ECHILD)
    );
    let status = waitid_pidfd(&pidfd, WaitFlags::ALL);
    assert_eq!(status, Ok(Some(WaitStatus::Exited(3))));
}

#[test]
fn a_child_is_watched_signalled_and_reaped_by_descriptor() {
    let pidfd = start(sleep, null_mut());
    assert_eq!(waitid_pidfd(&pidfd, WaitFlags::NOHANG), Ok(None));
    let mut watched = [PollFd::new(pidfd.as_fd(), PollFlags::IN)];
    assert_eq!(poll(&mut watched, Some(Timespec::default())), Ok(0));
    pidfd_send_signal(&pidfd, None).unwrap();
    pidfd_send_signal(&pidfd, Some(Signal::KILL)).unwrap();
    assert_eq!(
        poll(&mut watched, Some(Timespec::from_millis(10_000))),
        Ok(1)
    );
    let killed = WaitStatus::Killed {
        signal: Signal::KILL,
        core: false,
    };
    assert_eq!(wait(&pidfd), killed);
    assert_eq!(
        waitid_pidfd(&pidfd, WaitFlags::default()),
        Err(Errno::ECHILD)
    );
    assert_eq!(pidfd_send_signal(&pidfd, None), Err(Errno::ESRCH));
}

#[test]
fn whichever_child_ends_first_is_reaped() {
    let status = in_child(|| {
        holds!(waitid_any(WaitFlags::ALL) == Err(Errno::ECHILD));
        let sleeper = start(sleep, null_mut());
        holds!(waitid_any(WaitFlags::NOHANG) == Ok(None));
        let word = AtomicU32::new(5);
        let args = CloneArgs {
            flags: CloneFlags::PIDFD,
            ..CloneArgs::default()
        };
        // SAFETY: the entry takes no lock and ends in `exit_group`.
        let child = unsafe { clone_copy(&args, None, exit_with, word.as_ptr().cast()) };
        let child = must!(child);
        let first = waitid_any(WaitFlags::ALL);
        holds!(first == Ok(Some((child.pid, WaitStatus::Exited(5)))));
        must!(pidfd_send_signal(&sleeper, Some(Signal::KILL)));
        let (_, killed) = must!(must!(waitid_any(WaitFlags::ALL)).ok_or(Errno::ECHILD));
        holds!(matches!(
            killed,
            WaitStatus::Killed {
                signal: Signal::KILL,
                ..
            }
        ));
        holds!(waitid_pidfd(&sleeper, WaitFlags::ALL) == Err(Errno::ECHILD));
        Ok(())
    });
    assert_eq!(status, WaitStatus::Exited(0));
}

/// Opens a counter, leaves it open, and ends with its number.
extern "C" fn open_counter(_: *mut c_void) -> ! {
    let counter = eventfd(7, EventfdFlags::NONBLOCK);
    exit_group(counter.map_or(-1, OwnedFd::into_raw))
}

#[test]
fn a_table_of_descriptors_is_shared_if_asked_for() {
    let status = in_child(|| {
        for (flags, shared) in [
            (CloneFlags::empty(), Err(Errno::EBADF)),
            (CloneFlags::FILES, Ok(7)),
        ] {
            let args = CloneArgs {
                flags, // no descriptor of the child: that would take the number
                ..CloneArgs::default()
            };
            // SAFETY: the entry takes no lock, closes nothing and ends in `exit_group`.
            let child = unsafe { clone_copy(&args, None, open_counter, null_mut()) };
            must!(child);
            let number = match must!(waitid_any(WaitFlags::ALL)) {
                Some((_, WaitStatus::Exited(number))) => number,
                _ => -1,
            };
            // SAFETY: the number is only tried; nobody closes it before this process ends.
            let counter = unsafe { BorrowedFd::borrow_raw(number) };
            holds!(take(counter) == shared);
        }
        Ok(())
    });
    assert_eq!(status, WaitStatus::Exited(0));
}

#[test]
fn another_processes_descriptor_is_had_by_number() {
    let counter = eventfd(1, EventfdFlags::NONBLOCK).unwrap();
    let child = start(sleep, null_mut());
    let its_own = pidfd_getfd(&child, counter.as_raw()).unwrap();
    assert_ne!(its_own, counter);
    // One open file: what is added to either is taken from either.
    add(&its_own, 4).unwrap();
    assert_eq!(take(&counter), Ok(5));
    assert_eq!(pidfd_getfd(&child, -1), Err(Errno::EBADF));
    pidfd_send_signal(&child, Some(Signal::KILL)).unwrap();
    wait(&child);
    assert_eq!(pidfd_getfd(&child, counter.as_raw()), Err(Errno::ESRCH));
}

#[test]
fn a_child_starts_in_the_cgroup_it_is_given() {
    let Some(folder) = absence::own_cgroup("linux-raw") else {
        return absence::absent("own-cgroup", "no folder can be made");
    };
    let path = CString::new(folder.to_str().unwrap()).unwrap();
    let cgroup = open(&path, OpenFlags::PATH | OpenFlags::CLOEXEC).unwrap();
    let args = |cgroup| CloneArgs {
        flags: CloneFlags::PIDFD,
        exit_signal: Some(Signal::CHLD),
        cgroup: Some(cgroup),
        ..CloneArgs::default()
    };
    // SAFETY: the entry takes no lock and only sleeps.
    let child = unsafe { clone_copy(&args(cgroup.as_fd()), None, sleep, null_mut()) };
    let child = child.unwrap();
    let members = fs::read_to_string(folder.join("cgroup.procs")).unwrap();
    let pidfd = child.pidfd.unwrap();
    pidfd_send_signal(&pidfd, Some(Signal::KILL)).unwrap();
    wait(&pidfd);
    // The kernel takes the process out of the folder a moment after it was reaped.
    let deadline = Instant::now() + Duration::from_secs(10);
    while let Err(error) = fs::remove_dir(&folder) {
        assert!(Instant::now() < deadline, "{error}");
        sched_yield();
    }
    assert_eq!(members, format!("{}\n", child.pid.raw()));
    // SAFETY: refused before anything is cloned.
    let refused = unsafe { clone_copy(&args(pidfd.as_fd()), None, sleep, null_mut()) };
    assert_eq!(Errno::from(refused.unwrap_err()), Errno::EBADF);
}

#[test]
fn a_process_knows_who_it_is() {
    assert_eq!(getpid().unwrap().raw(), std::process::id());
    let opened = pidfd_open(getpid().unwrap(), PidfdFlags::NONBLOCK).unwrap();
    pidfd_send_signal(opened, None).unwrap();
    let absent = pidfd_open(Pid::from_raw(0x7fff_ffff).unwrap(), PidfdFlags::empty());
    assert_eq!(absent.unwrap_err(), Errno::ESRCH);
    let parent = getpid().unwrap();
    let status = in_child(|| {
        let me = must!(getpid());
        holds!(me != parent);
        holds!(getppid() == parent.raw());
        holds!(must!(setsid()) == me);
        holds!(setsid() == Err(Errno::EPERM));
        Ok(())
    });
    assert_eq!(status, WaitStatus::Exited(0));
}

#[test]
fn an_exec_that_fails_says_why() {
    let empty = memfd_create(c"empty", MemfdFlags::CLOEXEC).unwrap();
    let none = [null()];
    // SAFETY: the lists end with their null pointer, and an empty file is no program.
    let errno = unsafe {
        execveat(
            &empty,
            c"",
            none.as_ptr(),
            none.as_ptr(),
            AtFlags::EMPTY_PATH,
        )
    };
    assert!(matches!(errno, Errno::ENOEXEC | Errno::EACCES), "{errno}");
}
