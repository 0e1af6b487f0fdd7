//! The Dockerfile language: text in, syntax tree and diagnostics out.
//!
//! Pure and synchronous. The parser never stops at the first mistake: it
//! returns what it understood *and* everything that is wrong, each with the
//! place in the file. Variables stay unexpanded here; [`word`] holds the
//! expansion that `plan` applies.
//!
//! Reference: the Dockerfile reference and BuildKit's frontend 1.26.

mod ast;
mod span;

pub use ast::{
    AddFlags, Arg, CommandForm, CopyFlags, CopySources, Directives, Dockerfile, From, HealthcheckFlags,
    HealthcheckKind, Heredoc, Instruction, InstructionKind, KeyValue, RunFlags, Stage, Word,
};
pub use span::{Diagnostic, Position, Severity, Source, Span};
