//! The module of the model's guests: every kind of region, most of them across a border of the
//! page tables, and the places where something can go wrong.

use cellwall::abi::{CODE_WINDOW, PAGE_BYTES, Span};
use cellwall::{Engine, Module, Protection};

use super::map::{Kind, Map, Terms};

/// What a part of the module is.
#[derive(Clone, Copy, PartialEq)]
enum Part {
    Data(Protection),
    Code,
    Guard,
    Heap,
    Input,
}

/// A part: its first page, how many, and how many bytes of contents it begins with.
struct Region {
    part: Part,
    page: u64,
    pages: u64,
    contents: usize,
}

const fn region(part: Part, page: u64, pages: u64, contents: usize) -> Region {
    Region {
        part,
        page,
        pages,
        contents,
    }
}

const NONE: Part = Part::Data(Protection::None);
const READ: Part = Part::Data(Protection::Read);
const BOTH: Part = Part::Data(Protection::ReadWrite);

const DATA: Region = region(BOTH, 0x1fc, 80, 0x3800);
const OWN_CONSTANTS: Region = region(READ, 0x3fe, 4, 0x1800);
const SHARED_CONSTANTS: Region = region(READ, 0x5ff, 2, 0x2000);
const CODE: Region = region(Part::Code, 0x801, 1, 1);
/// So much data that each page is copied when it is first touched.
const LARGE_DATA: Region = region(BOTH, 0xbf0, 100, 0x1_3800);
const LARGE_CONSTANTS: Region = region(READ, 0xdfc, 24, 0x1_3800);
const HIDDEN: Region = region(NONE, 0x1000, 3, 0x1800);
const GUARD: Region = region(Part::Guard, 0x11ff, 2, 0);
const HEAP: Region = region(Part::Heap, 0x1ffd, 700, 0);
const INPUT: Region = region(Part::Input, 0x3000, 70, 0);
/// More than a reset fills anew.
const BIG: Region = region(BOTH, 0xfffb, 4500, 0);
/// These two are left alone.
const STACK: Region = region(BOTH, 0x7_0000, 16, 0);
const LIST_REGION: Region = region(BOTH, 0x7_0020, 1, 0);

const REGIONS: [Region; 13] = [
    DATA,
    OWN_CONSTANTS,
    SHARED_CONSTANTS,
    CODE,
    LARGE_DATA,
    LARGE_CONSTANTS,
    HIDDEN,
    GUARD,
    HEAP,
    INPUT,
    BIG,
    STACK,
    LIST_REGION,
];

/// Where the guest finds the addresses that it is to touch.
pub(super) const LIST: u64 = LIST_REGION.page * PAGE_BYTES;
/// Where its stack ends.
pub(super) const STACK_TOP: u64 = (STACK.page + STACK.pages) * PAGE_BYTES;
/// What a hostcall of the guest's may write to, below its return address (`docs/abi.md`).
pub(super) const HOSTCALL_STACK: Span = STACK_TOP - 16 - 128..STACK_TOP - 16;
/// The bytes that are random.
pub(super) const SEED: Span =
    (DATA.page + 1) * PAGE_BYTES + 0x100..(DATA.page + 1) * PAGE_BYTES + 0x120;

/// The interesting places: a first page, and how many pages from there on.
pub(super) const SPOTS: [(u64, u64); 24] = [
    (DATA.page - 3, 12),
    (DATA.page + 20, 5),
    (LARGE_DATA.page - 2, 10),
    (0xe, 10), // what is below is nobody's
    (DATA.page + DATA.pages - 5, 10),
    (OWN_CONSTANTS.page - 2, 8),
    (SHARED_CONSTANTS.page - 2, 6),
    (CODE.page - 2, 5),
    (LARGE_DATA.page + 12, 12),
    (LARGE_DATA.page + LARGE_DATA.pages - 4, 8),
    (LARGE_CONSTANTS.page - 2, 8),
    (LARGE_CONSTANTS.page + 17, 10),
    (HIDDEN.page - 2, 8),
    (GUARD.page - 2, 6),
    (HEAP.page - 2, 12),
    (INPUT.page - 2, 12),
    (BIG.page - 2, 10),
    (BIG.page + BIG.pages - 6, 10),
    (0x4_0000 - 6, 12), // a border of the largest page table
    (LARGE_SPOT, 12),   // with room for large maps
    (LARGE_SPOT + 300, 12),
    (0x10_0000 - 6, 9), // the last pages, and what follows them
    (CODE_WINDOW.start / PAGE_BYTES - 1, 3),
    (u64::MAX / PAGE_BYTES - 2, 3),
];

