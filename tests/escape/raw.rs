//! System calls as an enemy makes them.

#![expect(unsafe_code, reason = "an enemy keeps no rules; the process it happens in ends with the attempt")]

use std::io;

use nix::libc;

/// Any system call. Pointers are the caller's business.
pub fn call(number: libc::c_long, arguments: &[usize]) -> io::Result<usize> {
    let mut all = [0; 6];
    all[..arguments.len()].copy_from_slice(arguments);
    // SAFETY: there is none to be had for any call with any arguments. Only
    // attempts use it, in processes of their own; the worst is that they crash.
    let result = unsafe { libc::syscall(number, all[0], all[1], all[2], all[3], all[4], all[5]) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result.cast_unsigned() as usize) }
}

/// A fork of this process, which has one thread: `true` in the child.
pub fn fork() -> io::Result<bool> {
    Ok(call(libc::SYS_clone, &[libc::SIGCHLD as usize])? == 0)
}

/// The address of a value, for [`call`].
pub fn at<T: ?Sized>(value: &T) -> usize {
    std::ptr::from_ref(value).cast::<u8>() as usize
}

/// A system call of 32-bit programs, which every 64-bit program can make.
#[cfg(target_arch = "x86_64")]
pub fn call_32<const COUNT: usize>(number: u32, arguments: [u32; COUNT]) -> io::Result<u32> {
    let mut all = [0; 5];
    all[..COUNT].copy_from_slice(&arguments);
    let [first, second, third, fourth, fifth] = all;
    let mut result = number;
    // SAFETY: as for `call`. rbx belongs to the compiler, so it is swapped in and
    // back; the kernel may clear r8 to r11 here.
    unsafe {
        std::arch::asm!(
            "xchg rbx, {first}",
            "int 0x80",
            "xchg rbx, {first}",
            first = inout(reg) u64::from(first) => _,
            inout("eax") result,
            in("ecx") second,
            in("edx") third,
            in("esi") fourth,
            in("edi") fifth,
            lateout("r8") _,
            lateout("r9") _,
            lateout("r10") _,
            lateout("r11") _,
        );
    }
    match result.cast_signed() {
        error @ -4095..0 => Err(io::Error::from_raw_os_error(-error)),
        _ => Ok(result),
    }
}

/// Text where 32-bit calls can reach it.
#[cfg(target_arch = "x86_64")]
pub fn low_text(text: impl AsRef<[u8]>) -> io::Result<u32> {
    let text = text.as_ref();
    let (protection, flags) =
        (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_32BIT);
    let place = call(libc::SYS_mmap, &[0, 4096, protection as usize, flags as usize, usize::MAX, 0])?;
    assert!(text.len() < 4096);
    // SAFETY: just mapped, 4096 bytes, zeroed, and nobody else's.
    unsafe { std::ptr::copy_nonoverlapping(text.as_ptr(), place as *mut u8, text.len()) };
    u32::try_from(place).map_err(io::Error::other)
}
