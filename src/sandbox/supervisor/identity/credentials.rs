//! Who a task of the RUN believes to be, and what it may make of that: the
//! rules of credentials(7), setresuid(2) and capabilities(7), without a kernel.
//!
//! What a set-user-ID program gives is told by [`gain`](super::gain).

use nix::libc;

use super::gain::Gift;

/// Capabilities by number (linux/capability.h).
pub(super) const CHOWN: u32 = 0;
pub(super) const DAC_OVERRIDE: u32 = 1;
pub(super) const FOWNER: u32 = 3;
pub(super) const FSETID: u32 = 4;
pub(super) const KILL: u32 = 5;
pub(super) const SETGID: u32 = 6;
pub(super) const SETUID: u32 = 7;
pub(super) const SETPCAP: u32 = 8;
pub(super) const SYS_CHROOT: u32 = 18;
pub(super) const SYS_PTRACE: u32 = 19;
pub(super) const MKNOD: u32 = 27;
pub(super) const SETFCAP: u32 = 31;

/// `SECBIT_KEEP_CAPS`, which exec and prctl(PR_SET_KEEPCAPS) change.
const KEEP_CAPABILITIES: u32 = 1 << 4;
/// `SECBIT_NOROOT`.
const NO_ROOT: u32 = 1;
/// `SECBIT_NO_SETUID_FIXUP`.
const NO_FIXUP: u32 = 1 << 2;

/// Capabilities that follow the user id for files: CHOWN, DAC_OVERRIDE,
/// DAC_READ_SEARCH, FOWNER, FSETID, LINUX_IMMUTABLE, MKNOD, MAC_OVERRIDE.
const OF_FILES: u64 = 0b1_1111 | 1 << 9 | 1 << 27 | 1 << 32;

/// "Leave it as it is" in set*id calls.
const SAME: u32 = u32::MAX;

/// As setgroups(2) has it.
pub(super) const MOST_GROUPS: usize = 65_536;

/// Real, effective, saved and file system id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Ids {
    pub(super) real: u32,
    pub(super) effective: u32,
    pub(super) saved: u32,
    pub(super) files: u32,
}

/// One bit for each capability.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Sets {
    pub(super) effective: u64,
    pub(super) permitted: u64,
    pub(super) inheritable: u64,
}

/// All of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Credentials {
    pub(super) user: Ids,
    pub(super) group: Ids,
    /// Sorted, as the kernel lists them.
    pub(super) groups: Vec<u32>,
    pub(super) sets: Sets,
    pub(super) bounding: u64,
    pub(super) ambient: u64,
    pub(super) secure_bits: u32,
    /// As it was asked for; to the kernel every process of the RUN has it.
    pub(super) no_new_privileges: bool,
}

type Change = Result<Credentials, i32>;

impl Ids {
    fn all(id: u32) -> Self {
        Self { real: id, effective: id, saved: id, files: id }
    }

    fn has(self, id: u32) -> bool {
        [self.real, self.effective, self.saved].contains(&id)
    }

    fn has_root(self) -> bool {
        self.has(0)
    }

    /// setuid(2): all of them for the privileged, else back to one of two.
    fn set(self, id: u32, privileged: bool) -> Result<Self, i32> {
        match (id, privileged) {
            (SAME, _) => Err(libc::EINVAL),
            (id, true) => Ok(Self::all(id)),
            (id, false) if [self.real, self.saved].contains(&id) => {
                Ok(Self { effective: id, files: id, ..self })
            }
            _ => Err(libc::EPERM),
        }
    }

    /// setreuid(2).
    fn set_pair(self, real: u32, effective: u32, privileged: bool) -> Result<Self, i32> {
        let may_be_real = [SAME, self.real, self.effective].contains(&real);
        let may_be_effective = effective == SAME || self.has(effective);
        if !(privileged || may_be_real && may_be_effective) {
            return Err(libc::EPERM);
        }
        let mut new = self;
        new.real = or(real, self.real);
        new.effective = or(effective, self.effective);
        if real != SAME || (effective != SAME && effective != self.real) {
            new.saved = new.effective;
        }
        Ok(Self { files: new.effective, ..new })
    }

    /// setresuid(2).
    fn set_three(self, ids: [u32; 3], privileged: bool) -> Result<Self, i32> {
        if !privileged && ids.iter().any(|id| *id != SAME && !self.has(*id)) {
            return Err(libc::EPERM);
        }
        let [real, effective, saved] = ids;
        let effective = or(effective, self.effective);
        Ok(Self { real: or(real, self.real), effective, saved: or(saved, self.saved), files: effective })
    }

    /// setfsuid(2), which cannot fail.
    fn set_files(self, id: u32, privileged: bool) -> Self {
        let allowed = id != SAME && (privileged || self.has(id) || id == self.files);
        if allowed { Self { files: id, ..self } } else { self }
    }
}

