//! What maintainer scripts are known to do, package by package, where their text alone does not say it: each entry is a
//! script that was read, and why an image loses nothing without it. What it would have left that is of use is synthesised,
//! here or in `leftovers`.

/// A script that need not run. `*` stands for digits and dots, so that a new release of a versioned package is the same.
pub(crate) struct Known {
    pub(crate) package: &'static str,
    pub(crate) script: &'static str,
}

/// `(package, script)`: why.
pub(crate) const KNOWN: &[Known] = &[
    // Synthesised.
    known("apt", "postinst"),
    known("base-files", "postinst"),
    known("base-passwd", "postinst"),
    known("base-passwd", "preinst"),
    known("ca-certificates", "postinst"),
    known("debianutils", "postinst"),
    known("fontconfig-config", "postinst"),
    known("haproxy", "postinst"),
    known("libc-bin", "postinst"),
    known("memcached", "postinst"),
    known("netbase", "postinst"),
    known("nginx-common", "postinst"),
    known("passwd", "postinst"),
    known("postgresql-common", "postinst"),
    known("readline-common", "postinst"),
    known("redis-server", "postinst"),
    known("redis-sentinel", "postinst"),
    known("redis-tools", "postinst"),
    known("openssl", "postinst"),
    known("tzdata", "postinst"),
    known("valkey-server", "postinst"),
    known("valkey-tools", "postinst"),
    // Synthesised, as far as it is of use: the group. A key that everybody has would be no secret.
    known("ssl-cert", "postinst"),
    // `/bin/sh` where there is none; `dash` brings it.
    known("bash", "postinst"),
    // Diversions for the way into the merged `/usr`, where every image is from the beginning.
    known("base-files", "preinst"),
    known("dash", "postinst"),
    known("dash", "preinst"),
    known("gzip", "postinst"),
    known("gzip", "preinst"),
    known("libreadline8t64", "preinst"),
    known("libtirpc3t64", "preinst"),
    known("usrmerge", "postinst"),
    known("usrmerge", "preinst"),
    // A diversion that is in `tree`.
    known("postgresql-common", "preinst"),
    // For upgrades only.
    known("adduser", "preinst"),
    known("debian-archive-keyring", "postinst"),
    known("git", "preinst"),
    known("init-system-helpers", "postinst"),
    known("libglib2.0-0t64", "preinst"),
    known("x11-common", "preinst"),
    known("libc6", "postinst"),
    known("libc6", "preinst"),
    known("libgcrypt20", "postinst"),
    known("libgssapi-krb5-2", "postinst"),
    known("libpam-modules", "preinst"),
    known("libpam0g", "postinst"),
    known("libselinux1", "postinst"),
    known("login.defs", "postinst"),
    known("nginx-common", "preinst"),
    known("perl", "postinst"),
    known("postgresql", "postinst"),
    known("postgresql-*", "preinst"),
    known("redis-sentinel", "preinst"),
    known("ucf", "preinst"),
    // What a program notes for later upgrades.
    known("python*-minimal", "preinst"),
    known("python3", "preinst"),
    known("ucf", "postinst"),
    // Compiles Python modules: Python does without, and an image's root is not written to.
    known("libpython*-minimal", "postinst"),
    known("python*", "postinst"),
    known("python*-minimal", "postinst"),
    known("python3", "postinst"),
    known("python3-minimal", "postinst"),
    // A cluster is the volume's, made by who starts the server; the alternatives are manual pages.
    known("postgresql-*", "postinst"),
    known("postgresql-client-*", "postinst"),
    // Starts a service, or asks the kernel.
    known("nginx", "postinst"),
    known("procps", "postinst"),
    known("x11-common", "postinst"),
    // A list of what is found without it: fonts, and GLib's modules; and the settings of desktops.
    known("fontconfig", "postinst"),
    known("libglib2.0-0t64", "postinst"),
    // Questions to people, with answers for machines that an image is not.
    known("debconf", "postinst"),
    known("iproute2", "postinst"),
    // Sign-in is not what images do: `pam.d` stays without the common files that `pam-auth-update` writes.
    known("libpam-modules", "postinst"),
    known("libpam-runtime", "postinst"),
    // Compiles locales that somebody chose; nobody does. `locales-all` brings them compiled.
    known("locales", "postinst"),
    // Removes the archive of an older release.
    known("locales-all", "postinst"),
    // Notes the machine's architecture for dpkg, which is done with dpkg's other data.
    known("dpkg", "postinst"),
];

