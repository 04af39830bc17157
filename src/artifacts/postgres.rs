//! `[postgres]` → `postgres/postgresql.conf` and `postgres/pg_hba.conf`.
//!
//! Valid for PostgreSQL 16 and 17. Sizes follow `PGTune`'s formulae for type `web` (`le0pard/pgtune`,
//! `src/features/configuration/configurationSlice.js`), where memory is what this service may use, not what the droplet has. There is no TLS: the
//! only way to the server is the machine's own internal network.

use serde::Deserialize;

use super::format::Refused;
use super::format::postgres::Conf;
use super::size::Size;
use super::{Artifact, Entry, Problem, RenderError, Section, ServiceMount, Tree, literal};
use crate::model::{Dump, ServiceName};
use crate::spec::Spec;

/// The table `[postgres]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Postgres {
    /// The stateful service that it configures.
    service: ServiceName,
    /// What the server may use of the droplet's memory.
    memory: Size,
    /// How many clients at once.
    #[serde(default = "default_connections")]
    max_connections: u32,
    /// The only database that clients reach.
    database: String,
    /// The only user that reaches it.
    user: String,
}

fn default_connections() -> u32 {
    100
}

const CONF: &str = "postgres/postgresql.conf";
const HBA: &str = "postgres/pg_hba.conf";
const CONF_IN_CONTAINER: &str = "/etc/postgresql/postgresql.conf";
const HBA_IN_CONTAINER: &str = "/etc/postgresql/pg_hba.conf";

/// Below this, `shared_buffers` and the connections do not fit.
const LEAST_MEMORY_MIB: u64 = 128;

impl Section for Postgres {
    const KIND: &'static str = "postgres";
    const TABLE: Option<&'static str> = Some("postgres");

    fn absent() -> Option<Self> {
        None
    }
}

impl Artifact for Postgres {
    fn check(&self, spec: &Spec) -> Vec<Problem> {
        let mut problems: Vec<Problem> = literal::check_service(spec, &self.service).into_iter().collect();
        if self.memory.mib() < LEAST_MEMORY_MIB || self.memory.mib() > spec.droplet.memory_mib {
            let message = format!(
                "PostgreSQL's memory is {}, not between {LEAST_MEMORY_MIB}m and the droplet's {}m",
                self.memory, spec.droplet.memory_mib
            );
            problems.push(literal::problem("memory", message, None));
        }
        if !(1..=10_000).contains(&self.max_connections) {
            let message = format!("{} connections are not between 1 and 10000", self.max_connections);
            problems.push(literal::problem("max_connections", message, None));
        }
        problems
    }

    fn render(&self, spec: &Spec, tree: &mut Tree) -> Result<(), RenderError> {
        literal::service(spec, Self::KIND, &self.service)?;
        let conf = self.conf(spec.droplet.vcpus).map_err(|refused| refused.at(CONF))?;
        let hba = self.hba(spec).map_err(|refused| refused.at(HBA))?;
        for (path, content, target) in [(CONF, conf, CONF_IN_CONTAINER), (HBA, hba, HBA_IN_CONTAINER)] {
            let store = tree.insert(Entry::text(Self::KIND, literal::path(path)?, content))?;
            let mount = ServiceMount { source: store.absolute(), target: target.to_owned() };
            tree.mount(&self.service, mount);
        }
        let command = [
            "postgres",
            "-c",
            "config_file=/etc/postgresql/postgresql.conf",
            "-c",
            "hba_file=/etc/postgresql/pg_hba.conf",
        ];
        tree.command(&self.service, command.map(str::to_owned).to_vec());
        tree.dump(self.dump());
        Ok(())
    }
}

/// What `PGTune` computes, in KiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sizes {
    shared_buffers: u64,
    effective_cache_size: u64,
    maintenance_work_mem: u64,
    wal_buffers: u64,
    work_mem: u64,
}

/// The keys that `PGTune` sets only where there are cores to spare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Parallel {
    workers: u32,
    per_gather: u32,
}

