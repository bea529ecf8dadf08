//! What single layers leave, beyond what their names promise: others have to stop it. Each test
//! names one of them that does, alone.

use cellwall::abi::{CODE_WINDOW, HOSTCALL, PAGE_BYTES};
use cellwall::{Config, Errno, Layer};
use linux_raw::sys::general as sys;

use crate::attack::ALWAYS;
use crate::fences::reopen;
use crate::files::{DOMAIN_AS_USER, status};
use crate::host::is_root;
use crate::namespaces::look_into_host;
use crate::processes::fork;
use crate::worker::{Attempt, Stop, Worker};

const OWN_USERS: &[Layer] = &[Layer::UserNamespace];

/// A worker behind these layers, and those that they take for a host that is not root.
fn behind(layers: &[Layer], as_user: &[Layer]) -> Worker {
    let as_user = if is_root() { &[] } else { as_user };
    let kept = [layers, as_user].concat();
    Worker::start(&Config::default(), &kept).expect("a worker")
}

#[test]
fn landlock_leaves_looking_files_up() {
    let mut worker = behind(&[Layer::LandlockFiles], DOMAIN_AS_USER);
    assert_eq!(status(&mut worker), Ok(()));
    let mut stopped = behind(&[Layer::EmptyRoot, Layer::MountNamespace], OWN_USERS);
    assert_eq!(status(&mut stopped), Err(Stop::Refused(Errno::ENOENT)));
}

/// Landlock governs no file that has no place in any tree: a memory file that a descriptor stands
/// for is opened anew through /proc.
#[test]
fn landlock_leaves_memory_files() {
    const MEMORY: u64 = 2;
    let mut worker = behind(&[Layer::LandlockFiles], DOMAIN_AS_USER);
    assert!(reopen(&mut worker, MEMORY).is_ok());
    let gone = Err(Stop::Refused(Errno::ENOENT));
    let mut stopped = behind(&[Layer::Descriptors], &[]);
    assert_eq!(reopen(&mut stopped, MEMORY), gone);
    let mut stopped = behind(&[Layer::EmptyRoot, Layer::MountNamespace], OWN_USERS);
    assert_eq!(reopen(&mut stopped, MEMORY), gone);
}

/// The kernel has another way to a TCP service: MPTCP, which falls back to it.
#[test]
fn landlock_leaves_multipath_tcp() {
    let mut worker = behind(&[Layer::LandlockNetwork], DOMAIN_AS_USER);
    match crate::sockets::connect_multipath(&mut worker) {
        // A kernel without it.
        Err(Stop::Refused(errno @ (Errno::EPROTONOSUPPORT | Errno::ENOPROTOOPT))) => {
            return absence::absent("mptcp", errno);
        }
        answer => assert_eq!(answer, Ok(())),
    }
    let mut stopped = behind(&[Layer::NetworkNamespace], OWN_USERS);
    assert!(crate::sockets::connect_multipath(&mut stopped).is_err());
}

/// Sockets between a virtual machine and its host are in no namespace, and Landlock has no right
/// for them. None is connected here.
#[test]
fn network_layers_leave_vsock() {
    const AF_VSOCK: u64 = 40;
    const SOCK_STREAM: u64 = 1;
    let open = |worker: &mut Worker| worker.call(sys::__NR_socket, &[AF_VSOCK, SOCK_STREAM, 0]);
    let layers = [Layer::NetworkNamespace, Layer::LandlockNetwork];
    let as_user = [DOMAIN_AS_USER, OWN_USERS].concat();
    match open(&mut behind(&layers, &as_user)) {
        // A kernel without it.
        Err(Stop::Refused(errno @ Errno::EAFNOSUPPORT)) => absence::absent("vsock", errno),
        answer => assert!(answer.is_ok(), "{answer:?}"),
    }
    let no_descriptor = Err(Stop::Refused(Errno::EMFILE));
    let stopped = open(&mut behind(&[Layer::Limits, Layer::UserId], &[]));
    assert!(stopped == no_descriptor || stopped == Err(Stop::Refused(Errno::EAFNOSUPPORT)));
}

/// What keeps workers from /proc: layers, those that they take for a host that is not root, and
/// how.
fn keepers_of_proc() -> [(&'static [Layer], &'static [Layer], Errno); 2] {
    const ROOT: &[Layer] = &[Layer::EmptyRoot, Layer::MountNamespace];
    [
        (ROOT, OWN_USERS, Errno::ENOENT),
        (&[Layer::LandlockFiles], DOMAIN_AS_USER, Errno::EACCES),
    ]
}