fn or(id: u32, same: u32) -> u32 {
    if id == SAME { same } else { id }
}

/// Of whom ids are changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    User,
    Group,
}

impl Credentials {
    /// Of the first process of a RUN. Root has `bounding`, others have nothing.
    pub(super) fn initial(uid: u32, gid: u32, groups: &[u32], bounding: u64) -> Self {
        let held = if uid == 0 { bounding } else { 0 };
        let sets = Sets { effective: held, permitted: held, inheritable: 0 };
        let mut groups = groups.to_vec();
        groups.sort_unstable();
        let (user, group) = (Ids::all(uid), Ids::all(gid));
        let (ambient, secure_bits, no_new_privileges) = (0, 0, false);
        Self { user, group, groups, sets, bounding, ambient, secure_bits, no_new_privileges }
    }

    /// Whether it may use the capability.
    pub(super) fn can(&self, capability: u32) -> bool {
        self.sets.effective & (1 << capability) != 0
    }

    /// What becomes of it in execve(2) of a program that gives nothing.
    pub(super) fn after_exec(&self) -> Self {
        self.executing(Gift::default())
    }

    /// What becomes of it in execve(2), as capabilities(7) has it under
    /// "Transformation of capabilities during execve()": the saved ids are the
    /// effective ones, root gets all capabilities, others those of the file and the
    /// ambient ones.
    pub(super) fn executing(&self, gift: Gift) -> Self {
        let mut new = self.keep_capabilities(false);
        new.user.effective = gift.uid.unwrap_or(new.user.effective);
        new.group.effective = gift.gid.unwrap_or(new.group.effective);
        for ids in [&mut new.user, &mut new.group] {
            (ids.saved, ids.files) = (ids.effective, ids.effective);
        }
        let is_plain = gift == Gift::default();
        new.ambient = if is_plain { self.ambient } else { 0 };
        let is_root = self.secure_bits & NO_ROOT == 0;
        let user = new.user;
        let file = gift.capabilities.unwrap_or_default();
        let inherited = self.sets.inheritable & file.inheritable;
        let of_root = self.sets.inheritable | self.bounding;
        let permitted = match is_root && (user.effective == 0 || user.real == 0) {
            // A program that has capabilities and makes root gives the first alone.
            true if user.real == 0 || gift.capabilities.is_none() => of_root,
            _ => inherited | (file.permitted & self.bounding) | new.ambient,
        };
        let raises = file.effective || (is_root && user.effective == 0);
        let effective = if raises { permitted } else { new.ambient };
        new.sets = Sets { permitted, effective, ..self.sets };
        new
    }

    /// Whether files of this group are its own, for chown(2) and chmod(2).
    pub(super) fn is_in_group(&self, gid: u32) -> bool {
        self.group.files == gid || self.groups.binary_search(&gid).is_ok()
    }

    fn ids(&self, whose: Whose) -> Ids {
        match whose {
            Whose::User => self.user,
            Whose::Group => self.group,
        }
    }

    fn is_privileged(&self, whose: Whose) -> bool {
        self.can(match whose {
            Whose::User => SETUID,
            Whose::Group => SETGID,
        })
    }

    fn with(&self, whose: Whose, ids: Ids) -> Self {
        let mut new = self.clone();
        match whose {
            Whose::Group => new.group = ids,
            Whose::User => {
                new.user = ids;
                new.adjust_sets(self.user);
            }
        }
        new
    }

    /// capabilities(7), "Effect of user ID changes on capabilities".
    fn adjust_sets(&mut self, old: Ids) {
        if self.secure_bits & NO_FIXUP != 0 {
            return;
        }
        let keep = self.secure_bits & KEEP_CAPABILITIES != 0;
        if old.has_root() && !self.user.has_root() {
            if !keep {
                self.sets.permitted = 0;
            }
            self.ambient = 0;
        }
        match (old.effective, self.user.effective) {
            (0, new) if new != 0 => self.sets.effective = 0,
            (old, 0) if old != 0 => self.sets.effective = self.sets.permitted,
            _ => self.sets.effective &= self.sets.permitted,
        }
    }

    /// setuid(2), setgid(2).
    pub(super) fn set(&self, whose: Whose, id: u32) -> Change {
        Ok(self.with(whose, self.ids(whose).set(id, self.is_privileged(whose))?))
    }

    /// setreuid(2), setregid(2).
    pub(super) fn set_pair(&self, whose: Whose, real: u32, effective: u32) -> Change {
        Ok(self.with(whose, self.ids(whose).set_pair(real, effective, self.is_privileged(whose))?))
    }

    /// setresuid(2), setresgid(2).
    pub(super) fn set_three(&self, whose: Whose, ids: [u32; 3]) -> Change {
        Ok(self.with(whose, self.ids(whose).set_three(ids, self.is_privileged(whose))?))
    }

