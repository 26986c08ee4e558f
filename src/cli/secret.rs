//! `peerfold secret`: makes a federation's secret, and shows by which digits people can compare it.

use crate::{program::print, secret::Secret};
use clap::{Subcommand, ValueHint};
use std::path::{Path, PathBuf};

#[derive(Subcommand)]
pub(super) enum SecretCommand {
    /// Make a new secret. Give the file to each site by a way on which nobody else reads it, or send what `peerfold
    /// invite` prints. A file that is there is never written over.
    New {
        /// Where to.
        #[arg(value_hint = ValueHint::FilePath)]
        file: PathBuf,
    },
    /// Check that a file is a secret that only its owner can read, and print eight digits that are the same at every site
    /// that has the same one.
    Check {
        /// The file.
        #[arg(value_hint = ValueHint::FilePath)]
        file: PathBuf,
    },
}

pub(super) fn run(command: &SecretCommand) -> anyhow::Result<()> {
    match command {
        SecretCommand::New { file } => {
            let secret = Secret::generate();
            secret.write_new(file)?;
            tell(file, &secret)
        }
        SecretCommand::Check { file } => tell(file, &Secret::read(file)?),
    }
}

fn tell(file: &Path, secret: &Secret) -> anyhow::Result<()> {
    print(&format!("{}: secret {}\n", file.display(), secret.fingerprint()))
}
