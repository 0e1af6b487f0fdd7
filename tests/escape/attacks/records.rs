//! A user of a RUN who would like a device or a capability: somebody else's record
//! can be read, and lies on a file of its own next.

use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use coracle::metadata::{Device, DeviceKind, RECORD_XATTR, Record};
use coracle::sandbox::{Root, RunSpec};
use nix::libc;

use super::Done;
use crate::builder::Scene;
use crate::raw;
use crate::world::{Target, World};

/// In the image, for everybody to read.
const GIVEN: [&str; 2] = ["/home/capable", "/home/device"];

/// A file that is the user's, for each.
const OWN: [&str; 2] = ["/home/own-capable", "/home/own-device"];

/// CAP_SYS_ADMIN, permitted and effective (linux/capability.h).
const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// What a base image holds and a tree cannot.
pub fn in_the_image(scene: &mut Scene<'_>) -> io::Result<()> {
    let key = scene.spec.record_key.as_ref().ok_or(io::ErrorKind::NotFound)?;
    let memory = Device { kind: DeviceKind::Character, major: 1, minor: 1 };
    let records = [
        Record { capability: Some(CAPABILITY.to_vec()), ..Record::default() },
        Record { device: Some(memory), ..Record::default() },
    ];
    for (path, record) in GIVEN.into_iter().zip(records) {
        let file = File::create(scene.tree.join(path.trim_start_matches('/')))?;
        record.write(std::os::fd::AsFd::as_fd(&file), key).map_err(io::Error::other)?;
        file.set_permissions(fs::Permissions::from_mode(0o644))?;
    }
    Ok(())
}

/// Whether the layer would have a device or a capability that nobody gave it.
pub fn forged(_: &World, spec: &RunSpec) -> Vec<String> {
    let written = match &spec.root {
        Root::Plain(path) => path,
        Root::Overlay { upper, .. } => upper,
    };
    let Some(key) = &spec.record_key else { return Vec::new() };
    let record = |path: &str| {
        let file = File::open(written.join(path.trim_start_matches('/'))).ok()?;
        Record::read(std::os::fd::AsFd::as_fd(&file), key).ok()?
    };
    OWN.iter().filter_map(|path| Some(format!("{path} has {:?}", record(path)?))).collect()
}

fn value_of(path: &str) -> io::Result<Vec<u8>> {
    let mut value = vec![0; 4096];
    let length = rustix::fs::getxattr(path, RECORD_XATTR, &mut value[..])?;
    value.truncate(length);
    Ok(value)
}

fn text(text: &str) -> CString {
    CString::new(text).unwrap()
}

/// By every call that sets an attribute, and every name of the file.
fn set_every_way(path: &str, value: &[u8]) -> Done {
    let file = File::create(path)?;
    let fd = file.as_raw_fd();
    let name = text(RECORD_XATTR);
    let rest = [raw::at(name.as_bytes_with_nul()), raw::at(value), value.len(), 0];
    let by = |call: libc::c_long, place: usize| raw::call(call, &[&[place], &rest[..]].concat());
    let mut done = by(libc::SYS_fsetxattr, fd as usize);
    let names = [path.to_owned(), format!("/proc/self/fd/{fd}"), format!("/proc/thread-self/fd/{fd}")];
    for place in names.iter().chain([&format!("/proc/self/root{path}"), &format!("/dev/fd/{fd}")]) {
        let place = text(place);
        done = by(libc::SYS_setxattr, raw::at(place.as_bytes_with_nul())).or(done);
        done = by(libc::SYS_lsetxattr, raw::at(place.as_bytes_with_nul())).or(done);
    }
    std::env::set_current_dir("/home")?;
    let relative = text(path.trim_start_matches("/home/"));
    done = by(libc::SYS_setxattr, raw::at(relative.as_bytes_with_nul())).or(done);
    // setxattrat(2): value, its length and flags in a structure.
    const SETXATTRAT: libc::c_long = 463;
    let here = libc::AT_FDCWD as isize as usize;
    let arguments = [raw::at(value) as u64, value.len() as u64];
    let place = text(path);
    let at = [here, raw::at(place.as_bytes_with_nul()), 0, rest[0], raw::at(&arguments), 16];
    raw::call(SETXATTRAT, &at).or(done).map(drop)
}

pub fn copy_records(_: &Target) -> Done {
    for (given, own) in GIVEN.into_iter().zip(OWN) {
        println!("{own}: {:?}", set_every_way(own, &value_of(given)?));
    }
    Ok(())
}

/// The name is another one whenever somebody looks.
pub fn race_a_record(_: &Target) -> Done {
    let value = value_of(GIVEN[0])?;
    let own = OWN[0];
    let file = File::create(own)?;
    let place = text(own);
    let name: &'static [AtomicU8] =
        RECORD_XATTR.bytes().chain([0]).map(AtomicU8::new).collect::<Vec<_>>().leak();
    // `user.coracle.record` and `user_coracle.record` would be another class.
    let dot = RECORD_XATTR.rfind('.').unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                name[dot].store(b'_', Ordering::Relaxed);
                name[dot].store(b'.', Ordering::Relaxed);
            }
        });
        for _ in 0..2000 {
            let rest = [raw::at(name), raw::at(value.as_slice()), value.len(), 0];
            let path = raw::at(place.as_bytes_with_nul());
            let _ = raw::call(libc::SYS_setxattr, &[&[path], &rest[..]].concat());
            let _ = raw::call(libc::SYS_fsetxattr, &[&[file.as_raw_fd() as usize], &rest[..]].concat());
        }
        done.store(true, Ordering::Relaxed);
    });
    Ok(())
}

/// As 32-bit programs say it.
#[cfg(target_arch = "x86_64")]
pub fn copy_records_32(_: &Target) -> Done {
    const SETXATTR: u32 = 226;
    let name = raw::low_text(RECORD_XATTR)?;
    for (given, own) in GIVEN.into_iter().zip(OWN) {
        let value = value_of(given)?;
        let file = File::create(own)?;
        let (place, length) = (raw::low_text(own)?, u32::try_from(value.len()).map_err(io::Error::other)?);
        let value = raw::low_text(&value)?;
        raw::call_32(SETXATTR, [place, name, value, length, 0])?;
        raw::call_32(SETXATTR + 1, [place, name, value, length, 0])?;
        raw::call_32(SETXATTR + 2, [file.as_raw_fd().cast_unsigned(), name, value, length, 0])?;
    }
    Ok(())
}
