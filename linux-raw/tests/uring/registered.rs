//! Registered buffers and files.

use std::io::{Read, Write};

use linux_raw::Errno;
use linux_raw::uring::op::{self, Fd, Fixed, Position};
use linux_raw::uring::{Buffer, FileSlot, Setup};

use crate::{lend, pipe, read_now, ring, run};

const HERE: Position = Position::Current;

#[test]
fn buffers() {
    let Some(mut ring) = ring(Setup::new(8)) else {
        return;
    };
    let (mut reader, mut writer) = pipe();
    let (source, sink) = (Fd::new(&lend(&reader)), Fd::new(&lend(&writer)));
    let mut first = vec![0_u8; 4096];
    let mut second = vec![0_u8; 100];
    second[..5].copy_from_slice(b"fixed");
    let (first_at, second_at) = (first.as_mut_ptr(), second.as_mut_ptr());
    let buffers = [Buffer::new(first_at, 4096), Buffer::new(second_at, 100)];
    ring.register_buffers(&buffers).unwrap();
    assert_eq!(ring.register_buffers(&buffers), Err(Errno::EBUSY));

    // SAFETY: both vectors live on, untouched, until `run` has reaped the completions.
    let out = unsafe { op::write_fixed(sink, 1, second_at, 5, HERE) };
    assert_eq!(run(&mut ring, [out]), [Ok(5)]);
    let mut plain = [0; 5];
    reader.read_exact(&mut plain).unwrap();
    assert_eq!(&plain, b"fixed");

    writer.write_all(b"into the middle").unwrap();
    // SAFETY: the place is inside the vector.
    let middle = unsafe { first_at.add(1000) };
    // SAFETY: as above.
    let back = unsafe { op::read_fixed(source, 0, middle, 64, HERE) };
    assert_eq!(run(&mut ring, [back]), [Ok(15)]);
    // SAFETY: as above; the kernel refuses, since it is not in buffer 1.
    let outside = unsafe { op::read_fixed(source, 1, middle, 64, HERE) };
    assert_eq!(run(&mut ring, [outside]), [Err(Errno::EFAULT)]);
    assert_eq!(&first[1000..1015], b"into the middle");

    ring.unregister_buffers().unwrap();
    assert_eq!(ring.unregister_buffers(), Err(Errno::ENXIO));
    assert_eq!(ring.register_buffers(&[]), Err(Errno::EINVAL));
    let nowhere = [Buffer::new(std::ptr::without_provenance_mut(8), 4096)];
    assert_eq!(ring.register_buffers(&nowhere), Err(Errno::EFAULT));
}

#[test]
fn files() {
    let Some(mut ring) = ring(Setup::new(8)) else {
        return;
    };
    let (reader, mut writer) = pipe();
    let (other, mut other_writer) = pipe();
    let slots = [FileSlot::file(lend(&reader)), FileSlot::EMPTY];
    ring.register_files(&slots).unwrap();
    assert_eq!(ring.register_files(&slots), Err(Errno::EBUSY));
    // The ring holds the file: our descriptor may go.
    drop(reader);
    writer.write_all(b"one").unwrap();
    let mut into = [0_u8; 8];
    assert_eq!(read_now(&mut ring, Fixed(0), &mut into, HERE), Ok(3));
    for absent in [1, 2, u32::MAX] {
        assert_eq!(
            read_now(&mut ring, Fixed(absent), &mut into, HERE),
            Err(Errno::EBADF)
        );
    }
    assert_eq!(ring.update_files(1, &[FileSlot::file(lend(&other))]), Ok(1));
    other_writer.write_all(b"four").unwrap();
    assert_eq!(read_now(&mut ring, Fixed(1), &mut into, HERE), Ok(4));
    assert_eq!(&into, b"four\0\0\0\0");
    let past_the_end = [FileSlot::EMPTY; 2];
    assert_eq!(ring.update_files(1, &past_the_end), Err(Errno::EINVAL));

    // Emptied, the table held the last reader of the first pipe.
    assert_eq!(ring.update_files(0, &[FileSlot::EMPTY]), Ok(1));
    ring.unregister_files().unwrap();
    assert_eq!(ring.unregister_files(), Err(Errno::ENXIO));
    assert_eq!(ring.register_files(&[]), Err(Errno::EINVAL));
}
