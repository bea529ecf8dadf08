//! Guest memory from outside: what an embedder reads, writes, maps and keeps.
//!
//! Addresses are the guest's, lengths are bytes. All of it works whenever the guest is not running:
//! before it runs, in a hostcall, in a trap, in a page fault. None of it takes a turn of the
//! worker.

use super::Instance;
use crate::error::{Error, KernelResult as _, Misuse, Stage};
use crate::interrupt::Access;
use crate::memory::template::Template;
use crate::memory::{As, MemoryStats, Word};
use crate::module::Protection;
use linux_raw::Errno;
use vmctx::map::Span;

/// The most pages that are looked at around a fault.
const AROUND_PAGES_MAX: u32 = 512;

/// Reading and writing.
impl Instance {
    /// Whether the guest itself could access all of these bytes so. Nothing is touched.
    ///
    /// Ask before an effect that could not be taken back, such as reading from a pipe into guest
    /// memory; [`read_into`](Self::read_into) and [`write`](Self::write) check for themselves.
    #[must_use]
    pub fn is_accessible(&self, address: u64, length: u64, access: Access) -> bool {
        self.started.memory.allows(address, length, access)
    }

    /// Copies guest memory out: `into.len()` bytes from `address` on. Pages that nobody has touched
    /// stay so. It learns which pages are there, hence `&mut`: where it knows, there is no system
    /// call.
    ///
    /// # Errors
    ///
    /// [`Misuse::OutOfBounds`] where the guest itself could not read all of it; `into` is then
    /// unchanged. The kernel's, where it fails to look.
    #[inline]
    pub fn read_into(&mut self, address: u64, into: &mut [u8]) -> Result<(), Error> {
        self.check_ours(Stage::Memory)?;
        self.started.memory.read(address, into, As::Guest)
    }