const fn known(package: &'static str, script: &'static str) -> Known {
    Known { package, script }
}

/// Whether the script of that package need not run.
pub(crate) fn is_known(package: &str, script: &str) -> bool {
    KNOWN.iter().any(|known| known.script == script && fits(known.package, package))
}

/// `*` stands for one or more digits and dots.
fn fits(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((before, after)) => {
            let middle = name.strip_prefix(before).and_then(|rest| rest.strip_suffix(after));
            let version = |byte: u8| byte.is_ascii_digit() || byte == b'.';
            middle.is_some_and(|middle| !middle.is_empty() && middle.bytes().all(version))
        }
    }
}

/// A user that a package's script makes with `adduser --system --group`.
pub(crate) struct KnownUser {
    pub(crate) package: &'static str,
    pub(crate) name: &'static str,
    pub(crate) home: &'static str,
    pub(crate) shell: &'static str,
}

/// Who is made by whom.
pub(crate) const USERS: [KnownUser; 5] = [
    KnownUser { package: "haproxy", name: "haproxy", home: "/var/lib/haproxy", shell: "/usr/sbin/nologin" },
    KnownUser { package: "memcached", name: "memcache", home: "/nonexistent", shell: "/bin/false" },
    KnownUser {
        package: "postgresql-common",
        name: "postgres",
        home: "/var/lib/postgresql",
        shell: "/bin/bash",
    },
    KnownUser {
        package: "valkey-tools",
        name: "valkey",
        home: "/var/lib/valkey",
        shell: "/usr/sbin/nologin",
    },
    KnownUser { package: "redis-tools", name: "redis", home: "/var/lib/redis", shell: "/usr/sbin/nologin" },
];

/// A directory or a file that a script makes or gives to somebody: package, path, mode, user, group. A path that ends with
/// `/` is a directory, which is made if it is not there.
pub(crate) const OWNED: &[(&str, &str, u16, &str, &str)] = &[
    ("base-files", "etc/opt/", 0o755, "root", "root"),
    ("base-files", "media/", 0o755, "root", "root"),
    ("base-files", "mnt/", 0o755, "root", "root"),
    ("base-files", "opt/", 0o755, "root", "root"),
    ("base-files", "run/lock/", 0o1777, "root", "root"),
    ("base-files", "srv/", 0o755, "root", "root"),
    ("base-files", "usr/local/bin/", 0o755, "root", "root"),
    ("base-files", "usr/local/etc/", 0o755, "root", "root"),
    ("base-files", "usr/local/games/", 0o755, "root", "root"),
    ("base-files", "usr/local/include/", 0o755, "root", "root"),
    ("base-files", "usr/local/lib/", 0o755, "root", "root"),
    ("base-files", "usr/local/libexec/", 0o755, "root", "root"),
    ("base-files", "usr/local/sbin/", 0o755, "root", "root"),
    ("base-files", "usr/local/share/man/", 0o755, "root", "root"),
    ("base-files", "usr/local/src/", 0o755, "root", "root"),
    ("base-files", "var/mail/", 0o2775, "root", "mail"),
    ("base-files", "var/opt/", 0o755, "root", "root"),
    ("fontconfig-config", "usr/local/share/fonts/", 0o755, "root", "root"),
    ("nginx-common", "var/log/nginx/", 0o755, "root", "adm"),
    ("postgresql-common", "etc/postgresql/", 0o755, "postgres", "postgres"),
    ("postgresql-common", "run/postgresql/", 0o2775, "postgres", "postgres"),
    ("postgresql-common", "var/lib/postgresql/", 0o755, "postgres", "postgres"),
    ("postgresql-common", "var/log/postgresql/", 0o1775, "root", "postgres"),
    ("redis-sentinel", "etc/redis/sentinel.conf", 0o640, "redis", "redis"),
    ("redis-server", "etc/redis/redis.conf", 0o640, "redis", "redis"),
    ("redis-tools", "etc/redis/", 0o2770, "redis", "redis"),
    ("redis-tools", "var/lib/redis/", 0o750, "redis", "redis"),
    ("redis-tools", "var/log/redis/", 0o2750, "redis", "adm"),
    ("valkey-server", "etc/valkey/valkey.conf", 0o640, "valkey", "valkey"),
    ("valkey-tools", "etc/valkey/", 0o2770, "valkey", "valkey"),
    ("valkey-tools", "var/lib/valkey/", 0o750, "valkey", "valkey"),
    ("valkey-tools", "var/log/valkey/", 0o2750, "valkey", "adm"),
    ("ssl-cert", "etc/ssl/private/", 0o710, "root", "ssl-cert"),
];

