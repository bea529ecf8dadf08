//! What a guest finds in its memory: the things that system calls take addresses of.

use super::kit::DATA;

/// What a guest is told of the world outside, so that it attacks something that is there.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    /// The host's process number.
    pub(super) host: u64,
    /// The process number of another worker.
    pub(super) sibling: u64,
    /// An address in the host at which 64 known bytes are.
    pub(super) host_buffer: u64,
    /// A folder that everybody may write, with a file in it.
    pub(super) folder: String,
}

/// Bytes of all props together.
const PROPS_BYTES: usize = 0x2000;

pub(super) const PASSWD: u64 = DATA;
pub(super) const SHELL: u64 = DATA + 0x20;
pub(super) const ARGV: u64 = DATA + 0x40;
pub(super) const EMPTY: u64 = DATA + 0x60;
pub(super) const NAME: u64 = DATA + 0x80;
pub(super) const ROOT: u64 = DATA + 0x90;
pub(super) const PROC_MEM: u64 = DATA + 0xa0;
/// A file of the host's that everybody may write.
pub(super) const FILE: u64 = DATA + 0x100;
/// A file beside it, not there yet.
pub(super) const NEW_FILE: u64 = DATA + 0x200;
pub(super) const LOCAL_IOVEC: u64 = DATA + 0x300;
pub(super) const REMOTE_IOVEC: u64 = DATA + 0x310;
pub(super) const INTERNET: u64 = DATA + 0x320;
pub(super) const UNIX: u64 = DATA + 0x340;
pub(super) const TIME: u64 = DATA + 0x3c0;
pub(super) const CLONE_ARGS: u64 = DATA + 0x400;
pub(super) const PERF_ATTR: u64 = DATA + 0x480;
pub(super) const OPEN_HOW: u64 = DATA + 0x500;
pub(super) const FILTER: u64 = DATA + 0x540;
pub(super) const ACTION: u64 = DATA + 0x580;
pub(super) const MXCSR: u64 = DATA + 0x5c0;
/// 64 bytes to be overwritten.
pub(super) const BUFFER: u64 = DATA + 0x600;
/// Zeros.
pub(super) const ZEROS: u64 = DATA + 0x800;
/// A signal frame, as the kernel would find it at `rt_sigreturn`.
pub(super) const FRAME: u64 = DATA + 0x1000;
/// Where the frame's siginfo is.
pub(super) const FRAME_INFO: u64 = FRAME + 8 + UCONTEXT_BYTES;
/// Bytes that are no valid structure of anything: all bits set.
pub(super) const RUBBISH: u64 = DATA + 0x1800;

/// `struct ucontext` with a signal mask of 8 bytes (arch/x86/include/uapi/asm/sigcontext.h).
const UCONTEXT_BYTES: u64 = 40 + 256 + 8;
/// Where the registers are in it: `r8` first.
const UCONTEXT_REGISTERS: u64 = 40;
/// Words among those registers.
const FRAME_RSP: u64 = 15;
const FRAME_RIP: u64 = 16;
const FRAME_FLAGS: u64 = 17;
const FRAME_SEGMENTS: u64 = 18;

/// The bytes at [`DATA`].
pub(super) fn bytes(facts: &Facts) -> Vec<u8> {
    let mut props = Props(vec![0; PROPS_BYTES]);
    props.text(PASSWD, "/etc/passwd");
    props.text(SHELL, "/bin/sh");
    props.words(ARGV, &[SHELL, 0]);
    props.text(NAME, "tmpfs");
    props.text(ROOT, "/");
    props.text(PROC_MEM, "/proc/self/mem");
    props.text(FILE, &format!("{}/file", facts.folder));
    props.text(NEW_FILE, &format!("{}/new", facts.folder));
    props.words(LOCAL_IOVEC, &[BUFFER, 64]);
    props.words(REMOTE_IOVEC, &[facts.host_buffer, 64]);
    // AF_INET, port 80, 127.0.0.1.
    props.put(INTERNET, &[2, 0, 0, 80, 127, 0, 0, 1]);
    // AF_UNIX, an abstract name.
    props.put(UNIX, b"\x01\x00\x00/tmp/.X11-unix/X0");
    props.words(TIME, &[0, 1_000_000]);
    // flags, pidfd, child_tid, parent_tid, exit_signal: SIGCHLD (clone(2)).
    props.words(CLONE_ARGS, &[0, 0, 0, 0, 17]);
    // PERF_TYPE_SOFTWARE, 128 bytes, PERF_COUNT_SW_TASK_CLOCK (perf_event_open(2)).
    props.words(PERF_ATTR, &[1 | 128 << 32, 1]);
    // O_RDWR | O_CREAT, mode 0666 (openat2(2)).
    props.words(OPEN_HOW, &[0o102, 0o666, 0]);
    // struct sock_fprog of one instruction: BPF_RET, SECCOMP_RET_ALLOW.
    props.words(FILTER, &[1, FILTER + 16, 0x7fff_0000_0000_0006]);
    props.words(MXCSR, &[0x1f80_0000_0000]);
    props.put(BUFFER, &[0x5a; 64]);
    frame(&mut props);
    props.put(RUBBISH, &[0xff; 0x800]);
    props.0
}

/// A frame that would go on at address 0 with I/O privileges, in the kernel's segments.
fn frame(props: &mut Props) {
    let registers = FRAME + 8 + UCONTEXT_REGISTERS;
    let segments = 0x0018_0000_0000_0010; // cs 0x10, gs 0, fs 0, ss 0x18
    props.words(registers + 8 * FRAME_RSP, &[DATA + 0x8000]);
    props.words(registers + 8 * FRAME_RIP, &[0]);
    props.words(registers + 8 * FRAME_FLAGS, &[0x3202]);
    props.words(registers + 8 * FRAME_SEGMENTS, &[segments]);
    // The siginfo of a segmentation fault.
    props.words(FRAME_INFO, &[11, 1, 0xdead_0000]);
}

struct Props(Vec<u8>);

impl Props {
    fn put(&mut self, address: u64, bytes: &[u8]) {
        let start = usize::try_from(address - DATA).expect("an address of the props");
        self.0[start..start + bytes.len()].copy_from_slice(bytes);
    }

    /// Text with its zero, cut where the next prop begins.
    fn text(&mut self, address: u64, text: &str) {
        let length = text.len().min(0xff);
        self.put(address, &text.as_bytes()[..length]);
    }

    fn words(&mut self, address: u64, words: &[u64]) {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.put(address, &bytes);
    }
}
