//! Files by their names: Landlock's domain, and the empty root.

use std::fs;

use cellwall::{Errno, Layer};
use linux_raw::landlock::{AccessFs, AccessNet, Rights, Scope};
use linux_raw::sys::general as sys;

use crate::attack::Attack;
use crate::host::{file, folder};
use crate::sockets::restrict;
use crate::worker::{Attempt, Stop, Worker, seen};

const REFUSED: Stop = Stop::Refused(Errno::EACCES);

const ROOT: &[Layer] = &[Layer::MountNamespace];
const ROOT_AS_USER: &[Layer] = &[Layer::UserNamespace, Layer::MountNamespace];

/// Entering a domain takes this without privileges, and so does the filter.
pub(crate) const DOMAIN_AS_USER: &[Layer] = &[Layer::NoNewPrivileges];

pub(crate) const ATTACKS: &[Attack] = &[
    landlock("opens a file of the host's", open_passwd, REFUSED),
    landlock("opens a file by a relative name", open_relative, REFUSED),
    landlock("makes a folder", make_folder, REFUSED),
    landlock("removes a file", remove, REFUSED),
    landlock("links a file", link, REFUSED),
    landlock("empties a file", truncate, REFUSED).landlock(3),
    landlock("executes a program", execute, REFUSED),
    root("opens a file of the host's", open_passwd, Errno::ENOENT),
    root(
        "opens a file by a relative name",
        open_relative,
        Errno::ENOENT,
    ),
    root(
        "opens a file of what is mounted over the root",
        open_above,
        Errno::ENOENT,
    ),
    root("makes a folder", make_folder, Errno::ENOENT),
    root("removes a file", remove, Errno::ENOENT),
    root("executes a program", execute, Errno::ENOENT),
    root("looks up a file", status, Errno::ENOENT),
    root(
        "makes a folder in the root",
        make_folder_in_root,
        Errno::EROFS,
    )
    .only_root("others may not make any in the host's root"),
];

const fn landlock(what: &'static str, attempt: fn(&mut Worker) -> Attempt, stop: Stop) -> Attack {
    Attack::new(Layer::LandlockFiles, what, attempt, stop)
        .needs(&[], DOMAIN_AS_USER)
        .beside(restrict_all_but_files)
}

const fn root(what: &'static str, attempt: fn(&mut Worker) -> Attempt, errno: Errno) -> Attack {
    Attack::new(Layer::EmptyRoot, what, attempt, Stop::Refused(errno)).needs(ROOT, ROOT_AS_USER)
}

fn restrict_all_but_files(worker: &mut Worker) {
    restrict(
        worker,
        Rights {
            fs: AccessFs::empty(),
            net: AccessNet::all(),
            scoped: Scope::all(),
        },
    );
}

fn open_passwd(worker: &mut Worker) -> Attempt {
    worker.open("/etc/passwd", sys::O_RDONLY).map(drop)
}

/// Beyond the root is what is stacked on it: the old one, had it not been let go of.
fn open_above(worker: &mut Worker) -> Attempt {
    worker.open("/../etc/passwd", sys::O_RDONLY).map(drop)
}

/// The tests run in the package's folder.
fn open_relative(worker: &mut Worker) -> Attempt {
    worker.open("Cargo.toml", sys::O_RDONLY).map(drop)
}

fn make_folder(worker: &mut Worker) -> Attempt {
    let folder = folder();
    let made = folder.path().join("made");
    let path = worker.text(&made);
    worker.call(sys::__NR_mkdir, &[path, 0o700])?;
    seen(made.is_dir())
}

fn make_folder_in_root(worker: &mut Worker) -> Attempt {
    let made = format!("/cellwall-layers-{}", std::process::id());
    let path = worker.text(&made);
    worker.call(sys::__NR_mkdir, &[path, 0o700])?;
    seen(fs::remove_dir(made).is_ok())
}

fn remove(worker: &mut Worker) -> Attempt {
    let folder = folder();
    let file = file(&folder, "file", "text");
    let path = worker.text(&file);
    let answer = worker.call(sys::__NR_unlink, &[path]);
    assert_eq!(answer.is_err(), file.exists(), "{answer:?}");
    answer.map(drop)
}

fn link(worker: &mut Worker) -> Attempt {
    let folder = folder();
    let (file, other) = (file(&folder, "file", "text"), folder.path().join("other"));
    let (from, to) = (worker.text(&file), worker.text(&other));
    worker.call(sys::__NR_link, &[from, to])?;
    seen(other.exists())
}

fn truncate(worker: &mut Worker) -> Attempt {
    let folder = folder();
    let file = file(&folder, "file", "text");
    let path = worker.text(&file);
    let answer = worker.call(sys::__NR_truncate, &[path, 0]);
    let left = fs::read_to_string(file).expect("the file");
    assert_eq!(answer.is_ok(), left.is_empty(), "{answer:?}");
    answer.map(drop)
}

fn execute(worker: &mut Worker) -> Attempt {
    match worker.execute("/bin/true", &["true".as_ref()]) {
        Stop::Exited(0) => Ok(()),
        stop => Err(stop),
    }
}

pub(crate) fn status(worker: &mut Worker) -> Attempt {
    let (path, answer) = (worker.text("/etc/passwd"), worker.put(&[0; 256]));
    worker.call(sys::__NR_stat, &[path, answer])?;
    Ok(())
}
