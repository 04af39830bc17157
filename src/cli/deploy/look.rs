//! Before any droplet is touched: can each be reached, changed, and does it have what the bundle needs?

use serde::Deserialize;

use super::ssh::{Connection, Destination, LOST, PROGRAM, Said, Ssh};
use crate::model::{Digest, SecretName};
use crate::store::{Record, View};

/// Asks everything in one connection. Read by `sh` from its input, so that no login shell has to be quoted for.
const SCRIPT: &str = "\
program=/usr/local/bin/bundle
if ! test -x \"$program\"; then echo 'bundle: missing'; exit 0; fi
if test \"$(id -u)\" = 0; then as=
elif sudo -n \"$program\" --version >/dev/null 2>&1 </dev/null; then as='sudo -n'
else echo 'bundle: powerless'; exit 0; fi
echo \"bundle: ${as:-root}\"
$as \"$program\" --json status </dev/null || exit
$as \"$program\" --json secrets list </dev/null || exit
";

/// What a droplet is before it is touched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    /// Whether its commands need `sudo -n`.
    pub(super) sudo: bool,
    /// What is current; the bare machine if it was never switched.
    pub(super) view: View,
    /// The current bundle.
    pub(super) bundle: Option<Digest>,
    /// Whether a switch is under way or was interrupted.
    pub(super) pending: bool,
    /// The secrets of which it has a value.
    pub(super) secrets: Vec<SecretName>,
}

#[derive(Deserialize)]
struct Status {
    current: Option<View>,
    record: Option<Record>,
    pending: Option<Pending>,
}

#[derive(Deserialize)]
struct Pending {
    committed: bool,
}

#[derive(Deserialize)]
struct Secrets {
    secrets: Vec<SecretName>,
}

/// Looks at one droplet; `Err` says in words why it cannot be deployed to.
pub(super) fn look(ssh: &Ssh, to: &Destination, connection: Connection) -> Result<Seen, String> {
    let said = ssh.run(to, connection, &["sh", "-s"], SCRIPT.as_bytes())?;
    read(&said)
}

fn read(said: &Said) -> Result<Seen, String> {
    // A login shell may say other things first.
    let mut lines = said.out.lines().skip_while(|line| !line.starts_with("bundle: "));
    let word = match lines.next().and_then(|line| line.strip_prefix("bundle: ")) {
        None if said.code == LOST => return Err(format!("not reached: {}", said.complaint())),
        None => return Err(format!("no shell answers there: {}", said.complaint())),
        Some("missing") => {
            return Err(format!(
                "there is no `{PROGRAM}`; a droplet is made with the user-data that `bundle cloud-init` prints"
            ));
        }
        Some("powerless") => {
            return Err(format!(
                "the user is not root and may not `sudo -n {PROGRAM}`; name `root@…`, or allow it in sudoers(5)"
            ));
        }
        Some(word) => word,
    };
    let json: Vec<&str> = lines.filter(|line| line.starts_with('{')).collect();
    let [status, secrets] = json[..] else {
        return Err(format!("`bundle` there does not answer as it should: {}", said.complaint()));
    };
    let strange = |error| format!("the answer of `bundle` there is strange (another version?): {error}");
    let status: Status = serde_json::from_str(status).map_err(strange)?;
    let Secrets { secrets } = serde_json::from_str(secrets).map_err(strange)?;
    Ok(Seen {
        sudo: word != "root",
        view: status.current.unwrap_or(View::BARE),
        bundle: status.record.and_then(|record| record.bundle),
        // What has committed is only being cleared up after; the next switch ends that first.
        pending: status.pending.is_some_and(|pending| !pending.committed),
        secrets,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(code: i32, out: &str) -> Said {
        Said { code, out: out.to_owned(), err: "ssh: connect to host web1: Connection refused\n".to_owned() }
    }

    #[test]
    fn a_droplet_is_read_whatever_its_login_shell_says_first() {
        let bundle = Digest::of(b"x");
        let record = format!(
            r#"{{"schema":1,"generation":3,"bundle":"{bundle}","profile":"p","source":"s","by":"b","created":1,"outcome":"good","previous":2}}"#
        );
        let out = format!(
            "Welcome!\n{{}}\nbundle: sudo -n\n{{\"current\":{{\"generation\":3,\"slot\":\"green\"}},\"record\":{record},\"pending\":null,\"schema_version\":1}}\n{{\"secrets\":[\"token\"]}}\n"
        );
        let seen = read(&said(0, &out)).unwrap();
        assert_eq!((seen.sudo, seen.bundle, seen.pending), (true, Some(bundle), false));
        assert_eq!(seen.view.to_string(), "generation 3 in green");
        assert_eq!(seen.secrets, ["token".parse().unwrap()]);
        let bare = read(&said(0, "bundle: root\n{\"current\":null}\n{\"secrets\":[]}\n")).unwrap();
        assert_eq!((bare.view, bare.sudo, bare.bundle), (View::BARE, false, None));
        let out = r#"{"current":null,"pending":{"committed":false,"to":1}}"#;
        assert!(read(&said(0, &format!("bundle: root\n{out}\n{{\"secrets\":[]}}\n"))).unwrap().pending);
    }

    #[test]
    fn what_cannot_be_deployed_to_says_why() {
        for (code, out, words) in [
            (255, "", "not reached: ssh: connect to host web1: Connection refused"),
            (1, "This account is not available.\n", "no shell answers"),
            (0, "bundle: missing\n", "`bundle cloud-init`"),
            (0, "bundle: powerless\n", "sudoers"),
            (2, "bundle: root\n{\"current\":null}\n", "does not answer"),
            (0, "bundle: root\n{\"current\":7}\n{\"secrets\":[]}\n", "another version"),
        ] {
            let why = read(&said(code, out)).unwrap_err();
            assert!(why.contains(words), "{why}");
        }
    }

    #[test]
    fn the_script_knows_where_the_program_lies() {
        assert!(SCRIPT.starts_with(&format!("program={PROGRAM}\n")));
        let output = std::process::Command::new("sh").args(["-n", "-c", SCRIPT]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
}
