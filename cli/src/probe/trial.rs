//! A worker that is tried: the proof, where the rest of a probe is evidence.
//!
//! It is tried by this program, started again: an engine makes calls that no feature is about, and
//! a filter around us may kill for any of them.

use std::io::{self, Read as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use cellwall::{
    Config, Engine, Error, Feature, Interrupt, Kernel, Layers, Module, Need, Obstacle, Signal,
    Standing, Support, Tier,
};
use linux_raw::process::{Resource, get_limit, set_limit};

use crate::ending::{Ending, status};
use crate::stdio;

/// The layers that the kernel or the CPU lacks, if a worker of a tier ran; or why none did.
pub(super) type Attempt = Result<Vec<String>, String>;

/// How long it may take. An engine gives up earlier; but a filter may kill one thread of several,
/// and the others then wait for ever.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long to wait between two looks at whether it has ended.
const LOOK_INTERVAL: Duration = Duration::from_millis(2);

/// Starts this program again, to try a worker of this tier.
pub(super) fn of(kernel: &Kernel, tier: Tier) -> Attempt {
    let killing = killing(kernel, tier);
    // The C library starts programs and threads by it, this one too.
    if killing.contains(&Feature::Clone3) {
        return Err(
            "none is tried, since a seccomp filter around this process kills for clone3, by which \
             processes and threads are made; have it answer ENOSYS instead"
                .into(),
        );
    }
    // Whatever has become of the file that it was started from.
    let mut again = Command::new("/proc/self/exe");
    again.args(["probe", "--try", tier.name()]);
    outcome_of(&mut again, PATIENCE, &killing)
}

/// What an engine would try and a filter kills for.
fn killing(kernel: &Kernel, tier: Tier) -> Vec<Feature> {
    let killed = Support::Forbidden(Obstacle::Killed(Signal::SYS));
    let findings = kernel.findings().iter();
    let kills = findings.filter(|finding| {
        let feature = finding.feature;
        let is_tried = matches!(feature.need(), Need::Must | Need::May) && feature.is_for(tier);
        is_tried && finding.support == killed
    });
    kills.map(|finding| finding.feature).collect()
}

fn outcome_of(command: &mut Command, patience: Duration, killing: &[Feature]) -> Attempt {
    let command = command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command
        .spawn()
        .map_err(|error| format!("there is no process to start one in: {error}"))?;
    let end = end_of(&mut child, patience)
        .map_err(|error| format!("the end of its start cannot be waited for: {error}"))?;
    match end {
        Some(end) if end.success() => {
            let mut answer = Vec::new();
            // What cannot be read is no answer either.
            let _ = child
                .stdout
                .take()
                .map(|mut out| out.read_to_end(&mut answer));
            serde_json::from_slice(&answer)
                .unwrap_or_else(|_| Err("its start ended without an answer".into()))
        }
        Some(end) => Err(told(end, killing)),
        None => Err(format!("its start did not end within {patience:?}")),
    }
}

/// Waits until it ends; none if it had to be killed.
fn end_of(child: &mut Child, patience: Duration) -> io::Result<Option<ExitStatus>> {
    let deadline = Instant::now() + patience;
    while Instant::now() < deadline {
        if let Some(end) = child.try_wait()? {
            return Ok(Some(end));
        }
        thread::sleep(LOOK_INTERVAL);
    }
    child.kill()?;
    child.wait()?;
    Ok(None)
}

/// How it ended without an answer.
fn told(end: ExitStatus, killing: &[Feature]) -> String {
    let signal = end.signal().and_then(|number| {
        let number = u32::try_from(number).ok()?;
        Signal::from_raw(number)
    });
    match signal {
        Some(Signal::SYS) => {
            let names: Vec<&str> = killing.iter().map(|feature| feature.name()).collect();
            let call = if names.is_empty() {
                "a call that an engine makes; allow it there. The kernel's log may tell its number"
                    .into()
            } else {
                format!(
                    "{}, and perhaps for more that an engine calls; allow that, have it answer \
                     ENOSYS instead, or tell an engine by Config::kernel",
                    names.join(", ")
                )
            };
            format!(
                "its start was killed by {}: a seccomp filter around this process kills for {call}",
                Signal::SYS
            )
        }
        Some(signal) => format!("its start was killed by {signal}"),
        None => format!("its start ended without an answer: {end}"),
    }
}

/// Starts a worker, lets it run three instructions, and prints what came of it for [`of`].
pub(crate) fn try_worker(tier: Tier) -> Ending {
    // It may be killed for what it tries, which is no news for whoever collects core dumps. A limit
    // of one byte, not of none, also keeps a dump from a pipe (fs/coredump.c).
    if let Ok(limit) = get_limit(Resource::Core) {
        let _ = set_limit(Resource::Core, limit.hard.min(1), limit.hard);
    }
    let attempt: Attempt = match sum(tier) {
        Ok((layers, Interrupt::Finished(42))) => Ok(absent(&layers)),
        Ok((_, other)) => Err(format!(
            "a worker started, but 40 + 2 ended otherwise: {other}"
        )),
        Err(error) => Err(error.to_string()),
    };
    match serde_json::to_string(&attempt) {
        Ok(text) => Ending::printed(stdio::print(&text), 0),
        Err(error) => Ending::new(status::FAILED, error.to_string()),
    }
}

fn sum(tier: Tier) -> Result<(Layers, Interrupt), Error> {
    let add = [
        0x48, 0x89, 0xf8, // mov rax, rdi
        0x48, 0x01, 0xf0, // add rax, rsi
        0xc3, // ret
    ];
    let engine = Engine::new(&Config::default().tier(tier))?;
    let module = Module::builder()
        .code(&add)
        .stack(0x10_0000, 0x1_0000)
        .build(&engine)?;
    let mut instance = engine.instantiate(&module)?;
    instance.call(module.entry(), &[40, 2])?;
    Ok((instance.layers(), instance.run()?))
}

fn absent(layers: &Layers) -> Vec<String> {
    let absent = layers
        .iter()
        .filter(|(_, standing)| matches!(standing, Standing::Absent(_)));
    absent.map(|(layer, _)| layer.name().into()).collect()
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::{Duration, Instant};

    use cellwall::{Feature, Kernel, Obstacle, Signal, Support, Tier};

    use super::{Attempt, PATIENCE, of, outcome_of};

    fn outcome(script: &str, patience: Duration, killing: &[Feature]) -> Attempt {
        outcome_of(Command::new("sh").args(["-c", script]), patience, killing)
    }

    #[test]
    fn every_end_is_told() {
        let told = |script, killing| outcome(script, PATIENCE, killing).unwrap_err();
        let killed = told("kill -SYS $$", &[]);
        assert!(killed.contains("killed by SIGSYS (31)"), "{killed}");
        assert!(
            killed.contains("kills for a call that an engine makes"),
            "{killed}"
        );
        let known = told("kill -SYS $$", &[Feature::IoUring, Feature::Mseal]);
        assert!(known.contains("kills for io_uring, mseal"), "{known}");
        let other = told("kill -KILL $$", &[]);
        assert_eq!(other, "its start was killed by SIGKILL (9)");
        for silent in ["exit 0", "echo 1", "exit 125"] {
            let silent = told(silent, &[]);
            assert!(silent.contains("without an answer"), "{silent}");
        }
        assert_eq!(told(r#"echo '{"Err":"no luck"}'"#, &[]), "no luck");
    }

    #[test]
    fn an_answer_is_taken() {
        let answer = outcome(r#"echo '{"Ok":["mseal"]}'"#, PATIENCE, &[]);
        assert_eq!(answer, Ok(vec!["mseal".to_owned()]));
    }

    #[test]
    fn nobody_waits_for_ever() {
        let begun = Instant::now();
        let patience = Duration::from_millis(50);
        let late = outcome("exec sleep 600", patience, &[]).unwrap_err();
        assert_eq!(late, "its start did not end within 50ms");
        assert!(begun.elapsed() < Duration::from_secs(60));
    }

    /// It would start these tests again, and its answer would be none.
    #[test]
    fn nothing_is_started_that_would_take_us_along() {
        let killed = Support::Forbidden(Obstacle::Killed(Signal::SYS));
        let kernel = Kernel::with_everything("6.1.0").with(Feature::Clone3, killed);
        for tier in [Tier::Full, Tier::WithoutNamespaces] {
            let told = of(&kernel, tier).unwrap_err();
            assert!(told.contains("kills for clone3"), "{told}");
        }
    }

    #[test]
    fn there_may_be_no_process() {
        let none = outcome_of(&mut Command::new("/nowhere"), PATIENCE, &[]).unwrap_err();
        assert!(
            none.starts_with("there is no process to start one in: "),
            "{none}"
        );
    }
}
