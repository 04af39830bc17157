//! PostgreSQL: every line of `postgresql.conf` asked back from the server, `pg_hba.conf` tried by logging in.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::cell::{Cell, account, address};
use crate::image;
use crate::laid::{Laid, repository};

/// An address of the server that is on no network of the profile.
const ELSEWHERE: &str = "192.0.2.7";

/// A server that is ready, and where.
struct Ready<'t> {
    laid: &'t Laid,
    cell: Cell,
    data: String,
}

#[test]
fn every_shipped_profile_is_in_force_on_this_machines_postgresql() {
    let bin = programs();
    let version = image::version(Path::new("/"), bin.join("postgres").to_str().unwrap(), "(PostgreSQL)");
    let major = version.split('.').next().unwrap().to_owned();
    for profile in ["production", "staging", "development", "vulcan/staging", "vulcan/development"] {
        let laid =
            Laid::over(&repository().join("profiles"), profile, &format!("[postgres]\nversion = {major}\n"));
        let mut server = Ready::start(&laid, Path::new("/"), Some(account("postgres")), &bin);
        server.the_file_is_in_force(&major);
        server.lets_in_by_password_from_its_network_only();
        server.cell.is_confined();
        server.cell.stop();
        println!("{profile}: PostgreSQL {version}");
    }
}

#[test]
fn a_newer_postgresql_runs_on_what_is_written_for_it() {
    let root = image::root("postgres");
    let bin = PathBuf::from("/usr/lib/postgresql/17/bin");
    let more = "[postgres]\nversion = 17\nlocale = \"en_US.UTF-8\"\naccess = [{ database = \"postgres\", user = \"app\" }]\n\
                [postgres.settings]\nwork_mem = \"8MB\"\njit = true\nauto_explain.log_min_duration = 500\n\
                pg_stat_statements.track = \"all\"\ntransaction_timeout = \"5min\"\n";
    let laid = Laid::over(&repository().join("profiles"), "production", more);
    let mut server = Ready::start(&laid, &root, None, &bin);
    server.the_file_is_in_force("17");
    assert_eq!(server.ask("show work_mem"), "8MB");
    assert_eq!(server.ask("show pg_stat_statements.track"), "all");
    assert_eq!(server.ask("select datcollate from pg_database where datname = 'app'"), "en_US.UTF-8");
    let altered =
        server.login(&server.data, "app", "app", &server.password(), "alter system set work_mem = '1GB'");
    assert!(altered.unwrap_err().contains("ALTER SYSTEM is not allowed"));
    let other = server.login(&server.data, "postgres", "app", &server.password(), "select 1");
    assert_eq!(other.unwrap(), "1");
    server.cell.is_confined();
    server.cell.stop();
}

#[test]
fn a_profile_that_says_little_gets_a_server_that_is_whole() {
    let bin = programs();
    let laid =
        Laid::over(&repository().join("tests/judged/profiles"), "everything", "[postgres]\nversion = 14\n");
    let mut server = Ready::start(&laid, Path::new("/"), Some(account("postgres")), &bin);
    assert_eq!(server.ask("select error from pg_file_settings where error is not null"), "");
    // Four fifths of `mem_limit`, a quarter of that.
    assert_eq!(server.ask("show shared_buffers"), "128MB");
    server.lets_in_by_password_from_its_network_only();
    server.cell.is_confined();
    server.cell.stop();
}

/// Where this machine has its PostgreSQL: the newest, if there are several.
fn programs() -> PathBuf {
    let found = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = found.filter_map(|entry| {
        let version: u32 = entry.file_name().to_str()?.parse().ok()?;
        let bin = entry.path().join("bin");
        bin.join("postgres").exists().then_some((version, bin))
    });
    newest.max().expect("this machine has no PostgreSQL: run tests/setup").1
}

impl<'t> Ready<'t> {
    /// The profile's server, prepared by what the official image does first.
    fn start(laid: &'t Laid, lower: &Path, user: Option<(u32, u32)>, bin: &Path) -> Self {
        let service = laid.service("data", "postgres");
        let data = address(&service, "data");
        let entrypoint = repository().join("tests/images/postgres/entrypoint");
        let more = [(entrypoint, "/usr/local/bin/docker-entrypoint.sh")];
        let addresses = [format!("{data}/24"), format!("{ELSEWHERE}/32")];
        let mut cell = Cell::new(laid, service, lower, user, &addresses, &more);
        cell.variable("PATH", &format!("{}:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", bin.display()));
        // As the image has it.
        cell.variable("PGDATA", "/var/lib/postgresql/data");
        cell.start(&["docker-entrypoint.sh"]);
        cell.await_healthy();
        Self { laid, cell, data }
    }

    fn password(&self) -> String {
        self.laid.secret("postgres", "postgres_password")
    }

