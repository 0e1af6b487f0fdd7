//! `coracle purge`: an empty state directory.
//!
//! Files in it may belong to subordinate ids, over which an ordinary user has
//! power only as root of a user namespace that maps them: so that is entered
//! first, as for a build. Where it cannot be had no such files were made.

use std::collections::BTreeMap;

use super::arguments::PurgeArguments;
use super::door::{DoorError, state_directory};
use super::failure::Failure;
use crate::sandbox::{self, Wish};
use crate::store;

/// Empties it. One that does not exist is empty.
///
/// # Errors
/// When a build uses it, it is no state directory, or something cannot be removed.
pub(super) fn run(arguments: &PurgeArguments, environment: &BTreeMap<String, String>) -> Result<(), Failure> {
    let state_dir = state_directory(arguments.state_dir.as_deref(), environment)?;
    // Before anything is made in a directory that is not ours.
    if !store::is_state(&state_dir).map_err(DoorError::StateDirectory)? {
        return Ok(());
    }
    let wish = Wish { isolation: None, storage: None, state_dir: state_dir.clone() };
    sandbox::enter(&wish).map_err(DoorError::Sandbox)?;
    store::purge(&state_dir).map_err(DoorError::StateDirectory)?;
    Ok(())
}