    /// Copies guest memory out, as [`read_into`](Self::read_into), into a vector.
    ///
    /// # Errors
    ///
    /// As there; whatever `length` says, nothing is allocated then.
    pub fn read(&mut self, address: u64, length: u64) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        if self.is_accessible(address, length, Access::Read) {
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            // What is mapped and untouched costs a guest nothing, but would cost us.
            let room = bytes.try_reserve_exact(length).map_err(|_| Errno::ENOMEM);
            room.at(Stage::Memory, "allocation")?;
            bytes.resize(length, 0);
            self.read_into(address, &mut bytes)?;
            return Ok(bytes);
        }
        let access = Access::Read;
        let misuse = Misuse::OutOfBounds {
            address,
            length,
            access,
        };
        Err(Error::misuse(Stage::Memory, misuse))
    }

    /// Copies out what the guest itself may perhaps not read: hidden pages and code too.
    ///
    /// # Errors
    ///
    /// [`Misuse::OutOfBounds`] where nothing is mapped.
    pub fn read_as_host(&mut self, address: u64, into: &mut [u8]) -> Result<(), Error> {
        self.check_ours(Stage::Memory)?;
        self.started.memory.read(address, into, As::Host)
    }

    /// Copies into guest memory, from `address` on.
    ///
    /// # Errors
    ///
    /// [`Misuse::OutOfBounds`] where the guest itself could not write all of it; nothing is then
    /// written. The kernel's, where it has no memory: then the first bytes may have been written.
    #[inline]
    pub fn write(&mut self, address: u64, from: &[u8]) -> Result<(), Error> {
        self.check_ours(Stage::Memory)?;
        self.started.memory.write(address, from, As::Guest)
    }

    /// Copies into guest memory that the guest itself may only read, or not even that. Code and
    /// constants that instances share stay as they are: [`Misuse::OutOfBounds`].
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write).
    pub fn write_as_host(&mut self, address: u64, from: &[u8]) -> Result<(), Error> {
        self.check_ours(Stage::Memory)?;
        self.started.memory.write(address, from, As::Host)
    }

    /// Fills `length` bytes from `address` on with zeros. Many whole pages are given back to the
    /// machine.
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write).
    pub fn zero(&mut self, address: u64, length: u64) -> Result<(), Error> {
        self.check_ours(Stage::Memory)?;
        self.started.memory.zero(address, length, As::Guest)
    }

    /// Reads an integer of 1 to 8 bytes, little-endian, at any address.
    ///
    /// # Errors
    ///
    /// As [`read_into`](Self::read_into).
    #[inline]
    pub fn load<W: Word>(&mut self, address: u64) -> Result<W, Error> {
        let mut bytes = [0; 8];
        self.read_into(address, &mut bytes[..size_of::<W>()])?;
        Ok(W::from_bytes(bytes))
    }

    /// Writes an integer of 1 to 8 bytes, little-endian, at any address.
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write).
    #[inline]
    pub fn store<W: Word>(&mut self, address: u64, word: W) -> Result<(), Error> {
        self.write(address, &word.to_bytes()[..size_of::<W>()])
    }

    /// Fills the module's input region ([`ModuleBuilder::input`](crate::ModuleBuilder::input)) with
    /// `input`, and the rest of it with zeros.
    ///
    /// # Errors
    ///
    /// [`Misuse::NoInput`], [`Misuse::InputBytes`]; as [`write`](Self::write).
    pub fn set_input(&mut self, input: &[u8]) -> Result<(), Error> {
        self.check_ours(Stage::Memory)?;
        let Some(region) = self.started.module.input() else {
            return Err(Error::misuse(Stage::Memory, Misuse::NoInput));
        };
        let (bytes, limit) = (input.len() as u64, region.end - region.start);
        if bytes > limit {
            return Err(Error::misuse(
                Stage::Memory,
                Misuse::InputBytes { bytes, limit },
            ));
        }
        self.started.memory.replace(region, input)
    }

    /// Puts machine code into the instance's code window
    /// ([`ModuleBuilder::code_window`](crate::ModuleBuilder::code_window)), where the guest can
    /// execute it when it next runs. A reset or a restore empties the window.
    ///
    /// # Errors
    ///
    /// [`Misuse::OutsideCodeWindow`]; the kernel's, where it has no memory.
    pub fn write_code(&mut self, address: u64, code: &[u8]) -> Result<(), Error> {
        self.check_usable(Stage::Memory)?;
        self.started.memory.write_code(address, code)
    }
}

/// The memory map. On an engine that cannot change maps
/// ([`Engine::can_change_maps`](crate::Engine::can_change_maps)) all of these are
/// [`Misuse::FixedMap`].
impl Instance {
    /// Maps zero pages where nothing is. Up to 512 pages are there at once; of more, each takes
    /// memory when it is first touched.
    ///
    /// # Errors
    ///
    /// [`Misuse::Region`] for what is empty, not whole pages or outside the guest's addresses;
    /// [`Misuse::Overlap`]; [`Misuse::MemoryLimit`], [`Misuse::EngineMemoryLimit`];
    /// [`Misuse::FixedMap`]; the kernel's, where it has no memory. Nothing is then mapped.
    pub fn map_zero(&mut self, address: u64, length: u64, to: Protection) -> Result<(), Error> {
        self.check_usable(Stage::Memory)?;
        let done = self.started.memory.map_zero(address, length, to);
        self.unless_over(done)
    }

    /// Maps pages with these contents where nothing is. The rest of the last page is zero.
    ///
    /// # Errors
    ///
    /// As [`map_zero`](Self::map_zero).
    pub fn map_data(&mut self, address: u64, contents: &[u8], to: Protection) -> Result<(), Error> {
        self.check_usable(Stage::Memory)?;
        let done = self.started.memory.map_data(address, contents, to);
        self.unless_over(done)
    }

