//! A disk whose power can be cut: an ext4 image on a loop device, ended by the file system's own shutdown call.
//!
//! From the cut on every read and write fails, and what the page cache held and was not synced is gone after the next
//! mount. The image is mounted with a journal that commits every five minutes, so that next to nothing survives by luck.
//! What this does not show: sectors torn in the middle, writes that reach the disk out of order, and the loss of what was
//! written past the page cache; the simulated disk does.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

/// How the file system ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Nothing more is written, the journal included: a power cut.
    Hard = 2,
    /// The journal's open transaction still gets out: names and sizes survive that nobody synced.
    JournalFirst = 1,
    /// Everything still gets out: a kernel that stops between two writes.
    AllFirst = 0,
}

/// Waits for lines and cuts: python starts too slowly to do so at a chosen moment. The ioctl is `EXT4_IOC_SHUTDOWN`.
const CUTTER: &str = "\
import fcntl, os, struct, sys
for line in sys.stdin:
    how, path = line.rstrip('\\n').split(' ', 1)
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.ioctl(folder, 0x8004587D, struct.pack('I', int(how)))
    os.close(folder)
    print('cut', flush=True)
";

/// Makes a server write its log through the page cache: a cut then loses what was not synced of it.
pub const CACHED_LOG: (&str, &str) = ("ETCD_WAL_DIRECT_WRITES", "false");

/// How long a file system may stay busy after its last process was waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// A mounted image. Unmounted when dropped.
#[derive(Debug)]
pub struct Disk {
    image: PathBuf,
    mount: PathBuf,
    cutter: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

/// Why power cannot be cut on this machine, if it cannot.
///
/// # Panics
/// In continuous integration as root: a check that is left out there is missed by nobody.
#[must_use]
pub fn impossible() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("only root may mount".to_owned());
    }
    let folder = match tempfile::tempdir() {
        Ok(folder) => folder,
        Err(error) => return Some(error.to_string()),
    };
    let mount = folder.path().join("probe");
    let tried = Disk::new(folder.path(), &mount, 8 << 20).and_then(|mut disk| disk.cut(Cut::Hard));
    let reason = tried.err().map(|error| format!("{error:#}"))?;
    assert!(std::env::var_os("CI").is_none(), "{reason}");
    Some(reason)
}

impl Disk {
    /// Makes an image of at most that many bytes in `folder` and mounts it.
    pub fn new(folder: &Path, mount: &Path, bytes: u64) -> anyhow::Result<Disk> {
        let image = folder.join("disk.img");
        std::fs::File::create(&image)?.set_len(bytes)?;
        std::fs::create_dir(mount)?;
        run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&image))?;
        let mut cutter = Command::new("python3")
            .args(["-c", CUTTER])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start python3")?;
        let orders = cutter.stdin.take().context("a pipe")?;
        let answers = BufReader::new(cutter.stdout.take().context("a pipe")?);
        // Dropped, and so taken down, if the mount fails.
        let disk = Disk {
            image,
            mount: mount.to_owned(),
            cutter,
            orders,
            answers,
        };
        disk.mount("rw")?;
        run(Command::new("chmod").arg("700").arg(mount))?;
        Ok(disk)
    }

    /// Cuts the power. On return every access fails.
    pub fn cut(&mut self, how: Cut) -> anyhow::Result<()> {
        let how = how as u32;
        writeln!(self.orders, "{how} {}", self.mount.display())?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer)?;
        ensure!(answer == "cut\n", "the file system refused to be shut down");
        Ok(())
    }

    /// Switches the disk on again: unmounted, which nobody may hinder, and mounted, which replays the journal.
    pub fn restore(&self) -> anyhow::Result<()> {
        self.unmount()?;
        self.mount("rw")
    }

    /// The same, but nothing may be written then.
    pub fn restore_read_only(&self) -> anyhow::Result<()> {
        // The journal can be replayed only into a file system that may be written.
        self.restore()?;
        self.unmount()?;
        self.mount("ro")
    }

    /// Ends all writing, as the file system does when it meets an error.
    pub fn abort(&self) -> anyhow::Result<()> {
        run(Command::new("mount")
            .args(["-o", "remount,abort"])
            .arg(&self.mount))
    }

    fn unmount(&self) -> anyhow::Result<()> {
        let since = Instant::now();
        while let Err(error) = run(Command::new("umount").arg(&self.mount)) {
            if since.elapsed() > PATIENCE {
                bail!(error);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    fn mount(&self, access: &str) -> anyhow::Result<()> {
        run(Command::new("mount")
            .args(["-t", "ext4", "-o", &format!("loop,commit=300,{access}")])
            .arg(&self.image)
            .arg(&self.mount))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Best effort: a test that failed must not leave a mount or a process behind.
        run(Command::new("umount").arg("-l").arg(&self.mount)).ok();
        self.cutter.kill().ok();
        self.cutter.wait().ok();
    }
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let output = command
        .output()
        .with_context(|| format!("cannot run {command:?}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {}", said.trim());
    Ok(())
}
