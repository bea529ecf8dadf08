#![expect(
    unsafe_code,
    reason = "clones, makes refused calls, installs a handler"
)]
//! Filters that answer instead of killing: with errors, with a signal, with a supervisor's word.

#[path = "container.rs"]
mod container;

use core::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering::SeqCst};

use linux_raw::arch::{self, UContext, sigreturn};
use linux_raw::called::Failed;
use linux_raw::fd::OwnedFd;
use linux_raw::io::{OpenFlags, PollFd, PollFlags, open, poll};
use linux_raw::nr::{self, Nr};
use linux_raw::pidfd::{WaitFlags, WaitStatus, waitid_pidfd};
use linux_raw::prctl;
use linux_raw::process::{CloneArgs, CloneBy, CloneFlags, clone_copy, clone_vm, getpid};
use linux_raw::seccomp::notify::{self, Response};
use linux_raw::seccomp::{
    Cond, InstallFlags, Is, Program, Refusal, Rule, compile_notifying, compile_refusing,
    compile_reporting, install, install_with_listener, length_notifying, length_refusing,
    length_reporting,
};
use linux_raw::signal::{
    MaskHow, SaFlags, SigAction, SigInfo, SigSet, Signal, sigaction, sigprocmask,
};
use linux_raw::sys::general;
use linux_raw::{AsFd, Errno, futex};

use self::container::{NO_CLONE3, NO_NAMESPACES};
use crate::child::{Outcome, holds, in_child, must};
use crate::jail::{KILLED, PASSED};
use crate::processes::{ChildStack, exit_with};

const CONTAINER: &[Refusal] = &[NO_CLONE3, NO_NAMESPACES];
static CONTAINED: Program<{ length_refusing(CONTAINER) }> = compile_refusing(CONTAINER);

/// Puts the profile in force.
fn contain() -> Outcome {
    must!(prctl::set_no_new_privs());
    must!(install(CONTAINED.as_slice(), InstallFlags::empty()));
    Ok(())
}

/// Waits for a cloned child and answers its code.
fn code(child: Option<OwnedFd>) -> Result<i32, Errno> {
    let pidfd = child.ok_or(Errno::EBADF)?;
    match waitid_pidfd(pidfd, WaitFlags::default())? {
        Some(WaitStatus::Exited(code)) => Ok(code),
        _ => Err(Errno::ECHILD),
    }
}

fn watched(flags: CloneFlags) -> CloneArgs<'static> {
    CloneArgs {
        flags: CloneFlags::PIDFD | flags,
        exit_signal: Some(Signal::CHLD),
        ..CloneArgs::default()
    }
}

#[test]
fn without_clone3_a_child_shares_memory_all_the_same() {
    let mut stack = ChildStack::new();
    let status = in_child(|| {
        contain()?;
        must!(sigprocmask(MaskHow::Set, &SigSet::FULL));
        let (word, cleared) = (AtomicU32::new(7), AtomicU32::new(1));
        let args = CloneArgs {
            cleared: Some(&cleared),
            ..watched(CloneFlags::CLEAR_SIGHAND)
        };
        // SAFETY: the entry only counts and exits; all it uses lives until it is waited for.
        let child = unsafe { clone_vm(&args, stack.as_stack(), exit_with, word.as_ptr().cast()) };
        let child = must!(child);
        while cleared.load(SeqCst) != 0 {
            let _ = futex::wait(&cleared, 1, None);
        }
        holds!(must!(code(child.pidfd)) == 7);
        holds!(word.load(SeqCst) == 8);
        let args = watched(CloneFlags::VFORK);
        // SAFETY: as above.
        let child = unsafe { clone_vm(&args, stack.as_stack(), exit_with, word.as_ptr().cast()) };
        let child = must!(child);
        holds!(word.load(SeqCst) == 9);
        holds!(must!(code(child.pidfd)) == 8);
        Ok(())
    });
    assert_eq!(status, PASSED);
}

#[test]
fn without_clone3_a_child_has_a_copy_all_the_same() {
    let mut stack = ChildStack::new();
    let status = in_child(|| {
        contain()?;
        let word = AtomicU32::new(7);
        for stack in [None, Some(stack.as_stack())] {
            let args = watched(CloneFlags::empty());
            // SAFETY: the entry only counts and exits.
            let child = unsafe { clone_copy(&args, stack, exit_with, word.as_ptr().cast()) };
            let child = must!(child);
            holds!(child.pid != must!(getpid()));
            holds!(must!(code(child.pidfd)) == 7);
            holds!(word.load(SeqCst) == 7);
        }
        let plain = CloneArgs::default();
        // SAFETY: as above.
        let child = unsafe { clone_copy(&plain, None, exit_with, word.as_ptr().cast()) };
        holds!(must!(child).pidfd.is_none());
        Ok(())
    });
    assert_eq!(status, PASSED);
}

