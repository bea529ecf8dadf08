//! Transfers in quantity: nothing is lost, doubled or out of order.

use std::io::Write;
use std::time::Duration;

use linux_raw::Errno;
use linux_raw::time::monotonic;

use crate::transfer::{both_ways, in_millis};
use crate::{lend, pipe, set_nonblocking};

#[test]
fn megabytes_in_random_pieces() {
    const BYTES: usize = 6 << 20;
    const PIECE: u64 = 100_000;
    both_ways(|make| {
        for deadlines in [false, true] {
            let deadline = move || if deadlines { in_millis(60_000) } else { None };
            let (reader, writer) = pipe();
            set_nonblocking(&reader, deadlines);
            let (mut out, mut back) = (make(), make());
            let sent: Vec<u8> = random(1)
                .map(|word| word.to_le_bytes()[3])
                .take(BYTES)
                .collect();
            let expected = sent.clone();
            let sender = std::thread::spawn(move || {
                let mut rest = &sent[..];
                let mut pieces = random(2);
                while !rest.is_empty() {
                    let piece = usize::try_from(1 + pieces.next().unwrap() % PIECE).unwrap();
                    let piece = &rest[..piece.min(rest.len())];
                    let bytes = out.write(lend(&writer), piece, deadline()).unwrap();
                    assert!(bytes >= 1);
                    rest = &rest[bytes..];
                }
            });
            let mut received = Vec::new();
            let mut into = vec![0; usize::try_from(PIECE).unwrap()];
            for word in random(3) {
                let piece = usize::try_from(1 + word % PIECE).unwrap();
                match back
                    .read(lend(&reader), &mut into[..piece], deadline())
                    .unwrap()
                {
                    0 => break,
                    bytes => received.extend_from_slice(&into[..bytes]),
                }
            }
            sender.join().unwrap();
            assert!(received == expected, "{} bytes of {BYTES}", received.len());
        }
    });
}

#[test]
fn late_reads_lose_nothing() {
    const BYTES: u64 = 3000;
    both_ways(|make| {
        let (reader, writer) = pipe();
        // Plainly, a blocking read can be kept waiting by the reader that was faster.
        set_nonblocking(&reader, make().kind() == "plain");
        let readers: Vec<_> = (0..3)
            .map(|_| (make(), reader.try_clone().unwrap()))
            .collect();
        let writing = std::thread::spawn(move || {
            for word in random(4).take(usize::try_from(BYTES).unwrap()) {
                (&writer).write_all(&[1]).unwrap();
                for _ in 0..word % 5000 {
                    std::hint::spin_loop();
                }
            }
        });
        let reading = readers
            .into_iter()
            .zip(5..)
            .map(|((mut transfer, reader), seed)| {
                std::thread::spawn(move || {
                    let (mut bytes, mut late) = (0, 0);
                    for word in random(seed) {
                        let mut into = [0; 2];
                        let deadline = Some(monotonic() + Duration::from_nanos(word % 100_000));
                        match transfer.read(lend(&reader), &mut into, deadline) {
                            Ok(0) => break,
                            Ok(_) => bytes += into.iter().map(|byte| u64::from(*byte)).sum::<u64>(),
                            Err(errno) => {
                                assert_eq!((errno, into), (Errno::ETIME, [0; 2]));
                                late += 1;
                            }
                        }
                    }
                    println!("{}: {bytes} bytes, {late} times late", transfer.kind());
                    bytes
                })
            });
        let reading: Vec<_> = reading.collect();
        writing.join().unwrap();
        let bytes: u64 = reading
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .sum();
        assert_eq!(bytes, BYTES);
    });
}

/// A sequence that looks random and is the same each time (xorshift64).
fn random(seed: u64) -> impl Iterator<Item = u64> {
    std::iter::successors(Some(seed), |word| {
        let word = word ^ (word << 13);
        let word = word ^ (word >> 7);
        Some(word ^ (word << 17))
    })
    .skip(20)
}
