//! Waiting by poll(2), which is told everything each time.

use std::time::Duration;

use linux_raw::Errno;
use linux_raw::io::{self, PollFd, PollFlags};
use linux_raw::time::Timespec;

use super::dying::{Dying, Token};
use super::mailbox::Mailbox;

/// How long to wait where the kernel cannot be told of so many.
const SHORT: Duration = Duration::from_millis(1);

pub(super) fn wait(
    mailbox: &Mailbox,
    dying: &Dying,
    timeout: Option<Duration>,
    ended: &mut Vec<Token>,
) {
    let (tokens, mut fds): (Vec<Token>, Vec<PollFd<'_>>) = dying
        .watched()
        .map(|(token, pidfd)| (token, PollFd::new(pidfd, PollFlags::IN)))
        .unzip();
    fds.push(PollFd::new(mailbox.alarm(), PollFlags::IN));
    match io::poll(&mut fds, timeout.map(Timespec::from)) {
        Ok(_) => {
            let found = |fd: &PollFd<'_>| !fd.found().is_empty();
            let ready = tokens.iter().zip(&fds).filter(|(_, fd)| found(fd));
            ended.extend(ready.map(|(token, _)| *token));
            if fds.last().is_some_and(found) {
                mailbox.hear();
            }
        }
        // A signal of the C library's: the caller comes again.
        Err(Errno::EINTR) => {}
        // More than the limit of descriptors, which has come down, or no memory: each is looked at.
        Err(_) => {
            std::thread::sleep(timeout.map_or(SHORT, |timeout| timeout.min(SHORT)));
            ended.extend(tokens);
            mailbox.hear();
        }
    }
}