    /// setfsuid(2), setfsgid(2).
    pub(super) fn set_files(&self, whose: Whose, id: u32) -> Self {
        let ids = self.ids(whose).set_files(id, self.is_privileged(whose));
        let mut new = self.clone();
        match whose {
            Whose::User => {
                new.user = ids;
                new.adjust_for_files(self.user.files);
            }
            Whose::Group => new.group = ids,
        }
        new
    }

    /// capabilities(7), rule 4 of the effects of a change of user ids.
    fn adjust_for_files(&mut self, old: u32) {
        if self.secure_bits & NO_FIXUP != 0 {
            return;
        }
        match (old, self.user.files) {
            (0, new) if new != 0 => self.sets.effective &= !OF_FILES,
            (old, 0) if old != 0 => self.sets.effective |= self.sets.permitted & OF_FILES,
            _ => {}
        }
    }

    /// setgroups(2).
    pub(super) fn set_groups(&self, mut groups: Vec<u32>) -> Change {
        if !self.can(SETGID) {
            return Err(libc::EPERM);
        }
        groups.sort_unstable();
        Ok(Self { groups, ..self.clone() })
    }

    /// capset(2).
    pub(super) fn set_capabilities(&self, sets: Sets) -> Change {
        let old = self.sets;
        let within = |new: u64, most: u64| new & !most == 0;
        let raised = old.inheritable | old.permitted | self.bounding;
        if within(sets.permitted, old.permitted)
            && within(sets.effective, sets.permitted)
            && within(sets.inheritable, raised)
        {
            let ambient = self.ambient & sets.permitted & sets.inheritable;
            Ok(Self { sets, ambient, ..self.clone() })
        } else {
            Err(libc::EPERM)
        }
    }

    /// prctl(PR_CAPBSET_DROP).
    pub(super) fn drop_from_bounding(&self, capability: u32) -> Change {
        if !self.can(SETPCAP) {
            return Err(libc::EPERM);
        }
        Ok(Self { bounding: self.bounding & !(1 << capability), ..self.clone() })
    }

    /// prctl(PR_SET_SECUREBITS).
    pub(super) fn set_secure_bits(&self, bits: u32) -> Change {
        if !self.can(SETPCAP) {
            return Err(libc::EPERM);
        }
        Ok(Self { secure_bits: bits, ..self.clone() })
    }

    pub(super) fn keeps_capabilities(&self) -> bool {
        self.secure_bits & KEEP_CAPABILITIES != 0
    }

    /// prctl(PR_SET_KEEPCAPS).
    pub(super) fn keep_capabilities(&self, keep: bool) -> Self {
        let other = self.secure_bits & !KEEP_CAPABILITIES;
        Self { secure_bits: other | if keep { KEEP_CAPABILITIES } else { 0 }, ..self.clone() }
    }

    /// prctl(PR_SET_NO_NEW_PRIVS).
    pub(super) fn without_new_privileges(&self) -> Self {
        Self { no_new_privileges: true, ..self.clone() }
    }