#[test]
fn what_the_old_clone_cannot_do_stays_refused() {
    let status = in_child(|| {
        contain()?;
        let word = AtomicU32::new(0).as_ptr().cast();
        let forbidden = watched(CloneFlags::NEWUSER);
        // SAFETY: refused before anything is cloned.
        let refused = unsafe { clone_copy(&forbidden, None, exit_with, word) };
        holds!(refused.err() == Some(Failed(nr::CLONE, Errno::EPERM)));
        let folder = must!(open(c"/", OpenFlags::PATH));
        let young = CloneArgs {
            cgroup: Some(folder.as_fd()),
            ..watched(CloneFlags::empty())
        };
        // SAFETY: as above.
        let refused = unsafe { clone_copy(&young, None, exit_with, word) };
        holds!(refused.err() == Some(Failed(nr::CLONE3, Errno::ENOSYS)));
        Ok(())
    });
    assert_eq!(status, PASSED);
}

/// Whoever insists on one of the two calls gets a child by that one or none.
#[test]
fn a_child_by_the_call_that_was_asked_for() {
    let status = in_child(|| {
        let word = AtomicU32::new(7);
        let args = |by| CloneArgs {
            by,
            ..watched(CloneFlags::CLEAR_SIGHAND)
        };
        // SAFETY: the entry only counts and exits.
        let old =
            unsafe { clone_copy(&args(CloneBy::Clone), None, exit_with, word.as_ptr().cast()) };
        let old = must!(old);
        holds!(old.call == nr::CLONE && must!(code(old.pidfd)) == 7);
        let folder = must!(open(c"/", OpenFlags::PATH));
        let young = CloneArgs {
            cgroup: Some(folder.as_fd()),
            ..args(CloneBy::Clone)
        };
        // SAFETY: as above.
        let refused = unsafe { clone_copy(&young, None, exit_with, word.as_ptr().cast()) };
        holds!(refused.err() == Some(Failed(nr::CLONE, Errno::EINVAL)));
        // SAFETY: as above.
        let either = unsafe {
            clone_copy(
                &args(CloneBy::Either),
                None,
                exit_with,
                word.as_ptr().cast(),
            )
        };
        let either = must!(either);
        // SAFETY: as above.
        let new = unsafe {
            clone_copy(
                &args(CloneBy::Clone3),
                None,
                exit_with,
                word.as_ptr().cast(),
            )
        };
        match new {
            Ok(new) => holds!(new.call == nr::CLONE3 && either.call == nr::CLONE3),
            Err(failed) => {
                holds!(failed == Failed(nr::CLONE3, Errno::ENOSYS) && either.call == nr::CLONE);
            }
        }
        contain()?;
        // SAFETY: as above.
        let new = unsafe {
            clone_copy(
                &args(CloneBy::Clone3),
                None,
                exit_with,
                word.as_ptr().cast(),
            )
        };
        holds!(new.err() == Some(Failed(nr::CLONE3, Errno::ENOSYS)));
        Ok(())
    });
    assert_eq!(status, PASSED);
}

const REPORTED: &[Rule] = &[
    Rule {
        call: nr::EXIT_GROUP,
        when: &[],
        why: "the child's end",
    },
    Rule {
        call: Nr::from_raw(general::__NR_rt_sigreturn),
        when: &[],
        why: "the handler's end",
    },
];
static REPORTING: Program<{ length_reporting(REPORTED) }> = compile_reporting(REPORTED);

/// What the handler was told, in the child of the test.
static CALL: AtomicU64 = AtomicU64::new(0);

extern "C" fn note(_: u32, info: *const SigInfo, context: *mut UContext) {
    // SAFETY: the kernel passes the information with `SIGINFO`.
    let info = unsafe { &*info };
    // SAFETY: likewise the frame, which is ours to change until the handler returns.
    let registers = unsafe { &mut (*context).registers };
    let ours = info.arch() == arch::AUDIT_ARCH && info.call_addr() == registers.rip;
    CALL.store(
        if ours {
            info.syscall().raw().into()
        } else {
            u64::MAX
        },
        SeqCst,
    );
    registers.rax = 77;
}