impl Parallel {
    /// From four cores up.
    fn of(vcpus: u32) -> Option<Self> {
        (vcpus >= 4).then(|| Self { workers: vcpus, per_gather: vcpus.div_ceil(2).min(4) })
    }
}

impl Sizes {
    fn of(memory: Size, max_connections: u32, parallel: Option<Parallel>) -> Self {
        let kib = memory.kib();
        let shared_buffers = kib / 4;
        // 16 MiB is one WAL segment; near it, the whole segment.
        let wal = (shared_buffers * 3 / 100).clamp(32, 16 * 1024);
        // PostgreSQL's own default of max_worker_processes is 8.
        let workers = u64::from(parallel.map_or(8, |parallel| parallel.workers));
        Self {
            shared_buffers,
            effective_cache_size: kib * 3 / 4,
            maintenance_work_mem: (kib / 16).min(2 * 1024 * 1024),
            wal_buffers: if wal > 14 * 1024 { 16 * 1024 } else { wal },
            work_mem: ((kib - shared_buffers) / ((u64::from(max_connections) + workers) * 3)).max(64),
        }
    }
}

/// In the largest unit that divides it, as PostgreSQL spells units.
fn kib(amount: u64) -> String {
    if amount.is_multiple_of(1024) { format!("{}MB", amount / 1024) } else { format!("{amount}kB") }
}

impl Postgres {
    /// A copy in `pg_dump`'s own format, which `pg_restore` reads (postgresql.org, "SQL Dump"). The password comes from where
    /// the image's entrypoint has it from, and goes through the environment of this one command.
    fn dump(&self) -> Dump {
        let script = "PGPASSWORD=$(cat \"$POSTGRES_PASSWORD_FILE\") && export PGPASSWORD && \
                      exec pg_dump --format=custom --no-password --username=\"$1\" --dbname=\"$2\"";
        let write = ["sh", "-c", script, "sh", &self.user, &self.database];
        Dump {
            service: self.service.clone(),
            write: write.map(str::to_owned).to_vec(),
            check: ["pg_restore", "--list"].map(str::to_owned).to_vec(),
            suffix: "dump".to_owned(),
        }
    }

    fn conf(&self, vcpus: u32) -> Result<String, Refused> {
        let parallel = Parallel::of(vcpus);
        let sizes = Sizes::of(self.memory, self.max_connections, parallel);
        let mut conf = Conf::default();
        conf.comment("The container's only network is internal, so there is no TLS; pg_hba.conf names who may come in.")
            .set("listen_addresses", "*")?
            .set("port", "5432")?
            .set("max_connections", &self.max_connections.to_string())?
            .set("password_encryption", "scram-sha-256")?
            .set("ssl", "off")?;
        conf.comment("Memory (PGTune, type web): a quarter of it.")
            .set("shared_buffers", &kib(sizes.shared_buffers))?;
        conf.comment("Three quarters.").set("effective_cache_size", &kib(sizes.effective_cache_size))?;
        conf.comment("A sixteenth, at most 2 GB.")
            .set("maintenance_work_mem", &kib(sizes.maintenance_work_mem))?;
        conf.comment(
            "What shared_buffers leaves, over three times all connections and workers; at least 64 kB.",
        )
        .set("work_mem", &kib(sizes.work_mem))?;
        conf.comment("PGTune: only from 32 GB up is it worth trying.")
            .set("huge_pages", if self.memory.mib() >= 32 * 1024 { "try" } else { "off" })?;
        conf.comment(
            "Write-ahead log (PGTune, type web): 3 % of shared_buffers, at most a segment of 16 MB.",
        )
        .set("wal_buffers", &kib(sizes.wal_buffers))?
        .set("min_wal_size", "1GB")?
        .set("max_wal_size", "4GB")?
        .set("checkpoint_completion_target", "0.9")?
        .set("checkpoint_timeout", "15min")?
        .set("wal_compression", "lz4")?;
        conf.comment("The droplet's disk is an SSD (PGTune).")
            .set("random_page_cost", "1.1")?
            .set("effective_io_concurrency", "200")?;
        if let Some(Parallel { workers, per_gather }) = parallel {
            conf.comment("Four cores or more (PGTune): as many workers as cores, half of them for one query, at most 4.")
                .set("max_worker_processes", &workers.to_string())?
                .set("max_parallel_workers", &workers.to_string())?
                .set("max_parallel_workers_per_gather", &per_gather.to_string())?
                .set("max_parallel_maintenance_workers", &per_gather.to_string())?;
        }
        conf.comment("A forgotten transaction or lock must not hold up everybody.")
            .set("idle_in_transaction_session_timeout", "60s")?
            .set("lock_timeout", "10s")?;
        conf.comment("To stderr, which Docker keeps and limits.")
            .set("logging_collector", "off")?
            .set("log_destination", "stderr")?
            .set("log_line_prefix", "%m [%p] %q%u@%d %h ")?
            .set("log_timezone", "UTC")?
            .set("timezone", "UTC")?
            .set("log_checkpoints", "on")?
            .set("log_connections", "on")?
            .set("log_disconnections", "on")?
            .set("log_lock_waits", "on")?
            .set("log_statement", "ddl")?
            .set("log_min_duration_statement", "500ms")?
            .set("log_temp_files", "10MB")?
            .set("log_autovacuum_min_duration", "1s")?;
        conf.comment("Ships with the server (package postgresql-contrib).")
            .set("shared_preload_libraries", "pg_stat_statements")?;
        Ok(conf.finish())
    }

