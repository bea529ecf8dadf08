//! One boot in QEMU. Its exit status says nothing: it is 0 after a panic too. What counts is the
//! line that init ends with.

use std::io::{BufRead as _, BufReader, Read};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use super::inside::{FAILED, INIT, PASSED};
use super::packages::Qemu;
use crate::Failure;

/// The longest that a boot with its tests may take: some seconds and some minutes.
const BOUND: Duration = Duration::from_secs(15 * 60);

/// How much memory the machine has, in MiB. The tests are in it twice for a moment.
const MEMORY: &str = "2048";

/// Boots an image and waits for what the tests inside say.
pub(super) fn boot(
    qemu: &Qemu,
    image: &Path,
    initramfs: &Path,
    only: Option<&str>,
) -> Result<(), Failure> {
    // Only what is as bad as a bug of the kernel comes between the lines of the tests; a panic ends
    // QEMU. Words after the dashes are init's arguments.
    let words = format!(
        "console=ttyS0 loglevel=2 panic=-1 rdinit={INIT} -- inside {}",
        only.unwrap_or_default()
    );
    let mut machine = Machine(
        qemu.command()
            // KVM is not to be had everywhere, and these kernels hang under a nested one.
            .args(["-accel", "tcg", "-cpu", "max", "-smp", "2", "-m", MEMORY])
            .args([
                "-nodefaults",
                "-nographic",
                "-no-reboot",
                "-serial",
                "stdio",
            ])
            .arg("-kernel")
            .arg(image)
            .arg("-initrd")
            .arg(initramfs)
            .args(["-append", words.trim_end()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?,
    );
    let output = machine.0.stdout.take().ok_or("QEMU without an output")?;
    listen(&lines(output), Instant::now() + BOUND)
}

/// Shows what comes until the line that says how it ended.
fn listen(lines: &Receiver<String>, end: Instant) -> Result<(), Failure> {
    loop {
        let left = end.saturating_duration_since(Instant::now());
        match lines.recv_timeout(left) {
            Ok(line) if line == PASSED => return Ok(()),
            Ok(line) => match line.strip_prefix(FAILED) {
                Some(why) => return Err(why.into()),
                None => println!("{line}"),
            },
            Err(RecvTimeoutError::Timeout) => {
                return Err(format!("no end within {} minutes", BOUND.as_secs() / 60).into());
            }
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
