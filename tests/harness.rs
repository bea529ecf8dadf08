//! What the tests share: an engine, machine code from an assembler, a look at /proc.

mod descriptors;
pub(crate) mod forked;
pub(crate) mod objects;
mod processes;

use std::fs;
use std::time::{Duration, Instant};

pub(crate) use absence::tier;
use cellwall::abi::CODE_WINDOW;
use cellwall::{Config, Engine, Instance, Module, ModuleBuilder, Protection, Tier};
use iced_x86::code_asm::{CodeAssembler, rax, rdi};
use linux_raw::prctl;
use linux_raw::seccomp::{InstallFlags, Program, install};

pub(crate) use self::descriptors::{descriptors, memories};
pub(crate) use self::processes::{
    adopt_orphans, child_processes, children, children_of, nurseries, workers,
};

/// Where the tests' guests have readable and writable memory, and how much.
pub(crate) const DATA: u64 = 0x2_0000;
pub(crate) const DATA_BYTES: u64 = 0x1_0000;
/// Where they have constants.
pub(crate) const CONSTANTS: u64 = 0x4_0000;
/// Their stack: `STACK .. STACK + STACK_BYTES`.
pub(crate) const STACK: u64 = 0x10_0000;
pub(crate) const STACK_BYTES: u64 = 0x1_0000;

/// Bounds on liveness are asserted at ten times their figure.
pub(crate) const DEATH_NOTICED: Duration = Duration::from_millis(10 * 20);

/// The production configuration, but for the tier.
pub(crate) fn config() -> Config {
    Config::default().tier(tier())
}

/// An engine whose guests run under the production configuration.
pub(crate) fn engine() -> Engine {
    Engine::new(&config()).expect("an engine; `cellwall probe` says what is missing")
}

/// The configurations that start workers in a way of their own: by a nursery, and one by one. In
/// the tier without namespaces there is no nursery.
pub(crate) fn both(mut test: impl FnMut(&Config)) {
    let configs = [config(), config().direct(true)];
    let first = usize::from(tier() != Tier::Full);
    for config in &configs[first..] {
        println!("{}", way(config));
        test(config);
    }
}

/// Whether a nursery clones the workers.
pub(crate) fn is_nursed(config: &Config) -> bool {
    tier() == Tier::Full && !config.is_direct()
}

/// What a configuration is called in a message.
pub(crate) fn way(config: &Config) -> &'static str {
    if is_nursed(config) {
        "nursed"
    } else {
        "direct"
    }
}

/// Machine code for the start of the code window.
pub(crate) fn assemble(write: impl FnOnce(&mut CodeAssembler)) -> Vec<u8> {
    let mut code = CodeAssembler::new(64).expect("an assembler");
    write(&mut code);
    code.assemble(CODE_WINDOW.start)
        .expect("valid instructions")
}

/// A module builder with the tests' memory map and this code.
pub(crate) fn parts(code: &[u8]) -> ModuleBuilder {
    Module::builder()
        .code(code)
        .zeroed(DATA, DATA_BYTES, Protection::ReadWrite)
        .data(CONSTANTS, b"constants of the module", Protection::Read)
        .stack(STACK, STACK_BYTES)
}

/// An instance of this code.
pub(crate) fn start(engine: &Engine, write: impl FnOnce(&mut CodeAssembler)) -> Instance {
    let module = parts(&assemble(write)).build(engine).expect("a module");
    engine.instantiate(&module).expect("an instance")
}

/// A guest that makes a hostcall without an argument, and traps with one.
pub(crate) fn calls_or_traps(code: &mut CodeAssembler) {
    let mut trap = code.create_label();
    code.test(rdi, rdi).unwrap();
    code.jne(trap).unwrap();
    code.mov(rax, cellwall::abi::HOSTCALL).unwrap();
    code.call(rax).unwrap();
    code.ret().unwrap();
    code.set_label(&mut trap).unwrap();
    code.ud2().unwrap();
}

/// Calls the module's entry.
pub(crate) fn call(instance: &mut Instance, args: &[u64]) {
    let entry = instance.module().entry();
    instance.call(entry, args).expect("a call");
}

/// A file of a worker's /proc directory.
pub(crate) fn proc(instance: &Instance, file: &str) -> String {
    let path = format!("/proc/{}/{file}", instance.process_id());
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// One value of /proc/PID/status.
pub(crate) fn status(instance: &Instance, key: &str) -> String {
    let text = proc(instance, "status");
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(&format!("{key}:")));
    line.unwrap_or_else(|| panic!("no {key} in status"))
        .trim()
        .to_owned()
}

/// Waits until `holds`, at most for `bound`.
pub(crate) fn eventually(bound: Duration, what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < bound, "not within {bound:?}: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Whether a process with this number exists, zombies included.
pub(crate) fn exists(process: u32) -> bool {
    fs::exists(format!("/proc/{process}")).unwrap_or(true)
}

/// Sends a signal by number, as an operator would.
pub(crate) fn kill(process: u32, signal: &str) {
    let status = std::process::Command::new("kill")
        .args([signal, &process.to_string()])
        .status()
        .expect("the kill command");
    assert!(status.success(), "kill {signal} {process}");
}

/// Puts a filter over this thread and those that it makes.
pub(crate) fn forbid<const N: usize>(filter: &'static Program<N>) {
    prctl::set_no_new_privs().expect("no new privileges");
    install(filter.as_slice(), InstallFlags::empty()).expect("a filter");
}

/// Runs `body` in a process of its own, where no other test interferes: the test of this name
/// starts itself again.
pub(crate) fn alone(test: &str, body: impl FnOnce()) {
    alone_under(&[], test, body);
}

/// The same, started by a command such as `chrt` that runs what follows it.
pub(crate) fn alone_under(command: &[&str], test: &str, body: impl FnOnce()) {
    const ALONE: &str = "CELLWALL_TEST_ALONE";
    if std::env::var_os(ALONE).is_some() {
        return body();
    }
    let program = std::env::current_exe().expect("this program's path");
    let program = program.to_str().expect("a path in UTF-8");
    let words = [command, &[program, "--exact", test, "--nocapture"]].concat();
    let (first, rest) = words.split_first().expect("a program");
    let run = std::process::Command::new(first)
        .args(rest)
        .env(ALONE, "1")
        .output()
        .unwrap_or_else(|error| panic!("{first}: {error}"));
    let text = String::from_utf8_lossy(&run.stdout);
    let errors = String::from_utf8_lossy(&run.stderr);
    assert!(
        run.status.success() && text.contains("1 passed"),
        "{text}\n{errors}"
    );
}
