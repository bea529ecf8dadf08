//! A verified, immutable guest: code, data, memory map.

pub mod elf;
mod image;
mod layout;

use std::fmt;
use std::sync::Arc;

pub use layout::Protection;
pub(crate) use layout::{MappedRegion, Source};

use linux_raw::fd::AsFd;
use linux_raw::fd::BorrowedFd;
use vmctx::map;

use self::image::Image;
use self::layout::Layout;
use crate::engine::Engine;
use crate::error::{Error, Misuse, Stage};

/// What an instance is made from. Cheap to clone; instances share its code and constants.
///
/// ```
/// use cellwall::{Config, Engine, Module, Protection};
///
/// let engine = Engine::new(&Config::default())?;
/// let module = Module::builder()
///     .code(&[0x48, 0x89, 0xf8, 0xc3]) // mov rax, rdi; ret
///     .data(0x1_0000, b"constants", Protection::Read)
///     .zeroed(0x2_0000, 0x1_0000, Protection::ReadWrite)
///     .stack(0x10_0000, 0x1_0000)
///     .build(&engine)?;
/// assert_eq!(module.entry(), cellwall::abi::CODE_WINDOW.start);
/// # Ok::<(), cellwall::Error>(())
/// ```
#[derive(Clone)]
pub struct Module {
    inner: Arc<Inner>,
}

struct Inner {
    layout: Layout,
    image: Image,
    entry: u64,
    stack: u64,
}

/// Collects the parts of a [`Module`].
#[derive(Default)]
#[must_use]
pub struct ModuleBuilder {
    parts: Vec<Part>,
    entry: Option<u64>,
    stack: Option<u64>,
}

/// One region as the caller gave it.
struct Part {
    address: u64,
    length: u64,
    protection: layout::Kind,
    contents: Vec<u8>,
}

impl Module {
    /// Begins a module.
    pub fn builder() -> ModuleBuilder {
        ModuleBuilder::default()
    }

    /// Where a guest is entered unless the caller says otherwise: the one given to
    /// [`ModuleBuilder::entry`], or the first byte of code.
    #[must_use]
    pub fn entry(&self) -> u64 {
        self.inner.entry
    }

    /// The stack pointer that a guest is entered with, before the return address is pushed.
    #[must_use]
    pub fn stack_top(&self) -> u64 {
        self.inner.stack
    }

    /// How many bytes of guest memory an instance has, code included.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        self.inner.layout.bytes()
    }

    /// Whether this process made it, and is no forked child that has a handle of it.
    pub(crate) fn is_ours(&self) -> bool {
        self.inner.image.mapping().is_ours()
    }

    /// Whether both are handles of the same module.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    pub(crate) fn regions(&self) -> &[MappedRegion] {
        self.inner.layout.regions()
    }

    pub(crate) fn image(&self) -> &Image {
        &self.inner.image
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.inner.image.fd().as_fd()
    }
}

impl fmt::Debug for Module {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Module")
            .field("entry", &format_args!("{:#x}", self.entry()))
            .field("memory_bytes", &self.memory_bytes())
            .finish_non_exhaustive()
    }
}

impl ModuleBuilder {
    /// Machine code at the start of the code window ([`CODE_WINDOW`](crate::abi::CODE_WINDOW)):
    /// readable and executable, never writable. What is left of its last page traps.
    pub fn code(self, code: &[u8]) -> Self {
        self.code_at(map::CODE_WINDOW.start, code)
    }

    /// Machine code at `address`, page-aligned: in the code window or among the guest addresses.
    pub fn code_at(mut self, address: u64, code: &[u8]) -> Self {
        self.parts.push(Part {
            address,
            length: code.len() as u64,
            protection: layout::Kind::Code,
            contents: code.to_vec(),
        });
        self
    }

    /// Bytes at `address`, page-aligned. The rest of the last page is zero.
    pub fn data(self, address: u64, contents: &[u8], protection: Protection) -> Self {
        self.data_zero_extended(address, contents, contents.len() as u64, protection)
    }

    /// `length` bytes at `address`, page-aligned, of which the first are `contents` and the rest
    /// are zero, as an ELF segment has them.
    pub fn data_zero_extended(
        mut self,
        address: u64,
        contents: &[u8],
        length: u64,
        protection: Protection,
    ) -> Self {
        self.parts.push(Part {
            address,
            length: length.max(contents.len() as u64),
            protection: layout::Kind::Data(protection),
            contents: contents.to_vec(),
        });
        self
    }

    /// `length` zero bytes at `address`, page-aligned. Pages cost memory once they are touched.
    pub fn zeroed(self, address: u64, length: u64, protection: Protection) -> Self {
        self.data_zero_extended(address, &[], length, protection)
    }

    /// A stack of `length` bytes that ends at `address + length`, both page-aligned. Leave the
    /// page below it free, so that an overflow traps.
    pub fn stack(mut self, address: u64, length: u64) -> Self {
        self.stack = Some(address.saturating_add(length));
        self.zeroed(address, length, Protection::ReadWrite)
    }

    /// The stack pointer that a guest is entered with, if its stack is part of another region.
    pub fn stack_pointer(mut self, address: u64) -> Self {
        self.stack = Some(address);
        self
    }

    /// Where the guest is entered. The first byte of code by default.
    pub fn entry(mut self, entry: u64) -> Self {
        self.entry = Some(entry);
        self
    }

    /// Checks the parts and writes them into a sealed memfd.
    ///
    /// # Errors
    ///
    /// [`Misuse`] for regions that overlap, that are not whole pages or lie outside the guest's
    /// addresses, for no code or stack, an entry outside code, or more memory than
    /// [`Config::memory_limit`](crate::Config::memory_limit); the kernel's error where the memfd
    /// could not be made.
    pub fn build(self, engine: &Engine) -> Result<Module, Error> {
        let layout = Layout::new(&self.parts, engine.config().memory_limit)
            .map_err(|misuse| Error::misuse(Stage::Module, misuse))?;
        let Some(first_code) = layout.code().map(|span| span.start).next() else {
            return Err(Error::misuse(Stage::Module, Misuse::NoCode));
        };
        let entry = self.entry.unwrap_or(first_code);
        if !layout.code().any(|span| span.contains(&entry)) {
            return Err(Error::misuse(
                Stage::Module,
                Misuse::EntryOutsideCode(entry),
            ));
        }
        let Some(stack) = self.stack else {
            return Err(Error::misuse(Stage::Module, Misuse::NoStack));
        };
        let image = Image::new(&layout, &self.parts, engine.lineage())?;
        Ok(Module {
            inner: Arc::new(Inner {
                layout,
                image,
                entry,
                stack,
            }),
        })
    }
}
