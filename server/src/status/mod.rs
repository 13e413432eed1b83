//! `holdfast status`: asks the members of a cluster how they are, and prints it for somebody who has not seen one yet.

pub(crate) mod ask;
mod report;

use std::io::{self, Write as _};
use std::process::ExitCode;

use futures_util::future::join_all;
use proto::etcd::etcdserverpb::{Member, StatusResponse};

use self::ask::{Endpoint, Silence};
use self::report::{Report, Row};
pub(crate) use self::report::{role, size};
use crate::config::StatusOptions;

/// Asks, prints, and tells by its exit code whether all is well.
pub fn run(options: &StatusOptions) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = writeln!(io::stderr(), "holdfast status: {error}");
            return ExitCode::FAILURE;
        }
    };
    let report = runtime.block_on(ask_all(options));
    let text = if options.json {
        report.json()
    } else {
        report.text()
    };
    match io::stdout().write_all(text.as_bytes()) {
        Ok(()) if report.is_well() => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

async fn ask_all(options: &StatusOptions) -> Report {
    let endpoint = |address: &String| Endpoint::new(address, options.timeout);
    let mut endpoints: Vec<Endpoint> = options.endpoints.iter().map(endpoint).collect();
    let mut absent = Vec::new();
    if options.is_for_cluster {
        // If none of them tells, their own rows say why.
        if let Some(mut members) = first_to_tell(&mut endpoints).await {
            // Members come in the order of their ids, which say nothing to anybody.
            members.sort_by(|a, b| a.name.cmp(&b.name));
            let urls = members.iter().flat_map(|member| &member.client_urls);
            endpoints = urls
                .map(|url| Endpoint::new(bare(url), options.timeout))
                .collect();
            let unknown = members
                .iter()
                .filter(|member| member.client_urls.is_empty());
            absent = unknown.map(Row::never_started).collect();
        }
    }
    let answers = join_all(endpoints.iter_mut().map(ask)).await;
    let mut members: Vec<Member> = Vec::new();
    let mut rows = Vec::new();
    for (endpoint, (status, told)) in endpoints.iter().zip(answers) {
        for member in told {
            if members.iter().all(|known| known.id != member.id) {
                members.push(member);
            }
        }
        rows.push(Row::new(endpoint.address(), status));
    }
    rows.extend(absent);
    Report::new(rows, members)
}

async fn first_to_tell(endpoints: &mut [Endpoint]) -> Option<Vec<Member>> {
    let told = join_all(endpoints.iter_mut().map(Endpoint::members)).await;
    told.into_iter().find_map(Result::ok)
}

/// How an endpoint is, and who the members are.
async fn ask(endpoint: &mut Endpoint) -> (Result<StatusResponse, Silence>, Vec<Member>) {
    let status = endpoint.status().await;
    let members = match &status {
        // Names are only an ornament here.
        Ok(_) => endpoint.members().await.unwrap_or_default(),
        Err(_) => Vec::new(),
    };
    (status, members)
}

/// A client URL as people write endpoints.
fn bare(url: &str) -> &str {
    url.strip_prefix("http://").unwrap_or(url)
}
