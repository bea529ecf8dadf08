//! Every misdeed of the `crash` guest has its defined end, and the next guest does not notice.

use cellwall::elf::{self, Image, SegmentProtection};
use cellwall::{Access, Death, Interrupt, Trap, TrapKind};
use vmctx::PAGE_BYTES;
use vmctx::native::PANIC_STATUS;

use super::runner::{Native, Run, World, bytes, image, two_at_once};

/// How a misdeed ends.
enum Fate {
    /// A trap of this kind, at an instruction with this opcode.
    Trap(TrapKind, Place, u8),
    /// A breakpoint: the program counter is behind it.
    Breakpoint,
    /// A forbidden system call.
    Forbidden,
    /// The process exits by itself.
    Exits(i32),
    /// The guest's status is 0, and this its output.
    Says(&'static str),
    /// The guest panics.
    Panics,
}

/// What a trap says about memory.
enum Place {
    /// Nothing.
    Unsaid,
    /// This address.
    At(u64, Access),
    /// Somewhere in the code, to write.
    Code,
    /// On the heap, to execute.
    Heap,
    /// On the guard page below the stack, to write.
    BelowStack,
}

use Fate::{Breakpoint, Exits, Forbidden, Panics, Says};

const NULL: Place = Place::At(0, Access::Read);
const JUMP_NULL: Place = Place::At(0, Access::Execute);

const FATES: [(&str, Fate); 20] = [
    ("null", Fate::Trap(TrapKind::Memory, NULL, 0x8a)),
    ("gp", Fate::Trap(TrapKind::Memory, Place::Unsaid, 0x8a)),
    (
        "unaligned-ac",
        Fate::Trap(TrapKind::Bus, Place::Unsaid, 0x8b),
    ),
    (
        "write-code",
        Fate::Trap(TrapKind::Memory, Place::Code, 0xc6),
    ),
    ("jump-data", Fate::Trap(TrapKind::Memory, Place::Heap, 0)),
    ("jump-null", Fate::Trap(TrapKind::Memory, JUMP_NULL, 0)),
    (
        "divide",
        Fate::Trap(TrapKind::Arithmetic, Place::Unsaid, 0xf7),
    ),
    (
        "ud2",
        Fate::Trap(TrapKind::IllegalInstruction, Place::Unsaid, 0x0f),
    ),
    ("int3", Breakpoint),
    (
        "privileged",
        Fate::Trap(TrapKind::Memory, Place::Unsaid, 0xf4),
    ),
    (
        "stack",
        Fate::Trap(TrapKind::Memory, Place::BelowStack, 0x50),
    ),
    ("panic", Panics),
    ("syscall", Forbidden),
    ("syscall-32", Forbidden),
    ("exit-group", Exits(3)),
    ("badcall", Says("badcall: ENOSYS\n")),
    ("badptr", Says("badptr: EFAULT\n")),
    ("badptr-null", Says("badptr-null: EFAULT\n")),
    ("badptr-wrap", Says("badptr-wrap: EFAULT\n")),
    ("badptr-read", Says("badptr-read: EFAULT\n")),
];

/// Where the pieces of a guest with default options are.
struct Places {
    image: Image,
    stack: u64,
    heap: u64,
}

impl Places {
    fn new() -> Self {
        let image = elf::load(super::runner::image("crash")).unwrap();
        // Arguments, stack and heap, each behind a guard page.
        let stack = image.end() + PAGE_BYTES + (64 << 10) + PAGE_BYTES;
        let heap = stack + (1 << 20) + PAGE_BYTES;
        Self { image, stack, heap }
    }

    /// The instruction at an address of the code.
    fn code(&self, at: u64) -> &[u8] {
        let holds = |part: &&elf::Segment| (part.address..part.end()).contains(&at);
        let part = self.image.segments.iter().find(holds);
        let part = part.unwrap_or_else(|| panic!("{at:#x} is not in the image"));
        assert_eq!(part.protection, SegmentProtection::ReadExecute, "{at:#x}");
        &part.contents[bytes(at - part.address)..]
    }

