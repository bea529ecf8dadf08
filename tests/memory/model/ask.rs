//! What can be asked of memory without running or renewing anything.

use cellwall::Misuse;
use cellwall::abi::{PAGE_BYTES, Span};

use super::layout::{self, pattern};
use super::op::{Op, Place};
use super::space::Space;
use super::world::World;

/// What an operation gives.
#[derive(Debug, PartialEq)]
pub(super) enum Seen {
    Nothing,
    Number(u64),
    Bytes(Vec<u8>),
    Whether(bool),
    Pages(Span),
}

impl World {
    /// Asks the model, or an instance.
    pub(super) fn ask(&self, space: &mut dyn Space, op: &Op) -> Result<Seen, Misuse> {
        let nothing = |()| Seen::Nothing;
        let bytes = |pages: u64| pages.saturating_mul(PAGE_BYTES);
        let at = |place: &Place| self.address(*place);
        match op {
            Op::MapZero(place, pages, to) => {
                space.map_zero(at(place), bytes(*pages), *to).map(nothing)
            }
            Op::MapData(place, bytes, seed, to) => {
                let contents = pattern(*seed, *bytes);
                space.map_data(at(place), &contents, *to).map(nothing)
            }
            Op::MapTemplate(place, which, to) => {
                let stencil = &self.stencils[which % self.stencils.len()];
                space.map_template(at(place), stencil, *to).map(nothing)
            }
            Op::Guard(place, pages) => space.guard(at(place), bytes(*pages)).map(nothing),
            Op::Protect(place, pages, to) => {
                space.protect(at(place), bytes(*pages), *to).map(nothing)
            }
            Op::Unmap(place, pages) => space.unmap(at(place), bytes(*pages)).map(nothing),
            Op::GrowHeap(bytes) => space.grow_heap(*bytes).map(Seen::Number),
            Op::Read(place, bytes, by) => space.read(at(place), *bytes, *by).map(Seen::Bytes),
            Op::Write(place, bytes, seed, by) => {
                let from = pattern(*seed, *bytes);
                space.write(at(place), &from, *by).map(nothing)
            }
            Op::Load(place, width) => space.load(at(place), *width).map(Seen::Number),
            Op::Store(place, width, value) => space.store(at(place), *width, *value).map(nothing),
            Op::Zero(place, bytes) => space.zero(at(place), *bytes).map(nothing),
            Op::Clear(which) => {
                let region = layout::writable(*which);
                let length = region.end - region.start;
                space.zero(region.start, length).map(nothing)
            }
            Op::SetInput(bytes, seed) => space.set_input(&pattern(*seed, *bytes)).map(nothing),
            Op::IsAccessible(place, bytes, access) => Ok(Seen::Whether(space.is_accessible(
                at(place),
                *bytes,
                *access,
            ))),
            Op::AbsentAround(place, pages) => {
                Ok(Seen::Pages(space.absent_around(at(place), *pages)))
            }
            _ => unreachable!("no question: {op:?}"),
        }
    }
}

/// Says where bytes differ first, and not all of them.
pub(super) fn agree(expected: &Result<Seen, Misuse>, found: &Result<Seen, Misuse>) {
    if let (Ok(Seen::Bytes(expected)), Ok(Seen::Bytes(found))) = (expected, found) {
        let differs = expected
            .iter()
            .zip(found)
            .position(|(one, other)| one != other);
        assert_eq!((expected.len(), None), (found.len(), differs));
        return;
    }
    assert_eq!(expected, found);
}
