//! What PostgreSQL may use: `PGTune`'s formulae for type `web`, Linux and an SSD (`le0pard/pgtune`,
//! `src/features/configuration/configurationSlice.js`, the selector named at each line). Memory is what the server may use,
//! not what the droplet has.

use super::super::size::Size;

const MIB: u64 = 1024;
const GIB: u64 = 1024 * 1024;

/// All in KiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sizes {
    pub(super) shared_buffers: u64,
    pub(super) effective_cache_size: u64,
    pub(super) maintenance_work_mem: u64,
    pub(super) autovacuum_work_mem: Option<u64>,
    pub(super) wal_buffers: u64,
    pub(super) work_mem: u64,
    pub(super) huge_pages: bool,
}

/// The keys that `PGTune` sets only where there are cores to spare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Parallel {
    pub(super) workers: u32,
    pub(super) per_gather: u32,
}

impl Parallel {
    /// From four cores up: as many workers as cores, half of them for one query, at most 4 (`selectParallelSettings`).
    pub(super) fn of(cores: u32) -> Option<Self> {
        (cores >= 4).then(|| Self { workers: cores, per_gather: cores.div_ceil(2).min(4) })
    }
}

/// `selectAutovacuumMaxWorkers`: PostgreSQL's own 3 is enough below 16 cores.
pub(super) fn autovacuum_workers(cores: u32) -> Option<u32> {
    match cores {
        32.. => Some(5),
        16.. => Some(4),
        _ => None,
    }
}

impl Sizes {
    pub(super) fn of(memory: Size, max_connections: u32, parallel: Option<Parallel>) -> Self {
        let kib = memory.kib();
        // `selectSharedBuffers`
        let shared_buffers = kib / 4;
        // `selectWalBuffers`: 16 MiB is one WAL segment; near it, the whole segment.
        let wal = (shared_buffers * 3 / 100).clamp(32, 16 * MIB);
        // `selectMaintenanceWorkMem`, `selectAutovacuumWorkMem`: several workers may take it at once.
        let maintenance_work_mem = (kib / 16).min(8 * GIB);
        // `selectWorkMem`. PostgreSQL's own default of max_worker_processes is 8.
        let workers = u64::from(parallel.map_or(8, |parallel| parallel.workers));
        let work_mem = (kib - shared_buffers) / ((u64::from(max_connections) + workers) * 3);
        Self {
            shared_buffers,
            // `selectEffectiveCacheSize`
            effective_cache_size: kib * 3 / 4,
            maintenance_work_mem,
            autovacuum_work_mem: (maintenance_work_mem >= 2 * GIB).then_some(2 * GIB),
            wal_buffers: if wal > 14 * MIB { 16 * MIB } else { wal },
            work_mem: work_mem.max(4 * MIB),
            // `selectHugePages`
            huge_pages: shared_buffers >= 2 * GIB,
        }
    }
}

/// In the largest unit that divides it, as PostgreSQL spells units.
pub(super) fn kib(amount: u64) -> String {
    if amount.is_multiple_of(MIB) { format!("{}MB", amount / MIB) } else { format!("{amount}kB") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sixteen_gigabytes_and_eight_cores_give_what_pgtune_gives() {
        let parallel = Parallel::of(8);
        assert_eq!(parallel, Some(Parallel { workers: 8, per_gather: 4 }));
        let expected = Sizes {
            shared_buffers: 4 * GIB,
            effective_cache_size: 12 * GIB,
            maintenance_work_mem: GIB,
            autovacuum_work_mem: None,
            wal_buffers: 16 * MIB,
            work_mem: 20164,
            huge_pages: true,
        };
        assert_eq!(Sizes::of("16g".parse().unwrap(), 200, parallel), expected);
    }

    #[test]
    fn the_smallest_and_the_largest_stay_within_bounds() {
        let small = Sizes::of("256m".parse().unwrap(), 100, None);
        assert_eq!((small.shared_buffers, small.work_mem, small.wal_buffers), (64 * MIB, 4 * MIB, 1966));
        assert!(!small.huge_pages);
        let large = Sizes::of("192g".parse().unwrap(), 500, Parallel::of(32));
        assert_eq!((large.maintenance_work_mem, large.autovacuum_work_mem), (8 * GIB, Some(2 * GIB)));
        assert_eq!([1, 15, 16, 31, 32].map(autovacuum_workers), [None, None, Some(4), Some(4), Some(5)]);
        assert_eq!(Parallel::of(3), None);
    }
}
