//! What a test needs: a bench to work on, base images made in code, a registry
//! on loopback, and eyes for the image that came out.

pub mod base;
pub mod bench;
pub mod container;
pub mod image;
pub mod mount;
pub mod registry;
pub mod seccomp;
pub mod server;
pub mod user;
pub mod web;

use std::panic::{AssertUnwindSafe, catch_unwind};

use libtest_mimic::{Completion, Failed, Trial};

pub use self::bench::{Bench, Run};
pub use self::user::User;

/// A test that builds: once as root and once as an ordinary user, each where
/// that can be had.
pub fn as_everyone(name: &'static str, test: fn(Bench)) -> Vec<Trial> {
    [User::root as fn() -> Result<User, String>, User::ordinary]
        .into_iter()
        .zip(["root", "ordinary"])
        .map(|(find, who)| {
            Trial::ignorable_test(format!("{name}::as_{who}"), move || match find() {
                Ok(user) => caught(|| test(Bench::new(user))),
                Err(reason) => Ok(Completion::ignored_with(reason)),
            })
        })
        .collect()
}

/// A test for whom it does not matter who runs it: the caller does.
pub fn as_caller(name: &'static str, test: fn(Bench)) -> Trial {
    Trial::ignorable_test(name, move || caught(|| test(Bench::new(User::caller()))))
}

/// A test that needs no bench. `Err` says why it cannot run here.
pub fn plain(name: &'static str, test: fn() -> Result<(), String>) -> Trial {
    Trial::ignorable_test(name, move || {
        let mut skipped = None;
        let done = caught(|| skipped = test().err());
        match skipped {
            Some(reason) => Ok(Completion::ignored_with(reason)),
            None => done,
        }
    })
}

/// A switch of the test program, such as `CORACLE_SOAK`.
#[expect(clippy::disallowed_methods, reason = "libtest-mimic hands no environment on to a test")]
pub fn switch(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}

/// A panic becomes a failure with its message.
pub fn caught(test: impl FnOnce()) -> Result<Completion, Failed> {
    match catch_unwind(AssertUnwindSafe(test)) {
        Ok(()) => Ok(Completion::Completed),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            Err(Failed::from(text.unwrap_or_else(|| "panicked".to_owned())))
        }
    }
}
