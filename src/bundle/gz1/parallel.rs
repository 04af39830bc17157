//! `gz1` on several threads. Members are independent of each other, so that the bytes are those of one thread.

use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use super::{BLOCK, Encoder};

/// How many members a thread has before and behind it; with what it works on, at most 4 MiB a thread.
const QUEUE: usize = 1;

/// Compresses all that `produce` writes, on so many threads, and gives `sink` the members in their order. The sink runs
/// on a thread of its own.
///
/// An error of the sink ends the production, and is what is returned.
pub fn encode<S>(
    threads: NonZeroUsize,
    mut sink: S,
    produce: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<S>
where
    S: Write + Send,
{
    thread::scope(|scope| {
        let mut doors = Vec::new();
        let mut exits = Vec::new();
        for _ in 0..threads.get() {
            let (door, blocks) = sync_channel::<Vec<u8>>(QUEUE);
            let (members, exit) = sync_channel::<io::Result<Vec<u8>>>(QUEUE);
            scope.spawn(move || compress(&blocks, &members));
            doors.push(door);
            exits.push(exit);
        }
        let writer = scope.spawn(move || {
            // Blocks went to the threads in turn, so members come from them in turn; the first that has none was last.
            for exit in exits.iter().cycle() {
                let Ok(member) = exit.recv() else { break };
                sink.write_all(&member?)?;
            }
            Ok(sink)
        });
        let mut blocks = Blocks { doors, next: 0, block: Vec::with_capacity(BLOCK), sent: false };
        let produced = produce(&mut blocks).and_then(|()| blocks.finish());
        let written = writer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        // Who produces sees a closed door where the sink failed; the sink knows why.
        match (produced, written) {
            (Err(error), Ok(_)) => Err(error),
            (_, written) => written,
        }
    })
}

fn compress(blocks: &Receiver<Vec<u8>>, members: &SyncSender<io::Result<Vec<u8>>>) {
    let mut encoder = Encoder::new();
    for block in blocks {
        let mut member = Vec::new();
        let result = encoder.member(&block, &mut member).map(|()| member);
        if members.send(result).is_err() {
            return;
        }
    }
}

/// Cuts what is written into blocks, and hands them to the threads in turn.
struct Blocks {
    doors: Vec<SyncSender<Vec<u8>>>,
    next: usize,
    block: Vec<u8>,
    sent: bool,
}

impl Blocks {
    fn send(&mut self) -> io::Result<()> {
        let block = std::mem::replace(&mut self.block, Vec::with_capacity(BLOCK));
        self.sent = true;
        let door = &self.doors[self.next];
        self.next = (self.next + 1) % self.doors.len();
        door.send(block).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn finish(mut self) -> io::Result<()> {
        if !self.block.is_empty() || !self.sent {
            self.send()?;
        }
        Ok(())
    }
}

impl Write for Blocks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(BLOCK - self.block.len());
        self.block.extend_from_slice(&bytes[..taken]);
        if self.block.len() == BLOCK {
            self.send()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(threads: usize, bytes: &[u8], cut: usize) -> Vec<u8> {
        let produce = |out: &mut dyn Write| bytes.chunks(cut).try_for_each(|piece| out.write_all(piece));
        encode(NonZeroUsize::new(threads).unwrap(), Vec::new(), produce).unwrap()
    }

    #[test]
    fn the_number_of_threads_does_not_show() {
        for size in [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 7 * BLOCK + 5] {
            let bytes: Vec<u8> = (0_u64..).flat_map(|n| (n * n).to_be_bytes()).take(size).collect();
            let one = super::super::encode(&bytes).unwrap();
            for threads in [1, 2, 3, 8] {
                assert_eq!(on(threads, &bytes, 70_001), one, "{size} bytes on {threads} threads");
            }
        }
    }

    #[test]
    fn a_sink_that_fails_ends_it_with_its_own_error() {
        struct Full(usize);
        impl Write for Full {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0 = self.0.checked_sub(bytes.len()).ok_or(io::ErrorKind::StorageFull)?;
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let two = NonZeroUsize::new(2).unwrap();
        let block = vec![0; BLOCK];
        let zeros = |out: &mut dyn Write| (0..64).try_for_each(|_| out.write_all(&block));
        let error = encode(two, Full(5000), zeros).err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        let error = encode(two, Vec::new(), |_| Err(io::ErrorKind::UnexpectedEof.into())).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
