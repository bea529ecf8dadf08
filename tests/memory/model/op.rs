//! What may happen to an instance, at random.

use cellwall::{Access, Protection};
use proptest::collection::vec;
use proptest::prelude::*;

use super::layout::{FIRST_SPOTS, SPOTS};
use super::space::By;

/// An address: one of the case's interesting places, a page from its first on, a byte of that.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) spot: usize,
    pub(super) page: u64,
    pub(super) byte: u64,
}

/// One thing that happens.
#[derive(Debug, Clone)]
pub(super) enum Op {
    MapZero(Place, u64, Protection),
    MapData(Place, usize, u64, Protection),
    MapTemplate(Place, usize, Protection),
    Guard(Place, u64),
    Protect(Place, u64, Protection),
    Unmap(Place, u64),
    GrowHeap(i64),
    Read(Place, usize, By),
    Write(Place, usize, u64, By),
    Load(Place, usize),
    Store(Place, usize, u64),
    Zero(Place, u64),
    /// All of one of the module's regions.
    Clear(usize),
    SetInput(usize, u64),
    IsAccessible(Place, u64, Access),
    AbsentAround(Place, u32),
    /// The guest is called.
    Call(Call, Answers),
    /// It goes on where it is stopped.
    Resume(u64, Answers),
    RefuseFault,
    Reset,
    /// By way of a file, if it is small.
    Snapshot(bool),
    Restore(usize),
    /// The instance ends, and another one begins.
    Replace,
    Stats,
    Compare,
    CompareByGuest,
}

/// What the guest is called for.
#[derive(Debug, Clone)]
pub(super) enum Call {
    Load(Place, usize),
    Store(Place, usize, u64),
    Swap(Place, u64),
    Stride(Place, u64, u64),
    /// Every page of the biggest region.
    Flood(u64),
    /// Hostcalls where there is no place.
    Walk(Vec<(Option<Place>, u64)>),
}

/// How its page faults are answered, one after the other.
#[derive(Debug, Clone)]
pub(super) struct Answers {
    pub(super) list: Vec<Answer>,
    /// By a pager, or by the caller of `run`.
    pub(super) by_pager: bool,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Answer {
    /// So many pages around.
    Zero(u32, Protection),
    Data(usize, u64, Protection),
    Template(usize, Protection),
    Guard,
    /// Nothing is done about it.
    Again,
    Refuse,
    Later,
}

/// A case: which places it is about, and what happens to one of two instances.
#[derive(Debug, Clone)]
pub(super) struct Case {
    pub(super) dynamic: bool,
    /// How many pages an instance may hold beyond its module's, and both together.
    pub(super) room: u64,
    pub(super) engine_room: u64,
    pub(super) spots: Vec<usize>,
    pub(super) ops: Vec<(usize, Op)>,
}

/// How many places a case is about: few, so that it comes back to each.
const CASE_SPOTS: usize = FIRST_SPOTS + 3;

/// Cases of this many operations.
pub(super) fn cases(ops: usize) -> impl Strategy<Value = Case> {
    let others: Vec<usize> = (FIRST_SPOTS..SPOTS.len()).collect();
    let others = prop::sample::subsequence(others, CASE_SPOTS - FIRST_SPOTS);
    let spots = others.prop_map(|others| (0..FIRST_SPOTS).chain(others).collect());
    let which = prop_oneof![3 => Just(0_usize), 1 => Just(1)];
    let ops = vec((which, op()), ops..=ops);
    let room = prop_oneof![Just(30_u64), Just(300), Just(1700)];
    let engine_room = prop_oneof![Just(20_u64), Just(1500), Just(1 << 30)];
    let dynamic = prop_oneof![4 => Just(true), 1 => Just(false)];
    let case = (dynamic, room, engine_room, spots, ops);
    case.prop_map(|(dynamic, room, engine_room, spots, ops)| Case {
        dynamic,
        room,
        engine_room,
        spots,
        ops,
    })
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => map(),
        8 => change(),
        12 => access(),
        12 => guest(),
        3 => whole(),
    ]
}

fn map() -> impl Strategy<Value = Op> {
    let data = (page(), data_bytes(), any::<u64>(), protection());
    prop_oneof![
        3 => (page(), pages(), protection()).prop_map(|(at, pages, to)| Op::MapZero(at, pages, to)),
        3 => data.prop_map(|(at, bytes, seed, to)| Op::MapData(at, bytes, seed, to)),
        2 => (page(), 0..8_usize, protection())
            .prop_map(|(at, which, to)| Op::MapTemplate(at, which, to)),
        1 => (page(), 0..4_u64).prop_map(|(at, pages)| Op::Guard(at, pages)),
    ]
}

fn change() -> impl Strategy<Value = Op> {
    let by = prop_oneof![
        3 => -0x5000..0x8000_i64,
        1 => -0x18_0000..0x18_0000_i64,
        1 => prop_oneof![Just(i64::MIN), Just(i64::MAX), Just(700 * 0x1000)],
    ];
    let rights = prop_oneof![
        Just(Protection::None),
        Just(Protection::Read),
        Just(Protection::ReadWrite),
    ];
    prop_oneof![
        8 => (page(), pages(), rights).prop_map(|(at, pages, to)| Op::Protect(at, pages, to)),
        3 => (page(), pages()).prop_map(|(at, pages)| Op::Unmap(at, pages)),
        2 => by.prop_map(Op::GrowHeap),
    ]
}