    fn check(&self, name: &str, fate: &Fate, run: &Run) {
        let trap = |kind| match run.end {
            Interrupt::Trap(trap) if trap.kind == kind => trap,
            other => panic!("{name}: {other}"),
        };
        match fate {
            Fate::Trap(kind, place, opcode) => self.check_trap(name, trap(*kind), place, *opcode),
            Breakpoint => {
                let pc = trap(TrapKind::Breakpoint).pc.expect("a program counter");
                assert_eq!(self.code(pc - 1)[0], 0xcc, "{name}");
            }
            Forbidden => assert_eq!(trap(TrapKind::ForbiddenCall).pc, None, "{name}"),
            Exits(status) => {
                assert_eq!(run.end, Interrupt::Died(Death::Exited(*status)), "{name}");
            }
            Says(output) => run.assert_output(name, output.as_bytes()),
            Panics => {
                assert_eq!(run.end, Interrupt::Finished(PANIC_STATUS), "{name}");
                let words = run.panic.as_deref().expect("last words");
                assert!(words.contains("as requested"), "{name}: {words}");
                assert!(words.contains("misdeeds.rs:"), "{name}: {words}");
            }
        }
        if !matches!(fate, Panics) {
            assert_eq!(run.panic, None, "{name}");
        }
    }

    fn check_trap(&self, name: &str, trap: Trap, place: &Place, opcode: u8) {
        let pc = trap.pc.expect("a program counter");
        match place {
            Place::Unsaid => assert_eq!((trap.address, trap.access), (None, None), "{name}"),
            Place::At(address, access) => {
                let told = (trap.address, trap.access);
                assert_eq!(told, (Some(*address), Some(*access)), "{name}");
            }
            Place::Code => {
                self.code(trap.address.expect("an address"));
                assert_eq!(trap.access, Some(Access::Write), "{name}");
            }
            Place::Heap => {
                let address = trap.address.expect("an address");
                let heap = self.heap..self.heap + (256 << 20);
                assert!(heap.contains(&address), "{name}: {trap}");
                assert_eq!(trap.access, Some(Access::Execute), "{name}");
            }
            Place::BelowStack => {
                assert_eq!(trap.address, Some(self.stack - 8), "{name}");
                assert_eq!(trap.access, Some(Access::Write), "{name}");
            }
        }
        if trap.access == Some(Access::Execute) {
            return assert_eq!(trap.address, Some(pc), "{name}");
        }
        // Behind a prefix, if the register needs one.
        let code = self.code(pc);
        let at = usize::from((0x40..0x50).contains(&code[0]));
        assert_eq!(code[at], opcode, "{name}: {:02x?} at {pc:#x}", &code[..8]);
    }
}

fn crash(guest: &Native, name: &str) -> Run {
    guest.run_in(World {
        args: &[name.as_bytes()],
        input: b"sixteen bytes to",
        ..World::default()
    })
}

#[test]
fn every_misdeed_has_its_end_and_the_next_guest_works() {
    let places = Places::new();
    let guest = Native::built_in("crash");
    let hello = Native::built_in("hello");
    for round in 0..3 {
        two_at_once(&FATES, |(name, fate)| {
            let run = crash(&guest, name);
            places.check(name, fate, &run);
            // The same engine and module, and another one.
            let next = crash(&guest, "badcall");
            next.assert_output(
                &format!("after {name}, round {round}"),
                b"badcall: ENOSYS\n",
            );
            assert_eq!(next.unknown.len(), 1);
            assert_eq!(next.unknown[0].number, 9999);
            assert_eq!(next.unknown[0].args, [1, 2, 3, 4, 5, 6]);
            let greeting = b"Hello from a Cellwall guest!\n";
            hello.run(&[]).assert_output(name, greeting);
        });
    }
}

/// The guest lists what it can: none of it is missing here.
#[test]
fn the_table_is_complete() {
    let run = Native::built_in("crash").run(&[]);
    assert_eq!(run.end, Interrupt::Finished(2));
    let names: Vec<&str> = FATES.iter().map(|(name, _)| *name).collect();
    let usage = format!("crash: usage: crash {}\n", names.join("|"));
    assert_eq!(run.complaint(), usage);
}

/// Both ways to be entered again after a trap: the worker is still there, and as good as before.
#[test]
fn a_trapped_guest_can_be_entered_again() {
    let guest = Native::built_in("crash");
    let image = elf::load(image("crash")).unwrap();
    for name in ["null", "divide", "stack", "jump-null", "unaligned-ac"] {
        let arguments: [&[u8]; 1] = [name.as_bytes()];
        let mut session = guest.start(World {
            args: &arguments,
            ..World::default()
        });
        session.run_to_end();
        let first = session.run.end;
        assert!(matches!(first, Interrupt::Trap(_)), "{name}: {first}");
        let entered = session.instance.call(image.entry, &[0, 0, 0, 0]);
        entered.unwrap();
        session.run_to_end();
        // Without arguments and heap it cannot even say how it is used.
        let again = session.run.end;
        assert!(!matches!(again, Interrupt::Died(_)), "{name}: {again}");
        let entered = guest.program.enter(&mut session.instance, &arguments);
        entered.unwrap();
        session.run_to_end();
        assert_eq!(session.run.end, first, "{name}");
    }
}
