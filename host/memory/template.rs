//! Contents that many instances share until they touch them.

use std::fmt;
use std::sync::Arc;

use vmctx::{PAGE_BYTES, map};

use crate::engine::Engine;
use crate::error::{Error, Misuse, RegionFault, Stage};
use crate::mapping::{Mapping, Sharing};
use crate::memfd;

/// Whole pages of data that any number of instances can map, at no cost until one touches a page:
/// then that instance gets a copy of it. Cheap to clone.
///
/// ```
/// use cellwall::{Config, Engine, Module, Protection, Template};
///
/// let engine = Engine::new(&Config::default())?;
/// let module = Module::builder().code(&[0xc3]).stack(0x10_0000, 0x1_0000).build(&engine)?;
/// let table = Template::new(&engine, b"a large table")?;
/// let mut instance = engine.instantiate(&module)?;
/// if engine.can_change_maps() {
///     instance.map_template(0x20_0000, &table, Protection::Read)?;
///     assert_eq!(instance.read(0x20_0002, 5)?, b"large");
/// }
/// # Ok::<(), cellwall::Error>(())
/// ```
#[derive(Clone)]
pub struct Template {
    inner: Arc<Mapping>,
    bytes: u64,
}

impl Template {
    /// Copies `contents` into sealed memory; the rest of the last page is zero.
    ///
    /// # Errors
    ///
    /// [`Misuse::Region`] for no contents or more than a guest has addresses; [`Misuse::Forked`];
    /// the kernel's, where it refuses the memory.
    pub fn new(engine: &Engine, contents: &[u8]) -> Result<Self, Error> {
        let stage = Stage::Memory;
        let (start, end) = (0, contents.len() as u64);
        let refuse = |fault| Err(Error::misuse(stage, Misuse::Region { start, end, fault }));
        if !engine.lineage().is_ours() {
            return Err(Error::misuse(stage, Misuse::Forked));
        }
        if end == 0 {
            return refuse(RegionFault::Empty);
        }
        if end > map::GUEST.end - map::GUEST.start {
            return refuse(RegionFault::Outside);
        }
        let bytes = end.next_multiple_of(PAGE_BYTES);
        let writable = memfd::unsealed(c"cellwall-template", bytes, stage)?;
        memfd::write_all(&writable, contents, 0, stage)?;
        let fd = memfd::freeze(&writable, stage)?;
        let mapping = Mapping::new(&fd, bytes, Sharing::ReadOnly, stage, engine.lineage())?;
        let inner = Arc::new(mapping);
        Ok(Self { inner, bytes })
    }

    /// How many bytes it maps: whole pages.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn mapping(&self) -> &Mapping {
        &self.inner
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Template")
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}