    /// Asks as `app` with the password that it has on the machine.
    fn ask(&self, sql: &str) -> String {
        self.login(&self.data, "app", "app", &self.password(), sql).unwrap()
    }

    fn login(
        &self,
        host: &str,
        database: &str,
        user: &str,
        password: &str,
        sql: &str,
    ) -> Result<String, String> {
        let to = format!("host={host} dbname={database} user={user} connect_timeout=10");
        let mut psql =
            self.cell.command(&["psql", "--no-psqlrc", "--no-password", "-AtX", "-F\t", "-c", sql, &to]);
        if !password.is_empty() {
            psql.env("PGPASSWORD", password);
        }
        let said = psql.output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().trim_end().to_owned();
        if said.status.success() { Ok(text(said.stdout)) } else { Err(text(said.stderr)) }
    }

    /// Nothing in either file is an error, every line of ours has the value that the server runs with, and it has it from
    /// our file.
    fn the_file_is_in_force(&self, major: &str) {
        assert_eq!(self.ask("show server_version_num").len(), 6);
        assert!(self.ask("show server_version").starts_with(major));
        assert_eq!(self.ask("select name, error from pg_file_settings where error is not null"), "");
        assert_eq!(self.ask("select line_number, error from pg_hba_file_rules where error is not null"), "");
        assert_eq!(
            self.ask("select distinct auth_method from pg_hba_file_rules order by 1"),
            "reject\nscram-sha-256"
        );
        let verifier = self.ask("select rolpassword from pg_authid where rolname = 'app'");
        assert!(verifier.starts_with("SCRAM-SHA-256$"), "{verifier}");
        assert_eq!(self.ask("show data_checksums"), "on");
        let settings =
            self.ask("select name, setting, coalesce(unit, ''), coalesce(sourcefile, '') from pg_settings");
        let settings: BTreeMap<&str, Vec<&str>> = settings
            .lines()
            .filter_map(|line| line.split_once('\t'))
            .map(|(name, rest)| (name, rest.split('\t').collect()))
            .collect();
        let text = self.laid.text("postgres/postgresql.conf");
        let written: Vec<(&str, &str)> = text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.split_once(" = "))
            .map(|(name, value)| (name, value.strip_prefix('\'').unwrap().strip_suffix('\'').unwrap()))
            .collect();
        assert!(written.len() > 35, "{written:?}");
        for (name, value) in &written {
            // What no loaded library has defined is kept as it is, and is not in the view.
            let Some([setting, unit, file]) = settings.get(name).map(Vec::as_slice) else {
                assert_eq!(self.ask(&format!("show {name}")), *value, "{name}");
                continue;
            };
            assert_eq!(*file, "/etc/postgresql/postgresql.conf", "{name} does not come from our file");
            assert_eq!(amount(setting, unit), amount(value, unit), "{name}: {value} became {setting} {unit}");
        }
        println!("{} settings read back from PostgreSQL {major}", written.len());
    }

    /// By password from the profile's network and over loopback; nobody else, from nowhere else, to nothing else.
    fn lets_in_by_password_from_its_network_only(&self) {
        let (data, password) = (self.data.as_str(), self.password());
        for host in [data, "127.0.0.1", "/var/run/postgresql"] {
            assert_eq!(self.login(host, "app", "app", &password, "select 1").unwrap(), "1", "{host}");
        }
        for (host, database, user, password, reason) in [
            (data, "app", "app", "wrong", "password authentication failed"),
            (data, "app", "app", "", "no password supplied"),
            ("/var/run/postgresql", "app", "app", "", "no password supplied"),
            (data, "postgres", "app", password.as_str(), "pg_hba.conf rejects"),
            (data, "app", "postgres", password.as_str(), "pg_hba.conf rejects"),
            (ELSEWHERE, "app", "app", password.as_str(), "pg_hba.conf rejects"),
        ] {
            let refused = self.login(host, database, user, password, "select 1").unwrap_err();
            assert!(refused.contains(reason), "{user}@{host}/{database}: {refused}");
        }
    }
}

/// A number with a unit as bytes or milliseconds; any other text as it is. A bare number is in the setting's own unit.
fn amount(text: &str, own: &str) -> Result<u64, String> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let unit = if unit.is_empty() { own } else { unit };
    let factor = match unit {
        "" | "ms" | "B" => 1,
        "kB" => 1 << 10,
        "8kB" => 8 << 10,
        "MB" => 1 << 20,
        "GB" => 1 << 30,
        "s" => 1000,
        "min" => 60_000,
        _ => return Err(text.to_owned()),
    };
    let number: u64 = number.parse().map_err(|_| text.to_owned())?;
    // Kept in pages of 8 KiB, to the nearest one.
    Ok(if own == "8kB" { (number * factor + (4 << 10)) / (8 << 10) } else { number * factor })
}
