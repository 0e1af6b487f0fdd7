//! t
mod normalise;
mod settings;
fn main() {}