/// Groups of their own: package, name.
pub(crate) const GROUPS: [(&str, &str); 1] = [("ssl-cert", "ssl-cert")];

/// A file that is copied where there is none: package, from, to.
pub(crate) const COPIED: &[(&str, &str, &str)] = &[
    ("base-files", "usr/share/base-files/dot.bashrc", "root/.bashrc"),
    ("base-files", "usr/share/base-files/dot.profile", "root/.profile"),
    ("base-files", "usr/share/base-files/motd", "etc/motd"),
    ("base-files", "usr/share/base-files/profile", "etc/profile"),
    ("debianutils", "usr/share/debianutils/shells", "etc/shells"),
    ("libc-bin", "usr/share/libc-bin/nsswitch.conf", "etc/nsswitch.conf"),
    ("memcached", "usr/share/memcached/memcached.conf.default", "etc/memcached.conf"),
    ("nginx-common", "usr/share/nginx/html/index.html", "var/www/html/index.nginx-debian.html"),
    ("readline-common", "usr/share/readline/inputrc", "etc/inputrc"),
];

/// A link that is made where there is nothing: package, path, what it says.
pub(crate) const LINKED: &[(&str, &str, &str)] = &[
    ("base-files", "etc/dpkg/origins/default", "debian"),
    ("base-files", "usr/local/man", "share/man"),
    ("base-files", "var/lock", "/run/lock"),
    ("base-files", "var/run", "/run"),
    ("base-files", "var/spool/mail", "../mail"),
    // The answers to its questions that nobody changes.
    (
        "fontconfig-config",
        "etc/fonts/conf.d/10-hinting-slight.conf",
        "/usr/share/fontconfig/conf.avail/10-hinting-slight.conf",
    ),
    (
        "fontconfig-config",
        "etc/fonts/conf.d/70-no-bitmaps-except-emoji.conf",
        "/usr/share/fontconfig/conf.avail/70-no-bitmaps-except-emoji.conf",
    ),
    ("nginx-common", "etc/nginx/sites-enabled/default", "/etc/nginx/sites-available/default"),
    ("openssl", "usr/lib/ssl", "/etc/ssl"),
    ("tzdata", "etc/localtime", "/usr/share/zoneinfo/Etc/UTC"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_script_is_of_a_package_and_of_its_later_versions_only() {
        assert!(is_known("postgresql-17", "postinst") && is_known("python3.13-minimal", "preinst"));
        for stranger in ["postgresql-contrib", "postgresql-17-postgis", "python", "python3.13x"] {
            assert!(!is_known(stranger, "postinst"), "{stranger}");
        }
        assert!(!is_known("adduser", "postinst"));
    }
}
