//! The death of a host, tried: another process starts a worker and is killed.

use std::fs;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use cellwall::{Config, Error, Layer};

use super::finding::Finding;
use super::proc::silent;
use super::subject::Subject;
use crate::row::Row;

/// The kernel kills the worker at once; a busy machine takes its time to let it end.
const PATIENCE: Duration = Duration::from_secs(5);

/// Kills the host that `command` starts and looks whether its worker ends too. The command must
/// end up in [`sacrifice`].
#[must_use]
pub fn host_death(command: &mut Command) -> Row {
    let tried =
        kill_host(command).map_err(|error| silent("the host to be killed", &error.to_string()));
    Finding::equal(
        "a host with a worker is killed: the worker",
        "has ended".into(),
        tried,
    )
    .about(Layer::HostDeath)
}

/// Starts a worker, tells its number on the standard output, and waits to be killed.
///
/// # Errors
///
/// The library's, where no worker starts.
pub fn sacrifice(config: &Config) -> Result<(), Error> {
    let subject = Subject::start(config)?;
    // Whoever does not read it learns that there is no number; whoever dies ends the wait.
    let _ = writeln!(io::stdout(), "{}", subject.process_id());
    let _ = io::stdin().read(&mut [0]);
    Ok(())
}

fn kill_host(command: &mut Command) -> io::Result<String> {
    let mut host = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    let told = match host.stdout.take() {
        Some(output) => BufReader::new(output).read_line(&mut line).map(drop),
        None => Ok(()),
    };
    let worker = line.trim().parse::<u32>();
    let lived = worker.as_ref().is_ok_and(|worker| lives(*worker));
    host.kill()?;
    host.wait()?;
    told?;
    let worker = worker.map_err(|_| io::Error::other("it told no worker's number"))?;
    if !lived {
        return Err(io::Error::other("its worker did not live to begin with"));
    }
    let start = Instant::now();
    while lives(worker) {
        if start.elapsed() > PATIENCE {
            return Ok(format!("lives on as {worker}"));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok("has ended".into())
}

/// Whether the number is a worker's that has not ended: a zombie waits for nothing but its parent.
fn lives(process: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let has = |line: &str| status.lines().any(|found| found.starts_with(line));
    has("Name:\tcellwall-worker") && !has("State:\tZ") && !has("State:\tX")
}
