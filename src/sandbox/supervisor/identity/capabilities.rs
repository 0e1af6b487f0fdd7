//! capget(2), capset(2), and what prctl(2) does with capabilities. The real
//! ones of the task stay as they are: they are what lets it reach its files.

use std::io;

use nix::libc;

use super::Identity;
use super::call::Call;
use super::credentials::Sets;
use crate::sandbox::supervisor::Answer;

/// `_LINUX_CAPABILITY_VERSION_1` has 32 bits a set, 2 and 3 have 64.
const VERSIONS: [(u32, usize); 3] = [(0x1998_0330, 1), (0x2007_1026, 2), (0x2008_0522, 2)];

/// `CAP_CHECKPOINT_RESTORE`; what a newer kernel has it says itself.
const LAST: u32 = 40;

const AMBIENT_IS_SET: u32 = 1;
const AMBIENT_RAISE: u32 = 2;
const AMBIENT_LOWER: u32 = 3;
const AMBIENT_CLEAR_ALL: u32 = 4;

impl Identity {
    pub(super) fn get_capabilities(&self, call: &Call<'_>) -> io::Result<Answer> {
        // Without a place for the answer it is a question about the version.
        let Some(words) = words(call)?.filter(|_| call.long(1) != 0) else { return Ok(Answer::GoOn) };
        let sets = self.caller(call).sets;
        let mut numbers = Vec::new();
        for word in 0..words {
            let half = |set: u64| (set >> (32 * word)) as u32;
            numbers.extend([half(sets.effective), half(sets.permitted), half(sets.inheritable)]);
        }
        Ok(match call.write_numbers(call.long(1), &numbers) {
            Ok(()) => Answer::Value(0),
            Err(_) => Answer::Error(libc::EFAULT),
        })
    }

    pub(super) fn set_capabilities(&self, call: &Call<'_>) -> io::Result<Answer> {
        let Some(words) = words(call)? else { return Ok(Answer::GoOn) };
        let numbers = call.read_numbers(call.long(1), 3 * words)?;
        let mut sets = Sets::default();
        for (word, numbers) in numbers.chunks_exact(3).enumerate() {
            let shifted = |number: u32| u64::from(number) << (32 * word);
            sets.effective |= shifted(numbers[0]);
            sets.permitted |= shifted(numbers[1]);
            sets.inheritable |= shifted(numbers[2]);
        }
        self.change(call, self.caller(call).set_capabilities(sets))
    }

    pub(super) fn control(&self, call: &Call<'_>) -> io::Result<Answer> {
        let own = self.caller(call);
        let argument = call.int(1);
        let yes = |is: bool| Ok(Answer::Value(i64::from(is)));
        match call.int(0).cast_signed() {
            libc::PR_GET_KEEPCAPS => yes(own.keeps_capabilities()),
            libc::PR_SET_KEEPCAPS if argument <= 1 => {
                self.change(call, Ok(own.keep_capabilities(argument == 1)))
            }
            libc::PR_CAPBSET_READ if argument <= LAST => yes(own.bounding & (1 << argument) != 0),
            libc::PR_CAPBSET_DROP if argument <= LAST => self.change(call, own.drop_from_bounding(argument)),
            libc::PR_GET_SECUREBITS => Ok(Answer::Value(own.secure_bits.into())),
            libc::PR_SET_SECUREBITS => self.change(call, own.set_secure_bits(argument)),
            libc::PR_GET_NO_NEW_PRIVS => yes(own.no_new_privileges),
            libc::PR_SET_NO_NEW_PRIVS if argument == 1 => self.change(call, Ok(own.without_new_privileges())),
            libc::PR_CAP_AMBIENT => {
                let capability = call.int(2);
                if capability > LAST {
                    return Ok(Answer::Error(libc::EINVAL));
                }
                let bit = 1 << capability;
                match argument {
                    AMBIENT_IS_SET => yes(own.ambient & bit != 0),
                    AMBIENT_RAISE => self.change(call, own.set_ambient(own.ambient | bit)),
                    AMBIENT_LOWER => self.change(call, own.set_ambient(own.ambient & !bit)),
                    AMBIENT_CLEAR_ALL => self.change(call, own.set_ambient(0)),
                    _ => Ok(Answer::Error(libc::EINVAL)),
                }
            }
            _ => Ok(Answer::GoOn),
        }
    }
}

/// How many words a set has in this call; nothing if it is about another
/// process, or of a version that the kernel must refuse.
fn words(call: &Call<'_>) -> io::Result<Option<usize>> {
    let header = call.read_numbers(call.long(0), 2)?;
    let words = VERSIONS.iter().find(|(version, _)| *version == header[0]).map(|(_, words)| *words);
    Ok(if call.is_self(header[1])? { words } else { None })
}
