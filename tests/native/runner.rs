//! Runs native guests with an input and outputs in memory, as `cellwall run` does with files.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cellwall::native::{Options, Program};
use cellwall::{Access, Engine, Errno, Hostcall, Instance, Interrupt};
use vmctx::native::{
    LOG, MESSAGE_BYTES_MAX, PANIC, PANIC_STATUS, READ, STDERR, STDIN, STDOUT, TRANSFER_BYTES_MAX,
    WRITE,
};

/// No test's guest needs a tenth of this; without it a mistake would hang.
const PATIENCE: Duration = Duration::from_secs(120);

/// A guest program and an engine to run it.
pub(crate) struct Native {
    pub(crate) engine: Engine,
    pub(crate) program: Program,
}

/// The file of a built-in guest.
pub(crate) fn image(name: &str) -> &'static [u8] {
    let guest = cellwall_guests::by_name(name);
    guest.unwrap_or_else(|| panic!("no guest {name}")).image
}

impl Native {
    pub(crate) fn built_in(name: &str) -> Self {
        Self::load(image(name), &Options::new())
    }

    pub(crate) fn load(file: &[u8], options: &Options) -> Self {
        let engine = crate::harness::engine();
        let program = Program::load(&engine, file, options).expect("a valid guest");
        Self { engine, program }
    }

    /// A new worker with the guest, which has not begun.
    pub(crate) fn start<'world>(&self, world: World<'world>) -> Session<'world> {
        let mut instance = self.engine.instantiate(self.program.module()).unwrap();
        self.program.enter(&mut instance, world.args).unwrap();
        Session {
            instance,
            world,
            consumed: 0,
            buffer: vec![0; bytes(TRANSFER_BYTES_MAX)],
            run: Run::new(),
        }
    }

    /// Runs the guest in a new worker, from start to end.
    pub(crate) fn run_in(&self, world: World<'_>) -> Run {
        let mut session = self.start(world);
        session.run_to_end();
        session.run
    }

    /// The same with nothing but an input.
    pub(crate) fn run(&self, input: &[u8]) -> Run {
        self.run_in(World {
            input,
            ..World::default()
        })
    }
}

/// What a guest finds.
#[derive(Clone, Copy)]
pub(crate) struct World<'world> {
    pub(crate) args: &'world [&'world [u8]],
    pub(crate) input: &'world [u8],
    /// What is answered at the end of the input; the end, if none.
    pub(crate) input_error: Option<Errno>,
    /// The most bytes that a read or write moves.
    pub(crate) transfer_max: usize,
    /// How many bytes the standard output takes before its reader goes away.
    pub(crate) stdout_room: usize,
    /// For the whole run.
    pub(crate) deadline: Duration,
}

impl Default for World<'_> {
    fn default() -> Self {
        Self {
            args: &[],
            input: &[],
            input_error: None,
            transfer_max: bytes(TRANSFER_BYTES_MAX),
            stdout_room: usize::MAX,
            deadline: PATIENCE,
        }
    }
}

/// What a run left behind.
#[derive(Debug)]
pub(crate) struct Run {
    /// How it ended; a panic finishes with its status.
    pub(crate) end: Interrupt,
    pub(crate) panic: Option<String>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
    pub(crate) log: Vec<String>,
    /// Hostcalls that were answered with `ENOSYS`.
    pub(crate) unknown: Vec<Hostcall>,
}

impl Run {
    fn new() -> Self {
        Self {
            end: Interrupt::Deadline,
            panic: None,
            stdout: Vec::new(),
            stderr: Vec::new(),
            log: Vec::new(),
            unknown: Vec::new(),
        }
    }

    /// What the guest said on its standard error.
    pub(crate) fn complaint(&self) -> &str {
        std::str::from_utf8(&self.stderr).expect("UTF-8 on the standard error")
    }

    /// The guest's own status, with its own message and no panic.
    pub(crate) fn assert_refused(&self, what: &str, complaint: &str) {
        assert_eq!(self.end, Interrupt::Finished(1), "{what}: {}", self.words());
        assert_eq!(self.complaint(), complaint, "{what}");
        assert_eq!(self.panic, None, "{what}");
    }

    /// Status 0, this output and not a word.
    pub(crate) fn assert_output(&self, what: &str, output: &[u8]) {
        assert_eq!(self.end, Interrupt::Finished(0), "{what}: {}", self.words());
        assert!(
            self.stdout.as_slice() == output,
            "{what}: {} bytes that differ from {} at {:?}",
            self.stdout.len(),
            output.len(),
            common(&self.stdout, output)
        );
        assert_eq!(self.complaint(), "", "{what}");
    }