    /// Maps a template where nothing is. Each of its pages is shared until it is first touched.
    ///
    /// # Errors
    ///
    /// As [`map_zero`](Self::map_zero); [`Misuse::Forked`].
    pub fn map_template(
        &mut self,
        address: u64,
        template: &Template,
        to: Protection,
    ) -> Result<(), Error> {
        self.check_usable(Stage::Memory)?;
        let done = self.started.memory.map_template(address, template, to);
        self.unless_over(done)
    }

    /// Makes pages where nothing is a trap to touch, and no page fault. They can be unmapped.
    ///
    /// # Errors
    ///
    /// As [`map_zero`](Self::map_zero), but for the limits.
    pub fn guard(&mut self, address: u64, length: u64) -> Result<(), Error> {
        self.check_usable(Stage::Memory)?;
        let done = self.started.memory.guard(address, length);
        self.unless_over(done)
    }

    /// Changes what the guest may do with mapped pages. The contents stay, also of pages that it
    /// may not touch at all.
    ///
    /// # Errors
    ///
    /// [`Misuse::NotMapped`] and [`Misuse::Fixed`], and nothing is changed; otherwise as
    /// [`map_zero`](Self::map_zero).
    pub fn protect(&mut self, address: u64, length: u64, to: Protection) -> Result<(), Error> {
        self.check_usable(Stage::Memory)?;
        let done = self.started.memory.protect(address, length, to);
        self.unless_over(done)
    }

    /// Takes pages away with their contents. Where there is nothing, nothing happens.
    ///
    /// # Errors
    ///
    /// [`Misuse::Region`], [`Misuse::Fixed`], [`Misuse::FixedMap`], and nothing is changed; the
    /// kernel's.
    pub fn unmap(&mut self, address: u64, length: u64) -> Result<(), Error> {
        self.check_usable(Stage::Memory)?;
        let done = self.started.memory.unmap(address, length);
        self.unless_over(done)
    }

    /// Moves the end of the heap ([`ModuleBuilder::heap`](crate::ModuleBuilder::heap)) by `bytes`,
    /// as `sbrk` does, and gives where it was before. Memory up to the end of the page it lies in
    /// is the guest's; on an engine that cannot change maps all of the heap is, from the start.
    ///
    /// # Errors
    ///
    /// [`Misuse::NoHeap`], [`Misuse::HeapLimit`]; as [`map_zero`](Self::map_zero).
    pub fn grow_heap(&mut self, bytes: i64) -> Result<u64, Error> {
        self.check_usable(Stage::Memory)?;
        let done = self.started.memory.grow_heap(bytes);
        self.unless_over(done)
    }

    /// The absent pages around an address, for a pager that maps more than one: those of the
    /// aligned block of `pages` pages that it lies in, as far as nothing else is between. `pages`
    /// is rounded down to a power of two, and is 512 at the most. Empty where the page is not
    /// absent.
    #[must_use]
    pub fn absent_around(&self, address: u64, pages: u32) -> Span {
        let pages = pages.clamp(1, AROUND_PAGES_MAX);
        let pages = 1 << (u32::BITS - 1 - pages.leading_zeros());
        let around = self.started.memory.absent_around(address, pages);
        around.unwrap_or(address..address)
    }

    /// What the memory takes.
    ///
    /// # Errors
    ///
    /// The kernel's, where it fails to say.
    pub fn memory_stats(&mut self) -> Result<MemoryStats, Error> {
        self.check_ours(Stage::Memory)?;
        self.started.memory.stats()
    }
}

impl Instance {
    /// The kernel has two words for the memory of a process that is no more. The other is ESRCH,
    /// which says it plainly (fs/userfaultfd.c).
    pub(super) fn unless_over<T>(&self, done: Result<T, Error>) -> Result<T, Error> {
        match done {
            Err(error) if error.is_errno(Errno::ENOMEM) && self.started.worker.is_ending() => {
                Err(Error::misuse(error.stage, Misuse::Over))
            }
            done => done,
        }
    }
}
