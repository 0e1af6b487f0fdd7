//! WORKDIR: a layer with the directory and those above it that were missing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::copy::setgid_above;
use super::copy_step;
use super::error::StepError;
use super::material::blocking;
use super::stage::{Made, Work};
use crate::layer::{Entry, Kind, LayerWriter, Stack};
use crate::plan::WorkdirOp;

/// Makes the layer; it is empty when the directory exists.
pub(super) async fn make(work: &Work, op: &WorkdirOp) -> Result<Made, StepError> {
    let stack = work.site.materials.stack(&work.chain).await?;
    let relative: PathBuf = op.path.trim_start_matches('/').into();
    let resolved = stack.resolve(&relative, true).map_err(StepError::Layer)?;
    let exists = resolved.found.as_ref().is_some_and(|found| found.entry.kind.is_directory());
    let owner = match exists || op.user.is_empty() {
        true => None,
        false => Some(copy_step::owner(work, &op.user, false).await?),
    };
    let mut writer = work.writer()?;
    let now = work.site.epoch.unwrap_or(work.site.now);
    let packed = blocking(move || {
        if !exists {
            write(&stack, &resolved.path, owner, now, &mut writer)?;
        }
        writer.finish().map_err(StepError::Layer)
    })
    .await?;
    work.keep(packed)
}

fn write(
    stack: &Stack,
    path: &Path,
    owner: Option<(u32, u32)>,
    now: i64,
    writer: &mut LayerWriter,
) -> Result<(), StepError> {
    let mut chain: Vec<&Path> = path.ancestors().filter(|path| !path.as_os_str().is_empty()).collect();
    chain.reverse();
    let setgid = setgid_above(stack, path);
    let (uid, gid) = owner.unwrap_or((0, setgid.unwrap_or(0)));
    let first_missing = chain.iter().find(|path| stack.get(path).is_none());
    let parent = first_missing.and_then(|path| path.parent()).map(Path::to_owned);
    for path in chain {
        let entry = match stack.get(path) {
            // A directory that got something new in it has a new time.
            Some(found) => {
                let mtime = if parent.as_deref() == Some(path) { now } else { found.entry.mtime };
                Entry { path: path.to_owned(), mtime, ..found.entry.clone() }
            }
            None => Entry {
                path: path.to_owned(),
                kind: Kind::Directory { opaque: false },
                mode: 0o755 | setgid.map_or(0, |_| 0o2000),
                uid,
                gid,
                mtime: now,
                xattrs: BTreeMap::new(),
            },
        };
        if !matches!(entry.kind, Kind::Directory { .. }) {
            let path = Path::new("/").join(path);
            let source = std::io::ErrorKind::NotADirectory.into();
            return Err(StepError::File { path, source });
        }
        let entry = Entry { kind: Kind::Directory { opaque: false }, ..entry };
        writer.append(&entry, None).map_err(StepError::Layer)?;
    }
    Ok(())
}
