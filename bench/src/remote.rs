//! A side in a process of its own: this program again, which takes a batch for each line that it
//! reads. What is measured there is not what else this process has loaded, mapped and opened.

use std::env;
use std::io::{BufRead as _, BufReader, Write as _, stdin, stdout};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::limits::{clones, futex};
use crate::measure::{Failure, Plan, Sampler, Start};
use crate::ours::large_host;

/// What can be had in a process of its own, by name.
const SIDES: [(&str, Start); 6] = [
    ("clone", |_| clones::to_the_first_effect()),
    ("clone_memory", |_| clones::memory_asleep()),
    ("futex_asleep", |_| futex::asleep()),
    ("futex_on_every_cpu", |_| futex::on_every_cpu()),
    ("large_host", |_| large_host::large()),
    ("small_host", |_| large_host::small()),
];

/// What an answer begins with that is a failure.
const FAILED: &str = "failed: ";

/// The process, which ends with this.
struct Remote {
    child: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
}

/// Starts a process for the side of this name.
pub(crate) fn remote(plan: &Plan, name: &str) -> Result<Sampler, Failure> {
    let mut command = Command::new(env::current_exe()?);
    command.args(["--side", name]);
    if plan.quick {
        command.arg("--quick");
    }
    let (stdin, stdout) = (Stdio::piped(), Stdio::piped());
    let mut child = command.stdin(stdin).stdout(stdout).spawn()?;
    let requests = child.stdin.take().ok_or("the process has no input")?;
    let answers = child.stdout.take().ok_or("the process has no output")?;
    let mut remote = Remote {
        child,
        requests,
        answers: BufReader::new(answers),
    };
    remote.answer()?;
    Ok(Box::new(move || {
        remote.requests.write_all(b"\n")?;
        remote.answer()
    }))
}

impl Remote {
    /// A line: the samples, or why there are none.
    fn answer(&mut self) -> Result<Vec<f64>, Failure> {
        let mut line = String::new();
        if self.answers.read_line(&mut line)? == 0 {
            return Err("the side's process ended".into());
        }
        match line.trim().strip_prefix(FAILED) {
            Some(why) => Err(why.to_owned().into()),
            None => Ok(line
                .split_whitespace()
                .map(str::parse)
                .collect::<Result<_, _>>()?),
        }
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the process does.
///
/// # Errors
///
/// Where nobody reads its answers, or there is no side of this name.
pub fn serve(plan: &Plan, name: &str) -> Result<(), Failure> {
    let mut sides = SIDES.into_iter();
    let (_, start) = sides.find(|side| side.0 == name).ok_or("no such side")?;
    let mut sampler = match start(plan) {
        Ok(sampler) => sampler,
        Err(failure) => return tell(Err(failure)),
    };
    tell(Ok(Vec::new()))?;
    for line in stdin().lines() {
        line?;
        tell(sampler())?;
    }
    Ok(())
}

fn tell(answer: Result<Vec<f64>, Failure>) -> Result<(), Failure> {
    let line = match answer {
        Ok(samples) => {
            let samples: Vec<String> = samples.iter().map(f64::to_string).collect();
            samples.join(" ")
        }
        Err(failure) => format!("{FAILED}{}", failure.to_string().replace('\n', "; ")),
    };
    writeln!(stdout(), "{line}")?;
    Ok(())
}
