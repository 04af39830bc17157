//! `gz1` on several threads. Members are independent of each other, so that the bytes are those of one thread.

use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread;

use super::{BLOCK, Encoder};

/// How many blocks for each thread are under way at most, in whatever form: 3 MiB with what a thread works on.
const UNDER_WAY: usize = 2;

/// A block, and where its member is waited for.
type Work = (Vec<u8>, SyncSender<io::Result<Vec<u8>>>);

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
    let under_way = UNDER_WAY * threads.get();
    let (door, work) = sync_channel::<Work>(under_way);
    // Whoever has nothing to do takes the next block: some take several times as long as others.
    let work = Mutex::new(work);
    let (turn, turns) = sync_channel::<Receiver<io::Result<Vec<u8>>>>(under_way);
    thread::scope(|scope| {
        for _ in 0..threads.get() {
            scope.spawn(|| compress(&work));
        }
        let writer = scope.spawn(move || {
            for member in turns {
                // Its thread is gone only if it panicked, which the scope passes on.
                let Ok(member) = member.recv() else { break };
                sink.write_all(&member?)?;
            }
            Ok(sink)
        });
        let mut blocks = Blocks { door, turn, block: Vec::with_capacity(BLOCK), sent: false };
        let produced = produce(&mut blocks).and_then(|()| blocks.finish());
        let written = writer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        // Who produces sees a closed door where the sink failed; the sink knows why.
        match (produced, written) {
            (Err(error), Ok(_)) => Err(error),
            (_, written) => written,
        }
    })
}

fn compress(work: &Mutex<Receiver<Work>>) {
    let mut encoder = Encoder::new();
    loop {
        let next = work.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok((block, exit)) = next else { return };
        let mut member = Vec::new();
        let result = encoder.member(&block, &mut member).map(|()| member);
        // Nobody waits any more once the sink failed; then what is left is compressed for nobody.
        let _unwanted = exit.send(result);
    }
}

/// Cuts what is written into blocks, and hands them to the threads.
struct Blocks {
    door: SyncSender<Work>,
    turn: SyncSender<Receiver<io::Result<Vec<u8>>>>,
    block: Vec<u8>,
    sent: bool,
}

impl Blocks {
    fn send(&mut self) -> io::Result<()> {
        let block = std::mem::replace(&mut self.block, Vec::with_capacity(BLOCK));
        self.sent = true;
        let (exit, member) = sync_channel(1);
        // The turn first: it is what waits when too much is under way, and what the sink closes.
        self.turn.send(member).map_err(|_| io::ErrorKind::BrokenPipe)?;
        self.door.send((block, exit)).map_err(|_| io::ErrorKind::BrokenPipe.into())
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