/// Every case is about so many of them, those in the data, and about others.
pub(super) const FIRST_SPOTS: usize = 3;

const LARGE_SPOT: u64 = 0x5_0000 - 300;

impl Region {
    fn address(&self) -> u64 {
        self.page * PAGE_BYTES
    }

    fn length(&self) -> u64 {
        self.pages * PAGE_BYTES
    }

    fn bytes(&self) -> Vec<u8> {
        match self.part {
            Part::Code => vec![0xc3],
            _ => pattern(self.page, self.contents),
        }
    }

    /// What its pages are in an instance, whose map can be changed or not.
    fn kind(&self, paged: bool) -> Kind {
        let whole = self.contents as u64 == self.length();
        match self.part {
            Part::Code => Kind::Fixed { execute: true },
            READ if whole => Kind::Fixed { execute: false },
            Part::Data(to) => Kind::Own(to),
            Part::Guard => Kind::Guard,
            Part::Heap if paged => Kind::Guard,
            Part::Heap => Kind::Own(Protection::ReadWrite),
            Part::Input => Kind::Own(Protection::Read),
        }
    }
}

/// Bytes that tell where they come from: no two pages of them are alike.
pub(super) fn pattern(seed: u64, length: usize) -> Vec<u8> {
    let words = (seed..).map(|word| (word | 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let page: Vec<u8> = words.take(512).flat_map(u64::to_le_bytes).collect();
    let mut bytes = page.repeat(length.div_ceil(page.len()));
    for (page, number) in bytes.chunks_mut(page.len()).zip(1_u64..) {
        page[..8].copy_from_slice(&number.wrapping_add(seed).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Where the heap may be.
pub(super) fn heap() -> Span {
    HEAP.address()..HEAP.address() + HEAP.length()
}

/// Where the input is.
pub(super) fn input() -> Span {
    INPUT.address()..INPUT.address() + INPUT.length()
}

/// The most bytes that an instance, and two together, may hold: so many pages more than their
/// modules'.
pub(super) fn limits(room: u64, engine_room: u64, paged: bool) -> (u64, u64) {
    let is_own = |region: &&Region| matches!(region.kind(paged), Kind::Own(_));
    let initial: u64 = REGIONS.iter().filter(is_own).map(Region::length).sum();
    let (room, engine_room) = (room * PAGE_BYTES, engine_room * PAGE_BYTES);
    (initial + room, 2 * initial + engine_room)
}

/// The bytes of one of the regions that can be written.
pub(super) fn writable(which: usize) -> Span {
    let region = [&DATA, &LARGE_DATA, &BIG][which % 3];
    region.address()..region.address() + region.length()
}

/// The first address of the biggest region, and how many pages it has.
pub(super) fn biggest() -> (u64, u64) {
    (BIG.address(), BIG.pages)
}

/// The module with this code.
pub(super) fn module(engine: &Engine, code: &[u8], dynamic: bool) -> Module {
    let mut builder = Module::builder()
        .code(code)
        .stack_pointer(STACK_TOP)
        .entropy(SEED.start, SEED.end - SEED.start);
    for region in &REGIONS {
        let (address, length, contents) = (region.address(), region.length(), region.bytes());
        builder = match region.part {
            Part::Code => builder.code_at(address, &contents),
            Part::Data(to) => builder.data_zero_extended(address, &contents, length, to),
            Part::Guard => builder.guard(address, length),
            Part::Heap => builder.heap(address, length),
            Part::Input => builder.input(address, length),
        };
    }
    if dynamic {
        builder = builder.dynamic_paging();
    }
    builder.build(engine).expect("a module")
}

/// What an instance of it begins as.
pub(super) fn initial(code: &[u8], terms: Terms) -> Map {
    let mut map = Map::new(HEAP.address(), terms);
    let fixed = Kind::Fixed { execute: true };
    map.fill(
        CODE_WINDOW.start,
        CODE_WINDOW.start + 1,
        fixed,
        &holes_after(code),
    );
    for region in &REGIONS {
        let contents = match region.part {
            Part::Code => holes_after(&region.bytes()),
            _ => region.bytes(),
        };
        let end = region.address() + region.length();
        map.fill(region.address(), end, region.kind(terms.paged), &contents);
    }
    map
}

/// Code up to the end of its page.
fn holes_after(code: &[u8]) -> Vec<u8> {
    let page = usize::try_from(PAGE_BYTES).unwrap();
    let mut bytes = code.to_vec();
    bytes.resize(code.len().next_multiple_of(page), 0xcc);
    bytes
}
