//! The images that our tests run, by their recipes in `tests/images/images.toml` and `profiles/built.toml`: unpacked, in namespaces of their own,
//! started as a profile starts them.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;
use std::process::Command;

use bundle::debian::{Options, User, layers};
use tempfile::TempDir;
use toml::{Table, Value};

use super::{locked, run, unpack};

const IMAGES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/images");

fn strings(recipe: &Table, key: &str) -> Vec<String> {
    let items = recipe.get(key).and_then(Value::as_array).into_iter().flatten();
    items.map(|item| item.as_str().unwrap().to_owned()).collect()
}

fn tables<'r>(recipe: &'r Table, key: &str) -> impl Iterator<Item = &'r Table> {
    recipe.get(key).and_then(Value::as_array).into_iter().flatten().map(|item| item.as_table().unwrap())
}

fn text<'r>(table: &'r Table, key: &str) -> &'r str {
    table[key].as_str().unwrap()
}

/// An image's tree, without the project's own files.
fn made(name: &str) -> (TempDir, Table) {
    let profile = if name == "marketplace" { "../../profiles/built.toml" } else { "images.toml" };
    let file: Table = fs::read_to_string(format!("{IMAGES}/{profile}")).unwrap().parse().unwrap();
    let recipe = file["images"][name].as_table().unwrap().clone();
    let packages = strings(&recipe, "packages");
    let (lock, cache) = locked(&packages.iter().map(String::as_str).collect::<Vec<_>>());
    let number = |user: &Table, key: &str| user[key].as_integer().unwrap().try_into().unwrap();
    let user = |user: &Table| User {
        name: text(user, "name").to_owned(),
        uid: number(user, "uid"),
        gid: number(user, "gid"),
        home: text(user, "home").to_owned(),
        shell: text(user, "shell").to_owned(),
    };
    let (exclude, users) =
        (strings(&recipe, "exclude"), tables(&recipe, "users").map(user).collect::<Vec<_>>());
    let options = Options { exclude: &exclude, users: &users, threads: 2, ..Options::default() };
    let layers = layers(&lock, &cache, &options).unwrap();
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    unpack(&layers, folder.path());
    for directory in tables(&recipe, "directories") {
        let path = folder.path().join(text(directory, "path").trim_start_matches('/'));
        fs::create_dir_all(&path).unwrap();
        let (uid, gid) = text(directory, "owner").split_once(':').unwrap();
        chown(&path, uid.parse().ok(), gid.parse().ok()).unwrap();
        let mode = u32::from_str_radix(text(directory, "mode"), 8).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let entrypoint = format!("{IMAGES}/{name}/entrypoint");
    if fs::exists(&entrypoint).unwrap() {
        let to = folder.path().join("usr/local/bin/docker-entrypoint.sh");
        fs::copy(entrypoint, &to).unwrap();
        fs::set_permissions(&to, fs::Permissions::from_mode(0o755)).unwrap();
    }
    (folder, recipe)
}

/// Runs a program in the unpacked image, with its variables, and with a loopback device alone.
fn inside(root: &Path, recipe: &Table, arguments: &[&str]) -> String {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c"]);
    command.arg(
        "ip link set lo up && mount -t tmpfs none \"$0/tmp\" && mount -t devtmpfs none \"$0/dev\" &&\n\
         mount -t proc none \"$0/proc\" && exec env PATH=\"$IMAGE_PATH\" chroot \"$0\" \"$@\"",
    );
    command.arg(root).args(arguments).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    for (name, value) in recipe["env"].as_table().unwrap() {
        let name = if name == "PATH" { "IMAGE_PATH" } else { name };
        command.env(name, value.as_str().unwrap());
    }
    String::from_utf8(run(&mut command)).unwrap()
}

#[test]
fn postgres_initialises_a_cluster_and_answers_a_query() {
    let (root, recipe) = made("postgres");
    let script = "export POSTGRES_PASSWORD=secret PGPASSWORD=secret PGUSER=app POSTGRES_USER=app\n\
        docker-entrypoint.sh postgres >/tmp/log 2>&1 &\n\
        ask='select 6 * 7, current_setting($$server_version_num$$)::int / 10000, datcollate, current_setting($$listen_addresses$$) from pg_database where datname = $$app$$'\n\
        for i in {1..300}; do psql -h 127.0.0.1 -d app -tAc \"$ask\" 2>/dev/null && break; sleep 0.2; done || cat /tmp/log\n\
        stat -c %U $PGDATA/PG_VERSION; kill -INT %1; wait";
    let said = inside(root.path(), &recipe, &["bash", "-c", script]);
    assert_eq!(said, "42|17|en_US.utf8|*\npostgres\n");
}

#[test]
fn redis_answers() {
    let (root, recipe) = made("redis");
    let script = "cd /data; docker-entrypoint.sh redis-server --save '' >/tmp/log 2>&1 &\n\
        for i in {1..100}; do redis-cli ping 2>/dev/null && break; sleep 0.2; done || cat /tmp/log\n\
        redis-cli info server | grep -o redis_version:8; kill %1; wait";
    let said = inside(root.path(), &recipe, &["bash", "-c", script]);
    assert_eq!(said, "PONG\nredis_version:8\n");
}

#[test]
fn python_finds_its_modules_its_user_and_its_certificates() {
    let (root, recipe) = made("marketplace");
    let program = "import psycopg, psycopg_pool, redis, uvicorn, websockets, ssl, pwd, zoneinfo\n\
        zoneinfo.ZoneInfo('Europe/Berlin')\n\
        print(psycopg.pq.__impl__, pwd.getpwuid(10001).pw_name, len(ssl.create_default_context().get_ca_certs()) > 100)";
    assert_eq!(inside(root.path(), &recipe, &["python3", "-c", program]), "c app True\n");
}
