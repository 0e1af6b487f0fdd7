//! The Dockerfile language: text in, syntax tree and diagnostics out.
//!
//! Pure and synchronous. The parser never stops at the first mistake: it
//! returns what it understood *and* everything that is wrong, each with the
//! place in the file. Variables stay unexpanded here; [`word`] holds the
//! expansion that `plan` applies.
//!
//! ```text
//! bytes ─ directives ─ lexer ─→ statements ─ instruction ─→ syntax tree
//!         # escape=    joined lines, heredocs   one per line   + check: warnings
//! ```
//!
//! Reference: the Dockerfile reference and BuildKit's frontend 1.26.

mod arguments;
mod ast;
mod check;
mod command;
mod copy;
mod directives;
mod flags;
mod from;
#[cfg(test)]
mod golden;
mod heredoc;
mod instruction;
mod lexer;
mod line;
mod lint;
mod parser;
mod render;
mod span;
mod suggest;
pub mod word;

pub use ast::{
    AddFlags, Arg, CommandForm, CopyFlags, CopySources, Directives, Dockerfile, From, HealthcheckFlags,
    HealthcheckKind, Heredoc, Instruction, InstructionKind, KeyValue, RunFlags, Stage, Word,
};
pub use check::{Checks, ChecksError};
pub use parser::{Parsed, is_sole_heredoc, parse, parse_checked, parse_trigger};
pub use span::{Diagnostic, Position, Severity, Source, Span};
pub use suggest::nearest;
