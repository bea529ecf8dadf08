//! Workers of one nursery, and the guests of a pool one after the other: none finds anything of
//! another's.

use std::ops::Range;
use std::thread;
use std::time::Duration;

use cellwall::abi::{FINISH, GUEST_PAGE, HOSTCALL, OUT_OF_GAS, TURN_LINE};
use cellwall::{Error, Interrupt, PoolConfig, TrapKind};
use vmctx::{Layer, PAGE_BYTES, map};

use super::guests::stops::{LEFT, TAKEN};
use super::jumps::text;
use super::kit::{COPIES, PLENTY, STACK};
use super::lane::{Attempt, Lane, PATIENT, SHORT, Stage, attempt, share};
use super::outcome::{Expected, May, Outcome, Shape, Tally};
use super::tenants::{SECRET, find_secret, holds_secret, leave};
use crate::row::{Row, Verdict};

pub(super) const NAME: &str = "neighbours";

/// Makes one row.
type Part = fn(&mut Lane<'_>) -> Result<Row, Error>;

pub(super) fn run(stage: &Stage) -> Result<Vec<Row>, Error> {
    let parts: [Part; 3] = [unmapped, side_by_side, pooled];
    share(stage, parts.len(), |lane, index| parts[index](lane))
}

/// Every page of the worker's own region that is none of its own: the nursery's ring and stack are
/// among them, and would be the places of a neighbour's pages.
fn unmapped(lane: &mut Lane<'_>) -> Result<Row, Error> {
    const NO_ACCESS: Expected = &[May(
        Shape::Trap(TrapKind::Memory),
        "nothing is mapped there",
    )];
    let gaps = [
        map::IMAGE.start + map::IMAGE_BYTES_MAX..map::ALT_STACK.start,
        map::HOST_PAGE.end..map::WORKER.end,
    ];
    let page = usize::try_from(PAGE_BYTES).unwrap_or(usize::MAX);
    let pages = gaps.into_iter().flat_map(|gap| gap.step_by(page));
    let mut tally = Tally::new(NO_ACCESS);
    for page in pages {
        for program in ["read", "write", "execute"] {
            let outcome = lane.enter(lane.stage.kit.entry(program), [page, 0, 0])?;
            tally.add(&outcome, 0, &format!("{program} at {page:#x}"));
        }
    }
    let attempt = "the nursery's ring and stack, and all that is beside the worker's pages";
    Ok(tally.row(NAME, attempt.into(), Some(Layer::KernelMappings)))
}

/// What a guest can write of its worker's pages and still make hostcalls.
const WRITABLE: &[map::Span] = &[
    map::ALT_STACK,
    map::STACK,
    TURN_LINE + 64..map::TURN_PAGE.end,
    GUEST_PAGE..map::GUEST_PAGE.end,
    PLENTY..PLENTY + 0x1_0000,
    STACK..STACK + 0x4000,
];

/// Two workers at once. One has a secret in all it can write, the other looks for it in all it can
/// read, and overwrites all that it can write.
fn side_by_side(lane: &mut Lane<'_>) -> Result<Row, Error> {
    const IN_A_HOSTCALL: Expected = &[May(Shape::Hostcall, "one guest waits in a hostcall")];
    let mut tally = Tally::new(IN_A_HOSTCALL);
    let outcome = leave(lane, HOSTCALL)?;
    tally.add(&outcome, 0, "the first guest");
    let module = lane.instance()?.module().clone();
    let mut other = lane.another(&module)?;
    lane.exchange(&mut other)?;
    find_secret(lane, &mut tally, "beside it")?;
    for span in WRITABLE {
        let args = [span.start, span.end - span.start, 0x77];
        let block = [lane.stage.kit.entry("answer 42")];
        let outcome = lane.run(&attempt(lane, "scribble", args, &block))?;
        if outcome.finished() != Some(42) {
            tally.note(format!("overwriting: {}", outcome.text()), Verdict::Broken);
        }
    }
    lane.exchange(&mut other)?;
    // The first one's are as they were: full of the secret, where no turn has changed them.
    for span in WRITABLE {
        let bytes = span.end - span.start;
        let outcome = lane.enter(lane.stage.kit.entry("copy"), [COPIES, span.start, bytes])?;
        let found = lane.instance()?.read(COPIES, bytes)?;
        let at = span.start;
        if outcome.finished().is_none() {
            tally.note(format!("{at:#x}: {}", outcome.text()), Verdict::Broken);
        } else if found
            .windows(64)
            .any(|words| words.iter().all(|byte| *byte == 0x77))
        {
            let text = format!("the neighbour has written at {at:#x}");
            tally.note(text, Verdict::GotThrough);
        } else if !holds_secret(&found) {
            tally.note(format!("no secret is left at {at:#x}"), Verdict::Broken);
        }
    }
    lane.renew();
    let attempt = "reading and overwriting a neighbour's pages".to_owned();
    Ok(tally.row(NAME, attempt, Some(Layer::SharedWords)))
}

/// How a guest of a pool ends, with a secret in all registers.
#[derive(Clone, Copy)]
enum End {
    /// Goes on at an address of the zygote's, or at none.
    At(u64),
    /// Goes on with a program.
    With(&'static str),
    /// Goes round in circles until a handle stops it.
    Asked,
    /// Says that it has finished, and waits for an order in the zygote's own code.
    LiesAndHides,
    /// Is in that code from the start, where it finds the order that it was entered by for ever.
    Hides,
}

/// All of them, and what the host sees of each.
const ENDS: &[(&str, End)] = &[
    ("a hostcall", End::At(HOSTCALL)),
    ("its end", End::At(FINISH)),
    ("no gas", End::At(OUT_OF_GAS)),
    ("a trap", End::At(0)),
    ("a deadline", End::With("spin")),
    ("a handle", End::Asked),
    ("a lie", End::With("finish and circle")),
    ("a lie, then hiding", End::LiesAndHides),
    ("hiding", End::Hides),
];
const ENDED: Expected = &[
    May(Shape::Hostcall, "it is in a hostcall"),
    May(Shape::FinishedAny, "it has finished"),
    May(Shape::OutOfGas, "it says that it has no gas"),
    May(Shape::Trap(TrapKind::Memory), "it is in a trap"),
    May(Shape::Deadline, "it is stopped where it is"),
    May(Shape::Interrupted, "it is stopped where it is"),
    May(Shape::FinishedAny, "it says so, and computes on"),
    May(Shape::FinishedAny, "it says so, in the zygote's code"),
    May(Shape::Unresponsive, "who hides is killed"),
];
const _: () = assert!(ENDS.len() == ENDED.len());

/// Without a rest the next guest's host cleans the worker, after one the pool's thread has.
const RESTS: [Duration; 2] = [Duration::ZERO, Duration::from_millis(20)];

/// A pool of one worker, whose guests come one after the other.
fn pooled(lane: &mut Lane<'_>) -> Result<Row, Error> {
    let pool = PoolConfig::new().most(1).wait(PATIENT);
    let config = lane.stage.config.clone().pool(pool);
    let config = config.stop_timeout(Duration::from_millis(50));
    let lane = &mut Lane::with(lane.stage, &config)?;
    let mut tally = Tally::brief(ENDED);
    let hidden = hiding_place(lane)?;
    let bases = lane.enter(lane.stage.kit.entry("set segment bases"), [0; 3])?;
    let block = [bases.finished().is_some().into(), hidden.unwrap_or(0)];
    lane.renew();
    let fresh = take(lane, &block)?;
    end_by(lane, End::With("take all state"), &block)?;
    let left = lane.instance()?.read(COPIES, TAKEN_BYTES)?;
    if fresh.is_empty() || holds_secret(&fresh) || secrets(&left) < SECRETS {
        let text = format!("{} of the registers can be seen", secrets(&left));
        tally.note(text, Verdict::Unverified);
    }
    lane.renew();
    for (number, (name, end)) in ENDS.iter().enumerate() {
        for rest in RESTS {
            let what = format!("{name}, {rest:?}");
            if hidden.is_none() && matches!(end, End::LiesAndHides | End::Hides) {
                let text = "the zygote's code has no place to hide".to_owned();
                tally.note(text, Verdict::Unverified);
                continue;
            }
            leave(lane, HOSTCALL)?;
            let before = lane.instance()?.process_id();
            let outcome = end_by(lane, *end, &block)?;
            tally.add_expecting(&ENDED[number..=number], &outcome, 0, &what);
            let lives = !matches!(outcome.result, Ok(Interrupt::Died(_)) | Err(_));
            lane.renew();
            thread::sleep(rest);
            if (lane.instance()?.process_id() == before) != lives {
                let text = format!("{what}: alive: {lives}, and that is not who comes next");
                tally.note(text, Verdict::Broken);
            }
            let taken = take(lane, &block)?;
            if taken != fresh {
                let text = match taken.iter().zip(&fresh).position(|(is, new)| is != new) {
                    Some(at) => format!("the next has not what a new worker has at {at:#x}"),
                    None => "the next could not look".to_owned(),
                };
                tally.note(format!("{what}: {text}"), Verdict::GotThrough);
            }
            find_secret(lane, &mut tally, &what)?;
            lane.renew();
        }
    }
    let attempt = "reading what a pooled worker's former guest had, however it ended".to_owned();
    Ok(tally.row(NAME, attempt, None))
}

/// In the zygote's code, a place that waits for an order and finds the one that the guest was
/// entered with: after the wipe of the handler of evictions, `rep stosb; movabs rsp, ..`.
fn hiding_place(lane: &mut Lane<'_>) -> Result<Option<u64>, Error> {
    let waits = [0xf3, 0xaa, 0x48, 0xbc];
    let text = text(lane)?;
    let place = text.windows(waits.len()).position(|bytes| bytes == waits);
    Ok(place.map(|place| map::IMAGE.start + place as u64 + 2))
}

/// Puts the secret into all registers, then ends in this way.
fn end_by(lane: &mut Lane<'_>, end: End, block: &[u64]) -> Result<Outcome, Error> {
    let entry = |name| lane.stage.kit.entry(name);
    let (target, deadline) = match end {
        End::At(address) => (address, PATIENT),
        End::With("spin") => (entry("spin"), SHORT),
        End::With(program) => (entry(program), PATIENT),
        End::Asked => (entry("spin"), PATIENT),
        End::LiesAndHides => (entry("finish and hide"), PATIENT),
        End::Hides => (0, SHORT),
    };
    let entry = match end {
        End::Hides => block[1],
        _ => entry("leave all state"),
    };
    let instance = lane.instance()?;
    instance.write(LEFT, &vectors())?;
    let handle = instance.interrupt_handle();
    let asks = matches!(end, End::Asked).then(|| {
        thread::spawn(move || {
            thread::sleep(SHORT);
            handle.interrupt();
        })
    });
    let outcome = lane.begin(&Attempt {
        entry,
        args: [SECRET, STACK + 0x8000, target],
        block,
        deadline,
    });
    if let Some(asks) = asks {
        // It does nothing but take a lock.
        asks.join().unwrap_or_default();
    }
    outcome
}

/// Vector state in the format of XSAVE, the secret in every register.
fn vectors() -> Vec<u8> {
    let mut area = SECRET.to_le_bytes().repeat(0x1000 / 8);
    // Round up, single precision; every register of the x87 in use; no instruction.
    area[..8].copy_from_slice(&[0x7f, 0x08, 0, 0, 0xff, 0, 0, 0]);
    // Round to zero, flush to zero, exceptions masked and raised.
    area[24..28].copy_from_slice(&0xffbf_u32.to_le_bytes());
    // The header, of which the guest writes the rest.
    area[512..576].fill(0);
    area
}

/// General registers and the state of the largest CPUs.
const TAKEN_BYTES: u64 = TAKEN - COPIES + 0x4000;

/// The word of XSAVE that says which components are in use (XSTATE_BV). A processor may say so of
/// one with its first values (Intel SDM 1, 13.6), and does where it was interrupted after `xrstor`:
/// it is no value, and all values are written whatever it says.
const IN_USE: Range<usize> = 0x400 + 512..0x400 + 520;
const _: () = assert!(TAKEN == COPIES + 0x400);

/// How often the secret is there at least: in general registers, of the x87, and 128 bits of 16.
const SECRETS: usize = 15 + 8 + 32;

/// What a guest finds in all registers.
fn take(lane: &mut Lane<'_>, block: &[u64]) -> Result<Vec<u8>, Error> {
    lane.instance()?.zero(COPIES, TAKEN_BYTES)?;
    let outcome = lane.begin(&attempt(lane, "take all state", [0; 3], block))?;
    match outcome.finished() {
        Some(42) => {
            let mut taken = lane.instance()?.read(COPIES, TAKEN_BYTES)?;
            taken[IN_USE].fill(0);
            Ok(taken)
        }
        _ => Ok(Vec::new()),
    }
}

fn secrets(bytes: &[u8]) -> usize {
    let words = bytes.chunks_exact(8);
    words.filter(|word| **word == SECRET.to_le_bytes()).count()
}
