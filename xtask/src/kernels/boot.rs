//! One boot in QEMU. Its exit status says nothing: it is 0 after a panic too. What counts is the
//! line that init ends with.

use std::fs;
use std::io::{BufRead as _, BufReader, Read};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use super::facts::Facts;
use super::inside::{ENDED, FAILED, INIT, Inside};
use super::packages::Qemu;
use crate::Failure;

/// The longest that a boot may take: a whole one takes 14 to 22 minutes on two CPUs.
pub(super) const BOUND: Duration = Duration::from_secs(60 * 60);

/// The longest that a quick run may take, for each of its kernels: one may use what others leave.
/// The three of CI have a quarter of an hour together.
pub(super) const QUICK_BOUND: Duration = Duration::from_secs(5 * 60);

/// The longest that a machine may say nothing: a test that hangs is found before the bound. A
/// quarter of the audit, the longest stage without a word, takes a third of it.
const SILENCE: Duration = Duration::from_secs(4 * 60);

/// How much memory the machine has, in MiB: tests of limits want room above them. QEMU took
/// 800 in a quick run, and 1,300 nine minutes into a whole one with larger programs.
const MEMORY: &str = "2048";

/// What is booted.
pub(super) struct Boot<'a> {
    pub(super) image: &'a Path,
    pub(super) initramfs: &'a Path,
    pub(super) inside: Inside,
    /// Where QEMU is to write what comes out of the second port.
    pub(super) findings: &'a Path,
    /// When it must have ended.
    pub(super) until: Instant,
}

impl Boot<'_> {
    /// Boots it, and gives what was found inside.
    pub(super) fn run(&self, qemu: &Qemu) -> Result<Vec<Facts>, Failure> {
        // Only what is as bad as a bug of the kernel comes between the lines of the tests; a panic
        // ends QEMU. Words after the dashes are init's arguments.
        let words = self.inside.words().join(" ");
        let words = format!("console=ttyS0 loglevel=2 panic=-1 rdinit={INIT} -- {words}");
        let mut machine = Machine(
            qemu.command()
                // KVM is not to be had everywhere, and these kernels hang under a nested one.
                .args(["-accel", "tcg", "-cpu", "max", "-smp", "2", "-m", MEMORY])
                .args(["-nodefaults", "-nographic", "-no-reboot"])
                .args(["-serial", "stdio", "-serial"])
                .arg(format!("file:{}", self.findings.display()))
                .arg("-kernel")
                .arg(self.image)
                .arg("-initrd")
                .arg(self.initramfs)
                .args(["-append", &words])
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .spawn()?,
        );
        let output = machine.0.stdout.take().ok_or("QEMU without an output")?;
        listen(&lines(output), self.until)?;
        let found = fs::read_to_string(self.findings)?;
        found
            .lines()
            .map(|line| Ok(serde_json::from_str(line)?))
            .collect()
    }
}

/// Shows what comes, and at which second, until the line that says how it ended.
fn listen(lines: &Receiver<String>, until: Instant) -> Result<(), Failure> {
    let begun = Instant::now();
    loop {
        let left = until.saturating_duration_since(Instant::now());
        // Said of one that never falls silent too: then a wait finds a line at once.
        if left.is_zero() {
            let seconds = begun.elapsed().as_secs();
            return Err(format!("no end within {seconds} s, and no time is left").into());
        }
        match lines.recv_timeout(left.min(SILENCE)) {
            Ok(line) if line == ENDED => return Ok(()),
            Ok(line) => match line.strip_prefix(FAILED) {
                Some(why) => return Err(why.into()),
                None => println!("{:>4} {line}", begun.elapsed().as_secs()),
            },
            Err(RecvTimeoutError::Timeout) if left > SILENCE => {
                return Err(format!("silent for {} minutes", SILENCE.as_secs() / 60).into());
            }
            // The bound is over.
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                return Err("the machine is gone and has not said how the tests ended".into());
            }
        }
    }
}

/// The lines of an output, without what the firmware draws with.
fn lines(output: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end_matches('\r');
            if !line.contains('\x1b') && sender.send(line.to_owned()).is_err() {
                return;
            }
        }
    });
    receiver
}

/// A machine that is switched off when nobody looks any more.
struct Machine(Child);

impl Drop for Machine {
    fn drop(&mut self) {
        // One that is gone already is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::{Duration, ENDED, FAILED, Instant, lines, listen};

    /// What is told of a machine that says this and goes on for ever.
    fn told(said: &'static str, until: Instant) -> Option<String> {
        let (reader, mut writer) = std::io::pipe().unwrap();
        std::io::Write::write_all(&mut writer, said.as_bytes()).unwrap();
        let told = listen(&lines(reader), until).err();
        drop(writer);
        told.map(|failure| failure.to_string())
    }

    #[test]
    fn an_end_is_heard_and_awaited_until_the_deadline() {
        let soon = || Instant::now() + Duration::from_millis(100);
        let late = || Instant::now() + Duration::from_secs(60);
        assert_eq!(told(format!("a line\n{ENDED}\n").leak(), late()), None);
        assert_eq!(
            told(format!("{FAILED}why\n").leak(), late()).unwrap(),
            "why"
        );
        for (said, until) in [("a line\n", soon()), ("", soon()), ("", Instant::now())] {
            assert!(told(said, until).unwrap().contains("no time is left"));
        }
    }
}
