#![expect(unsafe_code, reason = "maps memory and answers its faults")]
//! Memory whose faults are told, and a handler that answers them as a host would.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering::SeqCst};

use linux_raw::arch::{self, UContext, sigreturn};
use linux_raw::io::pread;
use linux_raw::memfd::{MemfdFlags, ftruncate, memfd_create};
use linux_raw::mm::{Backing, MapFlags, Placement, Prot, mmap};
use linux_raw::process::exit_group;
use linux_raw::signal::{SaFlags, SigAction, SigInfo, SigSet, Signal, sigaction};
use linux_raw::uffd::{self, Features, Modes};
use linux_raw::{AsFd, BorrowedFd, Errno, OwnedFd, nr};

pub(crate) const PAGE: u64 = 4096;
pub(crate) const PAGES: usize = 8;

/// What copies are made of.
pub(crate) static SOURCE: [u8; 4 * 4096] = [7; 4 * 4096];

/// What the handler does; each test's child has a copy of its own.
static DESCRIPTOR: AtomicI32 = AtomicI32::new(-1);
static ANSWER: AtomicU32 = AtomicU32::new(NONE);
/// What it has seen.
static FAULTS: AtomicU32 = AtomicU32::new(0);
pub(crate) static FAULT_AT: AtomicU64 = AtomicU64::new(0);

pub(crate) const NONE: u32 = 0;
pub(crate) const ZERO: u32 = 1;
pub(crate) const COPY: u32 = 2;
pub(crate) const RESUME: u32 = 3;
pub(crate) const UNPROTECT: u32 = 4;

/// What the child exits with if a fault comes that was not to come, or that cannot be answered.
const UNANSWERED: i32 = 103;

/// More than any test takes: an answer that does not help would be given for ever.
const FAULTS_MAX: u32 = 100;

/// Answers a fault, so that the instruction is made again.
extern "C" fn answer(_: u32, info: *const SigInfo, _: *mut UContext) {
    // SAFETY: the kernel passes the information with `SIGINFO`.
    let at = unsafe { &*info }.addr();
    let earlier = FAULTS.fetch_add(1, SeqCst);
    FAULT_AT.store(at, SeqCst);
    // SAFETY: the test holds the descriptor for as long as it touches the memory.
    let fd = unsafe { BorrowedFd::borrow_raw(DESCRIPTOR.load(SeqCst)) };
    let page = at & !(PAGE - 1);
    let answered = match ANSWER.load(SeqCst) {
        // SAFETY: no Rust object lives in the watched memory.
        ZERO => unsafe { uffd::zero(fd, page, PAGE) },
        // SAFETY: as above, and the source is longer than a page.
        COPY => unsafe { uffd::copy(fd, page, SOURCE.as_ptr(), PAGE, false) },
        // SAFETY: as above.
        RESUME => unsafe { uffd::resume(fd, page, PAGE, false) },
        // SAFETY: as above.
        UNPROTECT => unsafe { uffd::write_protect(fd, page, PAGE, false) }.map(|()| PAGE),
        _ => Err(Errno::EFAULT),
    };
    if answered != Ok(PAGE) || earlier >= FAULTS_MAX {
        exit_group(UNANSWERED);
    }
}

/// A memory file, its mapping, and the descriptor that tells of its faults.
pub(crate) struct Watched {
    pub(crate) file: OwnedFd,
    pub(crate) memory: NonNull<u8>,
    pub(crate) uffd: OwnedFd,
}

pub(crate) fn map(prot: Prot, backing: Backing<'_>) -> Result<NonNull<u8>, Errno> {
    let flags = MapFlags::empty();
    // SAFETY: a new mapping replaces nothing.
    unsafe { mmap(Placement::Anywhere, PAGES * 4096, prot, backing, flags) }
}

pub(crate) fn shared(fd: &OwnedFd) -> Backing<'_> {
    Backing::Shared {
        fd: fd.as_fd(),
        offset: 0,
    }
}

/// A descriptor with all that is used here: Linux 5.19.
pub(crate) fn descriptor() -> Result<OwnedFd, Errno> {
    let wanted = Features::SIGBUS
        | Features::MISSING_SHMEM
        | Features::MINOR_SHMEM
        | Features::WRITE_PROTECT
        | Features::WRITE_PROTECT_SHMEM;
    let uffd = uffd::userfaultfd()?;
    let offered = uffd::enable(&uffd, wanted)?;
    if offered.contains(wanted) {
        Ok(uffd)
    } else {
        Err(Errno::EPROTO)
    }
}