    fn words(&self) -> String {
        format!("{:?} {:?}", self.panic, self.complaint())
    }
}

/// How many bytes both begin with.
pub(crate) fn common(one: &[u8], other: &[u8]) -> usize {
    let pairs = one.iter().zip(other);
    pairs.take_while(|(one, other)| one == other).count()
}

/// A guest on its way.
pub(crate) struct Session<'world> {
    pub(crate) instance: Instance,
    world: World<'world>,
    consumed: usize,
    buffer: Vec<u8>,
    pub(crate) run: Run,
}

impl Session<'_> {
    /// Runs it until it ends. A guest that panics is not let on.
    pub(crate) fn run_to_end(&mut self) {
        self.run.end = self.until_end();
    }

    fn until_end(&mut self) -> Interrupt {
        let started = Instant::now();
        loop {
            let left = self.world.deadline.saturating_sub(started.elapsed());
            self.instance.set_deadline(left);
            if let Some(end) = self.step() {
                return end;
            }
        }
    }

    /// Runs it to its next hostcall and answers that, or says how it ended.
    pub(crate) fn step(&mut self) -> Option<Interrupt> {
        let call = match self.instance.run().expect("an interrupt") {
            Interrupt::Hostcall(call) => call,
            end => return Some(end),
        };
        let [first, second, third, ..] = call.args;
        let answer = match call.number {
            READ => self.read(first, second, third),
            WRITE => self.write(first, second, third),
            LOG => self.message(first, second).map(|line| {
                self.run.log.push(line);
                0
            }),
            PANIC => {
                let words = self.message(first, second);
                self.run.panic = Some(words.expect("last words in the guest's memory"));
                return Some(Interrupt::Finished(PANIC_STATUS));
            }
            _ => {
                self.run.unknown.push(call);
                Err(Errno::ENOSYS)
            }
        };
        self.instance.answer(word(answer)).expect("a hostcall");
        None
    }

    fn read(&mut self, handle: u64, address: u64, length: u64) -> Result<u64, Errno> {
        if handle != STDIN {
            return Err(Errno::EBADF);
        }
        let length = length.min(TRANSFER_BYTES_MAX);
        // All of it, and before anything is taken from the input.
        if !self.instance.is_accessible(address, length, Access::Write) {
            return Err(Errno::EFAULT);
        }
        let rest = &self.world.input[self.consumed..];
        let now = &rest[..rest.len().min(bytes(length)).min(self.world.transfer_max)];
        if let (true, true, Some(errno)) = (length > 0, now.is_empty(), self.world.input_error) {
            return Err(errno);
        }
        let written = self.instance.write(address, now);
        written.map_err(|_| Errno::EFAULT)?;
        self.consumed += now.len();
        Ok(now.len() as u64)
    }

    fn write(&mut self, handle: u64, address: u64, length: u64) -> Result<u64, Errno> {
        let (to, room) = match handle {
            STDOUT => (&mut self.run.stdout, self.world.stdout_room),
            STDERR => (&mut self.run.stderr, usize::MAX),
            _ => return Err(Errno::EBADF),
        };
        let piece = &mut self.buffer[..bytes(length.min(TRANSFER_BYTES_MAX))];
        let copied = self.instance.read_into(address, piece);
        copied.map_err(|_| Errno::EFAULT)?;
        let room = room.saturating_sub(to.len());
        if room == 0 && !piece.is_empty() {
            return Err(Errno::EPIPE);
        }
        let taken = piece.len().min(self.world.transfer_max).min(room);
        to.extend_from_slice(&piece[..taken]);
        Ok(taken as u64)
    }

    fn message(&mut self, address: u64, length: u64) -> Result<String, Errno> {
        let piece = &mut self.buffer[..bytes(length.min(MESSAGE_BYTES_MAX))];
        let copied = self.instance.read_into(address, piece);
        copied.map_err(|_| Errno::EFAULT)?;
        Ok(String::from_utf8_lossy(piece).into_owned())
    }
}

/// A hostcall's answer: a value, or a negated errno.
pub(crate) fn word(answer: Result<u64, Errno>) -> u64 {
    answer.unwrap_or_else(|errno| u64::from(errno.raw()).wrapping_neg())
}

/// A length as an index.
pub(crate) fn bytes(length: u64) -> usize {
    usize::try_from(length).expect("a length that fits")
}

/// Does the work for each item, on two threads: two workers run at once.
pub(crate) fn two_at_once<T: Sync>(items: &[T], work: impl Fn(&T) + Sync) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                    work(item);
                }
            });
        }
    });
}
