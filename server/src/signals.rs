//! What tells a process to end.

use std::future;
use std::io::{self, Read as _};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

/// The signals that end a process in order, and the end of its standard input if that counts as one.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    stdin: Option<oneshot::Receiver<()>>,
}

impl Signals {
    /// From here on they no longer end the process by themselves.
    pub(crate) fn new(ends_with_stdin: bool) -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            stdin: ends_with_stdin.then(end_of_stdin).transpose()?,
        })
    }

    /// Waits for the next one; its name.
    pub(crate) async fn next(&mut self) -> &'static str {
        let stdin = &mut self.stdin;
        let stdin = async {
            if let Some(ended) = stdin {
                // A reader that is gone has come to the end, too.
                let _ = ended.await;
            } else {
                future::pending().await
            }
        };
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
            () = stdin => {
                self.stdin = None;
                "end of standard input"
            }
        }
    }
}

/// Hears when nobody can write to standard input any more. The thread that reads is never joined: a read cannot be
/// called off.
fn end_of_stdin() -> io::Result<oneshot::Receiver<()>> {
    let (sender, receiver) = oneshot::channel();
    std::thread::Builder::new()
        .name("stdin".to_owned())
        .spawn(move || {
            let mut buffer = [0; 64];
            let mut stdin = io::stdin().lock();
            loop {
                match stdin.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(_) => break,
                }
            }
            // The process may be ending already.
            let _ = sender.send(());
        })?;
    Ok(receiver)
}