    /// prctl(PR_CAP_AMBIENT).
    pub(super) fn set_ambient(&self, ambient: u64) -> Change {
        if ambient & !(self.sets.permitted & self.sets.inheritable) != 0 {
            return Err(libc::EPERM);
        }
        Ok(Self { ambient, ..self.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::super::gain::FileCapabilities;
    use super::*;

    const ALL: u64 = 0xa804_25fb;

    fn root() -> Credentials {
        Credentials::initial(0, 0, &[], ALL)
    }

    fn ids(credentials: &Credentials) -> [u32; 4] {
        let Ids { real, effective, saved, files } = credentials.user;
        [real, effective, saved, files]
    }

    /// As apt does it: down to `_apt`, and no way back.
    #[test]
    fn a_drop_is_for_good() {
        let dropped = root().set_groups(vec![65_534]).unwrap();
        let dropped = dropped.set_three(Whose::Group, [65_534; 3]).unwrap();
        let dropped = dropped.set_three(Whose::User, [42; 3]).unwrap();
        assert_eq!(ids(&dropped), [42; 4]);
        assert_eq!(dropped.sets, Sets::default());
        for back in [
            dropped.set(Whose::User, 0),
            dropped.set(Whose::Group, 0),
            dropped.set_three(Whose::User, [SAME, 0, SAME]),
            dropped.set_pair(Whose::User, 0, SAME),
            dropped.set_groups(vec![]),
        ] {
            assert_eq!(back, Err(libc::EPERM));
        }
        assert_eq!(dropped.set(Whose::User, 42), Ok(dropped.clone()));
        assert_eq!(dropped.set(Whose::User, SAME), Err(libc::EINVAL));
    }

    #[test]
    fn an_effective_id_can_go_there_and_back() {
        let there = root().set_three(Whose::User, [SAME, 7, SAME]).unwrap();
        assert_eq!((ids(&there), there.can(SETUID)), ([0, 7, 0, 7], false));
        assert_eq!(there.sets.permitted, ALL);
        let back = there.set(Whose::User, 0).unwrap();
        assert_eq!(back, root());
    }

    #[test]
    fn pairs_move_the_saved_id() {
        let both = root().set_pair(Whose::User, 5, 6).unwrap();
        assert_eq!(ids(&both), [5, 6, 6, 6]);
        let swapped = both.set_pair(Whose::User, 6, 5).unwrap();
        assert_eq!(ids(&swapped), [6, 5, 5, 5]);
        assert_eq!(ids(&root().set_pair(Whose::User, SAME, 0).unwrap()), [0; 4]);
    }

    #[test]
    fn keeping_capabilities_keeps_the_permitted_ones() {
        let kept = root().keep_capabilities(true).set(Whose::User, 7).unwrap();
        assert_eq!((kept.sets.permitted, kept.sets.effective), (ALL, 0));
        let raised = kept.set_capabilities(Sets { effective: 1 << SETUID, ..kept.sets }).unwrap();
        assert!(raised.can(SETUID) && !raised.can(SETGID));
        let gone = raised.set_capabilities(Sets::default()).unwrap();
        assert_eq!(gone.set_capabilities(raised.sets), Err(libc::EPERM));
    }

    #[test]
    fn exec_gives_root_all_and_others_nothing() {
        assert_eq!(root().after_exec(), root());
        let none = root().set_capabilities(Sets::default()).unwrap();
        assert_eq!(none.after_exec(), root());
        let kept = root().keep_capabilities(true).set(Whose::User, 7).unwrap();
        let raised = kept.set_capabilities(Sets { effective: ALL, ..kept.sets }).unwrap();
        assert!(raised.can(SETUID));
        let after = raised.after_exec();
        assert_eq!((after.sets, after.keeps_capabilities()), (Sets::default(), false));
        let there = root().set_three(Whose::User, [SAME, 7, SAME]).unwrap().after_exec();
        assert_eq!((ids(&there), there.sets.permitted, there.can(SETUID)), ([0, 7, 7, 7], ALL, false));
        let stranger = Credentials::initial(7, 7, &[], ALL);
        assert_eq!(stranger.after_exec(), stranger);
    }

    #[test]
    fn programs_give_what_they_have() {
        let alice = Credentials::initial(7, 7, &[], ALL);
        let sudo = alice.executing(Gift { uid: Some(0), ..Gift::default() });
        assert_eq!((ids(&sudo), sudo.sets.permitted, sudo.sets.effective), ([7, 0, 0, 0], ALL, ALL));
        let file = FileCapabilities { permitted: 1 << 13 | 1 << 40, inheritable: 0, effective: true };
        let ping = alice.executing(Gift { capabilities: Some(file), ..Gift::default() });
        assert_eq!((ids(&ping), ping.sets.permitted, ping.sets.effective), ([7; 4], 1 << 13, 1 << 13));
        let lazy = FileCapabilities { effective: false, ..file };
        let lazy = alice.executing(Gift { capabilities: Some(lazy), ..Gift::default() });
        assert_eq!((lazy.sets.permitted, lazy.sets.effective), (1 << 13, 0));
        let crew = alice.executing(Gift { gid: Some(50), ..Gift::default() });
        assert_eq!((crew.group.effective, crew.group.real, crew.sets), (50, 7, Sets::default()));
        let down = root().executing(Gift { uid: Some(7), ..Gift::default() });
        assert_eq!((ids(&down), down.sets.permitted, down.sets.effective), ([0, 7, 7, 7], ALL, 0));
    }

    #[test]
    fn file_ids_move_alone() {
        let moved = root().set_files(Whose::User, 9);
        assert_eq!(ids(&moved), [0, 0, 0, 9]);
        assert!(!moved.can(DAC_OVERRIDE) && moved.can(SETUID));
        assert_eq!(moved.set_files(Whose::User, 0), root());
        let stranger = Credentials::initial(7, 7, &[3, 1], ALL);
        assert_eq!(stranger.set_files(Whose::User, 9), stranger);
        assert_eq!(stranger.groups, [1, 3]);
        assert!(stranger.is_in_group(7) && stranger.is_in_group(3) && !stranger.is_in_group(2));
    }

    #[test]
    fn the_bounding_set_only_shrinks() {
        let smaller = root().drop_from_bounding(CHOWN).unwrap();
        assert_eq!(smaller.bounding, ALL & !1);
        assert_eq!(Credentials::initial(1, 1, &[], ALL).drop_from_bounding(CHOWN), Err(libc::EPERM));
    }
}
