//! Maintainer scripts (Debian Policy, chapter 6): none is run. What each would have done is told by its text where that
//! is generated or simple, and by the package's name (`known`) where it was read by a person.

use super::UnknownScript;
use super::known::is_known;

/// Where a script's text calls for an alternative: the arguments of `update-alternatives`, from `--install` on.
pub(crate) type Call = Vec<String>;

/// What debhelper writes into scripts, by the program that wrote it, and that an image can do without: it starts, enables
/// or registers services, compiles, or takes care of what older versions left. What makes directories at boot
/// (`tmpfiles.d`) and users (`sysusers.d`) is read from the package's own files.
const GENERATED: [&str; 24] = [
    "dh_apache2",
    "dh_apparmor",
    "dh_bash-completion",
    "dh_icons",
    "dh_installalternatives",
    "dh_installcatalogs",
    "dh_installdeb",
    "dh_installdebconf",
    "dh_installemacsen",
    "dh_installinfo",
    "dh_installinit",
    "dh_installmenu",
    "dh_installmime",
    "dh_installsystemd",
    "dh_installsystemduser",
    "dh_installsysusers",
    "dh_installtmpfiles",
    "dh_installudev",
    "dh_installxmlcatalogs",
    "dh_makeshlibs",
    "dh_nginx",
    "dh_pycentral",
    "dh_python3",
    "dh_systemd_enable",
];

/// Programs whose call leaves nothing that a fresh image needs.
const HARMLESS: [&str; 20] = [
    ":",
    "deb-systemd-helper",
    "deb-systemd-invoke",
    "dpkg-maintscript-helper",
    "dpkg-trigger",
    "db_stop",
    "echo",
    "exit",
    "invoke-rc.d",
    "ldconfig",
    "printf",
    "py3clean",
    "py3compile",
    "pypy3compile",
    "return",
    "set",
    "shift",
    "systemctl",
    "true",
    "update-rc.d",
];

/// Conditions that only ask whether something is there, or how the script was called.
const ASKING: [&str; 6] =
    ["if command -v ", "if which ", "if [ -x ", "if [ \"$1\" = ", "if test -x ", "elif [ \"$1\" = "];

/// The text without what debhelper wrote; the first such part that is not known is left in.
fn own_lines(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut generated = false;
    // A line that ends with a backslash goes on.
    let joined = text.replace("\\\n", " ");
    for line in joined.lines().map(str::trim) {
        if let Some(by) = line.strip_prefix("# Automatically added by ") {
            let program = by.split(['/', ' ']).next().unwrap_or_default();
            generated = GENERATED.contains(&program);
            if !generated {
                lines.push(format!("what `{program}` added"));
            }
        } else if line == "# End automatically added section" {
            generated = false;
        } else if !generated && !line.is_empty() && !line.starts_with('#') {
            lines.push(line.to_owned());
        }
    }
    lines
}

/// The first line of a script that is neither generated nor harmless, unless the package is known.
pub(crate) fn unknown(package: &str, script: &'static str, text: &[u8]) -> Option<UnknownScript> {
    if is_known(package, script) {
        return None;
    }
    let found = |line: &str| UnknownScript {
        package: package.to_owned(),
        script,
        line: line.chars().take(100).flat_map(char::escape_debug).collect(),
    };
    let Ok(text) = std::str::from_utf8(text) else { return Some(found("what is no text")) };
    let first = text.lines().next().unwrap_or_default();
    if !["/bin/sh", "/bin/bash", "/bin/dash", "/usr/bin/sh"]
        .iter()
        .any(|shell| first.trim_start_matches("#!").trim().starts_with(shell))
    {
        return Some(found(first));
    }
    own_lines(text).iter().find(|line| !harmless(line)).map(|line| found(line))
}