fn access() -> impl Strategy<Value = Op> {
    let write = (byte(), bytes(), any::<u64>(), by());
    let store = (byte(), width(), any::<u64>());
    let some_zeros = (byte(), 0..9000_u64);
    let many_zeros = (page(), (60..90_u64).prop_map(|pages| pages * 0x1000));
    let zeros = prop_oneof![some_zeros, many_zeros];
    let input = prop_oneof![
        4 => 0..9000_usize,
        1 => Just(70 * 0x1000),
        1 => Just(70 * 0x1000 + 1),
    ];
    let question = prop_oneof![
        Just(Access::Read),
        Just(Access::Write),
        Just(Access::Execute)
    ];
    let length = prop_oneof![4 => 0..9000_u64, 1 => any::<u64>()];
    prop_oneof![
        4 => (byte(), bytes(), by()).prop_map(|(at, bytes, by)| Op::Read(at, bytes, by)),
        6 => write.prop_map(|(at, bytes, seed, by)| Op::Write(at, bytes, seed, by)),
        2 => (byte(), width()).prop_map(|(at, width)| Op::Load(at, width)),
        3 => store.prop_map(|(at, width, value)| Op::Store(at, width, value)),
        1 => any::<usize>().prop_map(Op::Clear),
        4 => zeros.prop_map(|(at, bytes)| Op::Zero(at, bytes)),
        1 => (input, any::<u64>()).prop_map(|(bytes, seed)| Op::SetInput(bytes, seed)),
        2 => (byte(), length, question)
            .prop_map(|(at, bytes, access)| Op::IsAccessible(at, bytes, access)),
        1 => (byte(), prop_oneof![0..40_u32, any::<u32>()])
            .prop_map(|(at, pages)| Op::AbsentAround(at, pages)),
    ]
}

fn guest() -> impl Strategy<Value = Op> {
    let stride = prop_oneof![6 => 1..10_u64, 1 => 60..600_u64];
    let place = prop_oneof![7 => byte().prop_map(Some), 1 => Just(None)];
    let value = prop_oneof![Just(0), 1..u64::from(u32::MAX)];
    let call = prop_oneof![
        20 => (byte(), width()).prop_map(|(at, width)| Call::Load(at, width)),
        20 => (byte(), width(), any::<u64>())
            .prop_map(|(at, width, value)| Call::Store(at, width, value)),
        10 => (byte(), any::<u64>()).prop_map(|(at, value)| Call::Swap(at, value)),
        20 => (byte(), stride, any::<u64>())
            .prop_map(|(at, pages, value)| Call::Stride(at, pages, value)),
        3 => any::<u64>().prop_map(Call::Flood),
        20 => vec((place, value), 1..12).prop_map(Call::Walk),
    ];
    prop_oneof![
        10 => (call, answers()).prop_map(|(call, answers)| Op::Call(call, answers)),
        3 => (any::<u64>(), answers()).prop_map(|(value, answers)| Op::Resume(value, answers)),
        1 => Just(Op::RefuseFault),
    ]
}

fn whole() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => Just(Op::Reset),
        2 => any::<bool>().prop_map(Op::Snapshot),
        3 => any::<usize>().prop_map(Op::Restore),
        1 => Just(Op::Replace),
        3 => Just(Op::Stats),
        1 => Just(Op::Compare),
        1 => Just(Op::CompareByGuest),
    ]
}

fn answers() -> impl Strategy<Value = Answers> {
    let around = prop_oneof![3 => 1..20_u32, 1 => any::<u32>()];
    let answer = prop_oneof![
        6 => (around, protection()).prop_map(|(around, to)| Answer::Zero(around, to)),
        6 => (data_bytes(), any::<u64>(), protection())
            .prop_map(|(bytes, seed, to)| Answer::Data(bytes, seed, to)),
        4 => (0..8_usize, protection()).prop_map(|(which, to)| Answer::Template(which, to)),
        1 => Just(Answer::Guard),
        1 => Just(Answer::Again),
        1 => Just(Answer::Refuse),
        1 => Just(Answer::Later),
    ];
    (vec(answer, 0..8), any::<bool>()).prop_map(|(list, by_pager)| Answers { list, by_pager })
}

fn place(byte: impl Strategy<Value = u64>) -> impl Strategy<Value = Place> {
    let parts = (0..CASE_SPOTS, 0..12_u64, byte);
    parts.prop_map(|(spot, page, byte)| Place { spot, page, byte })
}

/// The start of a page, nearly always.
fn page() -> impl Strategy<Value = Place> {
    place(prop_oneof![30 => Just(0), 1 => 1..4096_u64])
}

/// Any byte; those at the ends of a page more often.
fn byte() -> impl Strategy<Value = Place> {
    place(prop_oneof![2 => Just(0), 2 => 4088..4096_u64, 2 => 0..4096_u64])
}

fn pages() -> impl Strategy<Value = u64> {
    prop_oneof![1 => Just(0), 40 => 1..9_u64, 4 => 500..1100_u64, 1 => any::<u64>()]
}

fn bytes() -> impl Strategy<Value = usize> {
    prop_oneof![4 => 0..32_usize, 2 => 0..9000_usize, 1 => Just(4096)]
}

fn data_bytes() -> impl Strategy<Value = usize> {
    let whole = (1..4_usize).prop_map(|pages| pages * 4096);
    prop_oneof![1 => Just(0), 20 => 1..12_000_usize, 10 => whole, 1 => Just(520 * 4096)]
}

fn width() -> impl Strategy<Value = usize> {
    prop_oneof![Just(1), Just(2), Just(4), Just(8)]
}

fn by() -> impl Strategy<Value = By> {
    prop_oneof![2 => Just(By::Guest), 1 => Just(By::Host)]
}

fn protection() -> impl Strategy<Value = Protection> {
    prop_oneof![
        3 => Just(Protection::ReadWrite),
        1 => Just(Protection::Read),
        1 => Just(Protection::None),
    ]
}
