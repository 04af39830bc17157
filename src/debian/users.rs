//! The users and groups that an image knows: Debian's own, those that packages would have made, and the profile's.
//!
//! Numbers that packages leave to the machine (`adduser --system`, `sysusers.d(5)` with `-`) come from the name alone, so
//! that adding a package does not renumber the others; the profile may give one with an entry of the same name.

use std::collections::{BTreeMap, BTreeSet};

use super::DebianError;
use super::known::USERS;
use super::package::Package;
use super::tree::Tree;
use crate::image::{Entry, EntryPath, Kind};
use crate::model::Digest;
pub use crate::spec::ImageUser as User;

/// What there is where `base-passwd` is not.
const PASSWD: &str = "\
root:*:0:0:root:/root:/bin/bash
nobody:*:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
";
const GROUP: &str =
    "root:*:0:\nadm:*:4:\nmail:*:8:\nwww-data:*:33:\nshadow:*:42:\nutmp:*:43:\nnogroup:*:65534:\n";
/// Numbers that the machine gives (Debian Policy, 9.2.2).
const DYNAMIC: std::ops::Range<u32> = 100..999;

/// `/etc/passwd` and `/etc/group` while they are put together, in their order.
#[derive(Debug, Default)]
pub(crate) struct Accounts {
    users: Vec<Account>,
    groups: Vec<Group>,
}

#[derive(Debug)]
struct Account {
    name: String,
    uid: u32,
    gid: u32,
    gecos: String,
    home: String,
    shell: String,
}

#[derive(Debug)]
struct Group {
    name: String,
    gid: u32,
    members: BTreeSet<String>,
}

impl Accounts {
    /// Everybody.
    pub(crate) fn collect(tree: &Tree, packages: &[Package], own: &[User]) -> Result<Self, DebianError> {
        let mut all = Self::default();
        let text = |bytes: Option<Vec<u8>>, other: &str| {
            bytes.map_or_else(|| other.to_owned(), |bytes| String::from_utf8_lossy(&bytes).into_owned())
        };
        all.masters(
            &text(tree.read("usr/share/base-passwd/passwd.master")?, PASSWD),
            &text(tree.read("usr/share/base-passwd/group.master")?, GROUP),
        );
        for user in own {
            all.own(user)?;
        }
        for user in &USERS {
            if packages.iter().any(|package| package.pin.name == user.package) {
                all.system(user.name, None, "", user.home, user.shell);
            }
        }
        let mut files = tree.beginning("usr/lib/sysusers.d/");
        files.retain(|(path, _)| path.strip_suffix(".conf").is_some());
        for (path, _) in files {
            all.sysusers(&text(tree.read(&path)?, ""));
        }
        Ok(all)
    }

    /// Debian's own, in the form of `base-passwd`'s master files.
    fn masters(&mut self, passwd: &str, group: &str) {
        for line in passwd.lines() {
            if let [name, _, uid, gid, gecos, home, shell] = line.split(':').collect::<Vec<_>>()[..]
                && let (Ok(uid), Ok(gid)) = (uid.parse(), gid.parse())
            {
                let (gecos, home, shell) = (gecos.to_owned(), home.to_owned(), shell.to_owned());
                self.users.push(Account { name: name.to_owned(), uid, gid, gecos, home, shell });
            }
        }
        for line in group.lines() {
            if let [name, _, gid, members] = line.split(':').collect::<Vec<_>>()[..]
                && let Ok(gid) = gid.parse()
            {
                let members = members.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
                self.groups.push(Group { name: name.to_owned(), gid, members });
            }
        }
    }

    /// The profile's word counts before any package's.
    fn own(&mut self, user: &User) -> Result<(), DebianError> {
        let fits = |text: &str| !text.contains([':', '\n']) && !text.chars().any(char::is_control);
        if user.name.is_empty() || ![&user.name, &user.home, &user.shell].into_iter().all(|text| fits(text)) {
            return Err(DebianError::Users(format!(
                "`{}` is no user that `/etc/passwd` can hold",
                user.name.escape_debug()
            )));
        }
        self.users.retain(|known| known.name != user.name);
        if let Some(other) = self.users.iter().find(|known| known.uid == user.uid) {
            let text =
                format!("the users `{}` and `{}` both have the number {}", other.name, user.name, user.uid);
            return Err(DebianError::Users(text));
        }
        self.groups.retain(|known| known.name != user.name);
        if !self.groups.iter().any(|known| known.gid == user.gid) {
            self.groups.push(Group { name: user.name.clone(), gid: user.gid, members: BTreeSet::new() });
        }
        self.users.push(Account {
            name: user.name.clone(),
            uid: user.uid,
            gid: user.gid,
            gecos: String::new(),
            home: user.home.clone(),
            shell: user.shell.clone(),
        });
        Ok(())
    }

