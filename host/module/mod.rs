//! A verified, immutable guest: code, data, memory map.

mod digest;
pub mod elf;
mod image;
mod layout;
mod weak;

use std::fmt;
use std::sync::{Arc, OnceLock};

pub use layout::Protection;
pub(crate) use layout::{MappedRegion, Source};
pub(crate) use weak::WeakModule;

use linux_raw::fd::AsFd;
use linux_raw::fd::BorrowedFd;
use vmctx::map::{self, Span};

use self::digest::Digest;
use self::image::Image;
use self::layout::Layout;
use crate::engine::Engine;
use crate::error::{Error, Misuse, Stage};
use crate::lineage::Lineage;
use crate::memory::{self, Table};

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
    table: Table,
    image: Image,
    entry: u64,
    stack: u64,
    extras: Extras,
    digest: OnceLock<Digest>,
}

/// What a module has besides its regions.
#[derive(Default, Clone)]
struct Extras {
    dynamic_paging: bool,
    heap: Option<Span>,
    input: Option<Span>,
    code_window: Option<Span>,
    entropy: Option<Span>,
}

/// Collects the parts of a [`Module`].
#[derive(Default)]
#[must_use]
pub struct ModuleBuilder {
    parts: Vec<Part>,
    entry: Option<u64>,
    stack: Option<u64>,
    extras: Extras,
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

    /// The regions that a worker maps when it starts.
    pub(crate) fn worker_regions(&self) -> impl Iterator<Item = &MappedRegion> {
        let paged = self.is_paged();
        let regions = self.regions().iter();
        regions.filter(move |region| region.is_workers(paged))
    }

    /// The region that an address is in.
    pub(crate) fn region_of(&self, address: u64) -> Option<&MappedRegion> {
        let regions = self.regions();
        let after = regions.partition_point(|region| region.span.end <= address);
        let region = regions.get(after)?;
        region.span.contains(&address).then_some(region)
    }

    /// Where the initial contents of an instance's own page are in the image; nothing for zeros.
    pub(crate) fn initial_offset(&self, address: u64) -> Option<u64> {
        let region = self.region_of(address)?;
        let within = address - region.span.start;
        match region.source {
            Source::Memory { offset, initial } if within < initial => Some(offset + within),
            _ => None,
        }
    }

    /// The map that an instance begins with.
    pub(crate) fn table(&self) -> &Table {
        &self.inner.table
    }

    /// How many bytes an instance holds from the start.
    pub(crate) fn initial_bytes(&self) -> u64 {
        memory::held_bytes(&self.inner.table)
    }

    /// Whether the host decides what is in its instances' memory.
    pub(crate) fn is_paged(&self) -> bool {
        self.inner.layout.is_paged()
    }

    /// Whether a touch of nothing is a page fault, and not a trap.
    #[must_use]
    pub fn pages_dynamically(&self) -> bool {
        self.inner.extras.dynamic_paging
    }

    /// Where an instance's heap may be, if it has one.
    #[must_use]
    pub fn heap(&self) -> Option<Span> {
        self.inner.extras.heap.clone()
    }

    /// Where an instance's input is, if it may have any.
    #[must_use]
    pub fn input(&self) -> Option<Span> {
        self.inner.extras.input.clone()
    }

    /// Where the host may write code later, if anywhere.
    #[must_use]
    pub fn code_window(&self) -> Option<Span> {
        self.inner.extras.code_window.clone()
    }

    pub(crate) fn entropy(&self) -> Option<Span> {
        self.inner.extras.entropy.clone()
    }

    pub(crate) fn lineage(&self) -> &Arc<Lineage> {
        self.inner.image.mapping().lineage()
    }

