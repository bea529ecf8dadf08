#![expect(unsafe_code, reason = "passes tables to the kernel by address")]
//! Registering: files and buffers that the kernel looks up once, and asking what it can do.

use core::marker::PhantomData;

use linux_raw_sys::general::iovec;
use linux_raw_sys::io_uring as sys;
use sys::io_uring_register_op as kernel;

use super::calls;
use super::ring::Ring;
use crate::arg::Arg;
use crate::errno::Errno;
use crate::fd::{AsFd, BorrowedFd, RawFd};

/// A range of memory to register.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Buffer {
    base: *mut u8,
    bytes: usize,
}

same_layout!(Buffer, iovec: base = iov_base, bytes = iov_len);

impl Buffer {
    /// `bytes` bytes from `base`, at most 1 GiB.
    #[must_use]
    pub const fn new(base: *mut u8, bytes: usize) -> Self {
        Self { base, bytes }
    }
}

/// A place in the table of registered files: a descriptor, or nothing.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub struct FileSlot<'fd> {
    fd: RawFd,
    lent: PhantomData<BorrowedFd<'fd>>,
}

const _: () = assert!(size_of::<FileSlot<'_>>() == size_of::<i32>());

impl<'fd> FileSlot<'fd> {
    /// No file yet: operations on it complete with `EBADF`. Since Linux 5.5.
    pub const EMPTY: Self = Self {
        fd: -1,
        lent: PhantomData,
    };

    /// The file behind `fd`.
    #[must_use]
    pub fn file(fd: BorrowedFd<'fd>) -> Self {
        Self {
            fd: fd.as_raw(),
            lent: PhantomData,
        }
    }
}

/// How many elements a table has, as the kernel counts them.
fn count<T>(table: &[T]) -> Result<u32, Errno> {
    u32::try_from(table.len()).map_err(|_| Errno::EINVAL)
}

impl Ring {
    /// Registers `buffers`, numbered from zero, for [`op::read_fixed`](super::op::read_fixed) and
    /// [`op::write_fixed`](super::op::write_fixed). Since Linux 5.1.
    ///
    /// The kernel holds the *pages* that are there now. That makes this safe by itself: nothing
    /// is read or written but by those operations, whose constructors demand valid memory. If
    /// other pages are mapped there later, the operations still use the old ones.
    ///
    /// # Errors
    ///
    /// - `EBUSY`: buffers are registered already.
    /// - `EFAULT`: a range is not mapped, not writable, empty, or over 1 GiB.
    /// - `EINVAL`: no buffer, or too many (16384; 1024 before Linux 5.13).
    /// - `ENOMEM`: no memory, or `RLIMIT_MEMLOCK` reached.
    /// - `EOPNOTSUPP`: a range is of a mapped file that cannot be held.
    /// - `ESTALE`: this process was forked from the ring's.
    pub fn register_buffers(&mut self, buffers: &[Buffer]) -> Result<(), Errno> {
        let count = count(buffers)?;
        self.owned()?;
        // SAFETY: the call reads `count` elements laid out as the kernel's `iovec`. The pages
        // they name are pinned, and used by operations with promises of their own only.
        let answer = unsafe {
            calls::register(
                self.as_fd(),
                kernel::IORING_REGISTER_BUFFERS,
                Arg::from(buffers.as_ptr()),
                count,
            )
        };
        answer.map(drop)
    }

    /// Lets the registered buffers go, when the operations that use them have completed.
    /// Since Linux 5.1.
    ///
    /// # Errors
    ///
    /// - `ENXIO`: none are registered.
    /// - `ESTALE`: this process was forked from the ring's.
    pub fn unregister_buffers(&mut self) -> Result<(), Errno> {
        self.unregister(kernel::IORING_UNREGISTER_BUFFERS)
    }

    /// Registers `files` as the targets [`Fixed(0)`](super::op::Fixed) and up. The kernel holds
    /// them open until they are unregistered or replaced, or the ring is gone. Since Linux 5.1.
    ///
    /// # Errors
    ///
    /// - `EBUSY`: files are registered already.
    /// - `EBADF`: a descriptor is of another ring, or has been closed.
    /// - `EINVAL`: no file.
    /// - `EMFILE`: more files than `RLIMIT_NOFILE` allows.
    /// - `ENOMEM`: no memory.
    /// - `ESTALE`: this process was forked from the ring's.
    pub fn register_files(&mut self, files: &[FileSlot<'_>]) -> Result<(), Errno> {
        let count = count(files)?;
        self.owned()?;
        // SAFETY: the call reads `count` elements laid out as C ints.
        let answer = unsafe {
            calls::register(
                self.as_fd(),
                kernel::IORING_REGISTER_FILES,
                Arg::from(files.as_ptr()),
                count,
            )
        };
        answer.map(drop)
    }

    /// Replaces the registered files from number `first` on; says how many. Since Linux 5.5.
    ///
    /// # Errors
    ///
    /// - `ENXIO`: none are registered.
    /// - `EINVAL`: the table is shorter.
    /// - `EBADF`, `ENOMEM`: as for [`register_files`](Self::register_files), with the first file.
    /// - `ESTALE`: this process was forked from the ring's.
    pub fn update_files(&mut self, first: u32, files: &[FileSlot<'_>]) -> Result<u32, Errno> {
        let count = count(files)?;
        self.owned()?;
        let update = sys::io_uring_rsrc_update {
            offset: first,
            resv: 0,
            data: files.as_ptr().expose_provenance() as u64,
        };
        // SAFETY: the call reads one update and the `count` C ints that it names.
        unsafe {
            calls::register(
                self.as_fd(),
                kernel::IORING_REGISTER_FILES_UPDATE,
                Arg::from(&raw const update),
                count,
            )
        }
    }

    /// Lets the registered files go, when the operations that use them have completed.
    /// Since Linux 5.1.
    ///
    /// # Errors
    ///
    /// - `ENXIO`: none are registered.
    /// - `ESTALE`: this process was forked from the ring's.
    pub fn unregister_files(&mut self) -> Result<(), Errno> {
        self.unregister(kernel::IORING_UNREGISTER_FILES)
    }

    fn unregister(&mut self, what: kernel) -> Result<(), Errno> {
        self.owned()?;
        // SAFETY: unregistering takes no argument.
        let answer = unsafe { calls::register(self.as_fd(), what, Arg::NULL, 0) };
        answer.map(drop)
    }
}