impl Watched {
    /// Watched by itself, in a child of one thread: its faults go to the handler.
    pub(crate) fn new(modes: Modes) -> Result<Self, Errno> {
        let file = memfd_create(c"cellwall-test", MemfdFlags::CLOEXEC)?;
        ftruncate(&file, PAGES as u64 * PAGE)?;
        let memory = map(Prot::READ | Prot::WRITE, shared(&file))?;
        let uffd = descriptor()?;
        let watched = Self { file, memory, uffd };
        watched.register(modes)?;
        let action = SigAction {
            handler: answer as *const () as usize,
            flags: SaFlags::SIGINFO | SaFlags::RESTORER,
            restorer: sigreturn as *const () as usize,
            mask: SigSet::EMPTY,
        };
        // SAFETY: the handler touches atomics, and makes calls that are sound at any time.
        unsafe { sigaction(Signal::BUS, &action) }?;
        Ok(watched)
    }

    pub(crate) fn register(&self, modes: Modes) -> Result<(), Errno> {
        DESCRIPTOR.store(self.uffd.as_raw(), SeqCst);
        // SAFETY: no Rust object lives in the mapping.
        unsafe { uffd::register(&self.uffd, self.at(0), PAGES as u64 * PAGE, modes) }
    }

    pub(crate) fn at(&self, page: u64) -> u64 {
        self.memory.addr().get() as u64 + page * PAGE
    }

    pub(crate) fn zero(&self, page: u64, pages: u64) -> Result<u64, Errno> {
        // SAFETY: no Rust object lives in the mapping.
        unsafe { uffd::zero(&self.uffd, self.at(page), pages * PAGE) }
    }

    pub(crate) fn copy(&self, page: u64, pages: u64, write_protected: bool) -> Result<u64, Errno> {
        let (from, bytes) = (SOURCE.as_ptr(), pages * PAGE);
        // SAFETY: no Rust object lives in the mapping; the tests copy at most four pages.
        unsafe { uffd::copy(&self.uffd, self.at(page), from, bytes, write_protected) }
    }

    pub(crate) fn resume(
        &self,
        page: u64,
        pages: u64,
        write_protected: bool,
    ) -> Result<u64, Errno> {
        // SAFETY: no Rust object lives in the mapping.
        unsafe { uffd::resume(&self.uffd, self.at(page), pages * PAGE, write_protected) }
    }

    pub(crate) fn write_protect(&self, page: u64, pages: u64, on: bool) -> Result<(), Errno> {
        // SAFETY: no Rust object lives in the mapping.
        unsafe { uffd::write_protect(&self.uffd, self.at(page), pages * PAGE, on) }
    }

    fn place(&self, page: usize) -> NonNull<u8> {
        // SAFETY: the tests name pages of the mapping only.
        unsafe { self.memory.add(page * 4096 + 5) }
    }

    /// Reads a byte of a page, with what the handler is to do, and answers how many faults it took.
    pub(crate) fn read(&self, page: usize, answer: u32) -> (u8, u32) {
        ANSWER.store(answer, SeqCst);
        let before = FAULTS.load(SeqCst);
        // SAFETY: the place is mapped, and the handler makes it readable.
        let value = unsafe { self.place(page).read_volatile() };
        (value, FAULTS.load(SeqCst) - before)
    }

    /// The same for a write.
    pub(crate) fn write(&self, page: usize, value: u8, answer: u32) -> u32 {
        ANSWER.store(answer, SeqCst);
        let before = FAULTS.load(SeqCst);
        // SAFETY: the place is mapped, and the handler makes it writable.
        unsafe { self.place(page).write_volatile(value) };
        FAULTS.load(SeqCst) - before
    }

    /// The same byte by way of the file.
    pub(crate) fn in_file(&self, page: u64) -> Result<u8, Errno> {
        let mut byte = [0];
        pread(&self.file, &mut byte, page * PAGE + 5)?;
        Ok(byte[0])
    }

    /// Has the kernel read from a page.
    pub(crate) fn read_by_kernel(&self, page: usize) -> Result<(), Errno> {
        let elsewhere = memfd_create(c"cellwall-test", MemfdFlags::CLOEXEC)?;
        let place = self.place(page).as_ptr();
        // SAFETY: the kernel reads one byte of the mapping, or finds that it cannot.
        let answer = unsafe {
            arch::syscall3(
                nr::WRITE,
                elsewhere.as_fd().into(),
                place.into(),
                1usize.into(),
            )
        };
        answer.done()
    }
}
