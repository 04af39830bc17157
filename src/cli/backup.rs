//! `bundle backup` and `bundle backups`

use serde_json::json;

use super::generations::time;
use super::machine::{generation, now};
use super::report::{Code, Failure};
use super::{Context, print, tell};
use crate::activate::Host;
use crate::model::Dump;
use crate::store::Store;
use crate::store::backups::{Copy, Copying};

pub(super) fn make(context: &Context<'_>) -> Result<Code, Failure> {
    let store = context.store();
    let backups = match store.current()? {
        Some(view) => generation(&store, view.generation)?.manifest.and_then(|manifest| manifest.backups),
        None => None,
    };
    let Some(backups) = backups else {
        return Err(Failure::new(Code::Refused, "nothing current on this machine is copied")
            .hint("`[backup]` is about the databases of the profile, such as `[postgres]`"));
    };
    store.prepare()?;
    let Some(copying) = store.copying()? else {
        return Err(Failure::new(Code::Busy, "copies are being made").hint("wait until they are"));
    };
    let mut host = context.host(&store);
    let (mut made, mut failed) = (Vec::new(), None);
    for dump in &backups.dumps {
        match copy(&store, &copying, host.as_mut(), dump) {
            Ok(copy) => made.push(copy),
            // The others are made all the same.
            Err(failure) => {
                if let Some(earlier) = failed.replace(failure) {
                    tell(&Failure::render(&earlier));
                }
            }
        }
    }
    if let Some(failure) = failed {
        // Nothing goes while nothing comes.
        return Err(failure);
    }
    let pruned = store.prune_copies(&copying, backups.keep_days, now())?;
    let json = json!({
        "made": made.iter().map(as_json).collect::<Vec<_>>(),
        "removed": pruned.iter().map(as_json).collect::<Vec<_>>(),
    });
    print(context, json, || {
        let made = made.iter().map(line);
        made.chain(pruned.iter().map(|copy| format!("removed  {}", copy.path.display())))
            .collect::<Vec<_>>()
            .join("\n")
    });
    Ok(Code::Done)
}

/// Written, synced, read again by the program that would restore it, and only then given its name.
fn copy(store: &Store, copying: &Copying, host: &mut dyn Host, dump: &Dump) -> Result<Copy, Failure> {
    let made = now();
    let service = dump.service.as_str();
    let failed = |error: &dyn std::error::Error| {
        Failure::of(Code::WentBack, error)
            .hint(format!("there is no new copy of `{service}`; `bundle backups` lists those there are"))
    };
    let unfinished = store.begin_copy(copying, service, &dump.suffix, made)?;
    let file = |file: std::io::Result<std::fs::File>| file.map_err(|error| failed(&error));
    let output = file(unfinished.file.try_clone())?;
    host.run_in(service, &dump.write, None, Some(output)).map_err(|error| failed(&error))?;
    let input = unfinished.reread()?;
    let nowhere = file(tempfile::tempfile())?;
    host.run_in(service, &dump.check, Some(input), Some(nowhere)).map_err(|error| failed(&error))?;
    let bytes = unfinished.bytes()?;
    let path = unfinished.finish()?;
    Ok(Copy { service: service.to_owned(), made, path, bytes })
}

pub(super) fn list(context: &Context<'_>) -> Result<Code, Failure> {
    let store = context.store();
    let copies = store.copies()?;
    print(context, json!({ "backups": copies.iter().map(as_json).collect::<Vec<_>>() }), || {
        if copies.is_empty() {
            return "no copy yet: `bundle backup` makes one".to_owned();
        }
        copies.iter().map(line).collect::<Vec<_>>().join("\n")
    });
    Ok(Code::Done)
}

fn as_json(copy: &Copy) -> serde_json::Value {
    json!({ "service": copy.service, "made": copy.made, "path": copy.path, "bytes": copy.bytes })
}

fn line(copy: &Copy) -> String {
    let Copy { service, made, path, bytes } = copy;
    format!("{service:<16} {}  {bytes:>12} B  {}", time(*made), path.display())
}
