//! Native guests: a program that `cellwall-guest` or C made, from ELF file to entry.
//!
//! | region | where |
//! |---|---|
//! | the file's segments | where the file says, or from [`crate::elf`]'s load address on |
//! | arguments | after the last segment and a guard page; the guest may only read them |
//! | stack | after another guard page |
//! | heap | after another |

use vmctx::{PAGE_BYTES, map};

use crate::elf::{self, SegmentProtection};
use crate::engine::Engine;
use crate::error::{Error, Misuse, Stage};
use crate::instance::Instance;
use crate::module::{Module, Protection};

/// What a native guest gets besides its file.
#[derive(Debug, Clone)]
#[must_use]
pub struct Options {
    stack_bytes: u64,
    heap_bytes: u64,
    argument_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            stack_bytes: 1 << 20,
            heap_bytes: 256 << 20,
            argument_bytes: 64 << 10,
        }
    }
}

impl Options {
    /// The default: 1 MiB of stack, 256 MiB of heap, 64 KiB of arguments.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes of stack, rounded up to whole pages.
    pub fn stack_bytes(mut self, bytes: u64) -> Self {
        self.stack_bytes = bytes;
        self
    }

    /// Bytes of heap, rounded up to whole pages. They cost memory once they are touched.
    pub fn heap_bytes(mut self, bytes: u64) -> Self {
        self.heap_bytes = bytes;
        self
    }
}

/// A native guest, ready to be instantiated.
///
/// ```no_run
/// use cellwall::{Config, Engine, Interrupt, native};
///
/// let engine = Engine::new(&Config::default())?;
/// let file = std::fs::read("guest.elf").unwrap();
/// let program = native::Program::load(&engine, &file, &native::Options::new())?;
/// let mut instance = engine.instantiate(program.module())?;
/// program.enter(&mut instance, &["--fast", "input"])?;
/// while let Interrupt::Hostcall(call) = instance.run()? {
///     println!("hostcall {}", call.number);
///     instance.answer(0)?;
/// }
/// # Ok::<(), cellwall::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Program {
    module: Module,
    arguments: map::Span,
    heap: map::Span,
}

impl Program {
    /// Checks an ELF file and lays it out.
    ///
    /// # Errors
    ///
    /// [`Misuse::Elf`] with the reason for a file that is no guest; otherwise as
    /// [`ModuleBuilder::build`](crate::ModuleBuilder::build).
    pub fn load(engine: &Engine, file: &[u8], options: &Options) -> Result<Self, Error> {
        let image = elf::load(file).map_err(|error| Error::misuse(Stage::Module, error))?;
        let mut builder = Module::builder().entry(image.entry);
        let mut end = 0;
        for segment in &image.segments {
            end = end.max(segment.address.saturating_add(segment.length));
            builder = match segment.protection {
                SegmentProtection::ReadExecute => {
                    builder.code_at(segment.address, &segment.contents)
                }
                SegmentProtection::Read | SegmentProtection::ReadWrite => builder
                    .data_zero_extended(
                        segment.address,
                        &segment.contents,
                        segment.length,
                        protection(segment.protection),
                    ),
            };
        }
        let arguments = after(end, options.argument_bytes);
        let stack = after(arguments.end, options.stack_bytes);
        let heap = after(stack.end, options.heap_bytes);
        let module = builder
            .zeroed(
                arguments.start,
                arguments.end - arguments.start,
                Protection::Read,
            )
            .stack(stack.start, stack.end - stack.start)
            .zeroed(heap.start, heap.end - heap.start, Protection::ReadWrite)
            .build(engine)?;
        Ok(Self {
            module,
            arguments,
            heap,
        })
    }

    /// What to instantiate.
    #[must_use]
    pub fn module(&self) -> &Module {
        &self.module
    }

    /// Puts the arguments into the guest's memory and calls its entry; `run` then starts it. There
    /// is no program name among them, and none may hold a NUL.
    ///
    /// # Errors
    ///
    /// [`Misuse::ArgumentBytes`] if they do not fit, [`Misuse::ArgumentNul`],
    /// [`Misuse::OtherModule`]; as [`Instance::call`] otherwise.
    pub fn enter<A: AsRef<[u8]>>(
        &self,
        instance: &mut Instance,
        arguments: &[A],
    ) -> Result<(), Error> {
        if !instance.module().is(&self.module) {
            return Err(Error::misuse(Stage::Run, Misuse::OtherModule));
        }
        let mut block = Vec::new();
        for argument in arguments {
            let argument = argument.as_ref();
            if argument.contains(&0) {
                return Err(Error::misuse(Stage::Run, Misuse::ArgumentNul));
            }
            block.extend_from_slice(argument);
            block.push(0);
        }
        let bytes = block.len() as u64;
        let limit = self.arguments.end - self.arguments.start;
        if bytes > limit {
            return Err(Error::misuse(
                Stage::Run,
                Misuse::ArgumentBytes { bytes, limit },
            ));
        }
        instance.write_as_host(self.arguments.start, &block)?;
        let args = [self.arguments.start, bytes, self.heap.start, self.heap.end];
        instance.call(self.module.entry(), &args)
    }
}

fn protection(segment: SegmentProtection) -> Protection {
    match segment {
        SegmentProtection::ReadWrite => Protection::ReadWrite,
        SegmentProtection::Read | SegmentProtection::ReadExecute => Protection::Read,
    }
}

/// `bytes`, at least a page, after `end` and a guard page. A span beyond the guest's addresses is
/// refused when the module is built.
fn after(end: u64, bytes: u64) -> map::Span {
    let start = end
        .checked_next_multiple_of(PAGE_BYTES)
        .unwrap_or(map::GUEST.end);
    let start = start.saturating_add(PAGE_BYTES);
    let bytes = bytes
        .max(1)
        .checked_next_multiple_of(PAGE_BYTES)
        .unwrap_or(map::GUEST.end);
    start..start.saturating_add(bytes)
}
