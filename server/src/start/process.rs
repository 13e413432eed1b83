//! A node as a process: it says what it starts with, serves until a signal or a fault, and ends.

use std::io::{self, IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::process::ExitCode;

use tokio::runtime::Handle;

use super::{METRICS, Running, StartError, notify, start};
use crate::config::{Config, ETCD_VERSION, HOLDFAST_VERSION, ListenUrl, Note};
use crate::logging;
use crate::resource::KUBECONFIG;
use crate::signals::Signals;

/// Runs a node as a process: until a signal, or until it cannot go on.
pub fn run(config: Config) -> ExitCode {
    if let Err(error) = logging::start(&config.log) {
        let _ = writeln!(io::stderr(), "holdfast: {error}");
        return ExitCode::FAILURE;
    }
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return fail(&StartError::System(error)),
    };
    runtime.block_on(async {
        let mut signals = match Signals::new(config.ends_with_stdin) {
            Ok(signals) => signals,
            Err(error) => return fail(&StartError::System(error)),
        };
        announce(&config);
        let banner = banner(&config);
        let started = tokio::select! {
            started = tokio::task::spawn_blocking(move || start(config)) => started,
            // Nothing is taken down: whatever the start is at, a process may end there at any moment.
            name = signals.next() => {
                tracing::info!(signal = name, "received signal while starting; ending at once");
                std::process::exit(0);
            }
        };
        let running = match started.map_err(io::Error::other) {
            Ok(Ok(running)) => running,
            Ok(Err(error)) => return fail(&error),
            Err(error) => return fail(&StartError::System(error)),
        };
        tracing::info!("ready to serve client requests");
        for address in running.addresses(0) {
            tracing::info!(
                traffic = "grpc+http",
                address = %address,
                "serving client traffic insecurely; this is strongly discouraged!"
            );
        }
        for (listener, traffic) in [(1, "http"), (METRICS, "metrics")] {
            for address in running.addresses(listener) {
                tracing::info!(traffic, address = %address, "serving without encryption");
            }
        }
        for (addresses, traffic) in running.api_addrs().into_iter().zip(["http", "https"]) {
            for address in addresses {
                tracing::info!(traffic, address = %address, "serving the resource API");
            }
        }
        notify::tell("READY=1");
        if io::stdout().is_terminal() || std::env::args_os().len() == 1 {
            // Nobody reads it if this fails.
            let _ = io::stdout().write_all(banner(running.client_addr()).as_bytes());
        }
        let ending = tokio::select! {
            name = signals.next() => Ok(name),
            reason = running.node().failed() => Err(reason),
        };
        match ending {
            Ok(name) => {
                tracing::info!(signal = name, "received signal; shutting down");
                stop(running, &mut signals).await
            }
            // Nothing of its state can be trusted to be written any more; the log has everything acknowledged.
            Err(reason) => {
                tracing::error!(target: logging::FATAL, reason, "the node cannot go on");
                // Its threads may be anywhere, also in the database: nothing is taken down under them.
                std::mem::forget(running);
                ExitCode::FAILURE
            }
        }
    })
}

/// Ends a node in order, unless a second signal comes meanwhile.
async fn stop(running: Running, signals: &mut Signals) -> ExitCode {
    // On a thread of its own, because parts of it block, and signals are to be heard throughout.
    let runtime = Handle::current();
    let stopped = tokio::task::spawn_blocking(move || runtime.block_on(running.stop()));
    tokio::select! {
        stopped = stopped => {
            if let Err(error) = stopped {
                tracing::error!(error = logging::chain(&error), "the stop failed");
                return ExitCode::FAILURE;
            }
            tracing::info!("stopped");
            ExitCode::SUCCESS
        }
        name = signals.next() => {
            tracing::warn!(
                signal = name,
                "received a second signal; ending at once, and the next start recovers from the log"
            );
            std::process::exit(1);
        }
    }
}

/// Ends a start that failed, with a line for machines and, at a terminal, one for people.
fn fail(error: &StartError) -> ExitCode {
    let text = logging::chain(error);
    tracing::error!(target: logging::FATAL, error = text, "cannot start");
    if io::stderr().is_terminal() {
        let _ = writeln!(io::stderr(), "\nholdfast: {text}");
    }
    ExitCode::FAILURE
}

/// Says what is starting, and what of the settings does not do what its author may think.
fn announce(config: &Config) {
    let list = |urls: &[ListenUrl]| {
        urls.iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(",")
    };
    tracing::info!(
        holdfast_version = HOLDFAST_VERSION,
        etcd_version = ETCD_VERSION,
        name = config.name,
        data_dir = %config.data_dir.display(),
        listen_client_urls = list(&config.listen_client_urls),
        advertise_client_urls = config.advertise_client_urls.join(","),
        client_shards = config.client_shards,
        "starting"
    );
    for note in &config.notes {
        match note {
            Note::NoEffect(place) => {
                tracing::warn!(
                    setting = place,
                    "this setting is accepted but has no effect"
                );
            }
            Note::UnknownVariable(variable) => {
                tracing::warn!(variable, "unrecognized environment variable");
            }
            Note::ShadowedVariable(variable) => {
                tracing::info!(
                    variable,
                    "this variable is set, but its flag is too, and that one counts"
                );
            }
            Note::OnlyFileCounts(path) => tracing::warn!(
                path = %path.display(),
                "a config file is given: all other flags and variables are ignored"
            ),
        }
    }
}

/// What to type next, for somebody who has just started a node by hand.
fn banner(config: &Config) -> impl FnOnce(SocketAddr) -> String + use<> {
    let data_dir = config.data_dir.display().to_string();
    let kubectl = config.listen_api_urls.first().map(|url| {
        let how = if url.is_secure() {
            format!("--kubeconfig {data_dir}/{KUBECONFIG}")
        } else {
            format!("--server {url}")
        };
        format!("kubectl {how} get namespaces\n  ")
    });
    let kubectl = kubectl.unwrap_or_default();
    move |address| {
        let etcdctl = match address.to_string().as_str() {
            "127.0.0.1:2379" => "etcdctl".to_owned(),
            other => format!("etcdctl --endpoints={other}"),
        };
        format!(
            "\nHoldfast {HOLDFAST_VERSION} is ready on http://{address}, with its data in {data_dir}.\n\n\
             Try it in another terminal:\n  \
             {etcdctl} put greeting hello\n  \
             {etcdctl} get greeting\n  \
             {etcdctl} watch greeting\n  \
             {kubectl}curl http://{address}/health\n\n\
             Ctrl-C ends it; the data stays. Settings: holdfast --help\n\n"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_banner_names_the_endpoint_only_where_etcdctl_would_not_find_it() {
        let text = |address: &str| banner(&Config::default())(address.parse().unwrap());
        assert!(text("127.0.0.1:2379").contains("\n  etcdctl put greeting hello\n"));
        assert!(
            text("127.0.0.1:9")
                .contains("\n  etcdctl --endpoints=127.0.0.1:9 put greeting hello\n")
        );
        assert!(text("127.0.0.1:9").contains("data in default.etcd"));
    }
}
