//! The activator's program on the builder's side: a copy in the cache from the moment it is pinned, from which a push
//! takes it.

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::places::Reach;
use super::report::{Code, Failure};
use super::{Context, tell};
use crate::model::Digest;
use crate::registry::{Registry, Repository};
use crate::spec::Activator;

/// An activator on its way to a registry.
pub(super) struct Upload {
    repository: Repository,
    registry: Registry,
    activator: Activator,
    /// The program; `None` if the registry has it.
    program: Option<PathBuf>,
}

/// Measures the program and keeps a copy of it in the builder's cache.
pub(super) fn keep(context: &Context<'_>, path: &Path) -> Result<Activator, Failure> {
    let fail =
        |error: io::Error| Failure::new(Code::Input, format!("`{}` cannot be read: {error}", path.display()));
    let file = fs::File::open(path).map_err(fail)?;
    let cache = cache(context)?;
    let lost = |error: io::Error| {
        Failure::new(Code::Refused, format!("no copy can be kept in `{}`: {error}", cache.display()))
    };
    fs::create_dir_all(&cache).map_err(lost)?;
    let mut beside = tempfile::NamedTempFile::new_in(&cache).map_err(lost)?;
    let activator = measure(file, |bytes| beside.write_all(bytes)).map_err(fail)?;
    if !runs_anywhere(path) {
        tell(&format!(
            "warning: `{}` is no static x86-64 program, so a droplet may not be able to run it: `cargo static` makes one",
            path.display()
        ));
    }
    beside.persist(cache.join(activator.digest.hex())).map_err(|error| lost(error.error))?;
    Ok(activator)
}

/// Whether a file is an ELF program for x86-64 without an interpreter, hence without shared libraries (elf(5)).
fn runs_anywhere(path: &Path) -> bool {
    const X86_64: u16 = 62;
    const INTERPRETER: u32 = 3;
    let Ok(bytes) = fs::read(path) else { return false };
    let at = |offset: usize, size: usize| {
        let bytes = bytes.get(offset..offset.checked_add(size)?)?;
        Some(bytes.iter().rev().fold(0_u64, |value, byte| value << 8 | u64::from(*byte)))
    };
    let headers = || {
        let (first, size, count) = (at(32, 8)?, at(54, 2)?, at(56, 2)?);
        (0..count).map(|n| at(usize::try_from(first + n * size).ok()?, 4)).collect::<Option<Vec<_>>>()
    };
    bytes.starts_with(b"\x7fELF\x02\x01")
        && at(18, 2) == Some(X86_64.into())
        && headers().is_some_and(|types| !types.contains(&INTERPRETER.into()))
}

/// Finds out whether `repository` has the activator, and if not, where its program is: in the cache, or it is this very
/// program. Nothing is sent yet.
pub(super) fn find(
    context: &Context<'_>,
    activator: &Activator,
    repository: Repository,
    reach: &Reach,
) -> Result<Upload, Failure> {
    let registry = context.registry(Some(repository.host()), reach)?;
    let there = registry.has_activator(&repository, activator.digest, activator.size);
    let program = if there.map_err(|error| Failure::of(Code::Refused, &error))? {
        None
    } else {
        let Some(program) = program(context, activator)? else {
            let message = format!(
                "the program of the activator {} is neither in `{repository}` nor on this machine",
                activator.digest
            );
            return Err(Failure::new(Code::Refused, message)
                .hint("run `bundle lock PROFILE --activator PATH` with that program, or with another one"));
        };
        Some(program)
    };
    Ok(Upload { repository, registry, activator: activator.clone(), program })
}

/// Where on this machine the activator's program is: in the cache, or it is this very program.
pub(super) fn program(context: &Context<'_>, activator: &Activator) -> Result<Option<PathBuf>, Failure> {
    let kept = cache(context)?.join(activator.digest.hex());
    let candidates = [Some(kept), std::env::current_exe().ok()];
    let fits = |path: &PathBuf| {
        let measured = fs::File::open(path).and_then(|file| measure(file, |_| Ok(())));
        measured.is_ok_and(|measured| measured == *activator)
    };
    Ok(candidates.into_iter().flatten().find(fits))
}

impl Upload {
    /// Sends it, unless it is there; whether it was sent.
    pub(super) fn send(&self) -> Result<bool, Failure> {
        let Some(program) = &self.program else { return Ok(false) };
        let Activator { digest, size } = self.activator;
        let sent = self.registry.push_activator(&self.repository, digest, size, program);
        sent.map(|()| true).map_err(|error| Failure::of(Code::Refused, &error))
    }

    /// Where it goes.
    pub(super) fn repository(&self) -> &Repository {
        &self.repository
    }
}

fn cache(context: &Context<'_>) -> Result<PathBuf, Failure> {
    Ok(context.cache()?.join("activators"))
}

/// Digest and size of what is read, each piece of which goes to `each`.
fn measure(mut file: fs::File, mut each: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<Activator> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 64 * 1024];
    let mut size = 0;
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(Activator { digest: Digest::from_hasher(hasher), size }),
            read => {
                hasher.update(&buffer[..read]);
                each(&buffer[..read])?;
                size += read as u64;
            }
        }
    }
}
