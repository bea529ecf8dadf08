//! Who answers a guest's page faults.

use crate::error::Error;
use crate::instance::Instance;
use crate::interrupt::PageFault;

/// Answers the page faults of an instance without a return from
/// [`Instance::run`](crate::Instance::run). Closures with the signature of
/// [`page_fault`](Self::page_fault) are pagers.
///
/// ```
/// use cellwall::{Config, Engine, Instance, Interrupt, Module, PageFault, Paged, Protection};
///
/// let engine = Engine::new(&Config::default())?;
/// if engine.can_change_maps() {
///     let code = [0x48, 0x8b, 0x07, 0xc3]; // mov rax, [rdi]; ret
///     let module = Module::builder().code(&code).stack(0x10_0000, 0x1_0000).dynamic_paging();
///     let module = module.build(&engine)?;
///     let mut instance = engine.instantiate(&module)?;
///     instance.set_pager(|fault: &PageFault, instance: &mut Instance| {
///         // Sixteen pages at a time, as far as nothing is there yet.
///         let around = instance.absent_around(fault.address, 16);
///         instance.map_zero(around.start, around.end - around.start, Protection::ReadWrite)?;
///         Ok(Paged::Retry)
///     });
///     instance.call(module.entry(), &[0x20_0000])?;
///     assert_eq!(instance.run()?, Interrupt::Finished(0));
/// }
/// # Ok::<(), cellwall::Error>(())
/// ```
pub trait Pager: Send {
    /// Answers one fault. The pager may do whatever the caller of `run` could do with the instance
    /// there.
    ///
    /// # Errors
    ///
    /// Whatever the pager cannot deal with: `run` gives it to its caller, and the guest stays in
    /// the fault. Where a limit is reached, [`Misuse::MemoryLimit`](crate::Misuse::MemoryLimit) or
    /// [`Misuse::EngineMemoryLimit`](crate::Misuse::EngineMemoryLimit), it is not an error but
    /// [`Interrupt::OutOfMemory`](crate::Interrupt::OutOfMemory).
    fn page_fault(&mut self, fault: &PageFault, instance: &mut Instance) -> Result<Paged, Error>;
}

impl<F> Pager for F
where
    F: FnMut(&PageFault, &mut Instance) -> Result<Paged, Error> + Send,
{
    fn page_fault(&mut self, fault: &PageFault, instance: &mut Instance) -> Result<Paged, Error> {
        self(fault, instance)
    }
}

/// What a pager did with a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Paged {
    /// The page is there: the guest tries again, or does what the pager has called instead.
    Retry,
    /// The guest may not do that: a trap.
    Refuse,
    /// The caller of `run` is to deal with it: a page fault.
    Later,
}
