//! rootfs
#![allow(missing_docs)]
use crate::{
    layer::{self, Entry, Kind},
    metadata, sandbox,
};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
#[derive(Clone)]
pub struct LayerTree {
    pub tree: PathBuf,
    pub index: Arc<layer::EntryIndex>,
}
#[derive(Debug, thiserror::Error)]
#[error("x {0}")]
pub struct Error(String);
pub struct Rootfs {
    lowers: Vec<PathBuf>,
    upper: PathBuf,
    work: PathBuf,
    stack: layer::Stack,
}
impl Rootfs {
    pub fn prepare(
        _s: sandbox::Storage,
        l: &[LayerTree],
        sc: &Path,
        _k: &metadata::Key,
        _p: Option<Rootfs>,
    ) -> Result<Rootfs, Error> {
        let (upper, work) = (sc.join("upper"), sc.join("work"));
        std::fs::create_dir(&upper).map_err(|e| Error(e.to_string()))?;
        std::fs::create_dir(&work).map_err(|e| Error(e.to_string()))?;
        Ok(Rootfs {
            lowers: l.iter().rev().map(|t| t.tree.clone()).collect(),
            upper,
            work,
            stack: layer::Stack::new(l.iter().map(|t| t.index.clone()).collect()),
        })
    }
    pub fn root(&self) -> sandbox::Root {
        sandbox::Root::Overlay {
            lowers: self.lowers.clone(),
            upper: self.upper.clone(),
            work: self.work.clone(),
        }
    }
    pub fn pack(&mut self, mut w: layer::LayerWriter) -> Result<layer::PackedLayer, Error> {
        let mut all = std::collections::BTreeMap::new();
        self.walk(Path::new(""), &mut all).map_err(|e| Error(e.to_string()))?;
        for (p, e) in &all {
            let mut f;
            let body: Option<&mut dyn std::io::Read> = if let Kind::File { .. } = e.kind {
                f = std::fs::File::open(self.upper.join(p)).map_err(|e| Error(e.to_string()))?;
                Some(&mut f)
            } else {
                None
            };
            w.append(e, body).map_err(|e| Error(format!("{e:?}")))?;
        }
        w.finish().map_err(|e| Error(format!("{e:?}")))
    }
    fn walk(&self, at: &Path, all: &mut std::collections::BTreeMap<PathBuf, Entry>) -> std::io::Result<()> {
        for e in std::fs::read_dir(self.upper.join(at))? {
            let e = e?;
            let p = at.join(e.file_name());
            let full = self.upper.join(&p);
            let m = std::fs::symlink_metadata(&full)?;
            let t = m.file_type();
            let kind = if t.is_dir() {
                Kind::Directory { opaque: false }
            } else if t.is_symlink() {
                Kind::Symlink { target: std::fs::read_link(&full)? }
            } else if t.is_char_device() {
                Kind::Whiteout
            } else if t.is_file() {
                Kind::File { size: m.len() }
            } else {
                continue;
            };
            let _ = (self.stack.depth(), p.as_os_str().as_bytes());
            all.insert(
                p.clone(),
                Entry {
                    path: p.clone(),
                    kind,
                    mode: m.mode() & 0o7777,
                    uid: m.uid(),
                    gid: m.gid(),
                    mtime: m.mtime(),
                    xattrs: Default::default(),
                },
            );
            if t.is_dir() {
                self.walk(&p, all)?;
            }
        }
        Ok(())
    }
    pub fn take_tree(&mut self) -> Option<PathBuf> {
        Some(self.upper.clone())
    }
}