/// Whether a line does nothing that an image needs, or something that is read from it elsewhere.
fn harmless(line: &str) -> bool {
    let line = line.trim_end_matches("|| true").trim_end_matches("|| :").trim();
    let bare = line.trim_end_matches(";;").trim();
    if bare.is_empty()
        || ["fi", "esac", "else", "then", "case \"$1\" in", "case $1 in", "in", "}"].contains(&bare)
    {
        return true;
    }
    // A pattern of `case`, with or without a command behind it.
    if let Some((pattern, rest)) = bare.split_once(')')
        && pattern
            .trim_start_matches('(')
            .chars()
            .all(|letter| letter.is_ascii_lowercase() || "-|*\\ ".contains(letter))
    {
        return harmless(rest);
    }
    if ASKING.iter().any(|asking| bare.starts_with(asking)) {
        // What is asked must not do anything either.
        return !bare.contains("$(") && !bare.contains('`');
    }
    let safe = !bare.contains("$(") && !bare.contains('`') && !bare.contains(['|', '&', ';']);
    let plain =
        bare.replace("2>&1", "").replace(">/dev/null", "").replace("> /dev/null", "").replace(">&2", "");
    let safe = safe || (!plain.contains(['|', '&', ';', '`']) && !plain.contains("$("));
    let word = bare.split_whitespace().next().unwrap_or_default();
    let word = word.rsplit('/').next().unwrap_or_default();
    let writes = plain.contains('>');
    let debconf = bare == ". /usr/share/debconf/confmodule";
    debconf
        || (safe
            && !writes
            && (HARMLESS.contains(&word) || (word == "update-alternatives" && call(bare).is_some())))
}

/// The alternatives that a `postinst` installs, known by name or not. What has variables in it is passed over.
pub(crate) fn alternatives(text: &[u8]) -> Vec<Call> {
    let text = String::from_utf8_lossy(text).replace("\\\n", " ");
    text.lines().filter_map(|line| call(line.trim())).collect()
}

fn call(line: &str) -> Option<Call> {
    let rest = line.split_once("update-alternatives ")?.1;
    if line.starts_with('#') {
        return None;
    }
    let words: Vec<_> = rest
        .split_whitespace()
        .take_while(|word| !["||", "&&", "|", ";", ">/dev/null"].contains(word))
        .collect();
    let plain = |word: &&str| !word.contains(['$', '`', '*', ';', '(', ')']);
    let start = words.iter().position(|word| *word == "--install")?;
    let call: Vec<_> =
        words[start + 1..].iter().map(|word| word.trim_matches(['"', '\'']).to_owned()).collect();
    (words.iter().all(plain) && call.len() >= 4).then_some(call)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(text: &str) -> Option<String> {
        unknown("p", "postinst", format!("#!/bin/sh\nset -e\n{text}\nexit 0\n").as_bytes())
            .map(|found| found.line)
    }

    #[test]
    fn what_is_generated_or_simple_is_known_by_its_text() {
        for text in [
            "# Automatically added by dh_installsystemd/13.24\nanything at all\n# End automatically added section",
            "if command -v py3compile >/dev/null 2>&1; then\n\tpy3compile -p python3-x \nfi\nif command -v pypy3compile >/dev/null 2>&1; then\n\tpypy3compile -p python3-x || true\nfi",
            "case \"$1\" in\n  configure|abort-upgrade)\n  ldconfig\n ;;\n *)\n echo \"called with `$1'\" >&2\n exit 1\n ;;\nesac".replace('`', "").as_str(),
            ". /usr/share/debconf/confmodule",
            "update-alternatives --install /usr/bin/awk awk /usr/bin/mawk 5 \\\n  --slave /a b /c || true",
        ] {
            assert_eq!(judge(text), None, "{text}");
        }
    }

    #[test]
    fn anything_else_is_named_by_its_line() {
        for line in [
            "adduser --system x",
            "echo evil > /etc/passwd",
            "exit $(rm -rf /)",
            "true; rm x",
            "ldconfig && rm x",
            "if [ -x $(make) ]; then",
            "update-alternatives --install $a b c 5",
            "configure) chmod 4755 /bin/sh ;;",
        ] {
            assert_eq!(judge(line).as_deref(), Some(line), "{line}");
        }
        assert_eq!(judge("# Automatically added by dh_new/1\nx").unwrap(), "what `dh_new` added");
        assert!(unknown("p", "preinst", b"#!/usr/bin/perl\n").is_some());
        assert!(unknown("p", "preinst", b"\x7fELF\xff").is_some());
    }

    #[test]
    fn alternatives_are_read_from_any_script() {
        let text = b"ua() {\n update-alternatives --install /usr/bin/which which /usr/bin/which.debianutils 0 \\\n --slave /m m /n\n}\nupdate-alternatives --remove x /y\n";
        let calls = alternatives(text);
        assert_eq!(calls.len(), 1);
        assert_eq!(calls[0].join(" "), "/usr/bin/which which /usr/bin/which.debianutils 0 --slave /m m /n");
    }
}
