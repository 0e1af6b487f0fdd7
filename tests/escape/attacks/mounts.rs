//! Links that a RUN leaves where the builder makes something for the next one.
//! They lie in the image before the RUN starts; the RUN itself does nothing.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use coracle::sandbox::{MountSpec, Root, RunSpec};
use coracle::secret::Secret;

use super::processes;
use crate::builder::Scene;
use crate::world::{SHARED, World};

/// For attempts that need nothing.
pub fn as_it_is(_: &mut Scene<'_>) -> io::Result<()> {
    Ok(())
}

/// No further signs.
pub fn nothing_else(_: &World, _: &RunSpec) -> Vec<String> {
    Vec::new()
}

fn trap(scene: &Scene<'_>) -> PathBuf {
    scene.world.target.directory.join("trap")
}

fn replace(scene: &Scene<'_>, name: &str, target: &Path) -> io::Result<()> {
    let path = scene.tree.join(name);
    if path.is_dir() {
        fs::remove_dir_all(&path)?;
    }
    symlink(target, path)
}

pub fn link_resolv_conf(scene: &mut Scene<'_>) -> io::Result<()> {
    replace(scene, "etc/resolv.conf", &trap(scene).join("resolv.conf"))
}

pub fn link_etc(scene: &mut Scene<'_>) -> io::Result<()> {
    replace(scene, "etc", &trap(scene))
}

/// Relative, and up more often than there are directories.
pub fn link_etc_upwards(scene: &mut Scene<'_>) -> io::Result<()> {
    let up = Path::new("../../../../../../../../../../../../../..");
    let trap = trap(scene);
    replace(scene, "etc", &up.join(trap.strip_prefix("/").unwrap_or(&trap)))
}

pub fn link_dev(scene: &mut Scene<'_>) -> io::Result<()> {
    fs::create_dir(trap(scene).join("dev"))?;
    replace(scene, "dev", &trap(scene).join("dev"))
}

pub fn link_proc(scene: &mut Scene<'_>) -> io::Result<()> {
    fs::create_dir(trap(scene).join("dev"))?;
    replace(scene, "proc", &trap(scene).join("dev"))
}

pub fn link_secret(scene: &mut Scene<'_>) -> io::Result<()> {
    replace(scene, "run", &trap(scene))?;
    scene.spec.mounts.push(MountSpec::File {
        content: Secret::new("for this RUN"),
        target: "/run/secrets/key".into(),
        mode: 0o400,
        uid: 0,
        gid: 0,
    });
    Ok(())
}

pub fn link_tmpfs(scene: &mut Scene<'_>) -> io::Result<()> {
    replace(scene, "scratch", &trap(scene))?;
    let (target, size, mode) = ("/scratch/deep".into(), None, 0o755);
    scene.spec.mounts.push(MountSpec::Tmpfs { target, size, mode });
    Ok(())
}

/// A directory beside the tree, mounted at `target`.
fn lend(scene: &mut Scene<'_>, target: &str, read_only: bool) -> io::Result<()> {
    let source = scene.tree.with_file_name("source");
    fs::create_dir(&source)?;
    scene.spec.mounts.push(MountSpec::Bind { source, target: target.into(), read_only });
    Ok(())
}

pub fn link_bind(scene: &mut Scene<'_>) -> io::Result<()> {
    replace(scene, "cache", &trap(scene))?;
    lend(scene, "/cache/deep", false)
}

pub fn link_working_directory(scene: &mut Scene<'_>) -> io::Result<()> {
    replace(scene, "work", &trap(scene))?;
    scene.spec.cwd = "/there/deep".into();
    Ok(())
}

/// A directory of the builder's, at /lent, not to be written.
pub fn lend_read_only(scene: &mut Scene<'_>) -> io::Result<()> {
    lend(scene, "/lent", true)
}

/// Something appeared in what was lent.
pub fn written_in_what_was_lent(_: &World, spec: &RunSpec) -> Vec<String> {
    let written =
        |mount: &MountSpec| matches!(mount, MountSpec::Bind { source, .. } if source.join("new").exists());
    if spec.mounts.iter().any(written) {
        vec!["a read-only mount was written".to_owned()]
    } else {
        Vec::new()
    }
}

/// Modes in a /proc that is new: older ones go on showing what they had.
pub fn changed_for_everybody(_: &World, _: &RunSpec) -> Vec<String> {
    let mut look = std::process::Command::new("unshare");
    look.args(["-fpm", "--mount-proc", "stat", "-c", "%a %n"]).args(SHARED);
    // Where none can be mounted nobody else gets to see one either.
    let Ok(found) = look.output() else { return Vec::new() };
    let found = String::from_utf8_lossy(&found.stdout).into_owned();
    found.lines().filter(|line| !line.starts_with("444 ")).map(str::to_owned).collect()
}

/// Somebody still writes, when nobody should be left.
pub fn still_writing(_: &World, spec: &RunSpec) -> Vec<String> {
    let written = match &spec.root {
        Root::Plain(path) => path,
        Root::Overlay { upper, .. } => upper,
    };
    let said = || fs::read(written.join(processes::ALIVE.trim_start_matches('/'))).unwrap_or_default();
    let first = said();
    // The machine may be busy, and they with starting each other.
    let mut looks = (0..20).map(|_| std::thread::sleep(Duration::from_millis(50)));
    if looks.all(|()| said() == first) {
        return Vec::new();
    }
    // They end by themselves; the next attempt is to find nobody.
    std::thread::sleep(Duration::from_secs(4));
    vec!["processes were left, and still write".to_owned()]
}

/// The RUN is told to execute what carries it.
pub fn execute_the_carrier(scene: &mut Scene<'_>) -> io::Result<()> {
    scene.spec.argv[0] = "/proc/self/exe".into();
    Ok(())
}

pub fn without_a_network(scene: &mut Scene<'_>) -> io::Result<()> {
    scene.spec.network_none = true;
    Ok(())
}

/// A file of its own, not a link to the template's.
fn copy_of_the_program(scene: &Scene<'_>, name: &str) -> io::Result<PathBuf> {
    let copy = scene.tree.join("bin").join(name);
    fs::copy(scene.tree.join("bin/attack"), &copy)?;
    chown(&copy, Some(0), Some(0))?;
    Ok(copy)
}

pub fn setuid_file(scene: &mut Scene<'_>) -> io::Result<()> {
    let copy = copy_of_the_program(scene, "setuid")?;
    fs::set_permissions(copy, fs::Permissions::from_mode(0o4755))
}

pub fn capable_file(scene: &mut Scene<'_>) -> io::Result<()> {
    let copy = copy_of_the_program(scene, "capable")?;
    // CAP_CHOWN, permitted and effective: version 2 (linux/capability.h).
    let mut value = 0x0200_0001_u32.to_le_bytes().to_vec();
    value.extend(1_u32.to_le_bytes());
    value.extend([0; 12]);
    let flags = rustix::fs::XattrFlags::empty();
    Ok(rustix::fs::setxattr(copy, "security.capability", &value, flags)?)
}