    /// What `adduser --system --group` makes, unless there is such a user.
    fn system(&mut self, name: &str, id: Option<u32>, gecos: &str, home: &str, shell: &str) {
        if self.users.iter().any(|known| known.name == name) {
            return;
        }
        let taken = |uid: u32| self.users.iter().any(|known| known.uid == uid);
        let group = self.gid(name);
        let uid = id.filter(|&id| !taken(id)).or(group.filter(|&gid| !taken(gid)));
        let uid = uid.unwrap_or_else(|| self.free(name));
        let gid = group.unwrap_or_else(|| {
            let gid = if self.groups.iter().any(|known| known.gid == uid) { self.free(name) } else { uid };
            self.groups.push(Group { name: name.to_owned(), gid, members: BTreeSet::new() });
            gid
        });
        let (gecos, home, shell) = (gecos.to_owned(), home.to_owned(), shell.to_owned());
        self.users.push(Account { name: name.to_owned(), uid, gid, gecos, home, shell });
    }

    /// A group, unless there is one.
    pub(crate) fn group(&mut self, name: &str, id: Option<u32>) {
        if self.gid(name).is_none() {
            let gid = id.filter(|id| self.groups.iter().all(|known| known.gid != *id));
            let gid = gid.unwrap_or_else(|| self.free(name));
            self.groups.push(Group { name: name.to_owned(), gid, members: BTreeSet::new() });
        }
    }

    /// A number that neither a user nor a group has: the name's own, or the next.
    fn free(&self, name: &str) -> u32 {
        let span = DYNAMIC.end - DYNAMIC.start;
        let start =
            u32::from_str_radix(&Digest::of(name.as_bytes()).hex()[..7], 16).unwrap_or_default() % span;
        let taken = |id: u32| {
            self.users.iter().any(|known| known.uid == id) || self.groups.iter().any(|known| known.gid == id)
        };
        let mut all = (0..span).map(|step| DYNAMIC.start + (start + step) % span);
        all.find(|&id| !taken(id)).unwrap_or(DYNAMIC.end)
    }

