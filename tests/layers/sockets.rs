//! Network, abstract sockets and signals: Landlock's domain, and the network namespace.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::sync::atomic::{AtomicU32, Ordering};

use cellwall::{Errno, Layer};
use linux_raw::landlock::{self, AccessFs, AccessNet, Rights, Scope};
use linux_raw::sys::general as sys;

use crate::attack::Attack;
use crate::files::DOMAIN_AS_USER;
use crate::worker::{Attempt, Stop, Worker};

const AF_UNIX: u64 = 1;
const AF_INET: u64 = 2;
const SOCK_STREAM: u64 = 1;
const SOCK_DGRAM: u64 = 2;
const DEFAULT_PROTOCOL: u64 = 0;
/// `IPPROTO_MPTCP`.
const MULTIPATH: u64 = 262;

pub(crate) const ATTACKS: &[Attack] = &[
    network(
        "connects to a service of the host's",
        connect,
        Errno::EACCES,
    ),
    network("waits for connections", bind, Errno::EACCES),
    network("sends a datagram", send, Errno::EACCES).landlock(10),
    scopes("connects to an abstract socket", connect_abstract),
    scopes("signals the host", signal_host),
    namespace(
        "connects to a service of the host's",
        connect,
        Errno::ENETUNREACH,
    ),
    namespace("sends a datagram", send, Errno::ENETUNREACH),
    namespace(
        "connects to an abstract socket",
        connect_abstract,
        Errno::ECONNREFUSED,
    ),
];

const fn network(what: &'static str, attempt: fn(&mut Worker) -> Attempt, errno: Errno) -> Attack {
    Attack::new(Layer::LandlockNetwork, what, attempt, Stop::Refused(errno))
        .needs(&[], DOMAIN_AS_USER)
        .beside(restrict_all_but_network)
        .landlock(4)
}

const fn scopes(what: &'static str, attempt: fn(&mut Worker) -> Attempt) -> Attack {
    Attack::new(
        Layer::LandlockScopes,
        what,
        attempt,
        Stop::Refused(Errno::EPERM),
    )
    .needs(&[], DOMAIN_AS_USER)
    .beside(restrict_all_but_scopes)
    .landlock(6)
}

const fn namespace(
    what: &'static str,
    attempt: fn(&mut Worker) -> Attempt,
    errno: Errno,
) -> Attack {
    Attack::new(Layer::NetworkNamespace, what, attempt, Stop::Refused(errno))
        .needs(&[], &[Layer::UserNamespace])
}

/// Lets the guest enter a domain of its own that denies these, as far as the kernel knows them.
pub(crate) fn restrict(worker: &mut Worker, rights: Rights) {
    let known = Rights::known(landlock::abi().expect("Landlock"));
    let words = [
        (rights.fs & known.fs).bits(),
        (rights.net & known.net).bits(),
        (rights.scoped & known.scoped).bits(),
    ];
    if words == [0; 3] {
        return;
    }
    let bytes = size_of_val(&words) as u64;
    let attributes = worker.put_words(&words);
    let ruleset = worker
        .call(sys::__NR_landlock_create_ruleset, &[attributes, bytes, 0])
        .expect("a ruleset");
    worker
        .call(sys::__NR_landlock_restrict_self, &[ruleset, 0])
        .expect("a domain");
}

fn restrict_all_but_network(worker: &mut Worker) {
    restrict(
        worker,
        Rights {
            fs: AccessFs::all(),
            net: AccessNet::empty(),
            scoped: Scope::all(),
        },
    );
}

fn restrict_all_but_scopes(worker: &mut Worker) {
    restrict(
        worker,
        Rights {
            fs: AccessFs::all(),
            net: AccessNet::all(),
            scoped: Scope::empty(),
        },
    );
}

/// A `struct sockaddr_in` of the host's loopback.
fn loopback(port: u16) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[0] = 2;
    bytes[2..4].copy_from_slice(&port.to_be_bytes());
    bytes[4..8].copy_from_slice(&Ipv4Addr::LOCALHOST.octets());
    bytes
}

fn connect(worker: &mut Worker) -> Attempt {
    connect_by(worker, DEFAULT_PROTOCOL)
}

/// By multipath TCP, to a service that knows TCP only.
pub(crate) fn connect_multipath(worker: &mut Worker) -> Attempt {
    connect_by(worker, MULTIPATH)
}

fn connect_by(worker: &mut Worker, protocol: u64) -> Attempt {
    let service = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a service");
    let port = service.local_addr().expect("a port").port();
    let socket = worker.call(sys::__NR_socket, &[AF_INET, SOCK_STREAM, protocol])?;
    let address = worker.put(&loopback(port));
    worker.call(sys::__NR_connect, &[socket, address, 16])?;
    Ok(())
}

fn bind(worker: &mut Worker) -> Attempt {
    let socket = worker.call(sys::__NR_socket, &[AF_INET, SOCK_STREAM, 0])?;
    let address = worker.put(&loopback(0));
    worker.call(sys::__NR_bind, &[socket, address, 16])?;
    worker.call(sys::__NR_listen, &[socket, 1])?;
    Ok(())
}

fn send(worker: &mut Worker) -> Attempt {
    let service = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a service");
    let port = service.local_addr().expect("a port").port();
    let socket = worker.call(sys::__NR_socket, &[AF_INET, SOCK_DGRAM, 0])?;
    let address = worker.put(&loopback(port));
    let sent = worker.call(sys::__NR_sendto, &[socket, address, 4, 0, address, 16])?;
    assert_eq!(sent, 4);
    Ok(())
}

fn connect_abstract(worker: &mut Worker) -> Attempt {
    // The one before may still be open, in a child that another thread is just starting.
    static NAMES: AtomicU32 = AtomicU32::new(0);
    // Only the number matters: it orders nothing.
    let number = NAMES.fetch_add(1, Ordering::Relaxed);
    let name = format!("cellwall-layers-{}-{number}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).expect("a name");
    let _service = UnixListener::bind_addr(&address).expect("a service");
    let socket = worker.call(sys::__NR_socket, &[AF_UNIX, SOCK_STREAM, 0])?;
    // A `struct sockaddr_un` whose name begins with a NUL.
    let bytes = [&[1, 0, 0], name.as_bytes()].concat();
    let length = bytes.len() as u64;
    let address = worker.put(&bytes);
    worker.call(sys::__NR_connect, &[socket, address, length])?;
    Ok(())
}

/// Signal 0 asks for the permission and does nothing.
pub(crate) fn signal_host(worker: &mut Worker) -> Attempt {
    worker.call(sys::__NR_kill, &[std::process::id().into(), 0])?;
    Ok(())
}