    /// The socket asks for a password too. That suits the official image: its entrypoint sets the database up over the
    /// socket of a temporary server, with this file, as `POSTGRES_USER` and with `PGPASSWORD` from the password that
    /// it was given. `peer` would not: the operating system's user and the database's have different names.
    /// `pg_isready` needs no login at all.
    fn hba(&self, spec: &Spec) -> Result<String, Refused> {
        let loopback = ipnet::Ipv4Net::new_assert(std::net::Ipv4Addr::LOCALHOST, 32);
        let mut conf = Conf::default();
        conf.comment("Inside the container: the image's entrypoint, health checks, an operator's psql.")
            .fixed("local all all scram-sha-256")
            .host(&self.database, &self.user, loopback, "scram-sha-256")?;
        conf.comment("The services, on the network `data`.").host(
            &self.database,
            &self.user,
            spec.networks.data,
            "scram-sha-256",
        )?;
        conf.comment("Nobody else.").fixed("host all all all reject");
        Ok(conf.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;
    use crate::model::Slot;

    #[test]
    fn renders() {
        let tree = fixture::tree();
        insta::assert_snapshot!("postgresql.conf", fixture::text(&tree, CONF, Slot::Blue));
        insta::assert_snapshot!("pg_hba.conf", fixture::text(&tree, HBA, Slot::Blue));
    }

    #[test]
    fn sixteen_gigabytes_and_eight_cores_give_what_pgtune_gives() {
        let parallel = Parallel::of(8);
        assert_eq!(parallel, Some(Parallel { workers: 8, per_gather: 4 }));
        let sizes = Sizes::of("16g".parse().unwrap(), 200, parallel);
        let expected = Sizes {
            shared_buffers: 4 * 1024 * 1024,
            effective_cache_size: 12 * 1024 * 1024,
            maintenance_work_mem: 1024 * 1024,
            wal_buffers: 16 * 1024,
            work_mem: 20164,
        };
        assert_eq!(sizes, expected);
    }

    #[test]
    fn too_little_memory_and_a_slot_service_are_problems() {
        let text = "service = 'backend'\nmemory = '64m'\nmax_connections = 0\ndatabase = 'app'\nuser = 'app'";
        let postgres: Postgres = toml::from_str(text).unwrap();
        let at: Vec<String> =
            postgres.check(&fixture::spec()).into_iter().flat_map(|problem| problem.at).collect();
        assert_eq!(at, ["service", "memory", "max_connections"]);
    }
}
