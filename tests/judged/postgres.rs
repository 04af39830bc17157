//! PostgreSQL: every line of `postgresql.conf` asked back from the server, `pg_hba.conf` tried by logging in.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::cell::{Cell, account};
use crate::image;
use crate::laid::{Laid, repository};

/// The server's address on `data`, a neighbour's, and one that is on no network of the profile.
const ADDRESSES: [&str; 2] = ["10.89.0.14/24", "192.0.2.7/32"];

#[test]
fn every_shipped_profile_is_in_force_on_this_machines_postgresql() {
    let bin = programs();
    let version = image::version(Path::new("/"), bin.join("postgres").to_str().unwrap(), "(PostgreSQL)");
    let major = version.split('.').next().unwrap().to_owned();
    for profile in ["production", "staging", "development"] {
        let laid =
            Laid::over(&repository().join("profiles"), profile, &format!("[postgres]\nversion = {major}\n"));
        let mut cell = server(&laid, Path::new("/"), Some(account("postgres")), &bin);
        the_file_is_in_force(&laid, &cell, &major);
        who_comes_in(&laid, &cell);
        cell.is_confined();
        cell.stop();
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
    let mut cell = server(&laid, &root, None, &bin);
    the_file_is_in_force(&laid, &cell, "17");
    let ask = |sql: &str| query(&laid, &cell, "10.89.0.14", "app", sql).unwrap();
    assert_eq!(ask("show work_mem"), "8MB");
    assert_eq!(ask("show pg_stat_statements.track"), "all");
    assert_eq!(ask("show data_checksums"), "on");
    assert_eq!(ask("select datcollate from pg_database where datname = 'app'"), "en_US.UTF-8");
    let altered = query(&laid, &cell, "10.89.0.14", "app", "alter system set work_mem = '1GB'");
    assert!(altered.unwrap_err().contains("ALTER SYSTEM is not allowed"));
    assert_eq!(query(&laid, &cell, "10.89.0.14", "postgres", "select 1").unwrap(), "1");
    cell.is_confined();
    cell.stop();
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

/// The profile's server, prepared by what the official image does first, and ready.
fn server(laid: &Laid, lower: &Path, user: Option<(u32, u32)>, bin: &Path) -> Cell {
    let service = laid.service("data", "postgres");
    let entrypoint = repository().join("tests/images/postgres/entrypoint");
    let more = [(entrypoint, "/usr/local/bin/docker-entrypoint.sh")];
    let mut cell = Cell::new(laid, service, lower, user, &ADDRESSES, &more);
    cell.variable("PATH", &format!("{}:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", bin.display()));
    cell.start(&["docker-entrypoint.sh"]);
    cell.await_healthy();
    cell
}

/// Asks the server as `app` with the password that it has on the machine.
fn query(laid: &Laid, cell: &Cell, host: &str, database: &str, sql: &str) -> Result<String, String> {
    login(cell, host, database, "app", &laid.secret("postgres", "postgres_password"), sql)
}

fn login(
    cell: &Cell,
    host: &str,
    database: &str,
    user: &str,
    password: &str,
    sql: &str,
) -> Result<String, String> {
    let to = format!("host={host} dbname={database} user={user} connect_timeout=10");
    let mut psql = cell.command(&["psql", "--no-psqlrc", "--no-password", "-AtX", "-F\t", "-c", sql, &to]);
    if !password.is_empty() {
        psql.env("PGPASSWORD", password);
    }
    let said = psql.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().trim_end().to_owned();
    if said.status.success() { Ok(text(said.stdout)) } else { Err(text(said.stderr)) }
}

/// Nothing in either file is an error, every line of ours has the value that the server runs with, and it has it from
/// our file.
fn the_file_is_in_force(laid: &Laid, cell: &Cell, major: &str) {
    let ask = |sql: &str| query(laid, cell, "10.89.0.14", "app", sql).unwrap();
    assert_eq!(ask("show server_version_num").len(), 6);
    assert!(ask("show server_version").starts_with(major));
    assert_eq!(ask("select name, error from pg_file_settings where error is not null"), "");
    assert_eq!(ask("select line_number, error from pg_hba_file_rules where error is not null"), "");
    assert_eq!(ask("select distinct auth_method from pg_hba_file_rules order by 1"), "reject\nscram-sha-256");
    let verifier = ask("select rolpassword from pg_authid where rolname = 'app'");
    assert!(verifier.starts_with("SCRAM-SHA-256$"), "{verifier}");
    assert_eq!(ask("show data_checksums"), "on");
    let settings = ask("select name, setting, coalesce(unit, ''), coalesce(sourcefile, '') from pg_settings");
    let settings: BTreeMap<&str, Vec<&str>> = settings
        .lines()
        .filter_map(|line| line.split_once('\t'))
        .map(|(name, rest)| (name, rest.split('\t').collect()))
        .collect();
    let text = laid.text("postgres/postgresql.conf");
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
            assert_eq!(ask(&format!("show {name}")), *value, "{name}");
            continue;
        };
        assert_eq!(*file, "/etc/postgresql/postgresql.conf", "{name} does not come from our file");
        assert_eq!(amount(setting, unit), amount(value, unit), "{name}: {value} became {setting} {unit}");
    }
    println!("{} settings read back from PostgreSQL {major}", written.len());
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

/// By password from the profile's network and over loopback; nobody else, from nowhere else, to nothing else.
fn who_comes_in(laid: &Laid, cell: &Cell) {
    let password = laid.secret("postgres", "postgres_password");
    let login = |host: &str, database: &str, user: &str, password: &str| {
        login(cell, host, database, user, password, "select 1")
    };
    assert_eq!(login("10.89.0.14", "app", "app", &password).unwrap(), "1");
    assert_eq!(login("127.0.0.1", "app", "app", &password).unwrap(), "1");
    assert_eq!(login("/var/run/postgresql", "app", "app", &password).unwrap(), "1");
    for (host, database, user, password, reason) in [
        ("10.89.0.14", "app", "app", "wrong", "password authentication failed"),
        ("10.89.0.14", "app", "app", "", "no password supplied"),
        ("/var/run/postgresql", "app", "app", "", "no password supplied"),
        ("10.89.0.14", "postgres", "app", password.as_str(), "pg_hba.conf rejects"),
        ("10.89.0.14", "app", "postgres", password.as_str(), "pg_hba.conf rejects"),
        ("192.0.2.7", "app", "app", password.as_str(), "pg_hba.conf rejects"),
    ] {
        let refused = login(host, database, user, password).unwrap_err();
        assert!(refused.contains(reason), "{user}@{host}/{database}: {refused}");
    }
}
