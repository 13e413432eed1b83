//! What every side-by-side run begins with: which servers, where their data goes, and on what machine.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::conditions::Conditions;
use super::server::Kind;
use super::{Folder, etcd, holdfast_binary, remove_on_signals};
use crate::args::Args;

/// Holdfast and etcd, or those of them that `--servers` names.
pub(crate) struct Sides {
    pub(crate) servers: Vec<(Kind, PathBuf)>,
    /// Removed with it, and on signals.
    pub(crate) folder: Folder,
    pub(crate) conditions: Conditions,
}

impl Sides {
    /// By `--servers`, `--holdfast` and `--folder`.
    pub(crate) fn of(args: &Args) -> Result<Sides> {
        let names = args.choice("servers", &[Kind::Holdfast.name(), Kind::Etcd.name()])?;
        Sides::named(args, &names)
    }

    /// Holdfast alone, by `--holdfast` and `--folder`.
    pub(crate) fn of_holdfast(args: &Args) -> Result<Sides> {
        Sides::named(args, &[Kind::Holdfast.name()])
    }

    fn named(args: &Args, names: &[&str]) -> Result<Sides> {
        let is_wanted = |kind: Kind| names.contains(&kind.name());
        let holdfast = is_wanted(Kind::Holdfast).then(|| holdfast_binary(args));
        let etcd = is_wanted(Kind::Etcd).then(etcd::find);
        let (holdfast, etcd) = (holdfast.transpose()?, etcd.transpose()?);
        let folder = Folder::new(Path::new(args.text("folder").unwrap_or("target/bench")))?;
        remove_on_signals(folder.path.clone())?;
        let conditions = Conditions::now(&folder.path, holdfast.as_deref(), etcd.as_deref());
        let holdfast = holdfast.map(|binary| (Kind::Holdfast, binary));
        let etcd = etcd.map(|binary| (Kind::Etcd, binary));
        Ok(Sides {
            servers: holdfast.into_iter().chain(etcd).collect(),
            folder,
            conditions,
        })
    }
}