    /// What tells it from any other module: code, data, map.
    pub(crate) fn digest(&self) -> &Digest {
        let inner = &self.inner;
        inner.digest.get_or_init(|| digest::of(self))
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

    /// No memory from `address` on for `length` bytes, whatever is mapped later: a touch is a trap.
    pub fn guard(self, address: u64, length: u64) -> Self {
        self.reserve(address, length, layout::Kind::Guard)
    }

    /// Room for a heap of at most `length` bytes from `address` on, which
    /// [`Instance::grow_heap`](crate::Instance::grow_heap) makes memory of.
    ///
    /// Until then it is a guard: a touch of it is a trap, and nothing else can be mapped there. A
    /// module has one heap at the most: the last call counts.
    pub fn heap(mut self, address: u64, length: u64) -> Self {
        self.extras.heap = Some(address..address.saturating_add(length));
        self
    }

    /// A region of `length` bytes at `address` that the guest may only read and
    /// [`Instance::set_input`](crate::Instance::set_input) fills.
    /// A module has one at the most: the last call counts.
    pub fn input(mut self, address: u64, length: u64) -> Self {
        self.extras.input = Some(address..address.saturating_add(length));
        self
    }

    /// Room for `length` bytes of code at `address`, page-aligned in the code window
    /// ([`CODE_WINDOW`](crate::abi::CODE_WINDOW)), which
    /// [`Instance::write_code`](crate::Instance::write_code) fills while the guest waits. What is
    /// not written traps. A module has one such window at the most: the last call counts.
    pub fn code_window(mut self, address: u64, length: u64) -> Self {
        self.extras.code_window = Some(address..address.saturating_add(length));
        self
    }

    /// Up to a page of bytes that are random in each instance, and fresh after each reset and
    /// restore: a guest that seeds its generators there does not repeat itself. They are in one
    /// page of the instance's own memory. The last call counts.
    pub fn entropy(mut self, address: u64, length: u64) -> Self {
        self.extras.entropy = Some(address..address.saturating_add(length));
        self
    }

    /// A touch of a page that is not there is an
    /// [`Interrupt::PageFault`](crate::Interrupt::PageFault), and not a trap: the host pages.
    pub fn dynamic_paging(mut self) -> Self {
        self.extras.dynamic_paging = true;
        self
    }

    fn reserve(mut self, address: u64, length: u64, protection: layout::Kind) -> Self {
        self.parts.push(Part {
            address,
            length,
            protection,
            contents: Vec::new(),
        });
        self
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
    /// addresses, for no code or stack, an entry outside code, more memory than
    /// [`Config::memory_limit`](crate::Config::memory_limit), a seed that is not within a page, or
    /// dynamic paging where there is none ([`Misuse::NoDynamicPaging`]); the kernel's error where
    /// the memfd could not be made.
    pub fn build(mut self, engine: &Engine) -> Result<Module, Error> {
        let refuse = |misuse| Error::misuse(Stage::Module, misuse);
        if self.extras.dynamic_paging && !engine.can_change_maps() {
            return Err(refuse(Misuse::NoDynamicPaging));
        }
        let extras = self.extras.clone();
        for (span, kind) in [
            (extras.code_window, layout::Kind::CodeWindow),
            (extras.heap, layout::Kind::Heap),
            (extras.input, layout::Kind::Data(Protection::Read)),
        ] {
            if let Some(span) = span {
                self = self.reserve(span.start, span.end - span.start, kind);
            }
        }
        let limit = engine.config().memory_limit;
        let layout = Layout::new(&self.parts, limit, engine.can_change_maps()).map_err(refuse)?;
        let Some(first_code) = layout.code().map(|span| span.start).next() else {
            return Err(refuse(Misuse::NoCode));
        };
        let entry = self.entry.unwrap_or(first_code);
        if !layout.code().any(|span| span.contains(&entry)) {
            return Err(refuse(Misuse::EntryOutsideCode(entry)));
        }
        let stack = self.stack.ok_or_else(|| refuse(Misuse::NoStack))?;
        let table = layout.table();
        if let Some(seed) = &self.extras.entropy {
            memory::check_seed(&table, seed).map_err(refuse)?;
        }
        let image = Image::new(&layout, &self.parts, engine.lineage())?;
        Ok(Module {
            inner: Arc::new(Inner {
                layout,
                table,
                image,
                entry,
                stack,
                extras: self.extras,
                digest: OnceLock::new(),
            }),
        })
    }
}
