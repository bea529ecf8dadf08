//! What needs the kernel, as data.

use cellwall::{
    Config, Engine, Error, Instance, Module, PageFault, Paged, Protection, Snapshot, Template,
};
use iced_x86::code_asm::{CodeAssembler, qword_ptr, rax, rdi};

use super::super::{NOWHERE, PAGE, next_fault};
use crate::harness::{DATA, assemble, call, parts};

const HEAP: u64 = 0x1000_0000;
pub(super) const LARGE: u64 = 0x2000_0000;

fn increment(code: &mut CodeAssembler) {
    code.inc(qword_ptr(rdi)).unwrap();
    code.mov(rax, qword_ptr(rdi)).unwrap();
    code.ret().unwrap();
}

/// What instances are made of.
pub(super) struct World {
    pub(super) engine: Engine,
    pub(super) module: Module,
    pub(super) template: Template,
    pub(super) snapshot: Snapshot,
    /// How many bytes a fresh instance has mapped.
    pub(super) fresh: u64,
}

impl World {
    pub(super) fn new(config: &Config) -> Option<Self> {
        let engine = Engine::new(config).unwrap();
        if !engine.can_change_maps() && !config.fixes_memory() {
            absence::absent("userfaultfd", "nothing to refuse");
            return None;
        }
        let module = parts(&assemble(increment))
            .data(0x8_0000, &[9; 8192], Protection::ReadWrite)
            .entropy(DATA + 0x1000, 16)
            .heap(HEAP, 0x100 * PAGE)
            .code_window(cellwall::abi::CODE_WINDOW.start + 0x10_0000, 4 * PAGE);
        let pages = engine.can_change_maps();
        let module = if pages {
            module.dynamic_paging()
        } else {
            module
        };
        let module = module.build(&engine).unwrap();
        let template = Template::new(&engine, &[3; 8192]).unwrap();
        let mut first = engine.instantiate(&module).unwrap();
        let fresh = first.memory_stats().unwrap().mapped;
        first.write(DATA, &[1; 8192]).unwrap();
        if pages {
            first
                .map_data(LARGE, &[2; 4096], Protection::ReadWrite)
                .unwrap();
        }
        let snapshot = first.snapshot().unwrap();
        Some(Self {
            engine,
            module,
            template,
            snapshot,
            fresh,
        })
    }

    /// One with pages of all kinds, in a fault where there are any.
    pub(super) fn instance(&self) -> Instance {
        let mut instance = self.engine.instantiate(&self.module).unwrap();
        if !self.engine.can_change_maps() {
            instance.write(DATA, &[5; 8192]).unwrap();
            return instance;
        }
        instance.grow_heap(0x20_000).unwrap();
        instance
            .map_zero(LARGE, 1024 * PAGE, Protection::ReadWrite)
            .unwrap();
        instance.write(LARGE + 5 * PAGE, &[4; 8192]).unwrap();
        instance
            .map_data(LARGE + 2048 * PAGE, &[1; 8192], Protection::Read)
            .unwrap();
        instance
            .map_data(LARGE + 2050 * PAGE, &[1; 8192], Protection::ReadWrite)
            .unwrap();
        instance
            .map_data(LARGE + 3000 * PAGE, &[2; 8192], Protection::None)
            .unwrap();
        call(&mut instance, &[NOWHERE]);
        next_fault(&mut instance);
        instance
    }
}

pub(super) type Attempt = fn(&World, &mut Instance) -> Result<(), Error>;

/// What needs the kernel, and works where maps are fixed. (For starts see `failclosed`.)
pub(super) const ALWAYS: [(&str, Attempt); 7] = [
    ("a template", |w, _| {
        Template::new(&w.engine, &[1; 9000]).map(drop)
    }),
    ("a snapshot", |_, i| i.snapshot().map(drop)),
    ("write", |_, i| i.write(DATA + 0x8000, &[1; 9000])),
    ("zero", |_, i| i.zero(DATA, 0x1_0000)),
    ("code", |_, i| {
        i.write_code(cellwall::abi::CODE_WINDOW.start + 0x10_0000, &[0xc3])
    }),
    ("reset", |_, i| i.reset()),
    ("restore", |w, i| {
        // Where maps are fixed, one of this very map.
        if w.engine.can_change_maps() {
            i.restore(&w.snapshot)
        } else {
            let snapshot = i.snapshot()?;
            i.write(DATA, &[0; 5000])?;
            i.restore(&snapshot)
        }
    }),
];

pub(super) const MAPPING: [(&str, Attempt); 11] = [
    ("map_zero", |_, i| {
        i.map_zero(NOWHERE, PAGE, Protection::ReadWrite)
    }),
    ("map_zero of many", |_, i| {
        i.map_zero(NOWHERE, 1024 * PAGE, Protection::ReadWrite)
    }),
    ("map_zero read-only, touched", |_, i| {
        i.map_zero(NOWHERE, PAGE, Protection::ReadWrite)?;
        i.protect(NOWHERE, PAGE, Protection::Read)?;
        i.unmap(NOWHERE, PAGE)
    }),
    ("map_data", |_, i| {
        i.map_data(NOWHERE, &[1; 5000], Protection::ReadWrite)
    }),
    ("map_data read-only", |_, i| {
        i.map_data(NOWHERE, &[1; 5000], Protection::Read)
    }),
    ("map_data hidden", |_, i| {
        i.map_data(NOWHERE, &[1; 5000], Protection::None)
    }),
    ("a template, touched", |w, i| {
        i.map_template(NOWHERE, &w.template, Protection::ReadWrite)?;
        i.run().map(drop)
    }),
    ("a template, written", |w, i| {
        i.map_template(NOWHERE, &w.template, Protection::ReadWrite)?;
        i.write(NOWHERE + 5, &[1; 5000])
    }),
    ("zero pages on demand", |_, i| {
        i.map_zero(NOWHERE, PAGE, Protection::Read)?;
        i.call(i.module().entry(), &[NOWHERE])?;
        i.run().map(drop)
    }),
    ("written first, then touched", |_, i| {
        i.map_zero(NOWHERE, PAGE, Protection::Read)?;
        i.write_as_host(NOWHERE, &[1; 8])?;
        i.protect(NOWHERE, PAGE, Protection::ReadWrite)?;
        i.run().map(drop)
    }),
    ("a pager's page", |_, i| {
        i.set_pager(|fault: &PageFault, instance: &mut Instance| {
            instance.map_data(fault.page(), &[1], Protection::Read)?;
            Ok(Paged::Refuse)
        });
        i.run().map(drop)
    }),
];

pub(super) const CHANGING: [(&str, Attempt); 8] = [
    ("protect", |_, i| {
        i.protect(LARGE + 2050 * PAGE, 2 * PAGE, Protection::Read)
    }),
    ("protect many", |_, i| {
        i.protect(LARGE, 1024 * PAGE, Protection::Read)
    }),
    ("let write", |_, i| {
        i.protect(LARGE + 2048 * PAGE, 2 * PAGE, Protection::ReadWrite)
    }),
    ("hide", |_, i| {
        i.protect(LARGE, 1024 * PAGE, Protection::None)
    }),
    ("show", |_, i| {
        i.protect(LARGE + 3000 * PAGE, 2 * PAGE, Protection::ReadWrite)
    }),
    ("unmap", |_, i| i.unmap(LARGE, 4096 * PAGE)),
    ("grow the heap", |_, i| i.grow_heap(0x8000).map(drop)),
    ("shrink the heap", |_, i| i.grow_heap(-0x10_000).map(drop)),
];