/// Makes a call without arguments under the reporting filter, in a child.
fn reported(call: Nr, blocked: SigSet) -> WaitStatus {
    in_child(|| {
        let action = SigAction {
            handler: note as *const () as usize,
            flags: SaFlags::SIGINFO | SaFlags::RESTORER,
            restorer: sigreturn as *const () as usize,
            mask: SigSet::EMPTY,
        };
        // SAFETY: the handler only notes, and the restorer is the one for this frame.
        must!(unsafe { sigaction(Signal::SYS, &action) });
        must!(sigprocmask(MaskHow::Set, &blocked));
        must!(prctl::set_no_new_privs());
        must!(prctl::set_dumpable(false)); // no core file
        must!(install(REPORTING.as_slice(), InstallFlags::empty()));
        // SAFETY: the filter lets none of them be made.
        let answer = unsafe { arch::syscall0(call) };
        holds!(must!(answer.value()) == 77);
        holds!(CALL.load(SeqCst) == call.raw().into());
        Ok(())
    })
}

#[test]
fn a_forbidden_call_is_reported_to_a_handler() {
    assert_eq!(reported(nr::GETPID, SigSet::EMPTY), PASSED);
    assert_eq!(reported(nr::GETPID, SigSet::FULL), KILLED);
    let x32 = Nr::from_raw(nr::GETPID.raw() | 1 << 30);
    assert_eq!(reported(x32, SigSet::EMPTY), KILLED);
}

static ASKING: Program<{ length_notifying(&[]) }> = compile_notifying(&[]);

/// Answers for all calls of the threads behind a listener until there are none, by `answer`.
fn supervise(listener: &OwnedFd, mut answer: impl FnMut(Nr) -> Response) -> Result<(), Errno> {
    loop {
        let mut ready = [PollFd::new(listener.as_fd(), PollFlags::IN)];
        poll(&mut ready, None)?;
        let [ready] = ready;
        if !ready.found().contains(PollFlags::IN) {
            return Ok(()); // hung up
        }
        let notification = notify::receive(listener)?;
        assert!(notify::is_valid(listener, notification.id)?);
        let response = answer(Nr::from_raw(notification.data.nr));
        notify::respond(listener, notification.id, response)?;
        assert!(!notify::is_valid(listener, notification.id)? || response == Response::Continue);
    }
}

#[test]
fn a_supervisor_makes_the_second_call_fail() {
    let listener = AtomicI32::new(-1);
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            prctl::set_no_new_privs().unwrap();
            let fd = install_with_listener(ASKING.as_slice(), InstallFlags::empty()).unwrap();
            listener.store(fd.into_raw(), SeqCst);
            [(); 4].map(|()| {
                // SAFETY: the call takes nothing and changes nothing.
                unsafe { arch::syscall0(nr::GETEGID) }.word()
            })
        });
        while listener.load(SeqCst) < 0 {
            assert!(!asking.is_finished(), "the filter was not installed");
            std::thread::yield_now();
        }
        // SAFETY: the thread has given up ownership, and shares this table of descriptors.
        let listener = unsafe { OwnedFd::from_raw(listener.load(SeqCst)) };
        let mut count = 0;
        // Allocates nothing, since the other thread may wait for an answer inside the allocator.
        let supervised = supervise(&listener, |call| {
            if call != nr::GETEGID {
                return Response::Continue;
            }
            count += 1;
            match count {
                1 => Response::Value(42),
                2 => Response::Errno(Errno::EIO),
                _ => Response::Continue,
            }
        });
        supervised.unwrap();
        let own = linux_raw::process::getegid();
        let answers = asking.join().unwrap();
        assert_eq!(answers, [Ok(42), Err(Errno::EIO), Ok(own), Ok(own)]);
        assert_eq!(
            notify::respond(&listener, 1, Response::Continue),
            Err(Errno::ENOENT)
        );
    });
}

#[test]
fn a_second_listener_is_refused() {
    let status = in_child(|| {
        must!(prctl::set_no_new_privs());
        let flags = InstallFlags::empty();
        // These ask about nothing, so nobody need answer.
        let first = must!(install_with_listener(CONTAINED.as_slice(), flags));
        let second = install_with_listener(CONTAINED.as_slice(), flags);
        holds!(second.err() == Some(Errno::EBUSY));
        holds!(notify::is_valid(&first, 1) == Ok(false));
        Ok(())
    });
    assert_eq!(status, PASSED);
}