    /// `sysusers.d(5)`: users, groups and memberships. What is written in specifiers (`%b`) is not followed.
    fn sysusers(&mut self, text: &str) {
        for line in text.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
            let words = words(line);
            let word = |at: usize| words.get(at).map(String::as_str).filter(|word| *word != "-");
            let (Some(kind), Some(name)) = (word(0), word(1)) else { continue };
            let id = |text: Option<&str>| text.and_then(|text| text.split(':').next()?.parse().ok());
            match kind.trim_end_matches('!') {
                "g" => self.group(name, id(word(2))),
                "m" => {
                    let Some(group) = word(2) else { continue };
                    self.group(group, None);
                    if let Some(group) = self.groups.iter_mut().find(|known| known.name == group) {
                        group.members.insert(name.to_owned());
                    }
                }
                "u" => {
                    if let Some(group) = word(2).and_then(|id| id.split_once(':')).map(|(_, group)| group)
                        && let Ok(gid) = group.parse::<u32>()
                    {
                        self.group(name, Some(gid));
                    }
                    let shell = word(5).unwrap_or("/usr/sbin/nologin");
                    self.system(
                        name,
                        id(word(2)),
                        word(3).unwrap_or_default(),
                        word(4).unwrap_or("/"),
                        shell,
                    );
                }
                _ => {}
            }
        }
    }

    /// A user's number.
    pub(crate) fn uid(&self, name: &str) -> Option<u32> {
        self.users.iter().find(|known| known.name == name).map(|known| known.uid)
    }

    /// A group's number.
    pub(crate) fn gid(&self, name: &str) -> Option<u32> {
        self.groups.iter().find(|known| known.name == name).map(|known| known.gid)
    }

    /// The files. No account has a password, and none ages: the day of the last change would be a date.
    pub(crate) fn write(&self, tree: &mut Tree) -> Result<(), DebianError> {
        let mut files: BTreeMap<&str, String> = BTreeMap::new();
        for Account { name, uid, gid, gecos, home, shell } in &self.users {
            let lines =
                [format!("{name}:x:{uid}:{gid}:{gecos}:{home}:{shell}\n"), format!("{name}:*:::::::\n")];
            for (file, line) in ["etc/passwd", "etc/shadow"].into_iter().zip(lines) {
                files.entry(file).or_default().push_str(&line);
            }
        }
        for Group { name, gid, members } in &self.groups {
            let members = members.iter().map(String::as_str).collect::<Vec<_>>().join(",");
            let lines = [format!("{name}:x:{gid}:{members}\n"), format!("{name}:*::{members}\n")];
            for (file, line) in ["etc/group", "etc/gshadow"].into_iter().zip(lines) {
                files.entry(file).or_default().push_str(&line);
            }
        }
        let shadow = self.gid("shadow").unwrap_or_default();
        for (file, text) in files {
            let path = EntryPath::new(file).map_err(|error| DebianError::Users(error.to_string()))?;
            let secret = file.ends_with("shadow");
            let mode = if secret { 0o640 } else { 0o644 };
            let entry = Entry::new(path, Kind::File(text.into_bytes().into()), mode);
            tree.put(entry.owned_by(0, if secret { shadow } else { 0 }));
        }
        Ok(())
    }
}

/// The words of a line, of which some are in quotes.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    while !rest.is_empty() {
        let quote = rest.chars().next().filter(|letter| ['"', '\''].contains(letter));
        let (word, after) = match quote {
            Some(quote) => rest[1..].split_once(quote).unwrap_or((&rest[1..], "")),
            None => rest.split_once(char::is_whitespace).unwrap_or((rest, "")),
        };
        words.push(word.to_owned());
        rest = after.trim_start();
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accounts() -> Accounts {
        let mut all = Accounts::default();
        all.masters(PASSWD, GROUP);
        all
    }

    #[test]
    fn a_number_comes_from_the_name_and_not_from_the_company() {
        let (mut one, mut two) = (accounts(), accounts());
        one.system("redis", None, "", "/var/lib/redis", "/usr/sbin/nologin");
        two.system("postgres", None, "", "/", "/bin/sh");
        two.system("redis", None, "", "/", "/bin/sh");
        assert_eq!(one.uid("redis"), two.uid("redis"));
        assert_eq!(one.uid("redis"), one.gid("redis"));
        assert_ne!(two.uid("redis"), two.uid("postgres"));
    }

    #[test]
    fn the_profile_has_the_first_word_and_must_not_contradict_itself() {
        let mut all = accounts();
        let user = |name: &str, uid| User {
            name: name.to_owned(),
            uid,
            gid: uid,
            home: "/app".to_owned(),
            shell: "/bin/sh".to_owned(),
        };
        all.own(&user("postgres", 999)).unwrap();
        all.system("postgres", None, "", "/", "/");
        assert_eq!((all.uid("postgres"), all.gid("postgres")), (Some(999), Some(999)));
        assert!(all.own(&user("redis", 999)).unwrap_err().to_string().contains("`postgres` and `redis`"));
        assert!(all.own(&user("a:b", 1)).is_err());
    }

    #[test]
    fn sysusers_are_read_as_systemd_does() {
        let mut all = accounts();
        all.sysusers("# x\nu messagebus - \"System bus\" /nonexistent -\ng input -\nm nobody input\nu sshd 5000:0 - /run/sshd\n");
        let bus = all.users.iter().find(|user| user.name == "messagebus").unwrap();
        assert_eq!((bus.gecos.as_str(), bus.shell.as_str()), ("System bus", "/usr/sbin/nologin"));
        assert_eq!(all.uid("sshd"), Some(5000));
        let input = all.groups.iter().find(|group| group.name == "input").unwrap();
        assert!(input.members.contains("nobody"));
    }
}