/// While the host's /proc is in sight its numbers are, too.
#[test]
fn a_pid_namespace_leaves_the_host_s_proc() {
    let mut worker = Worker::start(&Config::default(), &[]).expect("a worker");
    assert_eq!(look_into_host(&mut worker), Ok(()));
    if is_root() {
        let mut worker = behind(&[Layer::PidNamespace], &[]);
        assert_eq!(look_into_host(&mut worker), Ok(()));
    }
    for (layers, as_user, errno) in keepers_of_proc() {
        let mut stopped = behind(layers, as_user);
        let refused = Err(Stop::Refused(errno));
        assert_eq!(look_into_host(&mut stopped), refused, "{layers:?}");
    }
    let mut stopped = behind(OWN_USERS, &[]);
    let refused = Err(Stop::Refused(Errno::EACCES));
    assert_eq!(look_into_host(&mut stopped), refused);
}

/// Memory that is written through one mapping of a file and executed through another.
#[test]
fn deny_write_execute_leaves_two_mappings_of_a_file() {
    let make_code = |worker: &mut Worker| -> Attempt {
        let name = worker.text("code");
        let file = worker.call(sys::__NR_memfd_create, &[name, 0])?;
        let code = worker.put(&[0xc3]);
        worker.call(sys::__NR_pwrite64, &[file, code, 1, 0])?;
        let protection = (sys::PROT_READ | sys::PROT_EXEC).into();
        let args = [0, PAGE_BYTES, protection, sys::MAP_SHARED.into(), file, 0];
        let mapped = worker.call(sys::__NR_mmap, &args)?;
        assert_eq!(worker.load(mapped).map(|word| word & 0xff), Ok(0xc3));
        Ok(())
    };
    let mut worker = behind(&[Layer::DenyWriteExecute], &[]);
    assert_eq!(make_code(&mut worker), Ok(()));
    let mut stopped = behind(&[Layer::Limits, Layer::UserId], &[]);
    assert_eq!(make_code(&mut stopped), Err(Stop::Refused(Errno::EMFILE)));
}

/// A process may write its own memory through /proc, whatever its protection, where the mapping is
/// private: the zygote's image is, the module's code is not.
#[test]
fn no_protection_holds_against_proc_mem() {
    let write = |worker: &mut Worker, address: u64| -> Attempt {
        let file = worker.open("/proc/self/mem", sys::O_RDWR)?;
        let word = worker.load(address)?;
        // What is there already.
        let bytes = worker.put_words(&[word]);
        worker.call(sys::__NR_pwrite64, &[file, bytes, 8, address])?;
        Ok(())
    };
    let layers = [Layer::DenyWriteExecute, Layer::Mseal];
    let mut worker = behind(&layers, &[]);
    // A kernel may be built or told to refuse it (proc_mem.force_override).
    println!("the image: {:?}", write(&mut worker, HOSTCALL));
    assert!(write(&mut worker, CODE_WINDOW.start).is_err());
    for (layers, as_user, errno) in keepers_of_proc() {
        let mut stopped = behind(layers, as_user);
        let refused = Err(Stop::Refused(errno));
        assert_eq!(write(&mut stopped, HOSTCALL), refused, "{layers:?}");
    }
}

/// No limit on processes holds for kernel user 0.
#[test]
fn limits_leave_root_its_processes() {
    if !is_root() {
        return absence::absent("root", "others have no such power");
    }
    let mut worker = behind(&[Layer::Limits], &[]);
    assert_eq!(fork(&mut worker), Ok(()));
    let mut stopped = behind(&[Layer::Limits, Layer::UserId], &[]);
    assert_eq!(fork(&mut stopped), Err(Stop::Refused(Errno::EAGAIN)));
}

/// A worker without any layer is nearly an ordinary process: what the tests are worth.
#[test]
fn nothing_else_is_in_the_way() {
    let mut worker = Worker::start(&Config::default(), &ALWAYS).expect("a worker");
    assert_eq!(fork(&mut worker), Ok(()));
    assert_eq!(look_into_host(&mut worker), Ok(()));
    assert!(worker.read_counter().is_ok());
}
